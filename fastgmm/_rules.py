"""How statistics become parameters."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]


class UpdateRule(Protocol):
    """An estimation principle: maximum likelihood, MAP, variational."""

    def update(self, stats: SufficientStats) -> Params:
        """Return the parameters that the statistics lead to (the M-step)."""

    def bound(self, stats: SufficientStats, params: Params) -> float:
        """Return what is maximised, per unit of weight."""


class MaximumLikelihood:
    """The M-step of maximum likelihood, with scikit-learn's guard and regularisation.

    The guard of ten units of rounding in the mass of a row keeps the mean of an empty component
    finite; it is what scikit-learn adds, scaled by the mean weight of a row.
    """

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

    def moments(self, stats: SufficientStats) -> tuple[Array, Array, Array]:
        """Return mass (K,), means (K, d) and covariances."""
        mass = stats.mass + self.guard
        # sum(r x) / mass, as an offset from the reference
        means = stats.reference + (stats.first - self.guard * stats.reference) / mass[:, None]
        covariances = self.structure.covariances(stats, means, mass, self.reg_covar, self.scatter)
        return mass, means, covariances

    def update(self, stats: SufficientStats) -> Params:
        mass, means, covariances = self.moments(stats)
        factors = self.structure.precisions_cholesky(covariances)
        return Params(mass / mass.sum(), means, covariances, factors)

    def bound(self, stats: SufficientStats, params: Params) -> float:
        return stats.log_likelihood / stats.weight
