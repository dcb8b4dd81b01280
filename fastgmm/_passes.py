"""What is done with one block of rows in a pass: the only users of the kernels' entry points.

A pass is a small picklable object.  ``size`` is the length of the flat statistics it gathers, and
``worker()`` returns a function of one block with scratch of its own, one for each thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._kernels import em_pass, labelled, lloyd, seeding
from ._kernels.chosen import scratch_for
from ._kernels.em_pass import COMPONENT_LOG_DENSITIES, LABEL, LOG_DENSITY, PROBABILITIES
from ._kernels.kinds import KernelParams, moments_params, second_size
from ._kernels.lloyd import Centres, MovingCentres
from ._kernels.seeding import Candidates
from ._stats import flat_size

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

__all__ = [
    "COMPONENT_LOG_DENSITIES",
    "LABEL",
    "LOG_DENSITY",
    "PROBABILITIES",
    "AssignPass",
    "Block",
    "Candidates",
    "EMPass",
    "LabelledPass",
    "LabelledProductsPass",
    "MapPass",
    "MomentsPass",
    "MovingCentres",
    "OwnDistancePass",
    "ReducePass",
    "RowMap",
    "ScorePass",
    "SeedPass",
    "block_rows",
]

NO_WEIGHTS: Array = np.empty(0)
NO_WEIGHTS.flags.writeable = False
NO_GAPS = NO_WEIGHTS
NO_LABELS: Labels = np.empty(0, np.int32)
_NO_OUT = np.empty((0, 1))
_NO_LONG_LABELS = np.empty(0, np.int64)

_MAX_BLOCK, _MIN_BLOCK, _BLOCK_ENTRIES = 8192, 1024, 1 << 17
# Beginning with a block takes some ten microseconds.  Adding so many numbers to the sums, one for
# each row and each of the statistics, takes some milliseconds: beside that it does not count.
_MOST_WORK, _MOST_LEVELS = 1 << 26, 4


def block_rows(n_features: int) -> int:
    """Return the rows of a block: the same for every local source, so that results repeat."""
    return min(_MAX_BLOCK, max(_MIN_BLOCK, _BLOCK_ENTRIES // n_features))


def _size_of(params: KernelParams) -> int:
    """Return the length of the flat statistics of an E and M step."""
    n_components, d = params.means.shape
    return flat_size(n_components, d, second_size(params))


def _levels(params: KernelParams) -> int:
    """Return how many levels of the tree to do at once."""
    work = _size_of(params) * block_rows(params.means.shape[1])
    return min(_MOST_LEVELS, max(1, _MOST_WORK // work).bit_length() - 1)


class Block(NamedTuple):
    """Consecutive rows: C-contiguous, read-only, float32 or float64, all finite."""

    rows: NDArray[Any]  # (n, d)
    weights: Array  # (n,), or (0,) when every row counts once
    start: int  # number of the first row
    number: int  # of the block, or of the first one
    each: int = 0  # rows of one block, of which there may be several; or 0: there is one

    @property
    def where(self) -> slice:
        """Return the rows' place among all rows."""
        return slice(self.start, self.start + self.rows.shape[0])


BlockReducer = Callable[[Block, Array], None]


class ReducePass(Protocol):
    """A pass whose result is a sum over blocks.

    A worker that is given the rows of 2**levels blocks at once adds up each, and then adds these
    sums as the tree of ``_threads`` does.
    """

    size: int
    levels: int = 0

    def worker(self) -> BlockReducer:
        """Return a function that adds a block to flat statistics."""


class RowMap(Protocol):
    """A pass whose result is one row of numbers for each row.

    A worker may be given the rows of 2**levels blocks at once.
    """

    dtype: np.dtype[Any]
    columns: tuple[int, ...]  # (), or (K,)
    levels: int = 0

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        """Return a function that writes a block's results."""


