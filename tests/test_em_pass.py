"""One block of rows through the kernels: densities, responsibilities and moments, by the oracle.

Kernels get memory from their caller and never look beyond it: every array here lies between
zones of NaN (what is read) or of a sentinel (what is written).
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

import fastgmm
from fastgmm._kernels import em_pass
from fastgmm._kernels.algebra import multiply_out
from fastgmm._kernels.em_pass import COMPONENT_LOG_DENSITIES, LABEL, LOG_DENSITY, PROBABILITIES
from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.expanded_triangular import ExpandedTriangular
from fastgmm._kernels.kinds import moments_params, most_listed, rows_together, second_size
from fastgmm._kernels.loading import lanes_of
from fastgmm._kernels.scaled import Scaled
from fastgmm._kernels.simd import together
from fastgmm._kernels.tile import tile_rows
from fastgmm._kernels.tiny import MOST
from fastgmm._kernels.triangular import Triangular
from fastgmm._stats import SufficientStats, flat_size
from fastgmm._structures import STRUCTURES, Params, _records
from fastgmm._threads import Tree


class Centred(str):
    """The name of a covariance type, for components whose squares must not be multiplied out."""


TYPES = (*STRUCTURES, *map(Centred, STRUCTURES))
SHAPES = [(1, 1), (1, 4), (2, 2), (3, 1), (3, 9), (5, 4), (8, 3), (17, 2), (33, 2)]  # d, K
SMALL = [(1, 1), (2, 3), (5, 2)]
ROWS = [1, 16, 17, 515]
FEW_ROWS = [1, 7, 33]
SENTINEL = -1234567.0
ZONE = 40


def zoned(array, fill, offset=0):
    """Copy an array into the middle of a larger one; return the copy, the larger one, the place."""
    flat = np.asarray(array)
    around = np.full(flat.size + 2 * ZONE + offset, fill, dtype=flat.dtype)
    place = slice(ZONE + offset, ZONE + offset + flat.size)
    view = around[place].reshape(flat.shape)
    view[...] = array
    return view, (around, place)


def given(array, offset=0):
    """Return an array as kernels take it, read-only, with NaN on both sides."""
    view, _ = zoned(array, np.nan, offset)
    view.flags.writeable = False
    return view


def untouched(zones):
    around, place = zones
    outside = np.ones(around.size, bool)
    outside[place] = False
    return (around[outside] == SENTINEL).all()


def problem(kind, n, d, k, seed=0, dtype=np.float64):
    """Rows, and a mixture some of whose components overlap."""
    rng = np.random.RandomState(seed)
    means = 2.0 * rng.standard_normal((k, d))
    roots = rng.standard_normal((k, d, d)) / np.sqrt(d) + np.eye(d)
    matrices = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(d)
    weights = rng.dirichlet(np.full(k, 3.0))
    truth = oracle.Parameters(weights, means, oracle.compact(matrices, kind), kind)
    X = (means[rng.randint(k, size=n)] + 1.5 * rng.standard_normal((n, d))).astype(dtype)
    return X, truth


def kernel_params_of(truth, dtype=np.float64):
    """What kernels read for rows of a type."""
    structure = STRUCTURES[truth.covariance_type]
    factors = structure.precisions_cholesky(truth.covariances)
    with np.errstate(divide="ignore"):
        log_weights = np.log(truth.weights)
    params = Params(truth.weights, truth.means, truth.covariances, factors)
    return structure.kernel_params(params, log_weights, dtype)


def kernel_params(truth, dtype=np.float64):
    """The same, every array between zones of NaN, and multiplied out or not as the type says."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(truth.covariance_type, Centred):
            patch.setattr(_records, "MAX_SQUARE_DISTANCE", -1.0)
        made = kernel_params_of(truth, dtype)
    if truth.covariance_type == "full":
        many = len(truth.means.T) > MOST or dtype == np.float32
        assert isinstance(made, Triangular) == (many or isinstance(truth.covariance_type, Centred))
    else:
        assert isinstance(made, Scaled) == isinstance(truth.covariance_type, Centred)
    return type(made)(*(given(field) for field in made))


