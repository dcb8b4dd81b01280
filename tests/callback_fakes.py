"""An estimator with a fake EM loop, under both callback drivers, and callbacks that take notes."""

import importlib.util
import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator

from fastgmm import _callbacks
from fastgmm._observers import Iteration


def load_with_own_driver():
    """Load `_callbacks` as it comes out where scikit-learn has no callbacks."""
    spec = importlib.util.spec_from_file_location("fastgmm._below_1_9", _callbacks.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.callback", None)
        spec.loader.exec_module(module)
    return module


HAS_SKLEARN_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
needs_sklearn_callbacks = pytest.mark.skipif(
    not HAS_SKLEARN_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on"
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
LABELS = RNG.integers(0, 2, size=50)
WEIGHTS = RNG.integers(0, 4, size=50).astype(float)


class Params(NamedTuple):
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class FakeMixture:
    """One unit Gaussian whose mean goes half of its way to the data's at each "M-step"."""

    def __init__(self, max_iter=5, n_init=1, tol=0.0, asks=0):
        self.max_iter = max_iter
        self.n_init = n_init
        self.tol = tol
        self.asks = asks

    def fit(self, X, y=None, sample_weight=None, observers=()):
        fitted = self.callbacks.with_callbacks(type(self)._run)(
            self, X, y, sample_weight, list(observers)
        )
        vars(self).update(fitted)
        return self

    def _run(self, X, y, sample_weight, observers):
        callbacks = None
        if self._has_callbacks:
            callbacks = self.callbacks.CallbackObserver(
                self,
                X,
                y,
                n_rows=len(X),
                attributes=self._attributes,
                n_init=self.n_init,
                max_iter=self.max_iter,
                sample_weight=sample_weight,
            )
            observers.append(callbacks)
        fitted = {}
        for init in range(self.n_init):
            for observer in observers:
                observer.run_begins(init)
            mean = np.full(X.shape[1], init + 1.0)
            bound, last, converged = -np.inf, None, False
            for number in range(1, self.max_iter + 1):
                previous, bound = bound, log_density(mean, X, sample_weight)
                mean = (mean + np.average(X, axis=0, weights=sample_weight)) / 2
                params = Params(np.ones(1), mean[np.newaxis], np.eye(2)[np.newaxis])
                converged = abs(bound - previous) < self.tol
                last = Iteration(
                    init, number, bound, bound - previous, 0.5, len(X), converged, params
                )
                stops = [observer.iteration_ends(last) for observer in observers]
                if converged or any(stops):
                    break
            for observer in observers:
                observer.run_ends(init, last)
            fitted = {"means_": mean[np.newaxis], "converged_": converged}
            if callbacks is not None and callbacks.stopped:
                break
        if callbacks is not None:
            callbacks.fit_ends(fitted)
        return fitted

    def _attributes(self, params):
        self.asks += 1
        return {"weights_": params.weights, "means_": params.means}

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y=None, sample_weight=None):
        return log_density(self.means_[0], X, sample_weight)


class Native(FakeMixture, _callbacks.CallbackSupport, BaseEstimator):
    callbacks = _callbacks


_own = load_with_own_driver()


class Own(FakeMixture, _own.CallbackSupport, BaseEstimator):
    callbacks = _own


def log_density(mean, X, weights=None):
    return np.average(multivariate_normal(mean).logpdf(X), weights=weights)


def trajectory(n_iterations, init=0, weights=None):
    """Means after 0, 1, ... iterations of the fake loop, in closed form."""
    centre = np.average(X, axis=0, weights=weights)
    return [centre + (init + 1 - centre) / 2**t for t in range(n_iterations + 1)]


class Recorder:
    """Writes down every hook call with the names and numbers of the task's path."""

    def __init__(self, fail_at=None, stop_at=None, error=ValueError):
        self.fail_at = fail_at
        self.stop_at = stop_at
        self.error = error
        self.events = []

    def _note(self, hook, context, **given):
        path = []
        while context is not None:
            path.append((context.task_name, context.task_id))
            leaf, context = path[0], context.parent
        self.events.append(SimpleNamespace(hook=hook, path=tuple(path[::-1]), **given))
        if self.fail_at in (hook, (hook, leaf[0])):
            raise self.error(f"failed at {self.fail_at}")
        return self.stop_at == leaf

    def setup(self, estimator, context):
        self._note("setup", context)

    def on_fit_task_begin(self, estimator, context):
        self._note("begin", context)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        return self._note("end", context, X=X, y=y, metadata=metadata, fitted=fitted_estimator)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def story(self):
        return [(event.hook, *event.path) for event in self.events]

    def count(self, hook):
        return sum(event.hook == hook for event in self.events)

    def ends(self, name):
        return [e for e in self.events if e.hook == "end" and e.path[-1][0] == name]


class Spreading(Recorder):
    """A callback that scikit-learn's meta-estimators hand on."""

    max_propagation_depth = None


class Quiet(Recorder):
    """A callback that asks for no more than it must."""

    def on_fit_task_end(self, estimator, context):
        self._note("end", context)


FIT = ("fit", 0)
