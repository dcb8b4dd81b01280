"""Rows in Dask's chunks, on Dask's threads: the bits of the array."""

import threading
import weakref

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask_rows import BLOCK, chunked, frame, unknown
from numpy.testing import assert_allclose, assert_array_equal
from row_sources import (
    NAMES,
    STARTS,
    D,
    N,
    assert_same,
    fit,
    not_a_number,
    of_array,
    rows,
    weights_of,
)  # fmt: skip

from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixtureOutlierDetector,
    select_model,
)
from fastgmm._sources import _dask, _dask_engine, _scratch


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("params", STARTS)
def test_chunks_of_whole_blocks_give_the_bits_of_the_array(kind, params):
    for lengths in (BLOCK, 2 * BLOCK):
        model = fit(chunked(rows(), lengths), covariance_type=kind, **params)
        assert_same(model, of_array(covariance_type=kind, **params))


@pytest.mark.parametrize("init", ["k-means++", "random", "random_from_data"])
def test_every_start(init):
    for params in STARTS:
        model = fit(chunked(rows()), init_params=init, **params)
        assert_same(model, of_array(init_params=init, **params))


def test_other_chunks_agree_to_rounding():
    expected = of_array()
    for lengths in (700, (1, 20_000, 10), (0, 5000, 0, N - 5000)):  # 29 chunks: merged in two steps
        model = fit(chunked(rows(), lengths))
        for name in ("weights_", "means_", "covariances_"):
            assert_allclose(getattr(model, name), getattr(expected, name), rtol=1e-9, atol=1e-12)


def test_float32_column_chunks_and_unknown_lengths():
    assert_same(fit(chunked(rows(np.float32))), of_array(np.float32))
    assert_same(fit(da.from_array(rows(), chunks=(BLOCK, 2))), of_array())
    assert_same(fit(unknown(rows())), of_array())


def test_weights():
    X, w = rows(), weights_of()
    for params in STARTS:
        expected = fit(X, w, **params)
        for there, given in (
            (chunked(X), w),
            (chunked(X), da.from_array(w, chunks=BLOCK)),
            (chunked(X), da.from_array(w, chunks=999)),
            (unknown(X), w),
            (unknown(X), da.from_array(w, chunks=BLOCK)),
        ):
            assert_same(fit(there, given, **params), expected)
            assert fit(there, given, **params).score(there, sample_weight=given) == expected.score(
                X, sample_weight=w
            )


def test_data_frames():
    X, w = rows(), weights_of()
    model, expected = fit(frame(X, w), "w"), fit(X, w)
    assert_array_equal(model.feature_names_in_, NAMES)
    assert_allclose(model.covariances_, expected.covariances_, rtol=1e-9)
    labels = model.predict(frame(X))
    assert isinstance(labels, da.Array)
    assert_array_equal(labels.compute(), expected.predict(X))
    text = dd.from_pandas(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), npartitions=1)
    with pytest.raises(ValueError, match="Columns without numbers: 'b'"):
        fit(text)
    with pytest.raises(ValueError, match="'v' names no column"):
        fit(frame(X, w), "v")


def test_results_are_lazy():
    expected, X = of_array(), rows()
    for there in (chunked(X), unknown(X)):
        for method in ("predict", "score_samples", "predict_proba", "mahalanobis"):
            lazy, known = getattr(expected, method)(there), getattr(expected, method)(X)
            assert isinstance(lazy, da.Array)
            assert (lazy.dtype, lazy.ndim) == (known.dtype, known.ndim)
            assert_array_equal(lazy.compute(), known)
        for method in ("score", "bic", "aic", "icl"):
            assert getattr(expected, method)(there) == getattr(expected, method)(X)


def test_bad_rows_are_named():
    known, unknown_ = f"row {N - 5}", r"row 3622 of chunk 2"
    for bad, place in (
        (chunked(not_a_number(rows()), 5000), known),
        (unknown(not_a_number(rows())), unknown_),
    ):
        for params in STARTS:
            with pytest.raises(ValueError, match=f"NaN.*\n.*row {N - 5}, column 1"):
                fit(bad, **params)
        with pytest.raises(ValueError, match=f"NaN.*\n.*row {N - 5}, column 1"):
            of_array().score(bad)
        with pytest.raises(ValueError, match=f"NaN in {place}, column 1"):
            of_array().predict(bad).compute()


