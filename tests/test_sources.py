"""The same rows from every source give the same bits; whatever is wrong with them is said."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.testing import assert_array_equal

from fastgmm import Batches, GaussianMixture, Parquet
from fastgmm._sources import ArraySource, StreamSource, _scratch
from fastgmm._sources._readahead import ReadAhead
from fastgmm._sources._readers import BatchReader
from fastgmm._threads import Workers

TYPES = ("full", "tied", "diag", "spherical")
N, D = 20_011, 3  # more than two blocks, the last one not full
NAMES = [f"c{j}" for j in range(D)]
FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bound_", "n_iter_")


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """Small data are kept in memory; here they are not."""
    monkeypatch.setattr(_scratch, "IN_MEMORY", 0)


def rows(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) + 5.0 * rng.integers(2, size=(N, 1))
    return X.astype(dtype)


def weights_of():
    weights = np.random.default_rng(1).uniform(0.0, 3.0, N)
    weights[::7] = 0.0
    return weights


def table(X, w=None):
    columns = dict(zip(NAMES, X.T.copy(), strict=True))
    return pa.table(columns if w is None else {"w": w, **columns})


def batches(X, w=None, sizes=(997, 0, 1, 5000)):
    def make():
        start, number = 0, 0
        while start < len(X):
            part = slice(start, start + sizes[number % len(sizes)])
            start, number = part.stop, number + 1
            yield X[part] if w is None else (X[part], w[part])

    return make


def reused(X):
    """Batches that all lie in the same memory."""
    memory = np.empty((1000, X.shape[1]), X.dtype)
    for start in range(0, len(X), 1000):
        part = memory[: len(X) - start]
        part[...] = X[start : start + 1000]
        yield part


def npy(X, path):
    np.save(path / "x.npy", X)
    return path / "x.npy"


def hdf5(X, path, **options):
    with h5py.File(path / "x.h5", "w") as file:
        file.create_dataset("X", data=X, **options)
    return h5py.File(path / "x.h5", "r")["X"]


def parquet(X, path, w=None):
    pq.write_table(table(X, w), path / "x.parquet", row_group_size=3001)
    return path / "x.parquet"


def folder(X, path):
    (path / "f").mkdir()
    for number, (a, b) in enumerate(((0, 9000), (9000, 9001), (9001, N))):
        pq.write_table(table(X[a:b]), path / "f" / f"{number}.parquet")
    return str(path / "f")


class Sliced:
    """The least that an array on disk has."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, key):
        assert isinstance(key, slice)
        assert key.stop - key.start if key.start else key.stop <= len(self._X)
        return self._X[key]


SOURCES = {
    "memmap": lambda X, path: np.load(npy(X, path), mmap_mode="r"),
    "path of npy": npy,
    "hdf5": lambda X, path: hdf5(X, path, chunks=(777, 2), compression="gzip"),
    "hdf5 in one piece": hdf5,
    "zarr": lambda X, path: zarr.create_array(store=path / "x.zarr", data=X, chunks=(1111, D)),
    "sliced": lambda X, path: Sliced(X),
    "arrow table": lambda X, path: pa.concat_tables([table(X[:5]), table(X[5:])]),
    "arrow data set": lambda X, path: pyarrow.dataset.dataset(parquet(X, path)),
    "parquet": parquet,
    "parquet folder": folder,
    "pandas": lambda X, path: pd.DataFrame(X[:, :2], columns=NAMES[:2]).assign(c2=X[:, 2]),
    "polars": lambda X, path: pl.DataFrame(X, schema=NAMES),
    "batches": lambda X, path: Batches(batches(X)),
    "batches in one memory": lambda X, path: Batches(lambda: reused(X)),
    "batches of known length": lambda X, path: Batches(list(batches(X)()), n_rows=len(X)),
}  # fmt: skip
each_source = pytest.mark.parametrize("name", SOURCES)


