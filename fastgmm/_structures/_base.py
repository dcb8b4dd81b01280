"""What the rest of the package asks of a covariance type, and what parameters are."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._kernels.kinds import KernelParams
from .._stats import SufficientStats

Array = NDArray[np.float64]
Rng = np.random.RandomState | np.random.Generator


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
    residual: Array  # (d,), what the mean was rounded by: far from the origin that counts


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
        self, params: Params, log_weights: Array, dtype: DTypeLike = np.float64
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
