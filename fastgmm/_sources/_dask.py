"""Rows that lie on the workers of a Dask cluster, or with Dask's scheduler of threads.

A pass is one task for each chunk of rows, and the parameters are all that travels to them.  Within
a chunk blocks are added in the tree of all other sources, and so are chunks: the result has the
same bits for any number of workers, and those of an array's where chunks hold 1, 2, 4, ... blocks.
"""

import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from .._passes import NO_WEIGHTS, Block, BlockReducer, ReducePass, RowMap
from .._threads import Tree, Workers
from ._array import ArraySource
from ._base import (
    UnfitRow,
    block_rows,
    check_any_weight,
    check_fit,
    check_weights_of_rows,
    sum_weights,
)
from ._dask_rows import DaskRows
from ._scratch import scratch_array

Array = NDArray[np.float64]

# So many chunks' sums become one before they leave the workers: a whole subtree of the tree.
_MERGED = 8


class Chunk(NamedTuple):
    """What a worker holds."""

    rows: NDArray[Any]  # (n, d), in the type they are computed with
    weights: Array  # (n,), or (0,) when every row counts once


class _Size(NamedTuple):
    n_rows: int
    n_counted: int
    weights: list[float]  # their sums, by block


class _Unfit(NamedTuple):
    """Where the first bad row is; a result, since workers log what is raised as failures."""

    chunk: int
    row: int  # within the chunk
    column: int
    value: float


