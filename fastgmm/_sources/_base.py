"""The questions that a source of rows answers."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._passes import ReducePass, RowMap

Array = NDArray[np.float64]

_MAX_BLOCK, _MIN_BLOCK, _BLOCK_ENTRIES = 8192, 1024, 1 << 17


def block_rows(n_features: int) -> int:
    """Return the rows of a block: the same for every local source, so that results repeat."""
    return min(_MAX_BLOCK, max(_MIN_BLOCK, _BLOCK_ENTRIES // n_features))


class RowSource(Protocol):
    """The work goes to the rows, not the rows to the driver."""

    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    weights: Array | None

    def reduce(self, task: ReducePass, together: int = 1) -> Array:
        """Return the flat statistics of one pass over all rows, some blocks at a time."""

    def map_rows(self, task: RowMap) -> NDArray[Any]:
        """Return one row of results for each row."""

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
