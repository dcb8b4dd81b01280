"""The four covariance types: the only file that knows one from another.

Everything here is O(K d^3) NumPy and SciPy on parameters; the rows never come this way.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg.lapack import dpotrf, dtrtri

from ._kernels.algebra import central_covariances, inverse_factors
from ._kernels.kinds import KernelParams
from ._kernels.scaled import Scaled
from ._kernels.triangular import Triangular, TriangularFloat32, pack
from ._precision import float32_will_do
from ._stats import SufficientStats, unpack

Array = NDArray[np.float64]
Rng = np.random.RandomState | np.random.Generator

# Total scatter minus between-component scatter loses as many digits as (separation / sd)^2 has;
# beyond this ratio tied covariances are pooled from moments about the components' own means.
_MAX_BETWEEN_TO_WITHIN = 1e6


class IllDefinedCovariance(ValueError):
    """A covariance is not positive definite."""


class Posterior(NamedTuple):
    """What is left to be known of the parameters, where they are random: see ``_variational``."""

    weight_concentration: Array  # (K,), or (2, K) for sticks
    mean_precision: Array  # (K,)
    degrees_of_freedom: Array  # (K,), or () where components share one covariance


class Params(NamedTuple):
    """Parameters of a mixture, float64."""

    weights: Array  # (K,)
    means: Array  # (K, d)
    covariances: Array  # shape by covariance type
    precisions_cholesky: Array  # same shape; upper triangular, P = U U^T, or 1 / sd
    posterior: Posterior | None = None


class Scatter(NamedTuple):
    """Weighted scatter of all rows about their mean, gathered once per data set."""

    weight: float
    mean: Array  # (d,)
    matrix: Array  # (d, d) sum of w (x - mean)(x - mean)^T


class CovarianceStructure(Protocol):
    """What the rest of the package asks of a covariance type; instances hold no state."""

    name: str
    has_matrices: bool  # rather than variances
    needs_scatter: bool

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Return the shape of covariances and precisions."""

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Return the number of free parameters of the covariances."""

    def second_columns(self, n_features: int) -> int:
        """Return the second moments of a component that ``covariances`` wants at the start."""

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        """Return the covariances about the new means; mass is the guarded N_k (the M-step)."""

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        """Return the second moments about the means that ``covariances`` makes these of."""

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        """Return the mean squared Mahalanobis distances (K,), or () if all share one.

        They are those of rows with these covariances about the means.
        """

    def by_parts(self) -> "CovarianceStructure":
        """Return a structure of the same covariances that never asks for the scatter of all rows.

        It suits statistics of which parts are replaced, or forgotten little by little.
        """

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        """Return the covariances of components of one row each, with scikit-learn's digits."""

    def precisions_cholesky(self, covariances: Array) -> Array:
        """Return the Cholesky factors of the inverses; raise IllDefinedCovariance."""

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        """Return U with U U^T = precisions; raise IllDefinedCovariance."""

    def precisions(self, precisions_cholesky: Array) -> Array:
        """Return the precisions."""

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        """Return the covariances that factors of precisions stand for."""

    def min_support(self, n_features: int) -> int:
        """Return how many rows a component needs for a covariance of its own."""

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        """Return what the kernels read, with the log-weights in the constants.

        dtype : of the rows of a pass.  Where they are float32, and the parameters allow it, the
        kernels may compute in float32.
        """

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        """Return the logarithms of the factors' determinants, one for each covariance there is."""

    def pooled(self, values: Array) -> Array:
        """Return numbers of components (K,) for each covariance: as they are, or their mean ()."""

    def products(self, offsets: Array, weights: Array) -> Array:
        """Return what offsets (K, d), squared and weighted (K,), add to the covariances."""

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        """Return the sum of r (x - m)^T P (x - m) over rows and components, m the reference."""

    def compact(self, matrix: Array) -> Array:
        """Return what one component keeps of a covariance matrix (d, d)."""

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        """Return covariances, or precisions, written out as (K, d, d)."""

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        """Return the covariances of some features alone, in the order of the index."""

    def draw(self, rng: Rng, mean: Array, covariances: Array, k: int, n: int) -> Array:
        """Return n draws (n, d) from component k, as scikit-learn draws them."""