def run_em(X, params, weights=None, gaps=(), *, garbage=np.nan, offset=0, before=0.0, each=None):
    """Run ``em_block`` between zones; return its statistics."""
    k, d = params.means.shape
    scratch, around_scratch = zoned(
        np.full(em_pass.scratch_size(params), garbage), SENTINEL, offset
    )
    flat, around_flat = zoned(
        np.full(flat_size(k, d, second_size(params)), before), SENTINEL, offset
    )
    counts = given(np.empty(0) if weights is None else weights, offset)
    levels = 0 if each is None else max(0, -(-len(X) // each) - 1).bit_length()
    partial, around_partial = zoned(np.full((levels, flat.size), garbage), SENTINEL, offset)
    with np.errstate(all="ignore"):  # compiled kernels overflow in silence, uncompiled ones do not
        em_pass.em_block(
            given(X, offset),
            params,
            counts,
            given(np.array(gaps)),
            each or len(X),
            scratch,
            partial,
            flat,
        )
    assert untouched(around_scratch)
    assert untouched(around_flat)
    assert untouched(around_partial)
    return SufficientStats.from_flat(flat, params.means)


def flat_of(stats):
    return np.concatenate([np.ravel(field) for field in stats[:-1]])


def run_map(X, params, what, *, garbage=np.nan, offset=0):
    """Run ``map_block`` between zones; return what it writes."""
    k = len(params.means)
    scratch, around_scratch = zoned(
        np.full(em_pass.scratch_size(params), garbage), SENTINEL, offset
    )
    columns = 1 if what == LOG_DENSITY else k
    wanted = what != LABEL
    out, around_out = zoned(np.full((len(X) if wanted else 0, columns), np.nan), SENTINEL)
    labels, around_labels = zoned(np.full(0 if wanted else len(X), -1), int(SENTINEL))
    with np.errstate(all="ignore"):
        em_pass.map_block(given(X, offset), params, what, scratch, out, labels)
    assert untouched(around_scratch)
    assert untouched(around_out)
    assert untouched(around_labels)
    return out if wanted else labels


def true_moments(X, r, reference, columns):
    """Moments about a reference: mass, first, second in the layout of the statistics, and bounds.

    The bounds are the same sums of absolute values: what rounding errors are measured by.
    """
    d = X.shape[1]
    deviations = X[:, None, :] - reference  # (n, K, d)
    products = np.einsum("nk,nki,nkj->kij", r, deviations, deviations)
    sizes = np.einsum("nk,nki,nkj->kij", r, np.abs(deviations), np.abs(deviations))

    def laid_out(matrices):
        if columns == 0:
            return matrices[:, 0, :0]
        if columns == 1:
            return np.trace(matrices, axis1=1, axis2=2)[:, None]
        if columns == d:
            return np.diagonal(matrices, axis1=1, axis2=2)
        return matrices[(slice(None), *np.tril_indices(d))]

    first = np.einsum("nk,nki->ki", r, deviations)
    first_size = np.einsum("nk,nki->ki", r, np.abs(deviations))
    return r.sum(axis=0), (first, first_size), (laid_out(products), laid_out(sizes))


def assert_sums(got, expected, size, rtol=1e-11):
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= rtol * size + 1e-300).all()


def check_em(X, truth, weights=None, dtype=np.float64, rtol=1e-11):
    stats = run_em(X, kernel_params(truth, dtype), weights)
    assert_statistics(stats, X, truth, weights, rtol)


def assert_statistics(stats, X, truth, weights=None, rtol=1e-11):
    """Compare with the oracle's sums."""
    X = X.astype(np.float64)
    w = np.ones(len(X)) if weights is None else weights
    r = oracle.responsibilities(X, truth) * w[:, None]
    columns = stats.second.shape[1]
    mass, (first, first_size), (second, second_size_) = true_moments(X, r, stats.reference, columns)
    logs = oracle.score_samples(X, truth)
    assert_sums(np.array(stats.log_likelihood), w @ logs, w @ np.abs(logs), rtol)
    assert stats.weight == pytest.approx(w.sum(), rel=1e-14)
    assert_sums(stats.mass, mass, w.sum(), rtol)
    assert_sums(stats.first, first, first_size.max(), rtol)
    assert_sums(stats.second, second, second_size_.max() if columns else second, rtol)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_em_block_gives_the_sums_of_the_oracle(kind, d, k):
    for n in ROWS:
        X, truth = problem(kind, n, d, k, seed=n)
        check_em(X, truth)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), SMALL)
