"""The four starts: scikit-learn's parameters from the same random state."""

import tracemalloc
from typing import NamedTuple

import numpy as np
import oracle
import pytest
from datasets import DATASETS, faithful, iris
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from fastgmm import GaussianMixture
from fastgmm._initialise import (
    ALL_ROWS,
    INITIALISATIONS,
    _sample_without_replacement,
    default_init_size,
    sample_rows,
    total_scatter,
)
from fastgmm._passes import block_rows
from fastgmm._rules import MaximumLikelihood
from fastgmm._sources import ArraySource
from fastgmm._structures import STRUCTURES
from fastgmm._threads import Workers

TYPES = tuple(STRUCTURES)
INITS = tuple(INITIALISATIONS)


class Found(NamedTuple):
    """What an initialisation makes of rows."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    n_distinct: int


def starts(X, kind, init_params, seed, k=4, weights=None):
    """Our start and the stream after it."""
    structure, rng = STRUCTURES[kind], np.random.RandomState(seed)
    if weights is not None:
        weights.flags.writeable = False  # as the edge gives them: the one type kernels are for
    with Workers(2) as workers:
        source = ArraySource(X, workers, weights)
        scatter = total_scatter(source) if structure.needs_scatter else None
        mean_weight = 1.0 if weights is None else weights.sum() / np.count_nonzero(weights)
        rule = MaximumLikelihood(structure, 1e-6, scatter, mean_weight)
        start = INITIALISATIONS[init_params](source, k, rule, rng)
        _, means, covariances = start.moments
        weights = start.moments.mass / start.weight
        return Found(weights, means, covariances, start.n_distinct), rng


def sklearn_start(X, kind, init_params, seed, k=4):
    """scikit-learn's start, and the stream after it."""
    rng = np.random.RandomState(seed)
    model = SklearnGaussianMixture(
        k, covariance_type=kind, init_params=init_params, max_iter=0, random_state=rng
    )
    return model.fit(X), rng


def assert_same_start(X, kind, init_params, seed, k=4):
    ours, our_rng = starts(X, kind, init_params, seed, k)
    theirs, their_rng = sklearn_start(X, kind, init_params, seed, k)
    assert_allclose(ours.weights, theirs.weights_, rtol=1e-12)
    assert_allclose(ours.means, theirs.means_, rtol=1e-10, atol=1e-10)
    size = np.abs(theirs.covariances_).max()
    assert_allclose(ours.covariances, theirs.covariances_, rtol=1e-7, atol=1e-8 * size)
    assert ours.n_distinct == k
    # nothing more and nothing less was drawn
    assert our_rng.uniform() == their_rng.uniform()


@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["iris", "wine", "faithful"])
def test_starts_are_scikit_learns(kind, init_params, name):
    X = DATASETS[name]()
    for seed in range(3):
        assert_same_start(X, kind, init_params, seed)


@pytest.mark.parametrize("init_params", INITS)
def test_starts_of_several_blocks_are_scikit_learns(init_params):
    X = DATASETS["synthetic"]()
    assert len(X) > block_rows(X.shape[1])
    for kind in TYPES:
        assert_same_start(X, kind, init_params, 0)


@pytest.mark.nojit
@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("kind", TYPES)
def test_starts_of_a_few_rows_are_scikit_learns(kind, init_params):
    assert_same_start(iris()[::5], kind, init_params, 1, k=2)


@pytest.mark.nojit
@pytest.mark.parametrize("init_params", INITS)
def test_the_estimator_keeps_the_start_without_iterations(init_params):
    X = faithful()[::2]
    ours = GaussianMixture(3, init_params=init_params, max_iter=0, random_state=0).fit(X)
    theirs = sklearn_start(X, "full", init_params, 0, 3)[0]
    assert_allclose(ours.weights_, theirs.weights_, rtol=1e-12)
    assert_allclose(ours.means_, theirs.means_, rtol=1e-10)
    assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-7, atol=1e-7)
    assert (ours.n_iter_, ours.converged_) == (0, False)


