"""One covariance matrix for all components."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._kernels import expanded
from .._kernels.algebra import multiply_out_whitened, shared_squares
from .._kernels.expanded import Expanded
from .._kernels.kinds import KernelParams
from .._kernels.scaled import Scaled
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
from ._records import (
    MAX_SQUARE_DISTANCE,
    constants_of,
    expanded_if_near,
    readonly,
    triangular,
)

# Total scatter minus between-component scatter loses as many digits as (separation / sd)^2 has;
# beyond this ratio tied covariances are pooled from moments about the components' own means.
_MAX_BETWEEN_TO_WITHIN = 1e6


class Tied(Matrices):
    """All components share one covariance matrix: (d, d)."""

    name = "tied"
    needs_scatter = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_features, n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        if stats.second.shape[1] > 0:
            products = central_products(stats, means, mass)
            pooled = np.einsum("k,kij->ij", mass, products) / mass.sum()
        else:
            assert scatter is not None
            pooled = _within(scatter, stats, mass) / mass.sum()
        return add_to_diagonal(pooled, reg)

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        # whose they were is forgotten: only their sum counts
        rows, columns = np.tril_indices(d)
        packed: Array = add_to_diagonal(covariances.copy(), -reg)[rows, columns]
        return mass[:, None] * packed

    def by_parts(self) -> CovarianceStructure:
        return TiedByParts()

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        # All rows are in the total scatter, K of them in the components: scikit-learn subtracts
        # raw moments about the origin of the coordinates.
        assert scatter is not None
        k = len(rows)
        offsets = rows - scatter.mean
        held = offsets.sum(axis=0)
        cross = np.outer(held, scatter.mean)
        missing = scatter.weight - k * mass
        raw = scatter.matrix + missing * np.outer(scatter.mean, scatter.mean)
        raw = (raw - offsets.T @ offsets - cross - cross.T) / (k * mass)
        if not np.linalg.eigvalsh(raw)[0] > 1e-12 * np.trace(raw):
            raw = scatter.matrix / (k * mass)  # far from the origin that has no digits left
        return add_to_diagonal(raw, reg)

    def precisions_cholesky(self, covariances: Array) -> Array:
        upper: Array = inverse_cholesky(covariances[None])[0]
        return upper

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        return reverse_cholesky(precisions)

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        return from_factor(precisions_cholesky)

    def min_support(self, n_features: int) -> int:
        return 2  # one row alone decides where its component is, and nothing else

    def kernel_params(
        self, params: Params, log_weights: Array, dtype: DTypeLike = np.float64
    ) -> KernelParams:
        factor = readonly(params.precisions_cholesky.T)
        n_components, d = params.means.shape
        logs = self.log_determinants(params.precisions_cholesky, d)
        constants = constants_of(log_weights, logs, d)
        # a pass over whitened rows gathers no second moments: the scatter stands for them
        whitened = _whitened(params, factor, constants) if self.needs_scatter else None
        if whitened is not None:
            return whitened
        return triangular(params.means, np.repeat(factor[None], n_components, 0), constants)

    def pooled(self, values: Array) -> Array:
        return np.asarray(values.sum() / len(values))

    def products(self, offsets: Array, weights: Array) -> Array:
        pooled: Array = (weights[:, None] * offsets).T @ offsets / len(offsets)
        return pooled

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        if stats.second.shape[1] > 0:
            about = unpack(stats.second.sum(axis=0), stats.reference.shape[1])
        else:
            assert scatter is not None
            offsets = stats.reference - scatter.mean
            cross = (stats.first + 0.5 * stats.mass[:, None] * offsets).T @ offsets
            about = scatter.matrix - cross - cross.T
        return float(np.sum(self.precisions(precisions_cholesky) * about))

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        return np.repeat(matrices[None], n_components, axis=0)

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        return covariances[index[:, None], index]

    def draw(self, rng: Rng, mean: Array, covariances: Array, k: int, n: int) -> Array:
        draws: Array = rng.multivariate_normal(mean, covariances, n)
        return draws


class TiedByParts(Tied):
    """Tied covariances pooled from second moments of each component."""

    needs_scatter = False


def _whitened(params: Params, factor: Array, constants: Array) -> Scaled | Expanded | None:
    """Return what kernels read that whiten rows once for all components, or None.

    Whitened centres that lie far apart tell that subtracting them would cost digits.
    """
    weights, means, covariance = map(readonly, params[:3])
    k, d = means.shape
    origin, spread = np.empty((2, d))
    centres, coefficients = np.empty((k, d)), np.empty((k, 1 + d + 1))
    terms, between = multiply_out_whitened(
        factor, None, weights, means, covariance, constants, origin, spread, centres, coefficients
    )
    if not between <= _MAX_BETWEEN_TO_WITHIN:
        return None
    scaled = Scaled(
        means=means,
        centres=readonly(centres),
        precisions=readonly(np.ones((k, 1))),
        constants=constants,
        factor=factor,
        origin=readonly(origin),
        moments=readonly(np.empty(0)),
    )
    return expanded_if_near(scaled, terms, coefficients)


def split_squares(params: KernelParams, scatter: Scatter | None) -> tuple[KernelParams, float]:
    """Return kernel parameters less what all components have in common, and the mean of that.

    That is minus half the square length of the whitened row, which takes d^2 / 2 multiply-adds for
    each row to know.  The scatter of the rows knows its mean, where that costs few digits.
    """
    if scatter is None or not isinstance(params, Expanded) or not params.whitening.size:
        return params, 0.0
    d, weight = len(params.factor), scatter.weight
    arrays = map(readonly, (scatter.matrix, scatter.mean - params.origin, scatter.residual))
    squares, terms = shared_squares(params.factor, None, *arrays, weight, np.empty(d))
    if not terms <= MAX_SQUARE_DISTANCE * d:  # they are sums over d whitened features
        return params, 0.0
    return expanded.without_squares(params), -0.5 * squares


def _within(scatter: Scatter, stats: SufficientStats, mass: Array) -> Array:
    """Return the total scatter less that of the component means.

    The means enter before they are rounded: far from the origin that rounding, times the distance
    of the components, would count.
    """
    offsets = (stats.reference - scatter.mean) + stats.first / mass[:, None]
    within: Array = scatter.matrix - (stats.mass[:, None] * offsets).T @ offsets
    return within
