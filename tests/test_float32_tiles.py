"""float32 tiles for float32 rows of full covariances, as long as they are accurate enough."""

import warnings

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning
from test_em_pass import check_em, kernel_params, problem, run_em

from fastgmm import GaussianMixture, _em
from fastgmm._kernels.triangular import TriangularFloat32
from fastgmm._precision import MAX_CONDITION, conditions, float32_will_do
from fastgmm._structures import STRUCTURES

PARAMETERS = ("weights_", "means_", "covariances_")
FULL = STRUCTURES["full"]


def rotated(rng, eigenvalues):
    """A covariance with these eigenvalues, in general position."""
    d = len(eigenvalues)
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0]
    covariance = axes * eigenvalues @ axes.T
    return 0.5 * (covariance + covariance.T)


def with_condition(rng, k, d, condition):
    """Covariances (k, d, d) of one condition number, their eigenvalues evenly spaced in log."""
    return np.stack(
        [rotated(rng, np.geomspace(condition**0.5, condition**-0.5, d)) for _ in range(k)]
    )


def sample(d, k, n, condition, offset=0.0, seed=0):
    """float32 rows of overlapping components, and the means they were drawn from."""
    rng = np.random.RandomState(seed)
    means = 1.5 * rng.standard_normal((k, d)) + offset
    covariances = with_condition(rng, k, d, condition)
    labels = rng.randint(k, size=n)
    roots = np.linalg.cholesky(covariances)
    X = means[labels] + (roots[labels] @ rng.standard_normal((n, d, 1)))[:, :, 0]
    return X.astype(np.float32), means, covariances


def fit(X, means, covariances, sample_weight=None, max_iter=10, tol=0.0):
    k = len(means)
    model = GaussianMixture(
        k,
        weights_init=np.full(k, 1.0 / k),
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
        max_iter=max_iter,
        tol=tol,
        n_threads=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=sample_weight)


def assert_parameters_agree(narrow, wide, rtol=1e-5):
    """Compare relative to the scale of each parameter: of means that is the standard deviation."""
    assert_allclose(narrow.weights_, wide.weights_, rtol=rtol)
    variances = np.diagonal(wide.covariances_, axis1=1, axis2=2)
    sd = np.sqrt(variances)
    # float32 attributes are rounded themselves, far from 0 by more than this
    rounding = np.finfo(np.float32).eps * np.abs(wide.means_)
    assert (np.abs(narrow.means_ - wide.means_) <= rtol * sd + rounding).all()
    scales = sd[:, :, None] * sd[:, None, :]
    assert (np.abs(narrow.covariances_ - wide.covariances_) <= rtol * scales).all()


@pytest.fixture
def passes(monkeypatch):
    """The types of the parameters of all passes."""
    types = []
    original = type(FULL).kernel_params

    def spy(self, *args):
        made = original(self, *args)
        types.append(type(made))
        return made

    monkeypatch.setattr(type(FULL), "kernel_params", spy)
    monkeypatch.setattr(_em, "_FLOAT32_CHANGE", 0.0)  # to the end, however little changes
    return types


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e3])
@pytest.mark.parametrize(
    ("d", "k", "n"), [(2, 3, 4000), (8, 8, 9000), (17, 2, 3000), (32, 4, 6000)]
)
def test_parameters_are_those_of_a_fit_in_float64(d, k, n, offset, weighted, passes):
    X, means, covariances = sample(d, k, n, condition=100.0, offset=offset)
    w = np.random.RandomState(1).uniform(0.0, 3.0, n) if weighted else None
    narrow = fit(X, means, covariances, w)
    assert set(passes) == {TriangularFloat32}
    wide = fit(X.astype(np.float64), means, covariances, w)
    assert_parameters_agree(narrow, wide)
    assert narrow.lower_bound_ == pytest.approx(wide.lower_bound_, rel=1e-6)
    assert narrow.n_iter_ == wide.n_iter_


@pytest.mark.parametrize("d", [2, 8, 32])
def test_parameters_at_the_largest_condition(d, passes):
    X, means, covariances = sample(d, 3, 6000, condition=0.5 * MAX_CONDITION, offset=10.0)
    narrow = fit(X, means, covariances)
    assert set(passes) == {TriangularFloat32}
    assert_parameters_agree(narrow, fit(X.astype(np.float64), means, covariances))


@pytest.mark.parametrize("condition", [1.0, 1e3, 0.9 * MAX_CONDITION])
@pytest.mark.parametrize("d", [2, 8, 32])
def test_parameters_of_components_that_overlap_altogether(d, condition, passes):
    """One cloud for four components: EM damps rounding errors least where it converges least.

    After a hundred iterations they may be a hundred times as large; no such fit has a limit.
    """
    rng, k = np.random.RandomState(0), 4
    [covariance] = with_condition(rng, 1, d, condition)
    root = np.linalg.cholesky(covariance)
    X = (rng.standard_normal((6000, d)) @ root.T).astype(np.float32)
    means, covariances = 0.3 * rng.standard_normal((k, d)) @ root.T, np.stack([covariance] * k)
    narrow = fit(X, means, covariances)
    assert set(passes) == {TriangularFloat32}
    assert_parameters_agree(narrow, fit(X.astype(np.float64), means, covariances))