def test_em_block_of_a_few_rows(kind, d, k):
    for n in FEW_ROWS:
        X, truth = problem(kind, n, d, k, seed=n)
        check_em(X, truth)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_em_block_adds_several_blocks_as_the_tree_does(kind, weighted):
    X, truth = problem(kind, 331, 3, 4)
    params = kernel_params(truth)
    weights = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else None
    for each in (331, 200, 166, 111, 83, 67, 48, 37):  # 1 to 7 blocks, and 9
        tree = Tree()
        for number, start in enumerate(range(0, len(X), each)):
            part = slice(start, start + each)
            stats = run_em(X[part], params, weights[part] if weighted else None)
            tree.add(number, flat_of(stats))
        assert_array_equal(flat_of(run_em(X, params, weights, each=each)), tree.total())


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_em_block_weighs_rows(kind):
    X, truth = problem(kind, 45, 3, 4)
    rng = np.random.RandomState(1)
    weights = rng.uniform(0, 3, 45) * (rng.uniform(size=45) > 0.2)
    check_em(X, truth, weights)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_em_block_counts_a_weight_of_two_as_two_rows(kind):
    X, truth = problem(kind, 30, 3, 2)
    params = kernel_params(truth)
    weights = np.random.RandomState(2).randint(0, 3, 30)
    weighted = run_em(X, params, weights.astype(float))
    repeated = run_em(np.repeat(X, weights, axis=0), params)
    for got, expected in zip(weighted[:5], repeated[:5], strict=True):
        assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_em_block_adds_to_what_is_there(kind):
    X, truth = problem(kind, 20, 2, 2)
    params = kernel_params(truth)
    alone, added = run_em(X, params), run_em(X, params, before=64.0)
    for got, expected in zip(added[:5], alone[:5], strict=True):
        assert_allclose(got, np.asarray(expected) + 64.0, rtol=1e-12)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_em_block_does_not_see_what_was_in_the_scratch(kind, weighted):
    for n, d, k in [(19, 5, 3), (33, 1, 1)]:
        X, truth = problem(kind, n, d, k)
        params = kernel_params(truth)
        weights = np.linspace(0, 2, n) if weighted else None
        expected = run_em(X, params, weights, garbage=0.0)
        for garbage, offset in [(np.nan, 1), (np.inf, 3), (1e300, 0)]:
            got = run_em(X, params, weights, garbage=garbage, offset=offset)
            for one, other in zip(got, expected, strict=True):
                assert_array_equal(one, other)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(515, 3, 4), (100, 17, 2), (3, 9, 2)])
def test_float32_rows_give_what_their_values_give_as_float64(kind, n, d, k):
    X, truth = problem(kind, n, d, k, dtype=np.float32)
    params = kernel_params(truth)
    narrow, wide = run_em(X, params), run_em(X.astype(np.float64), params)
    for got, expected in zip(narrow[:5], wide[:5], strict=True):
        assert_allclose(got, expected, rtol=1e-13, atol=1e-12)
    for what in (LOG_DENSITY, LABEL, PROBABILITIES, COMPONENT_LOG_DENSITIES):
        got, expected = run_map(X, params, what), run_map(X.astype(np.float64), params, what)
        assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


