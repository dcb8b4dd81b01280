"""A cluster of several processes: the same bits for any number of them, also if one dies."""

import os
import pickle
import signal
import threading
import warnings

import dask.array as da
import pytest
from dask_rows import BLOCK, chunked, frame, unknown
from distributed import Client, LocalCluster
from numpy.testing import assert_array_equal
from row_sources import N, assert_same, fit, not_a_number, of_array, rows, weights_of

from fastgmm import BayesianGaussianMixture, GaussianMixture
from fastgmm._verbose import VerboseObserver

# Dask's own threads and loops close their sockets when they please.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as made, made.as_current():
        scale(cluster, made, 2)
        yield made


def scale(cluster, client, n_workers):
    cluster.scale(n_workers)
    client.wait_for_workers(n_workers, timeout=60)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits(cluster):
    X, w = rows(), weights_of()
    few = {"n_components": 2, "max_iter": 200, "random_state": 0}
    expected = None
    with Client(cluster) as client:  # a default client is in Dask's settings, too
        for n_workers in (1, 2, 4):
            scale(cluster, client, n_workers)
            assert len(client.nthreads()) == n_workers
            models = (
                fit(chunked(X, 300), w),
                fit(chunked(X, 300).persist(), init_size=5000),
                fit(unknown(X)),
                BayesianGaussianMixture(**few).fit(chunked(X[:5000], 300)),
            )
            expected = expected or models
            for model, first in zip(models, expected, strict=True):
                assert_same(model, first)
    assert_same(expected[2], of_array())


def test_a_cluster_gives_the_same_bits(client):
    X, w = rows(), weights_of()
    model = fit(chunked(X), init_size=5000)
    assert_same(model, of_array(init_size=5000))
    assert_same(pickle.loads(pickle.dumps(model)), model)
    assert_same(fit(chunked(X), da.from_array(w, chunks=BLOCK)), fit(X, w))
    assert_same(fit(frame(X, w).persist(), "w"), fit(frame(X, w), "w"))
    assert_same(fit(chunked(X + 1.0).persist() - 1.0), fit(chunked(X + 1.0 - 1.0)))
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


class Kill(VerboseObserver):
    """Observer that kills one worker process after the third iteration."""

    def __init__(self, pid):
        super().__init__(0)
        self.pid, self.calls = pid, 0

    def iteration_ends(self, iteration):
        self.calls += 1
        if self.calls == 3:
            os.kill(self.pid, signal.SIGKILL)
        return False


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


class Pickles(VerboseObserver):
    """Observer that pickles an estimator in the middle of its fit."""

    def __init__(self, model):
        super().__init__(0)
        self.model, self.found = model, None

    def iteration_ends(self, iteration):
        self.found = pickle.dumps(self.model)
        return False


def test_a_model_can_be_pickled_while_it_is_fitted(client, monkeypatch):
    model = GaussianMixture(2, random_state=0, max_iter=100, verbose=1)
    during = Pickles(model)
    monkeypatch.setattr("fastgmm._base.VerboseObserver", lambda *given: during)
    model.fit(chunked(rows()))
    copy = pickle.loads(during.found)
    assert not hasattr(copy, "means_")
    monkeypatch.undo()
    assert_same(copy.set_params(verbose=0).fit(chunked(rows())), model)
    assert_same(pickle.loads(pickle.dumps(model)), model)
