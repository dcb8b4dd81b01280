"""Threads that read ahead, files and memory: nothing is left behind, and little is taken."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from row_sources import N, fit, not_a_number, of_array, rows

from fastgmm import Batches
from fastgmm._sources import StreamSource, _scratch
from fastgmm._sources._readahead import ReadAhead
from fastgmm._sources._readers import BatchReader
from fastgmm._threads import Workers


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """Small data are kept in memory; here they are not."""
    monkeypatch.setattr(_scratch, "IN_MEMORY", 0)


def test_errors_of_a_reader_end_its_thread_and_close_files():
    X, closed = rows(), []

    def make():
        try:
            yield X[:9000]
            if len(closed) >= fail_from:
                raise OSError("the tape is torn")
            yield X[9000:]
        finally:
            closed.append(1)

    for fail_from in (1, 2, 3):
        closed.clear()
        before = threading.active_count()
        with pytest.raises(OSError, match="the tape is torn"):
            fit(Batches(make), init_size=5000, n_threads=3)
        assert threading.active_count() == before
        assert len(closed) == fail_from + 1


def test_an_error_in_a_worker_does_not_wait_for_a_slow_source():
    X = rows()

    def slow():
        yield not_a_number(X, row=3)
        for _ in range(400):
            time.sleep(0.05)
            yield X

    began = time.perf_counter()
    for n_threads in (1, 3):
        with pytest.raises(ValueError, match="row 3, column 1"):
            of_array().set_params(n_threads=n_threads).score_samples(Batches(slow))
    assert time.perf_counter() - began < 15.0
    of_array().set_params(n_threads=1)


def test_what_was_begun_is_closed_when_no_more_is_wanted():
    X, closed, given = rows(), [], []

    def make():
        try:
            for _ in range(1000):
                given.append(1)
                yield X
        finally:
            closed.append(1)

    with Workers(2) as workers:
        source = StreamSource(BatchReader(Batches(make, n_rows=1000 * N)), workers)
        index = np.array([5, 0, N - 1])
        assert_array_equal(source.take(index), X[index])
        first = source.sample(np.sort(index))
        assert_array_equal(first.take(np.arange(3)), X[np.sort(index)])
    gc.collect()
    assert len(closed) == 3
    assert len(given) < 500
    assert not [t for t in threading.enumerate() if t.name == "fastgmm-reader"]


@pytest.mark.slow
def test_ctrl_c_ends_a_fit_from_a_slow_source():
    code = """
        import os, signal, threading, time, warnings
        import numpy as np
        from fastgmm import Batches, GaussianMixture
        from fastgmm._sources import _scratch
        _scratch.IN_MEMORY = 0
        X = np.random.default_rng(0).normal(size=(20_000, 2))
        GaussianMixture(2, max_iter=1, tol=1e9).fit(X)  # compiled
        def make():
            for i in range(10_000):
                yield X
                time.sleep(0.01)
        model = GaussianMixture(2, n_threads=3)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            model.fit(Batches(make, n_rows=10_000 * 20_000), None)
        except KeyboardInterrupt:
            assert not hasattr(model, "means_")
            names = [t.name for t in threading.enumerate() if t.name.startswith("fastgmm")]
            print("stopped", names)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "stopped []\n", done.stderr


def test_read_ahead_is_bounded():
    made = []

    def items(stopped):
        for number in range(100):
            made.append(number)
            yield number

    with ReadAhead(items) as ahead:
        assert next(ahead) == 0
        time.sleep(0.1)
        assert len(made) <= 3  # one ready, one waiting for its place
        assert list(ahead) == list(range(1, 100))


def peak_memory(source, n_rows):
    """Return the peak of anonymous memory, in MB above that before the fit, in a new process."""
    code = f"""
        import re, threading, time, warnings
        import numpy as np
        from fastgmm import Batches, GaussianMixture
        from fastgmm._sources import _scratch
        _scratch.IN_MEMORY = 1 << 20
        D = 8
        def anonymous():
            text = open("/proc/self/status").read()
            return int(re.search(r"RssAnon:\\s*(\\d+)", text)[1]) / 1024
        def make():
            rng = np.random.default_rng(0)
            part = rng.normal(size=(50_000, D))
            for _ in range({n_rows} // len(part)):
                yield part
        warnings.simplefilter("ignore")
        params = dict(n_components=3, n_threads=2, max_iter=2, init_size=20_000, random_state=0)
        GaussianMixture(**params).fit(next(make()))
        before, peak, done = anonymous(), [0.0], threading.Event()
        def watch():
            while not done.is_set():
                peak[0] = max(peak[0], anonymous())
                time.sleep(0.001)
        watcher = threading.Thread(target=watch)
        watcher.start()
        model = GaussianMixture(**params).fit({source})
        done.set()
        watcher.join()
        print(peak[0] - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_rows():
    # three slabs, a batch, a sample, and what the allocator holds back; the data are 128, 384 MB
    assert peak_memory("Batches(make)", 2_000_000) < 110.0
    assert peak_memory("Batches(make)", 6_000_000) < 110.0


def test_a_temporary_file_takes_what_memory_does_not():
    array = _scratch.scratch_array((1000, 3), np.float32)
    assert isinstance(array.base, np.memmap)
    assert not array.any()
    array[...] = 1.0
    assert array.sum() == 3000.0
