"""Which pass an EM iteration makes: the dense one, or one that skips pairs that cannot matter.

A responsibility is negligible only against its own component's mass.  All that is left out of a
component sums up to less than ``2**-53`` of it: nothing below ``2**-53 min_k N_k / n`` counts, with
N_k the masses of the pass before.  Components of less than one row are never skipped.
"""

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._kernels import bounds as pair_bounds
from ._kernels import pruned, pruned_tiles
from ._kernels.bounds import Bounds
from ._kernels.exp import LOG2_E
from ._kernels.expanded import Expanded
from ._kernels.expanded_triangular import ExpandedTriangular
from ._kernels.kinds import KernelParams
from ._kernels.pruned_tiles import RINGS
from ._kernels.reaches import Reaches, reaches_for
from ._kernels.scaled import Scaled
from ._kernels.sorting import SortedScratch
from ._kernels.tiny import MOST
from ._kernels.triangular import Triangular, TriangularFloat32
from ._passes import (
    LABEL,
    NO_GAPS,
    NO_WEIGHTS,
    Block,
    BlockReducer,
    EMPass,
    MapPass,
    ReducePass,
)
from ._sources import scratch_array
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params, Scatter, readonly, split_squares

Array = NDArray[np.float64]
Keys = NDArray[np.uint16]  # what rows are sorted by

_EPSILON = 2.0**-53
_LABELS = np.dtype(np.int64)
# Numbers that what is known of all pairs of components may take: 32 MB.
_MOST_NUMBERS = 1 << 22
# Less work than this is not worth a second kernel's compilation, nor what gaps cost.
_LEAST_WORK = 1e7
_MOST_KEYS = 1 << 16
# In a trial, one stretch of rows in so many is looked at, of each of its blocks the first so many.
_TRIED, _STRETCH, _MOST_TRIED = 16, 8192, 2048


def _negligible(mass: Array, weight: float, n_rows: int) -> tuple[NDArray[np.bool_], float]:
    """Return which components are skipped at all, and the smallest responsibility that counts."""
    skipped = mass * n_rows >= weight  # a row or more
    return skipped, _EPSILON * (float(mass.min(initial=weight, where=skipped)) / weight)


class Way(Protocol):
    """One way to skip pairs: with what, and when it is worth while."""

    keys: int  # rows are sorted by numbers below K times this

    def most_pairs(self, n_rows: int, n_components: int, d: int) -> float:
        """Return the share of finished pairs above which the dense pass is faster."""

    def bounds(self, params: Any, mass: Array, weight: float, n_rows: int) -> Any:
        """Return what tells which pairs cannot matter, after a pass that found these masses."""

    def scratch(self, params: Any, n: int) -> Any:
        """Return scratch for blocks of up to n rows."""

    def add_block(
        self, block: Block, params: Any, bounds: Any, keys: Keys, scratch: Any, statistics: Array
    ) -> float:
        """Add a block's statistics; return the pairs that were finished, -1 if nothing was done."""


class RowByRow:
    """Lists of the rows that each component may matter to: where a pair costs d^2.

    bound : what it costs to bound a pair, where the dense pass pays d^2 for it.
    survivor : how much more than d^2 one costs that survives, to list, gather and finish.
    """

    keys = 1

    def __init__(self, bound: float, survivor: float) -> None:
        self.bound = bound
        self.survivor = survivor

    def most_pairs(self, n_rows: int, n_components: int, d: int) -> float:
        """Return the share of finished pairs above which the dense pass is faster."""
        if n_components**2 * d > _MOST_NUMBERS:
            return 0.0
        return max(0.0, 0.9 * (d * d - self.bound) / (d * d + self.survivor))

    def bounds(self, params: Triangular, mass: Array, weight: float, n_rows: int) -> Bounds:
        """Return what tells which pairs cannot matter, after a pass that found these masses."""
        n_components, d = params.means.shape
        bounds = pair_bounds.empty_bounds(n_components, d, params.centres.dtype)
        pair_bounds.fill_directions(params.means, params, np.empty((d + 2, d)), bounds)
        skipped, floor = _negligible(mass, weight, n_rows)
        bounds.peaks[:n_components] = np.where(skipped, LOG2_E * params.constants, np.inf)
        bounds.floors[:] = np.where(skipped, floor, 0.0)
        bounds.gap[0] = np.log2(floor)
        for array in bounds:
            array.flags.writeable = False
        return bounds

    def scratch(self, params: Triangular, n: int) -> pruned.Scratch:
        """Return scratch for blocks of up to n rows."""
        return pruned.scratch_for(params, n)

    def add_block(
        self,
        block: Block,
        params: Triangular,
        bounds: Bounds,
        keys: Keys,
        scratch: pruned.Scratch,
        statistics: Array,
    ) -> float:
        """Add a block's statistics, unless the dense pass is faster: then return -1."""
        n, d = block.rows.shape
        n_components = len(params.means)
        limit = int(self.most_pairs(n, n_components, d) * n * n_components)
        pairs: int = pruned.pruned_block(
            block.rows, params, block.weights, bounds, limit, keys, scratch, statistics
        )
        return pairs