def check_map(X, truth):
    params = kernel_params(truth)
    logs = oracle.weighted_log_densities(X, truth)
    assert_allclose(run_map(X, params, COMPONENT_LOG_DENSITIES), logs, rtol=1e-11, atol=1e-11)
    density = run_map(X, params, LOG_DENSITY)
    assert_allclose(density[:, 0], special.logsumexp(logs, axis=1), rtol=1e-11, atol=1e-11)
    probabilities = run_map(X, params, PROBABILITIES)
    assert_allclose(probabilities, special.softmax(logs, axis=1), rtol=1e-10, atol=1e-13)
    assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-15 * (1 + len(truth.weights)))
    labels = run_map(X, params, LABEL)
    assert_array_equal(labels, np.argmax(logs, axis=1))
    assert_array_equal(labels, np.argmax(probabilities, axis=1))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), SHAPES)
def test_map_block_gives_what_the_oracle_gives(kind, d, k):
    for n in ROWS:
        check_map(*problem(kind, n, d, k, seed=n))


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("d", "k"), SMALL)
def test_map_block_of_a_few_rows(kind, d, k):
    for n in FEW_ROWS:
        check_map(*problem(kind, n, d, k, seed=n))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("what", [LOG_DENSITY, LABEL, PROBABILITIES, COMPONENT_LOG_DENSITIES])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_map_block_gives_a_row_the_same_bits_in_any_company(kind, what, dtype):
    for d, k in [(1, 2), (2, 3), (5, 2), (8, 3), (9, 2), (17, 3), (40, 2)]:
        X, truth = problem(kind, 450, d, k, dtype=dtype)
        X[3] = 1e18  # nobody's row
        params = kernel_params(truth, dtype)
        expected = run_map(X, params, what)
        for start, n in [(0, 1), (3, 1), (7, 2), (1, 8), (3, 16), (0, 17), (5, 33), (2, 100)]:
            here = slice(start, start + n)
            assert_array_equal(run_map(X[here], params, what), expected[here])


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("what", [LOG_DENSITY, LABEL, PROBABILITIES, COMPONENT_LOG_DENSITIES])
def test_map_block_does_not_see_what_was_in_the_scratch(kind, what):
    X, truth = problem(kind, 19, 3, 3)
    params = kernel_params(truth)
    expected = run_map(X, params, what, garbage=0.0)
    for garbage, offset in [(np.nan, 1), (np.inf, 3), (1e300, 0)]:
        got = run_map(X, params, what, garbage=garbage, offset=offset)
        assert_array_equal(got, expected)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_of_equal_components_the_first_is_the_label(kind):
    X, truth = problem(kind, 9, 2, 1)
    covariances = truth.covariances
    if kind != "tied":
        covariances = np.concatenate([covariances] * 3)
    three = oracle.Parameters(np.full(3, 1 / 3), np.repeat(truth.means, 3, 0), covariances, kind)
    assert_array_equal(run_map(X, kernel_params(three), LABEL), 0)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_component_without_weight_takes_part_in_nothing(kind, dead):
    X, truth = problem(kind, 21, 3, 3)
    weights = truth.weights.copy()
    weights[dead] = 0.0
    without = truth._replace(weights=weights)
    check_map(X, without)
    check_em(X, without)
    stats = run_em(X, kernel_params(without))
    assert stats.mass[dead] == 0.0
    assert (stats.first[dead] == 0.0).all()
    assert (stats.second[dead] == 0.0).all()


def far_rows(d, distance):
    """Rows out on and between the axes, in both directions."""
    directions = np.vstack([np.eye(d), np.full((1, d), 0.5), np.linspace(0.25, 1, d)[None]])
    return distance * np.vstack([directions, -directions])


