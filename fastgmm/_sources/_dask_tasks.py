"""What runs on Dask's workers: functions of the rows there, small in what they take and give."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._passes import NO_WEIGHTS, Block, ReducePass, RowMap
from .._threads import Tree
from ._base import UnfitRow, check_fit, check_weights_of_rows

Array = NDArray[np.float64]


class Chunk(NamedTuple):
    """The rows of one of the user's chunks, or a part of them."""

    rows: NDArray[Any]  # (n, d), in the type they are computed with
    weights: Array  # (n,), or (0,) when every row counts once


class Bundle:
    """Consecutive chunks that a worker holds, and that one task goes through."""

    __slots__ = ("chunks",)

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = chunks

    def __sizeof__(self) -> int:
        # by which Dask tells how much memory a worker uses
        return sum(chunk.rows.nbytes + chunk.weights.nbytes for chunk in self.chunks)


class Size(NamedTuple):
    """What there is to know of a chunk in advance."""

    n_rows: int
    n_counted: int  # rows of non-zero weight
    weights: list[float]  # their sums, by block


class Unfit(NamedTuple):
    """Where the first bad row is; a result, since workers log what is raised as failures."""

    chunk: int
    row: int  # within the chunk
    column: int
    value: float


class Picked(NamedTuple):
    """Rows taken out of a chunk."""

    rows: NDArray[Any]
    weights: Array
    numbers: NDArray[np.int64]  # within the chunk


def load(
    rows: Any,
    weights: Any,
    dtype: np.dtype[Any],
    number: int,
    start: int | None,
    length: int | None,
) -> Bundle:
    """Return a bundle of one chunk, checked; start and length are None where they are not known."""
    held = np.ascontiguousarray(rows, dtype=dtype)
    if length is not None and len(held) != length:
        raise ValueError(
            f"Chunk {number} of X (counted from 0) has {len(held)} rows, and should have {length}: "
            "the chunk sizes of X are wrong. X.compute_chunk_sizes() puts them right."
        )
    if weights is None:
        return Bundle(Chunk(held, NO_WEIGHTS))
    given = np.ascontiguousarray(weights, dtype=np.float64)
    if given.shape != held.shape[:1]:
        raise ValueError(
            f"Chunk {number} (counted from 0) has {len(held)} rows and weights of shape "
            f"{given.shape}: sample_weight must have the row chunks of X."
        )
    try:
        check_weights_of_rows(given, start or 0)
    except ValueError as error:
        where = "" if start is not None else f" (in chunk {number}, counted from its first row)"
        raise ValueError(f"{error}{where}") from None
    return Bundle(Chunk(held, given))


def join(*bundles: Bundle) -> Bundle:
    """Return one bundle of several; nothing is copied."""
    return Bundle(*(chunk for bundle in bundles for chunk in bundle.chunks))


def blocks_of(chunk: Chunk, size: int) -> Iterator[Block]:
    """Yield the blocks of a chunk, numbered within it."""
    rows, weights = chunk.rows.view(), chunk.weights.view()
    rows.flags.writeable = weights.flags.writeable = False  # what has travelled may be writeable
    for a in range(0, len(rows), size):
        yield Block(rows[a : a + size], weights[a : a + size], a, a // size)


def measure(bundle: Bundle, size: int) -> list[Size]:
    """Return the sizes of a bundle's chunks, with sums of weights over blocks of ``size`` rows."""
    found = []
    for chunk in bundle.chunks:
        n, weights = len(chunk.rows), chunk.weights
        if weights.size:
            sums = [float(block.weights.sum()) for block in blocks_of(chunk, size)]
            found.append(Size(n, int(np.count_nonzero(weights)), sums))
        else:
            found.append(Size(n, n, []))
    return found


def cut(bundle: Bundle, place: int, start: int, stop: int) -> Chunk:
    """Return some rows of one of a bundle's chunks."""
    rows, weights = bundle.chunks[place]
    return Chunk(rows[start:stop], weights[start:stop])


def pick(bundle: Bundle, place: int, index: NDArray[np.int64], counted: bool) -> Picked:
    """Return the rows of these numbers in a chunk, or of these among those that count."""
    rows, weights = bundle.chunks[place]
    if counted and weights.size:
        index = np.flatnonzero(weights)[index]
    return Picked(rows[index], weights[index] if weights.size else weights, index)


def reduce_bundle(
    bundle: Bundle, first: int, task: ReducePass, size: int, limit: float | None
) -> Array | Unfit:
    """Return the flat statistics of a bundle; entries are checked unless ``limit`` is None.

    first : number of the first chunk.
    """
    worker = task.worker()
    parts: list[Array] = []
    for chunk in bundle.chunks:
        tree = Tree()
        if not len(chunk.rows):
            parts.append(tree.buffer(task.size))
            continue
        add = tree.adder(task.size, worker, lambda block: range(block.number, block.number + 1))
        for block in blocks_of(chunk, size):
            if limit is not None:
                try:
                    check_fit(block.rows, block.start, limit)
                except UnfitRow as error:
                    number = first + len(parts)
                    return Unfit(number, error.row, error.column, error.value)
            add(block)
        parts.append(tree.total())
    total: Array = merge(*parts)
    return total


def merge(*parts: Any) -> Any:
    """Return the sum of consecutive statistics in the fixed tree, or the first bad row."""
    tree = Tree()
    for number, part in enumerate(parts):
        if isinstance(part, Unfit):
            return part
        tree.add(number, np.array(part))  # which the tree adds to, and workers keep
    return tree.total()


def map_chunk(
    rows: Any, *, task: RowMap, size: int, read: np.dtype[Any], block_info: Any = None
) -> NDArray[Any]:
    """Return one row of results for each row of a Dask array's chunk."""
    held = np.ascontiguousarray(rows, dtype=read)
    out = np.empty((len(held), *task.columns), dtype=task.dtype)
    write = task.worker()
    for block in blocks_of(Chunk(held, NO_WEIGHTS), size):
        try:
            check_fit(block.rows, block.start, np.inf)
        except UnfitRow as error:
            what = "NaN" if np.isnan(error.value) else "infinity"
            raise ValueError(
                f"Input X contains {what} in {_place(error.row, block_info[0])}, column "
                f"{error.column} (counted from 0). Drop such rows, or impute their values."
            ) from None
        write(block, out[block.where])
    return out


def _place(row: int, info: dict[str, Any]) -> str:
    """Return the row's number among all rows, where lengths of chunks are known."""
    start = info["array-location"][0][0]
    if np.isnan(start):
        return f"row {row} of chunk {info['chunk-location'][0]}"
    return f"row {int(start) + row}"
