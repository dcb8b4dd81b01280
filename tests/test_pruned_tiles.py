"""The pass that skips components tile by tile against the dense one, and when it is chosen."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_em_pass import SENTINEL, untouched, zoned
from test_pruned import assert_same, source_of

from fastgmm._em import Standing, run_em
from fastgmm._kernels import pruned_tiles
from fastgmm._kernels.em_pass import LABEL
from fastgmm._kernels.pruned_tiles import RINGS, TILE
from fastgmm._kernels.reaches import separations
from fastgmm._passes import EMPass, MapPass
from fastgmm._pruning import EMPasses, PrunedPass, TileByTile, way_for
from fastgmm._rules import MaximumLikelihood, log_weights
from fastgmm._sources import ArraySource
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES, Params, Scatter
from fastgmm._threads import Workers

TYPES = tuple(STRUCTURES)
each_type = pytest.mark.parametrize("kind", TYPES)


def mixture(kind, n, d, k, distance, seed=0):
    """Rows of k clusters whose centres are that far apart on average, and the truth."""
    rng = np.random.RandomState(seed)
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
    return structure.kernel_params(params_of(truth), log_weights(truth.weights), None)


def labels_of(X, truth):
    return source_of(X, None, 1).map_rows(MapPass(kernel_params_of(truth), LABEL, None))


def both(X, truth, weights=None, keys=None, n_threads=2):
    """Statistics of the dense and of the pruned pass, its keys, and the share it finished."""
    params, source = kernel_params_of(truth), source_of(X, weights, n_threads)
    with np.errstate(all="ignore"):  # compiled kernels overflow in silence
        dense = SufficientStats.from_flat(source.reduce(EMPass(params)), params.means)
        way = way_for(params)
        assert isinstance(way, TileByTile)
        bounds = way.bounds(params, dense.mass, dense.weight, len(X))
        found = np.zeros(len(X), np.uint16) if keys is None else keys.astype(np.uint16)
        task = PrunedPass(way, params, bounds, found, label=keys is None, tried=1)
        flat = source.reduce(task)
    stats = SufficientStats.from_flat(flat[:-2], params.means)
    return dense, stats, found, flat[-2] / flat[-1]


def assert_equal(dense, stats):
    if dense.second.size == 0:  # tied covariances want none
        dense, stats = dense._replace(second=dense.first), stats._replace(second=stats.first)
    assert_same(dense, stats, None)


# --- what it computes ----------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize(("d", "k"), [(1, 2), (2, 3), (5, 40), (8, 12), (17, 9), (33, 100)])
@pytest.mark.parametrize("distance", [2.0, 12.0, 40.0, 200.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts_is_skipped(kind, d, k, distance, weighted):
    if kind == "full" and d > 8:
        pytest.skip("row by row")
    X, truth = mixture(kind, 9_001, d, k, distance)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, len(X)) * (rng.uniform(size=len(X)) > 0.2) if weighted else None
    dense, stats, keys, share = both(X, truth, weights)
    assert_equal(dense, stats)
    assert_array_equal(keys // RINGS, labels_of(X, truth))
    assert 1.0 / k <= share * (1.0 + 1e-12)
    assert share <= 1.0
    # and once more, with rows sorted by how far out they are
    dense, stats, again, later = both(X, truth, weights, keys=keys)
    assert_equal(dense, stats)
    assert_array_equal(again, keys)
    assert later <= share * 1.01


@each_type
@pytest.mark.parametrize(("distance", "least", "most"), [(1.0, 1.0, 1.0), (40.0, 1 / 12, 0.1)])
def test_how_much_is_skipped(kind, distance, least, most):
    X, truth = mixture(kind, 9_001, 6, 12, distance)
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
    X, truth = mixture(kind, n, d, k, distance)
    dense, stats, keys, _ = both(X, truth, n_threads=1)
    assert_equal(dense, stats)
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
    X, truth = mixture(kind, 10_000, d, k, distance)
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
    assert_equal(dense, stats)


@pytest.mark.nojit
@each_type
def test_dead_components_take_part_in_nothing(kind):
    X, truth = mixture(kind, 50, 3, 4, 8.0)
    weights = np.array([0.5, 0.0, 0.2, 0.3])
    dense, stats, _, _ = both(X, truth._replace(weights=weights), n_threads=1)
    assert_equal(dense, stats)
    assert stats.mass[1] == 0.0


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("distance", [1e3, 1e100, 1e155, 1e300])
def test_rows_far_out(kind, distance):
    X, truth = mixture(kind, 50, 3, 4, 8.0)
    X[7], X[20, 2] = distance, -0.25 * distance
    with np.errstate(all="ignore"):
        dense, stats, keys, _ = both(X, truth, n_threads=1)
        assert_array_equal(stats.log_likelihood == -np.inf, dense.log_likelihood == -np.inf)
        assert_allclose(stats.mass, dense.mass, rtol=1e-12)
        assert np.isfinite(stats.first).all()
        assert_allclose(stats.first, dense.first, rtol=1e-9, atol=1e-10)
        assert not np.isnan(stats.second).any()
        assert_array_equal(keys // RINGS, labels_of(X, truth))
        # of weight 0 they count for nothing
        weights = np.ones(len(X))
        weights[[7, 20]] = 0.0
        dense, stats, _, _ = both(X, truth, weights, n_threads=1)
        assert_equal(dense, stats)


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("k", [1, 2, 9])
def test_identical_components_share_every_row(kind, k):
    X, one = mixture(kind, 50, 3, 1, 1.0)
    covariances = one.covariances if kind == "tied" else np.repeat(one.covariances, k, axis=0)
    truth = oracle.Parameters(np.full(k, 1 / k), np.repeat(one.means, k, 0), covariances, kind)
    dense, stats, _, share = both(X, truth, n_threads=1)
    assert_equal(dense, stats)
    assert share == 1.0
    assert_allclose(stats.mass, len(X) / k, rtol=1e-12)


@each_type
@pytest.mark.parametrize("distance", [4.0, 15.0, 60.0])
def test_keys_are_only_a_guess(kind, distance):
    X, truth = mixture(kind, 5_000, 6, 8, distance)
    expected = both(X, truth)
    rng = np.random.RandomState(0)
    for guess in (rng.randint(8 * RINGS, size=len(X)), np.zeros(len(X)), np.full(len(X), 63)):
        dense, stats, keys, _ = both(X, truth, keys=guess)
        assert_equal(dense, stats)
        assert_array_equal(keys, expected[2])


@each_type
def test_components_of_very_different_sizes(kind):
    """A wide component reaches far, and a small one is near to nothing."""
    X, truth = mixture(kind, 5_000, 4, 6, 30.0)
    if kind != "tied":
        sizes = np.array([1e-6, 1e-3, 1.0, 1.0, 1e2, 1e6])
        truth = truth._replace(covariances=(truth.covariances.T * sizes).T)
    X[:50] = truth.means[0] + 1e-3 * np.random.RandomState(0).standard_normal((50, 4))
    dense, stats, _, _ = both(X, truth)
    assert_equal(dense, stats)


@each_type
def test_float32_rows_are_their_values(kind):
    X, truth = mixture(kind, 5_000, 6, 8, 15.0)
    X = X.astype(np.float32)
    wide = both(X.astype(np.float64), truth)[1]
    assert_equal(wide, both(X, truth)[1])


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_the_block_keeps_to_its_scratch_and_does_not_see_what_was_there(kind, weighted):
    X, truth = mixture(kind, TILE + 9, 3, 3, 9.0)
    n = len(X)
    params = kernel_params_of(truth)
    bounds = way_for(params).bounds(params, truth.weights * n, float(n), n)
    weights = np.linspace(0, 2, n) if weighted else np.empty(0)
    X.flags.writeable = weights.flags.writeable = False
    results = []
    for garbage in (0.0, np.nan, 1e300):
        zones = []
        for array in pruned_tiles.scratch_for(params, n + 15):  # larger than the block
            integral = array.dtype == np.int32
            filled = np.full(array.shape, 0 if integral else garbage, array.dtype)
            zones.append(zoned(filled, int(SENTINEL) if integral else SENTINEL))
        scratch = pruned_tiles.Scratch(*(view for view, _ in zones))
        flat, keys = np.zeros(EMPass(params).size), np.zeros(n, np.uint16)
        pairs = pruned_tiles.pruned_tiles_block(X, params, weights, bounds, keys, scratch, flat)
        results.append((flat, keys, pairs))
        assert all(untouched(around) for _, around in zones)
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert_array_equal(got, expected)


# --- the bound -----------------------------------------------------------------------------------


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("d", [1, 2, 5, 8])
def test_distances_and_stretches_are_those_of_numpy(kind, d):
    k = 4
    _, truth = mixture(kind, 1, d, k, 5.0)
    params = kernel_params_of(truth)
    distances, stretches = np.empty((2, k, k))
    separations(params.means, params, np.empty((3, d, d)), distances, stretches)
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


# --- when it is chosen ---------------------------------------------------------------------------


def stages(X, truth, n_passes):
    params, source = kernel_params_of(truth), source_of(X)
    passes, seen = EMPasses(len(X)), []

    def reduce(task):
        seen.append(f"{type(task).__name__} {getattr(task, 'tried', '')}".strip())
        return source.reduce(task)

    stats = [passes.run(reduce, params) for _ in range(n_passes)]
    return seen, stats


DENSE, TRIAL, WHOLE = "EMPass", "PrunedPass 16", "PrunedPass 1"


@each_type
def test_clusters_well_apart_are_pruned_after_a_trial(kind):
    X, truth = mixture(kind, 70_000, 6, 32, 80.0)
    seen, stats = stages(X, truth, 5)
    assert seen == [DENSE, TRIAL, WHOLE, WHOLE, WHOLE]
    for other in stats[1:]:
        assert_equal(stats[0], other)


@each_type
def test_where_clusters_overlap_trials_become_rare(kind):
    X, truth = mixture(kind, 70_000, 6, 32, 2.0)
    seen, stats = stages(X, truth, 18)
    trials = [number for number, name in enumerate(seen) if name != DENSE]
    assert trials == [1, 4, 9]
    assert {seen[number] for number in trials} == {TRIAL}
    for other in stats[1:]:
        assert_equal(stats[0], other)


def test_keys_of_one_way_are_not_read_by_another():
    """Tied components very far apart are triangular: another way, with other keys."""
    X, truth = mixture("tied", 70_000, 10, 32, 80.0)
    one, two = (
        kernel_params_of(truth),
        kernel_params_of(truth._replace(means=truth.means * 1e4, covariances=truth.covariances)),
    )
    assert type(way_for(one)) is not type(way_for(two))
    passes, seen, source = EMPasses(len(X)), [], source_of(X)

    def reduce(task):
        seen.append(f"{type(task).__name__} {getattr(task, 'tried', '')}".strip())
        return source.reduce(task)

    for params in (one, one, one, one, two, two):
        passes.run(reduce, params)
    assert seen[:4] == [DENSE, TRIAL, WHOLE, WHOLE]
    assert seen[4] == TRIAL


def scatter_of(X):
    mean = X.mean(axis=0)
    return Scatter(float(len(X)), mean, (X - mean).T @ (X - mean))


def em(X, truth, n_threads, *, prune=True, monkeypatch=None):
    if monkeypatch is not None:
        monkeypatch.setattr("fastgmm._em.EMPasses", lambda n, **_: EMPasses(n, prune=prune))
    structure = STRUCTURES[truth.covariance_type]
    with Workers(n_threads) as workers:
        source = ArraySource(X, workers, None)
        scatter = scatter_of(np.ascontiguousarray(X)) if structure.needs_scatter else None
        rule = MaximumLikelihood(structure, 1e-6, scatter)
        return run_em(
            source,
            structure,
            rule,
            Standing(params_of(truth)),
            tol=0.0,
            max_iter=6,
            scatter=scatter,
        )


@each_type
def test_the_same_bits_for_any_threads_and_layout(kind):
    X, truth = mixture(kind, 40_001, 6, 48, 60.0)
    expected = em(X, truth, 1)
    for n_threads, rows in [(2, X), (3, np.asfortranarray(X)), (2, X[::-1].copy()[::-1])]:
        got = em(rows, truth, n_threads)
        assert got.bounds == expected.bounds
        for one, two in zip(got.params[:4], expected.params[:4], strict=True):
            assert_array_equal(one, two)


@each_type
@pytest.mark.parametrize("distance", [15.0, 40.0, 80.0])
def test_a_run_is_the_dense_run(kind, distance, monkeypatch):
    X, truth = mixture(kind, 40_001, 6, 48, distance)
    start = truth._replace(means=truth.means + 0.3)
    on = em(X, start, 2)
    off = em(X, start, 2, prune=False, monkeypatch=monkeypatch)
    assert_allclose(on.bounds, off.bounds, rtol=1e-13)
    for one, two in zip(on.params[:4], off.params[:4], strict=True):
        assert_allclose(one, two, rtol=1e-12, atol=1e-12 * np.abs(two).max())
