"""`History`: a callback that keeps the numbers of every EM iteration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["History", "IterationRecord"]

_NUMBERS = ("init", "iteration", "bound", "change", "seconds")
_PARAMETERS = ("weights", "means", "covariances")


@dataclass(frozen=True, slots=True, eq=False)
class IterationRecord:
    """What `History` keeps of one iteration.

    Attributes
    ----------
    init : int
        Which of the `n_init` runs, from 0.
    iteration : int
        Iteration in this run, from 1.
    bound : float
        What the fit raises, as in `lower_bounds_`: for `GaussianMixture` the mean log-likelihood
        per row before this iteration's M-step, and its prior's log-density if it has one.
    change : float
        `bound` minus the bound before it; inf at first.
    seconds : float
        Wall time of the iteration.
    weights, means, covariances : ndarray of float64 or None
        Parameters after this iteration's M-step, shapes as `weights_`, `means_`, `covariances_`;
        None with ``keep_parameters=False``.
    covariance_type : str or None
        What the covariances have in common, as in the mixture's constructor.
    """

    init: int
    iteration: int
    bound: float
    change: float
    seconds: float
    weights: NDArray[np.float64] | None = None
    means: NDArray[np.float64] | None = None
    covariances: NDArray[np.float64] | None = None
    covariance_type: str | None = None


class History:
    """Callback that records every EM iteration of a fit.

    Set it on the mixture itself, not on a pipeline or a search around it.

    Parameters
    ----------
    keep_parameters : bool, default=True
        Keep a copy of every iteration's weights, means and covariances, not the numbers alone.

    Attributes
    ----------
    records : list of IterationRecord
        One per iteration, in order. Each has `init` (which of the `n_init` runs, from 0),
        `iteration` (from 1), `bound`, `change`, `seconds`, `weights`, `means`, `covariances` and
        `covariance_type`.
    bounds : ndarray of shape (n_records,)
        The bounds alone.

    Notes
    -----
    Every fit starts anew. Several fits may share one history, one after the other or at once, as
    the clones in a cross-validation do: each fills records of its own, and those of the fit that
    began last are shown. Fits in other processes are not recorded.

    The numbers come by the callback protocol's own way: at the end of an iteration the mixture can
    make a `fitted_estimator`, as if fit had stopped there, and this callback asks for it. Other
    callbacks find in it the parameters, `n_iter_`, `lower_bound_`, `lower_bounds_`, `converged_`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture, History
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(6.0, size=(300, 2))])
    >>> history = History()
    >>> model = GaussianMixture(2, random_state=0).set_callbacks(history).fit(X)
    >>> len(history) == model.n_iter_
    True
    >>> history.records[-1].means.shape
    (2, 2)
    >>> bool(np.all(history.bounds == model.lower_bounds_))
    True
    """

    def __init__(self, *, keep_parameters: bool = True) -> None:
        self.keep_parameters = keep_parameters
        self.records: list[IterationRecord] = []
        # Fits under way, by the context of their root task.
        self._open: dict[Any, list[IterationRecord]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __bool__(self) -> bool:
        return True  # an empty history is a callback all the same

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Bound of each recorded iteration, shape (n_records,)."""
        return np.array([record.bound for record in self.records], dtype=np.float64)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the records as one array per field.

        Returns
        -------
        dict of str to ndarray
            ``init``, ``iteration`` (integers), ``bound``, ``change``, ``seconds``: (n_records,);
            unless ``keep_parameters=False`` also ``weights`` (n_records, K), ``means``
            (n_records, K, d) and ``covariances`` (n_records, ...).
        """
        integers = ("init", "iteration")
        table: dict[str, NDArray[Any]] = {
            name: np.array(
                [getattr(record, name) for record in self.records],
                dtype=np.int64 if name in integers else np.float64,
            )
            for name in _NUMBERS
        }
        if self.keep_parameters:
            for name in _PARAMETERS:
                table[name] = np.array([getattr(record, name) for record in self.records])
        return table

    def to_frame(self) -> Any:
        """Return the numbers (without the parameters) as a pandas data frame.

        Returns
        -------
        pandas.DataFrame
            Columns ``init``, ``iteration``, ``bound``, ``change``, ``seconds``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "History.to_frame needs pandas, which is not installed; to_dict does without."
            ) from error
        table = self.to_dict()
        return pd.DataFrame({name: table[name] for name in _NUMBERS})

    # The hooks of scikit-learn's FitCallback protocol.

    def setup(self, estimator: Any, context: Any) -> None:
        """Start anew."""
        self.records = self._open[context] = []

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: a task is recorded at its end."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Record the iteration that has ended, if this task is one; never asks to stop."""
        iteration = getattr(fitted_estimator, "_em_iteration", None)
        while context is not None and context not in self._open:
            context = context.parent
        if iteration is None or context is None:
            return False
        kept = {}
        if self.keep_parameters:
            kept = {name: np.array(getattr(iteration.params, name)) for name in _PARAMETERS}
        self._open[context].append(
            IterationRecord(
                init=iteration.init,
                iteration=iteration.number,
                bound=iteration.bound,
                change=iteration.change,
                seconds=iteration.seconds,
                covariance_type=getattr(estimator, "covariance_type", None),
                **kept,
            )
        )
        return False

    def teardown(self, estimator: Any, context: Any) -> None:
        """Forget the fit's tasks; the records stay."""
        self._open.pop(context, None)
