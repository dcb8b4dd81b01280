"""Where rows come from: every source answers the same questions."""

from ._array import ArraySource, UnfitRow
from ._base import RowSource, block_rows

__all__ = ["ArraySource", "RowSource", "UnfitRow", "block_rows"]
