"""What a fitted mixture answers, whatever its estimation principle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _sampling, io
from ._opening import RowsLike, open_source
from ._passes import (
    COMPONENT_LOG_DENSITIES,
    LABEL,
    LOG_DENSITY,
    PROBABILITIES,
    MapPass,
    ScorePass,
)
from ._rules import log_weights
from ._sources import UnfitRow, check_any_weight
from ._structures import STRUCTURES, CovarianceStructure, Params, centred, distance_params
from ._threads import Workers
from ._validation import params_of, unfit_message

Array = NDArray[np.float64]

# An array of results for more rows is not made where it would only be averaged.
_MANY_ROWS = 1 << 22


class MixtureInference(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """All that needs fitted parameters alone."""

    covariance_type: str
    random_state: Any
    n_threads: int | None
    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]
    precisions_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    n_features_in_: int

    @property
    def _structure(self) -> CovarianceStructure:
        return STRUCTURES[self.covariance_type]

    def score_samples(self, X: RowsLike) -> NDArray[Any]:
        """Compute the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithm of the mixture density; -inf where it underflows the range of
            float64 exponents.
        """
        return self._map(X, LOG_DENSITY, self._kernel_params())

    def predict(self, X: RowsLike) -> NDArray[np.int64]:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Component numbers, from 0.
        """
        return self._map(X, LABEL, self._kernel_params())

    def predict_proba(self, X: RowsLike) -> NDArray[Any]:
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_components)
            Rows sum to 1; far from all components a row is 1 at the nearest one.
        """
        return self._map(X, PROBABILITIES, self._kernel_params())

    def component_log_density(self, X: RowsLike) -> NDArray[Any]:
        """Compute the log-density of each row under each component, without the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.

        Returns
        -------
        log_density : ndarray of shape (n_samples, n_components)
            ``log N(x_i | mean_k, covariance_k)``.
        """
        return self._map(X, COMPONENT_LOG_DENSITIES, self._unweighted_params())

    def mahalanobis(self, X: RowsLike) -> NDArray[Any]:
        """Compute the Mahalanobis distance of each row from each component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.

        Returns
        -------
        distance : ndarray of shape (n_samples, n_components)
            ``sqrt((x - mean_k)^T precision_k (x - mean_k))``: standard deviations.
        """
        params = distance_params(self._unweighted_params())
        densities: Any = self._map(X, COMPONENT_LOG_DENSITIES, params)
        if not isinstance(densities, np.ndarray):  # lazy: nothing is there to be overwritten
            lazy: NDArray[Any] = np.sqrt(2.0 * np.abs(densities))
            return lazy
        np.abs(densities, out=densities)  # they are -distance^2 / 2, and -0 at a mean
        densities *= 2.0
        distances: NDArray[Any] = np.sqrt(densities, out=densities)
        return distances

    def score(self, X: RowsLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Compute the mean log-density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows: anything that ``fit`` takes.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How often each row counts in the mean.

        Returns
        -------
        log_likelihood : float
            Natural logarithm, per unit of weight.
        """
        check_is_fitted(self)
        if (
            sample_weight is None
            and isinstance(X, np.ndarray)
            and X.dtype == self.means_.dtype == np.float32
            and len(X) <= _MANY_ROWS
        ):
            # the float32 mean of float32 numbers, like scikit-learn's, to the last digit
            return float(self.score_samples(X).mean())
        total, weight = self._sum(X, sample_weight, LOG_DENSITY)
        return total / weight

    def sample(
        self, n_samples: int = 1, random_state: Any = None
    ) -> tuple[Array, NDArray[np.int64]]:
        """Draw rows from the mixture.

        Parameters
        ----------
        n_samples : int, default=1
            The number of rows.
        random_state : int, RandomState, Generator or None, default=None
            None: the constructor's ``random_state``, with scikit-learn's draws; an int there
            gives the same rows at each call. A ``numpy.random.Generator`` is the fastest.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The rows, grouped by component.
        y : ndarray of shape (n_samples,), int64
            Their components.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least "
                "one sample."
            )
        given = self.random_state if random_state is None else random_state
        rng = given if isinstance(given, np.random.Generator) else check_random_state(given)
        return _sampling.draw(self._params(), self._structure, n_samples, rng)

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a ``.npz`` file that ``fastgmm.load`` reads.

        The file holds arrays and a JSON header, nothing that could run; it is replaced whole or
        not at all.

        Parameters
        ----------
        path : str or Path
            Where to.
        """
        check_is_fitted(self)
        io.save(self, path)

    def _params(self) -> Params:
        """Return the fitted parameters in float64."""
        return params_of(self)

    def _log_weights(self) -> Array:
        """Return what a component's log-density gets added (K,)."""
        return log_weights(np.asarray(self.weights_, dtype=np.float64))

    def _kernel_params(self, log_weight: Array | None = None) -> Any:
        """Return what the kernels read; with the mixture's own weights if none are given."""
        check_is_fitted(self)
        added = self._log_weights() if log_weight is None else log_weight
        return centred(self._structure.kernel_params(self._params(), added))

    def _unweighted_params(self) -> Any:
        check_is_fitted(self)
        return self._kernel_params(np.zeros(len(self.means_)))

    def _map(
        self, X: Any, what: int, params: Any, function: Any = None, *, sample_weight: Any = None
    ) -> NDArray[Any]:
        """Return a result for each row: what the kernels give, or a function of a block's."""
        # a column of weights is no feature
        weight = sample_weight if isinstance(sample_weight, str) else None
        with Workers(self.n_threads) as workers:
            source = open_source(self, X, workers, weight, reset=False)
            dtype = np.result_type(source.dtype, self.means_.dtype)
            task = MapPass(params, what, dtype, function)
            out: NDArray[Any] = self._reported(source.map_rows, task)
        return out

    def _sum(
        self, X: Any, sample_weight: Any, what: int, *functions: Callable[[Array], Array]
    ) -> tuple[float, ...]:
        """Return weighted sums over the rows, one for each function or one, and the weight."""
        params = self._kernel_params()
        with Workers(self.n_threads) as workers:
            source = open_source(self, X, workers, sample_weight, reset=False)
            flat = self._reported(source.reduce, ScorePass(params, what, functions))
        check_any_weight(flat[-1] > 0.0)
        return tuple(flat.tolist())

    def _reported(self, call: Any, task: Any) -> Any:
        try:
            return call(task)
        except UnfitRow as error:
            raise ValueError(unfit_message(error, self)) from None
