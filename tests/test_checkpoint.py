"""Fits that are cut short and gone on with, against fits that never were."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from cut_fits import Cut, CutAfter, assert_same_fit, cut_short, goes_on_the_same, in_file
from datasets import faithful, iris
from numpy.testing import assert_array_equal
from row_sources import batches

import fastgmm
from fastgmm import (
    Batches,
    BayesianGaussianMixture,
    Checkpoint,
    GaussianMixture,
    History,
)
from fastgmm._archive import decode, encode

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastgmm.FitWarning"),
]

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
each_class = pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])
TYPES = ("full", "tied", "diag", "spherical")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


# --- the same bits ------------------------------------------------------------------------------


@each_class
@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("init_params", STARTS)
def test_several_runs_in_several_pieces(kind, covariance_type, init_params, path):
    def make():
        return kind(
            n_components=3, covariance_type=covariance_type, init_params=init_params,
            n_init=3, max_iter=5, tol=0.0, random_state=7,
        )  # fmt: skip

    # twice within the first run, and within the third
    history = goes_on_the_same(make, faithful()[::3], path, [2, 2, 7])
    assert [(record.init, record.iteration) for record in history.records] == [
        (2, 2), (2, 3), (2, 4), (2, 5),
    ]  # fmt: skip


def test_weights_and_float32(path):
    X = faithful()
    weights = np.random.default_rng(0).uniform(0.1, 2.0, len(X))
    goes_on_the_same(lambda: GaussianMixture(3, random_state=0), X, path, [2], weights)
    path.unlink()
    goes_on_the_same(lambda: GaussianMixture(3, random_state=0), X.astype(np.float32), path, [2])


def clusters(n, d, k, kind=np.float64):
    rng = np.random.default_rng(0)
    centres = 12.0 * rng.normal(size=(k, d))
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(kind)


@pytest.mark.parametrize(
    ("covariance_type", "n", "d", "k"),
    [("full", 40_000, 24, 16), ("full", 60_000, 4, 48), ("diag", 40_000, 6, 48)],
)
def test_passes_that_skip_pairs(covariance_type, n, d, k, path):
    """What a pass skips depends on the passes before it."""
    X = clusters(n, d, k)

    def make():
        return GaussianMixture(
            k, covariance_type=covariance_type, init_params="random_from_data",
            tol=0.0, max_iter=14, random_state=1,
        )  # fmt: skip

    expected = make().fit(X)
    n_with_keys = 0
    for _ in range(13):  # cut after each pass
        cut_short(make, X, Checkpoint(path, every=0), 1)
        n_with_keys += "fit.standing.memory.keys" in in_file(path)
    assert n_with_keys > 3
    assert_same_fit(make().fit(X, checkpoint=path, resume=True), expected)


def test_what_a_broken_off_pass_has_changed_is_not_written(path):
    """Keys change while a pass is under way: a fit that ends there keeps the file before."""
    X = clusters(40_000, 6, 48)
    model = GaussianMixture(
        48, covariance_type="diag", init_params="random_from_data", tol=0.0, max_iter=14,
        random_state=1,
    )  # fmt: skip
    with pytest.raises(Cut):
        model.set_callbacks(CutAfter(9)).fit(X, checkpoint=Checkpoint(path, every=3600))
    assert "fit.standing.params.means" not in in_file(path)  # that of the beginning


@pytest.mark.parametrize("covariance_type", TYPES)
def test_incremental_passes(covariance_type, path, monkeypatch):
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 30)
    X = np.random.default_rng(3).permutation(iris())

    def make():
        return GaussianMixture(
            3, covariance_type=covariance_type, incremental_groups=4, n_init=2, tol=1e-5,
            random_state=0,
        )  # fmt: skip

    n_passes = make().fit(X).n_iter_
    assert n_passes > 4
    goes_on_the_same(make, X, path, [2])
    path.unlink()
    goes_on_the_same(make, X, path, [n_passes // 2, n_passes // 3])
    path.unlink()
    goes_on_the_same(make, X, path, [1] * (n_passes - 1))  # between all passes of a run


def test_incremental_passes_that_reached_max_iter_go_on(path, monkeypatch):
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 30)
    X = np.random.default_rng(3).permutation(iris())
    model = GaussianMixture(3, incremental_groups=4, tol=1e-4, max_iter=3, random_state=0)
    model.fit(X, checkpoint=path)
    again = GaussianMixture(3, incremental_groups=4, tol=1e-4, max_iter=3, random_state=0)
    assert_same_fit(again.fit(X, checkpoint=path, resume=True), model)
    assert_same_fit(model.set_params(max_iter=100).fit(X, checkpoint=path, resume=True),
                    again.set_params(max_iter=100).fit(X))  # fmt: skip


class TestSources:
    @pytest.fixture
    def X(self, monkeypatch):
        from fastgmm._sources import _scratch

        monkeypatch.setattr(_scratch, "IN_MEMORY", 0)
        return clusters(20_011, 3, 4)

    def make(self):
        return GaussianMixture(
            4, init_params="random_from_data", init_size=5000, tol=1e-9, max_iter=7, random_state=3
        )

    def test_streams(self, X, path):
        goes_on_the_same(self.make, Batches(batches(X)), path, [2, 3])

    def test_weighted_stream(self, X, path):
        weights = np.random.default_rng(1).uniform(0.0, 3.0, len(X))
        goes_on_the_same(self.make, Batches(batches(X, weights)), path, [2])

    def test_an_array_gone_on_with_from_a_file(self, X, path, tmp_path):
        rows = tmp_path.parent / f"{tmp_path.name}.npy"
        np.save(rows, X)
        goes_on_the_same(self.make, X, path, [3], other=rows)

    def test_an_array_gone_on_with_from_a_stream(self, X, path):
        goes_on_the_same(self.make, X, path, [3], other=Batches(batches(X)))

    def test_dask(self, X, path):
        da = pytest.importorskip("dask.array")
        rows = da.from_array(X, chunks=(8192, -1))
        goes_on_the_same(self.make, rows, path, [2, 2])
        path.unlink()
        goes_on_the_same(self.make, rows, path, [2], other=X)

    def test_another_stream(self, X, path):
        cut_short(self.make, Batches(batches(X)), path, 2)
        with pytest.raises(ValueError, match="another fit: the first rows, or their weights, diff"):
            self.make().fit(Batches(batches(X + 1)), checkpoint=path, resume=True)


def test_the_order_in_memory_is_kept():
    arrays = {}
    stack = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
    again = decode(encode({"x": stack}, "name", arrays), arrays)["x"]
    assert list(arrays) == ["name.x"]
    assert_array_equal(again, stack)
    assert again.strides == stack.strides


# --- processes that end -------------------------------------------------------------------------

LONG_FIT = """
    import sys, time
    import numpy as np
    from fastgmm import Checkpoint, GaussianMixture

    class Slow:
        def setup(self, estimator, context): pass
        def teardown(self, estimator, context): pass
        def on_fit_task_begin(self, estimator, context): pass
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "iteration":
                print("iteration", flush=True)
                time.sleep(0.05)

    model = GaussianMixture(4, n_init=2, tol=0.0, max_iter=25, random_state=5, n_threads=2)
    if len(sys.argv) > 3:
        model.set_callbacks(Slow())
    model.fit(
        np.load(sys.argv[1], mmap_mode="r"), checkpoint=Checkpoint(sys.argv[2], every=0),
        resume=True,
    )
