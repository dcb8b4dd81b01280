"""Fits that are cut short and gone on with, against fits that never were."""

import errno
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import faithful, iris
from numpy.testing import assert_array_equal
from row_sources import batches
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastgmm
from fastgmm import (
    Batches,
    BayesianGaussianMixture,
    Checkpoint,
    FitWarning,
    GaussianMixture,
    History,
    _checkpoint,
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

ATTRIBUTES = (
    "weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bounds_",
    "lower_bound_", "n_iter_", "converged_", "n_samples_seen_",
)  # fmt: skip


class Cut(Exception):
    """Stands for a power failure."""


class CutAfter:
    """Callback that ends a fit after some iterations; with an Exception or by asking to stop."""

    def __init__(self, iterations, error=Cut):
        self.left, self.error = iterations, error

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "iteration":
            return False
        self.left -= 1
        if self.left == 0 and self.error is not None:
            raise self.error
        return self.left <= 0 and self.error is None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def assert_same_fit(model, expected):
    for name in ATTRIBUTES:
        assert_array_equal(getattr(model, name), getattr(expected, name), strict=False)
    if isinstance(model, BayesianGaussianMixture):
        assert_array_equal(model.mean_precision_, expected.mean_precision_)
        assert_array_equal(model.degrees_of_freedom_, expected.degrees_of_freedom_)


def cut_short(make, X, checkpoint, iterations, sample_weight=None, error=Cut):
    """Begin a fit, or go on with it, and end it after some iterations."""
    model = make().set_callbacks(CutAfter(iterations, error))
    with pytest.raises(error):
        model.fit(X, sample_weight=sample_weight, checkpoint=checkpoint, resume=True)
    assert not hasattr(model, "means_")


def goes_on_the_same(make, X, path, cuts, sample_weight=None, other=None):
    """Check that a fit with these cuts, then in a last piece, is the one without."""
    expected = make().fit(X, sample_weight=sample_weight)
    for iterations in cuts:
        cut_short(make, X, Checkpoint(path, every=0), iterations, sample_weight)
    history = History(keep_parameters=False)
    model = make().set_callbacks(history)
    model.fit(X if other is None else other, None, sample_weight, checkpoint=path, resume=True)
    assert_same_fit(model, expected)
    assert os.listdir(path.parent) == [path.name]
    return history


def in_file(path):
    """Return the arrays of a checkpoint."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "header.json"}


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


# --- files of fits that have ended, and settings that change ------------------------------------


def test_without_a_file_the_fit_begins(path):
    model = GaussianMixture(2, random_state=0).fit(faithful(), checkpoint=str(path), resume=True)
    assert_same_fit(model, GaussianMixture(2, random_state=0).fit(faithful()))
    assert path.exists()


@each_class
def test_of_a_fit_that_has_ended_the_result_comes_at_once(kind, path, monkeypatch):
    X = np.concatenate([faithful(), [[100.0, 1000.0]]])  # a component nearly empty

    def make():
        return kind(n_components=3, n_init=2, random_state=0, max_iter=4, tol=0.0)

    with warnings.catch_warnings(record=True) as first:
        warnings.simplefilter("always")
        expected = make().fit(X, checkpoint=path)
    content = path.read_bytes()

    def fail(*args):
        raise AssertionError("a pass")

    monkeypatch.setattr("fastgmm._em.gather", fail)
    with warnings.catch_warnings(record=True) as second:
        warnings.simplefilter("always")
        model = make().fit(X, checkpoint=path, resume=True)
    assert_same_fit(model, expected)
    assert [str(one.message) for one in second] == [str(one.message) for one in first]
    assert {one.category for one in first} >= {ConvergenceWarning}
    if kind is GaussianMixture:
        assert FitWarning in {one.category for one in first}
    assert path.read_bytes() == content


def test_more_iterations_a_smaller_tol_and_more_runs(path):
    X = faithful()

    def make(**params):
        return GaussianMixture(3, **{"random_state": 0, "max_iter": 5, "tol": 1e-9, **params})

    make().fit(X, checkpoint=path)
    longer = make(max_iter=9).fit(X, checkpoint=path, resume=True)
    assert_same_fit(longer, make(max_iter=9).fit(X))
    path.unlink()
    make(tol=1e-2, max_iter=100).fit(X, checkpoint=path)
    finer = make(tol=1e-5, max_iter=100).fit(X, checkpoint=path, resume=True)
    assert_same_fit(finer, make(tol=1e-5, max_iter=100).fit(X))
    path.unlink()
    make(init_params="random_from_data").fit(X, checkpoint=path)
    more = make(init_params="random_from_data", n_init=4)
    more.fit(X, checkpoint=path, resume=True)
    assert_same_fit(more, make(init_params="random_from_data", n_init=4).fit(X))
    # fewer iterations than were made: nothing is left to do
    assert (
        make(init_params="random_from_data", n_init=4, max_iter=1)
        .fit(X, checkpoint=path, resume=True)
        .n_iter_
        == 5
    )


@pytest.mark.parametrize("n_init", [1, 2])
def test_what_a_callback_ended_has_ended(path, n_init):
    X = faithful()

    def make():
        return GaussianMixture(3, n_init=n_init, tol=0.0, max_iter=8, random_state=0)

    stopped = make().set_callbacks(CutAfter(3, None)).fit(X, checkpoint=path)
    assert not stopped.converged_
    assert_same_fit(make().fit(X, checkpoint=path, resume=True), stopped)


def test_no_iterations(path):
    model = GaussianMixture(2, max_iter=0, random_state=0).fit(faithful(), checkpoint=path)
    again = GaussianMixture(2, max_iter=0, random_state=0)
    assert_same_fit(again.fit(faithful(), checkpoint=path, resume=True), model)
    assert_same_fit(again.set_params(max_iter=3).fit(faithful(), checkpoint=path, resume=True),
                    GaussianMixture(2, max_iter=3, random_state=0).fit(faithful()))  # fmt: skip


def test_unfinished_work_is_not_overwritten(path):
    X = faithful()
    cut_short(lambda: GaussianMixture(2, random_state=0), X, path, 1)
    content = path.read_bytes()
    model = GaussianMixture(2, random_state=0)
    with pytest.raises(
        FileExistsError, match=r"a fit that has not ended\. Set resume=True to go on"
    ):
        model.fit(X, checkpoint=path)
    assert path.read_bytes() == content
    model.fit(X, checkpoint=path, resume=True)
    model.fit(X[::2], checkpoint=path)  # it has ended
    assert_same_fit(
        GaussianMixture(2, random_state=0).fit(X[::2], checkpoint=path, resume=True), model
    )


@pytest.mark.parametrize("what", ["rows", "model", "text"])
@pytest.mark.parametrize("resume", [False, True])
def test_other_files_are_not_overwritten(path, what, resume):
    X = faithful()
    model = GaussianMixture(2, random_state=0).fit(X)
    if what == "rows":
        np.savez(path, X)
    elif what == "model":
        model.save(path)
    else:
        path.write_text("text")
    content = path.read_bytes()
    before = dict(vars(model))
    error, text = (FileExistsError, "is no checkpoint"), (ValueError, "Cannot go on from")
    kind, match = text if resume else error
    with pytest.raises(kind, match=match):
        model.fit(X, checkpoint=path, resume=resume)
    assert path.read_bytes() == content
    assert vars(model) == before


# --- other fits, and damage -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "run.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut_short(lambda: GaussianMixture(3, random_state=0), faithful(), path, 2)
    return path.read_bytes()


def changed(X, row):
    X = X.copy()
    X[row, 0] += 1e-9
    return X


@pytest.mark.parametrize(
    ("X", "sample_weight", "match"),
    [
        (faithful()[:-1], None, "samples is 272 there and 271 here"),
        (faithful()[:, [0, 1, 1]], None, "features is 2 there and 3 here"),
        (faithful().astype(np.float32), None, "dtype is 'float64' there and 'float32' here"),
        (faithful()[::-1], None, "the first rows, or their weights, differ"),
        (changed(faithful(), 5), None, "the first rows, or their weights, differ"),
        (faithful(), np.linspace(0.5, 1.5, 272), "the first rows, or their weights, differ"),
        (faithful(), np.full(272, 2.0), "sum of weights is 272.0 there and 544.0 here"),
    ],
)
def test_other_rows(path, cut_file, X, sample_weight, match):
    path.write_bytes(cut_file)
    with pytest.raises(ValueError, match=match) as error:
        GaussianMixture(3, random_state=0).fit(
            X, sample_weight=sample_weight, checkpoint=path, resume=True
        )
    assert "another fit" in str(error.value)
    assert "Give what that fit was given" in str(error.value)
    assert path.read_bytes() == cut_file


def test_rows_far_behind_are_looked_at_too(path):
    X = np.random.default_rng(0).normal(size=(40_000, 2))
    cut_short(lambda: GaussianMixture(2, random_state=0), X, path, 1)
    X[20_000:] = X[20_000:] + 1e-9
    with pytest.raises(ValueError, match="another fit: some rows, or their weights, differ"):
        GaussianMixture(2, random_state=0).fit(X, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (GaussianMixture(4, random_state=0), "n_components is 3 there and 4 here"),
        (GaussianMixture(3, random_state=1), "random_state is 0 there and 1 here"),
        (GaussianMixture(3, random_state=0, reg_covar=1e-3), "reg_covar is 1e-06 there and 0.001"),
        (GaussianMixture(3, random_state=0, covariance_type="diag"), "'full' there and 'diag'"),
        (GaussianMixture(3, random_state=0, means_init=faithful()[:3]), "means_init is None there"),
        (BayesianGaussianMixture(n_components=3, random_state=0), "class is 'GaussianMixture'"),
    ],
)
def test_other_parameters(path, cut_file, model, match):
    path.write_bytes(cut_file)
    with pytest.raises(ValueError, match=match):
        model.fit(faithful(), checkpoint=path, resume=True)
    assert not hasattr(model, "means_")


def test_parameters_that_do_not_count(path, cut_file):
    path.write_bytes(cut_file)
    model = GaussianMixture(
        np.int64(3), random_state=np.int64(0), n_threads=1, verbose_interval=3, reg_covar=1e-6
    ).fit(faithful(), checkpoint=path, resume=True)
    assert_same_fit(model, GaussianMixture(3, random_state=0).fit(faithful()))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_files_that_are_cut_off(path, cut_file, kept):
    path.write_bytes(cut_file[: int(kept * len(cut_file)) if kept < 1 else kept])
    with pytest.raises(
        ValueError, match=r"Cannot go on from .*run.npz.*Delete it, or give another"
    ):
        GaussianMixture(3, random_state=0).fit(faithful(), checkpoint=path, resume=True)


def test_flipped_bits_are_seen(path, cut_file):
    """Of any byte of an array: archives hold check sums."""
    place = cut_file.index(b"fit.standing.params.means.npy") + 170
    for at in range(place, place + 32, 5):
        damaged = bytearray(cut_file)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="Cannot go on from"):
            GaussianMixture(3, random_state=0).fit(faithful(), checkpoint=path, resume=True)


def test_shapes_that_kernels_trust_are_checked(path, cut_file):
    from test_io import rewrite

    path.write_bytes(rewrite(cut_file, **{"fit.standing.params.means": np.zeros((2, 2))}))
    with pytest.raises(ValueError, match=r"means are no numbers of shape \(3, 2\)"):
        GaussianMixture(3, random_state=0).fit(faithful(), checkpoint=path, resume=True)


def test_a_newer_format(path, cut_file, monkeypatch):
    path.write_bytes(cut_file)
    monkeypatch.setattr(_checkpoint, "FORMAT_VERSION", 0)
    with pytest.raises(ValueError, match=r"format version 1 \(fastgmm .*please upgrade"):
        GaussianMixture(3, random_state=0).fit(faithful(), checkpoint=path, resume=True)


# --- disks ----------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_checkpoint_before(path, monkeypatch):
    X = faithful()
    model = GaussianMixture(3, tol=0.0, max_iter=9, random_state=0)
    true_fsync, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\); the one b"):
        model.fit(X, checkpoint=Checkpoint(path, every=0))
    assert not hasattr(model, "means_")
    assert os.listdir(path.parent) == [path.name]
    monkeypatch.setattr(os, "fsync", true_fsync)
    model.fit(X, checkpoint=path, resume=True)
    assert_same_fit(model, GaussianMixture(3, tol=0.0, max_iter=9, random_state=0).fit(X))


@posix
def test_a_file_larger_than_allowed(path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    GaussianMixture(3, random_state=0).fit(faithful())  # compiled
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match="cannot be written") as error:
            GaussianMixture(3, random_state=0).fit(faithful(), checkpoint=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert os.listdir(path.parent) == []


def test_a_missing_folder_shows_before_the_work(tmp_path, monkeypatch):
    def fail(*args):
        raise AssertionError("a pass")

    monkeypatch.setattr("fastgmm._em.gather", fail)
    with pytest.raises(FileNotFoundError, match="cannot be written"):
        GaussianMixture(2).fit(faithful(), checkpoint=tmp_path / "missing" / "run.npz")
    with pytest.raises(OSError, match=r"cannot be written|is no checkpoint"):
        GaussianMixture(2).fit(faithful(), checkpoint=tmp_path)


# --- how often ------------------------------------------------------------------------------------


def test_how_often_it_is_written(path, monkeypatch):
    """By a clock that each write takes a second of, and each iteration ten."""
    now, written = [0.0], []

    def write(path, header, arrays):
        written.append(now[0])
        now[0] += 1.0

    class Clock(CutAfter):
        def on_fit_task_end(self, estimator, context):
            now[0] += 10.0

    monkeypatch.setattr(_checkpoint, "perf_counter", lambda: now[0])
    monkeypatch.setattr(_checkpoint, "write_archive", write)

    def times(every):
        now[0], written[:] = 0.0, []
        model = GaussianMixture(2, tol=0.0, max_iter=12, random_state=0).set_callbacks(Clock(1))
        model.fit(faithful(), checkpoint=Checkpoint(path, every=every))
        return written

    # at the beginning, each 30 s and at the end; a write takes a twentieth of the time at most
    assert np.diff(times(30.0))[:-1].min() >= 30.0
    assert len(written) == 5
    assert np.diff(times(1.0))[:-1].min() >= 20.0
    assert len(times(0.0)) == 15  # a run, its start, the iterations and the end
    assert len(times(3600.0)) == 2


def test_checkpoint_objects(path):
    assert repr(Checkpoint("run.npz")) == "Checkpoint('run.npz', every=30)"
    for every in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="seconds between two writes must be 0 or more"):
            Checkpoint(path, every=every)
    with pytest.raises(TypeError):
        Checkpoint(3)
    with pytest.raises(ValueError, match="resume=True needs the file to go on from"):
        GaussianMixture(2).fit(faithful(), resume=True)


def test_in_a_pipeline(path):
    X = faithful()

    def pipe():
        return make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0))

    pipe().fit(X, gaussianmixture__checkpoint=path)
    again = pipe().fit(X, gaussianmixture__checkpoint=path, gaussianmixture__resume=True)
    assert_same_fit(again[-1], pipe().fit(X)[-1])