@pytest.mark.nojit
@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("distance", [3.0, 1e10, 1e150])
def test_rows_of_weight_0_leave_no_trace_in_a_start(kind, init_params, distance):
    X = iris()[::4].copy()
    weights = np.ones(len(X))
    weights[::3] = 0.0
    moved = X.copy()
    moved[::3] += distance
    one, _ = starts(X, kind, init_params, 0, 3, weights)
    other, _ = starts(moved, kind, init_params, 0, 3, weights)
    for a, b in zip(one, other, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
def test_seeds_are_rows_of_positive_weight(init_params):
    X = iris()
    X = X + 1e-3 * np.random.RandomState(0).standard_normal(X.shape)  # no two rows alike
    weights = np.zeros(len(X))
    weights[[3, 70, 120, 140]] = [1.0, 2.0, 1.0, 0.5]
    for seed in range(5):
        start, _ = starts(X, "diag", init_params, seed, 4, weights)
        got = start.means[np.argsort(start.means[:, 0])]
        expected = X[weights > 0]
        assert_allclose(got, expected[np.argsort(expected[:, 0])], rtol=1e-12)
        assert_allclose(start.weights, 0.25, rtol=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_weights_enter_the_responsibilities(kind):
    X = iris()[::4]
    weights = np.random.RandomState(0).uniform(size=len(X))
    start, _ = starts(X, kind, "random", 2, 3, weights)
    r = oracle.initial_responsibilities(X, 3, "random", 2)
    expected = oracle.m_step(X, r, kind, 1e-6, weights)
    assert_allclose(start.weights, expected.weights, rtol=1e-10)
    assert_allclose(start.means, expected.means, rtol=1e-10)
    assert_allclose(start.covariances, expected.covariances, rtol=1e-8, atol=1e-10)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 2.0**26])
def test_total_scatter(weighted, offset):
    X = iris()[::3] + offset
    weights = np.random.RandomState(0).uniform(size=len(X)) if weighted else None
    with Workers(1) as workers:
        scatter = total_scatter(ArraySource(X, workers, weights))
    w = np.ones(len(X)) if weights is None else weights
    mean = np.average(X - offset, axis=0, weights=w)
    z = X - offset - mean
    assert scatter.weight == pytest.approx(w.sum())
    assert_allclose(scatter.mean - offset, mean, rtol=1e-7)
    assert_allclose((scatter.mean - offset) + scatter.residual, mean, rtol=1e-13)
    assert_allclose(scatter.matrix, (z * w[:, None]).T @ z, rtol=1e-6, atol=1e-8)


@pytest.mark.nojit
def test_rows_far_out_that_count_for_little_cost_the_scatter_no_digits():
    X = iris()[::3].copy()
    X[0], weights = 1e8, np.ones(len(X))
    weights[0] = 1e-20
    with Workers(1) as workers:
        scatter = total_scatter(ArraySource(X, workers, weights))
    mean = X[1:].mean(axis=0)
    expected = (X[1:] - mean).T @ (X[1:] - mean) + 1e-20 * np.outer(X[0] - mean, X[0] - mean)
    assert_allclose(scatter.mean, mean, rtol=1e-10)
    assert_allclose(scatter.matrix, expected, rtol=1e-10)


# --- starts from a sample ------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize(("n", "size"), [(10, 1), (10, 9), (10, 10), (1000, 500), (10**9, 40)])
def test_a_sample_is_sorted_without_duplicates_and_reproducible(n, size):
    index = _sample_without_replacement(n, size, np.random.RandomState(0))
    assert index.dtype == np.int64
    assert len(index) == size
    assert (np.diff(index) > 0).all()
    assert index[0] >= 0
    assert index[-1] < n
    again = _sample_without_replacement(n, size, np.random.RandomState(0))
    assert_array_equal(index, again)
    if n >= 1000:
        other = _sample_without_replacement(n, size, np.random.RandomState(1))
        assert not np.array_equal(index, other)


@pytest.mark.nojit
def test_every_row_is_as_likely_in_a_sample():
    n, size, times = 12, 7, 6000
    counts, pairs, rng = np.zeros(n), np.zeros((n, n)), np.random.RandomState(0)
    for _ in range(times):
        index = _sample_without_replacement(n, size, rng)
        counts[index] += 1
        pairs[np.ix_(index, index)] += 1
    p = size / n
    assert (np.abs(counts / times - p) < 5 * np.sqrt(p * (1 - p) / times)).all()
    p = p * (size - 1) / (n - 1)
    both = pairs[~np.eye(n, dtype=bool)] / times
    assert (np.abs(both - p) < 5 * np.sqrt(p * (1 - p) / times)).all()


