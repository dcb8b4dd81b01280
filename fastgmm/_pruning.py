"""Which pass an EM iteration makes: the dense one, or one that skips pairs that cannot matter.

A responsibility is negligible only against its own component's mass.  All that is left out of a
component sums up to less than ``2**-53`` of it: nothing below ``2**-53 min_k N_k / n`` counts, with
N_k the masses of the pass before.  Components of less than one row are never skipped.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernels import bounds as pair_bounds
from ._kernels import em_pass, pruned
from ._kernels.bounds import Bounds
from ._kernels.em_pass import LABEL
from ._kernels.kinds import KernelParams
from ._kernels.pruned import Scratch
from ._kernels.tiny import MOST
from ._kernels.triangular import Triangular, pack
from ._passes import NO_WEIGHTS, Block, BlockReducer, EMPass, ReducePass
from ._sources import scratch_array
from ._stats import SufficientStats
from ._structures import readonly

Array = NDArray[np.float64]
ShortLabels = NDArray[np.uint16]

_EPSILON = 2.0**-53
_NO_OUT = np.empty((0, 1))
# Numbers that the vectors of all pairs of components may take: 32 MB.
_MOST_NUMBERS = 1 << 22
# Less work than this is not worth a second kernel's compilation.
_LEAST_WORK = 1e7
_MOST_COMPONENTS = 1 << 16
# One row in so many is tried first, in stretches of _STRETCH rows.
_TRIED, _STRETCH = 16, 8192


def most_pairs(d: int) -> float:
    """Return the share of finished pairs above which the dense pass is faster.

    As measured: where a pair costs the dense pass d^2, here it costs 70 to bound it and, if it
    survives, d^2 + 400 to list, gather and finish it.
    """
    return max(0.0, 0.9 * (d * d - 70) / (d * d + 400))


def bounds_for(params: Triangular, mass: Array, weight: float, n_rows: int) -> Bounds:
    """Return what tells which pairs cannot matter, after a pass that found these masses (K,)."""
    n_components, d = params.means.shape
    bounds = pair_bounds.empty_bounds(n_components, d)
    pair_bounds.fill_directions(params.means, params, np.empty((d + 2, d)), bounds)
    skipped = mass * n_rows >= weight  # a row or more
    floor = _EPSILON * float(mass[skipped].min(initial=weight)) / weight
    bounds.halves[:n_components] = np.where(skipped, 0.5 * params.constants, np.inf)
    bounds.floors[:] = np.where(skipped, floor, 0.0)
    bounds.gap[0] = 0.5 * np.log(floor)
    for array in bounds:
        array.flags.writeable = False
    return bounds


class PrunedPass:
    """The E and M step without pairs that cannot matter; dense for blocks where most of them do.

    The last two of its flat statistics are the pairs that were finished, and all of those tried.
    """

    def __init__(
        self, params: Triangular, bounds: Bounds, labels: ShortLabels, *, label: bool, tried: int
    ) -> None:
        self.params = params
        self.bounds = bounds
        self.labels = labels
        self.label = label  # whether the labels are to be found first
        self.tried = tried  # one stretch in so many is tried, the others are dense
        self.size = EMPass(params).size + 2

    def worker(self) -> BlockReducer:
        dense_scratch = np.empty(em_pass.scratch_size(self.params))
        scratch: Scratch | None = None
        n_components, d = self.params.means.shape
        share = most_pairs(d)

        def run(block: Block, statistics: Array) -> None:
            nonlocal scratch
            rows, weights = block.rows, block.weights
            sums, pairs = statistics[:-2], -1
            if block.start // _STRETCH % self.tried == 0:
                if scratch is None or len(scratch.order) < len(rows):
                    scratch = pruned.scratch_for(self.params, len(rows))
                labels = self.labels[block.where]
                if self.label:
                    found = np.empty(len(rows), np.int64)
                    em_pass.map_block(rows, self.params, LABEL, dense_scratch, _NO_OUT, found)
                    labels[:] = found
                all_pairs = len(rows) * n_components
                limit = int(share * all_pairs)
                pairs = pruned.pruned_block(
                    rows, self.params, weights, self.bounds, limit, labels, scratch, sums
                )
                statistics[-2] += all_pairs if pairs < 0 else pairs
                statistics[-1] += all_pairs
            if pairs < 0:
                em_pass.em_block(rows, self.params, weights, dense_scratch, sums)

        return run


class EMPasses:
    """The passes of one run of EM, each chosen by what the ones before it found.

    A dense pass; then a few rows are tried, and if few of their pairs matter, all rows are pruned
    for as long as that remains so.  Otherwise the next trial comes after twice as many passes.
    """

    def __init__(self, n_rows: int, *, prune: bool = True) -> None:
        self.n_rows = n_rows
        self.prune = prune
        self._wait, self._interval = 1, 1  # passes until the next trial
        self._stage = "dense"
        self._labels: ShortLabels | None = None
        self._last: SufficientStats | None = None

    def run(self, reduce: Callable[[ReducePass], Array], params: KernelParams) -> SufficientStats:
        """Make a pass over all rows and return its statistics."""
        task = self._pruned(params)
        if task is None:
            flat = reduce(EMPass(params))
            self._wait -= 1
        else:
            whole = reduce(task)
            flat, (pairs, tried) = whole[:-2], whole[-2:]
            self._learn(pairs <= most_pairs(params.means.shape[1]) * tried)
        self._last = SufficientStats.from_flat(flat, params.means)
        return self._last

    def _pruned(self, params: KernelParams) -> PrunedPass | None:
        """Return the pass that prunes, if one is due."""
        # float32 tiles are dense only: skipping is worked out in float64
        if type(params) is not Triangular or not self._suits(params) or self._last is None:
            return None
        if self._stage == "dense":
            if self._wait > 0:
                return None
            self._stage = "trial"
        bounds = bounds_for(params, self._last.mass, self._last.weight, self.n_rows)
        if self._labels is None:
            # 2 bytes a row: of very many rows in a file, since memory must not grow with them
            try:
                self._labels = scratch_array((self.n_rows,), np.uint16)
            except OSError:  # the disk is full: slower, but it works
                self.prune = False
                return None
        return PrunedPass(
            params,
            bounds,
            self._labels,
            label=self._stage != "pruned",
            tried=_TRIED if self._stage == "trial" else 1,
        )

    def _suits(self, params: Triangular) -> bool:
        n_components, d = params.means.shape
        work = float(self.n_rows) * n_components * d
        return (
            self.prune
            and d > MOST
            and n_components * most_pairs(d) > 1.0
            and n_components <= _MOST_COMPONENTS
            and n_components**2 * d <= _MOST_NUMBERS
            and work >= _LEAST_WORK
        )

    def _learn(self, worth: bool) -> None:
        if worth:
            self._stage = "first" if self._stage == "trial" else "pruned"
        else:
            self._stage, self._labels = "dense", None
            self._interval *= 2
            self._wait = self._interval


def compile_kernels(dtype: np.dtype[Any]) -> None:
    """Compile, or load from the cache, what a pass over rows of this type may call."""
    d = MOST + 1
    means = readonly(np.stack([np.zeros(d), np.ones(d)]))
    factors = readonly(pack(np.stack([np.eye(d)] * 2)))
    nothing = readonly(np.empty((0, 0)))
    params = Triangular(means, means, factors, readonly(np.zeros(2)), nothing)
    rows = means.astype(dtype)
    rows.flags.writeable = False
    bounds = bounds_for(params, np.ones(2), 2.0, 2)
    task = PrunedPass(params, bounds, np.zeros(2, np.uint16), label=False, tried=1)
    task.worker()(Block(rows, NO_WEIGHTS, 0, 0), np.zeros(task.size))
