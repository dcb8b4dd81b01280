"""The cases that are measured, and their data and starts."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """One fit: covariance type, rows, features, components."""

    covariance_type: str
    n: int
    d: int
    k: int

    @property
    def name(self):
        rows = f"{self.n // 1000}k" if self.n % 1_000_000 else f"{self.n // 1_000_000}M"
        return f"{self.covariance_type} {rows}x{self.d} K={self.k}"

    @property
    def needed_flops(self):
        """Flops of one EM pass with full covariances: triangular E-step, symmetric M-step."""
        if self.covariance_type != "full":
            return None
        return 2 * self.n * self.k * self.d * (self.d + 1)


CASES = (
    Case("full", 200_000, 2, 8),
    Case("full", 100_000, 8, 16),
    Case("full", 50_000, 32, 32),
    Case("full", 20_000, 64, 32),
    Case("full", 10_000, 128, 32),
    Case("diag", 200_000, 8, 16),
    Case("diag", 100_000, 64, 64),
    Case("spherical", 500_000, 16, 64),
    Case("tied", 200_000, 16, 32),
)


def make_data(case, dtype=np.float64, seed=0, spread=3.0):
    """Draw rows from k clusters, each with its own covariance.

    spread : standard deviation of a centre's coordinates, in those of the rows about it.  With 3
    clusters overlap for few features and lie apart for many; with 0.5 they always overlap.
    """
    generator = np.random.default_rng(seed)
    centres = generator.normal(scale=spread, size=(case.k, case.d))
    factors = np.eye(case.d) + generator.normal(
        scale=0.3 / case.d**0.5, size=(case.k, case.d, case.d)
    )
    labels = generator.integers(case.k, size=case.n)
    X = generator.normal(size=(case.n, case.d))
    for i in range(case.k):
        rows = labels == i
        X[rows] = X[rows] @ factors[i].T + centres[i]
    return np.ascontiguousarray(X, dtype=dtype)


class Start(NamedTuple):
    """Where every library starts: equal weights, rows as means, one diagonal covariance."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def matrices(self):
        """Give the covariances as (k, d, d)."""
        return np.tile(np.diag(self.variances), (len(self.weights), 1, 1))

    def precisions(self, covariance_type):
        """Give the precisions in scikit-learn's shape."""
        k, precision = len(self.weights), 1 / self.variances
        return {
            "full": lambda: np.tile(np.diag(precision), (k, 1, 1)),
            "tied": lambda: np.diag(precision),
            "diag": lambda: np.tile(precision, (k, 1)),
            "spherical": lambda: np.full(k, precision.mean()),
        }[covariance_type]()


def make_start(case, X, seed=0):
    """Take the same start for every library."""
    rows = np.random.default_rng(seed).choice(case.n, case.k, replace=False)
    return Start(np.full(case.k, 1 / case.k), X[rows].astype(float), X.var(axis=0, dtype=float))


def given_fit(cls, case, X, start, iterations, **params):
    """Fit an estimator in scikit-learn's shape so many iterations from a given start."""
    model = cls(
        case.k,
        covariance_type=case.covariance_type,
        tol=0,
        max_iter=iterations,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions(case.covariance_type),
        **params,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: meant so
        return model.fit(X)
