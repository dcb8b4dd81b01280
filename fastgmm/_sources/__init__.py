"""Where rows come from: every source answers the same questions."""

from ._array import ArraySource
from ._base import (
    PartedSource,
    RowSource,
    UnfitRow,
    check_any_weight,
    check_weights_of_rows,
)
from ._dask import DaskSource
from ._dask_rows import DaskRows, is_dask
from ._scratch import scratch_array
from ._stream import StreamSource

__all__ = [
    "ArraySource",
    "DaskRows",
    "DaskSource",
    "PartedSource",
    "RowSource",
    "StreamSource",
    "UnfitRow",
    "check_any_weight",
    "check_weights_of_rows",
    "is_dask",
    "scratch_array",
]
