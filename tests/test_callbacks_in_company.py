"""Callbacks on the mixture itself, with scikit-learn's own callbacks and in its meta-estimators."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from callback_fakes import (
    FIT,
    LABELS,
    RNG,
    WEIGHTS,
    FakeMixture,
    Native,
    Quiet,
    Recorder,
    Spreading,
    X,
    log_density,
    needs_sklearn_callbacks,
    trajectory,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgmm import GaussianMixture, History

# ---- scikit-learn's own callbacks and meta-estimators


@needs_sklearn_callbacks
@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize("y", [None, LABELS], ids=["no labels", "labels"])
def test_scoring_monitor(n_init, y):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring={"log_likelihood": FakeMixture.score})
    Native(max_iter=3, n_init=n_init).set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    scores = [row["log_likelihood"] for row in rows if row["task_name"] == "iteration"]
    expected = [log_density(m, X) for init in range(n_init) for m in trajectory(3, init)[1:]]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    (root,) = (row for row in rows if row["task_name"] == "fit")
    np.testing.assert_allclose(root["log_likelihood"], expected[-1], rtol=1e-12)


@needs_sklearn_callbacks
def test_scoring_monitor_with_weights():
    from sklearn.callback import ScoringMonitor

    def weighted(estimator, X, y, sample_weight):
        return {"log_likelihood": estimator.score(X, y, sample_weight)}

    monitor = ScoringMonitor(scoring=weighted)
    Native(max_iter=3).set_callbacks(monitor).fit(X, sample_weight=WEIGHTS)
    scores = [row["log_likelihood"] for row in monitor.get_logs().data[1:]]
    expected = [log_density(mean, X, WEIGHTS) for mean in trajectory(3, 0, WEIGHTS)[1:]]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@needs_sklearn_callbacks
def test_scoring_monitor_that_needs_labels_raises_without():
    from sklearn.callback import ScoringMonitor

    model = Native().set_callbacks(ScoringMonitor(scoring="adjusted_rand_score"))
    model.fit(X, LABELS)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X)


@needs_sklearn_callbacks
@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize("max_iter", [0, 3, 500])
def test_progress_bar(n_init, max_iter, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    Native(max_iter=max_iter, n_init=n_init, tol=1e-9).set_callbacks(ProgressBar()).fit(X)
    shown = capsys.readouterr().out
    assert "Native - fit" in shown
    assert "100%" in shown
    # A run has a bar of its own where it has iterations and is one of several.
    assert shown.count("Native - init #") == (n_init if n_init > 1 and max_iter > 0 else 0)


@needs_sklearn_callbacks
def test_pipeline_hands_callbacks_on():
    spreading, history = Spreading(), History()
    pipeline = make_pipeline(StandardScaler(), Native(max_iter=3).set_callbacks(history))
    pipeline.set_callbacks(spreading).fit(X)
    assert len(history) == 3
    ends = spreading.ends("iteration")
    assert [event.path for event in ends] == [(FIT, ("fit", 1), ("iteration", t)) for t in range(3)]
    assert spreading.count("setup") == spreading.count("teardown") == 1
    assert spreading.count("begin") == spreading.count("end")
    # What the pipeline lent it has taken back.
    assert pipeline[-1]._skl_callbacks == [history]
    assert not hasattr(pipeline[-1], "_parent_callback_ctx")


@needs_sklearn_callbacks
def test_search_hands_callbacks_on():
    spreading, history = Spreading(), History()
    search = GridSearchCV(
        Native().set_callbacks(history), {"max_iter": [2, 4], "n_init": [1, 2]}, cv=2
    )
    search.set_callbacks(spreading).fit(X)
    fits = 2 * (2 + 4) * (1 + 2)
    refit = search.best_params_["max_iter"] * search.best_params_["n_init"]
    assert len(spreading.ends("iteration")) == fits + refit
    assert spreading.count("setup") == spreading.count("teardown") == 1
    assert len(history) == refit  # the last fit of all


@needs_sklearn_callbacks
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_search_in_parallel(backend):
    import joblib
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring={"log_likelihood": FakeMixture.score})
    search = GridSearchCV(
        Native().set_callbacks(monitor), {"max_iter": [2, 4]}, cv=2, n_jobs=2, refit=True
    )
    with joblib.parallel_backend(backend):
        search.fit(X)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "iteration"]
    refit = search.best_params_["max_iter"]
    # A callback set on the inner estimator stays behind when this is sent to another process.
    assert len(rows) == refit + (2 * (2 + 4) if backend == "threading" else 0)


@needs_sklearn_callbacks
def test_progress_bar_over_processes(capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    search = GridSearchCV(Native(), {"max_iter": [2, 4]}, cv=2, n_jobs=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X)
    shown = capsys.readouterr().out
    assert "Native - fit" in shown
    assert "100%" in shown


# ---- the real estimator


BLOBS = np.concatenate([RNG.normal(size=(150, 3)), RNG.normal(3.0, size=(100, 3))])
BLOB_WEIGHTS = RNG.uniform(0.5, 2.0, size=250)
TYPES = pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])


@TYPES
@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize("weights", [None, BLOB_WEIGHTS], ids=["unweighted", "weighted"])
def test_mixture_history(covariance_type, n_init, weights):
    """A watched fit is the fit itself, and its history ends where the fit does."""
    settings = {"covariance_type": covariance_type, "n_init": n_init, "random_state": 0}
    plain = GaussianMixture(2, **settings).fit(BLOBS, sample_weight=weights)
    history = History()
    model = GaussianMixture(2, **settings).set_callbacks(history).fit(BLOBS, sample_weight=weights)
    fitted = {name for name in vars(plain) if name.endswith("_")}
    assert fitted == {name for name in vars(model) if name.endswith("_")}
    for name in fitted:
        np.testing.assert_array_equal(getattr(model, name), getattr(plain, name))
    runs = [[r for r in history.records if r.init == init] for init in range(n_init)]
    best = max(runs, key=lambda run: run[-1].bound)
    assert [record.iteration for record in best] == list(range(1, model.n_iter_ + 1))
    assert [record.bound for record in best] == model.lower_bounds_
    assert best[0].change == np.inf
    np.testing.assert_array_equal([r.change for r in best[1:]], np.diff(model.lower_bounds_))
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(best[-1], name), getattr(model, f"{name}_"))
    assert all(record.seconds > 0 for record in history.records)


@needs_sklearn_callbacks
@TYPES
def test_mixture_scores_while_fitting(covariance_type):
    """The score after an iteration is the bound of the next."""
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring={"log_likelihood": GaussianMixture.score})
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    model.set_callbacks(monitor).fit(BLOBS)
    scores = [row["log_likelihood"] for row in monitor.get_logs().data[1:]]
    assert len(scores) == model.n_iter_
    np.testing.assert_allclose(scores[:-1], model.lower_bounds_[1:], rtol=1e-10)
    np.testing.assert_allclose(scores[-1], model.score(BLOBS), rtol=1e-12)


@needs_sklearn_callbacks
def test_mixture_in_a_search(capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    search = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 2]}, cv=2, n_jobs=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(BLOBS)
    assert "GaussianMixture - fit" in capsys.readouterr().out


@needs_sklearn_callbacks
def test_mixture_scores_a_data_frame():
    """Scorers see the frame with its column names, else scikit-learn warns."""
    pd = pytest.importorskip("pandas")
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring={"log_likelihood": GaussianMixture.score})
    model = GaussianMixture(2, random_state=0).set_callbacks(monitor)
    model.fit(pd.DataFrame(BLOBS, columns=["a", "b", "c"]))
    assert len(monitor.get_logs().data) == model.n_iter_ + 1


@pytest.mark.parametrize("where", ["setup", ("end", "iteration"), ("end", "fit"), "teardown"])
@pytest.mark.parametrize("already_fitted", [False, True])
def test_mixture_is_unchanged_when_a_callback_raises(where, already_fitted):
    model = GaussianMixture(2, random_state=0)
    if already_fitted:
        model.fit(BLOBS[:100, :2])
    model.set_callbacks(Recorder(fail_at=where))
    before = dict(vars(model))
    with pytest.raises(ValueError, match="failed at"):
        model.fit(BLOBS)
    after = vars(model)
    assert set(after) == set(before)
    assert all(after[name] is before[name] for name in before)


def test_mixture_pickles_and_clones_without_callback_state():
    model = GaussianMixture(2, random_state=0).set_callbacks(Recorder(), History()).fit(BLOBS)
    twin = pickle.loads(pickle.dumps(model))
    assert set(vars(model)) - set(vars(twin)) == {"_skl_callbacks"}
    assert set(vars(clone(model))) == {*model.get_params(), "_skl_callbacks"}


@pytest.mark.parametrize("method", ["fit", "fit_predict"])
def test_mixture_without_iterations(method):
    history, recorder = History(), Recorder()
    model = GaussianMixture(2, max_iter=0, random_state=0).set_callbacks(history, recorder)
    getattr(model, method)(BLOBS)
    assert len(history) == 0
    assert recorder.count("setup") == recorder.count("teardown") == 1


def test_mixture_fitted_from_several_threads():
    """One estimator, fits at once: every callback set up is torn down."""
    recorder = Quiet()
    model = GaussianMixture(2, random_state=0, max_iter=50, n_threads=1).set_callbacks(recorder)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change over as often as can be
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(model.fit, [BLOBS] * 60))
    finally:
        sys.setswitchinterval(interval)
    assert recorder.count("setup") == recorder.count("teardown") == 60
    assert not hasattr(model, "_callback_fit_ctx")
