"""Information criteria: how well a mixture fits, less what its parameters cost."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._inference import MixtureInference
from ._passes import COMPONENT_LOG_DENSITIES, LOG_DENSITY

Array = NDArray[np.float64]

__all__ = ["Criteria", "InformationCriteria"]


class Criteria(NamedTuple):
    """All information criteria of a mixture, from one pass over the rows.

    Attributes
    ----------
    log_likelihood : float
        Sum over the rows of their log-densities, natural logarithm.
    n_parameters : int
        The number of free parameters.
    aic, bic, icl : float
        The criteria; the lower the better.
    """

    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    icl: float


class InformationCriteria(MixtureInference):
    """Mixin: the criteria that compare mixtures fitted to the same rows."""

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the Bayesian information criterion; the lower the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts; n is then the sum of the weights.

        Returns
        -------
        bic : float
            ``-2 log L + p log n`` with p free parameters.

        References
        ----------
        .. [1] G. Schwarz, "Estimating the dimension of a model", Ann. Statist. 6(2), 1978.
        """
        total, n = self._sum(X, sample_weight, LOG_DENSITY)
        return _bic(total, n, self._n_parameters())

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the Akaike information criterion; the lower the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        aic : float
            ``-2 log L + 2 p`` with p free parameters.

        References
        ----------
        .. [1] H. Akaike, "A new look at the statistical model identification", IEEE Trans.
           Autom. Control 19(6), 1974.
        """
        total, _ = self._sum(X, sample_weight, LOG_DENSITY)
        return _aic(total, self._n_parameters())

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the integrated completed likelihood; the lower the better.

        Like ``bic``, with a penalty for rows that could belong to several components: it prefers
        components that are clusters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts; n is then the sum of the weights.

        Returns
        -------
        icl : float
            ``bic - 2 sum_i log max_k P(k | x_i)``: the ``bic`` of a likelihood in which each row
            belongs to its most probable component.

        References
        ----------
        .. [1] C. Biernacki, G. Celeux and G. Govaert, "Assessing a mixture model for clustering
           with the integrated completed likelihood", IEEE Trans. PAMI 22(7), 2000, with the
           components assigned as in eq. (8).
        """
        completed, n = self._sum(X, sample_weight, COMPONENT_LOG_DENSITIES, _largest)
        return _bic(completed, n, self._n_parameters())

    def information_criteria(
        self, X: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Criteria:
        """Compute the log-likelihood, AIC, BIC and ICL in one pass over the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        criteria : Criteria
            A named tuple of ``log_likelihood``, ``n_parameters``, ``aic``, ``bic``, ``icl``.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> X = [[0.0], [1.0], [2.0], [4.0]]
        >>> model = GaussianMixture(random_state=0).fit(X)
        >>> criteria = model.information_criteria(X)
        >>> criteria.n_parameters, round(criteria.bic, 3), round(model.bic(X), 3)
        (2, 17.255, 17.255)
        """
        total, completed, n = self._sum(
            X, sample_weight, COMPONENT_LOG_DENSITIES, _log_of_sum, _largest
        )
        p = self._n_parameters()
        return Criteria(total, p, _aic(total, p), _bic(total, n, p), _bic(completed, n, p))

    def _n_parameters(self) -> int:
        """Return the number of free parameters."""
        k, d = self.means_.shape
        return int(self._structure.n_parameters(k, d) + k * d + k - 1)


def _aic(log_likelihood: float, n_parameters: int) -> float:
    return -2.0 * log_likelihood + 2.0 * n_parameters


def _bic(log_likelihood: float, n: float, n_parameters: int) -> float:
    return -2.0 * log_likelihood + n_parameters * math.log(n)


def _largest(log_joint: Array) -> Array:
    """Return log max_k w_k N_k(x) of each row."""
    peaks: Array = log_joint.max(axis=1)
    return peaks


def _log_of_sum(log_joint: Array) -> Array:
    """Return log sum_k w_k N_k(x) of each row, -inf where no component reaches."""
    peaks = _largest(log_joint)
    shifts = np.where(np.isfinite(peaks), peaks, 0.0)
    with np.errstate(divide="ignore"):
        logs: Array = np.log(np.exp(log_joint - shifts[:, None]).sum(axis=1))
    return shifts + logs