class EMPass(ReducePass):
    """The fused E and M step: log-likelihood, mass, first and second moments."""

    def __init__(self, params: KernelParams, gaps: Array = NO_GAPS) -> None:
        self.params = params
        self.gaps = gaps  # by how much less than the best a log2-density counts: (K,), or (0,)
        self.size = _size_of(params)
        self.levels = _levels(params)

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))
        partial = np.empty((self.levels, self.size))

        def run(block: Block, statistics: Array) -> None:
            each = block.each or len(block.rows)
            em_pass.em_block(
                block.rows,
                self.params,
                block.weights,
                self.gaps,
                each,
                scratch,
                partial,
                statistics,
            )

        return run


class LabelledPass(ReducePass):
    """Moments about centres, where each row belongs to one component (``labels``), or to 0."""

    def __init__(self, centres: Array, labels: Labels, n_second: int) -> None:
        self.centres = Centres(centres)
        self.labels = labels.view()
        self.labels.flags.writeable = False  # kernels are compiled for such labels alone
        n_components, d = centres.shape
        self.size = flat_size(n_components, d, n_second)

    def worker(self) -> BlockReducer:
        def run(block: Block, statistics: Array) -> None:
            labels = self.labels[block.where]
            lloyd.labelled_block(block.rows, self.centres, block.weights, labels, statistics)

        return run


class LabelledProductsPass(ReducePass):
    """The same with the products of features, d (d + 1) / 2 of them; there must be labels."""

    def __init__(self, centres: Array, labels: Labels) -> None:
        n_components, d = centres.shape
        n_second = d * (d + 1) // 2
        self.params = moments_params(centres, n_second)
        self.labels = labels.view()
        self.labels.flags.writeable = False
        self.size = flat_size(n_components, d, n_second)

    def worker(self) -> BlockReducer:
        scratch, room = None, 0

        def run(block: Block, statistics: Array) -> None:
            nonlocal scratch, room
            rows, labels = block.rows, self.labels[block.where]
            if room < len(rows):
                scratch, room = labelled.scratch_for(self.params, len(rows)), len(rows)
            labelled.labelled_products_block(
                rows, self.params, block.weights, labels, scratch, statistics
            )

        return run


class MomentsPass(ReducePass):
    """Moments about a reference, for responsibilities (n, K) that a function gives by block."""

    def __init__(
        self, reference: Array, n_second: int, responsibilities: Callable[[Block], Array]
    ) -> None:
        self.params = moments_params(reference, n_second)
        self.responsibilities = responsibilities
        n_components, d = reference.shape
        self.size = flat_size(n_components, d, n_second)

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))

        def run(block: Block, statistics: Array) -> None:
            given = self.responsibilities(block).view()
            given.flags.writeable = False
            em_pass.moments_block(block.rows, self.params, given, scratch, statistics)

        return run


class SeedPass(ReducePass):
    """Take in a new seed of k-means++: sums of square distances, with and without candidates.

    The first of ``candidates`` becomes seed ``number``: the square distances in ``closest`` and
    the numbers in ``nearest`` are updated.  The statistics are the sum of those distances, then
    what it would be with each of the other candidates as one more seed; ``sums``
    (stretches, candidates) takes them for each stretch of rows, ``stretch`` of them.
    """

    def __init__(
        self,
        candidates: Candidates,
        number: int,
        closest: Array,
        nearest: Labels,
        sums: Array,
        stretch: int,
    ) -> None:
        self.candidates = candidates
        self.number = number
        self.closest = closest
        self.nearest = nearest
        self.sums = sums
        self.stretch = stretch
        self.size = len(candidates.means)

    def worker(self) -> BlockReducer:
        scratch = scratch_for(self.candidates.means.shape[1])

        def run(block: Block, statistics: Array) -> None:
            first = block.start // self.stretch
            count = (len(block.rows) + self.stretch - 1) // self.stretch
            sums = np.empty((count, self.size))
            seeding.seed_block(
                block.rows,
                self.candidates,
                block.weights,
                self.number,
                self.closest[block.where],
                self.nearest[block.where],
                scratch,
                self.stretch,
                sums,
            )
            self.sums[first : first + count] = sums
            statistics += sums.sum(axis=0)

        return run


