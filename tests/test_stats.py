"""Sufficient statistics: merging and rebasing are identities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm._stats import SufficientStats, flat_size, unpack

pytestmark = pytest.mark.nojit

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 5))
layouts = st.sampled_from(["products", "squares", "trace", "none"])


def statistics_of(X, r, reference, layout):
    """Statistics by their definition, in the given layout of second moments."""
    z = X[:, None, :] - reference
    d = X.shape[1]
    products = np.einsum("nk,nki,nkj->kij", r, z, z)
    squares = np.diagonal(products, axis1=1, axis2=2)
    second = {
        "products": products[(slice(None), *np.tril_indices(d))],
        "squares": squares,
        "trace": squares.sum(axis=1)[:, None],
        "none": squares[:, :0],
    }[layout]
    first = np.einsum("nk,nki->ki", r, z)
    return SufficientStats(-float(len(X)), r.sum(), r.sum(axis=0), first, second, reference)


def problem(seed, shape, n=12):
    k, d = shape
    rng = np.random.RandomState(seed)
    return rng.normal(3.0, 2.0, (n, d)), rng.uniform(size=(n, k)), rng.normal(3.0, 2.0, (k, d))


def assert_same(one, other, rtol=1e-11):
    for a, b in zip(one, other, strict=True):
        assert_allclose(a, b, rtol=rtol, atol=rtol * 100)


@given(seeds, shapes, layouts)
@quick
def test_merging_commutes(seed, shape, layout):
    X, r, reference = problem(seed, shape)
    a = statistics_of(X[:5], r[:5], reference, layout)
    b = statistics_of(X[5:], r[5:], reference, layout)
    for one, other in zip(a + b, b + a, strict=True):
        assert_array_equal(one, other)


@given(seeds, shapes, layouts)
@quick
def test_merging_is_associative_and_gives_the_whole(seed, shape, layout):
    X, r, reference = problem(seed, shape)
    parts = [
        statistics_of(X[part], r[part], reference, layout)
        for part in (slice(0, 3), slice(3, 4), slice(4, None))
    ]
    left = (parts[0] + parts[1]) + parts[2]
    right = parts[0] + (parts[1] + parts[2])
    assert_same(left, right)
    assert_same(left, statistics_of(X, r, reference, layout))


@given(seeds, shapes, layouts)
@quick
def test_rebasing_gives_the_statistics_about_the_new_reference(seed, shape, layout):
    X, r, reference = problem(seed, shape)
    other = reference + np.random.RandomState(seed ^ 1).normal(size=reference.shape)
    expected = statistics_of(X, r, other, layout)
    rebased = statistics_of(X, r, reference, layout).rebase(other)
    assert_same(rebased, expected)


@given(seeds, shapes, layouts)
@quick
def test_rebasing_there_and_back_changes_nothing(seed, shape, layout):
    X, r, reference = problem(seed, shape)
    stats = statistics_of(X, r, reference, layout)
    assert_same(stats.rebase(reference + 1.5).rebase(reference), stats)


@given(seeds, shapes, layouts)
@quick
def test_parts_about_their_own_references_merge_to_the_whole(seed, shape, layout):
    X, r, reference = problem(seed, shape)
    a = statistics_of(X[:7], r[:7], reference - 0.5, layout)
    b = statistics_of(X[7:], r[7:], reference + 2.0, layout)
    merged = a.rebase(reference) + b.rebase(reference)
    assert_same(merged, statistics_of(X, r, reference, layout))


def test_rebasing_to_the_same_reference_is_exact_and_copies():
    X, r, reference = problem(0, (2, 3))
    stats = statistics_of(X, r, reference, "products")
    rebased = stats.rebase(reference)
    for one, other in zip(rebased, stats, strict=True):
        assert_array_equal(one, other)
    reference += 1.0
    assert not np.array_equal(rebased.reference, reference)


def test_statistics_about_different_references_do_not_merge():
    X, r, reference = problem(0, (2, 3))
    a = statistics_of(X, r, reference, "squares")
    with pytest.raises(ValueError, match="rebase"):
        a + statistics_of(X, r, reference + 1.0, "squares")


def test_only_statistics_can_be_added():
    X, r, reference = problem(0, (1, 1))
    with pytest.raises(TypeError):
        statistics_of(X, r, reference, "squares") + 1.0


@pytest.mark.parametrize("columns", [0, 1, 3, 6])
def test_flat_statistics_are_viewed_in_place(columns):
    k, d = 2, 3
    flat = np.arange(float(flat_size(k, d, columns)))
    reference = np.ones((k, d))
    stats = SufficientStats.from_flat(flat, reference)
    assert (stats.log_likelihood, stats.weight) == (0.0, 1.0)
    assert_array_equal(stats.mass, [2.0, 3.0])
    assert_array_equal(stats.first, np.arange(4.0, 10.0).reshape(2, 3))
    assert_array_equal(stats.second, np.arange(10.0, 10.0 + 2 * columns).reshape(2, columns))
    assert stats.reference is reference
    for part in (stats.mass, stats.first, stats.second)[: 3 if columns else 2]:
        assert np.shares_memory(part, flat)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_unpack_restores_symmetric_matrices(d):
    matrices = np.random.RandomState(d).normal(size=(3, 2, d, d))
    matrices = matrices + matrices.swapaxes(-1, -2)
    packed = matrices[(..., *np.tril_indices(d))]
    assert_array_equal(unpack(packed, d), matrices)
