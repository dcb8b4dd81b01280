"""Passes over float32 tiles that skip pairs: what they find, when they are made, where they end."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pruned_passes import em, mixture, params_of, source_of
from test_em_pass import SENTINEL, untouched, zoned
from test_float32_tiles import assert_parameters_agree, fit, sample

from fastgmm import _em, _pruning
from fastgmm._kernels.pruned_tiles import RINGS
from fastgmm._kernels.reaches import separations_of
from fastgmm._kernels.triangular import Triangular, TriangularFloat32
from fastgmm._passes import EMPass
from fastgmm._pruning import EMPasses, PrunedPass, RowByRow, TrialPass, way_for
from fastgmm._rules import log_weights
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES

FULL = STRUCTURES["full"]
SHAPES = [(1, 2), (2, 3), (5, 40), (8, 12), (9, 2), (16, 5), (17, 20), (33, 12)]  # d, K


@pytest.fixture(autouse=True)
def never_dense(monkeypatch):
    """Finish whatever pairs there are."""
    monkeypatch.setattr(RowByRow, "most_pairs", lambda *_: 1.0)


def tiles_of(truth):
    params = FULL.kernel_params(params_of(truth), log_weights(truth.weights), np.float32)
    assert type(params) is TriangularFloat32
    return params


def pruned(X, truth, weights=None, mass=None, keys=None):
    """Statistics of the pruned pass, its keys, and the share it finished."""
    params, source = tiles_of(truth), source_of(X, weights, 2)
    way = way_for(params)
    total = len(X) if weights is None else weights.sum()
    mass = truth.weights * total if mass is None else mass
    bounds = way.bounds(params, mass, float(total), len(X))
    found = np.zeros(len(X), np.uint16) if keys is None else keys
    task = PrunedPass(way, params, bounds, found, EMPass(params), label=keys is None)
    with np.errstate(all="ignore"):  # compiled kernels overflow in silence
        flat = source.reduce(task)
    stats = SufficientStats.from_flat(flat[:-2], params.means)
    return stats, found, flat[-2] / flat[-1]


def assert_oracles(stats, X, truth, weights=None, rtol=1e-6):
    """Each component's mass and moments, in units of its own size."""
    X = X.astype(np.float64)
    w = np.ones(len(X)) if weights is None else weights
    r = oracle.responsibilities(X, truth) * w[:, None]
    mass = r.sum(axis=0)
    logs = oracle.score_samples(X, truth)
    assert abs(stats.log_likelihood - w @ logs) <= rtol * (w @ np.abs(logs))
    assert stats.weight == pytest.approx(w.sum(), rel=1e-13)
    assert_allclose(stats.mass, mass, rtol=10.0 * rtol)
    z = X[:, None] - stats.reference
    sd = np.sqrt(np.diagonal(truth.covariances, axis1=1, axis2=2))
    first = np.einsum("nk,nkd->kd", r, z)
    assert (np.abs(stats.first - first) <= 10.0 * rtol * mass[:, None] * sd).all()
    rows, columns = np.tril_indices(X.shape[1])
    second = np.einsum("nk,nki,nkj->kij", r, z, z)[:, rows, columns]
    sizes = mass[:, None] * sd[:, rows] * sd[:, columns]
    assert (np.abs(stats.second - second) <= 10.0 * rtol * sizes).all()
    return r


@pytest.mark.parametrize(("d", "k"), SHAPES)
@pytest.mark.parametrize("distance", [2.0, 12.0, 40.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts_is_skipped(d, k, distance, weighted):
    X, truth = mixture(3_001, d, k, distance)
    X = X.astype(np.float32)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, len(X)) * (rng.uniform(size=len(X)) > 0.2) if weighted else None
    stats, keys, share = pruned(X, truth, weights)
    r = assert_oracles(stats, X, truth, weights)
    clear = np.sort(r, axis=1)[:, -1] > 0.51 * r.sum(axis=1)
    found = keys // way_for(tiles_of(truth)).keys
    assert_array_equal(found[clear], r.argmax(axis=1)[clear])
    assert 1.0 / k <= share * (1.0 + 1e-12)
    assert share <= 1.0
    assert share < 2.0 / k or d < 5 or distance < 40.0
    # and once more, with rows sorted by how far out they are
    stats, _, later = pruned(X, truth, weights, keys=keys)
    assert_oracles(stats, X, truth, weights)
    assert later <= share * 1.01


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 9, 2), (7, 10, 3), (60, 11, 9), (7, 3, 3), (70, 5, 4)]
)
@pytest.mark.parametrize("distance", [3.0, 30.0])
def test_moments_of_a_few_rows(n, d, k, distance):
    X, truth = mixture(n, d, k, distance)
    stats, _, _ = pruned(X.astype(np.float32), truth)
    assert stats.weight == n
    z = X[:, None].astype(np.float32) - stats.reference
    r = oracle.responsibilities(X.astype(np.float32), truth)
    assert_allclose(stats.mass, r.sum(axis=0), rtol=1e-5, atol=1e-12)
    assert_allclose(stats.first, np.einsum("nk,nkd->kd", r, z), rtol=1e-5, atol=1e-5)


