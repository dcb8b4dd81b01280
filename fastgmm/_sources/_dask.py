"""Rows that lie on the workers of a Dask cluster, or are read by Dask's threads.

A pass is one task for each bundle of chunks, and the parameters are all that travels to them.
Within a chunk blocks are added in the tree of all other sources, and so are chunks: the result has
the same bits for any number of workers, and those of an array's where chunks hold 1, 2, 4, ...
blocks.
"""

from collections.abc import Hashable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from .._passes import Block, BlockReducer, ReducePass, RowMap, block_rows
from .._threads import Workers
from . import _dask_tasks as tasks
from . import _scratch
from ._array import ArraySource
from ._base import UnfitRow, check_any_weight, check_fit, sum_weights
from ._dask_engine import Engine, Graph
from ._dask_rows import DaskRows
from ._dask_tasks import Chunk, Picked, Size, Unfit
from ._gather import gathered

Array = NDArray[np.float64]

# A task costs the scheduler a millisecond, whatever it does: small chunks share one.
_BUNDLE_BYTES = 32 << 20
_TASKS_EACH = 4  # for each thread, so that all end at about the same time
# Statistics of more bytes than these are added before they leave the workers, so many at a time.
_TRAVEL_BYTES = 1 << 20
_MERGED = 8
# Rows come from a cluster in pieces of so many bytes.
_PIECE_BYTES = 8 << 20


