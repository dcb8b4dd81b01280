"""All rows of a source brought into one array: in memory if they are few, otherwise in a file."""

import numpy as np

from .._threads import Workers
from ._array import ArraySource
from ._base import RowSource
from ._scratch import scratch_array


def gathered(source: RowSource, workers: Workers, *, weighted: bool) -> ArraySource:
    """Return a source of all rows, copied block by block, and of their weights if there are any.

    Raises
    ------
    OSError
        If the disk has no room.
    """
    rows = scratch_array((source.n_rows, source.n_features), source.dtype)
    weights = scratch_array((source.n_rows,), np.float64) if weighted else None
    for block in source.blocks():
        rows[block.where] = block.rows
        if weights is not None:
            weights[block.where] = block.weights
    return ArraySource(rows, workers, weights, source.limit, checked=True)
