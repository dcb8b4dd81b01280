"""Tied passes that leave out what all components have in common: the squares of whitened rows."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose
from test_em_pass import SHAPES, SMALL, assert_statistics, kernel_params_of, problem

from fastgmm._initialise import total_scatter
from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.scaled import Scaled
from fastgmm._passes import EMPass
from fastgmm._pruning import EMPasses
from fastgmm._sources import ArraySource
from fastgmm._structures import Scatter, without_squares
from fastgmm._threads import Workers


def source_of(X, weights=None):
    if weights is not None:
        weights.flags.writeable = False
    return ArraySource(X, Workers(1), weights)


def statistics(X, truth, weights=None):
    """What a dense pass finds that is told the rows' scatter, and its kernel parameters."""
    source, tasks = source_of(X, weights), []

    def reduce(task):
        tasks.append(task)
        return source.reduce(task)

    passes = EMPasses(len(X), prune=False)
    stats = passes.run(reduce, kernel_params_of(truth), total_scatter(source))
    (task,) = tasks
    assert isinstance(task, EMPass)
    return stats, task.params


def check(X, truth, weights=None):
    stats, params = statistics(X, truth, weights)
    assert params.whitening.size == 0
    assert params.coefficients.shape[1] == 1 + X.shape[1]
    assert_statistics(stats, X, truth, weights)


@pytest.mark.parametrize(("d", "k"), SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_sums_are_the_oracles(d, k, weighted):
    for n in (60, 515):
        X, truth = problem("tied", n, d, k, seed=n)
        check(X, truth, np.random.RandomState(0).gamma(1.0, size=n) if weighted else None)


@pytest.mark.nojit
@pytest.mark.parametrize(("d", "k"), SMALL)
def test_the_sums_of_small_problems_are_the_oracles(d, k):
    X, truth = problem("tied", 33, d, k)
    check(X, truth)
    weights = np.arange(33.0)  # the first row counts for nothing
    X[0] = 1e150
    check(X, truth, weights)


@pytest.mark.nojit
def test_the_origin_of_the_coordinates_does_not_matter():
    X, truth = problem("tied", 50, 3, 2)
    stats, _ = statistics(X, truth)
    X, shift = X + 1e6, 1e6
    moved, params = statistics(X, truth._replace(means=truth.means + shift))
    assert params.whitening.size == 0
    # what the rows themselves have lost
    assert_allclose(moved.log_likelihood, stats.log_likelihood, rtol=1e-7)


def kinds(correlation, means):
    """Which kernel parameters there are, before and after the squares are left out."""
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    truth = oracle.Parameters(np.full(2, 0.5), np.array(means), covariance, "tied")
    params = kernel_params_of(truth)
    scatter = Scatter(100.0, np.zeros(2), 100.0 * covariance)
    return params, *without_squares(params, scatter)


@pytest.mark.nojit
def test_correlated_features_cost_digits_of_the_squares_first():
    """Terms of the squares are 1 / (1 - correlation) times as large as their sum."""
    along = [[-1.0, -1.0], [1.0, 1.0]]  # where the variance is large
    whole, less, mean = kinds(0.99, along)
    assert isinstance(whole, Expanded)
    assert whole.coefficients.shape[1] == 4
    assert less.coefficients.shape[1] == 3
    assert mean == pytest.approx(-1.0, rel=1e-13)  # half of d, of rows of this covariance
    whole, less, mean = kinds(1.0 - 1e-4, along)
    assert isinstance(whole, Expanded)
    assert less is whole
    assert mean == 0.0


@pytest.mark.nojit
def test_correlated_features_cost_digits_of_the_slopes():
    """Against the correlation, the slopes are 1 / (1 - correlation) times as large."""
    across = [[-0.1, 0.1], [0.1, -0.1]]
    assert isinstance(kinds(0.99, across)[0], Expanded)
    assert isinstance(kinds(1.0 - 1e-4, across)[0], Scaled)


@pytest.mark.nojit
def test_rows_of_unknown_scatter_and_other_kinds_keep_their_squares():
    for kind in ("full", "tied", "diag", "spherical"):
        _, truth = problem(kind, 1, 3, 2)
        params = kernel_params_of(truth)
        scatter = Scatter(1.0, np.zeros(3), np.eye(3))
        assert without_squares(params, None) == (params, 0.0)
        assert (without_squares(params, scatter)[0] is params) == (kind != "tied")
