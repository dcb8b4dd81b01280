"""New handwritten digits: a mixture learns what digits look like, and draws ones nobody wrote.

Principal components that keep 85 % of the variance, scaled to variance 1 each; a mixture of full
covariances in that space; draws from it, taken back to pictures. Runs on scikit-learn's digits of
8 x 8 pixels, or on 2000 images of MNIST where its files are.

    python examples/generate_digits.py [--output generate_digits.png] [--mnist FOLDER]
"""

import argparse
import gzip
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from fastgmm import FitWarning, GaussianMixture

N_SHOWN = 10
# Of 5 to 110 components, 30 have the largest held-out likelihood (5 folds) on the small digits;
# 110 are what 2000 images of MNIST were once shown with.
N_COMPONENTS, N_COMPONENTS_MNIST, N_MNIST = 30, 110, 2000
# A twentieth of a principal component's variance: components of so few images need it.
REG_COVAR = 0.05

MNIST_FILES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")


def read_mnist(folder):
    """Return the training images (60000, 28, 28) from an idx file, compressed or not."""
    for name in MNIST_FILES:
        for path, opened in ((Path(folder, name), open), (Path(folder, f"{name}.gz"), gzip.open)):
            if path.exists():
                with opened(path, "rb") as file:
                    return parse_idx(file.read(), path)
    raise FileNotFoundError(f"{folder} has no {' or '.join(MNIST_FILES)}, with or without .gz")


def parse_idx(content, path):
    """Return the images of an idx file: a magic number, three lengths, the pixels."""
    magic, *shape = np.frombuffer(content[:16], ">i4")
    if magic != 0x803 or len(shape) != 3 or len(content) != 16 + np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} is no idx file of images")
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)


def draw_row(ax, images, title):
    """Draw images side by side, with a gap, black on white."""
    padded = np.pad(images, ((0, 0), (0, 0), (0, images.shape[2] // 4)))
    ax.imshow(np.hstack(padded), cmap="gray_r", vmin=0, vmax=images.max())
    ax.set_title(title, loc="left")
    ax.set_axis_off()


def main():
    """Fit, draw new digits, and show them in the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--mnist", metavar="FOLDER", help="where the files of MNIST are")
    options = parser.parse_args()

    if options.mnist is None:
        images, n_components = load_digits().images, N_COMPONENTS
    else:
        images, n_components = read_mnist(options.mnist), N_COMPONENTS_MNIST
        some = np.random.default_rng(0).permutation(len(images))[:N_MNIST]
        images = images[some].astype(float)

    pca = PCA(0.85, whiten=True, svd_solver="full")
    Z = pca.fit_transform(images.reshape(len(images), -1))
    model = GaussianMixture(n_components, reg_covar=REG_COVAR, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # REG_COVAR holds components up: meant so
        model.fit(Z)
    new, _ = model.sample(N_SHOWN)

    rows = {
        f"{N_SHOWN} of {len(images)} originals": images[:N_SHOWN],
        f"the same from {pca.n_components_} principal components": pca.inverse_transform(
            Z[:N_SHOWN]
        ),
        f"new: drawn from a mixture of {n_components} components": pca.inverse_transform(new),
    }
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for ax, (title, pictures) in zip(figure.subplots(3), rows.items(), strict=True):
        pixels = pictures.reshape(N_SHOWN, *images.shape[1:])
        draw_row(ax, np.clip(pixels, 0, images.max()), title)
    figure.savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
