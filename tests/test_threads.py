"""Threads: every block once, errors at once, and sums with the same bits in any order."""

import os
import sys
import threading
import time
import types

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastgmm import _threads
from fastgmm._threads import Tree, Workers, available_threads, nodes

pytestmark = pytest.mark.nojit

VARIABLES = ("FASTGMM_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastgmm")]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    assert own_threads() == []


# --- how many ----------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Return a function that sets processors, quota and variables."""

    def pretend(bound, quota=None, **variables):
        monkeypatch.setattr(_threads, "_bound_processors", lambda: bound)
        monkeypatch.setattr(_threads, "_cgroup_quota", lambda: quota)
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return available_threads()

    return pretend


def test_available_threads_are_the_processors(machine):
    assert machine(8) == 8
    assert machine(8, quota=3) == 3
    assert machine(2, quota=3) == 2


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_lower_the_number(machine, name):
    assert machine(8, **{name: "3"}) == 3
    assert machine(2, **{name: "3"}) == 2
    assert machine(8, quota=2, **{name: "3"}) == 2


def test_the_smallest_variable_counts(machine):
    values = dict(zip(VARIABLES, ("5", "4", "6"), strict=True))
    assert machine(8, **values) == 4


@pytest.mark.parametrize("value", ["", " ", "0", "-2", "many", "1.5"])
def test_variables_that_are_no_number_of_threads_are_ignored(machine, value):
    assert machine(8, OMP_NUM_THREADS=value) == 8


def test_nested_openmp_numbers_begin_with_the_outer_one(machine):
    assert machine(8, OMP_NUM_THREADS=" 3,2") == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_counts(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_machines_without_affinity_have_a_number_of_processors(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert _threads._bound_processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _threads._bound_processors() == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": ""}, None),
        ({"cfs_quota_us": "250000", "cfs_period_us": "100000"}, 2),
        ({"cfs_quota_us": "-1", "cfs_period_us": "100000"}, None),
        ({"cfs_quota_us": "250000"}, None),
        ({}, None),
    ],
)
def test_quota_of_the_control_group(monkeypatch, tmp_path, files, expected):
    def opened(path, *args):
        for ending, text in files.items():
            if path.endswith(ending):
                (tmp_path / ending).write_text(text)
                return open(tmp_path / ending)
        raise FileNotFoundError(path)

    monkeypatch.setattr(_threads, "open", opened, raising=False)
    uncached = getattr(_threads._cgroup_quota, "__wrapped__", _threads._cgroup_quota)
    assert uncached() == expected


# --- the tree ----------------------------------------------------------------------------------


def block_values(n):
    """Numbers whose sum depends on the order of the additions."""
    rng = np.random.RandomState(n)
    return rng.standard_normal((n, 3)) * 10.0 ** rng.uniform(-8, 8, (n, 3))


def pairwise(values):
    """The same tree, written as what it is."""
    sums, left_over = list(values), []
    while len(sums) > 1:
        if len(sums) % 2:
            left_over.append(sums.pop())
        sums = [sums[i] + sums[i + 1] for i in range(0, len(sums), 2)]
    total = None
    for part in [*left_over, *sums]:
        total = part if total is None else total + part
    return total


def sum_in_order(values, order):
    tree = Tree()
    for block in order:
        tree.add(int(block), values[block].copy())
    return tree.total()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 13, 31, 64, 100])
def test_any_order_of_arrival_gives_the_same_bits(n):
    values = block_values(n)
    expected = pairwise(values)
    rng = np.random.RandomState(0)
    orders = [np.arange(n), np.arange(n)[::-1], *(rng.permutation(n) for _ in range(20))]
    for order in orders:
        assert_array_equal(sum_in_order(values, order), expected)
    np.testing.assert_allclose(
        expected, values.sum(axis=0), rtol=1e-12, atol=1e-12 * np.abs(values).max()
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_few_sums_wait_for_their_sibling(threads):
    """Blocks are taken in order; any of those at work may be finished next."""
    n, rng = 1000, np.random.RandomState(threads)
    tree, at_work, next_block, most = Tree(), [], 0, 0
    while next_block < n or at_work:
        while next_block < n and len(at_work) < threads:
            at_work.append((next_block, tree.buffer(2)))
            next_block += 1
        block, statistics = at_work.pop(rng.randint(len(at_work)))
        statistics += 1.0
        tree.add(block, statistics)
        most = max(most, len(tree._pending))
    assert_array_equal(tree.total(), n)
    # in order, log2(n) would wait; each block that is late keeps one or two more from merging
    assert most <= 2 * threads + np.log2(n)
    assert len(tree._pending) + len(tree._free) <= 3 * threads + np.log2(n)


@pytest.mark.parametrize("late", [0, 1, 511, 777])
def test_one_late_block_keeps_few_sums_waiting(late):
    n, tree, most = 1024, Tree(), 0
    for block in [*np.delete(np.arange(n), late), late]:
        tree.add(int(block), np.ones(1))
        most = max(most, len(tree._pending))
    assert_array_equal(tree.total(), n)
    assert len(tree._pending) == 1
    assert most <= 2 * np.log2(n)


def test_buffers_are_used_again_and_come_empty():
    tree = Tree()
    first, second = tree.buffer(3), tree.buffer(3)
    first += 1.0
    second += 2.0
    tree.add(0, first)
    tree.add(1, second)
    again = tree.buffer(3)
    assert again is first or again is second
    assert_array_equal(again, 0.0)
    assert_array_equal(tree.total(), 3.0)


# --- the team ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", range(1, 8))
@pytest.mark.parametrize("n_blocks", [1, 2, 5, 64])
def test_every_block_is_done_once(n_threads, n_blocks):
    done, makers = [], []
    with Workers(n_threads) as workers:

        def make_worker():
            makers.append(threading.get_ident())
            return done.append

        workers.run(n_blocks, make_worker)
    assert sorted(done) == list(range(n_blocks))
    assert len(makers) <= min(n_threads, n_blocks)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 37, 64])
