"""How statistics become parameters."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """What responsibilities say about the components, before any principle of estimation."""

    mass: Array  # (K,)
    means: Array  # (K, d)
    covariances: Array  # shape by covariance type


class Given(NamedTuple):
    """Parameters to start from, whatever an initialisation finds; None: what it finds."""

    weights: Array | None = None
    means: Array | None = None
    precisions_cholesky: Array | None = None


class Shrunk(NamedTuple):
    """Means and covariances between those of the rows and those of a conjugate prior."""

    means: Array  # (K, d)
    covariances: Array  # shape by covariance type
    mean_precision: Array  # (K,), rows behind each mean
    rows: Array  # behind each covariance: (K,), or () where components share one


def shrunk(
    structure: CovarianceStructure,
    moments: Moments,
    mean: Array,
    mean_precision: float,
    scatter: Array,
    rows: float,
) -> Shrunk:
    """Return what a Normal-Wishart prior makes of moments.

    mean, mean_precision : the prior's mean (d,), and how many rows it counts for.
    scatter, rows : what the prior adds to the scatter about a mean, and to the rows behind it.
    """
    mass, means, covariances = moments
    precision = mean_precision + mass
    offsets = means - mean
    centres = mean + (mass / precision)[:, None] * offsets
    pooled = structure.pooled(mass)
    behind = rows + pooled
    between = structure.products(offsets, mass * mean_precision / precision)
    whole = scatter + _each(pooled, covariances) + between
    return Shrunk(centres, _each(1.0 / behind, whole), precision, behind)


def _each(values: Array, covariances: Array) -> Array:
    """Return covariances, each one times its number, or all times one."""
    shaped = values.reshape(values.shape + (1,) * (covariances.ndim - values.ndim))
    product: Array = shaped * covariances
    return product


def log_weights(weights: Array) -> Array:
    """Return log(weights), silently -inf for components that have died."""
    with np.errstate(divide="ignore"):
        logs: Array = np.log(weights)
    return logs


class UpdateRule(ABC):
    """An estimation principle: maximum likelihood, MAP, variational.

    The guard of ten units of rounding in the mass of a row keeps the mean of an empty component
    finite; it is what scikit-learn adds, scaled by the mean weight of a row.
    """

    # whether float32 tiles would lose digits of the bound that are needed
    needs_float64: ClassVar[bool] = False
    # whether a component that is left without rows is a result like any other
    prunes: ClassVar[bool] = False
    bound_name: ClassVar[str]

    def __init__(
        self,
        structure: CovarianceStructure,
        reg_covar: float,
        scatter: Scatter | None,
        mean_weight: float = 1.0,
    ) -> None:
        self.structure = structure
        self.reg_covar = reg_covar
        self.scatter = scatter
        self.mean_weight = mean_weight
        self.guard = 10.0 * float(np.finfo(np.float64).eps) * mean_weight
        self.guard_place: Array | float = 0.0  # scikit-learn's lies at the origin

    def with_scatter(self, scatter: Scatter) -> Self:
        """Return the rule for other rows."""
        twin = copy.copy(self)
        twin.scatter = scatter
        return twin

    def by_parts(self) -> Self:
        """Return the rule for statistics of which parts are replaced."""
        twin = copy.copy(self)
        twin.structure, twin.scatter = self.structure.by_parts(), None
        return twin

    def moments(self, stats: SufficientStats) -> Moments:
        """Return mass, means and covariances, with scikit-learn's guard and regularisation."""
        mass = stats.mass + self.guard
        # sum(r x) / mass, as an offset from the reference
        pull = self.guard * (stats.reference - self.guard_place)
        means = stats.reference + (stats.first - pull) / mass[:, None]
        covariances = self.structure.covariances(stats, means, mass, self.reg_covar, self.scatter)
        return Moments(mass, means, covariances)

    def seed_covariances(self, rows: Array, mass: float) -> Array:
        """Return the covariances of components of one row each (K, d)."""
        return self.structure.seed_covariances(rows, mass, self.reg_covar, self.scatter)

    def known_start(self) -> Params | None:
        """Return a start that needs no rows, if there is one."""
        return None

    @abstractmethod
    def start(self, moments: Moments, weight: float) -> Params:
        """Return the parameters that an initialisation of rows of this weight leads to."""

    @abstractmethod
    def update(self, stats: SufficientStats) -> Params:
        """Return the parameters that the statistics lead to (the M-step)."""

    @abstractmethod
    def log_weights(self, params: Params) -> Array:
        """Return what the E-step adds to the components' log-densities (K,)."""

    @abstractmethod
    def bound(self, stats: SufficientStats, before: Params, after: Params) -> float:
        """Return what is maximised, for a pass with the parameters before and their update."""


class MaximumLikelihood(UpdateRule):
    """The M-step of maximum likelihood."""

    bound_name = "mean log-likelihood"

    def __init__(
        self,
        structure: CovarianceStructure,
        reg_covar: float,
        scatter: Scatter | None,
        mean_weight: float = 1.0,
        given: Given | None = None,
    ) -> None:
        super().__init__(structure, reg_covar, scatter, mean_weight)
        self.given = given or Given()

    def known_start(self) -> Params | None:
        weights, means, factors = self.given
        if weights is None or means is None or factors is None:
            return None
        return Params(weights, means, self.structure.covariances_from_factors(factors), factors)

    def start(self, moments: Moments, weight: float) -> Params:
        weights, means, factors = self.given
        if factors is None:
            covariances = moments.covariances
            factors = self.structure.precisions_cholesky(covariances)
        else:
            covariances = self.structure.covariances_from_factors(factors)
        return Params(
            moments.mass / weight if weights is None else weights,
            moments.means if means is None else means,
            covariances,
            factors,
        )

    def update(self, stats: SufficientStats) -> Params:
        mass, means, covariances = self.moments(stats)
        factors = self.structure.precisions_cholesky(covariances)
        return Params(mass / mass.sum(), means, covariances, factors)

    def log_weights(self, params: Params) -> Array:
        return log_weights(params.weights)

    def bound(self, stats: SufficientStats, before: Params, after: Params) -> float:
        return stats.log_likelihood / stats.weight
