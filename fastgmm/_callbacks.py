"""An estimator's side of scikit-learn's callback protocol, and the bridge to it from the EM loop.

From scikit-learn 1.9 on its own framework drives the callbacks; below, `_callback_driver` calls the
same hooks. The tasks of a fit are ``fit > iteration`` for a single run and
``fit > init > iteration`` for several, so that a progress bar shows no level that says nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ._observers import Iteration, Parameters

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ModuleNotFoundError:  # scikit-learn below 1.9
    from ._callback_driver import CallbackSupportMixin
    from ._callback_driver import with_callbacks as _with_callbacks

__all__ = ["CallbackObserver", "CallbackSupport", "with_callbacks"]

P = ParamSpec("P")
R = TypeVar("R")

# What callbacks leave on an estimator: set by the user, by a meta-estimator, and during a fit.
_CALLBACK_STATE = frozenset(
    {
        "_skl_callbacks",
        "_parent_callback_ctx",
        "_callback_fit_ctx",
        "_skl_callbacks_to_teardown",
        "_em_iteration",
    }
)


def with_callbacks(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate the method that makes a `CallbackObserver`: callbacks are torn down when it is left.

    A callback may raise as late as in its `teardown`. For an estimator to stay as it was, the
    decorated method returns the outcome of the fit and its caller sets the attributes.
    """
    managed: Callable[P, R] = _with_callbacks(method)
    return managed


class CallbackSupport(CallbackSupportMixin):  # type: ignore[misc]
    """Mixin: `set_callbacks`, and pickles and copies free of callbacks.

    A callback may hold scores, sockets and threads: none of it belongs into a model file, so a
    pickle (and with it a copy, and an estimator sent to another process) forgets its callbacks. A
    clone holds no trace of a fit and reports to the same callback objects, as scikit-learn has it:
    that is how a callback set on an estimator inside `GridSearchCV` sees its fits.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: everything but callbacks."""
        state = super().__getstate__() or {}
        return {name: value for name, value in state.items() if name not in _CALLBACK_STATE}

    @property
    def _has_callbacks(self) -> bool:
        """Whether a fit has anyone to report to; also true for callbacks a meta-estimator lent."""
        return bool(getattr(self, "_skl_callbacks", ()))


class CallbackObserver:
    """Observer that passes the events of an EM loop on to the callbacks of an estimator.

    Making one begins the ``fit`` task (setup of the callbacks, then their `on_fit_task_begin`), so
    it is made within a method decorated with `with_callbacks`, once the input is known to be good.
    Without callbacks (`estimator._has_callbacks`) there is no need of one.

    Parameters
    ----------
    estimator : CallbackSupport
        The estimator being fitted.
    X : array-like of shape (n, d)
        The data as the caller gave them: a scorer is called with them.
    y : array-like of shape (n,) or None
        Labels, if the caller gave any. Otherwise callbacks that ask for `y` see n times NaN (a view
        of one number): scikit-learn 1.9's `ScoringMonitor` scores nothing where `y` is None, and a
        score that does need labels then raises instead of comparing with invented ones.
    n_rows : int
        n, which not every kind of data has as its length.
    attributes : callable
        `attributes(params)` returns the fitted attributes that `params` stand for: all that
        `predict` and `score` need beside the constructor's parameters. Called only if a callback
        asks for a fitted estimator.
    n_init, max_iter : int
        How many runs there will be, and how many iterations in each at most.
    sample_weight : array-like of shape (n,) or None, default=None
        Passed to the callbacks as metadata.

    Attributes
    ----------
    stopped : bool
        Whether a callback asked, at the end of a run, for no further runs.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_rows: int,
        attributes: Callable[[Parameters], Mapping[str, Any]],
        n_init: int,
        max_iter: int,
        sample_weight: Any = None,
    ) -> None:
        self.stopped = False
        self._estimator = estimator
        self._attributes = attributes
        self._max_iter = max_iter
        self._single_run = n_init == 1
        self._bounds: list[float] = []
        self._task: Any = None  # the iteration under way
        self._data = {
            "estimator": estimator,
            "X": X,
            "y": np.broadcast_to(np.nan, (n_rows,)) if y is None else y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._root = estimator._init_callback_context(
            max_subtasks=max_iter if self._single_run else n_init
        )
        self._run = self._root
        self._root.call_on_fit_task_begin(**self._data)

    def run_begins(self, init: int) -> None:
        """Open the task of a run, and of its first iteration."""
        self._bounds = []
        if not self._single_run:
            self._run = self._root.subcontext(task_name="init", max_subtasks=self._max_iter)
            self._run.call_on_fit_task_begin(**self._data)
        if self._max_iter > 0:
            self._begin_iteration()

    def iteration_ends(self, iteration: Iteration) -> bool:
        """Close the task of this iteration, and open the next one if there can be one."""
        self._bounds.append(iteration.bound)
        fitted = partial(self._reconstruct, iteration, _em_iteration=iteration)
        stop = bool(self._task.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted))
        self._task = None
        if not (stop or iteration.converged or iteration.number == self._max_iter):
            self._begin_iteration()
        return stop

    def run_ends(self, init: int, iteration: Iteration | None) -> None:
        """Close the task of a run."""
        if self._task is not None:  # the loop stopped for a reason of its own: a task without work
            self._task.call_on_fit_task_end(estimator=self._estimator)
            self._task = None
        if self._single_run:
            return
        fitted = None if iteration is None else partial(self._reconstruct, iteration)
        self.stopped |= bool(
            self._run.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted)
        )

    def fit_ends(self, attributes: Mapping[str, Any]) -> None:
        """Close the root task; `attributes` are those the estimator is about to get."""
        self._root.call_on_fit_task_end(**self._data, reconstruction_attributes=dict(attributes))

    def _begin_iteration(self) -> None:
        self._task = self._run.subcontext(task_name="iteration")
        self._task.call_on_fit_task_begin(**self._data)

    def _reconstruct(self, iteration: Iteration, **private: Any) -> dict[str, Any]:
        """Attributes of the estimator as if its fit had ended with this iteration."""
        return {
            **self._attributes(iteration.params),
            "n_iter_": iteration.number,
            "converged_": iteration.converged,
            "lower_bound_": iteration.bound,
            "lower_bounds_": list(self._bounds),
            **private,
        }
