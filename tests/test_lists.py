"""Lists of the pairs that count: the sums are the dense pass's, and NumPy's."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from test_em_pass import (
    COMPONENT_LOG_DENSITIES,
    TYPES,
    assert_sums,
    kernel_params,
    problem,
    run_em,
    run_map,
    second_size,
    true_moments,
)

from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.expanded_triangular import ExpandedTriangular
from fastgmm._kernels.lists import exponentiate_listed, list_pairs
from fastgmm._kernels.options import JIT_DISABLED

GAP = -60.0  # of a log2-density
K, B = 5, 48

compiled = (lambda function: function) if JIT_DISABLED else njit


@compiled
def _list_pairs(h, best, gaps, active, rows, counts):
    return list_pairs(h, best, gaps, active, rows, counts)


@compiled
def _exponentiate_listed(h, best, rows, counts, weights, scale, total, x):
    exponentiate_listed(h, best, rows, counts, weights, scale, total, x)


def some_densities(seed=0):
    """Log2-densities (K, B) of which about half count, the best ones, and the gaps."""
    rng = np.random.RandomState(seed)
    h = rng.uniform(-120.0, 0.0, size=(K, B))
    h[rng.randint(K, size=B), np.arange(B)] = 3.0
    h[2, 5:9] = -np.inf
    gaps = np.array([GAP, GAP, -np.inf, GAP, -200.0])
    return h, h.max(axis=0), gaps


def listed(h, best, gaps, active):
    rows, counts = np.full(h.size, -1, np.int32), np.zeros(len(h), np.int32)
    total = _list_pairs(h.ravel(), best, gaps, active, rows, counts)
    return total, rows, counts


@pytest.mark.nojit
def test_lists_name_the_rows_within_the_gap():
    h, best, gaps = some_densities()
    active = np.array([4, 1, 0, 3, 2])
    total, rows, counts = listed(h, best, gaps, active)
    for p, k in enumerate(active):
        expected = np.flatnonzero(h[p] - best >= gaps[k])
        assert_array_equal(rows[p * B : p * B + counts[p]], expected)
    assert total == counts.sum()
    assert counts[4] == B  # whatever it is, even minus infinity


@pytest.mark.nojit
def test_a_tile_with_a_row_that_has_no_best_component_is_not_listed():
    h, best, gaps = some_densities()
    best[17] = -np.inf
    assert listed(h, best, gaps, np.arange(K))[0] == h.size


@pytest.mark.nojit
@pytest.mark.parametrize("level", [0.0, -1024.5, -1027.2, -1028.0, 3000.0])
def test_listed_pairs_are_exponentiated(level):
    """Whatever the level of the densities: what fills up registers must not overflow."""
    h, _, gaps = some_densities(1)
    h += level
    best = h.max(axis=0)
    _, rows, counts = listed(h, best, gaps, np.arange(K))
    rng = np.random.RandomState(2)
    flat, weights = h.ravel().copy(), rng.uniform(size=B)
    scale, total = np.full((2, B), np.nan)
    _exponentiate_listed(flat, best, rows, counts, weights, scale, total, np.empty(8))
    sums = np.zeros(B)
    for k in range(K):
        mine = rows[k * B : k * B + counts[k]]
        expected = np.exp2(h[k, mine] - best[mine])
        assert_allclose(flat[k * B : k * B + counts[k]], expected, rtol=1e-15, atol=1e-300)
        sums[mine] += expected
    assert_allclose(total, sums, rtol=1e-15)
    assert_allclose(scale, weights / sums, rtol=1e-15)


def apart(kind, n, d, k, dtype=np.float64):
    """Rows of components so far apart that few pairs count."""
    X, truth = problem(kind, n, d, k, dtype=dtype)
    moved = 10.0 / np.sqrt(d) * np.random.RandomState(5).standard_normal((k, d))
    owner = np.argmin(((X[:, None] - truth.means) ** 2).sum(axis=2), axis=1)
    return (X + moved[owner]).astype(dtype), truth._replace(means=truth.means + moved)


def both(X, truth, gaps, weights=None):
    """The statistics without and with lists."""
    params = kernel_params(truth, np.float64)
    return run_em(X, params, weights), run_em(X, params, weights, gaps), params


def assert_same(dense, lists):
    assert_allclose(lists.log_likelihood, dense.log_likelihood, rtol=1e-13)
    assert lists.weight == dense.weight
    assert_allclose(lists.mass, dense.mass, rtol=1e-12)
    for got, expected in ((lists.first, dense.first), (lists.second, dense.second)):
        size = np.abs(expected).max(axis=1, keepdims=True, initial=1e-3)
        # sums of deviations are differences: they have the digits of what they are sums of
        assert_allclose(got / size, expected / size, rtol=0, atol=1e-11)


def expands(params):
    return isinstance(params, Expanded | ExpandedTriangular)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), [(1, 12), (2, 10), (3, 9), (8, 9), (17, 12), (40, 12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_lists_give_the_sums_of_the_pairs_that_count(kind, d, k, weighted):
    """Of a gap of 2 bits few pairs are within, and what the others add is seen to be missing."""
    gap = -2.0
    X, truth = apart(kind, 700, d, k)
    w = np.random.RandomState(3).uniform(0.5, 2.0, size=700) if weighted else np.ones(700)
    dense, lists, params = both(X, truth, [gap] * k, w if weighted else None)
    if not expands(params):
        for got, expected in zip(lists, dense, strict=True):
            assert_array_equal(got, expected)
        return
    h = run_map(X, params, COMPONENT_LOG_DENSITIES) / np.log(2.0)
    best = h.max(axis=1, keepdims=True)
    density = np.where(h - best >= gap, np.exp2(h - best), 0.0)
    total = density.sum(axis=1, keepdims=True)
    columns = second_size(params)
    mass, (first, first_size), (second, sizes) = true_moments(
        X, w[:, None] * density / total, lists.reference, columns
    )
    logs = np.log(2.0) * best[:, 0] + np.log(total[:, 0])
    assert lists.log_likelihood == pytest.approx(w @ logs, rel=1e-12)
    assert_sums(lists.mass, mass, w.sum())
    assert_sums(lists.first, first, first_size.max())
    assert_sums(lists.second, second, sizes.max() if columns else second)
    assert not np.array_equal(lists.first, dense.first)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), [(17, 14), (40, 12)])
def test_lists_change_nothing_that_counts(kind, d, k):
    X, truth = apart(kind, 700, d, k)
    dense, lists, params = both(X, truth, [GAP] * k)
    assert_same(dense, lists)
    # sums in another order have other last bits
    assert np.array_equal(dense.first, lists.first) == (not expands(params))


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_where_components_overlap_the_bits_are_those_of_the_dense_pass(kind):
    X, truth = problem(kind, 400, 3, 12)
    for got, expected in zip(*both(X, truth, [GAP] * 12)[:2], strict=True):
        assert_array_equal(got, expected)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_a_component_that_is_never_skipped_keeps_all_its_digits(kind):
    """Of so small a mass nothing would be left by the others' gap."""
    X, truth = apart(kind, 600, 17, 20)
    X = X[((X[:, None] - truth.means) ** 2).sum(axis=2).argmin(axis=1) != 3]
    weights = truth.weights.copy()
    weights[3] = 1e-30
    truth = truth._replace(weights=weights / weights.sum())
    gaps = [GAP] * 20
    gaps[3] = -np.inf
    dense, lists, params = both(X, truth, gaps)
    assert dense.mass[3] < 1e-16
    assert_same(dense, lists)
    assert np.array_equal(dense.first, lists.first) == (not expands(params))


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_a_row_of_density_0_is_told_and_does_not_spoil_the_rest(kind):
    X, truth = apart(kind, 500, 3, 12)
    X[480] = 1e200  # in the last tile: the others are listed
    dense, lists, _ = both(X, truth, [GAP] * 12)
    assert dense.log_likelihood == lists.log_likelihood == -np.inf
    assert_allclose(lists.mass, dense.mass, rtol=1e-12)
