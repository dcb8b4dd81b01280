"""The pass that skips pairs against the dense one and the oracle, and when it is chosen."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_em_pass import SENTINEL, untouched, zoned

from fastgmm import _pruning
from fastgmm._em import Standing, run_em
from fastgmm._kernels import pruned
from fastgmm._kernels.em_pass import LABEL
from fastgmm._passes import EMPass, MapPass
from fastgmm._pruning import EMPasses, PrunedPass, way_for
from fastgmm._rules import MaximumLikelihood, log_weights
from fastgmm._sources import ArraySource
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES, Params
from fastgmm._threads import Workers

FULL = STRUCTURES["full"]


@pytest.fixture
def never_dense(monkeypatch):
    """Prune whatever it costs."""
    monkeypatch.setattr(_pruning.RowByRow, "most_pairs", lambda *_: 1.0)
    monkeypatch.setattr(_pruning, "_LEAST_WORK", 0.0)


def mixture(n, d, k, distance, seed=0):
    """Rows of k clusters whose centres are that far apart on average, and the truth."""
    rng = np.random.RandomState(seed)
    means = rng.standard_normal((k, d)) * distance / np.sqrt(2.0 * d)
    roots = 0.4 * rng.standard_normal((k, d, d)) / np.sqrt(d) + np.eye(d)
    labels = rng.randint(k, size=n)
    X = means[labels] + np.einsum("nij,nj->ni", roots[labels], rng.standard_normal((n, d)))
    weights = rng.dirichlet(np.full(k, 5.0))
    return X, oracle.Parameters(weights, means, roots @ roots.transpose(0, 2, 1), "full")


def params_of(truth):
    factors = FULL.precisions_cholesky(truth.covariances)
    return Params(truth.weights, truth.means, truth.covariances, factors)


def kernel_params_of(truth):
    return FULL.kernel_params(params_of(truth), log_weights(truth.weights), None)


def source_of(X, weights=None, n_threads=2):
    if weights is not None:
        weights.flags.writeable = False
    return ArraySource(X, Workers(n_threads), weights)


def both(X, truth, weights=None, labels=None, n_threads=2):
    """Statistics of the dense and of the pruned pass, its labels, and the share it finished."""
    params, source = kernel_params_of(truth), source_of(X, weights, n_threads)
    with np.errstate(all="ignore"):  # compiled kernels overflow in silence
        dense = SufficientStats.from_flat(source.reduce(EMPass(params)), params.means)
        way = way_for(params)
        bounds = way.bounds(params, dense.mass, dense.weight, len(X))
        found = np.zeros(len(X), np.uint16) if labels is None else labels.astype(np.uint16)
        task = PrunedPass(way, params, bounds, found, label=labels is None, tried=1)
        flat = source.reduce(task)
    stats = SufficientStats.from_flat(flat[:-2], params.means)
    return dense, stats, found, flat[-2] / flat[-1]


def assert_same(dense, stats, X, tol=1e-12):
    """Each component's mass, and its parameters in units of its own size."""
    assert_allclose(stats.log_likelihood, dense.log_likelihood, rtol=1e-13)
    assert_allclose(stats.weight, dense.weight, rtol=1e-14)
    assert_allclose(stats.mass, dense.mass, rtol=tol)
    alive = dense.mass > 0
    for got, expected in ((stats.first, dense.first), (stats.second, dense.second)):
        means = got[alive] / stats.mass[alive, None]
        truth = expected[alive] / dense.mass[alive, None]
        scale = np.maximum(np.abs(truth).max(axis=1, keepdims=True), 1e-3)
        assert_allclose(means / scale, truth / scale, rtol=0, atol=tol)
        assert (got[~alive] == 0).all()


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize(("d", "k"), [(9, 2), (9, 40), (16, 5), (17, 9), (33, 12)])
@pytest.mark.parametrize("distance", [2.0, 9.0, 15.0, 40.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts_is_skipped(d, k, distance, weighted):
    X, truth = mixture(9_001, d, k, distance)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, len(X)) * (rng.uniform(size=len(X)) > 0.2) if weighted else None
    dense, stats, labels, share = both(X, truth, weights)
    assert_same(dense, stats, X)
    assert_array_equal(labels, source_of(X).map_rows(MapPass(kernel_params_of(truth), LABEL, None)))
    assert 1.0 / k <= share <= 1.0
    assert share < 1.2 / k or distance < 40.0


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize(("n", "d", "k"), [(1, 9, 2), (7, 10, 3), (60, 11, 9), (40, 17, 2)])
@pytest.mark.parametrize("distance", [3.0, 30.0])
def test_moments_are_the_oracles(n, d, k, distance):
    X, truth = mixture(n, d, k, distance)
    dense, stats, labels, _ = both(X, truth, n_threads=1)
    assert_same(dense, stats, X)
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
    assert_same(dense, stats, X)


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
def test_dead_components_take_part_in_nothing():
    X, truth = mixture(50, 9, 4, 8.0)
    weights = np.array([0.5, 0.0, 0.2, 0.3])
    dense, stats, _, _ = both(X, truth._replace(weights=weights), n_threads=1)
    assert_same(dense, stats, X)
    assert stats.mass[1] == 0.0


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("distance", [1e3, 1e100, 1e155, 1e300])
def test_rows_far_out(distance):
    X, truth = mixture(50, 9, 4, 8.0)
    X[7], X[20, 3] = distance, -distance
    with np.errstate(all="ignore"):
        dense, stats, labels, _ = both(X, truth, n_threads=1)
        assert_array_equal(stats.log_likelihood == -np.inf, dense.log_likelihood == -np.inf)
        assert_allclose(stats.mass, dense.mass, rtol=1e-12)
        assert np.isfinite(stats.first).all()
        assert_allclose(stats.first, dense.first, rtol=1e-9, atol=1e-10)
        assert not np.isnan(stats.second).any()
        expected = source_of(X, None, 1).map_rows(MapPass(kernel_params_of(truth), LABEL, None))
        assert_array_equal(labels, expected)
        # of weight 0 they count for nothing
        weights = np.ones(len(X))
        weights[[7, 20]] = 0.0
        dense, stats, _, _ = both(X, truth, weights, n_threads=1)
        assert_same(dense, stats, X)


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("k", [1, 2, 9])
def test_identical_components_share_every_row(k):
    X, one = mixture(50, 9, 1, 1.0)
    repeated = (np.repeat(field, k, axis=0) for field in (one.means, one.covariances))
    truth = oracle.Parameters(np.full(k, 1 / k), *repeated, "full")
    dense, stats, _, share = both(X, truth, n_threads=1)
    assert_same(dense, stats, X)
    assert share == 1.0
    assert_allclose(stats.mass, len(X) / k, rtol=1e-12)


@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("distance", [4.0, 15.0])
def test_labels_are_only_a_guess(distance):
    X, truth = mixture(5_000, 16, 8, distance)
    expected = both(X, truth)
    wrong = np.random.RandomState(0).randint(8, size=len(X))
    for guess in (wrong, np.zeros(len(X)), np.full(len(X), 7)):
        dense, stats, labels, share = both(X, truth, labels=guess)
        assert_same(dense, stats, X)
        assert_array_equal(labels, expected[2])
        assert share >= expected[3]


@pytest.mark.usefixtures("never_dense")
def test_a_translation_does_not_loosen_or_break_the_bounds():
    X, truth = mixture(5_000, 16, 8, 20.0)
    share = both(X, truth)[3]
    moved = truth._replace(means=truth.means + 2.0**26)
    dense, stats, _, other = both(X + 2.0**26, moved)
    assert_same(dense, stats, X, tol=1e-10)
    assert other == pytest.approx(share, rel=0.05)


@pytest.mark.usefixtures("never_dense")
def test_float32_rows_are_their_values():
    X, truth = mixture(5_000, 16, 8, 15.0)
    X = X.astype(np.float32)
    wide = both(X.astype(np.float64), truth)[1]
    assert_same(both(X, truth)[0], wide, X, tol=1e-11)
    assert_same(wide, both(X, truth)[1], X)


@pytest.mark.nojit
@pytest.mark.usefixtures("never_dense")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_block_keeps_to_its_scratch_and_does_not_see_what_was_there(weighted):
    X, truth = mixture(45, 10, 3, 9.0)
    params = kernel_params_of(truth)
    bounds = way_for(params).bounds(params, truth.weights * 45, 45.0, 45)
    weights = np.linspace(0, 2, 45) if weighted else np.empty(0)
    X.flags.writeable = weights.flags.writeable = False
    results = []
    for garbage in (0.0, np.nan, 1e300):
        zones = []
        for array in pruned.scratch_for(params, 60):  # larger than the block
            integral = array.dtype == np.int32
            filled = np.full(array.shape, 0 if integral else garbage, array.dtype)
            zones.append(zoned(filled, int(SENTINEL) if integral else SENTINEL))
        scratch = pruned.Scratch(*(view for view, _ in zones))
        flat = np.zeros(EMPass(params).size)
        labels = np.zeros(45, np.uint16)
        pairs = pruned.pruned_block(X, params, weights, bounds, 135, labels, scratch, flat)
        results.append((flat, labels, pairs))
        assert all(untouched(around) for _, around in zones)
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert_array_equal(got, expected)


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


def stages(X, truth, n_passes, n_threads=2):
    """The kind of each pass over the same rows with the same parameters."""
    params, source = kernel_params_of(truth), source_of(X, None, n_threads)
    passes, seen = EMPasses(len(X)), []

    def reduce(task):
        seen.append(f"{type(task).__name__} {getattr(task, 'tried', '')}".strip())
        return source.reduce(task)

    stats = [passes.run(reduce, params) for _ in range(n_passes)]
    return seen, stats


DENSE, TRIAL, WHOLE = "EMPass", "PrunedPass 16", "PrunedPass 1"


def test_clusters_well_apart_are_pruned_after_a_trial():
    X, truth = mixture(70_000, 16, 12, 30.0)
    seen, stats = stages(X, truth, 5)
    assert seen == [DENSE, TRIAL, WHOLE, WHOLE, WHOLE]
    for other in stats[1:]:
        assert_same(stats[0], other, X)


def test_where_clusters_overlap_trials_become_rare_and_bits_stay():
    X, truth = mixture(70_000, 16, 12, 2.0)
    seen, stats = stages(X, truth, 18)
    trials = [number for number, kind in enumerate(seen) if kind != DENSE]
    assert trials == [1, 4, 9]
    assert {seen[number] for number in trials} == {TRIAL}
    for other in stats[1:]:
        for one, two in zip(stats[0][:5], other[:5], strict=True):
            assert_array_equal(one, two)


def test_clusters_that_meet_are_dense_again(monkeypatch):
    X, truth = mixture(70_000, 16, 12, 30.0)
    apart, source = kernel_params_of(truth), source_of(X)
    met = kernel_params_of(truth._replace(covariances=1e4 * truth.covariances))
    passes, seen = EMPasses(len(X)), []

    def reduce(task):
        seen.append(type(task).__name__)
        return source.reduce(task)

    for params in (apart, apart, apart, met, met, apart):
        passes.run(reduce, params)
    assert seen == [DENSE, *["PrunedPass"] * 3, DENSE, DENSE]


@pytest.mark.parametrize(("n", "d", "k"), [(70_000, 8, 4), (70_000, 16, 1), (1_000, 16, 12)])
def test_what_does_not_suit_is_never_tried(n, d, k):
    X, truth = mixture(n, d, k, 30.0)
    assert stages(X, truth, 3)[0] == [DENSE] * 3


def em(X, truth, n_threads, *, weights=None, prune=True, max_iter=6, monkeypatch=None):
    if monkeypatch is not None:
        monkeypatch.setattr("fastgmm._em.EMPasses", lambda n, **_: EMPasses(n, prune=prune))
    with Workers(n_threads) as workers:
        source = ArraySource(X, workers, weights)
        rule = MaximumLikelihood(FULL, 1e-6, None)
        return run_em(source, FULL, rule, Standing(params_of(truth)), tol=0.0, max_iter=max_iter)


@pytest.mark.parametrize("distance", [12.0, 30.0])
def test_the_same_bits_for_any_threads_and_layout(distance):
    X, truth = mixture(40_001, 16, 24, distance)
    expected = em(X, truth, 1)
    for n_threads, rows in [(2, X), (3, np.asfortranarray(X)), (2, X[::-1].copy()[::-1])]:
        got = em(rows, truth, n_threads)
        assert got.bounds == expected.bounds
        for one, two in zip(got.params[:4], expected.params[:4], strict=True):
            assert_array_equal(one, two)


@pytest.mark.parametrize("distance", [12.0, 20.0, 30.0])
def test_a_run_is_the_dense_run(distance, monkeypatch):
    X, truth = mixture(40_001, 16, 24, distance)
    start = truth._replace(means=truth.means + 0.3)
    on = em(X, start, 2)
    off = em(X, start, 2, prune=False, monkeypatch=monkeypatch)
    assert_allclose(on.bounds, off.bounds, rtol=1e-13)
    for one, two in zip(on.params[:4], off.params[:4], strict=True):
        assert_allclose(one, two, rtol=1e-12, atol=1e-12 * np.abs(two).max())
