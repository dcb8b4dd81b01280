"""Where rows come from: every source answers the same questions."""

from ._array import ArraySource, NonFiniteRows
from ._base import RowSource, block_rows

__all__ = ["ArraySource", "NonFiniteRows", "RowSource", "block_rows"]
