"""Rows in an array: any layout, any real type, in memory or memory-mapped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._kernels.finite import first_unfit
from .._passes import NO_WEIGHTS, Block, ReducePass, RowMap
from .._threads import Workers
from ._base import block_rows

Array = NDArray[np.float64]


class UnfitRow(ValueError):
    """A row holds NaN, an infinity, or a number too large to be squared and summed up."""

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.row, self.column, self.value = row, column, value


class ArraySource:
    """Rows of a 2-D array, read and checked block by block, never copied whole.

    Every entry must be finite, and smaller than ``limit`` in size.
    """

    def __init__(
        self,
        X: NDArray[Any],
        workers: Workers,
        sample_weight: Array | None = None,
        limit: float = np.inf,
    ) -> None:
        self.n_rows, self.n_features = X.shape
        self.weights = sample_weight
        # float32 stays as it is; every other real type is read as float64
        self.dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        self._workers = workers
        self._limit = limit
        self._X = X
        self._rows = block_rows(self.n_features)
        self.n_blocks = -(-self.n_rows // self._rows)
        integral = X.dtype.kind in "iub"
        self._checked = bytearray(b"\x01" if integral else b"\x00") * self.n_blocks

    @property
    def mean_weight(self) -> float:
        """Return the mean weight of the rows that count."""
        if self.weights is None:
            return 1.0
        return float(self.weights.sum() / np.count_nonzero(self.weights))

    def block(self, number: int, together: int = 1) -> Block:
        """Return one block, or several as one; the first time, see that its rows are finite."""
        size = self._rows * together
        start = number * size
        part = self._X[start : start + size]
        rows = np.ascontiguousarray(part, dtype=self.dtype).view(np.ndarray)
        rows.flags.writeable = False
        first = number * together
        for checked in range(first, min(first + together, self.n_blocks)):
            if not self._checked[checked]:
                offset = (checked - first) * self._rows
                self._check(rows[offset : offset + self._rows], start + offset)
                self._checked[checked] = 1
        if self.weights is None:
            return Block(rows, NO_WEIGHTS, start, number)
        return Block(rows, self.weights[start : start + size], start, number)

    def reduce(self, task: ReducePass, together: int = 1) -> Array:
        """Return the flat statistics of one pass over all rows, some blocks at a time."""

        def make_worker() -> Any:
            add = task.worker()
            return lambda number, statistics: add(self.block(number, together), statistics)

        return self._workers.reduce(-(-self.n_blocks // together), task.size, make_worker)

    def map_rows(self, task: RowMap) -> NDArray[Any]:
        """Return one row of results for each row."""
        out = np.empty((self.n_rows, *task.columns), dtype=task.dtype)

        def make_worker() -> Any:
            write = task.worker()

            def run(number: int) -> None:
                block = self.block(number)
                write(block, out[block.where])

            return run

        self._workers.run(self.n_blocks, make_worker)
        return out

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""
        rows: Array = np.ascontiguousarray(self._X[index], dtype=np.float64)
        return rows

    def sample(self, index: NDArray[np.int64]) -> "ArraySource":
        """Return a source of the rows of these numbers alone."""
        weights = None if self.weights is None else _readonly(self.weights[index])
        return ArraySource(self._X[index], self._workers, weights, self._limit)

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
        missing = [number for number in range(self.n_blocks) if not self._checked[number]]

        def make_worker() -> Any:
            return lambda position: self.block(missing[position])

        self._workers.run(len(missing), make_worker)

    def _check(self, rows: NDArray[Any], start: int) -> None:
        position = first_unfit(rows, None, self._limit)
        if position >= 0:
            row, column = divmod(int(position), self.n_features)
            raise UnfitRow(start + row, column, float(rows[row, column]))


def _readonly(array: Array) -> Array:
    array.flags.writeable = False
    return array
