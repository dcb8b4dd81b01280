"""Counting rows that are read once."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Totals(NamedTuple):
    """What is known after counting."""

    n_rows: int
    n_counted: int
    weight: float


class Tally:
    """Counts rows and adds up weights."""

    def __init__(self, block: int) -> None:
        self.n_rows = self._n_zero = 0
        self._block = block
        self._sums: list[float] = []

    def add(self, rows: NDArray[Any], weights: Array) -> None:
        """Count some rows, from the first of a block on; weights may be (0,)."""
        self.n_rows += len(rows)
        self._n_zero += weights.size - int(np.count_nonzero(weights))
        starts = range(0, weights.size, self._block)
        self._sums += [float(weights[a : a + self._block].sum()) for a in starts]

    def totals(self) -> Totals:
        """Return what was found."""
        weight = math.fsum(self._sums) if self._sums else float(self.n_rows)
        return Totals(self.n_rows, self.n_rows - self._n_zero, weight)
