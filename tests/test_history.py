"""`History`, under both callback drivers."""

import pickle
import sys

import numpy as np
import pytest
from callback_fakes import WEIGHTS, Native, Own, Quiet, Recorder, X, log_density, trajectory

from fastgmm import History


@pytest.fixture(params=[Native, Own], ids=["native", "own"])
def Mixture(request):
    return request.param


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_history(Mixture, weights):
    history = History()
    Mixture(max_iter=3, n_init=2).set_callbacks(history).fit(X, sample_weight=weights)
    assert len(history) == len(history.records) == 6
    table = history.to_dict()
    assert table["init"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["iteration"].tolist() == [1, 2, 3, 1, 2, 3]
    means = np.array([trajectory(3, init, weights) for init in (0, 1)])
    bounds = np.array([[log_density(mean, X, weights) for mean in run[:3]] for run in means])
    np.testing.assert_allclose(table["bound"], bounds.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(history.bounds, table["bound"])
    changes = np.diff(bounds, axis=1, prepend=-np.inf).ravel()
    np.testing.assert_allclose(table["change"], changes, rtol=1e-9)
    assert table["seconds"].tolist() == [0.5] * 6
    np.testing.assert_allclose(table["means"], means[:, 1:].reshape(6, 1, 2), rtol=1e-12)
    assert table["weights"].shape == (6, 1)
    assert table["covariances"].shape == (6, 1, 2, 2)


def test_history_without_parameters(Mixture):
    history = History(keep_parameters=False)
    Mixture().set_callbacks(history).fit(X)
    assert history.records[0].means is None
    assert list(history.to_dict()) == ["init", "iteration", "bound", "change", "seconds"]


def test_history_starts_anew(Mixture):
    history = History()
    model = Mixture(max_iter=4).set_callbacks(history).fit(X)
    first = history.records
    model.set_params(max_iter=2).fit(X)
    assert (len(first), len(history)) == (4, 2)
    Mixture(max_iter=0).set_callbacks(history).fit(X)
    assert len(history) == 0
    assert history  # still a callback
    assert history.bounds.shape == (0,)
    assert {len(column) for column in history.to_dict().values()} == {0}


def test_history_holds_copies(Mixture):
    class Vandal(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            fitted_estimator.means_[:] = np.nan

    history = History()
    Mixture(max_iter=1).set_callbacks(history, Vandal()).fit(X)
    np.testing.assert_allclose(history.records[0].means[0], trajectory(1)[1], rtol=1e-12)


def test_history_keeps_what_came_before_an_error(Mixture):
    history = History()
    bad = Recorder(fail_at=("end", "iteration"))
    model = Mixture().set_callbacks(history, bad)
    with pytest.raises(ValueError, match="failed"):
        model.fit(X)
    assert len(history) == 1
    twin = pickle.loads(pickle.dumps(history))
    assert twin.bounds.tolist() == history.bounds.tolist()


def test_history_of_fits_at_once(Mixture):
    """A fit begun within another: each fills its own records, the last begun shows."""
    history = History()
    shown = {}

    class Nesting(Quiet):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "iteration" and "inner" not in shown:
                shown["outer"] = history.records
                Mixture(max_iter=3).set_callbacks(history).fit(X)
                shown["inner"] = history.records

    Mixture(max_iter=5).set_callbacks(history, Nesting()).fit(X)
    assert [record.iteration for record in shown["outer"]] == [1, 2, 3, 4, 5]
    assert [record.iteration for record in shown["inner"]] == [1, 2, 3]
    assert history.records is shown["inner"]


def test_history_as_a_frame(Mixture):
    pd = pytest.importorskip("pandas")
    history = History()
    Mixture(n_init=2).set_callbacks(history).fit(X)
    frame = history.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["init", "iteration", "bound", "change", "seconds"]
    np.testing.assert_array_equal(frame["bound"], history.bounds)


def test_history_as_a_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas.*to_dict"):
        History().to_frame()