class TileByTile:
    """Lists of the components that may matter to a tile of rows: where a pair costs little.

    row : how many pairs it costs to sort, gather and look at a row.
    compared : how many pairs it costs to compare two components.
    listed : what a pair costs where the dense pass lists those that count, 1 where it does not.
    """

    keys = RINGS

    def __init__(self, row: float, compared: float, listed: float = 1.0) -> None:
        self.row = row
        self.compared = compared
        self.listed = listed

    def most_pairs(self, n_rows: int, n_components: int, d: int) -> float:
        """Return the share of finished pairs above which the dense pass is faster."""
        if n_components**2 > _MOST_NUMBERS:
            return 0.0
        fixed = self.row / n_components + self.compared * n_components / n_rows
        return max(0.0, 0.9 * self.listed - fixed)

    def bounds(self, params: KernelParams, mass: Array, weight: float, n_rows: int) -> Reaches:
        """Return what tells which pairs cannot matter, after a pass that found these masses."""
        skipped, floor = _negligible(mass, weight, n_rows)
        return reaches_for(params, skipped, float(np.log(floor)))

    def scratch(self, params: KernelParams, n: int) -> SortedScratch:
        """Return scratch for blocks of up to n rows."""
        return pruned_tiles.scratch_for(params, n)

    def add_block(
        self,
        block: Block,
        params: KernelParams,
        bounds: Reaches,
        keys: Keys,
        scratch: SortedScratch,
        statistics: Array,
    ) -> float:
        """Add a block's statistics; return the pairs that were finished."""
        pairs: float = pruned_tiles.pruned_tiles_block(
            block.rows, params, block.weights, bounds, keys, scratch, statistics
        )
        return pairs


# By the kind of the parameters, and whether features are few; the figures as measured.  In float32
# pairs cost less, which the work on lists and rows does not.  Checkpoints name a way by its place:
# new ones come last.
_BY_TILE = TileByTile(row=8.0, compared=50.0)
_BY_EXPANDED_TILE = TileByTile(row=16.0, compared=80.0, listed=0.8)
_WAYS: dict[tuple[type, bool], Way] = {
    (Triangular, False): RowByRow(bound=70.0, survivor=400.0),
    (Triangular, True): TileByTile(row=6.0, compared=120.0),
    (TriangularFloat32, False): RowByRow(bound=100.0, survivor=700.0),
    (TriangularFloat32, True): TileByTile(row=8.0, compared=190.0),
    (Scaled, False): _BY_TILE,
    (Scaled, True): _BY_TILE,
    (Expanded, False): _BY_EXPANDED_TILE,
    (Expanded, True): _BY_EXPANDED_TILE,
    (ExpandedTriangular, True): TileByTile(row=8.0, compared=120.0),
}


def way_for(params: KernelParams) -> Way | None:
    """Return the way to skip pairs of components with such parameters, if there is one."""
    return _WAYS.get((type(params), params.means.shape[1] <= MOST))


