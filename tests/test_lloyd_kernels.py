"""The k-means kernels on one block of rows, against NumPy in a few lines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm._kernels import chosen, lloyd, seeding
from fastgmm._kernels.kinds import moments_params
from fastgmm._kernels.labelled import labelled_products_block, scratch_for
from fastgmm._kernels.lloyd import Centres
from fastgmm._kernels.scaled import ABREAST
from fastgmm._kernels.tile import tile_rows
from fastgmm._stats import SufficientStats, flat_size

pytestmark = pytest.mark.nojit

SENTINEL = -1234567
ZONE = 40
# n, d, K; the last has more rows than are listed at a time
SHAPES = [(1, 1, 1), (2, 3, 2), (33, 2, 5), (70, 5, 3), (300, 1, 4), (20, 17, 2), (3500, 2, 2)]


class Zoned:
    """Arrays that lie between zones of a sentinel; ``check`` sees that the zones are whole."""

    def __init__(self):
        self.zones = []

    def __call__(self, array):
        flat = np.asarray(array)
        around = np.full(flat.size + 2 * ZONE, SENTINEL, dtype=flat.dtype)
        view = around[ZONE : ZONE + flat.size].reshape(flat.shape)
        view[...] = array
        self.zones += [around[:ZONE], around[ZONE + flat.size :]]
        return view

    def check(self):
        for zone in self.zones:
            assert_array_equal(zone, SENTINEL)


def given(array):
    """Return an array as kernels take it, read-only, with what must not be read on both sides."""
    nothing = np.nan if array.dtype.kind == "f" else SENTINEL
    around = np.full(array.size + 2 * ZONE, nothing, dtype=array.dtype)
    view = around[ZONE : ZONE + array.size].reshape(array.shape)
    view[...] = array
    view.flags.writeable = False
    return view


def problem(n, d, k, dtype=np.float64):
    rng = np.random.RandomState(n + d)
    X = (5.0 + rng.standard_normal((n, d))).astype(dtype)
    return given(X), Centres(given(X[rng.randint(n, size=k)] + 0.1 * rng.standard_normal((k, d))))


def weightings(n):
    weights = np.random.RandomState(n).uniform(size=n)
    weights[::3] = 0.0
    return [np.empty(0), weights]


def square_distances(X, centres):
    return ((X[:, None, :].astype(np.float64) - centres) ** 2).sum(axis=2)


def zoned_scratch(zoned, d):
    """Scratch between zones, full of what must not be read before it is written."""
    scratch = chosen.scratch_for(d)
    for array in scratch[:2]:
        array[...] = np.nan
    return chosen.Scratch(*map(zoned, scratch))


def nearest_seeds(X, seeds):
    squares = square_distances(X, seeds)
    return squares.min(axis=1), squares.argmin(axis=1).astype(np.int32)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_seed_block_takes_a_seed_in_and_tries_candidates(n, d, k, apart, dtype):
    X, tried = problem(n, d, k, dtype)
    rng = np.random.RandomState(1)
    if apart:  # two groups: the candidates are in one of them, and the seeds in both
        X = X.astype(float)
        X[n // 2 :] += 50.0
        X = given(X.astype(dtype))
    seeds = X[np.array([0, n - 1, n // 2])].astype(float)
    seeds = seeds + rng.uniform(0.1, 0.2, seeds.shape)
    before, numbers = nearest_seeds(X, seeds)
    half = 0.5 * np.sqrt(square_distances(seeds, tried.means).min(axis=1))
    reach = given(half**2 * (1 - 1e-9))
    after = np.minimum(before, square_distances(X, tried.means[:1])[:, 0])
    nearest = np.minimum(after[:, None], square_distances(X, tried.means))
    stretch = max(32, n - 100)
    starts = np.arange(0, n, stretch)
    for weights in weightings(n):
        zoned = Zoned()
        closest, labels = zoned(before), zoned(numbers)
        potentials = zoned(np.full((len(starts), k), np.nan))
        candidates = seeding.Candidates(tried.means, reach)
        scratch = zoned_scratch(zoned, d)
        seeding.seed_block(
            X, candidates, given(weights), 3, closest, labels, scratch, stretch, potentials
        )
        zoned.check()
        w = weights if weights.size else np.ones(n)
        expected = np.add.reduceat(w[:, None] * nearest, starts)
        assert_allclose(potentials, expected, rtol=1e-13)
        assert_allclose(closest, after, rtol=1e-13)
        assert_array_equal(labels, np.where(closest < before, 3, numbers))


def moving(centres, reference=None, travelled=0.0):
    """Centres as ``assign_block`` takes them."""
    means = np.asarray(centres)
    reference = means if reference is None else reference
    return lloyd.MovingCentres(
        given(means), given(reference), given(np.full(len(means), travelled))
    )


def assign(X, centres, labels, limits, weights=(), *, fresh=False):
    """Call the kernel; give its changed labels, and its sums."""
    k, d = centres.means.shape
    zoned = Zoned()
    scratch = zoned_scratch(zoned, d)
    flat = zoned(np.zeros(1 + k * (4 + d)))
    passed = given(np.asarray(weights, float))
    lloyd.assign_block(X, centres, passed, fresh, labels, limits, scratch, flat)
    zoned.check()
    entered, left = flat[1 : 1 + 4 * k].reshape(2, k, 2)
    return flat[0], entered, left, flat[1 + 4 * k :].reshape(k, d)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_assign_block_finds_the_nearest_centre_and_sums_up(n, d, k, dtype):
    X, centres = problem(n, d, k, dtype)
    expected = np.argmin(square_distances(X, centres.means), axis=1)
    one_hot = (expected[:, None] == np.arange(k)).astype(float)
    reference = centres.means + 1.0
    for weights in weightings(n):
        zoned = Zoned()
        labels, limits = zoned(np.full(n, -1, np.int32)), zoned(np.full(n, np.nan))
        changed, entered, left, first = assign(
            X, moving(centres.means, reference), labels, limits, weights, fresh=True
        )
        zoned.check()
        r = one_hot if not weights.size else one_hot * weights[:, None]
        assert_array_equal(labels, expected)
        assert changed == n
        z = X[:, None, :].astype(float) - reference
        assert_allclose(entered[:, 0], r.sum(axis=0), rtol=1e-13)
        assert_allclose(entered[:, 1], np.einsum("nk,nkj->k", r, abs(z)), rtol=1e-11)
        assert_array_equal(left, 0.0)
        assert_allclose(first, np.einsum("nk,nkj->kj", r, z), rtol=1e-11, atol=1e-13 * n)


@pytest.mark.parametrize("fresh", [False, True])
def test_assign_block_sums_up_only_what_changes(fresh):
    X, centres = problem(70, 5, 3)
    w = given(np.linspace(0.0, 2.0, 70))
    expected = np.argmin(square_distances(X, centres.means), axis=1).astype(np.int32)
    labels = expected.copy()
    strayed = np.array([3, 40, 69])
    labels[strayed] = (labels[strayed] + 1) % 3
    old = labels.copy()
    z = X[:, None, :] - centres.means
    for changed in (3, 0):
        limits = np.full(70, -np.inf)
        found, entered, left, first = assign(
            X, moving(centres.means), labels, limits, w, fresh=fresh
        )
        assert found == changed
        assert_array_equal(labels, expected)
        came = (expected[:, None] == np.arange(3)) * w[:, None]
        went = (old[:, None] == np.arange(3)) * w[:, None]
        if not fresh:
            moved = np.isin(np.arange(70), strayed) if changed else np.zeros(70, bool)
            came, went = came * moved[:, None], went * moved[:, None]
        went = 0 * went if fresh else went
        size = abs(z).sum(axis=2)
        assert_allclose(entered, np.stack([came.sum(0), (came * size).sum(0)], 1), rtol=1e-12)
        assert_allclose(left, np.stack([went.sum(0), (went * size).sum(0)], 1), rtol=1e-12)
        expected_first = np.einsum("nk,nkj->kj", came - went, z)
        assert_allclose(first, expected_first, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-120, 1e-3, 1.0, 1e100])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_rows_that_are_not_read_keep_the_nearest_centre(n, d, k, scale):
    """Centres wander, and labels stay those of a search among all centres."""
    X, centres = problem(n, d, k)
    X = given(scale * X)
    means, travelled = scale * centres.means, np.zeros(k)
    labels, limits = np.full(n, -1, np.int32), np.full(n, np.nan)
    rng = np.random.RandomState(n)
    skipped = 0
    for step in range(12):
        at = lloyd.MovingCentres(given(means), given(means), given(travelled))
        skipped += 0 if step == 0 else (limits > travelled[labels]).sum()
        assign(X, at, labels, limits, fresh=step == 0)
        assert_array_equal(labels, np.argmin(square_distances(X, means), axis=1))
        move = scale * 0.05 * rng.standard_normal((k, d)) * rng.randint(2, size=(k, 1))
        means = means + move
        length = np.sqrt(((move / scale) ** 2).sum(axis=1)) * scale
        others = [np.delete(length, i).max(initial=0.0) for i in range(k)]
        travelled = travelled + length + others
    assert skipped > 0


@pytest.mark.parametrize("listed", [0.3, 0.59, 0.61, 0.8])
@pytest.mark.parametrize(("n", "d"), [(33, 3), (3073, 2), (7001, 5)])
def test_seed_block_of_rows_of_which_some_are_passed_by(n, d, listed):
    """Where most are listed all are read, those that are passed by among them."""
    rng = np.random.RandomState(n)
    X, tried = problem(n, d, 4)
    squares = square_distances(X, tried.means)
    near = np.minimum(0.4, 0.9 * squares.min(axis=1))
    before = np.where(rng.uniform(size=n) < listed, 1e3, near)
    after = np.minimum(before, squares[:, 0])
    nearest = np.minimum(after[:, None], squares)
    candidates = seeding.Candidates(tried.means, given(np.array([0.5])))
    starts = np.arange(0, n, 2500)
    for weights in weightings(n):
        closest, labels = before.copy(), np.zeros(n, np.int32)
        potentials = np.full((len(starts), 4), np.nan)
        scratch = chosen.scratch_for(d)
        seeding.seed_block(
            X, candidates, given(weights), 7, closest, labels, scratch, 2500, potentials
        )
        w = weights if weights.size else np.ones(n)
        assert_allclose(closest, after, rtol=1e-13)
        assert_array_equal(labels, np.where(squares[:, 0] < before, 7, 0))
        assert_allclose(potentials, np.add.reduceat(w[:, None] * nearest, starts), rtol=1e-12)


@pytest.mark.parametrize("d", [2, 5])
def test_a_gap_does_not_make_up_for_a_row_that_is_repeated(d):
    """Rows that are read fill one tile but for some that are repeated: as many are left out."""
    b = tile_rows(d)
    n = 16 * b  # so few of which that not all are read
    X, centres = problem(n, d, 3)
    read = np.zeros(n, dtype=bool)
    read[:b] = True
    read[5 : 5 + ABREAST // 2] = False
    squares = square_distances(X, centres.means)

    limits, labels = np.where(read, -1.0, 1.0), np.full(n, 2, np.int32)
    assign(X, moving(centres.means), labels, limits)
    assert_array_equal(labels, np.where(read, squares.argmin(axis=1), 2))

    closest, nearest = np.where(read, np.inf, 0.5), np.zeros(n, np.int32)
    candidates = seeding.Candidates(centres.means, given(np.ones(1)))
    potentials = np.zeros((1, 3))
    scratch = chosen.scratch_for(d)
    seeding.seed_block(
        X, candidates, given(np.empty(0)), 7, closest, nearest, scratch, n, potentials
    )
    assert_array_equal(nearest, np.where(read, 7, 0))
    assert_allclose(closest, np.where(read, squares[:, 0], 0.5), rtol=1e-13)
    of_read = np.minimum(squares[:, :1], squares)[read].sum(axis=0)
    assert_allclose(potentials[0], of_read + 0.5 * (n - read.sum()), rtol=1e-13)


def test_assign_block_gives_a_tie_to_the_first():
    X = given(np.zeros((5, 2)))
    centres = moving(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]))
    labels, limits = np.full(5, -1, np.int32), np.full(5, np.nan)
    assign(X, centres, labels, limits, fresh=True)
    assert_array_equal(labels, 1)
    assert (limits <= 0.0).all()  # they are always looked at


def test_rows_whose_squares_overflow_are_always_looked_at():
    X = given(np.array([[1e200, 0.0], [0.0, 0.0], [0.0, 1e155]]))
    labels, limits = np.full(3, -1, np.int32), np.full(3, np.nan)
    assign(X, moving(np.array([[0.0, 0.0], [3.0, 0.0]])), labels, limits, fresh=True)
    assert not limits[0] > 0.0
    assert limits[1] > 0.0
    assert not limits[2] > 0.0


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_square_distances_block_keeps_its_digits_far_from_the_origin(offset):
    rng = np.random.RandomState(0)
    steps, labels = rng.randint(-8, 9, (40, 3)) / 4.0, rng.randint(2, size=40).astype(np.int32)
    at = np.array([[0.25, 0.5, -1.0], [2.0, 0.0, 1.5]])
    zoned = Zoned()
    out = zoned(np.full(40, np.nan))
    lloyd.square_distances_block(given(steps + offset), Centres(given(at + offset)), labels, out)
    zoned.check()
    assert_array_equal(out, ((steps - at[labels]) ** 2).sum(axis=1))


@pytest.mark.parametrize(("n", "d", "k"), [*SHAPES, (500, 6, 2), (40, 9, 60)])
@pytest.mark.parametrize("labelled", [True, False])
def test_labelled_block_gathers_moments_of_all_layouts(n, d, k, labelled):
    k = k if labelled else 1
    X, centres = problem(n, d, k)
    labels = np.random.RandomState(1).randint(k, size=n).astype(np.int32)
    one_hot = (labels[:, None] == np.arange(k)).astype(float)
    z = X[:, None, :] - centres.means
    for weights in weightings(n):
        r = one_hot if not weights.size else one_hot * weights[:, None]
        products = np.einsum("nk,nki,nkj->kij", r, z, z)
        diagonal = np.diagonal(products, axis1=1, axis2=2)
        layouts = {
            0: np.empty((k, 0)),
            1: diagonal.sum(axis=1)[:, None],
            d: diagonal,
            d * (d + 1) // 2: products[(slice(None), *np.tril_indices(d))],
        }
        for columns, second in layouts.items():
            zoned = Zoned()
            flat = zoned(np.zeros(flat_size(k, d, columns)))
            if columns > d:
                params, labels = moments_params(centres.means, columns), given(labels)
                scratch = scratch_for(params, n)
                scratch.numbers[...] = np.nan
                scratch = type(scratch)(*(zoned(array) for array in scratch))
                labelled_products_block(X, params, given(weights), labels, scratch, flat)
            else:
                passed = given(labels if labelled else labels[:0])
                lloyd.labelled_block(X, centres, given(weights), passed, flat)
            zoned.check()
            stats = SufficientStats.from_flat(flat, centres.means)
            assert stats.log_likelihood == 0.0
            assert stats.weight == pytest.approx(r.sum(), rel=1e-13)
            assert_allclose(stats.mass, r.sum(axis=0), rtol=1e-13)
            expected = np.einsum("nk,nkj->kj", r, z)
            assert_allclose(stats.first, expected, rtol=1e-11, atol=1e-13 * n)
            assert_allclose(stats.second, second, rtol=1e-11, atol=1e-13 * n)
