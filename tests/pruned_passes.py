"""Passes that skip pairs beside dense ones, over rows of clusters as far apart as wanted."""

from typing import Any, NamedTuple

import numpy as np
import oracle
from numpy.testing import assert_allclose, assert_array_equal
from test_em_pass import SENTINEL, untouched, zoned

from fastgmm._em import Standing, run_em
from fastgmm._initialise import total_scatter
from fastgmm._kernels.em_pass import LABEL
from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.expanded_triangular import ExpandedTriangular
from fastgmm._passes import EMPass, MapPass
from fastgmm._pruning import EMPasses, PrunedPass, way_for
from fastgmm._rules import MaximumLikelihood, log_weights
from fastgmm._sources import ArraySource
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES, Params
from fastgmm._threads import Workers

DENSE, TRIAL, WHOLE = "EMPass", "TrialPass", "PrunedPass"


def mixture(n, d, k, distance, kind="full"):
    """Rows of k clusters whose centres are that far apart on average, and the truth."""
    rng = np.random.RandomState(0)
    means = rng.standard_normal((k, d)) * distance / np.sqrt(2.0 * d)
    roots = 0.4 * rng.standard_normal((k, d, d)) / np.sqrt(d) + np.eye(d)
    roots *= rng.uniform(0.7, 1.4, (k, 1, 1))
    labels = rng.randint(k, size=n)
    X = means[labels] + np.einsum("nij,nj->ni", roots[labels], rng.standard_normal((n, d)))
    covariances = oracle.compact(roots @ roots.transpose(0, 2, 1), kind)
    return X, oracle.Parameters(rng.dirichlet(np.full(k, 5.0)), means, covariances, kind)


def params_of(truth):
    factors = STRUCTURES[truth.covariance_type].precisions_cholesky(truth.covariances)
    return Params(truth.weights, truth.means, truth.covariances, factors)


def kernel_params_of(truth):
    structure = STRUCTURES[truth.covariance_type]
    return structure.kernel_params(params_of(truth), log_weights(truth.weights))


def source_of(X, weights=None, n_threads=2):
    if weights is not None:
        weights.flags.writeable = False
    return ArraySource(X, Workers(n_threads), weights)


def labels_of(X, truth):
    return source_of(X, None, 1).map_rows(MapPass(kernel_params_of(truth), LABEL, None))


def unit_of_means(truth):
    """What `assert_same` measures small shifts in: below any standard deviation of a `mixture`."""
    return 0.5 if isinstance(kernel_params_of(truth), Expanded | ExpandedTriangular) else 1e-3


class Both(NamedTuple):
    """What the dense and the pruned pass find."""

    dense: SufficientStats
    pruned: SufficientStats
    keys: Any  # that the pruned pass leaves behind
    share: float  # of the pairs, that it finished


def both(X, truth, weights=None, keys=None, n_threads=2):
    """Make a dense and a pruned pass; without keys, these are found first."""
    params, source = kernel_params_of(truth), source_of(X, weights, n_threads)
    with np.errstate(all="ignore"):  # compiled kernels overflow in silence
        dense = SufficientStats.from_flat(source.reduce(EMPass(params)), params.means)
        way = way_for(params)
        bounds = way.bounds(params, dense.mass, dense.weight, len(X))
        found = np.zeros(len(X), np.uint16) if keys is None else keys.astype(np.uint16)
        task = PrunedPass(way, params, bounds, found, EMPass(params), label=keys is None)
        flat = source.reduce(task)
    pruned = SufficientStats.from_flat(flat[:-2], params.means)
    return Both(dense, pruned, found, flat[-2] / flat[-1])


