"""Threads, processes, forks, broken caches and Ctrl-C: a fit works there, or leaves no trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from datasets import faithful, synthetic
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from small_models import made, small

import fastgmm
from fastgmm import GaussianMixture

posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")


def fit(X, seed=0, covariance_type="full", **params):
    return GaussianMixture(3, covariance_type=covariance_type, random_state=seed, **params).fit(X)


def fit_means(X, seed):
    """Fit in another process or thread."""
    return fit(X, seed).means_


def run_python(script, *arguments, wait=True, **environment):
    """Run a script in a fresh interpreter that finds the package and the tests."""
    paths = [str(Path(fastgmm.__file__).parents[1]), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return finish(process) if wait else process


def finish(process, timeout=120):
    """Return what a script printed as JSON; show its errors if it failed."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


# --- threads ------------------------------------------------------------------------------------


def test_threads_on_different_estimators():
    X = synthetic(30_000)
    expected = [fit_means(X, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: fit_means(X, seed), range(8)))
    assert_array_equal(found, expected)


def test_threads_that_predict_with_one_estimator():
    X = synthetic(30_000)
    model = fit(X)
    expected = model.predict_proba(X)
    with ThreadPoolExecutor(8) as pool:
        for proba in pool.map(model.predict_proba, [X] * 8):
            assert_array_equal(proba, expected)


def test_threads_that_fit_one_estimator():
    """The last fit wins, as a whole: no mixture of two fits' attributes."""
    data = [synthetic(20_000, seed=seed) for seed in range(4)]
    model = GaussianMixture(3, random_state=0)
    expected = [GaussianMixture(3, random_state=0).fit(X) for X in data]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model.fit, data))
    last = [i for i, other in enumerate(expected) if model.lower_bound_ == other.lower_bound_]
    assert len(last) == 1
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "n_iter_"):
        assert_array_equal(getattr(model, name), getattr(expected[last[0]], name))


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_joblib(backend):
    X = faithful()
    expected = [fit(X, seed).means_ for seed in range(4)]
    found = Parallel(n_jobs=2, backend=backend)(
        delayed(GaussianMixture(3, random_state=seed).fit)(X) for seed in range(4)
    )
    assert_array_equal([model.means_ for model in found], expected)


@pytest.mark.slow
def test_grid_search_in_processes():
    X = faithful()
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "diag"]}
    alone, together = (
        GridSearchCV(GaussianMixture(random_state=0), grid, cv=3, n_jobs=n_jobs).fit(X)
        for n_jobs in (1, 2)
    )
    assert together.best_params_ == alone.best_params_
    scores = "mean_test_score"
    assert_array_equal(together.cv_results_[scores], alone.cv_results_[scores])


@posix
def test_fork_after_a_fit():
    script = """
        import json, os
        from datasets import synthetic
        from fastgmm import GaussianMixture

        X = synthetic(30_000)
        def fit():
            model = GaussianMixture(3, random_state=0, n_threads=3).fit(X)
            return model.means_.tolist(), model.predict(X).sum().item()

        before = fit()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(fit()).encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        inside = json.loads(os.read(reader, 1 << 16))
        print(json.dumps([status, list(before) == inside, fit() == before]))
    """
    assert run_python(script) == [0, True, True]


# --- the cache of compiled kernels --------------------------------------------------------------

# Answers of a given mixture need three kernels, a fit nine: most of these tests compile them anew.
ANSWERS = """
    import json, sys
    from small_models import made, small

    {before}
    model, X = made("diag"), small()
    print(json.dumps([model.predict(X).tolist(), model.score_samples(X).tolist()]))
"""


def answers(cache, *arguments, before="", wait=True):
    script = ANSWERS.format(before=before)
    return run_python(script, *arguments, wait=wait, NUMBA_CACHE_DIR=str(cache))


def expected_answers():
    model, X = made("diag"), small()
    return [model.predict(X).tolist(), model.score_samples(X).tolist()]


@pytest.fixture(scope="module")
def filled_by_two(tmp_path_factory):
    """A cache folder that two processes filled at once, and what they found."""
    cache = tmp_path_factory.mktemp("cache")
    processes = [answers(cache, wait=False) for _ in range(2)]
    return cache, [finish(process) for process in processes]


def cache_files(folder):
    return sorted(path for path in folder.rglob("*.nb[ic]"))


