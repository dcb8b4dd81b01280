"""Variances along the axes: one for each feature, or one for all of them."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._kernels.kinds import KernelParams
from .._stats import SufficientStats
from ._base import Array, CovarianceStructure, IllDefinedCovariance, Params, Rng, Scatter
from ._records import constants_of, unwhitened


class _Variances(CovarianceStructure):
    """What types with variances along the axes alone do the same way."""

    has_matrices = False
    needs_scatter = False

    def precisions_cholesky(self, covariances: Array) -> Array:
        return _inverse_roots(covariances)

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        return _roots(precisions)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky**2

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky**-2.0

    def min_support(self, n_features: int) -> int:
        return 2

    def by_parts(self) -> CovarianceStructure:
        return self

    def pooled(self, values: Array) -> Array:
        return values

    def kernel_params(
        self, params: Params, log_weights: Array, dtype: DTypeLike = np.float64
    ) -> KernelParams:
        d = params.means.shape[1]
        roots = params.precisions_cholesky
        constants = constants_of(log_weights, self.log_determinants(roots, d), d)
        precisions = self.precisions(roots).reshape(len(roots), -1)
        return unwhitened(params, precisions, constants, self.second_columns(d))

    def draw(self, rng: Rng, mean: Array, covariances: Array, k: int, n: int) -> Array:
        draws: Array = mean + rng.standard_normal(size=(n, mean.size)) * np.sqrt(covariances[k])
        return draws


class Diagonal(_Variances):
    """Each component has a variance for each feature: (K, d)."""

    name = "diag"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def second_columns(self, n_features: int) -> int:
        return n_features

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        return _central_squares(stats, means, mass) + reg

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        return mass[:, None] * np.maximum(covariances - reg, 0.0)

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        distances: Array = (self.precisions(precisions_cholesky) * covariances).sum(axis=1)
        return distances

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        return _raw_variances(rows, mass, reg)

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        logs: Array = np.log(precisions_cholesky).sum(axis=1)
        return logs

    def products(self, offsets: Array, weights: Array) -> Array:
        squares: Array = weights[:, None] * offsets**2
        return squares

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        return float(np.sum(precisions_cholesky**2 * stats.second))

    def compact(self, matrix: Array) -> Array:
        return matrix.diagonal()

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        return matrices[:, :, None] * np.eye(n_features)

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        return covariances[:, index]


class Spherical(_Variances):
    """Each component has one variance for all features: (K,)."""

    name = "spherical"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def second_columns(self, n_features: int) -> int:
        return 1

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        variances: Array = _central_squares(stats, means, mass)[:, 0] / means.shape[1] + reg
        return variances

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        return (d * mass * np.maximum(covariances - reg, 0.0))[:, None]

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        return d * self.precisions(precisions_cholesky) * covariances

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        variances: Array = _raw_variances(rows, mass, reg).mean(axis=1)
        return variances

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        logs: Array = n_features * np.log(precisions_cholesky)
        return logs

    def products(self, offsets: Array, weights: Array) -> Array:
        squares: Array = weights * (offsets**2).mean(axis=1)
        return squares

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        return float(np.sum(precisions_cholesky**2 * stats.second[:, 0]))

    def compact(self, matrix: Array) -> Array:
        return np.asarray(matrix.trace() / len(matrix))

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        return matrices[:, None, None] * np.eye(n_features)

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        return covariances.copy()


def _inverse_roots(variances: Array) -> Array:
    if not (variances > 0.0).all():  # also false for NaN
        raise IllDefinedCovariance
    return 1.0 / np.sqrt(variances)


def _roots(precisions: Array) -> Array:
    if not (precisions > 0.0).all():
        raise IllDefinedCovariance
    return np.sqrt(precisions)


def _central_squares(stats: SufficientStats, means: Array, mass: Array) -> Array:
    """Return the variances (K, d), or their sums (K, 1), about the new means."""
    shift = means - stats.reference
    correction = stats.mass[:, None] * shift**2 - 2.0 * stats.first * shift
    if stats.second.shape[1] == 1:
        correction = correction.sum(axis=1, keepdims=True)
    # a variance cannot be negative, only its rounding can
    variances: Array = np.maximum((stats.second + correction) / mass[:, None], 0.0)
    return variances


def _raw_variances(rows: Array, mass: float, reg: float) -> Array:
    """Return the variances (K, d) of single rows as raw moments give them: rounding, plus reg.

    With a reg_covar of 1e-6 that rounding decides who is whose neighbour in the first E-step, so
    a start that shall be scikit-learn's must share it; far from the origin it is dropped.
    """
    variances = rows**2 / mass - (rows / mass) ** 2 + reg
    near_origin = (variances < 2.0 * reg) | (reg == 0.0)
    kept: Array = np.where((variances > 0.5 * reg) & near_origin, variances, reg)
    return kept
