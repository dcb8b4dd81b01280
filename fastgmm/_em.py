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

# Of changes of the bound below this float32 tiles know too little to tell when EM has converged.
_FLOAT32_CHANGE = 1e-5


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
    *,
    change: float = np.inf,
) -> SufficientStats:
    """Return the statistics of one pass.

    change : of the bound, in the last pass.
    """
    logs = rule.log_weights(params)
    exact = rule.needs_float64 or abs(change) < _FLOAT32_CHANGE
    dtype = np.dtype(np.float64) if exact else source.dtype
    stats = passes.run(source.reduce, structure.kernel_params(params, logs, scatter, dtype))
    if dtype == np.float32 and not stats.is_finite():
        # rows so far out that something overflowed in float32
        stats = passes.run(source.reduce, structure.kernel_params(params, logs, scatter))
    return stats


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
    bound, change, converged, stats = previous_bound, np.inf, False, None
    passes = EMPasses(source.n_rows, prune=source.shares_memory)
    for number in range(len(bounds) + 1, max_iter + 1):
        began = time.perf_counter()
        stats = gather(source, structure, rule, params, scatter, passes, change=change)
        before, params = params, rule.update(stats)
        previous, bound = bound, rule.bound(stats, before, params)
        bounds.append(bound)
        change = bound - previous
        converged = bool(abs(change) < tol)
        stop = converged
        if observers:
            iteration = Iteration(
                init=run,
                number=number,
                bound=bound,
                change=change,
                seconds=time.perf_counter() - began,
                rows=source.n_rows,
                converged=converged,
                params=params,
            )
            for observer in observers:
                stop |= bool(observer.iteration_ends(iteration))
        if stop:
            break
    return EMResult(params, len(bounds), converged, bounds, stats)
