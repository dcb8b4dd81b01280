"""The EM loop: one for every source, covariance structure and update rule."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._observers import Iteration, Observer
from ._passes import ReducePass
from ._pruning import EMPasses
from ._rules import UpdateRule
from ._sources import RowSource
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]


class EMResult(NamedTuple):
    """Where one run of EM ended."""

    params: Params
    n_iter: int
    converged: bool
    bounds: list[float]  # one for each iteration
    last_stats: SufficientStats | None  # of the last pass

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
    structure: CovarianceStructure,
    rule: UpdateRule,
    params: Params,
    scatter: Scatter | None,
    passes: EMPasses,
) -> SufficientStats:
    """Return the statistics of one pass."""
    logs = rule.log_weights(params)
    dtype = np.dtype(np.float64) if rule.needs_float64 else source.dtype
    stats = passes.run(source.reduce, structure.kernel_params(params, logs, scatter, dtype))
    if dtype == np.float32 and not stats.is_finite():
        # rows so far out that something overflowed in float32
        stats = passes.run(source.reduce, structure.kernel_params(params, logs, scatter))
    return stats


def report(
    observers: Sequence[Observer],
    params: Params,
    bounds: Sequence[float],
    *,
    change: float,
    run: int,
    rows: int,
    began: float,
    converged: bool,
) -> bool:
    """Tell observers of the iteration that has just led to these parameters.

    bounds : of all iterations of the run so far.
    began : when the iteration did, by ``time.perf_counter``.

    Return whether one of them asks to stop; the others hear of it all the same.
    """
    if not observers:
        return False
    iteration = Iteration(
        init=run,
        number=len(bounds),
        bound=bounds[-1],
        change=change,
        seconds=time.perf_counter() - began,
        rows=rows,
        converged=converged,
        params=params,
    )
    stop = False
    for observer in observers:
        stop |= bool(observer.iteration_ends(iteration))
    return stop


def run_em(
    source: RowSource,
    structure: CovarianceStructure,
    rule: UpdateRule,
    params: Params,
    *,
    tol: float,
    max_iter: int,
    scatter: Scatter | None = None,
    previous_bound: float = -np.inf,
    run: int = 0,
    observers: Sequence[Observer] = (),
    earlier: Sequence[float] = (),
) -> EMResult:
    """Iterate E and M steps until the bound changes by less than ``tol``.

    The order is scikit-learn's: an E-step with the old parameters, the M-step, then the test, and
    the new parameters are kept.

    earlier : bounds of iterations made before, which count.

    References
    ----------
    .. [1] A. Dempster, N. Laird and D. Rubin, "Maximum likelihood from incomplete data via the
       EM algorithm", J. R. Statist. Soc. B 39(1), 1977, section 2.
    """
    bounds = list(earlier)
    bound, converged, stats = previous_bound, False, None
    passes = EMPasses(source.n_rows, prune=source.shares_memory)
    while len(bounds) < max_iter:
        began = time.perf_counter()
        stats = gather(source, structure, rule, params, scatter, passes)
        before, params = params, rule.update(stats)
        previous, bound = bound, rule.bound(stats, before, params)
        bounds.append(bound)
        change = bound - previous
        converged = bool(abs(change) < tol)
        stop = report(
            observers,
            params,
            bounds,
            change=change,
            run=run,
            rows=source.n_rows,
            began=began,
            converged=converged,
        )
        if stop or converged:
            break
    return EMResult(params, len(bounds), converged, bounds, stats)