"""


def long_fit():
    return GaussianMixture(4, n_init=2, tol=0.0, max_iter=25, random_state=5, n_threads=1)


@posix
@pytest.mark.slow
def test_killed_processes(tmp_path, path):
    X = np.random.default_rng(2).normal(size=(30_000, 3))
    np.save(tmp_path / "rows.npy", X)
    package = str(Path(fastgmm.__file__).parents[1])
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LONG_FIT)]
    for iterations in (4, 27):  # killed within the first run, then within the second
        process = subprocess.Popen(
            [*command, str(tmp_path / "rows.npy"), str(path), "slow"],
            env=os.environ | {"PYTHONPATH": package}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for _ in range(iterations):
            assert process.stdout.readline() == "iteration\n"
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode < 0
    history = History(keep_parameters=False)
    model = long_fit().set_callbacks(history).fit(X, checkpoint=path, resume=True)
    assert history.records[0].init == 1
    assert history.records[0].iteration > 4
    assert_same_fit(model, long_fit().fit(X))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_a_fit_early_writes_the_last_iteration(path, error):
    X = faithful()
    model = GaussianMixture(3, tol=0.0, max_iter=12, random_state=0)
    expected = GaussianMixture(3, tol=0.0, max_iter=12, random_state=0).fit(X)
    with pytest.raises(error):
        model.set_callbacks(CutAfter(5, error)).fit(X, checkpoint=Checkpoint(path, every=3600))
    assert not hasattr(model, "means_")
    history = History(keep_parameters=False)
    model.set_callbacks(history).fit(X, checkpoint=path, resume=True)
    assert [record.iteration for record in history.records] == list(range(6, 13))
    assert_same_fit(model, expected)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_draws_go_on(path, random_state):
    """Without a seed: the runs after the cut are those the first call would have made."""
    X = np.random.default_rng(0).normal(size=(300, 2))

    def make():
        return GaussianMixture(
            5, n_init=4, max_iter=3, init_params="random", random_state=random_state
        )

    cut_short(make, X, Checkpoint(path, every=0), 2)
    saved = path.read_bytes()
    others = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].copy()
    one = make().fit(X, checkpoint=path, resume=True)
    if random_state is None:
        assert_array_equal(np.random.mtrand._rand.get_state(legacy=False)["state"]["key"], others)
    path.write_bytes(saved)
    assert_same_fit(make().fit(X, checkpoint=path, resume=True), one)


def test_warm_starts(path):
    X = faithful()

    def make():
        model = GaussianMixture(2, warm_start=True, max_iter=2, tol=0.0, random_state=0).fit(X)
        return model.set_params(max_iter=9)

    expected = make().fit(X)
    with pytest.raises(Cut):
        make().set_callbacks(CutAfter(3)).fit(X, checkpoint=Checkpoint(path, every=0))
    assert_same_fit(make().fit(X, checkpoint=path, resume=True), expected)
    with pytest.raises(ValueError, match="the fit that warm_start goes on from is"):
        GaussianMixture(2, max_iter=9, random_state=0).fit(X, checkpoint=path, resume=True)
