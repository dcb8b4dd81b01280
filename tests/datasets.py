"""Data the tests share: real, small, and free of anything random but a fixed seed."""

from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA

import fastgmm

_HERE = Path(__file__).parent


def _read(path, columns):
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=columns)


def iris():
    """150 flowers, 4 lengths."""
    return load_iris().data


def wine():
    """178 wines, 13 measurements on very different scales, not standardised."""
    return load_wine().data


@cache
def _digits():
    return PCA(10, svd_solver="full", random_state=0).fit_transform(load_digits().data)


def digits():
    """1797 handwritten digits, reduced to 10 principal components."""
    return _digits().copy()


def faithful():
    """272 eruptions of Old Faithful: duration and waiting time, in minutes."""
    return _read(Path(fastgmm.__file__).parent / "data" / "faithful.csv", (1, 2))


def geyser_waiting():
    """299 waiting times of Old Faithful (August 1985), as one column."""
    return _read(_HERE / "data" / "geyser.csv", (1,))[:, None]


def synthetic(n_samples=20_000, n_features=5, n_components=4, seed=0):
    """Overlapping Gaussian clusters with unequal weights and correlated features."""
    rng = np.random.RandomState(seed)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = rng.normal(scale=2.0, size=(n_components, n_features))
    factors = rng.normal(size=(n_components, n_features, n_features)) / np.sqrt(n_features)
    labels = rng.choice(n_components, size=n_samples, p=weights)
    noise = rng.standard_normal((n_samples, n_features))
    return means[labels] + np.einsum("nij,nj->ni", factors[labels] + np.eye(n_features), noise)


def two_clusters(n_samples=600, n_features=3, distance=6.0, seed=0):
    """Two unit clusters of equal size, at 0 and at `distance` in every feature; the labels too."""
    X = np.random.RandomState(seed).standard_normal((n_samples, n_features))
    labels = np.arange(n_samples) % 2
    return X + distance * labels[:, None], labels


DATASETS = {
    "iris": iris,
    "wine": wine,
    "digits": digits,
    "faithful": faithful,
    "synthetic": synthetic,
}
