"""Incremental EM: rows in groups, and an M-step after each group instead of after all rows.

Each group's statistics are kept, so that its new ones can take the place of the old ones in the
sum that the M-step sees.  What grows is the free energy ``F``, a lower bound of the log-likelihood:
the expected log-likelihood of rows and components under the kept responsibilities, plus their
entropy.  Both are functions of statistics: an E-step makes ``F`` of its group the log-likelihood,
so the entropy is that less the expected log-likelihood, both under the E-step's parameters.
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._em import EMResult, gather, run_em
from ._observers import Iteration, Observer
from ._passes import ReducePass
from ._pruning import EMPasses
from ._rules import MaximumLikelihood, log_weights
from ._sources import ArraySource, RowSource
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]

MOST_GROUPS = 64  # whose statistics are kept


class _Group(NamedTuple):
    """Consecutive blocks of a source."""

    source: ArraySource
    blocks: range

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    def reduce(self, task: ReducePass) -> Array:
        return self.source.reduce(task, self.blocks)


def groups_of(source: RowSource, n_groups: int) -> list[_Group]:
    """Return the rows in as many groups as asked for, or as there are blocks, of even size."""
    if not isinstance(source, ArraySource):
        raise ValueError(
            "incremental_groups > 1 reads parts of the rows: it needs an array or a memory map. "
            "Set incremental_groups=1, or write the rows to a .npy file and map that."
        )
    n = min(n_groups, source.n_blocks)
    edges = [source.n_blocks * number // n for number in range(n + 1)]
    return [_Group(source, range(a, b)) for a, b in pairwise(edges)]


def expected_log_likelihood(
    structure: CovarianceStructure, stats: SufficientStats, params: Params
) -> float:
    """Return ``sum r log(w_k N(x | k))``, for the responsibilities behind the statistics."""
    d = params.means.shape[1]
    constants = structure.kernel_params(params, log_weights(params.weights), None).constants
    alive = stats.mass > 0.0
    mass = np.where(alive, stats.mass, 1.0)
    covariances = structure.covariances(stats, params.means, mass, 0.0, None)
    distances = structure.mean_distances(params.precisions_cholesky, covariances, d)
    with np.errstate(invalid="ignore"):  # 0 * -inf of components that have died
        terms = stats.mass * (constants - 0.5 * distances)
    return float(terms[alive].sum())


class _Kept:
    """The statistics of each group, as they were last gathered, and their sums.

    While a pass replaces the groups in order, the sum of all is that of the new ones before a
    place and of the old ones behind it.  Both are only ever added to, so no rounding piles up, and
    the sums of the old ones stand where these stood: no memory is needed beyond that of a group's.
    """

    def __init__(self, reference: Array) -> None:
        self.reference = reference
        self.groups: list[SufficientStats] = []
        self.total: SufficientStats | None = None  # of the new ones

    def begin_pass(self, reference: Array) -> None:
        """Turn the statistics of each group into those of it and all behind it."""
        self.reference, self.total = reference, None
        for place in reversed(range(len(self.groups))):
            stats = self.groups[place].rebase(reference)
            behind = self.groups[place + 1 :]
            self.groups[place] = stats + behind[0] if behind else stats

    def replace(self, place: int, stats: SufficientStats) -> SufficientStats:
        """Take in a group's new statistics, and return the sum over all groups."""
        stats = stats.rebase(self.reference)
        self.total = stats if self.total is None else self.total + stats
        if place == len(self.groups):  # the first pass
            self.groups.append(stats)
        else:
            self.groups[place] = stats
        behind = self.groups[place + 1 :]
        return self.total + behind[0] if behind else self.total


def run_incremental(
    source: RowSource,
    structure: CovarianceStructure,
    rule: MaximumLikelihood,
    params: Params,
    *,
    n_groups: int,
    tol: float,
    max_iter: int,
    scatter: Scatter | None = None,
    previous_bound: float = -np.inf,
    run: int = 0,
    observers: Sequence[Observer] = (),
) -> EMResult:
    """Make passes with an M-step after each group of rows, then end with iterations of batch EM.

    An iteration is a pass.  The first one is batch EM's, for want of statistics to replace.  The
    bounds of the passes are free energies after them; once that grows by less than ``tol``, batch
    EM goes on until it has converged by its own bounds.

    References
    ----------
    .. [1] R. Neal and G. Hinton, "A view of the EM algorithm that justifies incremental, sparse,
       and other variants", in M. Jordan (ed.), "Learning in Graphical Models", Kluwer, 1998,
       sections 4 and 5.
    """
    groups = groups_of(source, n_groups)
    parts = structure.by_parts()
    update = MaximumLikelihood(parts, rule.reg_covar, None, rule.mean_weight).update
    bounds: list[float] = []
    bound, change, stats = -np.inf, np.inf, None
    kept = _Kept(params.means)
    small = len(groups) == 1  # nothing to be gained
    while not small and len(bounds) < max_iter:
        began = time.perf_counter()
        kept.begin_pass(params.means)
        for place, group in enumerate(groups):
            # pruned passes learn from the pass before, over the same rows
            passes = EMPasses(source.n_rows, prune=False)
            found = gather(group, parts, rule, params, None, passes, change=change)
            entropy = found.log_likelihood - expected_log_likelihood(parts, found, params)
            stats = kept.replace(place, found._replace(log_likelihood=entropy))
            if bounds or place == len(groups) - 1:
                params = update(stats)
        assert stats is not None
        total = stats.log_likelihood + expected_log_likelihood(parts, stats, params)
        previous, bound = bound, total / stats.weight
        bounds.append(bound)
        change = bound - previous
        stop = False
        if observers:
            iteration = Iteration(
                init=run,
                number=len(bounds),
                bound=bound,
                change=change,
                seconds=time.perf_counter() - began,
                rows=source.n_rows,
                converged=False,
                params=params,
            )
            for observer in observers:
                stop |= bool(observer.iteration_ends(iteration))
        if stop:
            return EMResult(params, len(bounds), False, bounds, stats)
        small = bool(abs(bound - previous) < tol)
    if len(bounds) == max_iter:
        return EMResult(params, len(bounds), False, bounds, stats)
    return run_em(
        source,
        structure,
        rule,
        params,
        tol=tol,
        max_iter=max_iter,
        scatter=scatter,
        # of bounds of two kinds no difference tells that EM has converged
        previous_bound=-np.inf if bounds else previous_bound,
        run=run,
        observers=observers,
        earlier=bounds,
    )
