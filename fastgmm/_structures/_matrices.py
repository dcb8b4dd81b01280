"""What the types with covariance matrices share."""

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtri

from .._kernels.algebra import central_covariances, inverse_factors
from .._stats import SufficientStats
from ._base import Array, IllDefinedCovariance
from ._records import readonly


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
    d = matrices.shape[-1]
    matrices[..., np.arange(d), np.arange(d)] += value
    return matrices


def log_diagonal(factors: Array) -> Array:
    """Return the log-determinants of triangular factors (..., d, d)."""
    diagonal: Array = np.diagonal(factors, axis1=-2, axis2=-1)
    logs: Array = np.log(diagonal).sum(axis=-1)
    return logs
