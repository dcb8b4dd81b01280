"""The questions that a source of rows answers, and what all sources share."""

import math
from collections.abc import Generator, Iterable, Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._kernels.finite import first_unfit
from .._passes import Block, ReducePass, RowMap

Array = NDArray[np.float64]


class UnfitRow(ValueError):
    """A row holds NaN, an infinity, or a number too large to be squared and summed up."""

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.row, self.column, self.value = row, column, value


def even_ranges(n_items: int, n_parts: int) -> list[range]:
    """Cut the numbers below ``n_items`` into so many ranges, of sizes as even as they go."""
    edges = [n_items * number // n_parts for number in range(n_parts + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def read_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return how numbers of this type are read: float32 as it is, every other as float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def check_fit(rows: NDArray[Any], start: int, limit: float) -> None:
    """Raise UnfitRow unless all entries are finite and smaller than ``limit`` in size.

    start : number of the first row.
    """
    read = rows.view()
    read.flags.writeable = False  # kernels are compiled for such rows alone
    position = first_unfit(read, None, limit)
    if position >= 0:
        row, column = divmod(int(position), rows.shape[1])
        raise UnfitRow(start + row, column, float(rows[row, column]))


def check_weights_of_rows(weights: Array, start: int = 0) -> None:
    """Raise ValueError unless all weights are finite and none is negative.

    start : number of the row that the first weight belongs to.
    """
    if weights.size == 0 or (weights.min() >= 0.0 and weights.max() < np.inf):
        return
    if not np.isfinite(weights).all():
        raise ValueError("sample_weight contains NaN or infinity.")
    first = start + int(np.argmax(weights < 0.0))
    raise ValueError(f"Negative values in sample_weight, the first at {first}.")


def check_any_weight(any_weight: bool) -> None:
    """Raise ValueError unless there is a weight that is not 0."""
    if not any_weight:
        raise ValueError("Sample weights must contain at least one non-zero number.")


def sum_weights(blocks: Iterable[Array]) -> float:
    """Return the sum of weights given block by block: the same bits for every source."""
    return math.fsum(float(weights.sum()) for weights in blocks)


class Part(Protocol):
    """Consecutive blocks of a source."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the rows."""

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over these rows."""


class PartedSource(Protocol):
    """A source that can be read part by part."""

    @property
    def n_blocks(self) -> int:
        """Return the number of blocks."""

    def parts(self, n_parts: int) -> Generator[Part, None, None]:
        """Yield all rows in order, in so many parts of even size, each used before the next."""


class RowSource(Protocol):
    """The work goes to the rows, not the rows to the driver."""

    n_features: int
    dtype: np.dtype[Any]
    limit: float  # all entries must be smaller in size
    shares_memory: bool  # whether passes can write to arrays of the driver
    random_access: bool  # whether few rows can be had without reading many

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""

    @property
    def n_counted(self) -> int:
        """Return the number of rows of non-zero weight."""

    @property
    def mean_weight(self) -> float:
        """Return the mean weight of the rows that count."""

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over all rows."""

    def map_rows(self, task: RowMap) -> NDArray[Any]:
        """Return one row of results for each row."""

    def blocks(self) -> Iterator[Block]:
        """Return all rows in order, one block at a time."""

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""

    def sample(self, ranks: NDArray[np.int64]) -> Any:
        """Return an ArraySource of the rows of these increasing numbers, among those that count."""

    def gather(self) -> Any:
        """Return an ArraySource of all rows, in memory if they are few."""

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