def assert_same(dense, stats, tol=1e-12, sd=1e-3):
    """Each component's mass, and its parameters in units of its own size.

    sd : what a mean is measured in, where its shift from the last pass to this is smaller: where
    squares are multiplied out (`Expanded`) that shift is a difference of sums about the origin.
    """
    assert_allclose(stats.log_likelihood, dense.log_likelihood, rtol=1e-13)
    assert_allclose(stats.weight, dense.weight, rtol=1e-14)
    assert_allclose(stats.mass, dense.mass, rtol=tol)
    alive = dense.mass > 0
    for least, got, expected in (
        (sd, stats.first, dense.first),
        (1e-3, stats.second, dense.second),
    ):
        means = got[alive] / stats.mass[alive, None]
        truth = expected[alive] / dense.mass[alive, None]
        # tied covariances want no second moments
        scale = np.abs(truth).max(axis=1, keepdims=True, initial=least)
        assert_allclose(means / scale, truth / scale, rtol=0, atol=tol)
        assert (got[~alive] == 0).all()


def assert_rows_far_out_count_the_same(X, truth, far):
    """The rows ``far`` lie so far out that something may overflow."""
    with np.errstate(all="ignore"):
        dense, stats, keys, _ = both(X, truth, n_threads=1)
        assert_array_equal(stats.log_likelihood == -np.inf, dense.log_likelihood == -np.inf)
        assert_allclose(stats.mass, dense.mass, rtol=1e-12)
        assert np.isfinite(stats.first).all()
        assert_allclose(stats.first, dense.first, rtol=1e-9, atol=1e-10)
        assert not np.isnan(stats.second).any()
        keys_each = way_for(kernel_params_of(truth)).keys
        assert_array_equal(keys // keys_each, labels_of(X, truth))
        # of weight 0 they count for nothing
        weights = np.ones(len(X))
        weights[far] = 0.0
        dense, stats, _, _ = both(X, truth, weights, n_threads=1)
        assert_same(dense, stats)


def assert_scratch_is_kept_to(arrays, block):
    """See that a block writes to its scratch alone, and that it does not read what was there.

    block : called with arrays like the given ones; returns its results.
    """
    results = []
    for garbage in (0.0, np.nan, 1e300):
        zones = []
        for array in arrays:
            integral = array.dtype == np.int32
            filled = np.full(array.shape, 0 if integral else garbage, array.dtype)
            zones.append(zoned(filled, int(SENTINEL) if integral else SENTINEL))
        results.append(block([view for view, _ in zones]))
        assert all(untouched(around) for _, around in zones)
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert_array_equal(got, expected)


def stages(X, truths):
    """Pass over the same rows with one truth after the other: the kind of each pass, its result."""
    source, passes, seen = source_of(X), EMPasses(len(X)), []

    def reduce(task):
        seen.append(type(task).__name__)
        return source.reduce(task)

    stats = [passes.run(reduce, kernel_params_of(truth)) for truth in truths]
    return seen, stats


def em(X, truth, n_threads=2, *, prune=True, tol=0.0, max_iter=6):
    """Iterations from the truth."""
    structure = STRUCTURES[truth.covariance_type]
    with Workers(n_threads) as workers:
        source = ArraySource(X, workers)
        source.shares_memory = prune  # without that there is nowhere to keep keys
        scatter = total_scatter(source) if structure.needs_scatter else None
        rule = MaximumLikelihood(structure, 1e-6, scatter)
        start = Standing(params_of(truth))
        return run_em(source, rule, start, tol=tol, max_iter=max_iter)


def assert_same_bits_for_any_threads_and_layout(X, truth):
    expected = em(X, truth, 1)
    for n_threads, rows in [(2, X), (3, np.asfortranarray(X)), (2, X[::-1].copy()[::-1])]:
        got = em(rows, truth, n_threads)
        assert got.bounds == expected.bounds
        for one, two in zip(got.params[:4], expected.params[:4], strict=True):
            assert_array_equal(one, two)


def assert_a_run_is_the_dense_run(X, truth):
    start = truth._replace(means=truth.means + 0.3)
    on, off = em(X, start), em(X, start, prune=False)
    assert_allclose(on.bounds, off.bounds, rtol=1e-13)
    for one, two in zip(on.params[:4], off.params[:4], strict=True):
        assert_allclose(one, two, rtol=1e-12, atol=1e-12 * np.abs(two).max())
