"""k-means: scikit-learn's seeds and labels, from the same random state."""

import numpy as np
import pytest
from datasets import DATASETS, synthetic
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from fastgmm._kmeans import (
    Clustering,
    _Lloyd,
    _together,
    kmeans,
    labelled_stats,
    mean_variance,
    seed,
)
from fastgmm._sources import ArraySource
from fastgmm._threads import Workers

REAL = ["iris", "wine", "digits", "faithful"]


@pytest.fixture
def source_of():
    """Return a function that makes sources; its threads end with the test."""

    def make(X, weights=None):
        if weights is not None:
            weights.flags.writeable = False  # as the edge gives them: the one type kernels are for
        return ArraySource(X, workers, weights)

    with Workers(2) as workers:
        yield make


def sklearn_kmeans(X, k, random_state, weights=None):
    model = KMeans(k, n_init=1, random_state=np.random.RandomState(random_state))
    return model.fit(X, sample_weight=weights)


def lattice():
    """Rows on a small lattice: duplicates and equal distances."""
    return np.random.RandomState(0).randint(0, 4, size=(300, 2)).astype(float)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_seeds_are_scikit_learns(source_of, name, k):
    X = DATASETS[name]()
    for random_state in range(4):
        expected = kmeans_plusplus(X, k, random_state=np.random.RandomState(random_state))[1]
        got = seed(source_of(X), k, np.random.RandomState(random_state))
        assert_array_equal(got, expected)


@pytest.mark.parametrize("k", [2, 7, 12])
def test_seeds_of_weighted_rows_are_scikit_learns(source_of, k):
    X = DATASETS["iris"]()
    weights = np.random.RandomState(0).uniform(size=len(X))
    weights[::4] = 0.0
    for random_state in range(6):
        expected = kmeans_plusplus(
            X, k, sample_weight=weights, random_state=np.random.RandomState(random_state)
        )[1]
        got = seed(source_of(X, weights), k, np.random.RandomState(random_state))
        assert_array_equal(got, expected)
        assert (weights[got] > 0).all()


@pytest.mark.nojit
def test_seeds_leave_the_stream_where_scikit_learn_leaves_it(source_of):
    X = DATASETS["faithful"]()[:60]
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    assert_array_equal(seed(source_of(X), 5, ours), kmeans_plusplus(X, 5, random_state=theirs)[1])
    assert ours.uniform() == theirs.uniform()


@pytest.mark.nojit
def test_rows_of_weight_0_are_never_seeds(source_of):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 2))
    X[:50] *= 100.0  # they would be chosen first of all
    weights = np.zeros(60)
    weights[50:] = 1.0
    for random_state in range(20):
        chosen = seed(source_of(X, weights), 10, np.random.RandomState(random_state))
        assert_array_equal(np.sort(chosen), np.arange(50, 60))


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
def test_seeds_of_fewer_distinct_rows_than_seeds_still_count(source_of, weighted):
    X = np.repeat([[0.0, 1.0], [2.0, 3.0]], 10, axis=0)
    weights = np.where(np.arange(20) % 3 == 0, 0.0, 1.0) if weighted else None
    chosen = seed(source_of(X, weights), 4, np.random.RandomState(0))
    assert {tuple(row) for row in X[chosen]} == {(0.0, 1.0), (2.0, 3.0)}
    assert weights is None or (weights[chosen] > 0).all()


def test_seeds_are_found_in_later_stretches(source_of):
    # more rows than are summed up at a time when a candidate is looked for
    X = synthetic(70_000, 1, 3)
    expected = kmeans_plusplus(X, 6, random_state=np.random.RandomState(1))[1]
    assert_array_equal(seed(source_of(X), 6, np.random.RandomState(1)), expected)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_labels_and_centres_are_scikit_learns(source_of, name, k):
    X = DATASETS[name]()
    for random_state in range(3):
        expected = sklearn_kmeans(X, k, random_state)
        got = kmeans(source_of(X), k, np.random.RandomState(random_state))
        assert_array_equal(got.labels, expected.labels_)
        assert_allclose(got.centres, expected.cluster_centers_, rtol=1e-9, atol=1e-9)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
