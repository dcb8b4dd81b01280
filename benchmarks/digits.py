"""A mixture of 110 full components on 2000 digits of 56 principal components, beside scikit-learn.

    python -m benchmarks.digits [--mnist FOLDER] [--rounds 3]

Without files of MNIST, scikit-learn's digits are enlarged to 28 x 28 pixels with sharp strokes,
slightly turned, stretched and shifted, so that 56 components are about as hard as there.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from statistics import median

import numpy as np
import sklearn.mixture
from scipy.ndimage import affine_transform, zoom
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import fastgmm
from benchmarks.measure import interleave, seconds
from examples.generate_digits import read_mnist

N_IMAGES, N_FEATURES, N_COMPONENTS = 2000, 56, 110
# The default, with which components collapse on their few rows, and one that holds them up.
REG_COVARS = (1e-6, 0.05)
CLASSES = {"fastgmm": fastgmm.GaussianMixture, "scikit-learn": sklearn.mixture.GaussianMixture}


def enlarged_digits(n, seed=0):
    """Give n digits of 28 x 28 pixels, 0 to 1."""
    rng = np.random.default_rng(seed)
    small = load_digits().images
    centre = np.full(2, 13.5)
    images = np.empty((n, 28, 28))
    for image, i in zip(images, rng.choice(len(small), n, replace=n > len(small)), strict=True):
        angle = rng.normal(scale=0.1)
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = turn * np.exp(rng.normal(scale=0.1, size=2))
        offset = centre - matrix @ centre + rng.uniform(-2, 2, 2)
        large = affine_transform(zoom(small[i], 3.5), matrix, offset, order=1)
        image[:] = np.clip((large - 8) / 4, 0, 1)  # sharp strokes
    return images


def fit(cls, Z, reg_covar):
    """Give the seconds of a default fit, and the fitted model."""
    model = cls(N_COMPONENTS, reg_covar=reg_covar, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 18 rows a component in 56 dimensions: meant so
        return seconds(model.fit, Z), model


def compare(Z, reg_covar, rounds):
    """Print both libraries' time, iterations and bound."""
    fits = {name: partial(fit, cls, Z, reg_covar) for name, cls in CLASSES.items()}
    results = interleave(fits, rounds)
    print(f"reg_covar={reg_covar:g}")
    for name, runs in results.items():
        model = runs[0][1]
        print(
            f"  {name:13} {median(time for time, _ in runs):7.3f} s  {model.n_iter_:3d} iterations"
            f"  mean log-likelihood {model.lower_bound_:.6f}"
        )
    pairs = zip(*results.values(), strict=True)
    ratio = median(theirs / ours for (ours, _), (theirs, _) in pairs)
    print(f"  scikit-learn ÷ fastgmm: {ratio:.1f} (median of {rounds} rounds)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", help="folder with the files of MNIST")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images = enlarged_digits(N_IMAGES) if options.mnist is None else read_mnist(options.mnist)
    chosen = np.random.default_rng(0).permutation(len(images))[:N_IMAGES]
    pca = PCA(N_FEATURES, whiten=True, svd_solver="full")
    Z = pca.fit_transform(images[chosen].reshape(N_IMAGES, -1))
    kept = pca.explained_variance_ratio_.sum()
    print(f"{N_IMAGES} digits, {N_FEATURES} principal components with {kept:.0%} of the variance")
    fit(fastgmm.GaussianMixture, Z, 1e-6)  # loads the kernels
    for reg_covar in REG_COVARS:
        compare(Z, reg_covar, options.rounds)


if __name__ == "__main__":
    main()