@pytest.mark.parametrize(
    ("X", "w", "error", "text"),
    [
        (da.zeros(5), None, ValueError, "Expected 2D array, got 1D"),
        (dask.delayed(1), None, TypeError, "Delayed.* of Dask"),
        (da.zeros((1, 2)), None, ValueError, "minimum of 2 is required"),
        (da.zeros((9, 2), chunks=3), "w", ValueError, "no named columns"),
        (da.zeros((9, 2), chunks=3), np.ones(8), ValueError, "X has 9 rows"),
        (da.zeros((9, 2), chunks=3), da.ones(8), ValueError, "X has 9 rows"),
        (da.zeros((9, 2), chunks=3), da.zeros(9), ValueError, "at least one non-zero"),
        (da.zeros((9, 2), chunks=3), da.arange(9, chunks=3) - 1, ValueError, "the first at 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(X, w, error, text):
    with pytest.raises(error, match=text):
        fit(X, w)


def test_chunks_of_one_row_and_empty_ones():
    X = rows()[:60]
    expected = fit(X)
    for lengths in (1, (0, 1, 0, 58, 1, 0)):
        there = chunked(X, lengths)
        nowhere = there.map_blocks(np.asarray, chunks=((np.nan,) * there.numblocks[0], (D,)))
        for given in (there, nowhere):
            model = fit(given)
            assert_allclose(model.covariances_, expected.covariances_, rtol=1e-9)
            assert_array_equal(model.predict(given).compute(), expected.predict(X))


def test_bundles_change_no_bits(monkeypatch):
    X, w = rows(), weights_of()
    cases = [(300, {}), (300, {"init_size": 5000}), ((0, 5000, 11, N - 5011), {})]

    def fits():
        return [fit(chunked(X, lengths), w, **params) for lengths, params in cases]

    monkeypatch.setattr(_dask, "_TASKS_EACH", 1)
    monkeypatch.setattr(_dask, "_BUNDLE_BYTES", 0)
    alone = fits()
    for name, size in (
        ("_TRAVEL_BYTES", 0),
        ("_BUNDLE_BYTES", 1 << 14),
        ("_BUNDLE_BYTES", 1 << 30),
    ):
        monkeypatch.setattr(_dask, name, size)
        for model, expected in zip(fits(), alone, strict=True):
            assert_same(model, expected)


class Loads:
    """Makes chunks, and counts those made and those alive at once."""

    def __init__(self):
        self.made = self.alive = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, X, block_info=None):
        rows = np.array(X)
        with self._lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(rows, self._gone)
        return rows

    def _gone(self):
        self.alive -= 1


@pytest.mark.parametrize("known", [True, False])
def test_without_a_client_large_data_are_never_all_in_memory(monkeypatch, known):
    X, lengths = rows(), 500
    start = {
        "weights_init": [0.5, 0.5],
        "means_init": X[:2],
        "precisions_init": np.tile(np.eye(D), (2, 1, 1)),
    }
    options = {"n_threads": 2, "max_iter": 3, **start}
    expected = fit(chunked(X, lengths), **options)
    monkeypatch.setattr(_dask, "_BUNDLE_BYTES", 0)

    def loads(w=None):
        made = Loads()
        n_chunks = chunked(X, lengths).numblocks[0]
        told = {} if known else {"chunks": ((np.nan,) * n_chunks, (D,))}
        there = chunked(X, lengths).map_blocks(made, meta=np.empty((0, D)), **told)
        found = fit(there, w, **options)
        if w is None:
            assert_same(found, expected)
        return made, n_chunks

    small, n_chunks = loads()
    assert small.made <= n_chunks * (1 if known else 2)  # kept, after counting where need be
    monkeypatch.setattr(_scratch, "IN_MEMORY", 1000)
    large, n_chunks = loads()
    assert large.made <= n_chunks * (3 if known else 4) + 1  # and a look for constant columns
    assert large.most <= 6  # two threads; Dask lets go of a chunk when the next one has begun
    assert loads(weights_of())[0].most <= 6


def test_chunks_of_another_length_than_said():
    X = da.ones((100, 2), chunks=(50, 2))
    X = X.map_blocks(lambda part: part[1:], chunks=X.chunks)
    with pytest.raises(ValueError, match=r"Chunk [01] .* has 49 rows, and should have 50"):
        fit(X)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_bayesian(kind):
    X, w = rows()[:5000], weights_of()[:5000]
    model = BayesianGaussianMixture(
        n_components=2, covariance_type=kind, max_iter=300, random_state=0
    )
    for given, weights in ((chunked(X, 700), None), (chunked(X, 700), w)):
        expected = model.fit(X, sample_weight=weights)
        names = ("means_", "covariances_", "weights_", "degrees_of_freedom_", "lower_bound_")
        known = {name: getattr(expected, name) for name in names}
        found = model.fit(given, sample_weight=weights)
        for name in names:
            assert_allclose(getattr(found, name), known[name], rtol=1e-9, atol=1e-12)


def test_select_model():
    X = rows()[:3000]
    params = {"n_components": (1, 2), "covariance_types": "diag", "random_state": 0}
    expected = select_model(X, **params)
    for given, w in ((chunked(X, 700), None), (frame(X, np.ones(3000)), "w")):
        found = select_model(given, sample_weight=w, **params)
        assert found.best_index == expected.best_index
        for name in ("bic", "icl"):
            values = [[getattr(row, name) for row in s.table] for s in (found, expected)]
            assert_allclose(*values, rtol=1e-9)


def test_detector():
    X, w = rows()[:3000], weights_of()[:3000]
    detector = GaussianMixtureOutlierDetector(2, contamination=0.1, random_state=0)
    expected = detector.fit(X, sample_weight=w).predict(X)
    offset = detector.offset_
    for given, weights in (
        (chunked(X, 700), w),
        (frame(X, w), "w"),
        (chunked(X, 700), da.from_array(w, chunks=700)),
    ):
        detector.fit(given, sample_weight=weights)
        assert_allclose(detector.offset_, offset, rtol=1e-9)
        labels = detector.predict(frame(X) if isinstance(weights, str) else given)
        assert isinstance(labels, da.Array)
        assert_array_equal(labels.compute(), expected)


def test_dead_workers_come_with_advice():
    class KilledWorker(Exception):
        pass

    def die():
        raise KilledWorker("a task")

    with pytest.raises(KilledWorker) as caught:
        _dask_engine.Engine(1).compute({"a": (die,)}, ["a"])
    assert "memory_limit" in caught.value.__notes__[0]
