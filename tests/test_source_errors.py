"""Whatever is wrong with the rows of a source is said, with the place."""

import sys
import warnings

import h5py
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn
from numpy.testing import assert_array_equal
from row_sources import (
    NAMES,
    SOURCES,
    STARTS,
    D,
    N,
    batches,
    fit,
    not_a_number,
    of_array,
    parquet,
    rows,
    table,
    weights_of,
)  # fmt: skip
from sklearn.utils.fixes import parse_version

from fastgmm import Batches, Parquet
from fastgmm._sources import _scratch

# Names of polars' columns are scikit-learn's business, which sees those of any polars since 1.9.
KNOWS_POLARS = parse_version(sklearn.__version__) >= parse_version("1.9")
CALLED_B = ", called 'b'" if KNOWS_POLARS else ""

each_source = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """Small data are kept in memory; here they are not."""
    monkeypatch.setattr(_scratch, "IN_MEMORY", 0)


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
    with pytest.raises(ValueError, match=r"row 1, column 1 \(counted from 0\)" + CALLED_B):
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
    if KNOWS_POLARS:
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


def test_batches_of_data_frames_have_the_same_columns():
    pd = pytest.importorskip("pandas")
    X = rows()[:200]
    frame, w = pd.DataFrame(X, columns=["a", "b", "c"]), np.ones(200)
    with pytest.raises(ValueError, match=r"Batch 1 .* other columns than the first one"):
        fit(Batches([frame, frame[["a", "c", "b"]]]))
    expected = fit(Batches([X, X])).means_
    for alike in ([frame, frame], [frame, X], [X, frame], [(frame, w), (frame, w)]):
        assert_array_equal(fit(Batches(alike)).means_, expected)


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
    with pytest.raises(ValueError, match="holds no Parquet files"):
        fit(tmp_path)
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