class AssignPass(ReducePass):
    """Nearest centres, and sums ``[changed, entered K*2, left K*2, first K*d]`` of what changed.

    With ``fresh`` the limits are not known, and every row is summed up.
    """

    def __init__(
        self, centres: MovingCentres, labels: Labels, limits: Array, *, fresh: bool
    ) -> None:
        self.centres = centres
        self.labels = labels
        self.limits = limits
        self.fresh = fresh
        k, d = centres.means.shape
        self.size = 1 + k * (4 + d)

    def worker(self) -> BlockReducer:
        scratch = scratch_for(self.centres.means.shape[1])

        def run(block: Block, statistics: Array) -> None:
            lloyd.assign_block(
                block.rows,
                self.centres,
                block.weights,
                self.fresh,
                self.labels[block.where],
                self.limits[block.where],
                scratch,
                statistics,
            )

        return run


class ScorePass(ReducePass):
    """Weighted sums over rows of functions of what ``map_block`` gives, and the weight.

    Without functions: the sum of its only column.
    """

    def __init__(
        self, params: KernelParams, what: int, functions: Sequence[Callable[[Array], Array]] = ()
    ) -> None:
        self.params = params
        self.what = what
        self.functions = functions or (_only_column,)
        self.size = len(self.functions) + 1

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))
        columns = 1 if self.what == LOG_DENSITY else len(self.params.means)

        def run(block: Block, statistics: Array) -> None:
            out = np.empty((len(block.rows), columns))
            em_pass.map_block(block.rows, self.params, self.what, scratch, out, _NO_LONG_LABELS)
            counted = block.weights > 0.0  # 0 * -inf is NaN
            for place, function in enumerate(self.functions):
                values = function(out)
                if block.weights.size:
                    statistics[place] += (block.weights[counted] * values[counted]).sum()
                else:
                    statistics[place] += values.sum()
            statistics[-1] += block.weights.sum() if block.weights.size else len(out)

        return run


def _only_column(values: Array) -> Array:
    return values[:, 0]


class OwnDistancePass(RowMap):
    """Square distances of rows to the centres of their own clusters."""

    dtype = np.dtype(np.float64)
    columns: tuple[int, ...] = ()

    def __init__(self, centres: Array, labels: Labels) -> None:
        self.centres = Centres(centres)
        self.labels = labels

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        def run(block: Block, out: NDArray[Any]) -> None:
            labels = self.labels[block.where]
            lloyd.square_distances_block(block.rows, self.centres, labels, out)

        return run


class MapPass(RowMap):
    """Rows to log-densities, labels, probabilities or the components' log-densities.

    Or to a function of one of the last two: (n, K) of a block to one number for each row.
    """

    def __init__(
        self,
        params: KernelParams,
        what: int,
        dtype: np.dtype[Any],
        function: Callable[[Array], Array] | None = None,
    ) -> None:
        self.params = params
        self.what = what
        self.function = function
        self.dtype = np.dtype(np.int64) if what == LABEL else dtype
        wide = what in (PROBABILITIES, COMPONENT_LOG_DENSITIES) and function is None
        self.columns = (len(params.means),) if wide else ()
        if function is None and self.dtype.itemsize == 8:  # or it needs room for each row
            self.levels = _levels(params)

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        scratch = np.empty(em_pass.scratch_size(self.params))
        narrow = self.dtype != np.float64

        def run(block: Block, out: NDArray[Any]) -> None:
            if self.what == LABEL:
                em_pass.map_block(block.rows, self.params, LABEL, scratch, _NO_OUT, out)
                return
            target = wide = out.reshape(len(out), -1)
            if self.function is not None:
                target = np.empty((len(out), len(self.params.means)))
            elif narrow:
                target = np.empty(wide.shape)
            em_pass.map_block(block.rows, self.params, self.what, scratch, target, _NO_LONG_LABELS)
            found = target if self.function is None else self.function(target)[:, None]
            if narrow:
                with np.errstate(over="ignore"):  # -inf is what such a log-density is in float32
                    wide[...] = found
            elif found is not wide:
                wide[...] = found

        return run