def fit(X, sample_weight=None, **params):
    params = {"n_components": 2, "random_state": 0, "max_iter": 3, "n_threads": 1, **params}
    model = GaussianMixture(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        return model.fit(X, sample_weight=sample_weight)


def assert_same(model, expected):
    for name in FITTED:
        assert_array_equal(getattr(model, name), getattr(expected, name))
        assert getattr(model, name).dtype == getattr(expected, name).dtype if name[-2] != "r" else 1


_ARRAYS = {}


def of_array(dtype=np.float64, **params):
    """Return the fit to the array, made once."""
    key = (dtype, *sorted(params.items()))
    if key not in _ARRAYS:
        _ARRAYS[key] = fit(rows(dtype), **params)
    return _ARRAYS[key]


# the start from all rows, which are then at hand; from a sample, and rows that are read again
STARTS = ({}, {"init_size": 5000})


@each_source
@pytest.mark.parametrize("kind", TYPES)
def test_every_source_gives_the_bits_of_the_array(name, kind, tmp_path):
    X = SOURCES[name](rows(), tmp_path)
    for params in STARTS:
        expected = of_array(covariance_type=kind, **params)
        for n_threads in (1, 3):
            model = fit(X, covariance_type=kind, n_threads=n_threads, **params)
            assert_same(model, expected)


@each_source
@pytest.mark.parametrize("init", ["k-means++", "random", "random_from_data"])
def test_every_start(name, init, tmp_path):
    X = SOURCES[name](rows(), tmp_path)
    for params in STARTS:
        assert_same(fit(X, init_params=init, **params), of_array(init_params=init, **params))


@each_source
def test_float32(name, tmp_path):
    X = SOURCES[name](rows(np.float32), tmp_path)
    model = fit(X, init_size=5000, n_threads=3)
    assert model.means_.dtype == np.float32
    assert_same(model, of_array(np.float32, init_size=5000))


@pytest.mark.parametrize("dtype", [np.int16, np.float16, ">f8"])
def test_other_types_are_read_as_float64(dtype, tmp_path):
    X = np.round(rows()).astype(dtype)
    assert_same(fit(hdf5(X, tmp_path), init_size=5000), fit(X, init_size=5000))


@each_source
def test_maps_and_scores(name, tmp_path):
    expected = of_array()
    X, there = rows(), SOURCES[name](rows(), tmp_path)
    model = fit(there)  # with the names, where there are any
    for method in ("predict", "score_samples", "predict_proba", "mahalanobis"):
        assert_array_equal(getattr(model, method)(there), getattr(expected, method)(X))
    for method in ("score", "bic", "aic", "icl"):
        assert getattr(model, method)(there) == getattr(expected, method)(X)
    assert_array_equal(model.fit_predict(there), expected.predict(X))


WEIGHTED = {
    "memmap": lambda X, w, path: (np.load(npy(X, path), mmap_mode="r"), w),
    "hdf5 and array": lambda X, w, path: (hdf5(X, path, chunks=(777, 2)), w),
    "batches and array": lambda X, w, path: (Batches(batches(X)), list(w)),
    "known batches and array": lambda X, w, path: (Batches(batches(X), n_rows=len(X)), w),
    "weighted batches": lambda X, w, path: (Batches(batches(X, w)), None),
    "column of parquet": lambda X, w, path: (parquet(X, path, w), "w"),
    "column aside": lambda X, w, path: (Parquet(parquet(X, path, w), NAMES), "w"),
    "column of arrow": lambda X, w, path: (table(X, w), "w"),
    "column of pandas": lambda X, w, path: (table(X, w).to_pandas(), "w"),
    "column of polars": lambda X, w, path: (pl.from_arrow(table(X, w)), "w"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_in_every_form(name, tmp_path):
    X, w = rows(), weights_of()
    there, given = WEIGHTED[name](X, w, tmp_path)
    for params in (*STARTS, {"init_params": "random"}, {"init_params": "random_from_data"}):
        expected = fit(X, w, **params)
        for n_threads in (1, 3):
            model = fit(there, given, n_threads=n_threads, **params)
            assert_same(model, expected)
    assert model.score(there, sample_weight=given) == expected.score(X, sample_weight=w)
    model = GaussianMixture(2, random_state=0, max_iter=100)
    labels = model.fit_predict(there, sample_weight=given)
    assert_array_equal(labels, GaussianMixture(2, random_state=0).fit_predict(X, sample_weight=w))


def test_small_data_are_read_once_and_kept(monkeypatch):
    monkeypatch.setattr(_scratch, "IN_MEMORY", 1 << 20)
    calls = []

    def make():
        calls.append(1)
        return batches(rows())()

    assert_same(fit(Batches(make), init_size=5000), of_array(init_size=5000))
    assert len(calls) == 2  # the first batch, to see what they are like; all of them
    w = weights_of()
    assert_same(fit(Batches(batches(rows(), w))), fit(rows(), w))
    assert_same(fit(Batches(batches(rows())), w), fit(rows(), w))
    assert_same(fit(Batches(batches(rows())), max_iter=3), of_array())


def test_given_starts_need_no_pass_of_their_own():
    start = of_array()
    given = {
        "weights_init": start.weights_,
        "means_init": start.means_,
        "precisions_init": start.precisions_,
    }
    calls = []

    def make():
        calls.append(1)
        return batches(rows())()

    model = fit(Batches(make, n_rows=N), **given)
    assert_same(model, fit(rows(), **given))
    assert len(calls) == 1 + 3  # a look at the first batch, and an iteration each


# What is wrong with the rows


def not_a_number(X, row=N - 5, column=1, value=np.nan):
    X = X.copy()
    X[row, column] = value
    return X


@each_source
@pytest.mark.parametrize("params", STARTS)
def test_nan_is_named_by_row_and_column(name, params, tmp_path):
    bad = SOURCES[name](not_a_number(rows()), tmp_path)
    good = of_array()
    for call in (lambda: fit(bad, n_threads=3, **params), lambda: good.score_samples(bad)):
        with (
            pytest.raises(ValueError, match=f"NaN.*\n.*row {N - 5}, column 1"),
            warnings.catch_warnings(action="ignore"),  # of names the model does not know
        ):
            call()


@pytest.mark.parametrize("column", [pa.array([1.0, None, 2.0]), pa.array([1, None, 2]),
                                    pa.array([True, None, False])])  # fmt: skip
def test_nulls_are_named_like_nan(column):
    X = pa.table({"a": [0.0, 1.0, 2.0], "b": column})
    with pytest.raises(ValueError, match=r"row 1, column 1 \(counted from 0\), called 'b'"):
        fit(X)
    with pytest.raises(ValueError, match=r"row 1, column 1 \(counted from 0\), called 'b'"):
        fit(pl.from_arrow(X))


def test_numbers_too_large_are_named():
    X = Batches(batches(not_a_number(rows(), value=1e200)))
    for params in STARTS:
        with pytest.raises(ValueError, match=rf"1e\+200 in row {N - 5}, column 1"):
            fit(X, **params)


def test_the_row_of_a_sample_is_that_of_the_data():
    X = rows()
    X[9000:] = np.nan
    X[:9000:2] = 1.0
    with pytest.raises(ValueError, match=r"row (9\d{3}|1\d{4}|20\d{3}),"):
        fit(X, init_size=5000)


def test_names_of_columns(tmp_path):
    X, w = rows(), weights_of()
    path = parquet(X, tmp_path, w)
    model = fit(path, "w")
    assert list(model.feature_names_in_) == NAMES
    assert_array_equal(model.predict(path), fit(X, w).predict(X))  # it takes what it knows
    for there in (path, table(X, w), pl.from_arrow(table(X, w)), table(X, w).to_pandas()):
        with pytest.raises(ValueError, match="'weight' names no column of X; there are 'w', 'c0'"):
            fit(there, "weight")
    with pytest.raises(ValueError, match="has no named columns"):
        fit(X, "w")
    with pytest.raises(ValueError, match="has no column 'z'; there are 'w', 'c0'"):
        Parquet(path, ["c0", "z"])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table(X, w))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pl.DataFrame(X, schema=["c1", "c0", "c2"]))
    other = tmp_path / "other.parquet"
    pq.write_table(table(X).drop_columns(["c1"]), other)
    with pytest.raises(ValueError, match="no column 'c1', which the model was fitted to"):
        model.predict(other)
    assert Parquet(path).shape == (N, 4)
    chosen = Parquet([path], ["c2", "c0"])
    assert_array_equal(fit(chosen).means_, fit(X[:, [2, 0]]).means_)
    assert chosen.names == ["c2", "c0"]


def test_columns_of_text_are_named(tmp_path):
    X = table(rows()).append_column("who", pa.array(["x"] * N))
    pq.write_table(X, tmp_path / "x.parquet")
    for there in (X, tmp_path / "x.parquet", X.to_pandas(), pl.from_arrow(X)):
        with pytest.raises(ValueError, match="olumns without numbers: 'who'"):
            fit(there)
    late = X.to_pandas().astype({"who": object})
    late["who"] = [0.5] * (N - 1) + ["text"]
    with pytest.raises(ValueError, match="'text'"):
        fit(late)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        with pytest.raises(ValueError, match="does not hold real numbers"):
            fit(file.create_dataset("X", data=np.full((5, 2), b"text")))
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
            fit(file.create_dataset("y", data=np.zeros(5)))


def test_what_can_be_read_only_once_is_refused():
    X = rows()
    for once in (batches(X)(), iter([X]), table(X).to_reader()):
        with pytest.raises(TypeError, match=r"only once.*fastgmm.Batches\(lambda"):
            fit(once)
    with pytest.raises(TypeError, match=r"generator.*only once.*fastgmm.Batches\(lambda"):
        Batches(batches(X)())
    with pytest.raises(TypeError, match="needs a function"):
        Batches(3)
    with pytest.raises(TypeError, match="must return an iterator"):
        fit(Batches(lambda: 3))
    iterator = batches(X, sizes=(6000,))()
    with pytest.raises(ValueError, match="new iterator over the same rows"):
        fit(Batches(lambda: iterator, n_rows=N), init_size=5000)


@pytest.mark.parametrize("more", [-1, 1, -N])
def test_another_length_when_read_again(more):
    X, calls = rows(), []

    def make():
        calls.append(1)
        length = N + more if len(calls) > 3 else N
        return iter([np.resize(X, (length, D))])

    held = "more" if more > 0 else str(N + more)
    with pytest.raises(ValueError, match=f"{N} rows at first and {held} when read again"):
        fit(Batches(make), init_size=5000, n_threads=3)
    if N + more:
        with pytest.raises(ValueError, match=f"{N + more} rows at first and"):
            fit(Batches([X], n_rows=N + more), init_size=5000)


def test_batches_that_differ():
    X, w = rows(), weights_of()
    for bad, text in (
        ([X, X[:, :2]], "Batch 1 .* has 2 columns, and the first one 3"),
        ([X.astype(np.float32), X], "Batch 1 .* float64 numbers, and the first one float32"),
        ([(X, w), X], "Batch 1 .* without weights"),
        ([X, (X, w)], "Batch 1 .* with weights"),
        ([X, X[0]], r"Batch 1 .* of shape \(3,\)"),
        ([X, np.array([["a", "b", "c"]])], "Batch 1 .* dtype <U1"),
        ([(X, w[:-1])], r"20011 rows and weights of shape \(20010,\)"),
        ([np.ma.masked_less(X, 0.0)], "masked"),
        ([], "hold no rows"),
        ([X[:0]], "hold no rows"),
        ([X[:1]], "1 sample"),
    ):
        with pytest.raises(ValueError, match=text):
            fit(Batches(bad))


def test_bad_weights():
    X, w = rows(), weights_of()
    low, none = w.copy(), np.zeros(N)
    low[12345] = -1.0
    for there, given, text in (
        (Batches([(X, low)]), None, "Negative values in sample_weight, the first at 12345"),
        (Batches([(X, not_a_number(w[:, None], 8, 0)[:, 0])]), None, "sample_weight contains NaN"),
        (Batches([(X, none)]), None, "at least one non-zero"),
        (table(X, none), "w", "at least one non-zero"),
        (Batches([X]), w[:-1], r"\(20010,\), but X has .*20011 rows"),
        (Batches([X]), np.append(w, 1.0), r"\(20012,\), but X has 20011 rows"),
        (table(X), w[:-1], r"\(20010,\), expected \(20011,\)"),
        (Batches([(X, w)]), w, "not both"),
    ):
        with pytest.raises(ValueError, match=text):
            fit(there, given)
    with pytest.raises(ValueError, match="at least one non-zero"):
        of_array().score(Batches([(X, none)]))
    with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
        fit(Batches([(X[:3], [1.0, 0.0, 2.0])]), n_components=3)


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ValueError, match=r"is not a path to a \.npy file"):
        fit("rows.txt")
    for missing in (tmp_path / "x.parquet", [tmp_path / "x.parquet"]):
        with pytest.raises(FileNotFoundError, match=r"x\.parquet"):
            Parquet(missing)
    with pytest.raises(FileNotFoundError, match=r"x\.npy"):
        fit(tmp_path / "x.npy")


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    path = parquet(rows(), tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "fastgmm\[arrow\]"'):
        fit(path)


def test_a_full_disk_is_said(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_scratch, "_reserve", full)
    with pytest.raises(OSError, match=r"no room for a temporary file of 0.00048 GB.*init_size"):
        fit(Batches([rows()]))
    fit(Batches([rows()]), init_size=500)


# Threads, files, memory


def test_errors_of_a_reader_end_its_thread_and_close_files():
    X, closed = rows(), []

    def make():
        try:
            yield X[:9000]
            yield X[9000:]
            if len(closed) >= fail_from:
                raise OSError("the tape is torn")
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
    X, closed = rows(), []

    def make():
        try:
            for _ in range(1000):
                yield X
        finally:
            closed.append(1)

    with Workers(2) as workers:
        source = StreamSource(BatchReader(Batches(make, n_rows=1000 * N)), workers)
        index = np.array([5, 0, N - 1])
        assert_array_equal(source.take(index), X[index])
    gc.collect()
    assert len(closed) == 2
    assert not [t for t in threading.enumerate() if t.name == "fastgmm-reader"]


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
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1],
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


def test_sources_answer_the_same_questions():
    X, w = rows(), weights_of()
    with Workers(2) as workers:
        array = ArraySource(X, workers, w)
        source = StreamSource(BatchReader(Batches(batches(X, w))), workers)
        assert source.n_rows == array.n_rows == N
        assert source.n_counted == array.n_counted == np.count_nonzero(w)
        assert source.mean_weight == array.mean_weight
        for a, b in zip(array.blocks(), source.blocks(), strict=True):
            assert (a.start, a.number) == (b.start, b.number)
            assert_array_equal(a.rows, b.rows)
            assert_array_equal(a.weights, b.weights)
        ranks = np.array([0, 1, 500, array.n_counted - 1])
        for a, b in ((array.sample(ranks), source.sample(ranks)), (array, source.gather())):
            assert_array_equal(a.take(np.arange(4)), b.take(np.arange(4)))
            assert_array_equal(a.weights, b.weights)