def readonly(array: Array, dtype: DTypeLike = np.float64) -> Array:
    """Return a C-contiguous, read-only view or copy: the only arrays that kernels take."""
    view: Array = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _inverse_cholesky(covariances: Array) -> Array:
    """Return U (K, d, d), upper triangular, with U U^T the inverses of covariances (K, d, d)."""
    d = covariances.shape[-1]
    inverses = np.empty(covariances.shape)
    if inverse_factors(readonly(covariances), None, np.empty((d, d)), inverses) >= 0:
        raise IllDefinedCovariance
    if not np.isfinite(inverses).all():
        raise IllDefinedCovariance
    upper: Array = inverses.transpose(0, 2, 1)
    return upper


def _reverse_cholesky(precision: Array) -> Array:
    """Return U, upper triangular, with U U^T equal to one precision (d, d)."""
    lower, status = dpotrf(precision[::-1, ::-1], lower=1, clean=1)
    if status != 0 or not np.isfinite(lower).all():  # OpenBLAS lets NaN through
        raise IllDefinedCovariance
    flipped: Array = lower[::-1, ::-1]
    return flipped


def _from_factor(factor: Array) -> Array:
    """Return the covariance (d, d) whose inverse is U U^T."""
    inverse, status = dtrtri(factor, lower=0)
    if status != 0 or not np.isfinite(inverse).all():
        raise IllDefinedCovariance
    covariance: Array = inverse.T @ inverse
    return covariance


def _inverse_roots(variances: Array) -> Array:
    if not (variances > 0.0).all():  # also false for NaN
        raise IllDefinedCovariance
    return 1.0 / np.sqrt(variances)


def _roots(precisions: Array) -> Array:
    if not (precisions > 0.0).all():
        raise IllDefinedCovariance
    return np.sqrt(precisions)


def _constants(log_weights: Array, log_determinants: Array, d: int) -> Array:
    return readonly(log_weights + log_determinants - 0.5 * d * math.log(2.0 * math.pi))


def _shifts(stats: SufficientStats, means: Array) -> Array:
    """Return by how far the new means lie from the reference of the statistics."""
    return means - stats.reference


def _central_squares(stats: SufficientStats, means: Array, mass: Array) -> Array:
    """Return the variances (K, d), or their sums (K, 1), about the new means."""
    shift = _shifts(stats, means)
    correction = stats.mass[:, None] * shift**2 - 2.0 * stats.first * shift
    if stats.second.shape[1] == 1:
        correction = correction.sum(axis=1, keepdims=True)
    # a variance cannot be negative, only its rounding can
    variances: Array = np.maximum((stats.second + correction) / mass[:, None], 0.0)
    return variances


def _central_products(stats: SufficientStats, means: Array, mass: Array) -> Array:
    """Return the covariances (K, d, d) about the new means."""
    k, d = means.shape
    covariances = np.empty((k, d, d))
    shift = _shifts(stats, means)
    central_covariances(stats.second, None, stats.first, stats.mass, mass, shift, covariances)
    return covariances


def _add_to_diagonal(matrices: Array, value: float) -> Array:
    d = matrices.shape[-1]
    matrices[..., np.arange(d), np.arange(d)] += value
    return matrices


def _log_diagonal(factors: Array) -> Array:
    """Return the log-determinants of triangular factors (..., d, d)."""
    diagonal: Array = np.diagonal(factors, axis1=-2, axis2=-1)
    logs: Array = np.log(diagonal).sum(axis=-1)
    return logs


