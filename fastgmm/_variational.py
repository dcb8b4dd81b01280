"""Variational inference: the parameters are random, and their posterior is what is updated.

With the moments ``N, xbar, S`` of the responsibilities the factorised posterior is, for each
component, Normal-Wishart about the mean ``m = (beta_0 m_0 + N xbar) / beta``, where
``beta = beta_0 + N``, with ``nu = nu_0 + N`` degrees of freedom and the scale matrix
``W^-1 = W_0^-1 + N S + N beta_0 / beta (xbar - m_0)(xbar - m_0)^T``.  Covariances are
``W^-1 / nu``, as in scikit-learn; where components share one, the sums are means over components.

The bound leaves out the same constants as scikit-learn's, and is a sum over rows.  Right after an
update only one of its terms still needs the responsibilities, their entropy, and that comes out of
the statistics of the pass: where ``log rho = c - q / 2`` is the logarithm of what the E-step
normalises, ``sum r log r = sum_k c_k N_k - sum r q / 2 - sum log sum rho``.

References
----------
.. [1] C. M. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006, section 10.2.
.. [2] D. M. Blei and M. I. Jordan, "Variational inference for Dirichlet process mixtures",
   Bayesian Analysis 1(1), 2006.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, digamma, gammaln

from ._rules import Moments, UpdateRule, shrunk
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Posterior, Scatter

Array = NDArray[np.float64]


class WeightPrior(Protocol):
    """A family of distributions of weights; ``concentration`` holds the posterior's parameters."""

    def posterior(self, prior: float, mass: Array) -> Array:
        """Return the posterior's concentration, given the components' mass (K,)."""

    def expected_logs(self, concentration: Array) -> Array:
        """Return the expectations of the log-weights (K,)."""

    def weights(self, concentration: Array) -> Array:
        """Return the expected weights (K,), summing to 1."""

    def log_norm(self, concentration: Array) -> float:
        """Return the logarithm of the normalising constant of the density."""


class DirichletProcess:
    """Stick breaking, cut off after K sticks: each break is Beta(a, b), concentration (2, K)."""

    def posterior(self, prior: float, mass: Array) -> Array:
        after = np.append(np.cumsum(mass[:0:-1])[::-1], 0.0)  # the mass of later components
        return np.stack([1.0 + mass, prior + after])

    def expected_logs(self, concentration: Array) -> Array:
        a, b = digamma(concentration)
        whole = digamma(concentration.sum(axis=0))
        logs: Array = a - whole + np.append(0.0, np.cumsum(b - whole)[:-1])
        return logs

    def weights(self, concentration: Array) -> Array:
        broken, left = concentration / concentration.sum(axis=0)
        weights: Array = broken * np.append(1.0, np.cumprod(left[:-1]))
        weights /= weights.sum()
        return weights

    def log_norm(self, concentration: Array) -> float:
        return -float(betaln(*concentration).sum())


class DirichletDistribution:
    """A symmetric Dirichlet distribution of K weights: concentration (K,)."""

    def posterior(self, prior: float, mass: Array) -> Array:
        concentration: Array = prior + mass
        return concentration

    def expected_logs(self, concentration: Array) -> Array:
        logs: Array = digamma(concentration) - digamma(concentration.sum())
        return logs

    def weights(self, concentration: Array) -> Array:
        weights: Array = concentration / concentration.sum()
        return weights

    def log_norm(self, concentration: Array) -> float:
        return float(gammaln(concentration.sum()) - gammaln(concentration).sum())


WEIGHT_PRIORS: dict[str, WeightPrior] = {
    "dirichlet_process": DirichletProcess(),
    "dirichlet_distribution": DirichletDistribution(),
}


class Priors(NamedTuple):
    """What is believed of every component before any row is seen."""

    weight_concentration: float
    mean_precision: float  # beta_0
    mean: Array  # (d,), m_0
    degrees_of_freedom: float  # nu_0
    covariance: Array  # W_0^-1 of one component: (d, d), (d,) or ()


