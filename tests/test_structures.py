"""Covariance types: every method against NumPy and SciPy."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg
from sklearn.mixture import GaussianMixture

import fastgmm
from fastgmm._kernels.expanded import Expanded
from fastgmm._kernels.scaled import Scaled
from fastgmm._kernels.triangular import Triangular
from fastgmm._stats import SufficientStats
from fastgmm._structures import STRUCTURES, IllDefinedCovariance, Params, Scatter, readonly

pytestmark = pytest.mark.nojit

TYPES = tuple(STRUCTURES)
SHAPES = [(1, 1), (1, 3), (3, 1), (2, 4), (4, 2)]  # K, d

each_type = pytest.mark.parametrize("kind", TYPES)
each_shape = pytest.mark.parametrize(("k", "d"), SHAPES)


def positive_definite(k, d, seed=0):
    rng = np.random.RandomState(seed)
    roots = rng.standard_normal((k, d, d))
    return roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(d)


def covariances_of(kind, k, d, seed=0):
    return oracle.compact(positive_definite(k, d, seed), kind)


def written_out(kind, matrices, k, d):
    """Matrices (K, d, d) by the oracle."""
    means = np.zeros((k, d))
    return oracle.covariance_matrices(oracle.Parameters(np.ones(k) / k, means, matrices, kind))


@each_type
@each_shape
def test_shape_and_number_of_parameters(kind, k, d):
    structure = STRUCTURES[kind]
    assert structure.name == kind
    assert structure.shape(k, d) == covariances_of(kind, k, d).shape
    assert structure.n_parameters(k, d) == oracle.n_parameters(k, d, kind) - k * d - (k - 1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("spherical", 2), ("diag", 10), ("tied", 15), ("full", 30)]
)
def test_number_of_parameters_of_two_components_in_five_dimensions(kind, expected):
    assert STRUCTURES[kind].n_parameters(2, 5) == expected


@each_type
@each_shape
def test_factors_of_precisions_and_what_they_stand_for(kind, k, d):
    structure, covariances = STRUCTURES[kind], covariances_of(kind, k, d)
    factors = structure.precisions_cholesky(covariances)
    assert factors.shape == covariances.shape
    assert_allclose(
        written_out(kind, structure.precisions(factors), k, d),
        np.linalg.inv(written_out(kind, covariances, k, d)),
        rtol=1e-9,
        atol=1e-11,
    )
    assert_allclose(
        structure.covariances_from_factors(factors), covariances, rtol=1e-10, atol=1e-12
    )
    again = structure.precisions_cholesky_from_precisions(structure.precisions(factors))
    assert_allclose(again, factors, rtol=1e-8, atol=1e-10)
    if structure.has_matrices:
        assert_array_equal(np.tril(factors, -1), 0.0)
        lower = np.linalg.cholesky(covariances)
        inverse = np.linalg.inv(lower).swapaxes(-1, -2)
        assert_allclose(factors, inverse, rtol=1e-9, atol=1e-11)
    else:
        assert_allclose(factors, covariances**-0.5, rtol=1e-15)


@each_type
@each_shape
def test_full_writes_matrices_out(kind, k, d):
    covariances = covariances_of(kind, k, d)
    full = STRUCTURES[kind].full(covariances, k, d)
    assert_array_equal(full, written_out(kind, covariances, k, d))
    assert not np.shares_memory(full, covariances)


def broken(kind):
    """Covariances (or precisions) that belong to no Gaussian."""
    k, d = 3, 2
    good = covariances_of(kind, k, d)
    for value in (0.0, -1.0, np.nan):
        bad = good.copy()
        if STRUCTURES[kind].has_matrices:
            bad[..., -1, -1] = value
            bad[..., -1, 0] = bad[..., 0, -1] = 0.0 if value == 0.0 else good[..., 0, 1]
        else:
            bad[-1] = value
        yield bad
    if STRUCTURES[kind].has_matrices:
        yield np.zeros_like(good) + np.array([[1.0, 2.0], [2.0, 1.0]])  # indefinite
        yield np.zeros_like(good) + 1.0  # singular


@each_type
def test_what_is_not_positive_definite_is_ill_defined(kind):
    structure = STRUCTURES[kind]
    for matrices in broken(kind):
        with pytest.raises(IllDefinedCovariance):
            structure.precisions_cholesky(matrices)
        with pytest.raises(IllDefinedCovariance):
            structure.precisions_cholesky_from_precisions(matrices)


@each_type
def test_a_covariance_whose_inverse_overflows_is_ill_defined(kind):
    structure = STRUCTURES[kind]
    tiny = oracle.compact(np.array([1e-300 * np.eye(2)] * 2), kind)
    factors = structure.precisions_cholesky(tiny)
    assert_allclose(structure.covariances_from_factors(factors), tiny, rtol=1e-12)
    with pytest.raises(IllDefinedCovariance):
        structure.precisions_cholesky(0.0 * tiny)


def statistics(kind, k, d, n=60, seed=0, offset=0.0, spread=1.0):
    """Rows, responsibilities, and their statistics about a reference that is not the means."""
    rng = np.random.RandomState(seed)
    centres = spread * rng.standard_normal((k, d))
    labels = np.arange(n) % k
    X = offset + centres[labels] + rng.standard_normal((n, d)) @ (np.eye(d) + 0.2)
    r = rng.dirichlet(np.ones(k), n) * 0.2 + 0.8 * (labels[:, None] == np.arange(k))
    weights = rng.uniform(0.5, 2, n)
    reference = offset + centres + 0.1 * rng.standard_normal((k, d))
    z = X[:, None, :] - reference
    rw = r * weights[:, None]
    products = np.einsum("nk,nki,nkj->kij", rw, z, z)
    columns = STRUCTURES[kind].second_columns(d)
    diagonal = np.diagonal(products, axis1=1, axis2=2)
    if columns == d * (d + 1) // 2:
        second = products[(slice(None), *np.tril_indices(d))]
    else:
        second = diagonal if columns == d else diagonal.sum(axis=1)[:, None]
    first = np.einsum("nk,nki->ki", rw, z)
    stats = SufficientStats(0.0, weights.sum(), rw.sum(axis=0), first, second, reference)
    return X, r, weights, stats


def scatter_of(X, weights):
    mean = np.average(X, axis=0, weights=weights)
    matrix = ((X - mean) * weights[:, None]).T @ (X - mean)
    return Scatter(weights.sum(), mean, matrix, np.zeros(X.shape[1]))


@each_type
@each_shape
@pytest.mark.parametrize("offset", [0.0, 2.0**20])
def test_covariances_are_the_m_step_of_the_oracle(kind, k, d, offset):
    X, r, weights, stats = statistics(kind, k, d, offset=offset)
    expected = oracle.m_step(X - offset, r, kind, 1e-3, weights, eps=0.0)
    means = stats.reference + stats.first / stats.mass[:, None]
    assert_allclose(means - offset, expected.means, rtol=1e-8, atol=1e-9)
    got = STRUCTURES[kind].covariances(stats, means, stats.mass, 1e-3, None)
    assert_allclose(got, expected.covariances, rtol=1e-8, atol=1e-10)


@each_shape
def test_tied_covariance_is_what_the_total_scatter_leaves(k, d):
    X, r, weights, stats = statistics("tied", k, d)
    expected = oracle.m_step(X, r, "tied", 1e-3, weights, eps=0.0)
    without = stats._replace(second=np.empty((k, 0)))
    means = stats.reference + stats.first / stats.mass[:, None]
    got = STRUCTURES["tied"].covariances(without, means, stats.mass, 1e-3, scatter_of(X, weights))
    assert_allclose(got, expected.covariances, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_rounding_does_not_make_variances_negative(kind):
    reference = np.array([[1e8, -1e8]])
    first = np.array([[3.0, -3.0]])
    second = first**2 / 7.0 * (1 - 1e-15)
    if kind == "spherical":
        second = second.sum(axis=1, keepdims=True)
    mass = np.array([7.0])
    stats = SufficientStats(0.0, 7.0, mass, first, second, reference)
    means = reference + first / 7.0
    assert (STRUCTURES[kind].covariances(stats, means, mass, 0.0, None) >= 0.0).all()


@each_type
@each_shape
def test_kernel_params_stand_for_the_log_densities(kind, k, d):
    structure, covariances = STRUCTURES[kind], covariances_of(kind, k, d)
    rng = np.random.RandomState(0)
    truth = oracle.Parameters(
        rng.dirichlet(np.ones(k)), rng.standard_normal((k, d)), covariances, kind
    )
    factors = structure.precisions_cholesky(covariances)
    params = Params(truth.weights, truth.means, covariances, factors)
    kernel = structure.kernel_params(params, np.log(truth.weights))
    for field in kernel:
        assert field.dtype == np.float64
        assert field.flags.c_contiguous
        assert not field.flags.writeable
    matrices = written_out(kind, covariances, k, d)
    expected = np.log(truth.weights) - 0.5 * (
        d * np.log(2 * np.pi) + np.linalg.slogdet(matrices)[1]
    )
    assert_allclose(kernel.constants, expected, rtol=1e-12, atol=1e-12)
    assert_array_equal(kernel.means, truth.means)


def far_apart(d, distance, n=400):
    """Two clusters of one true covariance, far apart in every feature."""
    rng = np.random.RandomState(0)
    root = rng.standard_normal((d, d)) + 2 * np.eye(d)
    noise = rng.standard_normal((n, d)) @ root.T
    labels = np.arange(n) % 2
    within = sum(
        (noise[labels == c] - noise[labels == c].mean(axis=0)).T
        @ (noise[labels == c] - noise[labels == c].mean(axis=0))
        for c in (0, 1)
    )
    return noise + distance * labels[:, None], within / n


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("d", [1, 3])
def test_tied_covariance_is_right_however_far_apart_the_components_are(d, distance):
    X, expected = far_apart(d, distance)
    expected = expected + 1e-6 * np.eye(d)
    start = {"weights_init": [0.5, 0.5], "means_init": X[:2]}
    precision = np.linalg.inv(expected)
    model = fastgmm.GaussianMixture(
        2, covariance_type="tied", precisions_init=precision, **start
    ).fit(X)
    # entries of this size have this much rounding in the rows themselves
    rounding = 10 * distance * np.finfo(float).eps
    assert_allclose(model.covariances_, expected, rtol=1e-9 + rounding, atol=1e-9 + rounding)


def test_the_kind_of_tied_kernel_follows_the_distance():
    structure = STRUCTURES["tied"]

    def kind(distance):
        means = np.array([[0.0, 0.0], [distance, 0.0]])
        params = Params(np.array([0.5, 0.5]), means, np.eye(2), np.eye(2))
        return type(structure.kernel_params(params, np.log([0.5, 0.5])))

    assert kind(50.0) is Expanded
    assert kind(1999.0) is Scaled  # between / within = (distance / 2)^2
    assert kind(2001.0) is Triangular


@each_type
@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
@pytest.mark.parametrize("seed", [0, 1])
def test_seed_covariances_are_scikit_learns(kind, init_params, seed):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((50, 3)) + np.array([1.0, -2.0, 3.0])
    theirs = GaussianMixture(
        4, covariance_type=kind, init_params=init_params, max_iter=0, random_state=seed
    ).fit(X)
    rows = np.array([X[np.argmin(((X - mean) ** 2).sum(axis=1))] for mean in theirs.means_])
    mass = 1.0 + 10 * np.finfo(float).eps
    got = STRUCTURES[kind].seed_covariances(rows, mass, 1e-6, scatter_of(X, np.ones(50)))
    if STRUCTURES[kind].has_matrices:
        assert_allclose(got, theirs.covariances_, rtol=1e-9, atol=1e-12)
    else:
        assert_array_equal(got, theirs.covariances_)


@each_type
def test_seed_covariances_far_from_the_origin_are_usable(kind):
    X = np.random.RandomState(0).standard_normal((50, 3)) + 1e9
    rows, scatter = X[:4], scatter_of(X, np.ones(50))
    structure = STRUCTURES[kind]
    got = structure.seed_covariances(rows, 1.0 + 1e-15, 1e-6, scatter)
    assert got.shape == structure.shape(4, 3)
    assert np.isfinite(structure.precisions_cholesky(got)).all()


@each_type
@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_draws_are_numpys(kind, make):
    k, d, n = 3, 2, 40_000
    covariances = covariances_of(kind, k, d)
    mean = np.array([5.0, -3.0])
    draws = STRUCTURES[kind].draw(make(0), mean, covariances, 1, n)
    assert draws.shape == (n, d)
    expected = written_out(kind, covariances, k, d)[1]
    deviation = np.sqrt(np.diag(expected) / n)
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * deviation).all()
    assert_allclose(np.cov(draws.T), expected, atol=0.05 * np.abs(expected).max())
    assert STRUCTURES[kind].draw(make(0), mean, covariances, 1, 0).shape == (0, d)


@each_type
def test_min_support_is_what_a_covariance_needs(kind):
    d = 4
    needed = STRUCTURES[kind].min_support(d)
    assert needed == {"full": d + 1, "tied": 2, "diag": 2, "spherical": 2}[kind]


def test_readonly_arrays_do_not_lock_their_base():
    array = np.arange(6.0).reshape(2, 3)
    view = readonly(array)
    assert np.shares_memory(view, array)
    assert not view.flags.writeable
    assert array.flags.writeable
    assert readonly(array.T).flags.c_contiguous
    assert readonly(array.astype(np.float32)).dtype == np.float64


def test_cholesky_follows_scipy_on_badly_scaled_matrices():
    scales = np.diag([1e-120, 1.0, 1e120])
    covariance = scales @ positive_definite(1, 3)[0] @ scales
    factor = STRUCTURES["full"].precisions_cholesky(covariance[None])[0]
    lower = linalg.cholesky(covariance, lower=True)
    expected = linalg.solve_triangular(lower, np.eye(3), lower=True).T
    assert_allclose(factor, expected, rtol=1e-10, atol=0)


@each_type
@each_shape
@pytest.mark.parametrize("offset", [0.0, 2.0**20])
def test_square_distances_of_all_rows(kind, k, d, offset):
    X, r, weights, stats = statistics(kind, k, d, offset=offset)
    structure, covariances = STRUCTURES[kind], covariances_of(kind, k, d)
    truth = oracle.Parameters(np.ones(k) / k, stats.reference, covariances, kind)
    expected = (weights[:, None] * r * oracle.mahalanobis(X, truth) ** 2).sum()
    factors = structure.precisions_cholesky(covariances)
    scatter = scatter_of(X, weights)
    assert structure.square_distances(stats, factors, None) == pytest.approx(expected, rel=1e-9)
    if structure.needs_scatter:
        without = stats._replace(second=np.empty((k, 0)))
        got = structure.square_distances(without, factors, scatter)
        assert got == pytest.approx(expected, rel=1e-8)


@each_type
@each_shape
def test_log_determinants_and_what_is_shared(kind, k, d):
    structure, covariances = STRUCTURES[kind], covariances_of(kind, k, d)
    factors = structure.precisions_cholesky(covariances)
    matrices = written_out(kind, covariances, k, d)
    logs = np.broadcast_to(structure.log_determinants(factors, d), k)
    assert_allclose(logs, -0.5 * np.linalg.slogdet(matrices)[1], rtol=1e-10, atol=1e-12)
    rng = np.random.RandomState(0)
    offsets, weights = rng.standard_normal((k, d)), rng.uniform(size=k)
    products = np.array([w * np.outer(x, x) for w, x in zip(weights, offsets, strict=True)])
    pooled = weights
    if structure.needs_scatter:
        products, pooled = products.mean(axis=0, keepdims=True), weights.mean()
    got = structure.products(offsets, weights)
    assert_allclose(got, oracle.compact(products, kind), rtol=1e-12, atol=1e-14)
    assert_allclose(structure.pooled(weights), pooled)
    one = oracle.compact(np.array([matrices[0]]), kind)
    assert_allclose(structure.compact(matrices[0]), one if structure.needs_scatter else one[0])
