"""The pass that skips pairs against the dense one and the oracle, and when it is chosen."""

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
    stages,
)

from fastgmm import _pruning
from fastgmm._kernels import pruned
from fastgmm._passes import EMPass
from fastgmm._pruning import _negligible, way_for


@pytest.fixture
def never_dense(monkeypatch):
    """Prune whatever it costs."""
    monkeypatch.setattr(_pruning.RowByRow, "most_pairs", lambda *_: 1.0)
    monkeypatch.setattr(_pruning, "_LEAST_WORK", 0.0)


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize(("d", "k"), [(9, 2), (9, 40), (16, 5), (17, 9), (33, 12)])
@pytest.mark.parametrize("distance", [2.0, 9.0, 15.0, 40.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts_is_skipped(d, k, distance, weighted):
    X, truth = mixture(9_001, d, k, distance)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, len(X)) * (rng.uniform(size=len(X)) > 0.2) if weighted else None
    dense, stats, labels, share = both(X, truth, weights)
    assert_same(dense, stats)
    assert_array_equal(labels, labels_of(X, truth))
    assert 1.0 / k <= share <= 1.0
    assert share < 1.2 / k or distance < 40.0


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize(("n", "d", "k"), [(1, 9, 2), (7, 10, 3), (60, 11, 9), (40, 17, 2)])
@pytest.mark.parametrize("distance", [3.0, 30.0])
def test_moments_are_the_oracles(n, d, k, distance):
    X, truth = mixture(n, d, k, distance)
    dense, stats, labels, _ = both(X, truth, n_threads=1)
    assert_same(dense, stats)
    r = oracle.responsibilities(X, truth)
    assert_allclose(stats.mass, r.sum(axis=0), rtol=1e-9)
    assert_allclose(stats.log_likelihood, oracle.score_samples(X, truth).sum(), rtol=1e-11)
    z = X[:, None] - truth.means
    assert_allclose(stats.first, np.einsum("nk,nkd->kd", r, z), rtol=1e-8, atol=1e-10)
    rows, columns = np.tril_indices(d)
    second = np.einsum("nk,nki,nkj->kij", r, z, z)[:, rows, columns]
    assert_allclose(stats.second, second, rtol=1e-8, atol=1e-9)
    assert_array_equal(labels, np.argmax(r, axis=1))


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("distance", [6.0, 12.0, 25.0])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_tiny_components_keep_every_digit(distance, scale):
    d, k = 12, 10
    X, truth = mixture(20_000, d, k, distance)
    rng = np.random.RandomState(3)
    # far and near, each drawn down to some mass between 1e-3 and 3 rows
    targets = np.array([1e-3, 0.03, 0.4, 0.999, 1.001, 1.7, 3.0])
    near = truth.means[: len(targets)] + rng.standard_normal((len(targets), d))
    means = np.vstack([truth.means, near])
    covariances = np.concatenate([truth.covariances, truth.covariances[: len(targets)] * 0.5])
    mixing = np.concatenate([truth.weights, np.full(len(targets), 1e-4)])
    weights = np.full(len(X), scale) if scale != 1.0 else None
    for _ in range(30):
        tiny = oracle.Parameters(mixing / mixing.sum(), means, covariances, "full")
        mass = both(X, tiny)[0].mass[k:]
        mixing[k:] *= targets / mass
    dense, stats, _, _ = both(X, tiny, weights)
    assert_allclose(dense.mass[k:] / scale, targets, rtol=0.1)
    assert_same(dense, stats)


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
def test_dead_components_take_part_in_nothing():
    X, truth = mixture(50, 9, 4, 8.0)
    weights = np.array([0.5, 0.0, 0.2, 0.3])
    dense, stats, _, _ = both(X, truth._replace(weights=weights), n_threads=1)
    assert_same(dense, stats)
    assert stats.mass[1] == 0.0


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("distance", [1e3, 1e100, 1e155, 1e300])
def test_rows_far_out(distance):
    X, truth = mixture(50, 9, 4, 8.0)
    X[7], X[20, 3] = distance, -distance
    assert_rows_far_out_count_the_same(X, truth, [7, 20])


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("k", [1, 2, 9])
def test_identical_components_share_every_row(k):
    X, one = mixture(50, 9, 1, 1.0)
    repeated = (np.repeat(field, k, axis=0) for field in (one.means, one.covariances))
    truth = oracle.Parameters(np.full(k, 1 / k), *repeated, "full")
    dense, stats, _, share = both(X, truth, n_threads=1)
    assert_same(dense, stats)
    assert share == 1.0
    assert_allclose(stats.mass, len(X) / k, rtol=1e-12)


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("distance", [4.0, 15.0])
def test_labels_are_only_a_guess(distance):
    X, truth = mixture(5_000, 16, 8, distance)
    expected = both(X, truth)
    wrong = np.random.RandomState(0).randint(8, size=len(X))
    for guess in (wrong, np.zeros(len(X)), np.full(len(X), 7)):
        dense, stats, labels, share = both(X, truth, keys=guess)
        assert_same(dense, stats)
        assert_array_equal(labels, expected[2])
        assert share >= expected[3]


@pytest.mark.usefixtures("never_dense")
def test_a_translation_does_not_loosen_or_break_the_bounds():
    X, truth = mixture(5_000, 16, 8, 20.0)
    share = both(X, truth)[3]
    moved = truth._replace(means=truth.means + 2.0**26)
    dense, stats, _, other = both(X + 2.0**26, moved)
    assert_same(dense, stats, tol=1e-10)
    assert other == pytest.approx(share, rel=0.05)


@pytest.mark.usefixtures("never_dense")
def test_float32_rows_are_their_values():
    X, truth = mixture(5_000, 16, 8, 15.0)
    X = X.astype(np.float32)
    wide = both(X.astype(np.float64), truth)[1]
    assert_same(both(X, truth)[0], wide, tol=1e-11)
    assert_same(wide, both(X, truth)[1])


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_block_keeps_to_its_scratch_and_does_not_see_what_was_there(weighted):
    X, truth = mixture(45, 10, 3, 9.0)
    params = kernel_params_of(truth)
    bounds = way_for(params).bounds(params, truth.weights * 45, 45.0, 45)
    weights = np.linspace(0, 2, 45) if weighted else np.empty(0)
    X.flags.writeable = weights.flags.writeable = False

    def block(scratch):
        flat, labels = np.zeros(EMPass(params).size), np.zeros(45, np.uint16)
        pairs = pruned.pruned_block(
            X, params, weights, bounds, 135, labels, pruned.Scratch(*scratch), flat
        )
        return flat, labels, pairs

    # larger than the block
    assert_scratch_is_kept_to(pruned.scratch_for(params, 60), block)


@pytest.mark.nojit
def test_above_the_limit_nothing_is_done():
    X, truth = mixture(45, 10, 3, 1.0)
    params = kernel_params_of(truth)
    bounds = way_for(params).bounds(params, truth.weights * 45, 45.0, 45)
    X.flags.writeable = False
    weights = np.empty(0)
    weights.flags.writeable = False
    flat, labels = np.ones(EMPass(params).size), np.zeros(45, np.uint16)
    scratch = pruned.scratch_for(params, 45)
    assert pruned.pruned_block(X, params, weights, bounds, 134, labels, scratch, flat) == -1
    assert_array_equal(flat, 1.0)
    assert_array_equal(labels, 0)


# --- when it is chosen ---------------------------------------------------------------------------


def test_clusters_well_apart_are_pruned_after_a_trial():
    X, truth = mixture(70_000, 16, 12, 30.0)
    seen, stats = stages(X, [truth] * 5)
    assert seen == [DENSE, TRIAL, WHOLE, WHOLE, WHOLE]
    for other in stats[1:]:
        assert_same(stats[0], other)


def test_where_clusters_overlap_trials_become_rare_and_bits_stay():
    X, truth = mixture(70_000, 16, 12, 2.0)
    seen, stats = stages(X, [truth] * 18)
    trials = [number for number, kind in enumerate(seen) if kind != DENSE]
    assert trials == [1, 4, 9]
    assert {seen[number] for number in trials} == {TRIAL}
    for other in stats[1:]:
        for one, two in zip(stats[0][:5], other[:5], strict=True):
            assert_array_equal(one, two)


def test_clusters_that_meet_are_dense_again():
    X, apart = mixture(70_000, 16, 12, 30.0)
    met = apart._replace(covariances=1e4 * apart.covariances)
    seen, _ = stages(X, [apart, apart, apart, met, met, apart])
    assert seen == [DENSE, TRIAL, WHOLE, WHOLE, DENSE, DENSE]


@pytest.mark.parametrize(("n", "d", "k"), [(70_000, 8, 4), (70_000, 16, 1), (1_000, 16, 12)])
def test_what_does_not_suit_is_never_tried(n, d, k):
    X, truth = mixture(n, d, k, 30.0)
    assert stages(X, [truth] * 3)[0] == [DENSE] * 3


@pytest.mark.parametrize("distance", [12.0, 30.0])
def test_the_same_bits_for_any_threads_and_layout(distance):
    assert_same_bits_for_any_threads_and_layout(*mixture(40_001, 16, 24, distance))


@pytest.mark.parametrize("distance", [12.0, 20.0, 30.0])
def test_a_run_is_the_dense_run(distance):
    assert_a_run_is_the_dense_run(*mixture(40_001, 16, 24, distance))


@pytest.mark.nojit
def test_what_is_negligible_does_not_underflow():
    skipped, floor = _negligible(np.full(4, 1e-312), 4e-312, 100)
    assert skipped.all()
    assert floor == pytest.approx(2.0**-53 / 4, rel=1e-9)
