"""What every mixture estimator does the same way, whatever its estimation principle."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _sampling, io
from ._callbacks import CallbackSupport
from ._em import log_weights
from ._passes import (
    COMPONENT_LOG_DENSITIES,
    LABEL,
    LOG_DENSITY,
    PROBABILITIES,
    MapPass,
    ScorePass,
)
from ._sources import ArraySource, UnfitRow
from ._structures import STRUCTURES, CovarianceStructure
from ._threads import Workers
from ._validation import (
    check_rows,
    check_sample_weight,
    params_of,
    unfit_message,
)

Array = NDArray[np.float64]

_INPUT_ATTRIBUTES = ("n_features_in_", "feature_names_in_")  # set by scikit-learn's validation


class BaseMixture(CallbackSupport, DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Fitting as a transaction, and all that needs fitted parameters alone."""

    covariance_type: str
    random_state: Any
    n_threads: int | None
    weights_: NDArray[Any]
    means_: NDArray[Any]
    covariances_: NDArray[Any]
    precisions_: NDArray[Any]
    precisions_cholesky_: NDArray[Any]
    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]
    n_features_in_: int

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the parameters by EM.

        Runs EM ``n_init`` times and keeps the run with the largest bound. Whatever goes wrong,
        the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows. Arrays of any layout, and memory-mapped ones, are read block by block and
            never copied whole.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, non-negative. From a given start (``weights_init``,
            ``means_init`` and ``precisions_init``) a weight of 2 is the row twice and a weight
            of 0 no row at all, to rounding; rows of weight 0 are never chosen as seeds.

        Returns
        -------
        self : GaussianMixture
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or the weights hold NaN, infinities or the wrong shape; if there are fewer rows
            than components; if a covariance is not positive definite.

        Warns
        -----
        ConvergenceWarning
            If the best run did not converge.
        FitWarning
            If components are nearly empty or held up by ``reg_covar``, columns are constant, or
            the likelihood decreased.
        """
        # A twin is fitted: several threads may fit one estimator, and what goes wrong stays there.
        twin = object.__new__(type(self))  # copy.copy would leave the callbacks behind
        twin.__dict__.update(self.__dict__)
        attributes = twin._fit(X, y, sample_weight)
        self.__dict__.pop("feature_names_in_", None)
        seen = {name: value for name, value in vars(twin).items() if name in _INPUT_ATTRIBUTES}
        self.__dict__.update(seen, **attributes)
        return self

    def fit_predict(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Estimate the parameters and return the component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts; see ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            What ``predict`` returns for X after the fit.
        """
        fitted: Self = self.fit(X, y, sample_weight)
        return fitted.predict(X)

    @abstractmethod
    def _fit(self, X: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        """Return the fitted attributes; setting them is left to ``fit``."""

    @property
    def _structure(self) -> CovarianceStructure:
        return STRUCTURES[self.covariance_type]

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """Compute the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithm of the mixture density; -inf where it underflows the range of
            float64 exponents.
        """
        return self._map(X, LOG_DENSITY)

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Component numbers, from 0.
        """
        return self._map(X, LABEL)

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_components)
            Rows sum to 1; far from all components a row is 1 at the nearest one.
        """
        return self._map(X, PROBABILITIES)

    def component_log_density(self, X: ArrayLike) -> NDArray[Any]:
        """Compute the log-density of each row under each component, without the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples, n_components)
            ``log N(x_i | mean_k, covariance_k)``.
        """
        return self._map(X, COMPONENT_LOG_DENSITIES, log_weight=np.zeros(self._n_fitted()))

    def mahalanobis(self, X: ArrayLike) -> NDArray[Any]:
        """Compute the Mahalanobis distance of each row from each component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        distance : ndarray of shape (n_samples, n_components)
            ``sqrt((x - mean_k)^T precision_k (x - mean_k))``: standard deviations.
        """
        densities = self._map(X, COMPONENT_LOG_DENSITIES, log_weight=None)
        np.abs(densities, out=densities)  # they are -distance^2 / 2, and -0 at a mean
        densities *= 2.0
        distances: NDArray[Any] = np.sqrt(densities, out=densities)
        return distances

    def score(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Compute the mean log-density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts in the mean.

        Returns
        -------
        log_likelihood : float
            Natural logarithm, per unit of weight.
        """
        check_is_fitted(self)
        if sample_weight is None and getattr(X, "dtype", None) == self.means_.dtype == np.float32:
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
        return _sampling.draw(params_of(self), self._structure, n_samples, rng)

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

    def _n_fitted(self) -> int:
        check_is_fitted(self)
        return len(self.means_)

    def _kernel_params(self, log_weight: Array) -> Any:
        return self._structure.kernel_params(params_of(self), log_weight, None)

    def _map(
        self, X: Any, what: int, log_weight: Array | str | None = "own", function: Any = None
    ) -> NDArray[Any]:
        """Return a result for each row; ``log_weight`` None: bare squares, without constants."""
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False)
        with Workers(self.n_threads) as workers:
            source = ArraySource(rows, workers)
            dtype = np.result_type(source.dtype, self.means_.dtype)
            task = self._row_task(what, dtype, log_weight, function)
            out: NDArray[Any] = self._reported(source.map_rows, task)
        return out

    def _row_task(
        self, what: int, dtype: Any, log_weight: Array | str | None = "own", function: Any = None
    ) -> MapPass:
        """Return the pass that makes results of this dtype from rows."""
        return MapPass(self._params_with(log_weight), what, dtype, function)

    def _params_with(self, log_weight: Array | str | None) -> Any:
        if isinstance(log_weight, str):
            return self._kernel_params(log_weights(np.asarray(self.weights_, dtype=np.float64)))
        if log_weight is not None:
            return self._kernel_params(log_weight)
        params = self._kernel_params(np.zeros(len(self.means_)))
        zeros = np.zeros(len(self.means_))
        zeros.flags.writeable = False
        return params._replace(constants=zeros)

    def _sum(
        self, X: Any, sample_weight: Any, what: int, function: Any = None
    ) -> tuple[float, float]:
        """Return a weighted sum over the rows, and the weight."""
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False)
        weights = check_sample_weight(sample_weight, len(rows))
        with Workers(self.n_threads) as workers:
            source = ArraySource(rows, workers, weights)
            flat = self._reported(
                source.reduce, ScorePass(self._params_with("own"), what, function)
            )
        return float(flat[0]), float(flat[1])

    def _reported(self, call: Any, task: Any) -> Any:
        try:
            return call(task)
        except UnfitRow as error:
            raise ValueError(unfit_message(error, type(self).__name__)) from None
