"""Incremental EM: rows in groups, and an M-step after each group instead of after all rows.

Each group's statistics are kept, so that its new ones can take the place of the old ones in the
sum that the M-step sees.  What grows is the free energy ``F``, a lower bound of the log-likelihood:
the expected log-likelihood of rows and components under the kept responsibilities, plus their
entropy.  Both are functions of statistics: an E-step makes ``F`` of its group the log-likelihood,
so the entropy is that less the expected log-likelihood, both under the E-step's parameters.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._em import EMResult, Standing, gather, report, run_em
from ._observers import Observer
from ._pruning import EMPasses
from ._rules import UpdateRule, log_weights
from ._sources import ArraySource, PartedSource, RowSource, StreamSource
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter

Array = NDArray[np.float64]

MOST_GROUPS = 64  # whose statistics are kept


def in_parts(source: RowSource) -> PartedSource:
    """Return the source as one that can be read part by part, or raise ValueError."""
    if not isinstance(source, ArraySource | StreamSource):
        raise ValueError(
            "incremental_groups > 1 reads one group of rows after the other, and Dask all chunks "
            "at once. Set incremental_groups=1."
        )
    return source


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

    @property
    def mass(self) -> Array | None:
        """Return the mass (K,) over all groups after a pass."""
        return None if self.total is None else self.total.mass

    def begin_pass(self, reference: Array) -> None:
        """Turn the statistics of each group into those of it and all behind it."""
        self.reference, self.total = reference, None
        for place in reversed(range(len(self.groups))):
            stats = self.groups[place].rebase(reference)
            behind = self.groups[place + 1 :]
            self.groups[place] = stats + behind[0] if behind else stats

    def memory(self) -> dict[str, Any]:
        """Return what there is between two passes."""
        return {"groups": [stats._asdict() for stats in self.groups]}

    def recall(self, memory: Mapping[str, Any], n_groups: int) -> None:
        """Go on from what there was after a pass over so many groups."""
        self.groups = [SufficientStats(**stats) for stats in memory.get("groups", ())]
        if len(self.groups) not in (0, n_groups):
            raise ValueError("the statistics of groups are not those of these rows")
        for stats in self.groups:
            self.reference = stats.reference
            self.total = stats if self.total is None else self.total + stats

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
    rule: UpdateRule,
    standing: Standing,
    *,
    n_groups: int,
    tol: float,
    max_iter: int,
    scatter: Scatter | None = None,
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
    batch = partial(
        run_em,
        source,
        structure,
        rule,
        tol=tol,
        max_iter=max_iter,
        scatter=scatter,
        run=run,
        observers=observers,
    )
    if "keys" in standing.memory:  # the run goes on after these passes
        return batch(standing)
    parted = in_parts(source)
    n_groups = min(n_groups, parted.n_blocks)
    by_parts = structure.by_parts()
    update = rule.by_parts().update
    params, bounds = standing.params, list(standing.bounds)
    bound, change = standing.bound if bounds else -np.inf, standing.change
    kept = _Kept(params.means)
    kept.recall(standing.memory, n_groups)
    small = n_groups == 1 or bool(abs(standing.change) < tol)  # nothing to be gained
    while not small and len(bounds) < max_iter:
        began = time.perf_counter()
        kept.begin_pass(params.means)
        with closing(parted.parts(n_groups)) as groups:
            for place, group in enumerate(groups):
                # pruned passes learn from the pass before, over the same rows
                passes = EMPasses(source.n_rows, prune=False)
                found = gather(group, by_parts, rule, params, None, passes, change=change)
                entropy = found.log_likelihood - expected_log_likelihood(by_parts, found, params)
                stats = kept.replace(place, found._replace(log_likelihood=entropy))
                if bounds or place == n_groups - 1:
                    params = update(stats)
        assert stats is not None
        energy = stats.log_likelihood + expected_log_likelihood(by_parts, stats, params)
        previous = bound
        bound = rule.bound(stats._replace(log_likelihood=energy), params, params)
        change = bound - previous
        bounds.append(bound)
        if observers:
            reached = Standing(params, list(bounds), bound, change, kept.memory())
            stop = report(
                observers, reached, run=run, rows=source.n_rows, began=began, converged=False
            )
        else:
            stop = False
        if stop:
            return EMResult(params, len(bounds), False, bounds, kept.mass)
        small = bool(abs(change) < tol)
    if len(bounds) >= max_iter:
        return EMResult(params, len(bounds), False, bounds, kept.mass)
    # of bounds of two kinds no difference tells that EM has converged
    return batch(Standing(params, bounds) if bounds else standing)
