"""A small driver of scikit-learn 1.9's callback hooks, for scikit-learn versions below 1.9.

Same names, same hook signatures, same order of calls: a callback written for one runs under the
other. Left out is what only meta-estimators need: before 1.9 these hand no callbacks on.
"""

import copy
import functools
import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

__all__ = ["CallbackContext", "CallbackSupportMixin", "FitCallback", "with_callbacks"]

P = ParamSpec("P")
R = TypeVar("R")

_HOOK_PARAMETERS = ["X", "y", "metadata", "fitted_estimator"]


@runtime_checkable
class FitCallback(Protocol):
    """What a callback has to offer; scikit-learn documents the arguments."""

    def setup(self, estimator: Any, context: Any) -> None:
        """Prepare for a fit."""
        ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Note that a task of the fit begins; may ask for more by keyword-only arguments."""
        ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool | None:
        """Note that a task of the fit has ended; True asks to stop this level of iterations."""
        ...

    def teardown(self, estimator: Any, context: Any) -> None:
        """Clean up after a fit, whether it went well or not."""
        ...


class CallbackContext:
    """A task of a fit, in the tree of its tasks.

    Attributes
    ----------
    task_name, estimator_name : str
    task_id : int
        Position among the siblings, from 0.
    max_subtasks : int or None
        How many children there can be; 0 for a leaf, None if unknown.
    sequential_subtasks : bool
        Always True here.
    parent : CallbackContext or None
    root_uuid : uuid.UUID
        One for the whole tree.
    init_time : datetime.datetime
        In UTC.
    source_estimator_name, source_task_name : None
        Only scikit-learn's meta-estimators fill them, from 1.9 on.
    """

    sequential_subtasks = True
    source_estimator_name = None
    source_task_name = None

    def __init__(
        self,
        callbacks: list[Any],
        estimator_name: str,
        *,
        task_name: str,
        max_subtasks: int | None,
        task_id: int = 0,
        parent: "CallbackContext | None" = None,
    ) -> None:
        self._callbacks = callbacks
        self._children: list[CallbackContext] = []
        self.estimator_name = estimator_name
        self.task_name = task_name
        self.task_id = task_id
        self.max_subtasks = max_subtasks
        self.parent = parent
        self.root_uuid: uuid.UUID = uuid.uuid4() if parent is None else parent.root_uuid
        self.init_time = datetime.now(UTC)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(estimator_name={self.estimator_name!r}, "
            f"task_name={self.task_name!r}, task_id={self.task_id})"
        )

    def __iter__(self) -> Iterator["CallbackContext"]:
        yield self
        for child in self._children:
            yield from child

    def subcontext(self, task_name: str = "", max_subtasks: int | None = 0) -> "CallbackContext":
        """Open the next subtask of this task."""
        task_id = len(self._children)
        if self.max_subtasks is not None and task_id >= self.max_subtasks:
            raise ValueError(f"{self!r} already has its {self.max_subtasks} subtasks.")
        child = CallbackContext(
            self._callbacks,
            self.estimator_name,
            task_name=task_name,
            max_subtasks=max_subtasks,
            task_id=task_id,
            parent=self,
        )
        self._children.append(child)
        return child

    def call_on_fit_task_begin(self, *, estimator: Any, **data: Any) -> "CallbackContext":
        """Call the callbacks' `on_fit_task_begin`."""
        self._call_hooks("on_fit_task_begin", estimator, data)
        return self

    def call_on_fit_task_end(self, *, estimator: Any, **data: Any) -> bool:
        """Call the callbacks' `on_fit_task_end`; True if any of them asked to stop."""
        return self._call_hooks("on_fit_task_end", estimator, data)

    def _call_hooks(self, name: str, estimator: Any, data: dict[str, Any]) -> bool:
        """Call a hook of each callback with what it asks for, each argument built at most once."""
        built: dict[str, Any] = {}
        stop = False
        for callback in self._callbacks:
            hook = getattr(callback, name)
            wanted = _keyword_only(hook)
            if unknown := set(wanted) - set(_HOOK_PARAMETERS):
                raise TypeError(
                    f"Hook {name} of the callback {type(callback).__name__} has parameters that "
                    f"are not valid: {unknown}. The valid parameters are: {_HOOK_PARAMETERS}."
                )
            for key in wanted:
                if key not in built:
                    built[key] = _build(key, estimator, data)
            # All callbacks are called, also after one that asked to stop.
            stop |= bool(hook(estimator, self, **{key: built[key] for key in wanted}))
        return stop


def _keyword_only(hook: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(hook).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _build(key: str, estimator: Any, data: dict[str, Any]) -> Any:
    """Value of a hook's argument; a callable stands for what it returns."""
    value = data.get("reconstruction_attributes" if key == "fitted_estimator" else key)
    if callable(value):
        value = value()
    if key != "fitted_estimator" or value is None:
        return value
    twin = copy.copy(estimator)
    for name, attribute in value.items():
        setattr(twin, name, attribute)
    return twin


class CallbackSupportMixin:
    """Lets an estimator take callbacks; the stand-in for scikit-learn 1.9's class of this name."""

    def set_callbacks(self, *callbacks: Any) -> Any:
        """Set callbacks for the estimator.

        Parameters
        ----------
        *callbacks : callback instances
            Objects that follow the `FitCallback` protocol; none removes those set before.

        Returns
        -------
        self : estimator instance

        Raises
        ------
        TypeError
            If one of them does not follow the protocol.
        """
        # A class has the methods too, but is no callback.
        if not all(isinstance(c, FitCallback) and not isinstance(c, type) for c in callbacks):
            raise TypeError("callbacks must be instances following the FitCallback protocol.")
        self.__dict__.pop("_skl_callbacks", None)
        if callbacks:
            self._skl_callbacks = list(callbacks)
        return self

    def _init_callback_context(
        self, task_name: str = "fit", max_subtasks: int | None = 0
    ) -> CallbackContext:
        """Open the root task of a fit and set up the callbacks."""
        callbacks: list[Any] = getattr(self, "_skl_callbacks", [])
        self._callback_fit_ctx = CallbackContext(
            callbacks, type(self).__name__, task_name=task_name, max_subtasks=max_subtasks
        )
        # Only a callback whose setup was begun is torn down.
        self._skl_callbacks_to_teardown: list[Any] = []
        for callback in callbacks:
            self._skl_callbacks_to_teardown.append(callback)
            callback.setup(estimator=self, context=self._callback_fit_ctx)
        return self._callback_fit_ctx

    def __sklearn_clone__(self) -> Any:
        # As from scikit-learn 1.9 on: a clone reports to the same callbacks.
        twin = super().__sklearn_clone__()  # type: ignore[misc]
        if hasattr(self, "_skl_callbacks"):
            twin._skl_callbacks = self._skl_callbacks
        return twin


@contextmanager
def _callbacks_torn_down(estimator: Any) -> Iterator[None]:
    """Call every `teardown` that is due, whatever happens in between."""
    try:
        yield
    finally:
        context = estimator.__dict__.pop("_callback_fit_ctx", None)
        errors: list[Exception] = []
        for callback in estimator.__dict__.pop("_skl_callbacks_to_teardown", ()):
            try:
                callback.teardown(estimator=estimator, context=context)
            except Exception as error:  # the other callbacks still have to be torn down
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("The following callback teardown errors occurred", errors)


def with_callbacks(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a method that opens a callback context so that callbacks are always torn down."""

    @functools.wraps(method)
    def managed(*args: P.args, **kwargs: P.kwargs) -> R:
        with _callbacks_torn_down(args[0]):
            return method(*args, **kwargs)

    return managed