def nearest_far_out(rows, truth):
    """The nearest component by directions alone, and by how much nearer it is than the next."""
    directions = rows / np.abs(rows).max()
    squares = oracle.mahalanobis(directions, truth._replace(means=0.0 * truth.means)) ** 2
    squares = np.where(truth.weights > 0, squares, np.inf)
    two = np.sort(squares, axis=1)[:, :2]
    return np.argmin(squares, axis=1), two[:, 1] / two[:, 0]


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("distance", [1e155, 1e200, 1e308])
@pytest.mark.parametrize("dead", [None, 1])
def test_far_out_all_probability_lies_with_the_nearest_component(kind, distance, dead):
    d, k = 3, 4
    _, truth = problem(kind, 1, d, k, seed=5)
    if dead is not None:
        weights = truth.weights.copy()
        weights[dead] = 0.0
        truth = truth._replace(weights=weights)
    rows, params = far_rows(d, distance), kernel_params(truth)
    probabilities, labels = run_map(rows, params, PROBABILITIES), run_map(rows, params, LABEL)
    assert_array_equal(np.sort(probabilities, axis=1)[:, :-1], 0.0)
    assert_array_equal(probabilities.max(axis=1), 1.0)
    assert_array_equal(probabilities[np.arange(len(rows)), labels], 1.0)
    assert dead is None or (labels != dead).all()
    assert_array_equal(run_map(rows, params, LOG_DENSITY), -np.inf)
    assert_array_equal(run_map(rows, params, COMPONENT_LOG_DENSITIES), -np.inf)
    expected, lead = nearest_far_out(rows, truth)
    clear = lead > 1.0 + 1e-9  # with one shape for all, the means are lost in rounding
    assert clear.all() or kind == "tied"
    assert_array_equal(labels[clear], expected[clear])


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
def test_far_out_em_block_says_so_and_keeps_the_rest(kind):
    X, truth = problem(kind, 20, 3, 3)
    params = kernel_params(truth)
    far = X.copy()
    far[7] = 1e160
    stats = run_em(far, params)
    assert stats.log_likelihood == -np.inf
    assert stats.mass.sum() == pytest.approx(20)
    assert np.isfinite(stats.first).all()
    assert not np.isnan(stats.second).any()
    rest = run_em(np.delete(X, 7, axis=0), params)
    winner = int(np.argmax(stats.mass - rest.mass))
    others = np.arange(3) != winner
    assert_allclose(stats.mass[others], rest.mass[others], rtol=1e-12)
    assert_allclose(stats.first[others], rest.first[others], rtol=1e-9, atol=1e-12)
    assert_allclose(stats.second[others], rest.second[others], rtol=1e-9)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("distance", [1e100, 1e160, 1e308])
