"""What the types with covariance matrices share."""

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from .._kernels.algebra import central_covariances, inverse_factors
from .._stats import SufficientStats
from ._base import Array, CovarianceStructure, IllDefinedCovariance
from ._records import readonly


class Matrices(CovarianceStructure):
    """What types with covariance matrices do the same way."""

    has_matrices = True

    def second_columns(self, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        distances: Array = (self.precisions(precisions_cholesky) * covariances).sum(axis=(-2, -1))
        return distances

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.swapaxes(-2, -1)

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        diagonal: Array = np.diagonal(precisions_cholesky, axis1=-2, axis2=-1)
        logs: Array = np.log(diagonal).sum(axis=-1)
        return logs

    def compact(self, matrix: Array) -> Array:
        return matrix


def inverse_cholesky(covariances: Array) -> Array:
    """Return U (K, d, d), upper triangular, with U U^T the inverses of covariances (K, d, d)."""
    d = covariances.shape[-1]
    inverses = np.empty(covariances.shape)
    if inverse_factors(readonly(covariances), None, np.empty((d, d)), inverses) >= 0:
        raise IllDefinedCovariance
    if not np.isfinite(inverses).all():
        raise IllDefinedCovariance
    upper: Array = inverses.transpose(0, 2, 1)
    return upper


def reverse_cholesky(precision: Array) -> Array:
    """Return U, upper triangular, with U U^T equal to one precision (d, d)."""
    lower, status = dpotrf(precision[::-1, ::-1], lower=1, clean=1)
    if status != 0 or not np.isfinite(lower).all():  # OpenBLAS lets NaN through
        raise IllDefinedCovariance
    flipped: Array = lower[::-1, ::-1]
    return flipped


def from_factor(factor: Array) -> Array:
    """Return the covariance (d, d) whose inverse is U U^T."""
    inverse, status = dtrtri(factor, lower=0)
    if status != 0 or not np.isfinite(inverse).all():
        raise IllDefinedCovariance
    covariance: Array = inverse.T @ inverse
    return covariance


def central_products(stats: SufficientStats, means: Array, mass: Array) -> Array:
    """Return the covariances (K, d, d) about the new means."""
    k, d = means.shape
    covariances = np.empty((k, d, d))
    shift = means - stats.reference
    central_covariances(stats.second, None, stats.first, stats.mass, mass, shift, covariances)
    return covariances


def add_to_diagonal(matrices: Array, value: float) -> Array:
    """Add to the diagonals of new matrices (..., d, d), and return them."""
    np.einsum("...ii->...i", matrices)[...] += value  # a view of them
    return matrices
