"""Rows that are read again for each pass, a slab at a time, while the slab before is computed."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._passes import NO_WEIGHTS, Block, ReducePass, RowMap, block_rows
from .._threads import Tree, Workers
from . import _scratch
from ._array import ArrayPart, ArraySource
from ._base import (
    check_any_weight,
    check_fit,
    check_weights_of_rows,
    even_ranges,
)
from ._gather import gathered
from ._readahead import ReadAhead
from ._readers import Reader
from ._tally import Tally, Totals

Array = NDArray[np.float64]

# One slab is filled, one is ready, and one is computed: enough to read and compute at once.
_SLAB_BYTES = 8 << 20


class Slab(NamedTuple):
    """Rows of whole blocks (the last one aside), in the type they are computed with."""

    rows: NDArray[Any]  # (n, d)
    weights: Array  # (n,), or (0,) when every row counts once
    start: int  # number of the first row


class StreamSource:
    """Rows from a reader, in blocks of the same grid as an array's: the same sums to the last bit.

    ``sample_weight`` are weights by row number, if the reader gives none.
    """

    shares_memory = True
    random_access = False

    def __init__(
        self,
        reader: Reader,
        workers: Workers,
        sample_weight: Array | None = None,
    ) -> None:
        if sample_weight is not None and reader.weighted:
            raise ValueError(
                f"{reader.what} hold weights already: give them there or as sample_weight, not both"
            )
        self.n_features = reader.n_features
        self.dtype = reader.dtype
        self.limit = np.inf
        self._reader = reader
        self._workers = workers
        self._given = sample_weight
        self._weighted = reader.weighted or sample_weight is not None
        self._block = block_rows(self.n_features)
        per_block = self._block * self.n_features * self.dtype.itemsize
        self._slab = self._block * max(1, _SLAB_BYTES // per_block)
        self._known = reader.n_rows  # the number of rows, as soon as it is known
        self._totals: Totals | None = None
        self._gathered: ArraySource | None = None
        self._checked = False
        if self._known is not None:
            self._see_length(self._known)

    @property
    def n_rows(self) -> int:
        """Return the number of rows; found by a pass if the reader cannot tell."""
        return self._counted().n_rows if self._known is None else self._known

    @property
    def n_blocks(self) -> int:
        """Return the number of blocks."""
        return -(-self.n_rows // self._block)

    @property
    def n_counted(self) -> int:
        """Return the number of rows of non-zero weight."""
        return self._counted().n_counted

    @property
    def mean_weight(self) -> float:
        """Return the mean weight of the rows that count."""
        if not self._weighted:
            return 1.0
        return self._counted().weight / self.n_counted

    def settled(self) -> "ArraySource | StreamSource":
        """Return an array of all rows if they are few, read once; otherwise this source, counted.

        Reading a small file again for each pass costs more than keeping it does.
        """
        most = _scratch.IN_MEMORY // (self.n_features * self.dtype.itemsize)
        if self._known is not None and self._known > most:
            return self
        kept: list[Slab] | None = []
        tally = Tally(self._block)
        with ReadAhead(self._slabs) as slabs:
            for slab in slabs:
                tally.add(slab.rows, slab.weights)
                if kept is not None and tally.n_rows <= most:
                    kept.append(slab)
                else:
                    kept = None
        self._note(tally)
        if kept is None:
            return self
        rows = np.concatenate([slab.rows for slab in kept])
        weights = np.concatenate([slab.weights for slab in kept]) if self._weighted else None
        return ArraySource(rows, self._workers, weights, self.limit)

    def blocks(self) -> Generator[Block, None, None]:
        """Return all rows in order, one block at a time; those of the first pass are checked."""
        if self._gathered is not None:
            yield from self._gathered.blocks()
            return
        with ReadAhead(self._slabs) as slabs:
            for block in self._cut(slabs):
                self._check(block)
                yield block
                self._workers.done(block.where.stop, self._known or 0)
        self._checked = True

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over all rows."""
        if self._gathered is not None:
            return self._gathered.reduce(task)
        with ReadAhead(self._slabs) as slabs:
            total = self._sum(task, self._cut(slabs), slabs.stop)
        self._checked = True
        return total

    def parts(self, n_parts: int) -> Generator["_Part | ArrayPart", None, None]:
        """Yield all rows, in one reading, in so many parts of even size."""
        if self._gathered is not None:
            yield from self._gathered.parts(n_parts)
            return
        with ReadAhead(self._slabs) as slabs:
            blocks = self._cut(slabs)
            for numbers in even_ranges(self.n_blocks, n_parts):
                yield _Part(self, numbers, islice(blocks, len(numbers)), slabs.stop)
            next(blocks, None)  # are there more rows than there were?
        self._checked = True

    def map_rows(self, task: RowMap) -> NDArray[Any]:
        """Return one row of results for each row."""
        if self._known is None:
            return self._map_unknown(task)
        out = np.empty((self._known, *task.columns), dtype=task.dtype)

        def make_worker() -> Callable[[Block], None]:
            write = task.worker()
            return lambda block: write(block, out[block.where])

        self._run(make_worker)
        return out

    def _map_unknown(self, task: RowMap) -> NDArray[Any]:
        pieces: dict[int, NDArray[Any]] = {}

        def make_worker() -> Callable[[Block], None]:
            write = task.worker()

            def run(block: Block) -> None:
                piece = np.empty((len(block.rows), *task.columns), dtype=task.dtype)
                write(block, piece)
                pieces[block.number] = piece

            return run

        self._run(make_worker)
        return np.concatenate([pieces[number] for number in sorted(pieces)])

    def take(self, index: NDArray[np.int64]) -> Array:
        """Return the rows of these numbers, in this order, as float64; reads no further."""
        order = np.argsort(index)
        wanted = index[order]
        out = np.empty((len(index), self.n_features))
        done = 0
        with closing(self.blocks()) as blocks:
            for block in blocks:
                stop = int(np.searchsorted(wanted, block.where.stop))
                out[order[done:stop]] = block.rows[wanted[done:stop] - block.start]
                done = stop
                if done == len(index):
                    break
        return out

    def sample(self, ranks: NDArray[np.int64]) -> ArraySource:
        """Return a source of the rows of these increasing numbers, among those that count.

        It reads no further.
        """
        rows = np.empty((len(ranks), self.n_features), self.dtype)
        weights = np.empty(len(ranks)) if self._weighted else None
        done = seen = 0
        with closing(self.blocks()) as blocks:
            for block in blocks:
                counted = np.flatnonzero(block.weights) if block.weights.size else None
                n = len(block.rows) if counted is None else len(counted)
                stop = int(np.searchsorted(ranks, seen + n))
                places = ranks[done:stop] - seen
                if counted is not None:
                    places = counted[places]
                rows[done:stop] = block.rows[places]
                if weights is not None:
                    weights[done:stop] = block.weights[places]
                done, seen = stop, seen + n
                if done == len(ranks):
                    break
        return ArraySource(rows, self._workers, weights, self.limit, checked=True)

    def gather(self) -> ArraySource:
        """Return a source of all rows, from memory or a temporary file; later passes use it, too.

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
            self._run(lambda: lambda block: None)

    def _run(self, make_worker: Callable[[], Callable[[Block], Any]]) -> None:
        """Give each block to a worker, each thread with a worker of its own."""
        with ReadAhead(self._slabs) as slabs:
            self._share(make_worker, self._cut(slabs), slabs.stop)
        self._checked = True

    def _sum(
        self,
        task: ReducePass,
        blocks: Iterator[Block],
        abandon: Callable[[], None],
        first: int = 0,
    ) -> Array:
        """Return the flat statistics of blocks, the first of which has the number ``first``."""
        tree = Tree()

        def make_worker() -> Callable[[Block], None]:
            return tree.adder(
                task.size,
                task.worker(),
                lambda block: range(block.number - first, block.number - first + 1),
            )

        self._share(make_worker, blocks, abandon)
        return tree.total()

    def _share(
        self,
        make_worker: Callable[[], Callable[[Block], Any]],
        blocks: Iterator[Block],
        abandon: Callable[[], None],
    ) -> None:
        def make() -> Callable[[Block], None]:
            worker = make_worker()

            def run(block: Block) -> None:
                self._check(block)
                worker(block)
                self._workers.done(block.where.stop, self._known or 0)

            return run

        self._workers.share(blocks, make, abandon=abandon)

    def _check(self, block: Block) -> None:
        if not self._checked:
            check_fit(block.rows, block.start, self.limit)

    def _cut(self, slabs: Iterator[Slab]) -> Iterator[Block]:
        for slab in slabs:
            for a in range(0, len(slab.rows), self._block):
                b, start = a + self._block, slab.start + a
                yield Block(slab.rows[a:b], slab.weights[a:b], start, start // self._block)

    def _slabs(self, stopped: Callable[[], bool]) -> Iterator[Slab]:
        """Yield all rows, copied from batches of any size: a reader may use its memory again."""
        size = self._slab if self._known is None else min(self._slab, self._known)
        total, slab = 0, self._empty(0, size)
        with closing(self._reader.batches()) as batches:
            for rows, weights in batches:
                if stopped():
                    return
                self._see_length(total + len(rows), at_least=True)
                if weights is None and self._given is not None:
                    weights = self._given[total : total + len(rows)]
                if weights is not None:
                    check_weights_of_rows(weights, total)
                begin = 0
                while begin < len(rows):
                    a = total - slab.start
                    end = min(len(rows), begin + size - a)
                    b = a + end - begin
                    slab.rows[a:b] = rows[begin:end]
                    if weights is not None:
                        slab.weights[a:b] = weights[begin:end]
                    total += end - begin
                    begin = end
                    if b == size:
                        yield _readonly(slab)
                        slab = self._empty(total, size)
        if total > slab.start:
            n = total - slab.start
            yield _readonly(Slab(slab.rows[:n], slab.weights[:n], slab.start))
        self._see_length(total)

    def _empty(self, start: int, size: int) -> Slab:
        weights = np.empty(size) if self._weighted else NO_WEIGHTS
        return Slab(np.empty((size, self.n_features), self.dtype), weights, start)

    def _see_length(self, total: int, *, at_least: bool = False) -> None:
        """Raise ValueError unless so many rows are what was seen, or given, before."""
        given = self._given
        if given is not None and (total > len(given) if at_least else total != len(given)):
            held = f"at least {total}" if at_least else str(total)
            raise ValueError(
                f"sample_weight.shape == {given.shape}, but X has {held} rows: one weight for "
                "each row of X."
            )
        known = self._known
        if known is not None and (total > known if at_least else total != known):
            held = "more" if at_least else str(total)
            raise ValueError(
                f"{self._reader.what} held {known} rows at first and {held} when read again, but "
                f"fit reads them several times. {self._reader.advice}"
            )

    def _counted(self) -> Totals:
        if self._totals is None:
            if self._known is not None and not self._weighted:
                self._totals = Totals(self._known, self._known, float(self._known))
            else:
                tally = Tally(self._block)
                with ReadAhead(self._slabs) as slabs:
                    for slab in slabs:
                        tally.add(slab.rows, slab.weights)
                self._note(tally)
        assert self._totals is not None
        return self._totals

    def _note(self, tally: Tally) -> None:
        self._known = tally.n_rows
        self._totals = tally.totals()
        check_any_weight(not self._weighted or self._totals.n_counted > 0)


class _Part:
    """Some of a stream's blocks: the first time as they come by, after that read anew."""

    def __init__(
        self,
        source: StreamSource,
        numbers: range,
        passing: Iterator[Block],
        abandon: Callable[[], None],
    ) -> None:
        self.dtype = source.dtype
        self._source, self._numbers = source, numbers
        self._passing: Iterator[Block] | None = passing
        self._abandon = abandon

    def reduce(self, task: ReducePass) -> Array:
        """Return the flat statistics of one pass over these rows."""
        passing, self._passing = self._passing, None
        source, first = self._source, self._numbers.start
        if passing is not None:
            return source._sum(task, passing, self._abandon, first)
        with ReadAhead(source._slabs) as slabs:
            blocks = islice(source._cut(slabs), first, self._numbers.stop)
            return source._sum(task, blocks, slabs.stop, first)


def _readonly(slab: Slab) -> Slab:
    slab.rows.flags.writeable = False
    slab.weights.flags.writeable = False
    return slab