def test_a_row_of_weight_0_counts_for_nothing_however_far_out(kind, distance):
    X, truth = problem(kind, 20, 3, 3)
    params = kernel_params(truth)
    far, weights = X.copy(), np.full(20, 1.5)
    far[7], weights[7] = distance, 0.0
    with_row, without = (
        run_em(far, params, weights),
        run_em(np.delete(X, 7, axis=0), params, np.delete(weights, 7)),
    )
    for got, expected in zip(with_row[:5], without[:5], strict=True):
        assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.nojit
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (35, 1, 2), (35, 4, 3), (70, 9, 2)])
def test_moments_block_gives_the_sums_of_numpy(n, d, k):
    rng = np.random.RandomState(n)
    X = 3.0 + rng.standard_normal((n, d))
    reference, r = given(X[:1].repeat(k, axis=0) + 0.1), given(rng.uniform(size=(n, k)))
    for columns in {d * (d + 1) // 2, d, 1, 0}:
        params = moments_params(reference, columns)
        scratch, around_scratch = zoned(np.full(em_pass.scratch_size(params), np.nan), SENTINEL)
        flat, around_flat = zoned(np.zeros(flat_size(k, d, columns)), SENTINEL)
        em_pass.moments_block(given(X), params, r, scratch, flat)
        assert untouched(around_scratch)
        assert untouched(around_flat)
        stats = SufficientStats.from_flat(flat, reference)
        mass, (first, first_size), (second, sizes) = true_moments(X, r, reference, columns)
        assert stats.log_likelihood == 0.0
        assert stats.weight == pytest.approx(r.sum(), rel=1e-13)
        assert_sums(stats.mass, mass, mass)
        assert_sums(stats.first, first, first_size)
        assert_sums(stats.second, second, sizes)


@pytest.mark.nojit
def test_tied_components_far_apart_are_seen_by_the_triangular_kind():
    _, truth = problem("tied", 1, 3, 2)
    assert not isinstance(kernel_params(truth), Triangular)
    apart = truth._replace(means=truth.means + 1e6 * np.arange(2)[:, None])
    assert isinstance(kernel_params(apart), Triangular)
    X = np.vstack([apart.means + shift for shift in (-1.0, 0.3, 0.5)])
    check_em(X, apart)


@pytest.mark.nojit
@pytest.mark.parametrize("kind", list(STRUCTURES))
def test_squares_are_multiplied_out_where_that_costs_few_digits(kind):
    """Of 500 sd from the origin a square has 250,000; up to 1000 thirteen digits are left."""
    _, truth = problem(kind, 1, 3, 2)
    near, far, sd = Expanded, Scaled, 1.0
    if kind == "full":
        near, far = ExpandedTriangular, Triangular
        truth = truth._replace(covariances=np.stack([np.eye(3)] * 2))
    elif kind == "tied":
        truth = truth._replace(covariances=np.eye(3))
    else:
        sd = np.sqrt(truth.covariances.min())
    for distance, expected in ((10.0, near), (500.0, far)):
        means = truth.means[:1] + 2.0 * distance * sd * np.eye(2, 3)[::-1]
        apart = truth._replace(means=means, weights=np.array([0.5, 0.5]))
        structure = STRUCTURES[kind]
        params = Params(*apart[:3], structure.precisions_cholesky(apart.covariances))
        assert type(structure.kernel_params(params, np.log(apart.weights))) is expected


@pytest.mark.nojit
def test_correlated_features_cost_digits_too():
    """Of a correlation of 1 - 1e-4, terms are 1e4 times as large as their sum."""
    _, truth = problem("full", 1, 2, 1)
    for correlation, expected in ((0.99, ExpandedTriangular), (1.0 - 1e-4, Triangular)):
        covariances = np.array([[[1.0, correlation], [correlation, 1.0]]])
        made = kernel_params_of(truth._replace(covariances=covariances))
        assert type(made) is expected


def test_multiplied_out_polynomials_are_log_densities():
    X, truth = problem("full", 50, 5, 3)
    structure = STRUCTURES["full"]
    factors = structure.precisions_cholesky(truth.covariances)
    origin, out = np.empty(5), np.empty((3, 1 + 5 + 15))
    constants = np.array([0.3, -2.0, 0.0])
    terms = multiply_out(
        *(given(factors.transpose(0, 2, 1)), None, given(truth.weights), given(truth.means)),
        *(given(truth.covariances), given(constants), origin, out),
    )
    assert_allclose(origin, truth.weights @ truth.means, rtol=1e-14)
    z = X - origin
    rows, columns = np.tril_indices(5)
    features = np.hstack([np.ones((50, 1)), z, z[:, rows] * z[:, columns]])
    offsets = X[:, None] - truth.means
    precisions = np.linalg.inv(truth.covariances)
    squares = np.einsum("nki,kij,nkj->nk", offsets, precisions, offsets)
    assert_allclose(np.log(2.0) * features @ out.T, constants - 0.5 * squares, rtol=1e-11)
    reach = np.abs(truth.means - origin) + np.sqrt(np.einsum("kii->ki", truth.covariances))
    sums = np.einsum("ki,kij,kj->k", reach, np.abs(precisions), reach)
    assert terms == pytest.approx(sums.max(), rel=1e-11)


@numba.njit
def tile_sizes(params):
    d, width = params.means.shape[1], params.centres.itemsize
    return rows_together(params), tile_rows(d, width), most_listed(params)


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [1, 2, 4, 8, 9, 33, 128, 129])
@pytest.mark.parametrize("kind", TYPES)
def test_a_tile_of_any_number_of_rows_is_one_of_whole_registers(kind, d, dtype):
    _, truth = problem(kind, 1, d, 2)
    params = kernel_params(truth, dtype)
    width = params.centres.itemsize
    least, most, listed = tile_sizes(params)
    assert most % least == 0
    rows = np.arange(least, most + 1, least)
    assert (rows % lanes_of(width) == 0).all()
    # exponentials: some registers at a time, then one more if any is left
    left = rows % together(np.empty(0, params.centres.dtype))
    assert np.isin(left, [0, lanes_of(width)]).all()
    if listed > 0.0:
        assert (left == 0).all()