class DaskSource:
    """Rows in the chunks of a Dask collection; with ``persist`` they stay where they are computed.

    On a cluster all do. In this process only as few as any source keeps in memory: more are read
    again for each pass, by as many threads at a time as there are.

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
        self._engine = Engine(workers.n_threads)
        self._sizes: list[Size] | None = None  # of the chunks
        self._gathered: ArraySource | None = None
        self._checked = False
        self._together = 1  # chunks in each bundle, the last one aside
        self._graph, self._bundles = self._loading()
        if persist:
            self._settle()

    def _loading(self) -> tuple[Graph, list[Hashable]]:
        """Return the graph that loads each chunk as a bundle, and its keys."""
        import dask
        from dask.core import flatten

        given, name = self._given, _name("load")
        collections = [given.rows, given.weights] if self._weighted else [given.rows]
        graph: dict[Hashable, Any] = {}
        parts = []
        for collection, best in zip(collections, dask.optimize(*collections), strict=True):
            graph.update(best.__dask_graph__())
            parts.append(list(flatten(best.__dask_keys__())))
            held = collection.__dask_graph__()  # futures, which the optimised one leaves out
            graph.update((key, held[key]) for key in parts[-1] if key not in graph)
        rows, weights = parts[0], parts[-1] if self._weighted else [None] * len(parts[0])
        keys: list[Hashable] = []
        sizes = []
        for number, (start, n) in enumerate(zip(given.starts(), given.lengths(), strict=True)):
            if n == 0:
                continue
            key, pair = (name, number), (rows[number], weights[number])
            graph[key] = (tasks.load, *pair, self.dtype, number, start, n)
            keys.append(key)
            if n is not None:
                sizes.append(Size(n, n, []))
        if len(sizes) == len(keys) and not self._weighted:
            self._sizes = sizes
        return graph, keys

    def _settle(self) -> None:
        """Put small chunks together, and keep all where they are if there is room."""
        if self._sizes is None:
            if self._engine.distant:
                self._keep()
            self._counted()
        n_bytes = self.n_rows * self.n_features * self.dtype.itemsize
        self._bundle(n_bytes)
        if self._engine.distant or n_bytes <= _scratch.IN_MEMORY:
            self._keep()

    def _bundle(self, n_bytes: int) -> None:
        """Put 2, 4, 8, ... chunks in each bundle: whole subtrees of the tree of sums."""
        n_tasks, least = len(self._bundles), _TASKS_EACH * self._engine.n_threads
        while n_tasks >= 2 * least and 2 * n_bytes <= n_tasks * _BUNDLE_BYTES:
            n_tasks, self._together = -(-n_tasks // 2), 2 * self._together
        if self._together > 1:
            graph, name = dict(self._graph), _name("join")
            groups = _groups(self._bundles, self._together)
            self._bundles = [(name, number) for number in range(len(groups))]
            graph.update(
                (key, (tasks.join, *group))
                for key, group in zip(self._bundles, groups, strict=True)
            )
            self._graph = graph

    def _keep(self) -> None:
        self._graph = self._engine.persist(self._graph, self._bundles)

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
        params, name = _name("params"), _name("pass")
        limit = None if self._checked else self.limit
        graph: dict[Hashable, Any] = {**self._graph, params: task}
        parts: list[Hashable] = [(name, number) for number in range(len(self._bundles))]
        for number, (part, bundle) in enumerate(zip(parts, self._bundles, strict=True)):
            first = number * self._together
            graph[part] = (tasks.reduce_bundle, bundle, first, params, self._block, limit)
        while len(parts) > _MERGED and len(parts) * task.size * 8 > _TRAVEL_BYTES:
            groups, name = _groups(parts, _MERGED), _name("sum")
            parts = [(name, number) for number in range(len(groups))]
            graph.update(
                (part, (tasks.merge, *group)) for part, group in zip(parts, groups, strict=True)
            )
        found: Array | Unfit = tasks.merge(*self._engine.compute(graph, parts))
        if isinstance(found, Unfit):
            raise self._located(found)
        self._checked = True
        return found

    def map_rows(self, task: RowMap) -> Any:
        """Return a lazy Dask array with one row of results for each row."""
        from dask import delayed

        rows = self._given.rows
        options: dict[str, Any] = {"drop_axis": 1}
        if task.columns:
            options = {"chunks": (rows.chunks[0], task.columns)}
        return rows.map_blocks(
            tasks.map_chunk,
            task=delayed(task, name=_name("params"), traverse=False),
            size=self._block,
            read=self.dtype,
            name=_name("map"),
            dtype=task.dtype,
            meta=np.empty((0,) * (1 + len(task.columns)), task.dtype),
            **options,
        )

    def blocks(self) -> Iterator[Block]:
        """Return all rows in order, one block at a time; they are fetched a piece at a time."""
        start = number = 0
        for index, offset, piece in self._pieces():
            if not self._checked:
                try:
                    check_fit(piece.rows, offset, self.limit)
                except UnfitRow as error:
                    raise self._located(Unfit(index, *error.args)) from None
            for block in tasks.blocks_of(piece, self._block):
                yield block._replace(start=start + block.start, number=number)
                number += 1
            start += len(piece.rows)
        self._checked = True

    def _pieces(self) -> Iterator[tuple[int, int, Chunk]]:
        """Yield parts of chunks, the number of the chunk and of the part's first row within it."""
        together = self._together
        if not self._engine.distant:
            for number, bundle in enumerate(self._bundles):
                (found,) = self._engine.compute(self._graph, [bundle])
                for place, chunk in enumerate(found.chunks):
                    yield number * together + place, 0, chunk
            return
        row_bytes = self.n_features * self.dtype.itemsize
        step = self._block * max(1, _PIECE_BYTES // (self._block * row_bytes))
        for index, size in enumerate(self._counted()):
            for start in range(0, size.n_rows, step):
                (piece,) = self._ask([(tasks.cut, index, start, start + step)])
                yield index, start, piece

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64."""
        starts = np.cumsum([0, *(size.n_rows for size in self._counted())])
        owner = np.searchsorted(starts, index, side="right") - 1
        out = np.empty((len(index), self.n_features))
        chosen = np.unique(owner)
        wanted = [index[owner == c] - starts[c] for c in chosen]
        for c, rows in zip(chosen, self._picked(chosen, wanted), strict=True):
            out[owner == c] = rows.rows
        return out

    def sample(self, ranks: NDArray[np.int64]) -> ArraySource:
        """Return a source of the rows of these increasing numbers, among those that count."""
        starts = np.cumsum([0, *(size.n_counted for size in self._counted())])
        cuts = np.searchsorted(ranks, starts)
        chosen = np.flatnonzero(np.diff(cuts))
        wanted = [ranks[cuts[c] : cuts[c + 1]] - starts[c] for c in chosen]
        found = self._picked(chosen, wanted, counted=True)
        for c, part in zip(chosen, found, strict=True):
            try:
                check_fit(part.rows, 0, self.limit)
            except UnfitRow as error:
                row = int(part.numbers[error.row])
                raise self._located(Unfit(int(c), row, error.column, error.value)) from None
        rows = np.concatenate([part.rows for part in found])
        weights = np.concatenate([part.weights for part in found]) if self._weighted else None
        return ArraySource(rows, self._workers, weights, self.limit, checked=True)

    def gather(self) -> ArraySource:
        """Return a source of all rows, in memory or in a temporary file of this process.

        Raises
        ------
        OSError
            If the disk has no room.
        """
        if self._gathered is None:
            self._gathered = gathered(self, self._workers, weighted=self._weighted)
        return self._gathered

    def check_finite(self) -> None:
        """Raise UnfitRow unless every row that was not read yet is finite, too."""
        if not self._checked:
            self.reduce(_Look())

    def _counted(self) -> list[Size]:
        """Return the sizes of chunks, after dropping those without rows."""
        if self._sizes is None:
            sizes = self._measured()
            if self._together == 1:
                kept = [number for number, size in enumerate(sizes) if size.n_rows]
                self._bundles = [self._bundles[number] for number in kept]
                sizes = [sizes[number] for number in kept]
            self._sizes = sizes
            check_any_weight(not self._weighted or any(size.n_counted for size in sizes))
        return self._sizes

    def _measured(self) -> list[Size]:
        graph, name = dict(self._graph), _name("size")
        keys = [(name, number) for number in range(len(self._bundles))]
        graph.update(
            (key, (tasks.measure, bundle, self._block))
            for key, bundle in zip(keys, self._bundles, strict=True)
        )
        return [size for sizes in self._engine.compute(graph, keys) for size in sizes]

    def _located(self, unfit: Unfit) -> UnfitRow:
        """Return the error that names the row among all rows."""
        sizes = self._measured() if self._sizes is None else self._sizes
        before = sum(size.n_rows for size in sizes[: unfit.chunk])
        return UnfitRow(before + unfit.row, unfit.column, unfit.value)

    def _picked(
        self, chosen: NDArray[np.int64], wanted: list[Any], *, counted: bool = False
    ) -> list[Picked]:
        pairs = zip(chosen.tolist(), wanted, strict=True)
        return self._ask([(tasks.pick, chunk, rows, counted) for chunk, rows in pairs])

    def _ask(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        """Return the results of functions of a chunk, given by its number, and more arguments."""
        graph, name = dict(self._graph), _name("take")
        keys = [(name, number) for number in range(len(calls))]
        for key, (function, chunk, *more) in zip(keys, calls, strict=True):
            number, place = divmod(chunk, self._together)
            graph[key] = (function, self._bundles[number], place, *more)
        return self._engine.compute(graph, keys)


class _Look(ReducePass):
    """A pass that gathers nothing: rows are checked on the way."""

    size = 1

    def worker(self) -> BlockReducer:
        return lambda block, statistics: None


def _name(what: str) -> str:
    """Return a name of tasks; Dask's dashboard shows it without its end."""
    return f"fastgmm-{what}-{uuid4().hex}"


def _groups(items: list[Hashable], size: int) -> list[list[Hashable]]:
    return [items[a : a + size] for a in range(0, len(items), size)]
