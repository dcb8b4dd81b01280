"""Callbacks under both drivers: scikit-learn's own (from 1.9 on) and ours (below)."""

import copy
import pickle

import numpy as np
import pytest
from callback_fakes import (
    FIT,
    LABELS,
    WEIGHTS,
    Native,
    Own,
    Quiet,
    Recorder,
    X,
    log_density,
    needs_sklearn_callbacks,
    trajectory,
)
from sklearn.base import clone

from fastgmm import History, _callback_driver


@pytest.fixture(params=[Native, Own], ids=["native", "own"])
def Mixture(request):
    return request.param


def test_tasks_of_a_single_run(Mixture):
    recorder = Recorder()
    Mixture(max_iter=2).set_callbacks(recorder).fit(X)
    assert recorder.story() == [
        ("setup", FIT),
        ("begin", FIT),
        ("begin", FIT, ("iteration", 0)),
        ("end", FIT, ("iteration", 0)),
        ("begin", FIT, ("iteration", 1)),
        ("end", FIT, ("iteration", 1)),
        ("end", FIT),
        ("teardown", FIT),
    ]


def test_tasks_of_several_runs(Mixture):
    recorder = Recorder()
    Mixture(max_iter=1, n_init=2).set_callbacks(recorder).fit(X)
    runs = []
    for init in [("init", 0), ("init", 1)]:
        iteration = ("iteration", 0)
        runs += [("begin", FIT, init), ("begin", FIT, init, iteration)]
        runs += [("end", FIT, init, iteration), ("end", FIT, init)]
    assert recorder.story() == [
        ("setup", FIT),
        ("begin", FIT),
        *runs,
        ("end", FIT),
        ("teardown", FIT),
    ]


@pytest.mark.parametrize("n_init", [1, 3])
def test_no_iterations(Mixture, n_init):
    recorder = Recorder()
    Mixture(max_iter=0, n_init=n_init).set_callbacks(recorder).fit(X)
    assert recorder.ends("iteration") == []
    assert recorder.count("begin") == recorder.count("end") == (1 if n_init == 1 else 4)
    assert all(event.fitted is None for event in recorder.ends("init"))


def test_convergence_opens_no_task_in_vain(Mixture):
    recorder = Recorder()
    model = Mixture(max_iter=100, tol=1e-3).set_callbacks(recorder).fit(X)
    assert model.converged_
    ends = recorder.ends("iteration")
    assert recorder.count("begin") == recorder.count("end") == 1 + len(ends)
    assert [event.fitted.converged_ for event in ends] == [False] * (len(ends) - 1) + [True]


def test_observers_that_stop_leave_no_task_open(Mixture):
    class Stopper:
        run_begins = run_ends = lambda self, *args: None

        def iteration_ends(self, iteration):
            return iteration.number == 2

    recorder = Recorder()
    Mixture().set_callbacks(recorder).fit(X, observers=[Stopper()])
    assert recorder.count("begin") == recorder.count("end")
    assert [event.fitted is None for event in recorder.ends("iteration")] == [False, False, True]


def test_stop_request_ends_the_run(Mixture):
    history, later = History(), Recorder()
    stopper = Recorder(stop_at=("iteration", 1))
    model = Mixture(n_init=2).set_callbacks(stopper, later, history).fit(X)
    assert [(r.init, r.iteration) for r in history.records] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert not model.converged_
    assert later.story() == stopper.story()
    assert later.count("begin") == later.count("end")


def test_stop_request_ends_the_runs(Mixture):
    history = History()
    Mixture(max_iter=2, n_init=5).set_callbacks(Recorder(stop_at=("init", 1)), history).fit(X)
    assert [record.init for record in history.records] == [0, 0, 1, 1]


def test_what_hooks_are_given(Mixture):
    recorder = Recorder()
    model = Mixture(max_iter=3).set_callbacks(recorder).fit(X, LABELS, WEIGHTS)
    means = trajectory(3, weights=WEIGHTS)
    bounds = [log_density(mean, X, WEIGHTS) for mean in means]
    for t, event in enumerate(recorder.ends("iteration")):
        assert event.X is X
        assert event.y is LABELS
        assert list(event.metadata) == ["sample_weight"]
        assert event.metadata["sample_weight"] is WEIGHTS
        assert event.fitted is not model
        assert event.fitted.n_iter_ == t + 1
        np.testing.assert_allclose(event.fitted.means_[0], means[t + 1], rtol=1e-12)
        np.testing.assert_allclose(event.fitted.lower_bounds_, bounds[: t + 1], rtol=1e-12)
        assert event.fitted.lower_bound_ == event.fitted.lower_bounds_[-1]
    (root,) = recorder.ends("fit")
    np.testing.assert_array_equal(root.fitted.means_, model.means_)
    assert not hasattr(root.fitted, "_em_iteration")
    assert not {name for name in vars(root.fitted) if "callback" in name}


def test_without_labels_or_weights(Mixture):
    recorder = Recorder()
    Mixture(max_iter=1).set_callbacks(recorder).fit(X)
    event = recorder.ends("iteration")[0]
    assert event.metadata is None
    assert event.y.shape == (50,)
    assert np.isnan(event.y).all()
    assert event.y.strides == (0,)  # nothing n-sized is made for it


def test_attributes_are_made_only_when_asked_for(Mixture):
    quiet, asking = Mixture().set_callbacks(Quiet()), Mixture()
    assert quiet.fit(X).asks == 0
    assert asking.set_callbacks(Recorder(), Recorder()).fit(X).asks == asking.max_iter


def test_no_callbacks_no_trace(Mixture):
    model = Mixture().fit(X)
    assert not model._has_callbacks
    assert set(vars(model)) == {*model.get_params(), "means_", "converged_"}


