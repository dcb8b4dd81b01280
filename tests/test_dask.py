"""Rows in Dask's chunks: the bits of the array, for any number of workers, also if one dies."""

import os
import pickle
import signal
import threading
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
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

from fastgmm import GaussianMixture

BLOCK = 8192
# Dask's own threads and loops close their sockets and files when they please.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def chunked(X, lengths=BLOCK):
    return da.from_array(X, chunks=(lengths, -1))


def unknown(X, lengths=BLOCK):
    """The same without known lengths of chunks."""
    return chunked(X, lengths).map_blocks(np.asarray, chunks=((np.nan,) * 3, (D,)))


def frame(X, w=None, npartitions=3):
    table = pd.DataFrame(X, columns=NAMES)
    if w is not None:
        table.insert(1, "w", w)
    return dd.from_pandas(table, npartitions=npartitions)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as made, made.as_current():
        made.wait_for_workers(2)
        yield made


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


def test_a_cluster_gives_the_same_bits(client):
    X, w = rows(), weights_of()
    model = fit(chunked(X), init_size=5000)
    assert_same(model, of_array(init_size=5000))
    assert_same(pickle.loads(pickle.dumps(model)), model)
    assert_same(fit(chunked(X), da.from_array(w, chunks=BLOCK)), fit(X, w))
    assert_array_equal(model.predict(chunked(X)).compute(), model.predict(X))
    with pytest.raises(ValueError, match=f"NaN.*\n.*row {N - 5}, column 1"):
        fit(chunked(not_a_number(X)))


def test_two_fits_share_a_cluster(client):
    found = {}

    def run(kind):
        with client.as_current():
            found[kind] = GaussianMixture(
                2, covariance_type=kind, random_state=0, max_iter=100, n_threads=1
            ).fit(chunked(rows()))

    threads = [threading.Thread(target=run, args=(kind,)) for kind in ("full", "diag")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for kind, model in found.items():
        assert_same(model, fit(rows(), covariance_type=kind, max_iter=100))
    assert len(found) == 2


class Kill:
    """Callback that kills one worker process after the third iteration."""

    def __init__(self, pid):
        self.pid, self.calls = pid, 0

    def iteration_ends(self, iteration):
        self.calls += 1
        if self.calls == 3:
            os.kill(self.pid, signal.SIGKILL)
        return False

    def run_begins(self, init):
        pass

    def run_ends(self, init, iteration):
        pass

    def rows_done(self, rows, total):
        pass

    def close(self):
        pass


def test_the_death_of_a_worker_changes_nothing(client, monkeypatch):
    X = chunked(rows(), 700)
    expected = fit(X, max_iter=8, tol=0.0)
    killer = Kill(next(iter(client.run(os.getpid).values())))
    monkeypatch.setattr("fastgmm._base.VerboseObserver", lambda *given: killer)
    outcome = []

    def run():
        with client.as_current(), warnings.catch_warnings(action="ignore"):
            outcome.append(fit(X, max_iter=8, tol=0.0, verbose=1))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, "the fit hangs"
    assert killer.calls == 8
    assert killer.pid not in client.run(os.getpid).values()
    assert_same(outcome[0], expected)
