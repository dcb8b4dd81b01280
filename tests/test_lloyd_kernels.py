"""The k-means kernels on one block of rows, against NumPy in a few lines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm._kernels import lloyd
from fastgmm._kernels.lloyd import Centres
from fastgmm._stats import SufficientStats, flat_size

pytestmark = pytest.mark.nojit

SENTINEL = -1234567
ZONE = 40
SHAPES = [(1, 1, 1), (2, 3, 2), (33, 2, 5), (70, 5, 3), (300, 1, 4), (20, 17, 2)]  # n, d, K


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
    """Return an array as kernels take it, read-only, with NaN on both sides."""
    around = np.full(array.size + 2 * ZONE, np.nan, dtype=array.dtype)
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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_seed_block_sums_the_distances_to_the_nearest_seed(n, d, k, dtype):
    X, candidates = problem(n, d, k, dtype)
    before = np.random.RandomState(0).uniform(0, 3, n)
    nearest = np.minimum(before[:, None], square_distances(X, candidates.means))
    for weights in weightings(n):
        zoned = Zoned()
        closest, potentials = zoned(before), zoned(np.full(k, 2.0))
        scratch = zoned(np.full(lloyd.scratch_size(d), np.nan))
        lloyd.seed_block(X, candidates, given(weights), closest, False, scratch, potentials)
        zoned.check()
        w = weights if weights.size else np.ones(n)
        assert_allclose(potentials, 2.0 + w @ nearest, rtol=1e-13)
        assert_array_equal(closest, before)


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_seed_block_takes_a_candidate_in(n, d, k):
    X, candidates = problem(n, d, 1)
    before = np.random.RandomState(0).uniform(0, 3, n)
    before[::2] = np.inf
    zoned = Zoned()
    closest, potentials = zoned(before), zoned(np.zeros(1))
    scratch = zoned(np.full(lloyd.scratch_size(d), np.nan))
    lloyd.seed_block(X, candidates, given(np.empty(0)), closest, True, scratch, potentials)
    zoned.check()
    expected = np.minimum(before, square_distances(X, candidates.means)[:, 0])
    assert_allclose(closest, expected, rtol=1e-14)
    assert potentials[0] == pytest.approx(expected.sum(), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_assign_block_finds_the_nearest_centre_and_sums_up(n, d, k, dtype):
    X, centres = problem(n, d, k, dtype)
    expected = np.argmin(square_distances(X, centres.means), axis=1)
    one_hot = (expected[:, None] == np.arange(k)).astype(float)
    for weights in weightings(n):
        zoned = Zoned()
        labels = zoned(np.full(n, -1, np.int32))
        scratch = zoned(np.full(lloyd.scratch_size(d), np.nan))
        statistics = zoned(np.zeros(1 + k * (1 + d)))
        lloyd.assign_block(X, centres, given(weights), labels, scratch, statistics)
        zoned.check()
        r = one_hot if not weights.size else one_hot * weights[:, None]
        assert_array_equal(labels, expected)
        assert statistics[0] == n
        assert_allclose(statistics[1 : 1 + k], r.sum(axis=0), rtol=1e-13)
        first = np.einsum("nk,nkj->kj", r, X[:, None, :].astype(float) - centres.means)
        assert_allclose(statistics[1 + k :].reshape(k, d), first, rtol=1e-11, atol=1e-13 * n)


def test_assign_block_counts_the_labels_that_change():
    X, centres = problem(70, 5, 3)
    labels = np.argmin(square_distances(X, centres.means), axis=1).astype(np.int32)
    labels[[3, 40, 69]] = 7
    statistics = np.zeros(1 + 3 * 6)
    scratch = np.empty(lloyd.scratch_size(5))
    for changed in (3, 0):
        statistics[0] = 0
        lloyd.assign_block(X, centres, given(np.empty(0)), labels, scratch, statistics)
        assert statistics[0] == changed


def test_assign_block_gives_a_tie_to_the_first():
    X = given(np.zeros((5, 2)))
    centres = Centres(given(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]])))
    labels = np.full(5, -1, np.int32)
    scratch = np.empty(lloyd.scratch_size(2))
    lloyd.assign_block(X, centres, given(np.empty(0)), labels, scratch, np.zeros(13))
    assert_array_equal(labels, 1)


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


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
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
            passed = labels if labelled else labels[:0]
            lloyd.labelled_block(X, centres, given(weights), passed, flat)
            zoned.check()
            stats = SufficientStats.from_flat(flat, centres.means)
            assert stats.log_likelihood == 0.0
            assert stats.weight == pytest.approx(r.sum(), rel=1e-13)
            assert_allclose(stats.mass, r.sum(axis=0), rtol=1e-13)
            expected = np.einsum("nk,nkj->kj", r, z)
            assert_allclose(stats.first, expected, rtol=1e-11, atol=1e-13 * n)
            assert_allclose(stats.second, second, rtol=1e-11, atol=1e-13 * n)
