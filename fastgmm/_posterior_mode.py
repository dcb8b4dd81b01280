"""The mode of the posterior (MAP): maximum likelihood that a conjugate prior keeps from collapsing.

The prior of a component is Normal-inverse-Wishart, with the mean ``m``, ``kappa`` rows behind it,
``nu`` degrees of freedom and the scale ``L``.  Its log-density, and so the log-posterior that EM
raises, differs from a log-likelihood by terms of the form of more rows.  With the mass, mean and
scatter ``N, xbar, W`` of the responsibilities and ``B = N kappa / (N + kappa) (xbar - m)
(xbar - m)^T`` the mode is at the mean ``(N xbar + kappa m) / (N + kappa)`` and, where p is 1 with a
prior of the means and 0 without, at the covariance

- full: ``(L + W + B) / (nu + N + d + 1 + p)``,
- tied: ``(L + sum(W + B)) / (nu + sum N + d + 1 + K p)``,
- diag: ``(l + w + b) / (nu + N + 2 + p)`` for each feature, w and b on the diagonals of W and B,
- spherical: ``(l + tr(W + B)) / (nu + d N + 2 + d p)``.

All four are one formula where the prior's terms are shared out evenly among the components and
features that have one covariance parameter in common.

References
----------
.. [1] C. Fraley and A. E. Raftery, "Bayesian regularization for normal mixture estimation and
   model-based clustering", Journal of Classification 24, 2007, 155-181.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import multigammaln

from ._rules import Given, MaximumLikelihood, Moments, shrunk
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]

# How many rows the prior of a mean counts for, by the name of the prior.
MEAN_PRECISIONS: dict[str, float] = {"conjugate": 0.01, "covariance": 0.0}
# A smallest eigenvalue of the correlations, for each feature, that may be nothing but rounding.
_SINGULAR = 1e-12
# The spread of a column, relative to its size, that may be nothing but rounding.
_CONSTANT = 64.0 * float(np.finfo(np.float64).eps)


class ConjugatePrior(NamedTuple):
    """What is believed of every component before any row is seen."""

    mean: Array  # (d,)
    mean_precision: float  # kappa; 0: nothing is believed of the means
    degrees_of_freedom: float  # nu
    scale: Array  # of one component: (d, d), (d,) or ()


def default_prior(
    structure: CovarianceStructure, scatter: Scatter, divisor: float, k: int, mean_precision: float
) -> ConjugatePrior:
    """Return Fraley and Raftery's prior, from the scatter of all rows about their mean.

    The scale is the covariance ``scatter / divisor`` of the rows over ``K^(2/d)``: the rows' own
    volume in K equal parts.  For 'diag' each feature has its own variance there, where the paper
    has the mean of all: so the units of the features do not matter.  Rows that lie in a subspace
    (no more of them than features, or copies of a column) have a singular covariance: there the
    correlations are left out.
    """
    d = len(scatter.mean)
    covariance = scatter.matrix / divisor
    sd = np.sqrt(covariance.diagonal())
    constant = np.flatnonzero(~(sd > _CONSTANT * np.abs(scatter.mean)))
    if constant.size:
        names = ", ".join(map(str, constant[:10])) + (", ..." if constant.size > 10 else "")
        raise ValueError(
            f"X is constant in column {names} (counted from 0): a prior takes its scale from the "
            "data, and finds none there. Drop such columns, or set prior=None."
        )
    if structure.has_matrices:
        correlations = covariance / sd / sd[:, None]
        if not np.linalg.eigvalsh(correlations)[0] > _SINGULAR * d:
            covariance = np.diag(sd**2)
    scale = structure.compact(covariance) / k ** (2.0 / d)
    return ConjugatePrior(scatter.mean, mean_precision, d + 2.0, scale)


class PosteriorMode(MaximumLikelihood):
    """The M-step of the posterior's mode; the weights have a flat prior."""

    prunes = True  # the prior holds up components that have few rows, or none
    bound_name = "mean log-posterior"

    def __init__(
        self,
        structure: CovarianceStructure,
        scatter: Scatter | None,
        mean_weight: float,
        weight: float,
        k: int,
        prior: ConjugatePrior,
        given: Given | None = None,
    ) -> None:
        super().__init__(structure, 0.0, scatter, mean_weight, given)
        self.weight = weight  # of all rows
        self.prior = prior
        self.guard_place = prior.mean
        d, freedom = len(prior.mean), prior.degrees_of_freedom
        # a covariance parameter that the prior knows is a symmetric block of this size
        size = d if structure.has_matrices else 1
        blocks = structure.n_parameters(k, d) / (size * (size + 1) // 2)
        sharing = k * d / (size * blocks)  # components and features with one such block
        self._rows = (freedom + size + 1.0) / sharing + float(prior.mean_precision > 0.0)
        self._scatter = prior.scale / sharing
        if structure.has_matrices:
            logs = float(np.linalg.slogdet(prior.scale)[1])
        else:
            logs = float(np.log(prior.scale).mean())
        log_norm = 0.5 * freedom * (logs - size * math.log(2.0)) - multigammaln(0.5 * freedom, size)
        self._log_norm = blocks * float(log_norm)
        if prior.mean_precision > 0.0:
            self._log_norm += 0.5 * k * d * math.log(prior.mean_precision / (2.0 * math.pi))

    def seed_covariances(self, rows: Array, mass: float) -> Array:
        return np.zeros(self.structure.shape(*rows.shape))  # scikit-learn's depend on the units

    def start(self, moments: Moments, weight: float) -> Params:
        # a sample of the rows stands for all of them
        mode = self._mode(moments._replace(mass=moments.mass * (self.weight / weight)))
        return super().start(Moments(mode.weights * weight, mode.means, mode.covariances), weight)

    def update(self, stats: SufficientStats) -> Params:
        return self._mode(self.moments(stats))

    def _mode(self, moments: Moments) -> Params:
        prior = self.prior
        means, covariances, _, _ = shrunk(
            self.structure, moments, prior.mean, prior.mean_precision, self._scatter, self._rows
        )
        weights = moments.mass / moments.mass.sum()
        return Params(weights, means, covariances, self.structure.precisions_cholesky(covariances))

    def bound(self, stats: SufficientStats, before: Params, after: Params) -> float:
        return (stats.log_likelihood + self.log_density(before)) / stats.weight

    def log_density(self, params: Params) -> float:
        """Return the logarithm of the prior's density of the parameters."""
        k, d = params.means.shape
        factors = params.precisions_cholesky
        believed = np.full(k, self.prior.mean_precision)
        about = self._scatter + self.structure.products(params.means - self.prior.mean, believed)
        logs = self._rows * self.structure.log_determinants(factors, d)
        terms = logs - 0.5 * self.structure.mean_distances(factors, about, d)
        return self._log_norm + float(np.broadcast_to(terms, k).sum())
