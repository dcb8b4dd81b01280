"""Small mixtures and rows that several test files share."""

import numpy as np
import oracle
import pytest
from datasets import iris

from fastgmm import GaussianMixture

ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
FITTED = (*ARRAYS, "converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_")

each_type = pytest.mark.parametrize("kind", oracle.COVARIANCE_TYPES)


def small():
    """60 flowers, 3 of the lengths: quick even uncompiled."""
    return iris()[::5, :3].repeat(2, axis=0) + 0.01 * np.arange(60)[:, None]


def fitted(kind="full", k=2, X=None, **params):
    params = {"random_state": 0, "tol": 1e-2, "reg_covar": 1e-4, **params}
    return GaussianMixture(k, covariance_type=kind, **params).fit(small() if X is None else X)


def known(kind):
    """Parameters of two components in three dimensions."""
    matrices = np.array([np.diag([1.0, 2.0, 0.5]) + 0.1, np.diag([0.3, 1.0, 4.0]) - 0.05])
    means = np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
    return oracle.Parameters(np.array([0.3, 0.7]), means, oracle.compact(matrices, kind), kind)


def made(kind, **params):
    weights, means, covariances, _ = known(kind)
    return GaussianMixture.from_parameters(
        weights, means, covariances, covariance_type=kind, **params
    )