@pytest.mark.slow
def test_two_processes_fill_an_empty_cache(filled_by_two):
    cache, found = filled_by_two
    assert found == [expected_answers()] * 2
    files = cache_files(cache)
    assert files
    stamps = [path.stat().st_mtime_ns for path in files]
    assert answers(cache) == expected_answers()
    assert [path.stat().st_mtime_ns for path in cache_files(cache)] == stamps  # nothing compiled


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "kept"), [(".nbi", 0.5), (".nbc", 0.0)])
def test_truncated_cache_files(filled_by_two, tmp_path, suffix, kept):
    cache = tmp_path / "cache"
    shutil.copytree(filled_by_two[0], cache)
    damaged = [path for path in cache_files(cache) if path.suffix == suffix]
    assert damaged
    for path in damaged:
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
    assert answers(cache) == expected_answers()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_read_only_cache_folder():
    """Not even root writes to /proc/self, and Numba is left no other place to turn to."""
    no_other = """
    from numba.core.caching import CompileResultCacheImpl
    CompileResultCacheImpl._locator_classes = CompileResultCacheImpl._locator_classes[:1]
    """
    script = textwrap.dedent(no_other) + textwrap.dedent(ANSWERS.format(before=""))
    assert run_python(script, NUMBA_CACHE_DIR="/proc/self") == expected_answers()


@pytest.mark.slow
def test_cache_folder_that_vanishes(tmp_path):
    """A file stands where the folder was, after the import and before the first kernel."""
    cache = tmp_path / "cache"
    vanish = (
        "import pathlib, shutil; cache = pathlib.Path(sys.argv[1]); "
        "shutil.rmtree(cache, ignore_errors=True); cache.touch()"
    )
    assert answers(cache, cache, before=vanish) == expected_answers()


# --- Ctrl-C ---------------------------------------------------------------------------------------


def interrupt_after(seconds):
    """Send this process SIGINT, as Ctrl-C does; the list receives the moment."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(seconds, send).start()
    return sent


def same_state(a, b):
    return a.keys() == b.keys() and all(a[name] is b[name] for name in a)


@pytest.fixture(scope="module")
def compiled():
    """Compile what a fit may need: an interrupt in the midst of that may get lost in LLVM."""
    for init_params in ("kmeans", "k-means++", "random", "random_from_data"):
        GaussianMixture(8, tol=1e9, init_params=init_params, random_state=0).fit(synthetic(1000))


@posix
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("fitted_before", [False, True])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_leaves_the_estimator_as_it_was(fitted_before, n_threads):
    X = synthetic(200_000)
    model = GaussianMixture(8, random_state=0, max_iter=3, tol=1e9, n_threads=n_threads)
    if fitted_before:
        model.fit(X[:1000])
    model.set_params(tol=0, max_iter=10**9, init_params="random_from_data")
    before = dict(vars(model))
    sent = interrupt_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert time.perf_counter() - sent[0] < 1
    assert same_state(vars(model), before)
    assert not [t for t in threading.enumerate() if "fastgmm" in t.name]
    model.set_params(max_iter=3, tol=1e9).fit(X[:1000])


@posix
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random"])
def test_ctrl_c_during_the_start(init_params):
    X = synthetic(1_000_000)
    model = GaussianMixture(64, random_state=0, init_params=init_params, max_iter=10**9, tol=0)
    before = dict(vars(model))
    sent = interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert time.perf_counter() - sent[0] < 1
    assert same_state(vars(model), before)


@posix
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_with_a_memory_map_and_a_checkpoint(tmp_path, n_threads):
    """It stops as quickly with a file to write, and goes on from its last iteration."""
    np.save(tmp_path / "rows.npy", synthetic(400_000))
    model = GaussianMixture(
        8, random_state=0, tol=0, max_iter=10**9, n_threads=n_threads, verbose=1,
        init_params="random_from_data",
    )  # fmt: skip
    before = dict(vars(model))
    sent = interrupt_after(0.7)
    with pytest.raises(KeyboardInterrupt):
        model.fit(tmp_path / "rows.npy", checkpoint=tmp_path / "run.npz")
    assert time.perf_counter() - sent[0] < 1
    assert same_state(vars(model), before)
    assert not [t for t in threading.enumerate() if "fastgmm" in t.name]
    assert sorted(os.listdir(tmp_path)) == ["rows.npy", "run.npz"]
    history = fastgmm.History(keep_parameters=False)
    model.set_params(max_iter=1).set_callbacks(history)
    with pytest.warns(ConvergenceWarning):
        model.fit(tmp_path / "rows.npy", checkpoint=tmp_path / "run.npz", resume=True)
    assert model.n_iter_ >= 1  # those that were made; none is added
    assert len(history) == 0