class PrunedPass(ReducePass):
    """The E and M step without pairs that cannot matter; dense for blocks where most of them do.

    The last two of its flat statistics are the pairs that were finished, and all that there were.

    label : whether the likely components are to be found first, and kept as keys.
    """

    def __init__(
        self, way: Way, params: KernelParams, bounds: Any, keys: Keys, dense: EMPass, *, label: bool
    ) -> None:
        self.way = way
        self.params = params
        self.bounds = bounds
        self.keys = keys
        self.dense = dense
        self.label = label
        self.size = dense.size + 2

    def worker(self) -> BlockReducer:
        prune, dense = self.pruner(), self.dense.worker()

        def run(block: Block, statistics: Array) -> None:
            sums = statistics[:-2]
            if not prune(block, sums, statistics[-2:]):
                dense(block, sums)

        return run

    def pruner(self) -> Callable[[Block, Array, Array], bool]:
        """Return a function that adds a block's sums, and counts its pairs; False if it did not."""
        way, params = self.way, self.params
        find = MapPass(params, LABEL, _LABELS).worker() if self.label else None
        scratch, room = None, 0

        def prune(block: Block, sums: Array, counts: Array) -> bool:
            nonlocal scratch, room
            n = len(block.rows)
            if room < n:
                scratch, room = way.scratch(params, n), n
            keys = self.keys[block.where]
            if find is not None:
                found = np.empty(n, np.int64)
                find(block, found)
                keys[:] = found * way.keys
            all_pairs = n * len(params.means)
            pairs = way.add_block(block, params, self.bounds, keys, scratch, sums)
            counts += all_pairs if pairs < 0 else pairs, all_pairs
            return pairs >= 0

        return prune


class TrialPass(PrunedPass):
    """A dense pass that counts, beside it, the pairs of a few rows that would be finished."""

    def __init__(
        self, way: Way, params: KernelParams, bounds: Any, keys: Keys, dense: EMPass
    ) -> None:
        super().__init__(way, params, bounds, keys, dense, label=True)

    def worker(self) -> BlockReducer:
        prune, dense = self.pruner(), self.dense.worker()
        unwanted = np.zeros(self.dense.size)

        def run(block: Block, statistics: Array) -> None:
            if block.start // _STRETCH % _TRIED == 0:
                prune(_first(block, _MOST_TRIED), unwanted, statistics[-2:])
            dense(block, statistics[:-2])

        return run


