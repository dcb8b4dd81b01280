"""A covariance matrix for each component."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._kernels.kinds import KernelParams
from .._precision import float32_will_do
from .._stats import SufficientStats, unpack
from ._base import Array, CovarianceStructure, Params, Rng, Scatter
from ._matrices import (
    Matrices,
    add_to_diagonal,
    central_products,
    from_factor,
    inverse_cholesky,
    reverse_cholesky,
)
from ._records import constants_of, triangular_expanded_if_near, triangular_float32


class Full(Matrices):
    """Each component has a covariance matrix of its own: (K, d, d)."""

    name = "full"
    needs_scatter = False

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features, n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        return add_to_diagonal(central_products(stats, means, mass), reg)

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        rows, columns = np.tril_indices(d)
        packed: Array = add_to_diagonal(covariances.copy(), -reg)[:, rows, columns]
        return mass[:, None] * packed

    def by_parts(self) -> CovarianceStructure:
        return self

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        k, d = rows.shape
        return np.repeat(reg * np.eye(d)[None], k, axis=0)

    def precisions_cholesky(self, covariances: Array) -> Array:
        return inverse_cholesky(covariances)

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        return np.stack([reverse_cholesky(precision) for precision in precisions])

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        return np.stack([from_factor(factor) for factor in precisions_cholesky])

    def min_support(self, n_features: int) -> int:
        return n_features + 1

    def kernel_params(
        self, params: Params, log_weights: Array, dtype: DTypeLike = np.float64
    ) -> KernelParams:
        factors = params.precisions_cholesky.transpose(0, 2, 1)
        d = params.means.shape[1]
        logs = self.log_determinants(params.precisions_cholesky, d)
        constants = constants_of(log_weights, logs, d)
        if dtype == np.float32 and float32_will_do(params.covariances, factors):
            return triangular_float32(params.means, factors, constants)
        return triangular_expanded_if_near(params, factors, constants)

    def pooled(self, values: Array) -> Array:
        return values

    def products(self, offsets: Array, weights: Array) -> Array:
        return weights[:, None, None] * offsets[:, :, None] * offsets[:, None, :]

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        about = unpack(stats.second, stats.reference.shape[1])
        return float(np.sum(self.precisions(precisions_cholesky) * about))

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        return matrices.copy()

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        return covariances[:, index[:, None], index]

    def draw(self, rng: Rng, mean: Array, covariances: Array, k: int, n: int) -> Array:
        draws: Array = rng.multivariate_normal(mean, covariances[k], n)
        return draws
