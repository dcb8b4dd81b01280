"""Checkpoints as files: when they are written, what they are good for, and what is refused."""

import errno
import os
import warnings

import numpy as np
import pytest
from cut_fits import CutAfter, assert_same_fit, cut_short
from datasets import faithful
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgmm import (
    BayesianGaussianMixture,
    Checkpoint,
    FitWarning,
    GaussianMixture,
    _checkpoint,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastgmm.FitWarning"),
]

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
each_class = pytest.mark.parametrize("kind", [GaussianMixture, BayesianGaussianMixture])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


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
