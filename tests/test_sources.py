"""The same rows from every source give the same bits."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from row_sources import (
    NAMES,
    SOURCES,
    STARTS,
    N,
    assert_same,
    batches,
    fit,
    hdf5,
    npy,
    of_array,
    parquet,
    rows,
    table,
    weights_of,
)  # fmt: skip

from fastgmm import Batches, GaussianMixture, Parquet
from fastgmm.__main__ import main
from fastgmm._passes import ReducePass
from fastgmm._sources import ArraySource, StreamSource, _scratch
from fastgmm._sources._readers import BatchReader
from fastgmm._threads import Workers

TYPES = ("full", "tied", "diag", "spherical")
each_source = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """Small data are kept in memory; here they are not."""
    monkeypatch.setattr(_scratch, "IN_MEMORY", 0)


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


@pytest.mark.nojit
@pytest.mark.parametrize("copied", [False, True])
def test_a_thread_gets_many_blocks_at_once_unless_they_are_copied(copied, monkeypatch):
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 10)

    class Lengths(ReducePass):
        size, levels = 1, 3

        def worker(self):
            def run(block, statistics):
                assert block.each == 10
                lengths.append(len(block.rows))
                statistics += len(block.rows)

            return run

    lengths = []
    X = np.random.default_rng(0).normal(size=(205, 2))
    with Workers(1) as workers:
        source = ArraySource(np.asfortranarray(X) if copied else X, workers)
        assert source.reduce(Lengths()) == len(X)
        assert max(lengths) == 10  # rows are checked on the way
        lengths.clear()
        assert source.reduce(Lengths()) == len(X)
    assert sorted(lengths) == ([5] + 20 * [10] if copied else [5, 40, 80, 80])


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


def test_the_command_line_reads_parquet(tmp_path, capsys):
    X = rows()
    path = parquet(X, tmp_path, weights_of())
    expected = fit(X[:, :2], max_iter=100)
    for data in (path, tmp_path):
        assert main(["fit", str(data), "-k", "2", "-q", "--columns", "c0,2"]) == 0
        assert f"BIC {expected.bic(X[:, :2]):.6g}" in capsys.readouterr().out
    assert main(["fit", str(path), "-k", "2", "--columns", "z"]) == 2
    assert "there is no column 'z'; there are w, c0, c1, c2" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "missing.parquet"), "-k", "2"]) == 2
    assert "missing.parquet: No such file" in capsys.readouterr().err
