"""The EM loop: one for every source, covariance structure and update rule."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._observers import Iteration, Observer
from ._passes import ReducePass
from ._pruning import EMPasses
from ._rules import UpdateRule
from ._sources import RowSource
from ._stats import SufficientStats
from ._structures import Params

Array = NDArray[np.float64]

# Of changes of the bound below this float32 tiles know too little to tell when EM has converged.
_FLOAT32_CHANGE = 1e-5


class Standing(NamedTuple):
    """Where a run stands between two iterations: all it needs to go on with the same bits."""

    params: Params
    bounds: Sequence[float] = ()  # one for each iteration so far
    bound: float = -np.inf  # that the next one is compared with
    change: float = np.inf  # by the last iteration
    memory: Mapping[str, Any] = {}  # what passes have learnt from those before them
    lasting: bool = True  # whether the next pass leaves the memory as it is


class EMResult(NamedTuple):
    """Where one run of EM ended."""

    params: Params
    converged: bool
    bounds: list[float]  # one for each iteration
    mass: Array | None  # (K,) that the last pass found

    @property
    def n_iter(self) -> int:
        """Return how many iterations there were."""
        return len(self.bounds)

    @property
    def bound(self) -> float:
        """Return the last bound, -inf before any iteration."""
        return self.bounds[-1] if self.bounds else -np.inf


class Reducible(Protocol):
    """Rows, or a part of them, that statistics are gathered from."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the rows."""

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass."""


def gather(
    source: Reducible,
    rule: UpdateRule,
    params: Params,
    passes: EMPasses,
    *,
    change: float = np.inf,
) -> SufficientStats:
    """Return the statistics of one pass.

    change : of the bound, in the last pass.
    """
    structure, logs = rule.structure, rule.log_weights(params)
    exact = rule.needs_float64 or abs(change) < _FLOAT32_CHANGE
    dtype = np.dtype(np.float64) if exact else source.dtype
    stats = passes.run(source.reduce, structure.kernel_params(params, logs, dtype), rule.scatter)
    if dtype == np.float32 and not stats.is_finite():
        # rows so far out that something overflowed in float32
        stats = passes.run(source.reduce, structure.kernel_params(params, logs), rule.scatter)
    return stats


def report(
    observers: Sequence[Observer],
    standing: Standing,
    *,
    run: int,
    rows: int,
    began: float,
    converged: bool,
) -> bool:
    """Tell observers of the iteration that has just ended.

    began : when the iteration did, by ``time.perf_counter``.

    Return whether one of them asks to stop; the others hear of it all the same.
    """
    iteration = Iteration(
        init=run,
        number=len(standing.bounds),
        bound=standing.bound,
        change=standing.change,
        seconds=time.perf_counter() - began,
        rows=rows,
        converged=converged,
        params=standing.params,
        standing=standing,
    )
    stop = False
    for observer in observers:
        stop |= bool(observer.iteration_ends(iteration))
    return stop


def run_em(
    source: RowSource,
    rule: UpdateRule,
    standing: Standing,
    *,
    tol: float,
    max_iter: int,
    run: int = 0,
    observers: Sequence[Observer] = (),
) -> EMResult:
    """Iterate E and M steps until the bound changes by less than ``tol``.

    The order is scikit-learn's: an E-step with the old parameters, the M-step, then the test, and
    the new parameters are kept.

    standing : where the run begins, or goes on; iterations made before count.

    References
    ----------
    .. [1] A. Dempster, N. Laird and D. Rubin, "Maximum likelihood from incomplete data via the
       EM algorithm", J. R. Statist. Soc. B 39(1), 1977, section 2.
    """
    params, earlier, bound, change, memory, _ = standing
    bounds = list(earlier)
    passes = EMPasses(source.n_rows, prune=source.shares_memory)
    passes.recall(memory)
    converged = bool(abs(change) < tol)
    stop = converged
    while not stop and len(bounds) < max_iter:
        began = time.perf_counter()
        stats = gather(source, rule, params, passes, change=change)
        before, params = params, rule.update(stats)
        previous, bound = bound, rule.bound(stats, before, params)
        bounds.append(bound)
        change = bound - previous
        converged = bool(abs(change) < tol)
        stop = converged
        if observers:
            standing = _standing(params, bounds, change, passes.memory())
            stop |= report(
                observers,
                standing,
                run=run,
                rows=source.n_rows,
                began=began,
                converged=converged,
            )
    return EMResult(params, converged, bounds, passes.mass)


def _standing(
    params: Params, bounds: Sequence[float], change: float, memory: Mapping[str, Any]
) -> Standing:
    # passes write to the keys that rows are sorted by
    lasting = memory["keys"] is None
    return Standing(params, list(bounds), bounds[-1], change, memory, lasting)