class Full:
    """Each component has a covariance matrix of its own: (K, d, d)."""

    name = "full"
    has_matrices = True
    needs_scatter = False

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features, n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def second_columns(self, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        return _add_to_diagonal(_central_products(stats, means, mass), reg)

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        rows, columns = np.tril_indices(d)
        packed: Array = _add_to_diagonal(covariances.copy(), -reg)[:, rows, columns]
        return mass[:, None] * packed

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        distances: Array = (self.precisions(precisions_cholesky) * covariances).sum(axis=(-2, -1))
        return distances

    def by_parts(self) -> CovarianceStructure:
        return self

    def seed_covariances(
        self, rows: Array, mass: float, reg: float, scatter: Scatter | None
    ) -> Array:
        k, d = rows.shape
        return np.repeat(reg * np.eye(d)[None], k, axis=0)

    def precisions_cholesky(self, covariances: Array) -> Array:
        return _inverse_cholesky(covariances)

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        return np.stack([_reverse_cholesky(precision) for precision in precisions])

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.transpose(0, 2, 1)

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        return np.stack([_from_factor(factor) for factor in precisions_cholesky])

    def min_support(self, n_features: int) -> int:
        return n_features + 1

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        factors = params.precisions_cholesky.transpose(0, 2, 1)
        d = params.means.shape[1]
        logs = self.log_determinants(params.precisions_cholesky, d)
        constants = _constants(log_weights, logs, d)
        if dtype == np.float32 and float32_will_do(params.covariances, factors):
            return _triangular_float32(params.means, factors, constants)
        return _triangular(params.means, factors, constants)

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        return _log_diagonal(precisions_cholesky)

    def pooled(self, values: Array) -> Array:
        return values

    def products(self, offsets: Array, weights: Array) -> Array:
        return weights[:, None, None] * offsets[:, :, None] * offsets[:, None, :]

    def square_distances(
        self, stats: SufficientStats, precisions_cholesky: Array, scatter: Scatter | None
    ) -> float:
        about = unpack(stats.second, stats.reference.shape[1])
        return float(np.sum(self.precisions(precisions_cholesky) * about))

    def compact(self, matrix: Array) -> Array:
        return matrix

    def full(self, matrices: Array, n_components: int, n_features: int) -> Array:
        return matrices.copy()

    def of_features(self, covariances: Array, index: NDArray[np.intp]) -> Array:
        return covariances[:, index[:, None], index]

    def draw(self, rng: Rng, mean: Array, covariances: Array, k: int, n: int) -> Array:
        draws: Array = rng.multivariate_normal(mean, covariances[k], n)
        return draws


class Tied:
    """All components share one covariance matrix: (d, d)."""

    name = "tied"
    has_matrices = True
    needs_scatter = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_features, n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def second_columns(self, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def covariances(
        self, stats: SufficientStats, means: Array, mass: Array, reg: float, scatter: Scatter | None
    ) -> Array:
        if stats.second.shape[1] > 0:
            products = _central_products(stats, means, mass)
            pooled = np.einsum("k,kij->ij", mass, products) / mass.sum()
        else:
            assert scatter is not None
            pooled = _within(scatter, stats, mass) / mass.sum()
        return _add_to_diagonal(pooled, reg)

    def second_moments(self, covariances: Array, mass: Array, reg: float, d: int) -> Array:
        # whose they were is forgotten: only their sum counts
        rows, columns = np.tril_indices(d)
        packed: Array = _add_to_diagonal(covariances.copy(), -reg)[rows, columns]
        return mass[:, None] * packed

    def mean_distances(self, precisions_cholesky: Array, covariances: Array, d: int) -> Array:
        distances: Array = (self.precisions(precisions_cholesky) * covariances).sum(axis=(-2, -1))
        return distances

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
        return _add_to_diagonal(raw, reg)

    def precisions_cholesky(self, covariances: Array) -> Array:
        upper: Array = _inverse_cholesky(covariances[None])[0]
        return upper

    def precisions_cholesky_from_precisions(self, precisions: Array) -> Array:
        return _reverse_cholesky(precisions)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.T

    def covariances_from_factors(self, precisions_cholesky: Array) -> Array:
        return _from_factor(precisions_cholesky)

    def min_support(self, n_features: int) -> int:
        return 2  # one row alone decides where its component is, and nothing else

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        factor = readonly(params.precisions_cholesky.T)
        n_components, d = params.means.shape
        logs = self.log_determinants(params.precisions_cholesky, d)
        constants = _constants(log_weights, logs, d)
        origin = params.weights @ params.means / params.weights.sum()
        centres = (params.means - origin) @ factor.T
        # Whitened centres that lie far apart tell that subtracting them would cost digits.
        between = (params.weights[:, None] * centres**2).sum(axis=0).max()
        if not between <= _MAX_BETWEEN_TO_WITHIN:
            return _triangular(params.means, np.repeat(factor[None], n_components, 0), constants)
        return Scaled(
            means=readonly(params.means),
            centres=readonly(centres),
            precisions=readonly(np.ones((n_components, 1))),
            constants=constants,
            factor=factor,
            origin=readonly(origin),
            moments=readonly(np.empty(0)),
        )

    def log_determinants(self, precisions_cholesky: Array, n_features: int) -> Array:
        return _log_diagonal(precisions_cholesky)

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

    def compact(self, matrix: Array) -> Array:
        return matrix

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

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        factor = params.precisions_cholesky.T
        n_components, d = params.means.shape
        constants = _constants(log_weights, _log_diagonal(factor), d)
        return _triangular(params.means, np.repeat(factor[None], n_components, 0), constants)


class _Variances:
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
        return self  # type: ignore[return-value]  # the types below have the rest

    def pooled(self, values: Array) -> Array:
        return values

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

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        d = params.means.shape[1]
        roots = params.precisions_cholesky
        constants = _constants(log_weights, self.log_determinants(roots, d), d)
        return _unwhitened(params.means, roots**2, constants, d)

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

    def kernel_params(
        self,
        params: Params,
        log_weights: Array,
        scatter: Scatter | None,
        dtype: DTypeLike = np.float64,
    ) -> KernelParams:
        d = params.means.shape[1]
        roots = params.precisions_cholesky
        constants = _constants(log_weights, self.log_determinants(roots, d), d)
        return _unwhitened(params.means, roots[:, None] ** 2, constants, 1)

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


def _triangular(means: Array, factors: Array, constants: Array) -> Triangular:
    shared = readonly(means)
    nothing = readonly(np.empty((0, 0)))
    return Triangular(shared, shared, readonly(pack(factors)), constants, nothing)


def _triangular_float32(means: Array, factors: Array, constants: Array) -> Triangular:
    centres = readonly(means, np.float32)
    rounded = readonly(centres)
    return TriangularFloat32(
        means=rounded,
        centres=centres,
        factors=readonly(pack(factors), np.float32),
        constants=constants,
        shifts=readonly((factors @ (rounded - means)[:, :, None])[:, :, 0], np.float32),
    )


def _unwhitened(means: Array, precisions: Array, constants: Array, moments: int) -> Scaled:
    shared = readonly(means)
    return Scaled(
        means=shared,
        centres=shared,
        precisions=readonly(precisions),
        constants=constants,
        factor=readonly(np.empty((0, 0))),
        origin=readonly(np.empty(0)),
        moments=readonly(np.empty(moments)),
    )


def _within(scatter: Scatter, stats: SufficientStats, mass: Array) -> Array:
    """Return the total scatter less that of the component means.

    The means enter before they are rounded: far from the origin that rounding, times the distance
    of the components, would count.
    """
    offsets = (stats.reference - scatter.mean) + stats.first / mass[:, None]
    within: Array = scatter.matrix - (stats.mass[:, None] * offsets).T @ offsets
    return within


def _raw_variances(rows: Array, mass: float, reg: float) -> Array:
    """Return the variances (K, d) of single rows as raw moments give them: rounding, plus reg.

    With a reg_covar of 1e-6 that rounding decides who is whose neighbour in the first E-step, so
    a start that shall be scikit-learn's must share it; far from the origin it is dropped.
    """
    variances = rows**2 / mass - (rows / mass) ** 2 + reg
    near_origin = (variances < 2.0 * reg) | (reg == 0.0)
    kept: Array = np.where((variances > 0.5 * reg) & near_origin, variances, reg)
    return kept


STRUCTURES: dict[str, CovarianceStructure] = {
    structure.name: structure for structure in (Full(), Tied(), Diagonal(), Spherical())
}