GUARDED = """
    import ctypes, mmap
    import numpy as np
    from fastgmm._kernels import em_pass
    from fastgmm._kernels.kinds import second_size
    from fastgmm._stats import flat_size
    from test_em_pass import TYPES, kernel_params, problem

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    kept = []

    def fenced(array, at_end, writeable=True):
        array = np.ascontiguousarray(array)
        pages = max(1, -(-array.nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
        memory = mmap.mmap(-1, pages + 2 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for fence in (start, start + mmap.PAGESIZE + pages):
            assert libc.mprotect(fence, mmap.PAGESIZE, 0) == 0
        kept.append(memory)
        offset = mmap.PAGESIZE + (pages - array.nbytes if at_end else 0)
        copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
        copy[...] = array
        copy.flags.writeable = writeable
        return copy

    for at_end in (True, False):
        for kind in TYPES:
            for n, d, k in [(1, 1, 1), (37, 2, 3), (300, 5, 2), (130, 9, 2), (70, 33, 1)]:
                for dtype, tiles in [(float, float), (np.float32, float), (np.float32,) * 2]:
                    X, truth = problem(kind, n, d, k, dtype=dtype)
                    params = kernel_params(truth, tiles)
                    params = type(params)(*(fenced(f, at_end, False) for f in params))
                    rows = fenced(X, at_end, False)
                    scratch = fenced(np.zeros(em_pass.scratch_size(params)), at_end)
                    flat = fenced(np.zeros(flat_size(k, d, second_size(params))), at_end)
                    partial = fenced(np.zeros((2, flat.size)), at_end)  # of 4 blocks
                    for weights in (np.empty(0), np.ones(n)):
                        weights = fenced(weights, at_end, False)
                        for gap in ([], [-53.0] * k):
                            gaps = fenced(np.array(gap), at_end, False)
                            for each in (n, -(-n // 4)):
                                em_pass.em_block(
                                    rows, params, weights, gaps, each, scratch, partial, flat
                                )
                    for what in range(4):
                        label = what == em_pass.LABEL
                        columns = 1 if what == em_pass.LOG_DENSITY else k
                        out = fenced(np.zeros((0 if label else n, columns)), at_end)
                        labels = fenced(np.zeros(n if label else 0, np.int64), at_end)
                        em_pass.map_block(rows, params, what, scratch, out, labels)
    print("inside")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_kernels_do_not_even_read_outside_their_arrays():
    """Each array ends, or begins, at a page that must not be touched."""
    here = Path(__file__).parent
    path = [str(here), str(Path(fastgmm.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {path!r}\n" + textwrap.dedent(GUARDED)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr
