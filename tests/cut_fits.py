"""Fits that are cut short, and what makes two fits the same."""

import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastgmm import BayesianGaussianMixture, Checkpoint, History

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