def _first(block: Block, n: int) -> Block:
    """Return the first n rows of a block."""
    return block._replace(rows=block.rows[:n], weights=block.weights[:n])


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
        self._way: Way | None = None  # that the keys belong to
        self._keys: Keys | None = None
        self.mass: Array | None = None  # that the last pass found
        self._weight = 0.0

    def memory(self) -> dict[str, Any]:
        """Return what was learnt: with it, and the parameters, the next pass has the same bits.

        The array of keys is the one that passes write to.
        """
        ways = list(_WAYS.values())
        return {
            "prune": self.prune,
            "wait": self._wait,
            "interval": self._interval,
            "stage": self._stage,
            "way": None if self._way is None else ways.index(self._way),
            "keys": self._keys,
            "mass": self.mass,
            "weight": self._weight,
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from what passes over the same rows had learnt."""
        if not memory:
            return
        way, keys = memory["way"], memory["keys"]
        self._way = None if way is None else list(_WAYS.values())[way]
        if keys is not None:
            most = 0 if self._way is None else len(memory["mass"]) * self._way.keys
            if keys.shape != (self.n_rows,) or keys.dtype != np.uint16 or keys.max() >= most:
                raise ValueError("what was learnt of these rows is of other rows")
        self._keys = keys
        self.prune, self._stage = memory["prune"], memory["stage"]
        self._wait, self._interval = memory["wait"], memory["interval"]
        self.mass, self._weight = memory["mass"], memory["weight"]

    def run(
        self,
        reduce: Callable[[ReducePass], Array],
        params: KernelParams,
        scatter: Scatter | None = None,
    ) -> SufficientStats:
        """Make a pass over all rows and return its statistics.

        scatter : of all these rows, if it is known.
        """
        gaps, due = self._gaps(params), self._due(params)
        rest, common = params, 0.0
        if due is None or self._stage == "trial":  # what prunes knows only whole densities
            rest, common = split_squares(params, scatter)
        dense = EMPass(rest, gaps)
        if due is None:
            flat = reduce(dense)
            self._wait -= 1
        else:
            if self._stage == "trial":
                task: PrunedPass = TrialPass(*due, dense)
            else:
                task = PrunedPass(*due, dense, label=self._stage == "first")
            found = reduce(task)
            flat, (pairs, tried) = found[:-2], found[-2:]
            most = task.way.most_pairs(self.n_rows, *params.means.shape)
            self._learn(pairs <= most * tried)
        stats = SufficientStats.from_flat(flat, params.means)
        self.mass, self._weight = stats.mass, stats.weight
        return stats._replace(log_likelihood=stats.log_likelihood + common * stats.weight)

    def _due(self, params: KernelParams) -> tuple[Way, KernelParams, Any, Keys] | None:
        """Return what a pass that prunes, or tries to, is made of, if one is due."""
        way = way_for(params)
        if way is None or self.mass is None or not self._suits(way, params):
            return None
        if self._way is not None and way is not self._way and self._interval <= 4:
            # what did not pay there may pay here; but kinds may alternate
            self._wait = 0
        if type(way) is not type(self._way):
            self._stage, self._keys = "dense", None
        self._way = way
        if self._stage == "dense":
            if self._wait > 0:
                return None
            self._stage = "trial"
        if self._keys is None:
            # 2 bytes a row: of very many rows in a file, since memory must not grow with them
            try:
                self._keys = scratch_array((self.n_rows,), np.uint16)
            except OSError:  # the disk is full: slower, but it works
                self.prune = False
                return None
        bounds = way.bounds(params, self.mass, self._weight, self.n_rows)
        return way, params, bounds, self._keys

    def _gaps(self, params: KernelParams) -> Array:
        """Return by how much less than the best a log2-density counts (K,), or (0,) for all."""
        if not self.prune or self.mass is None or self.n_rows * params.means.size < _LEAST_WORK:
            return NO_GAPS
        skipped, floor = _negligible(self.mass, self._weight, self.n_rows)
        gaps: Array = np.where(skipped, math.log2(floor), -np.inf)
        gaps.flags.writeable = False
        return gaps

    def _suits(self, way: Way, params: KernelParams) -> bool:
        n_components, d = params.means.shape
        work = float(self.n_rows) * n_components * d
        return (
            self.prune
            and n_components * way.most_pairs(self.n_rows, n_components, d) > 1.0
            and n_components * way.keys <= _MOST_KEYS
            and work >= _LEAST_WORK
        )

    def _learn(self, worth: bool) -> None:
        if worth:
            self._stage = "first" if self._stage == "trial" else "pruned"
        else:
            self._stage, self._keys = "dense", None
            self._interval *= 2
            self._wait = self._interval


def compile_kernels(structure: CovarianceStructure, dtype: np.dtype[Any]) -> None:
    """Compile, or load from the cache, what passes over rows of this type may call."""
    for d, distance in product((MOST, MOST + 1), (1.0, 100.0)):
        means = readonly(np.stack([np.zeros(d), np.full(d, distance)]))
        k = len(means)
        matrices = np.broadcast_to(
            np.eye(d) if structure.has_matrices else 1.0, structure.shape(k, d)
        )
        given = Params(
            np.full(k, 1.0 / k), means, matrices, structure.precisions_cholesky(matrices)
        )
        rows = readonly(means, dtype)
        for tiles in {np.dtype(np.float64), rows.dtype}:
            params = structure.kernel_params(given, np.log(given.weights), tiles)
            way = way_for(params)
            if way is None:
                continue
            bounds = way.bounds(params, np.ones(k), float(k), k)
            keys = np.zeros(k, np.uint16)
            task = PrunedPass(way, params, bounds, keys, EMPass(params), label=True)
            task.worker()(Block(rows, NO_WEIGHTS, 0, 0), np.zeros(task.size))
