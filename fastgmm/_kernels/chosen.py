"""Rows chosen out of a block: listed by their numbers, and loaded tile by tile."""

from typing import NamedTuple

import numpy as np

from .arrays import Array, Indices, Labels
from .loading import FEW, gather_rows, load_few
from .options import device
from .scaled import ABREAST
from .tile import padded, tile_rows

# Rows are listed for so many tiles at a time, and asked for before they are needed.
_TILES_LISTED = 16


class Scratch(NamedTuple):
    """Memory for some tiles of rows, of which those that are listed are read."""

    x: Array  # (padded(d) tile_rows,)
    by_row: Array  # (3, tile_rows)
    chosen: Indices  # (16 tile_rows,)


def scratch_for(d: int) -> Scratch:
    """Return what kernels that choose rows of d features need."""
    b = tile_rows(d)
    return Scratch(np.empty(padded(d) * b), np.empty((3, b)), np.empty(_TILES_LISTED * b, np.int32))


@device
def look_up(table: Array, numbers: Labels, start: int, out: Array, rows: int) -> None:
    """Write what a table holds for some rows' numbers."""
    own = numbers[start : start + rows]
    for r in range(rows):
        out[r] = table[np.uint32(own[r])]


@device
def filled_up(chosen: Indices, listed: int) -> Indices:
    """Return the rows that are listed, the last one repeated until registers are full."""
    whole = (listed + ABREAST - 1) // ABREAST * ABREAST
    for r in range(listed, whole):
        chosen[r] = chosen[listed - 1]
    return chosen[:whole]


@device
def list_unless_less(low: Array, high: Array, first: int, chosen: Indices, listed: int) -> int:
    """List rows, the first of which has this number, unless low is less than high for them.

    Return how many are listed.
    """
    for r in range(low.shape[0]):
        # always written, without a branch, but only a row that is listed keeps its place
        chosen[np.uint32(listed)] = first + r
        listed += int(not low[r] < high[r])
    return listed


@device
def list_all(chosen: Indices, start: int, stop: int) -> int:
    """List all rows of a stretch; return how many they are."""
    for r in range(stop - start):
        chosen[r] = start + r
    return stop - start


@device
def without_gaps(tile: Indices, rows: int) -> bool:
    """Return whether the rows of a tile follow one another, before the last of them is repeated."""
    return int(tile[rows - 1]) - int(tile[0]) == rows - 1


@device
def load_chosen(data: Array, tile: Indices, rows: int, d: int, x: Array, b: int) -> None:
    """Transpose a tile of rows into x."""
    if d <= FEW and rows == b and without_gaps(tile, rows):
        load_few(data, int(tile[0]), d, x, b)
    else:
        gather_rows(data, tile, tile.shape[0], d, x, b)


@device
def choose(values: Array, tile: Indices, rows: int, out: Array) -> None:
    """Write the values of a tile's rows to out, 0 for rows that are repeated."""
    if without_gaps(tile, rows):
        first = int(tile[0])
        together = values[first : first + rows]
        for r in range(rows):  # to assign all at once compiles an error about shapes, too: 3 s
            out[r] = together[r]
    else:
        for r in range(rows):
            out[r] = values[np.uint32(tile[r])]
    out[rows : tile.shape[0]] = 0.0
