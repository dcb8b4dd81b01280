"""The EM loop against the oracle's, from the same given starts."""

import numpy as np
import oracle
import pytest
from datasets import faithful, iris, synthetic
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm._em import EMResult, Standing, run_em
from fastgmm._initialise import total_scatter
from fastgmm._rules import MaximumLikelihood, log_weights
from fastgmm._sources import ArraySource, UnfitRow
from fastgmm._structures import STRUCTURES, IllDefinedCovariance, Params
from fastgmm._threads import Workers

TYPES = tuple(STRUCTURES)
each_type = pytest.mark.parametrize("kind", TYPES)


def start_for(X, kind, k, seed=0, weights=None):
    """A start that depends on nothing of ours: random responsibilities, one M-step."""
    r = np.random.RandomState(seed).dirichlet(np.full(k, 0.3), len(X))
    return oracle.m_step(X, r, kind, 1e-6, weights)


def run(X, start, *, tol=1e-3, max_iter=20, reg_covar=1e-6, weights=None, n_threads=2, **more):
    """Run our loop from the oracle's parameters."""
    structure = STRUCTURES[start.covariance_type]
    factors = structure.precisions_cholesky(start.covariances)
    params = Params(start.weights, start.means, start.covariances, factors)
    if weights is not None:
        weights.flags.writeable = False  # as the edge gives them: the one type kernels are for
    with Workers(n_threads) as workers:
        source = ArraySource(X, workers, weights)
        scatter = total_scatter(source) if structure.needs_scatter else None
        mean_weight = 1.0 if weights is None else weights.sum() / np.count_nonzero(weights)
        rule = MaximumLikelihood(structure, reg_covar, scatter, mean_weight)
        begin = Standing(params, bound=more.pop("bound", -np.inf))
        return run_em(
            source, structure, rule, begin, tol=tol, max_iter=max_iter, scatter=scatter, **more
        )


def assert_same_fit(got, expected, rtol=1e-8):
    assert (got.n_iter, got.converged) == (expected.n_iter, expected.converged)
    assert_allclose(got.bounds, expected.lower_bounds, rtol=1e-10, atol=1e-10)
    for name in ("weights", "means", "covariances"):
        truth = getattr(expected.parameters, name)
        ours = getattr(got.params, name)
        assert_allclose(ours, truth, rtol=rtol, atol=rtol * np.abs(truth).max())


@each_type
@pytest.mark.parametrize("data", [iris, faithful])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_iteration_is_the_oracles(kind, data, weighted):
    X = data()
    weights = np.random.RandomState(1).uniform(0.1, 2, len(X)) if weighted else None
    start = start_for(X, kind, 3, weights=weights)
    for tol in (1e-2, 1e-4):
        got = run(X, start, tol=tol, weights=weights)
        assert_same_fit(got, oracle.em(X, start, tol=tol, max_iter=20, sample_weight=weights))


@pytest.mark.nojit
@each_type
def test_a_few_iterations_are_the_oracles(kind):
    X = iris()[::3]
    start = start_for(X, kind, 2)
    got = run(X, start, tol=0.0, max_iter=4)
    assert_same_fit(got, oracle.em(X, start, tol=0.0, max_iter=4))


@each_type
def test_many_blocks_are_the_oracles(kind):
    X = synthetic(20_000)
    start = start_for(X, kind, 3)
    got = run(X, start, tol=0.0, max_iter=3)
    assert_same_fit(got, oracle.em(X, start, tol=0.0, max_iter=3))
    for n_threads in (1, 3):
        other = run(X, start, tol=0.0, max_iter=3, n_threads=n_threads)
        assert other.bounds == got.bounds
        for one, two in zip(other.params[:4], got.params[:4], strict=True):
            assert_array_equal(one, two)


@pytest.mark.nojit
@each_type
def test_a_weight_of_two_is_the_row_twice_and_of_zero_no_row(kind):
    X = iris()[::3]
    weights = np.random.RandomState(0).randint(0, 3, len(X)).astype(float)
    start = start_for(X, kind, 2)
    weighted = run(X, start, tol=0.0, max_iter=3, weights=weights)
    repeated = run(np.repeat(X, weights.astype(int), axis=0), start, tol=0.0, max_iter=3)
    assert_allclose(weighted.bounds, repeated.bounds, rtol=1e-12)
    for one, two in zip(weighted.params[:4], repeated.params[:4], strict=True):
        assert_allclose(one, two, rtol=1e-9, atol=1e-10)


@pytest.mark.nojit
@each_type
def test_the_scale_of_the_weights_does_not_matter(kind):
    X = faithful()[::4]
    weights = np.random.RandomState(0).uniform(size=len(X))
    start = start_for(X, kind, 2)
    expected = run(X, start, tol=0.0, max_iter=3, weights=weights)
    for scale in (1e-30, 2.0**40):
        got = run(X, start, tol=0.0, max_iter=3, weights=weights * scale)
        assert_allclose(got.bounds, expected.bounds, rtol=1e-12)
        for one, two in zip(got.params[:4], expected.params[:4], strict=True):
            assert_allclose(one, two, rtol=1e-9, atol=1e-12)


@each_type
def test_without_regularisation_the_bound_never_falls(kind):
    X = iris()
    result = run(X, start_for(X, kind, 3), tol=0.0, max_iter=150, reg_covar=0.0)
    rises = np.diff(result.bounds)
    assert (rises >= -1e-12 * np.abs(result.bounds[-1])).all()
    assert result.bounds[-1] > result.bounds[0] + 0.1