class DaskSource:
    """Rows in the chunks of a Dask collection; with ``persist`` they stay where they are computed.

    Every entry must be finite, and smaller than ``limit`` in size.
    """

    shares_memory = False
    random_access = True

    def __init__(self, given: DaskRows, workers: Workers, *, persist: bool) -> None:
        self.n_features = given.n_features
        self.dtype = given.dtype
        self.limit = np.inf
        self._given = given
        self._weighted = given.weights is not None
        self._workers = workers
        self._block = block_rows(self.n_features)
        self._options = {} if _has_client() else {"num_workers": workers.n_threads}
        self._chunks = self._load(persist)
        self._sizes: list[_Size] | None = None
        self._gathered: ArraySource | None = None
        self._checked = False

    def _load(self, persist: bool) -> list[Any]:
        import dask

        given = self._given
        parts = given.rows.to_delayed().ravel()
        weights = [None] * len(parts)
        if given.weights is not None:
            weights = given.weights.to_delayed().ravel()
        starts = given.starts()
        chunks = [
            _task("rows", _load_chunk, *pair, self.dtype, number, start)
            for number, (*pair, start) in enumerate(zip(parts, weights, starts, strict=True))
        ]
        return list(dask.persist(*chunks, **self._options)) if persist else chunks

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return sum(size.n_rows for size in self._counted())

    @property
    def n_counted(self) -> int:
        """Return the number of rows of non-zero weight."""
        return sum(size.n_counted for size in self._counted())

    @property
    def mean_weight(self) -> float:
        """Return the mean weight of the rows that count."""
        if not self._weighted:
            return 1.0
        sums = [np.array([part]) for size in self._counted() for part in size.weights]
        return sum_weights(sums) / self.n_counted

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over all rows."""
        # Parameters are a node of the graph: sent once to each worker, and again if one dies.
        shared = _node(task)
        limit = None if self._checked else self.limit
        parts = [
            _task("pass", _reduce_chunk, chunk, number, shared, self._block, limit)
            for number, chunk in enumerate(self._chunks)
        ]
        while len(parts) > _MERGED:
            groups = [parts[a : a + _MERGED] for a in range(0, len(parts), _MERGED)]
            parts = [_task("sum", _merge, *group) for group in groups]
        found: Array | _Unfit = _merge(*self._compute(parts))
        if isinstance(found, _Unfit):
            raise self._located(found)
        self._checked = True
        return found

    def map_rows(self, task: RowMap) -> Any:
        """Return a lazy Dask array with one row of results for each row."""
        rows = self._given.rows
        options: dict[str, Any] = {"drop_axis": 1}
        if task.columns:
            options = {"chunks": (rows.chunks[0], task.columns)}
        return rows.map_blocks(
            _map_chunk,
            task=_node(task),
            size=self._block,
            read=self.dtype,
            name=f"fastgmm-map-{uuid4().hex}",
            dtype=task.dtype,
            meta=np.empty((0,) * (1 + len(task.columns)), task.dtype),
            **options,
        )

    def blocks(self) -> Iterator[Block]:
        """Return all rows in order, one block at a time; one chunk at a time is fetched."""
        start = number = 0
        for index, lazy in enumerate(self._chunks):
            (chunk,) = self._compute([lazy])
            for block in _cut(chunk, self._block):
                if not self._checked:
                    try:
                        check_fit(block.rows, block.start, self.limit)
                    except UnfitRow as error:
                        raise self._located(_Unfit(index, *error.args)) from None
                yield block._replace(start=start + block.start, number=number)
                number += 1
            start += len(chunk.rows)
        self._checked = True

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""
        starts = np.cumsum([0, *(size.n_rows for size in self._counted())])
        owner = np.searchsorted(starts, index, side="right") - 1
        out = np.empty((len(index), self.n_features))
        chosen = np.unique(owner)
        wanted = [index[owner == c] - starts[c] for c in chosen]
        for c, rows in zip(chosen, self._pick(chosen, wanted), strict=True):
            out[owner == c] = rows.rows
        return out

    def sample(self, ranks: NDArray[np.int64]) -> ArraySource:
        """Return a source of the rows of these increasing numbers, among those that count."""
        starts = np.cumsum([0, *(size.n_counted for size in self._counted())])
        cuts = np.searchsorted(ranks, starts)
        chosen = np.flatnonzero(np.diff(cuts))
        wanted = [ranks[cuts[c] : cuts[c + 1]] - starts[c] for c in chosen]
        found = self._pick(chosen, wanted, counted=True)
        for c, part in zip(chosen, found, strict=True):
            try:
                check_fit(part.rows, 0, self.limit)
            except UnfitRow as error:
                row = int(part.numbers[error.row])
                raise self._located(_Unfit(int(c), row, error.column, error.value)) from None
        rows = np.concatenate([part.rows for part in found])
        weights = np.concatenate([part.weights for part in found]) if self._weighted else None
        return self._array(rows, weights)

    def gather(self) -> ArraySource:
        """Return a source of all rows, in memory or in a temporary file of this process.

        Raises
        ------
        OSError
            If the disk has no room.
        """
        if self._gathered is None:
            rows = scratch_array((self.n_rows, self.n_features), self.dtype)
            weights = scratch_array((self.n_rows,), np.float64) if self._weighted else None
            for block in self.blocks():
                rows[block.where] = block.rows
                if weights is not None:
                    weights[block.where] = block.weights
            self._gathered = self._array(rows, weights)
        return self._gathered

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
        if not self._checked:
            self.reduce(_Look())

    def _array(self, rows: NDArray[Any], weights: Array | None) -> ArraySource:
        if weights is not None:
            weights.flags.writeable = False
        return ArraySource(rows, self._workers, weights, self.limit, checked=True)

    def _counted(self) -> list[_Size]:
        """Return the sizes of chunks, after dropping those without rows."""
        if self._sizes is None:
            sizes = self._measured()
            kept = [number for number, size in enumerate(sizes) if size.n_rows]
            self._chunks = [self._chunks[number] for number in kept]
            self._sizes = [sizes[number] for number in kept]
            counted = any(size.n_counted for size in sizes)
            check_any_weight(not self._weighted or counted)
        return self._sizes

    def _measured(self) -> list[_Size]:
        tasks = [_task("size", _measure, chunk, self._block) for chunk in self._chunks]
        return list(self._compute(tasks))

    def _located(self, unfit: _Unfit) -> UnfitRow:
        """Return the error that names the row among all rows."""
        sizes = self._measured() if self._sizes is None else self._sizes
        before = sum(size.n_rows for size in sizes[: unfit.chunk])
        return UnfitRow(before + unfit.row, unfit.column, unfit.value)

    def _pick(
        self, chosen: NDArray[np.int64], wanted: list[Any], *, counted: bool = False
    ) -> list["_Picked"]:
        pairs = zip(chosen, wanted, strict=True)
        return list(
            self._compute([_task("take", _pick, self._chunks[c], w, counted) for c, w in pairs])
        )

    def _compute(self, tasks: list[Any]) -> Any:
        import dask

        return dask.compute(*tasks, traverse=False, **self._options)


def _has_client() -> bool:
    """Tell whether there is a cluster to work on."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        client = distributed.get_client()
    except ValueError:
        return False
    if client.asynchronous:
        raise TypeError(
            "The current Dask client is asynchronous, and fit waits for its results. Use "
            "distributed.Client(address) without asynchronous=True, in a thread of its own."
        )
    return True


