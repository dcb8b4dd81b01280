"""What an EM loop tells whoever watches it.

The loop knows observers only by this protocol; verbose output and callbacks are two of them. With
no observers it builds no `Iteration`.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Iteration", "Observer", "Parameters"]


class Parameters(Protocol):
    """Parameters of a mixture; any named tuple with these fields will do."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Mixing proportions, shape (K,)."""
        ...

    @property
    def means(self) -> NDArray[np.float64]:
        """Component means, shape (K, d)."""
        ...

    @property
    def covariances(self) -> NDArray[np.float64]:
        """Covariances in the shape of their type."""
        ...


class Iteration(NamedTuple):
    """One EM iteration that has just ended.

    Attributes
    ----------
    init : int
        Which of the `n_init` runs, from 0.
    number : int
        Iteration in this run, from 1.
    bound : float
        What the fit raises: the mean log-likelihood per (weighted) row, evaluated before this
        iteration's M-step (with the prior's log-density, if there is one), or the variational
        lower bound.
    change : float
        `bound` minus the bound before it (inf at first).
    seconds : float
        Wall time of this iteration.
    rows : int
        Rows of the data set.
    converged : bool
        Whether this iteration met the stopping rule.
    params : Parameters
        The parameters after this iteration's M-step: float64 copies that nobody changes afterwards.
    standing : Standing
        Where the run stands now, with all it needs to go on from here; see ``_em``.
    """

    init: int
    number: int
    bound: float
    change: float
    seconds: float
    rows: int
    converged: bool
    params: Parameters
    standing: Any = None


class Observer(Protocol):
    """Whoever watches an EM fit.

    Each run calls `run_begins` (before its start is computed), `iteration_ends` after every
    iteration, and `run_ends`. A run that raises is not ended.
    """

    def run_begins(self, init: int) -> None:
        """Run number `init` is about to compute its starting parameters."""
        ...

    def iteration_ends(self, iteration: Iteration) -> bool:
        """Take note of an iteration; True asks to stop this run (which has then not converged).

        All observers hear of every iteration, also when one before them asked to stop.
        """
        ...

    def run_ends(self, init: int, iteration: Iteration | None, seconds: float) -> None:
        """Take note of the end of a run; `iteration` is its last (None if there was none)."""
        ...