@pytest.mark.nojit
def test_it_stops_at_the_first_small_change_and_keeps_the_newer_parameters():
    X = faithful()[::3]
    start = start_for(X, "diag", 2)
    every = run(X, start, tol=0.0, max_iter=12)
    changes = np.abs(np.diff(every.bounds))
    tol = float(changes[5]) * 1.0000001
    first = int(np.argmax(changes < tol)) + 2  # iterations count from 1, changes from the second
    stopped = run(X, start, tol=tol, max_iter=12)
    assert (stopped.n_iter, stopped.converged) == (first, True)
    assert stopped.bounds == every.bounds[:first]
    same = run(X, start, tol=0.0, max_iter=first)
    for one, two in zip(stopped.params[:4], same.params[:4], strict=True):
        assert_array_equal(one, two)


@pytest.mark.nojit
def test_a_fall_by_less_than_tol_is_convergence_too():
    X = faithful()[::4]
    start = start_for(X, "full", 2)
    first = run(X, start, max_iter=1)
    above = first.bound + 1e-4
    assert run(X, start, tol=1e-3, bound=above).n_iter == 1
    assert run(X, start, tol=1e-3, bound=above).converged
    assert run(X, start, tol=1e-5, bound=above).n_iter > 1


@pytest.mark.nojit
def test_without_iterations_the_start_is_the_result():
    X = faithful()[::4]
    start = start_for(X, "spherical", 2)
    result = run(X, start, max_iter=0)
    assert (result.n_iter, result.converged, result.bounds) == (0, False, [])
    assert result.bound == -np.inf
    assert result.mass is None
    assert_array_equal(result.params.means, start.means)


@pytest.mark.nojit
def test_a_component_without_weight_stays_dead_in_silence():
    X = faithful()[::4]
    start = start_for(X, "full", 3)
    start = start._replace(weights=np.array([0.4, 0.0, 0.6]))
    result = run(X, start, tol=0.0, max_iter=3)
    assert result.params.weights[1] == pytest.approx(0.0, abs=1e-15)
    assert np.isfinite(result.params.means).all()
    assert np.isfinite(result.bounds).all()


def test_log_weights_are_silent():
    assert_array_equal(log_weights(np.array([1.0, 0.0])), [0.0, -np.inf])


@pytest.mark.nojit
def test_a_collapse_and_an_unfit_row_are_reported():
    X = np.repeat([[0.0, 1.0], [5.0, 2.0]], 6, axis=0)
    start = oracle.Parameters(np.array([0.5, 0.5]), X[[0, 6]], np.array([np.eye(2)] * 2), "full")
    with pytest.raises(IllDefinedCovariance):
        run(X, start, reg_covar=0.0, max_iter=50, tol=0.0)
    X[7, 1] = np.nan
    with pytest.raises(UnfitRow) as caught:
        run(X, start)
    assert (caught.value.row, caught.value.column) == (7, 1)


class Watcher:
    """Observer that writes down what it is told."""

    def __init__(self, stop_at=None):
        self.stop_at, self.told = stop_at, []

    def run_begins(self, init):
        raise AssertionError("runs are not the loop's business")

    run_ends = run_begins

    def iteration_ends(self, iteration):
        self.told.append(iteration)
        return iteration.number == self.stop_at


@pytest.mark.nojit
def test_observers_are_told_everything():
    X = faithful()[::3]
    start = start_for(X, "full", 2)
    first, second = Watcher(), Watcher()
    result = run(X, start, tol=1e-2, max_iter=30, run=3, observers=[first, second])
    assert result.converged
    assert first.told == second.told
    told = first.told
    assert [iteration.number for iteration in told] == list(range(1, result.n_iter + 1))
    assert [iteration.bound for iteration in told] == result.bounds
    assert [iteration.converged for iteration in told] == [False] * (result.n_iter - 1) + [True]
    assert {iteration.init for iteration in told} == {3}
    assert {iteration.rows for iteration in told} == {len(X)}
    assert told[0].change == np.inf
    assert_array_equal([i.change for i in told[1:]], np.diff(result.bounds))
    assert all(iteration.seconds > 0 for iteration in told)
    assert told[-1].params is result.params
    for iteration, number in zip(told, range(1, 4), strict=False):
        alone = run(X, start, tol=0.0, max_iter=number)
        assert_array_equal(iteration.params.means, alone.params.means)


@pytest.mark.nojit
def test_an_observer_can_stop_the_run_and_the_others_still_hear_of_it():
    X = faithful()[::4]
    start = start_for(X, "full", 2)
    stopping, other = Watcher(stop_at=2), Watcher()
    result = run(X, start, tol=0.0, observers=[stopping, other])
    assert (result.n_iter, result.converged) == (2, False)
    assert len(other.told) == 2


@pytest.mark.nojit
def test_the_result_holds_the_statistics_of_the_last_pass():
    X = faithful()[::4]
    start = start_for(X, "diag", 2)
    result = run(X, start, tol=0.0, max_iter=3)
    assert isinstance(result, EMResult)
    before = run(X, start, tol=0.0, max_iter=2).params
    r = oracle.responsibilities(X, oracle.Parameters(*before[:3], "diag"))
    assert_allclose(result.mass, r.sum(axis=0), rtol=1e-10)