def test_many_blocks_go_to_a_thread_at_once(source_of, monkeypatch, weighted):
    for module in ("_kmeans", "_sources._array"):
        monkeypatch.setattr(f"fastgmm.{module}.block_rows", lambda n_features: 10)
    X = synthetic(1001, 2, 5)
    weights = np.random.RandomState(0).uniform(size=len(X)) if weighted else None
    source = source_of(X, weights)
    assert _together(source, 4) == 4  # the last share is one block, of one row
    chosen = seed(source, 5, np.random.RandomState(1))
    expected = kmeans_plusplus(X, 5, sample_weight=weights, random_state=1)[1]
    assert_array_equal(chosen, expected)
    got = kmeans(source, 5, np.random.RandomState(1))
    assert_array_equal(got.labels, sklearn_kmeans(X, 5, 1, weights).labels_)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 9])
def test_labels_of_many_blocks_are_scikit_learns(source_of, d, weighted):
    """Of which some rows are read, in any number, in tiles that are full or not."""
    X = synthetic(20_000, d, 7)
    weights = np.random.RandomState(0).uniform(size=len(X)) if weighted else None
    for random_state in range(3):
        expected = sklearn_kmeans(X, 7, random_state, weights)
        got = kmeans(source_of(X, weights), 7, np.random.RandomState(random_state))
        assert_array_equal(got.labels, expected.labels_)


@pytest.mark.parametrize("k", [3, 6])
def test_weighted_labels_are_scikit_learns(source_of, k):
    X = DATASETS["faithful"]()
    weights = np.random.RandomState(0).uniform(size=len(X))
    for random_state in range(4):
        expected = sklearn_kmeans(X, k, random_state, weights)
        got = kmeans(source_of(X, weights), k, np.random.RandomState(random_state))
        assert_array_equal(got.labels, expected.labels_)
        assert_allclose(got.centres, expected.cluster_centers_, rtol=1e-9)


@pytest.mark.nojit
def test_duplicated_rows(source_of):
    X = np.repeat(DATASETS["iris"]()[::10], 5, axis=0)
    expected = sklearn_kmeans(X, 4, 0)
    got = kmeans(source_of(X), 4, np.random.RandomState(0))
    assert adjusted_rand_score(got.labels, expected.labels_) == 1.0
    _, members = np.unique(X, axis=0, return_inverse=True)
    members = members.reshape(-1)  # (n, 1) in NumPy 2.0
    for member in range(members.max() + 1):
        assert len(set(got.labels[members == member])) == 1


def inertia(X, clustering):
    return ((X - clustering.centres[clustering.labels]) ** 2).sum()


def test_rows_on_a_lattice_end_as_well_as_scikit_learns(source_of):
    # equal distances are broken by rounding: the clusters may differ, their quality may not
    X = lattice()
    for random_state in range(5):
        got = kmeans(source_of(X), 16, np.random.RandomState(random_state))
        assert inertia(X, got) == pytest.approx(0.0, abs=1e-12)
        assert len(np.unique(got.labels)) == 16


@pytest.mark.filterwarnings(
    "ignore:Number of distinct clusters:sklearn.exceptions.ConvergenceWarning"
)
def test_fewer_distinct_rows_than_clusters(source_of):
    X = np.repeat([[0.0, 1.0], [2.0, 3.0], [9.0, 9.0]], 7, axis=0)
    expected = sklearn_kmeans(X, 5, 0)
    got = kmeans(source_of(X), 5, np.random.RandomState(0))
    assert_array_equal(got.labels, expected.labels_)
    assert len(np.unique(got.labels)) == 3
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        sklearn_kmeans(X, 5, 0)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_empty", [1, 2])
def test_an_empty_cluster_moves_where_scikit_learn_moves_it(
    source_of, monkeypatch, weighted, n_empty
):
    rng = np.random.RandomState(4)
    X = np.vstack([rng.standard_normal((30, 2)), rng.standard_normal((30, 2)) + 10, [[40.0, -9.0]]])
    weights = rng.uniform(0.5, 2.0, len(X)) if weighted else None
    far = np.array([[-500.0, 500.0], [500.0, 500.0]])[:n_empty]  # nearest to no row
    start = np.vstack([[[0.0, 0.0]], far, [[10.0, 10.0]]])
    expected = KMeans(len(start), init=start, n_init=1).fit(X, sample_weight=weights)
    source = source_of(X, weights)
    seeds = np.arange(len(start))
    take = source.take
    monkeypatch.setattr("fastgmm._kmeans.seed", lambda *_: seeds)
    monkeypatch.setattr(source, "take", lambda i: start.copy() if i is seeds else take(i))
    got = kmeans(source, len(start), np.random.RandomState(0))
    assert_array_equal(got.labels, expected.labels_)
    assert_allclose(got.centres, expected.cluster_centers_, rtol=1e-10, atol=1e-10)
    assert len(np.unique(got.labels)) == len(start)


