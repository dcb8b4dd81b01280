"""Rows as Dask collections."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from row_sources import NAMES, D

BLOCK = 8192


def chunked(X, lengths=BLOCK):
    return da.from_array(X, chunks=(lengths, -1))


def unknown(X, lengths=BLOCK):
    """The same without known lengths of chunks."""
    return chunked(X, lengths).map_blocks(np.asarray, chunks=((np.nan,) * 3, (D,)))


def frame(X, w=None, npartitions=3):
    table = pd.DataFrame(X, columns=NAMES)
    if w is not None:
        table.insert(1, "w", w)
    return dd.from_pandas(table, npartitions=npartitions)
