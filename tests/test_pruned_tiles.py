"""The pass that skips components tile by tile against the dense one, and when it is chosen."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pruned_passes import (
    DENSE,
    TRIAL,
    WHOLE,
    assert_a_run_is_the_dense_run,
    assert_rows_far_out_count_the_same,
    assert_same,
    assert_same_bits_for_any_threads_and_layout,
    assert_scratch_is_kept_to,
    both,
    kernel_params_of,
    labels_of,
    mixture,
    source_of,
    stages,
    unit_of_means,
)

from fastgmm._kernels import pruned_tiles
from fastgmm._kernels.pruned_tiles import RINGS, TILE
from fastgmm._kernels.reaches import separations_of
from fastgmm._kernels.sorting import SortedScratch
from fastgmm._passes import EMPass
from fastgmm._pruning import TileByTile, way_for
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES

TYPES = tuple(STRUCTURES)
each_type = pytest.mark.parametrize("kind", TYPES)


# --- what it computes ----------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize(("d", "k"), [(1, 2), (2, 3), (5, 40), (8, 12), (17, 9), (33, 100)])
@pytest.mark.parametrize("distance", [2.0, 12.0, 40.0, 200.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts_is_skipped(kind, d, k, distance, weighted):
    if kind == "full" and d > 8:
        pytest.skip("row by row")
    X, truth = mixture(9_001, d, k, distance, kind)
    assert isinstance(way_for(kernel_params_of(truth)), TileByTile)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, len(X)) * (rng.uniform(size=len(X)) > 0.2) if weighted else None
    dense, stats, keys, share = both(X, truth, weights)
    assert_same(dense, stats, sd=unit_of_means(truth))
    assert_array_equal(keys // RINGS, labels_of(X, truth))
    assert 1.0 / k <= share * (1.0 + 1e-12)
    assert share <= 1.0
    # and once more, with rows sorted by how far out they are
    dense, stats, again, later = both(X, truth, weights, keys=keys)
    assert_same(dense, stats, sd=unit_of_means(truth))
    assert_array_equal(again, keys)
    assert later <= share * 1.01


@each_type
@pytest.mark.parametrize(("distance", "least", "most"), [(1.0, 1.0, 1.0), (40.0, 1 / 12, 0.1)])
def test_how_much_is_skipped(kind, distance, least, most):
    X, truth = mixture(9_001, 6, 12, distance, kind)
    if distance > 10.0:  # on a circle: none happen to be close
        angles = 2.0 * np.pi * np.arange(12) / 12
        means = np.zeros((12, 6))
        means[:, 0], means[:, 1] = 100.0 * np.cos(angles), 100.0 * np.sin(angles)
        rng = np.random.RandomState(0)
        X = means[rng.randint(12, size=len(X))] + rng.standard_normal(X.shape)
        truth = truth._replace(means=means)
    share = both(X, truth)[3]
    assert least * (1.0 - 1e-12) <= share <= most


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 2), (7, 3, 3), (70, 5, 4)])
@pytest.mark.parametrize("distance", [3.0, 30.0])
def test_moments_are_the_oracles(kind, n, d, k, distance):
    X, truth = mixture(n, d, k, distance, kind)
    dense, stats, keys, _ = both(X, truth, n_threads=1)
    assert_same(dense, stats)
    r = oracle.responsibilities(X, truth)
    assert_allclose(stats.mass, r.sum(axis=0), rtol=1e-9, atol=1e-15)
    assert_allclose(stats.log_likelihood, oracle.score_samples(X, truth).sum(), rtol=1e-11)
    z = X[:, None] - truth.means
    assert_allclose(stats.first, np.einsum("nk,nkd->kd", r, z), rtol=1e-8, atol=1e-10)
    assert_array_equal(keys // RINGS, np.argmax(r, axis=1))


@each_type
@pytest.mark.parametrize("distance", [6.0, 12.0, 25.0])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_tiny_components_keep_every_digit(kind, distance, scale):
    d, k = 7, 10
    X, truth = mixture(10_000, d, k, distance, kind)
    rng = np.random.RandomState(3)
    # far and near, each drawn down to some mass between 1e-3 and 3 rows
    targets = np.array([1e-3, 0.03, 0.4, 0.999, 1.001, 1.7, 3.0])
    near = truth.means[: len(targets)] + rng.standard_normal((len(targets), d))
    means, covariances = np.vstack([truth.means, near]), truth.covariances
    if kind != "tied":
        covariances = np.concatenate([covariances, 0.5 * covariances[: len(targets)]])
    mixing = np.concatenate([truth.weights, np.full(len(targets), 1e-4)])
    weights = np.full(len(X), scale) if scale != 1.0 else None
    for _ in range(30):
        tiny = oracle.Parameters(mixing / mixing.sum(), means, covariances, kind)
        params = kernel_params_of(tiny)
        flat = source_of(X).reduce(EMPass(params))
        mixing[k:] *= targets / SufficientStats.from_flat(flat, params.means).mass[k:]
    dense, stats, _, _ = both(X, tiny, weights)
    assert_allclose(dense.mass[k:] / scale, targets, rtol=0.1)
    assert_same(dense, stats)


@pytest.mark.nojit
@each_type
def test_dead_components_take_part_in_nothing(kind):
    X, truth = mixture(50, 3, 4, 8.0, kind)
    weights = np.array([0.5, 0.0, 0.2, 0.3])
    dense, stats, _, _ = both(X, truth._replace(weights=weights), n_threads=1)
    assert_same(dense, stats)
    assert stats.mass[1] == 0.0


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("distance", [1e3, 1e100, 1e155, 1e300])
def test_rows_far_out(kind, distance):
    X, truth = mixture(50, 3, 4, 8.0, kind)
    X[7], X[20, 2] = distance, -0.25 * distance
    assert_rows_far_out_count_the_same(X, truth, [7, 20])


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("k", [1, 2, 9])
def test_identical_components_share_every_row(kind, k):
    X, one = mixture(50, 3, 1, 1.0, kind)
    covariances = one.covariances if kind == "tied" else np.repeat(one.covariances, k, axis=0)
    truth = oracle.Parameters(np.full(k, 1 / k), np.repeat(one.means, k, 0), covariances, kind)
    dense, stats, _, share = both(X, truth, n_threads=1)
    assert_same(dense, stats)
    assert share == 1.0
    assert_allclose(stats.mass, len(X) / k, rtol=1e-12)


@each_type
@pytest.mark.parametrize("distance", [4.0, 15.0, 60.0])
def test_keys_are_only_a_guess(kind, distance):
    X, truth = mixture(5_000, 6, 8, distance, kind)
    expected = both(X, truth)
    rng = np.random.RandomState(0)
    for guess in (rng.randint(8 * RINGS, size=len(X)), np.zeros(len(X)), np.full(len(X), 63)):
        dense, stats, keys, _ = both(X, truth, keys=guess)
        assert_same(dense, stats)
        assert_array_equal(keys, expected[2])


@each_type
def test_components_of_very_different_sizes(kind):
    """A wide component reaches far, and a small one is near to nothing."""
    X, truth = mixture(5_000, 4, 6, 30.0, kind)
    if kind != "tied":
        sizes = np.array([1e-6, 1e-3, 1.0, 1.0, 1e2, 1e6])
        truth = truth._replace(covariances=(truth.covariances.T * sizes).T)
    X[:50] = truth.means[0] + 1e-3 * np.random.RandomState(0).standard_normal((50, 4))
    dense, stats, _, _ = both(X, truth)
    assert_same(dense, stats)


@each_type
def test_float32_rows_are_their_values(kind):
    X, truth = mixture(5_000, 6, 8, 15.0, kind)
    X = X.astype(np.float32)
    wide = both(X.astype(np.float64), truth)[1]
    assert_same(wide, both(X, truth)[1])


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_the_block_keeps_to_its_scratch_and_does_not_see_what_was_there(kind, weighted):
    X, truth = mixture(TILE + 9, 3, 3, 9.0, kind)
    n = len(X)
    params = kernel_params_of(truth)
    bounds = way_for(params).bounds(params, truth.weights * n, float(n), n)
    weights = np.linspace(0, 2, n) if weighted else np.empty(0)
    X.flags.writeable = weights.flags.writeable = False

    def block(scratch):
        flat, keys = np.zeros(EMPass(params).size), np.zeros(n, np.uint16)
        pairs = pruned_tiles.pruned_tiles_block(
            X, params, weights, bounds, keys, SortedScratch(*scratch), flat
        )
        return flat, keys, pairs

    # larger than the block
    assert_scratch_is_kept_to(pruned_tiles.scratch_for(params, n + 15), block)


# --- the bound -----------------------------------------------------------------------------------


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize(("d", "k"), [(1, 4), (2, 3), (5, 1), (5, 9), (8, 4), (8, 18)])
def test_distances_and_stretches_are_those_of_numpy(kind, d, k):
    _, truth = mixture(1, d, k, 5.0, kind)
    params = kernel_params_of(truth)
    distances, stretches = separations_of(params)
    covariances = oracle.covariance_matrices(truth)
    roots = np.linalg.inv(np.linalg.cholesky(covariances))  # T with T^T T the inverse
    for i in range(k):
        for j in range(k):
            z = roots[j] @ (truth.means[i] - truth.means[j])
            assert distances[i, j] == pytest.approx(np.linalg.norm(z), rel=1e-12, abs=1e-14)
            norm = np.linalg.norm(roots[j] @ np.linalg.inv(roots[i]), 2)
            assert (
                norm * (1.0 - 1e-12)
                <= stretches[i, j]
                <= norm * (1.07 if kind == "full" else 1.0 + 1e-12)
            )


@pytest.mark.nojit
@pytest.mark.parametrize("d", [1, 3, 8])
def test_no_stretch_comes_out_too_small_where_squares_leave_the_range(d):
    scales = np.array([1e-290, 1e-160, 1.0, 1e160, 1e290])
    k = len(scales)
    covariances = scales[:, None, None] * np.eye(d)
    truth = oracle.Parameters(np.full(k, 1 / k), np.zeros((k, d)), covariances, "full")
    params = kernel_params_of(truth)
    with np.errstate(all="ignore"):
        distances, stretches = separations_of(params)
    exact = np.sqrt(scales)[:, None] / np.sqrt(scales)
    assert not (stretches < exact * (1.0 - 1e-12)).any()
    near = (exact > 1e-70) & (exact < 1e70)  # these it must know
    assert (stretches[near] < exact[near] * 1.07).all()
    assert not (distances > 0.0).any()


# --- when it is chosen ---------------------------------------------------------------------------


@each_type
def test_clusters_well_apart_are_pruned_after_a_trial(kind):
    X, truth = mixture(70_000, 6, 32, 80.0, kind)
    seen, stats = stages(X, [truth] * 5)
    assert seen == [DENSE, TRIAL, WHOLE, WHOLE, WHOLE]
    for other in stats[1:]:
        assert_same(stats[0], other)


@each_type
def test_where_clusters_overlap_trials_become_rare(kind):
    X, truth = mixture(70_000, 6, 32, 2.0, kind)
    seen, stats = stages(X, [truth] * 18)
    trials = [number for number, name in enumerate(seen) if name != DENSE]
    assert trials == [1, 4, 9]
    assert {seen[number] for number in trials} == {TRIAL}
    for other in stats[1:]:
        assert_same(stats[0], other)


def test_keys_of_one_way_are_not_read_by_another():
    """Tied components very far apart are triangular: another way, with other keys."""
    X, one = mixture(70_000, 10, 32, 80.0, "tied")
    two = one._replace(means=one.means * 1e4)
    assert type(way_for(kernel_params_of(one))) is not type(way_for(kernel_params_of(two)))
    seen, _ = stages(X, [one, one, one, one, two, two])
    assert seen[:4] == [DENSE, TRIAL, WHOLE, WHOLE]
    assert seen[4] == TRIAL


@each_type
def test_the_same_bits_for_any_threads_and_layout(kind):
    assert_same_bits_for_any_threads_and_layout(*mixture(40_001, 6, 48, 60.0, kind))


@each_type
@pytest.mark.parametrize("distance", [15.0, 40.0, 80.0])
def test_a_run_is_the_dense_run(kind, distance):
    assert_a_run_is_the_dense_run(*mixture(40_001, 6, 48, distance, kind))