def blobs(n, d, k, scale, seed=0):
    """Return unit clusters at random places."""
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n, d)) + scale * rng.standard_normal((k, d))[rng.randint(k, size=n)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("d", [2, 7])
def test_long_runs_end_where_scikit_learns_end(source_of, d, scale, offset, weighted):
    """Overlapping clusters take many steps, in which few rows are read."""
    X = blobs(20_000, d, 8, scale)
    weights = np.random.RandomState(1).uniform(size=len(X)) if weighted else None
    if weighted:
        weights[::5] = 0.0
    expected = sklearn_kmeans(X, 8, 0, weights)
    X = X + offset
    got = kmeans(source_of(X, weights), 8, np.random.RandomState(0))
    # scikit-learn stops by a tolerance, which a weighted variance moves a little
    same = np.mean(got.labels == expected.labels_)
    assert same == 1.0 if not weighted else same > 0.999
    if not weighted:
        assert_allclose(got.centres - offset, expected.cluster_centers_, atol=1e-9 + 1e-14 * offset)
    squares = ((X[:, None] - got.centres) ** 2).sum(axis=2)
    assert_array_equal(got.labels, squares.argmin(axis=1))


def test_rows_of_any_type_and_layout_give_the_same(source_of):
    X = blobs(70_000, 3, 5, 1.0).round(2)
    expected = kmeans(source_of(X), 5, np.random.RandomState(0))
    for other in (np.asfortranarray(X), X.astype(">f8")):
        got = kmeans(source_of(other), 5, np.random.RandomState(0))
        assert_array_equal(got.labels, expected.labels)
        assert_array_equal(got.centres, expected.centres)
    got = kmeans(source_of(X.astype(np.float32)), 5, np.random.RandomState(0))
    assert np.mean(got.labels == expected.labels) > 0.999


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_keep_their_digits_when_what_was_large_goes_away(source_of, weighted):
    """A row far away, or one of huge weight, is in the sums of a cluster first, and then not."""
    rng = np.random.RandomState(0)
    far = [[15.0, -15.0]] if weighted else [[1e12, -1e12]]
    X = np.vstack([rng.standard_normal((40, 2)), rng.standard_normal((40, 2)) + 20.0, far])
    weights = np.append(rng.uniform(size=80), 1e15) if weighted else None
    lloyd = _Lloyd(source_of(X, weights), np.array([[14.0, -14.0], [21.0, 21.0]]))
    lloyd.assign()
    assert lloyd.labels[-1] == 0
    lloyd.move()
    lloyd.centres = np.array([[0.0, 0.0], far[0]])
    lloyd._travelled = np.full(2, np.inf)  # they came from anywhere
    lloyd.assign()
    assert lloyd.labels[-1] == 1
    lloyd.move()
    rows = lloyd.labels == 0
    mean = np.average(X[rows], axis=0, weights=None if weights is None else weights[rows])
    assert_allclose(lloyd.centres[0], mean, rtol=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_variance_keeps_its_digits(source_of, weighted):
    X = DATASETS["iris"]()[:70]
    weights = np.random.RandomState(0).uniform(size=70) if weighted else None
    mean = np.average(X, axis=0, weights=weights)
    expected = np.average((X - mean) ** 2, axis=0, weights=weights).mean()
    assert mean_variance(source_of(X, weights)) == pytest.approx(expected, rel=1e-12)
    assert mean_variance(source_of(X + 2.0**26, weights)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.nojit
def test_labelled_stats_are_the_moments_of_the_clusters(source_of):
    X = DATASETS["iris"]()[::3]
    labels = np.arange(len(X), dtype=np.int32) % 3
    centres = np.array([X[labels == k].mean(axis=0) for k in range(3)])
    stats = labelled_stats(source_of(X), Clustering(centres, labels), 10)
    assert_array_equal(stats.mass, np.bincount(labels))
    assert_allclose(stats.first, 0.0, atol=1e-12)
    for k in range(3):
        rows = X[labels == k]
        scatter = np.cov(rows.T, ddof=0) * len(rows)
        assert_allclose(stats.second[k], scatter[np.tril_indices(4)], rtol=1e-10, atol=1e-12)