@pytest.mark.parametrize("d", [2, 8, 32])
def test_beyond_that_condition_the_arithmetic_is_float64(d, passes):
    X, means, covariances = sample(d, 3, 6000, condition=100.0 * MAX_CONDITION)
    narrow = fit(X, means, covariances)
    assert TriangularFloat32 not in passes
    wide = fit(X.astype(np.float64), means, covariances)
    for name in PARAMETERS:  # but for the last rounding of the attributes
        ours, theirs = getattr(narrow, name), getattr(wide, name)
        assert_allclose(ours, theirs.astype(np.float32), rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_scales_whose_squares_float32_cannot_hold(scale, passes):
    X, means, covariances = sample(3, 2, 500, condition=10.0)
    X, means, covariances = X * np.float32(scale), means * scale, covariances * scale**2
    model = GaussianMixture(2, means_init=means, random_state=0, reg_covar=0.0).fit(X)
    assert TriangularFloat32 not in passes
    wide = GaussianMixture(2, means_init=means, random_state=0, reg_covar=0.0)
    assert_allclose(model.means_, wide.fit(X.astype(np.float64)).means_, rtol=1e-5)


@pytest.mark.parametrize("d", [3, 10])
def test_rows_too_far_out_for_float32(d, passes):
    X, means, covariances = sample(d, 2, 300, condition=10.0)
    X[::2] *= 5e10
    w = np.where(np.arange(300) % 2, 1.0, 1e-3)  # the float32 bound shall not overflow, too
    narrow = fit(X, means, 1e-18 * covariances, w, max_iter=1)
    assert passes[0] is TriangularFloat32
    assert TriangularFloat32 not in passes[1:]
    wide = fit(X.astype(np.float64), means, 1e-18 * covariances, w, max_iter=1)
    assert_allclose(narrow.means_, wide.means_, rtol=1e-6)
    assert narrow.lower_bound_ == pytest.approx(wide.lower_bound_, rel=1e-7)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (7, 1, 3), (400, 2, 2), (33, 9, 2)])
def test_sums_of_a_few_rows(n, d, k, weighted):
    check_sums(n, d, k, weighted)


@pytest.mark.parametrize("n", [17, 1025])
@pytest.mark.parametrize(
    ("d", "k"), [(1, 4), (3, 2), (4, 3), (5, 4), (6, 3), (7, 2), (8, 3), (9, 2), (16, 3), (33, 2)]
)
def test_sums_are_those_of_the_oracle(n, d, k):
    check_sums(n, d, k, weighted=True)


def check_sums(n, d, k, weighted):
    X, truth = problem("full", n, d, k, seed=n, dtype=np.float32)
    assert isinstance(kernel_params(truth, np.float32), TriangularFloat32)
    weights = np.random.RandomState(1).randint(0, 4, n) * 0.7 if weighted else None
    check_em(X, truth, weights, dtype=np.float32, rtol=2e-6)


@pytest.mark.nojit
def test_sums_do_not_depend_on_what_was_in_the_scratch():
    for n, d, k in [(19, 5, 3), (33, 1, 1), (50, 10, 2)]:
        X, truth = problem("full", n, d, k, dtype=np.float32)
        params = kernel_params(truth, np.float32)
        expected = run_em(X, params, garbage=0.0)
        for garbage, offset in [(np.nan, 1), (np.inf, 3), (1e300, 0)]:
            got = run_em(X, params, garbage=garbage, offset=offset)
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.nojit
@pytest.mark.parametrize("d", [2, 10])
def test_what_rounding_the_reference_costs_is_given_back(d):
    """Components whose means lie between float32 numbers, by a good part of their sd."""
    rng = np.random.RandomState(0)
    means = np.full((2, d), 2.0**23 + 0.5)
    means[1] += 3.25
    truth = oracle.Parameters(
        np.array([0.4, 0.6]), means, with_condition(rng, 2, d, 5.0) * 4.0, "full"
    )
    X = (means[rng.randint(2, size=300)] + 2.0 * rng.standard_normal((300, d))).astype(np.float32)
    params = kernel_params(truth, np.float32)
    np.testing.assert_array_equal(params.means, params.means.astype(np.float32))
    assert np.abs(params.means - means).max() >= 0.25
    check_em(X, truth, dtype=np.float32, rtol=2e-6)


@pytest.mark.nojit
def test_condition_numbers_are_estimated_from_below():
    rng = np.random.RandomState(0)
    for d in (1, 2, 8, 40):
        for condition in (1.0, 100.0, 1e4, 1e6):
            covariances = with_condition(rng, 5, d, condition)
            true = np.linalg.cond(covariances)
            factors = np.linalg.inv(np.linalg.cholesky(covariances))
            estimates = conditions(covariances, factors)
            assert (estimates <= 1.000001 * true).all()
            assert (estimates >= 0.4 * true).all()


@pytest.mark.nojit
@pytest.mark.parametrize("d", [2, 8, 40])
def test_one_component_decides_for_all(d):
    rng = np.random.RandomState(0)
    covariances = with_condition(rng, 3, d, 0.9 * MAX_CONDITION)
    bad = with_condition(rng, 1, d, 3.0 * MAX_CONDITION)
    for given, expected in [
        (covariances, True),
        (np.concatenate([covariances, bad]), False),
        (covariances * 1e-24, False),
        (covariances * np.nan, False),
    ]:
        with np.errstate(invalid="ignore"):
            factors = (
                np.linalg.inv(np.linalg.cholesky(given)) if not np.isnan(given).any() else given
            )
        assert float32_will_do(given, factors) is expected
