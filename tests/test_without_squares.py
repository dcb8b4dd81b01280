"""Tied passes that leave out what all components have in common: the squares of whitened rows."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_em_pass import (
    SHAPES,
    SMALL,
    assert_statistics,
    given,
    kernel_params_of,
    problem,
    run_em,
)

from fastgmm._initialise import total_scatter
from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.scaled import Scaled
from fastgmm._passes import EMPass
from fastgmm._pruning import EMPasses, TrialPass
from fastgmm._sources import ArraySource
from fastgmm._structures import Scatter, split_squares
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
@pytest.mark.parametrize("distance", [1e6, 1e9, 1e12])
def test_far_from_the_origin_no_digits_are_lost(distance):
    """The mean of the rows is rounded there, by more than the bound may be off."""
    X, truth = problem("tied", 50, 3, 2)
    truth = truth._replace(means=truth.means + 4.0)  # not where the rows are
    far, near = X + distance, (X + distance) - distance  # the same rows, to the last bit
    centres = (truth.means + distance) - distance
    got, params = statistics(far, truth._replace(means=centres + distance))
    assert params.whitening.size == 0
    expected = oracle.score_samples(near, truth._replace(means=centres)).sum()
    assert_allclose(got.log_likelihood, expected, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("d", "k"), [(1, 4), (3, 1), (17, 2), (8, 3)])
def test_kernels_stay_within_their_arrays(d, k, weighted):
    X, truth = problem("tied", 300, d, k)
    weights = np.random.RandomState(0).gamma(1.0, size=300) if weighted else None
    less, mean = split_squares(kernel_params_of(truth), total_scatter(source_of(X, weights)))
    stats = run_em(X, type(less)(*map(given, less)), weights)
    bound = stats.log_likelihood + mean * stats.weight
    assert_statistics(stats._replace(log_likelihood=bound), X, truth, weights)


def test_a_trial_of_pruning_has_the_bits_of_a_dense_pass():
    X, truth = problem("tied", 30_000, 12, 32)
    source = source_of(X)
    scatter, params = total_scatter(source), kernel_params_of(truth)
    passes, kinds = EMPasses(len(X)), []

    def reduce(task):
        kinds.append(type(task))
        return source.reduce(task)

    first, second = (passes.run(reduce, params, scatter) for _ in range(2))
    assert kinds == [EMPass, TrialPass]
    dense = EMPasses(len(X))
    dense.run(source.reduce, params, scatter)
    dense._wait = 1  # no trial yet
    expected = dense.run(source.reduce, params, scatter)
    for got, other in zip(second, expected, strict=True):
        assert_array_equal(got, other)
    assert_allclose(first.log_likelihood, second.log_likelihood, rtol=1e-13)


@pytest.mark.nojit
def test_a_constant_feature_keeps_the_saving():
    covariance = np.diag([1.0, 1e-6])
    truth = oracle.Parameters(np.ones(1), np.zeros((1, 2)), covariance, "tied")
    matrix = np.diag([100.0, -1e-20])  # what rounding may leave
    scatter = Scatter(100.0, np.zeros(2), matrix, np.zeros(2))
    less, mean = split_squares(kernel_params_of(truth), scatter)
    assert less.whitening.size == 0
    assert mean == pytest.approx(-0.5)


@pytest.mark.nojit
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_unusable_scatter_is_not_used(value):
    _, truth = problem("tied", 1, 3, 2)
    matrix = np.eye(3)
    matrix[2, 0] = matrix[0, 2] = value
    params = kernel_params_of(truth)
    with np.errstate(all="ignore"):
        assert split_squares(params, Scatter(1.0, np.zeros(3), matrix, np.zeros(3)))[1] == 0.0


def kinds(correlation, means):
    """Which kernel parameters there are, before and after the squares are left out."""
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    truth = oracle.Parameters(np.full(2, 0.5), np.array(means), covariance, "tied")
    params = kernel_params_of(truth)
    scatter = Scatter(100.0, np.zeros(2), 100.0 * covariance, np.zeros(2))
    return params, *split_squares(params, scatter)


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
        scatter = Scatter(1.0, np.zeros(3), np.eye(3), np.zeros(3))
        assert split_squares(params, None) == (params, 0.0)
        assert (split_squares(params, scatter)[0] is params) == (kind != "tied")
