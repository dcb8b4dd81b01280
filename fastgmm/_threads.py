"""Threads that share out the blocks of a pass, and the fixed tree that adds their results."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
T = TypeVar("T")


def available_threads() -> int:
    """Return how many threads this process may use.

    The processors it is bound to and its control group's quota allow, lowered by
    ``FASTGMM_NUM_THREADS``, ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS`` where they are set.
    Inside a task of a Dask worker it is 1: the worker runs as many tasks as it has threads.
    """
    dask_worker = sys.modules.get("distributed.worker")
    if dask_worker is not None and hasattr(dask_worker.thread_state, "key"):
        return 1
    counts = [_bound_processors()]
    quota = _cgroup_quota()
    if quota is not None:
        counts.append(quota)
    for name in ("FASTGMM_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value) > 0:
            counts.append(int(value))
    return max(1, min(counts))


def _bound_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _cgroup_quota() -> int | None:
    """Return the whole processors that control groups grant this process, if they limit it."""
    readings = (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    )
    for quota_path, period_path in readings:
        try:
            with open(quota_path) as file:
                words = file.read().split()
            if period_path is not None:
                with open(period_path) as file:
                    words += file.read().split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or the word "max"
        if quota > 0 and period > 0:
            return max(1, quota // period)
    return None


class Tree:
    """Sums of blocks in one fixed binary tree over the block number.

    Whatever order blocks are finished in, the same pairs are added: the result has the same bits
    for any number of threads.  Blocks 2i and 2i+1 are added first, then their sums, and so on;
    what is left over at the end is added from the smallest subtree to the largest.
    """

    def __init__(self) -> None:
        self._pending: dict[tuple[int, int], Array] = {}
        self._free: list[Array] = []
        self._lock = threading.Lock()

    def buffer(self, size: int) -> Array:
        """Return a zeroed array to gather a block's statistics in."""
        with self._lock:
            found = self._free.pop() if self._free else None
        if found is None:
            return np.zeros(size)
        found.fill(0.0)
        return found

    def add(self, block: int, statistics: Array, count: int = 1) -> None:
        """Take over the statistics of a finished block, or of a node: of so many from it on."""
        level = count.bit_length() - 1
        index = block >> level
        while True:
            with self._lock:
                sibling = self._pending.pop((level, index ^ 1), None)
                if sibling is None:
                    self._pending[level, index] = statistics
                    return
            sibling += statistics  # x + y == y + x to the last bit
            with self._lock:
                self._free.append(statistics)
            statistics = sibling
            level, index = level + 1, index >> 1

    def adder(
        self, size: int, worker: Callable[[T, Array], None], blocks_of: Callable[[T], range]
    ) -> Callable[[T], None]:
        """Return a worker that adds the statistics another gathers from each item."""

        def add(item: T) -> None:
            statistics = self.buffer(size)
            worker(item, statistics)
            blocks = blocks_of(item)
            self.add(blocks[0], statistics, len(blocks))

        return add

    def total(self) -> Array:
        """Return the sum of all blocks."""
        ordered = [self._pending[key] for key in sorted(self._pending)]
        total = ordered[0]
        for part in ordered[1:]:
            total = total + part
        return total


class Shared(Generic[T]):
    """An iterator that several threads may ask for the next item."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._items)


def nodes(n_blocks: int, most_levels: int, n_threads: int) -> Iterator[range]:
    """Cut blocks into those of whole nodes of the tree, for threads to share.

    Large ones come first, the small ones at the end let threads finish together.
    """
    first = 0
    while first < n_blocks:
        share = max(1, (n_blocks - first) // n_threads)
        level = min(most_levels, share.bit_length() - 1)
        while first % (1 << level):
            level -= 1
        yield range(first, first := first + (1 << level))


class Workers:
    """A team of threads, the calling one among them, for the passes of one fit or prediction.

    Helper threads are started by the first pass with more than one block and ended on leaving the
    ``with`` block: between calls there are none, so forking is safe.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = available_threads() if n_threads is None else n_threads
        # called with the rows done of so many, by the thread that made this object alone
        self.watch: Callable[[int, int], None] | None = None
        self._maker = threading.get_ident()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def done(self, rows: int, of: int) -> None:
        """Take note that a pass has come to this row.

        Blocks are handed out in order, so what one thread says of its own is news of all.
        """
        if self.watch is not None and threading.get_ident() == self._maker:
            self.watch(rows, of)

    def run(self, n_blocks: int, make_worker: Callable[[], Callable[[int], Any]]) -> None:
        """Call a worker for each block number, each thread with a worker of its own."""
        self.share(iter(range(n_blocks)), make_worker, most=n_blocks)

    def share(
        self,
        items: Iterator[T],
        make_worker: Callable[[], Callable[[T], Any]],
        *,
        most: int = sys.maxsize,
        abandon: Callable[[], None] | None = None,
    ) -> None:
        """Call a worker for each item, each thread with a worker of its own.

        There are ``most`` items at most.  The calling thread takes some like the others, so Ctrl-C
        reaches it between two of them.  After any error no further item is begun, and the first
        error is raised; ``abandon`` is called to wake up threads that wait for an item.
        """
        helpers = min(self.n_threads, most) - 1
        if helpers <= 0:
            worker = make_worker()
            for item in items:
                worker(item)
            return
        stop, shared = threading.Event(), Shared(items)

        def work() -> None:
            try:
                worker = make_worker()
                for item in shared:
                    if stop.is_set():
                        return
                    worker(item)
            except BaseException:
                stop.set()
                if abandon is not None:
                    abandon()
                raise

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_threads - 1, thread_name_prefix="fastgmm")
        futures = [self._pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def reduce(
        self,
        n_blocks: int,
        size: int,
        make_worker: Callable[[], Callable[[range, Array], None]],
        levels: int = 0,
    ) -> Array:
        """Return the sum over all blocks of the flat statistics that workers add up.

        levels : of the tree, that workers can do themselves: they are given so many at a time.
        """
        if n_blocks == 1:
            statistics = np.zeros(size)
            make_worker()(range(1), statistics)
            return statistics
        tree = Tree()

        shares = nodes(n_blocks, levels, self.n_threads)
        self.share(
            shares, lambda: tree.adder(size, make_worker(), lambda blocks: blocks), most=n_blocks
        )
        return tree.total()