def _task(name: str, function: Any, *args: Any) -> Any:
    from dask import delayed

    lazy = delayed(function, pure=False, traverse=False)
    return lazy(*args, dask_key_name=f"fastgmm-{name}-{uuid4().hex}")


def _node(value: Any) -> Any:
    from dask import delayed

    return delayed(value, name=f"fastgmm-params-{uuid4().hex}", traverse=False)


class _Look:
    """A pass that gathers nothing: rows are checked on the way."""

    size = 1

    def worker(self) -> BlockReducer:
        return lambda block, statistics: None


# What follows runs on the workers.


class _Picked(NamedTuple):
    rows: NDArray[Any]
    weights: Array
    numbers: NDArray[np.int64]  # within the chunk


def _load_chunk(
    rows: Any, weights: Any, dtype: np.dtype[Any], number: int, start: int | None
) -> Chunk:
    held = np.ascontiguousarray(rows, dtype=dtype)
    if weights is None:
        return Chunk(held, NO_WEIGHTS)
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
    return Chunk(held, given)


def _cut(chunk: Chunk, size: int) -> Iterator[Block]:
    """Yield the blocks of a chunk, numbered within it."""
    rows, weights = chunk.rows.view(), chunk.weights.view()
    rows.flags.writeable = weights.flags.writeable = False  # what has travelled may be writeable
    for a in range(0, len(rows), size):
        yield Block(rows[a : a + size], weights[a : a + size], a, a // size)


def _measure(chunk: Chunk, size: int) -> _Size:
    n, weights = len(chunk.rows), chunk.weights
    if not weights.size:
        return _Size(n, n, [])
    sums = [float(block.weights.sum()) for block in _cut(chunk, size)]
    return _Size(n, int(np.count_nonzero(weights)), sums)


def _pick(chunk: Chunk, index: NDArray[np.int64], counted: bool) -> _Picked:
    weights = chunk.weights
    if counted and weights.size:
        index = np.flatnonzero(weights)[index]
    return _Picked(chunk.rows[index], weights[index] if weights.size else weights, index)


def _reduce_chunk(
    chunk: Chunk, number: int, task: ReducePass, size: int, limit: float | None
) -> Array | _Unfit:
    """Return the flat statistics of a chunk; entries are checked unless ``limit`` is None."""
    tree = Tree()
    if not len(chunk.rows):
        return tree.buffer(task.size)
    add = tree.adder(task.size, task.worker(), attrgetter("number"))
    for block in _cut(chunk, size):
        if limit is not None:
            try:
                check_fit(block.rows, block.start, limit)
            except UnfitRow as error:
                return _Unfit(number, error.row, error.column, error.value)
        add(block)
    return tree.total()


def _merge(*parts: Any) -> Any:
    """Return the sum of consecutive chunks' statistics in the fixed tree, or the first bad row."""
    tree = Tree()
    for number, part in enumerate(parts):
        if isinstance(part, _Unfit):
            return part
        tree.add(number, np.array(part))  # which the tree adds to, and workers keep
    return tree.total()


def _map_chunk(
    rows: Any, *, task: RowMap, size: int, read: np.dtype[Any], block_id: Any = None
) -> NDArray[Any]:
    held = np.ascontiguousarray(rows, dtype=read)
    out = np.empty((len(held), *task.columns), dtype=task.dtype)
    write = task.worker()
    for block in _cut(Chunk(held, NO_WEIGHTS), size):
        try:
            check_fit(block.rows, block.start, np.inf)
        except UnfitRow as error:
            what = "NaN" if np.isnan(error.value) else "infinity"
            raise ValueError(
                f"Input X contains {what} in row {error.row} of chunk {block_id[0]}, column "
                f"{error.column} (counted from 0). Drop such rows, or impute their values."
            ) from None
        write(block, out[block.where])
    return out