@pytest.mark.nojit
@pytest.mark.parametrize("d", [3, 10])
def test_dead_components_and_rows_far_out(d):
    X, truth = mixture(50, d, 4, 8.0)
    X = X.astype(np.float32)
    X[7], X[20, 2] = 1e25, -1e25
    truth = truth._replace(weights=np.array([0.5, 0.0, 0.2, 0.3]))
    weights = np.ones(len(X))
    weights[[7, 20]] = 0.0
    stats, keys, _ = pruned(X, truth, weights)
    assert stats.is_finite()
    assert stats.mass[1] == 0.0
    assert_allclose(stats.mass.sum(), 48.0, rtol=1e-6)
    assert not (keys // way_for(tiles_of(truth)).keys == 1).any()


@pytest.mark.nojit
@pytest.mark.parametrize("d", [3, 10])
def test_the_block_does_not_see_what_was_in_its_scratch(d):
    X, truth = mixture(73, d, 3, 9.0)
    X, params = X.astype(np.float32), tiles_of(truth)
    X.flags.writeable = False
    weights = np.empty(0)
    weights.flags.writeable = False
    way, results = way_for(params), []
    bounds = way.bounds(params, truth.weights * 73, 73.0, 73)
    for garbage in (0.0, np.nan, 1e30):
        zones = []
        for array in way.scratch(params, 80):  # larger than the block
            integral = array.dtype == np.int32
            filled = np.full(array.shape, 0 if integral else garbage, array.dtype)
            zones.append(zoned(filled, int(SENTINEL) if integral else SENTINEL))
        scratch = type(way.scratch(params, 80))(*(view for view, _ in zones))
        flat, keys = np.zeros(EMPass(params).size), np.zeros(73, np.uint16)
        block = _pruning.Block(X, weights, 0, 0)
        pairs = way.add_block(block, params, bounds, keys, scratch, flat)
        results.append((flat, keys, pairs))
        assert all(untouched(around) for _, around in zones)
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert_array_equal(got, expected)


@pytest.mark.parametrize("d", [6, 12])
@pytest.mark.parametrize("distance", [6.0, 12.0, 25.0])
def test_tiny_components_keep_their_parameters(d, distance):
    k = 10
    X, truth = mixture(4_000, d, k, distance)
    rng = np.random.RandomState(3)
    targets = np.array([1e-3, 0.03, 0.4, 0.999, 1.001, 1.7, 3.0])
    near = truth.means[: len(targets)] + rng.standard_normal((len(targets), d))
    mixing = np.concatenate([truth.weights, np.full(len(targets), 1e-4)])
    means = np.vstack([truth.means, near])
    covariances = np.concatenate([truth.covariances, 0.5 * truth.covariances[: len(targets)]])
    X = X.astype(np.float32)
    for _ in range(20):
        tiny = oracle.Parameters(mixing / mixing.sum(), means, covariances, "full")
        mass = oracle.responsibilities(X.astype(np.float64), tiny).sum(axis=0)
        mixing[k:] *= targets / mass[k:]
    stats, _, _ = pruned(X, tiny, mass=mass)
    assert_allclose(stats.mass, mass, rtol=1e-5)
    assert_oracles(stats, X, tiny, rtol=1e-5)


@pytest.mark.parametrize("d", [3, 8, 10])
def test_means_between_float32_numbers_do_not_break_the_bounds(d):
    X, truth = mixture(3_000, d, 12, 25.0)
    moved = truth._replace(means=truth.means + 2.0**23 + 0.3)
    X = (X + 2.0**23).astype(np.float32)
    params = tiles_of(moved)
    assert np.abs(params.means - moved.means).max() > 0.4
    stats, _, share = pruned(X, moved)
    assert_oracles(stats, X, moved)
    assert share < 0.5
    if d <= 8:  # by no more than the distance that a row can tell
        distances, _ = separations_of(params)
        roots = np.linalg.inv(np.linalg.cholesky(moved.covariances))
        z = np.einsum("kij,akj->aki", roots, moved.means[:, None] - moved.means)
        assert (distances <= np.linalg.norm(z, axis=2) * (1.0 + 1e-6)).all()


# --- when it is chosen ---------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch):
    """Each pass of the fits: the type of its tiles, and its own."""
    seen, original = [], EMPasses.run

    def run(self, reduce, *args):
        def spy(task):
            seen.append((type(task.params), type(task)))
            return reduce(task)

        return original(self, spy, *args)

    monkeypatch.setattr(EMPasses, "run", run)
    return seen


@pytest.mark.parametrize(("d", "k"), [(6, 32), (16, 24)])
def test_clusters_well_apart_are_pruned_in_float32(d, k, seen, monkeypatch):
    X, truth = mixture(70_001, d, k, 60.0)
    X = X.astype(np.float32)
    start = truth._replace(means=truth.means + 0.3)
    monkeypatch.setattr(_em, "_FLOAT32_CHANGE", 0.0)
    got = em(X, start)
    kinds = [EMPass, TrialPass, *[PrunedPass] * 4]
    assert seen == [(TriangularFloat32, kind) for kind in kinds]
    # the same bits, whatever the threads and the layout
    for n_threads, rows in [(1, X), (3, np.asfortranarray(X))]:
        other = em(rows, start, n_threads)
        assert other.bounds == got.bounds
        for one, two in zip(other.params[:4], got.params[:4], strict=True):
            assert_array_equal(one, two)
    wide = em(X.astype(np.float64), start)
    assert_allclose(got.bounds, wide.bounds, rtol=1e-7)
    assert_allclose(got.params.weights, wide.params.weights, rtol=1e-5)
    assert_allclose(got.params.means, wide.params.means, rtol=0, atol=1e-6)
    assert_allclose(got.params.covariances, wide.params.covariances, rtol=0, atol=1e-6)


@pytest.mark.parametrize("d", [6, 16])
def test_the_end_is_exact(d, seen):
    """Of small changes float32 knows nothing: the last passes are float64, and pruned like others.

    Else EM would stop where float32 tiles happen to give the same bound twice, or never.
    """
    X, truth = mixture(40_001, d, 48, 60.0)
    X = X.astype(np.float32)
    start = truth._replace(means=truth.means + 0.3)
    got = em(X, start, tol=1e-12, max_iter=30)
    narrow = [tiles is TriangularFloat32 for tiles, _ in seen]
    assert narrow == sorted(narrow, reverse=True)
    assert {tiles for tiles, _ in seen} == {Triangular, TriangularFloat32}
    assert seen[-1][1] is PrunedPass
    wide = em(X.astype(np.float64), start, tol=1e-12, max_iter=30)
    assert got.converged
    assert wide.converged
    assert_allclose(got.params.means, wide.params.means, rtol=0, atol=1e-9)
    assert got.bound == pytest.approx(wide.bound, rel=1e-14)


@pytest.mark.parametrize("tol", [1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("condition", [1.0, 1e3])
def test_a_fit_ends_where_one_in_float64_does(tol, condition):
    X, means, covariances = sample(8, 3, 2000, condition)
    narrow, wide = (
        fit(rows, means, covariances, max_iter=150, tol=tol) for rows in (X, X.astype(np.float64))
    )
    # where it changes over, a bound of float32 tiles may cost one pass more
    assert wide.n_iter_ <= narrow.n_iter_ <= wide.n_iter_ + 1 < 150
    assert_parameters_agree(narrow, wide)


def test_keys_of_both_types_mean_the_same():
    """So that float64 passes go on where float32 ones end."""
    for few in (True, False):
        kinds = [_pruning._WAYS[kind, few] for kind in (Triangular, TriangularFloat32)]
        assert type(kinds[0]) is type(kinds[1])
        assert {way.keys for way in kinds} == {RINGS if few else 1}
