"""Fitting a mixture, whatever its estimation principle: a transaction around the runs of EM."""

import os
from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ._callbacks import CallbackObserver, CallbackSupport, with_callbacks
from ._checkpoint import Checkpoint, kept
from ._em import Standing
from ._inference import MixtureInference
from ._initialise import total_weight
from ._multistart import Outcome, RuleMaker, Settings, fit_best_of
from ._observers import Observer
from ._opening import RowsLike, open_source
from ._passes import LABEL
from ._rules import UpdateRule
from ._sources import RowSource, UnfitRow
from ._structures import IllDefinedCovariance
from ._threads import Workers
from ._validation import (
    ill_defined_message,
    unfit_message,
)
from ._verbose import VerboseObserver
from ._warnings import FitWarning, diagnose, warn

NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase "
    "max_iter, tol, or check for degenerate data."
)
FEW_CLUSTERS = (
    "Number of distinct clusters ({}) found smaller than n_clusters ({}). Possibly due to "
    "duplicate points in X."
)
_INPUT_ATTRIBUTES = ("n_features_in_", "feature_names_in_")  # set by scikit-learn's validation

# Fitted attributes that the next fit may not have.
_PASSING_ATTRIBUTES = ("feature_names_in_", "first_rows_", "first_weights_")


class BaseMixture(CallbackSupport, MixtureInference):
    """Fitting as a transaction, on top of what a fitted mixture answers."""

    n_components: int
    tol: float
    reg_covar: float
    max_iter: int
    n_init: int
    init_params: str
    init_size: int | None
    warm_start: bool
    verbose: int
    verbose_interval: int
    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({"kmeans", "random", "random_from_data", "k-means++"})],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: RowsLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        resume: bool = False,
    ) -> Self:
        """Estimate the parameters by EM.

        Runs EM ``n_init`` times and keeps the run with the largest bound. Whatever goes wrong,
        the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows. Arrays of any layout, and memory-mapped ones, are read block by block and
            never copied whole. So are HDF5 data sets, Zarr arrays, pyarrow tables and data sets,
            pandas and polars data frames; the path of a ``.npy`` file, a ``.parquet`` file or a
            folder of such; `Parquet` and `Batches`. The result has the same bits for all of them.
            Up to 64 MB are read once and kept. Dask arrays and data frames stay on the workers
            of the current client, one task a pass for each chunk; what ``predict`` and the like
            return for them is lazy.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How often each row counts, non-negative; or the name of a column of X, which is then
            no feature; or a 1-D Dask array with the row chunks of a Dask X. From a given start
            (``weights_init``, ``means_init`` and ``precisions_init``) a weight of 2 is the row
            twice and a weight of 0 no row at all, to rounding; rows of weight 0 are never chosen
            as seeds.
        checkpoint : path-like or Checkpoint, default=None
            A file to write now and then (every 30 seconds or so; see `Checkpoint`), from which
            ``resume=True`` goes on, should the fit be cut short. Ctrl-C and errors write it, too,
            where that is quick.
        resume : bool, default=False
            Whether to go on from the file, if it is there. The same call ends with the same bits
            as if it had never been cut short. See the notes on what may be changed.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or the weights hold NaN, infinities or the wrong shape; if there are fewer rows
            than components; if a covariance is not positive definite; if a source holds other
            rows when it is read again; if the checkpoint is damaged, or of other data or
            parameters.
        TypeError
            If X is an iterator, which could be read only once.
        ImportError
            If reading X needs a library that is not installed.
        OSError
            If a file cannot be read, or the disk has no room for a temporary file: finding a
            start from all of up to 2**22 rows may need one (see ``init_size``). If the checkpoint
            cannot be written; the one before it is left as it was. If it would overwrite the
            checkpoint of a fit that has not ended, or another file (FileExistsError).

        Warns
        -----
        ConvergenceWarning
            If the best run did not converge.
        FitWarning
            If components are nearly empty or held up by ``reg_covar``, columns are constant, or
            the bound decreased.

        Notes
        -----
        *Checkpoints.* The file holds parameters, bounds and random state, the best run so far, and
        what tells whether data and parameters are the same: sizes, the sum of weights, digests of
        the first rows and of a sample (streams: of the first rows alone). It stays when the fit has
        ended: ``resume=True`` then returns the result without a pass, and ``resume=False`` may
        overwrite it. ``tol``, ``max_iter`` and ``n_init`` may be changed before going on; they
        count for what is still to do, so that a fit that ended at ``max_iter`` goes on with a
        larger one. So may ``n_threads`` and ``verbose``, and the kind of the source, if its rows
        are the same. With ``random_state=None`` the draws of the first call are gone on with.
        """
        return self._as_a_whole(type(self)._fit, X, y, sample_weight, checkpoint, resume)

    def _as_a_whole(self, fitting: Callable[..., dict[str, Any]], *arguments: Any) -> Self:
        """Set the attributes that a way of fitting returns; if it raises, none.

        A twin is fitted: several threads may fit one estimator, and what goes wrong stays there.
        """
        twin = object.__new__(type(self))  # copy.copy would leave the callbacks behind
        twin.__dict__.update(self.__dict__)
        attributes = fitting(twin, *arguments)
        for name in _PASSING_ATTRIBUTES:
            self.__dict__.pop(name, None)
        seen = {name: value for name, value in vars(twin).items() if name in _INPUT_ATTRIBUTES}
        self.__dict__.update(seen, **attributes)
        return self

    def fit_predict(
        self, X: RowsLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Estimate the parameters and return the component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows, as in ``fit``.
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
        return fitted._map(X, LABEL, fitted._kernel_params(), sample_weight=sample_weight)

    @with_callbacks
    def _fit(
        self, X: Any, y: Any, sample_weight: Any, checkpoint: Any, resume: bool
    ) -> dict[str, Any]:
        """Return the fitted attributes."""
        with Workers(self.n_threads) as workers, ExitStack() as at_the_end:
            source = open_source(self, X, workers, sample_weight, reset=True)
            if source.n_counted < self.n_components:
                raise ValueError(
                    "Expected n_samples >= n_components "
                    f"but got n_components = {self.n_components}, n_samples = {source.n_counted}"
                )
            settings = self._settings(source.n_features)
            warm = self._warm_start(source.n_features)
            dtype = self._fitted_dtype(source.dtype)
            attributes_of = self._attributes_in(dtype)
            observers: list[Observer] = []
            told = None
            if self.verbose:
                told = VerboseObserver(self.verbose, self.verbose_interval)
                workers.watch = told.rows_done
                at_the_end.callback(told.close)
                observers.append(told)
            callbacks = None
            if self._has_callbacks:
                callbacks = CallbackObserver(
                    self,
                    X,
                    y if y is not None else np.broadcast_to(np.nan, (source.n_rows,)),
                    attributes=attributes_of,
                    n_init=1 if warm else self.n_init,
                    max_iter=self.max_iter,
                    sample_weight=sample_weight,
                )
                observers.append(callbacks)
            try:
                with kept(checkpoint, resume, self, source, warm) as (course, note):
                    rng = check_random_state(self.random_state)
                    if course is not None:
                        if told is not None:
                            done = () if course.standing is None else course.standing.bounds
                            told.goes_on(course.run, len(done))
                        if self.random_state is None:  # leave the draws of others alone
                            rng = np.random.RandomState()
                    outcome = fit_best_of(
                        source, settings, rng, warm, observers, course=course, note=note
                    )
                source.check_finite()
            except UnfitRow as error:
                raise ValueError(unfit_message(error, self)) from None
            except IllDefinedCovariance:
                raise ValueError(ill_defined_message(source.dtype)) from None
            self._warn(source, outcome)
            attributes = {
                **attributes_of(outcome.best.params),
                "n_samples_seen_": total_weight(source),
                "n_batches_seen_": 0,
                **self._rule_attributes(outcome.rule),
                "converged_": outcome.best.converged,
                "n_iter_": outcome.best.n_iter,
                "lower_bound_": dtype.type(outcome.best.bound),
                "lower_bounds_": [dtype.type(bound) for bound in outcome.best.bounds],
            }
            if callbacks is not None:
                callbacks.fit_ends(attributes)
        return attributes

    def _settings(self, n_features: int) -> Settings:
        """Return all that governs the fit, checked."""
        if self.init_size is not None and self.init_size < self.n_components:
            raise ValueError(
                f"init_size={self.init_size} is smaller than n_components={self.n_components}: a "
                "start needs at least one row for each component."
            )
        return Settings(
            n_components=self.n_components,
            structure=self._structure,
            make_rule=self._rule_maker(n_features),
            tol=self.tol,
            max_iter=self.max_iter,
            n_init=self.n_init,
            init_params=self.init_params,
            init_size=self.init_size,
            n_groups=getattr(self, "incremental_groups", 1),
        )

    @abstractmethod
    def _rule_maker(self, n_features: int) -> RuleMaker:
        """Check what is given to the estimation principle, and return what makes its rule."""

    def _rule_attributes(self, rule: UpdateRule) -> dict[str, Any]:
        """Return the fitted attributes that the rule itself holds."""
        return {}

    def _fitted_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of the fitted attributes, for rows of a type."""
        return dtype

    def _warm_start(self, n_features: int) -> Standing | None:
        """Return where a warm start goes on from, if it does."""
        if not (self.warm_start and hasattr(self, "converged_")):
            return None
        shape = (self.n_components, n_features)
        if self.means_.shape != shape or self.covariances_.shape != self._structure.shape(*shape):
            raise ValueError(
                f"warm_start=True cannot go on from means of shape {self.means_.shape} to "
                f"{shape[0]} components of covariance_type={self.covariance_type!r} with "
                f"{shape[1]} features. Set warm_start=False to start anew."
            )
        return Standing(self._params(), bound=float(self.lower_bound_))

    def _attributes_in(self, dtype: np.dtype[Any]) -> Any:
        """Return the function that makes fitted attributes of this dtype from parameters."""
        structure = self._structure

        def attributes(params: Any) -> dict[str, Any]:
            factors = params.precisions_cholesky
            arrays = {
                "weights_": params.weights,
                "means_": params.means,
                "covariances_": params.covariances,
                "precisions_": structure.precisions(factors),
                "precisions_cholesky_": factors,
            }
            return {name: np.array(array, dtype, order="C") for name, array in arrays.items()}

        return attributes

    def _warn(self, source: RowSource, outcome: Outcome) -> None:
        for found in outcome.n_distinct:
            if found < self.n_components:
                text = FEW_CLUSTERS.format(found, self.n_components)
                warn(text, ConvergenceWarning)
        if not outcome.best.converged and self.max_iter > 0:
            warn(NOT_CONVERGED, ConvergenceWarning)
        for text in diagnose(source, outcome.rule, outcome.best):
            warn(text, FitWarning)
