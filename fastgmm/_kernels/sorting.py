"""Rows in the order of their likely components: what the passes that skip pairs begin with."""

from typing import NamedTuple

import numpy as np

from .arrays import Array, Indices, Labels
from .options import device


class SortedScratch(NamedTuple):
    """Memory for blocks of up to n rows that are sorted by L labels, and taken tile by tile."""

    numbers: Array  # as the dense pass wants it
    starts: Indices  # (L + 1,)
    order: Indices  # (n,)
    chosen: Indices  # the rows of a tile


def sorted_scratch(numbers: int, n_labels: int, n: int, tile: int) -> SortedScratch:
    """Return scratch for blocks of up to n rows."""
    return SortedScratch(
        np.empty(numbers),
        np.empty(n_labels + 1, np.int32),
        np.empty(n, np.int32),
        np.empty(tile, np.int32),
    )


@device
def sort_rows(labels: Labels, starts: Indices, order: Indices) -> None:
    """Write the numbers of the rows by label to order, and where each label starts.

    labels : IN (n,), below L; starts : OUT (L + 1,); order : OUT (n,).
    """
    n_labels = starts.shape[0] - 1
    starts[:] = 0
    for i in range(labels.shape[0]):
        starts[np.intp(labels[i]) + 1] += 1
    for k in range(n_labels):
        starts[k + 1] += starts[k]
    for i in range(labels.shape[0]):
        label = np.intp(labels[i])
        order[starts[label]] = i
        starts[label] += 1
    for k in range(n_labels, 0, -1):
        starts[k] = starts[k - 1]
    starts[0] = 0