# ---- setting


@pytest.mark.parametrize("bad", [None, object(), Recorder, History, "ProgressBar"])
def test_only_callbacks_can_be_set(Mixture, bad):
    good = Recorder()
    model = Mixture().set_callbacks(good)
    with pytest.raises(
        TypeError, match=r"^callbacks must be instances following the FitCallback protocol\.$"
    ):
        model.set_callbacks(good, bad)
    assert model._has_callbacks


def test_setting_none_removes_all(Mixture):
    model = Mixture()
    assert model.set_callbacks(Recorder()) is model
    assert model.set_callbacks().set_callbacks() is model
    assert not model._has_callbacks
    assert set(vars(model)) == set(model.get_params())


def test_unknown_hook_parameter(Mixture):
    class Curious(Recorder):
        def on_fit_task_begin(self, estimator, context, *, loss=None):
            pass

    with pytest.raises(TypeError, match=r"Hook on_fit_task_begin of the callback Curious .*loss"):
        Mixture().set_callbacks(Curious()).fit(X)


# ---- errors


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize(
    "where", ["setup", ("begin", "fit"), ("end", "iteration"), ("end", "fit"), "teardown"]
)
def test_callback_that_raises(Mixture, where, n_init, error):
    bad, other = Recorder(fail_at=where, error=error), Recorder()
    model = Mixture(n_init=n_init).fit(X[:20])
    before = dict(vars(model))
    model.set_callbacks(bad, other)
    with pytest.raises(error, match="failed at"):
        model.fit(X)
    assert bad.count("setup") == bad.count("teardown") == 1
    if error is ValueError or where != "teardown":
        assert other.count("setup") == other.count("teardown") == (where != "setup")
    model.set_callbacks()
    if where != "teardown" or error is ValueError:
        assert {k: v for k, v in vars(model).items() if k != "asks"} == {
            k: v for k, v in before.items() if k != "asks"
        }


def test_all_teardown_errors_are_raised(Mixture):
    first, second = Recorder(fail_at="teardown"), Recorder(fail_at="teardown")
    with pytest.raises(ExceptionGroup, match="teardown errors occurred") as caught:
        Mixture().set_callbacks(first, second).fit(X)
    assert len(caught.value.exceptions) == 2
    assert first.count("teardown") == second.count("teardown") == 1


def test_error_in_the_fit_itself(Mixture):
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError):
        Mixture().set_callbacks(recorder).fit(X, sample_weight=np.zeros(50))
    assert recorder.count("teardown") == 1


# ---- pickles, copies, clones


@pytest.mark.parametrize(
    "twin_of",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_copies_forget_callbacks(Mixture, twin_of):
    model = Mixture().set_callbacks(Recorder(), History()).fit(X)
    twin = twin_of(model)
    assert set(vars(twin)) == {*model.get_params(), "means_", "converged_"}
    np.testing.assert_array_equal(twin.means_, model.means_)
    assert model._has_callbacks
    assert b"History" not in pickle.dumps(model)


def test_pickle_during_a_fit(Mixture):
    class Saver(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            self.saved = pickle.dumps([estimator, fitted_estimator])

    saver = Saver()  # a local class: pickling it would raise
    Mixture(max_iter=2).set_callbacks(saver).fit(X)
    estimator, fitted = pickle.loads(saver.saved)
    assert set(vars(estimator)) == set(estimator.get_params())
    assert fitted.means_.shape == (1, 2)


def test_clone_reports_to_the_same_callbacks(Mixture):
    history = History()
    model = Mixture(max_iter=2).set_callbacks(history).fit(X)
    twin = clone(model)
    assert set(vars(twin)) == {*model.get_params(), "_skl_callbacks"}
    twin.set_params(max_iter=4).fit(X)
    assert len(history) == 4
    twin.set_callbacks().fit(X)
    model.fit(X)
    assert len(history) == 2
    assert not hasattr(clone(Mixture()), "_skl_callbacks")


# ---- our driver's context


def test_own_context():
    context = _callback_driver.CallbackContext([], "Fake", task_name="fit", max_subtasks=2)
    child = context.subcontext(task_name="iteration")
    assert context.subcontext(max_subtasks=None).subcontext().task_id == 0
    assert [c.task_name for c in context] == ["fit", "iteration", "", ""]
    assert child.root_uuid == context.root_uuid
    assert repr(child) == (
        "CallbackContext(estimator_name='Fake', task_name='iteration', task_id=0)"
    )
    with pytest.raises(ValueError, match="already has its 2 subtasks"):
        context.subcontext()
    with pytest.raises(ValueError, match="already has its 0 subtasks"):
        child.subcontext()


@needs_sklearn_callbacks
@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_both_drivers_call_the_same(n_init, tol):
    contexts = {}

    class Contexts(Recorder):
        def setup(self, estimator, context):
            super().setup(estimator, context)
            contexts[type(estimator)] = context

    stories = []
    for kind in (Native, Own):
        recorder = Contexts()
        kind(max_iter=30, n_init=n_init, tol=tol).set_callbacks(recorder).fit(X)
        stories.append(recorder.story())
    assert stories[0] == stories[1]
    theirs, ours = (list(contexts[kind]) for kind in (Native, Own))
    names = [name for name in vars(theirs[0]) if not name.startswith("_")]
    same = set(names) - {"root_uuid", "init_time", "parent", "estimator_name"}
    for their, our in zip(theirs, ours, strict=True):
        assert {name: getattr(our, name) for name in same} == {
            name: getattr(their, name) for name in same
        }
        assert type(our.init_time) is type(their.init_time)
        assert our.init_time.tzinfo == their.init_time.tzinfo