@pytest.mark.nojit
def test_the_memory_of_a_sample_does_not_grow_with_the_rows():
    tracemalloc.start()
    try:
        _sample_without_replacement(10**12, 10_000, np.random.RandomState(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 10_000


@pytest.mark.nojit
def test_rows_are_sampled_only_where_there_are_more():
    X = iris()
    weights = np.arange(1.0, 151.0)
    with Workers(1) as workers:
        source = ArraySource(X, workers, weights)
        for size in (None, 150, 10**6):
            rng = np.random.RandomState(0)
            assert sample_rows(source, size, 2, rng) is source
            assert rng.uniform() == np.random.RandomState(0).uniform()  # nothing was drawn
        part = sample_rows(source, 40, 2, np.random.RandomState(0))
        assert part.n_rows == 40
        index = _sample_without_replacement(150, 40, np.random.RandomState(0))
        assert_array_equal(part.take(np.arange(40)), X[index])
        assert_array_equal(part.weights, weights[index])
        weights[::2] = 0.0  # such rows are none to start from
        part = sample_rows(ArraySource(X, workers, weights), 40, 2, np.random.RandomState(0))
        index = 1 + 2 * _sample_without_replacement(75, 40, np.random.RandomState(0))
        assert_array_equal(part.take(np.arange(40)), X[index])
        part = sample_rows(ArraySource(X, workers, weights), 100, 2, np.random.RandomState(0))
        assert_array_equal(part.take(np.arange(75)), X[1::2])


@pytest.mark.nojit
def test_sampling_takes_memory_of_the_sample_only():
    class Many:
        n_rows = n_counted = 10**9
        n_features = 8

        def sample(self, ranks):
            return ranks

    tracemalloc.start()
    try:
        assert len(sample_rows(Many(), None, 2, np.random.RandomState(0))) == 2**20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


@pytest.mark.nojit
def test_the_default_sample_is_bounded_in_bytes():
    assert ALL_ROWS == 2**22
    for d, k, size in ((1, 2, 2**23), (8, 2, 2**20), (1000, 2, 8388), (1000, 500, 32000)):
        assert default_init_size(d, k) == size


@pytest.mark.nojit
@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_fit_starts_from_its_sample(kind, init_params):
    X = two_clouds()
    model = GaussianMixture(
        2, covariance_type=kind, init_params=init_params, max_iter=0, random_state=3
    )
    sampled = clone(model).set_params(init_size=60).fit(X)
    stream = np.random.RandomState(3)
    rows = X[_sample_without_replacement(len(X), 60, stream)]
    alone = clone(model).set_params(random_state=stream).fit(rows)
    whole = clone(model).fit(X)
    every = clone(model).set_params(init_size=len(X)).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert_array_equal(getattr(sampled, name), getattr(alone, name))
        assert_array_equal(getattr(every, name), getattr(whole, name))
    assert not np.array_equal(sampled.means_, whole.means_)


class CountingState(np.random.RandomState):
    drawn = 0

    def randint(self, low, high=None, size=None, dtype=int):
        self.drawn += size
        return super().randint(low, high, size, dtype)


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("n", "size"), [(2, 1), (9, 8), (1000, 500), (1000, 501), (10**5, 10**5 - 1), (10**9, 1000)]
)
def test_a_sample_is_distinct_and_does_not_hunt_for_the_last_gaps(n, size):
    stream = CountingState(0)
    sample = _sample_without_replacement(n, size, stream)
    assert len(sample) == size
    assert (np.diff(sample) > 0).all()
    assert sample[0] >= 0
    assert sample[-1] < n
    assert stream.drawn < 4 * size + 10


@pytest.mark.nojit
@pytest.mark.parametrize("size", [1, 4, 5, 8])
def test_each_row_is_as_likely_to_be_sampled(size):
    n, repeats = 9, 4000
    stream = np.random.RandomState(1)
    counts = np.zeros(n)
    for _ in range(repeats):
        counts[_sample_without_replacement(n, size, stream)] += 1
    p = size / n
    assert (np.abs(counts - repeats * p) < 4.5 * np.sqrt(repeats * p * (1 - p))).all()


def two_clouds(n=600):
    labels = np.arange(n) % 2
    return np.random.RandomState(0).standard_normal((n, 2)) + 20.0 * labels[:, None]


@pytest.mark.nojit
@pytest.mark.filterwarnings("ignore::fastgmm.FitWarning")  # ten rows are few
@pytest.mark.parametrize("init_params", INITS)
def test_a_sample_holds_rows_that_count(init_params):
    """Few rows of positive weight among many: the sample must not miss them all."""
    X = two_clouds()
    weights = np.zeros(len(X))
    weights[:10] = 1.0
    for seed in range(5):
        model = GaussianMixture(
            2, init_params=init_params, init_size=20, random_state=seed, tol=1e-4, reg_covar=1e-2
        ).fit(X, sample_weight=weights)
        assert np.isfinite(model.means_).all()


@pytest.mark.nojit
def test_a_sample_smaller_than_the_components_is_refused():
    with pytest.raises(ValueError, match=r"init_size=2 is smaller than n_components=3"):
        GaussianMixture(3, init_size=2).fit(iris())