def test_sums_have_the_same_bits_for_any_number_of_threads(n_blocks):
    values = block_values(n_blocks)
    rng = np.random.RandomState(0)

    def make_worker():
        def add(blocks, statistics):
            time.sleep(rng.uniform(0, 3e-4))
            statistics += pairwise(values[blocks.start : blocks.stop])

        return add

    for n_threads in range(1, 8):
        with Workers(n_threads) as workers:
            for levels in (0, 1, 4):
                total = workers.reduce(n_blocks, 3, make_worker, levels)
                assert_array_equal(total, pairwise(values))


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize("most_levels", [0, 1, 5])
def test_blocks_are_cut_into_nodes_of_the_tree(n_threads, most_levels):
    for n_blocks in [*range(1, 40), 1000]:
        blocks = list(nodes(n_blocks, most_levels, n_threads))
        assert [number for part in blocks for number in part] == list(range(n_blocks))
        assert max(map(len, blocks)) <= 1 << most_levels
        left = n_blocks
        for part in blocks:
            assert len(part).bit_count() == 1
            assert part[0] % len(part) == 0
            assert len(part) <= max(1, left // n_threads)  # its share of what was left
            left -= len(part)


def test_threads_have_workers_of_their_own():
    seen = {}
    barrier = threading.Barrier(3, timeout=10)

    def make_worker():
        me = threading.get_ident()

        def work(number):
            barrier.wait()
            assert threading.get_ident() == me
            seen[number] = me

        return work

    with Workers(3) as workers:
        workers.run(3, make_worker)
    assert len(set(seen.values())) == 3
    assert threading.get_ident() in seen.values()


def test_no_thread_is_started_for_one_block_or_one_thread():
    for n_threads, n_blocks in [(4, 1), (1, 9)]:
        with Workers(n_threads) as workers:
            workers.run(n_blocks, lambda: lambda number: None)
            assert own_threads() == []


def test_threads_serve_all_passes_and_end_with_the_block():
    with Workers(3) as workers:
        workers.run(8, lambda: lambda number: time.sleep(1e-3))
        first = {thread.ident for thread in own_threads()}
        assert 1 <= len(first) <= 2
        workers.run(8, lambda: lambda number: time.sleep(1e-3))
        assert {thread.ident for thread in own_threads()} >= first
    assert own_threads() == []


def test_threads_are_started_anew_after_the_block():
    workers = Workers(2)
    for _ in range(2):
        with workers:
            workers.run(4, lambda: lambda number: None)
        assert own_threads() == []


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("failing", [0, 3, 60])
def test_an_error_stops_the_work_and_is_raised(n_threads, failing):
    done = []

    def work(number):
        if number == failing:
            raise KeyError(number)
        time.sleep(1e-4)
        done.append(number)

    with Workers(n_threads) as workers, pytest.raises(KeyError, match=str(failing)):
        workers.run(1000, lambda: work)
    assert len(done) < failing + 100


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_work_too(error):
    here, done = threading.get_ident(), []

    def work(number):
        time.sleep(1e-4)
        done.append(number)
        if threading.get_ident() == here:
            raise error

    with Workers(3) as workers, pytest.raises(error):
        workers.run(2000, lambda: work)
    assert len(done) < 100


@pytest.mark.parametrize("in_helper", [False, True])
def test_a_worker_that_cannot_be_made_stops_the_work(in_helper):
    here, done = threading.get_ident(), []

    def make_worker():
        if (threading.get_ident() != here) == in_helper:
            raise MemoryError

        def work(number):
            time.sleep(1e-3)
            done.append(number)

        return work

    with Workers(2) as workers, pytest.raises(MemoryError):
        workers.run(500, make_worker)
    assert len(done) < 250


def test_the_team_works_again_after_an_error():
    def fail(number):
        raise ValueError("broken")

    with Workers(2) as workers:
        with pytest.raises(ValueError, match="broken"):
            workers.run(4, lambda: fail)
        done = []
        workers.run(4, lambda: done.append)
        assert sorted(done) == [0, 1, 2, 3]


def test_teams_work_side_by_side():
    values = block_values(40)
    expected = pairwise(values)
    results = []

    def one_team():
        with Workers(2) as workers:
            total = workers.reduce(
                40, 3, lambda: lambda blocks, into: np.add(into, values[blocks[0]], out=into)
            )
            results.append(total)

    callers = [threading.Thread(target=one_team) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    for total in results:
        assert_array_equal(total, expected)


def test_the_number_of_threads_is_asked_for_when_none_is_given(monkeypatch):
    monkeypatch.setenv("FASTGMM_NUM_THREADS", "1")
    assert Workers().n_threads == 1
    assert Workers(5).n_threads == 5


def test_one_thread_inside_a_task_of_a_dask_worker(monkeypatch):
    worker = types.SimpleNamespace(thread_state=types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "distributed.worker", worker)
    outside = available_threads()
    worker.thread_state.key = "task"
    assert available_threads() == 1
    del worker.thread_state.key
    assert available_threads() == outside
