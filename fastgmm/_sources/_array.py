"""Rows in an array: any layout, any real type, in memory or memory-mapped."""

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .._passes import NO_WEIGHTS, Block, ReducePass, RowMap, block_rows
from .._threads import Workers, nodes
from ._base import UnfitRow, check_fit, even_ranges, read_dtype, sum_weights

Array = NDArray[np.float64]


class ArraySource:
    """Rows of a 2-D array, read and checked block by block, never copied whole.

    Every entry must be finite, and smaller than ``limit`` in size; with ``checked`` that is known.
    """

    shares_memory = True
    random_access = True

    def __init__(
        self,
        X: NDArray[Any],
        workers: Workers,
        sample_weight: Array | None = None,
        limit: float = np.inf,
        *,
        checked: bool = False,
    ) -> None:
        self.n_rows, self.n_features = X.shape
        self.weights = None
        if sample_weight is not None:
            self.weights = sample_weight.view()
            self.weights.flags.writeable = False
        self.dtype = read_dtype(X.dtype)
        self._workers = workers
        self.limit = limit
        self._X = X
        self._rows = block_rows(self.n_features)
        self.n_blocks = -(-self.n_rows // self._rows)
        self._copied = not X.flags.c_contiguous or X.dtype != self.dtype
        checked = checked or X.dtype.kind in "iub"
        self._checked = bytearray(b"\x01" if checked else b"\x00") * self.n_blocks

    @property
    def rows(self) -> NDArray[Any]:
        """Return all rows as they lie, of which some may not have been checked yet."""
        return self._X

    @property
    def n_counted(self) -> int:
        """Return the number of rows of non-zero weight."""
        return self.n_rows if self.weights is None else int(np.count_nonzero(self.weights))

    @property
    def mean_weight(self) -> float:
        """Return the mean weight of the rows that count."""
        weights = self.weights
        if weights is None:
            return 1.0
        starts = range(0, self.n_rows, self._rows)
        return sum_weights(weights[a : a + self._rows] for a in starts) / self.n_counted

    def block(self, number: int, count: int = 1) -> Block:
        """Return one block, or the rows of several; the first time, see that they are finite."""
        size, start = self._rows * count, self._rows * number
        part = self._X[start : start + size]
        rows = np.ascontiguousarray(part, dtype=self.dtype).view(np.ndarray)
        rows.flags.writeable = False
        for checked in range(number, min(number + count, self.n_blocks)):
            if not self._checked[checked]:
                offset = (checked - number) * self._rows
                check_fit(rows[offset : offset + self._rows], start + offset, self.limit)
                self._checked[checked] = 1
        if self.weights is None:
            return Block(rows, NO_WEIGHTS, start, number, self._rows)
        return Block(rows, self.weights[start : start + size], start, number, self._rows)

    def blocks(self) -> Iterator[Block]:
        """Return all rows in order, one block at a time."""
        return map(self.block, range(self.n_blocks))

    def reduce(self, task: ReducePass, blocks: range | None = None, *, together: int = 1) -> Array:
        """Return the flat statistics of one pass over all rows.

        blocks : of all rows, those of these blocks alone.
        together : so many blocks are summed up as one, by a pass that does no levels of the tree.
        """
        if together > 1 and (task.levels > 0 or blocks is not None):
            raise ValueError("blocks are either summed up as one, or chosen, or added as a tree")
        numbers = range(-(-self.n_blocks // together)) if blocks is None else blocks

        def make_worker() -> Any:
            add = task.worker()

            def run(places: range, statistics: Array) -> None:
                block = self.block(numbers[places[0]] * together, len(places) * together)
                add(block, statistics)
                self._workers.done(block.where.stop, self.n_rows)

            return run

        levels = self._levels(task)
        return self._workers.reduce(len(numbers), task.size, make_worker, levels)

    def _levels(self, task: ReducePass | RowMap) -> int:
        """Return how many levels of the tree a thread does at once.

        What is copied takes memory, and rows that are checked are used while they are in cache.
        """
        return 0 if self._copied or 0 in self._checked else task.levels

    def parts(self, n_parts: int) -> Generator["ArrayPart", None, None]:
        """Yield all rows in so many parts of even size."""
        for blocks in even_ranges(self.n_blocks, n_parts):
            yield ArrayPart(self, blocks)

    def map_rows(self, task: RowMap) -> NDArray[Any]:
        """Return one row of results for each row."""
        out = np.empty((self.n_rows, *task.columns), dtype=task.dtype)

        def make_worker() -> Any:
            write = task.worker()

            def run(blocks: range) -> None:
                block = self.block(blocks[0], len(blocks))
                write(block, out[block.where])

            return run

        shares = nodes(self.n_blocks, self._levels(task), self._workers.n_threads)
        self._workers.share(shares, make_worker, most=self.n_blocks)
        return out

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""
        rows: Array = np.ascontiguousarray(self._X[index], dtype=np.float64)
        return rows

    def sample(self, ranks: NDArray[np.int64]) -> "ArraySource":
        """Return a source of the rows of these increasing numbers, among those that count."""
        index, weights = ranks, None
        if self.weights is not None:
            stop = 1 << 12  # the first ones take no array of all
            while stop < self.n_rows and np.count_nonzero(self.weights[:stop]) <= ranks.max(
                initial=0
            ):
                stop *= 4
            index = np.flatnonzero(self.weights[:stop])[ranks]
            weights = self.weights[index]
        rows = np.ascontiguousarray(self._X[index], self.dtype).view(np.ndarray)
        try:
            check_fit(rows, 0, self.limit)
        except UnfitRow as error:  # the row's number among all rows
            raise UnfitRow(int(index[error.row]), error.column, error.value) from None
        return ArraySource(rows, self._workers, weights, self.limit, checked=True)

    def gather(self) -> Self:
        """Return a source of all rows with random access: this one."""
        return self

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
        missing = [number for number in range(self.n_blocks) if not self._checked[number]]

        def make_worker() -> Any:
            return lambda position: self.block(missing[position])

        self._workers.run(len(missing), make_worker)


class ArrayPart(NamedTuple):
    """Some of the blocks."""

    source: ArraySource
    blocks: range

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the rows."""
        return self.source.dtype

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over these rows."""
        return self.source.reduce(task, self.blocks)