def expected_log_weights(prior: WeightPrior, posterior: Posterior, d: int) -> Array:
    """Return what the log-density at the posterior's centre lacks of its expectation (K,).

    The expected log-weights, and what the uncertainty of the precisions and means takes away.
    """
    freedom = posterior.degrees_of_freedom
    log_scale = d * math.log(2.0) + digamma(_halves(freedom, d)).sum(axis=0)
    spread = log_scale - d * np.log(freedom) - d / posterior.mean_precision
    logs: Array = prior.expected_logs(posterior.weight_concentration) + 0.5 * spread
    return logs


class VariationalBayes(UpdateRule):
    """The posterior's update, and the bound on the evidence that it raises."""

    needs_float64 = True  # the tolerance of a sum over rows is not relative to their number
    prunes = True
    bound_name = "lower bound"

    def __init__(
        self,
        structure: CovarianceStructure,
        reg_covar: float,
        scatter: Scatter | None,
        mean_weight: float,
        weight: float,
        weight_prior: WeightPrior,
        priors: Priors,
    ) -> None:
        super().__init__(structure, reg_covar, scatter, mean_weight)
        self.weight = weight  # of all rows
        self.weight_prior = weight_prior
        self.priors = priors
        self.guard_place = priors.mean  # so that it does not matter where the origin is

    def start(self, moments: Moments, weight: float) -> Params:
        # a sample of the rows stands for all of them
        return self._params(moments._replace(mass=moments.mass * (self.weight / weight)))

    def update(self, stats: SufficientStats) -> Params:
        return self._params(self.moments(stats))

    def _params(self, moments: Moments) -> Params:
        priors = self.priors
        concentration = self.weight_prior.posterior(priors.weight_concentration, moments.mass)
        means, covariances, precision, freedom = shrunk(
            self.structure,
            moments,
            priors.mean,
            priors.mean_precision,
            priors.covariance,
            priors.degrees_of_freedom,
        )
        return Params(
            self.weight_prior.weights(concentration),
            means,
            covariances,
            self.structure.precisions_cholesky(covariances),
            Posterior(concentration, precision, freedom),
        )

    def log_weights(self, params: Params) -> Array:
        assert params.posterior is not None
        d = params.means.shape[1]
        return expected_log_weights(self.weight_prior, params.posterior, d)

    def bound(self, stats: SufficientStats, before: Params, after: Params) -> float:
        assert after.posterior is not None
        concentration, precision, freedom = after.posterior
        n_components, d = after.means.shape
        logs = self.structure.log_determinants(after.precisions_cholesky, d)
        logs = logs - 0.5 * d * np.log(freedom)  # of the scale matrix
        wishart = -freedom * (logs + 0.5 * d * math.log(2.0))
        wishart = wishart - gammaln(_halves(freedom, d)).sum(axis=0)
        return float(
            self._entropy(stats, before)
            - np.broadcast_to(wishart, n_components).sum()
            - self.weight_prior.log_norm(concentration)
            - 0.5 * d * np.log(precision).sum()
        )

    def _entropy(self, stats: SufficientStats, params: Params) -> float:
        """Return -sum r log r of the pass with these parameters."""
        d = params.means.shape[1]
        factors = params.precisions_cholesky
        constants = self.log_weights(params) + self.structure.log_determinants(factors, d)
        constants = constants - 0.5 * d * math.log(2.0 * math.pi)
        squares = self.structure.square_distances(stats, factors, self.scatter)
        return stats.log_likelihood - float(stats.mass @ constants) + 0.5 * squares


def _halves(freedom: Array, d: int) -> Array:
    """Return (nu - j) / 2 for j below d (d, K), what the multivariate gamma function is about."""
    halves: Array = 0.5 * (np.atleast_1d(freedom) - np.arange(d)[:, None])
    return halves
