"""Identities a mixture obeys whatever the data, from given starts (seeded starts draw by row)."""

import warnings

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from fastgmm import FitWarning, GaussianMixture

settings.register_profile("fastgmm", derandomize=True, deadline=None, max_examples=15)
identity = settings.get_profile("fastgmm")

N_ITERATIONS = 4


@st.composite
def problems(draw):
    """Rows of a few overlapping clusters, and a start of any covariance type."""
    covariance_type = draw(st.sampled_from(oracle.COVARIANCE_TYPES))
    d, K = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    n = draw(st.integers(30 * K, 200))
    rng = np.random.RandomState(draw(st.integers(0, 2**31)))
    X = rng.standard_normal((n, d)) + rng.uniform(-4, 4, (K, d))[rng.randint(K, size=n)]
    resp = rng.dirichlet(np.ones(K), size=n)
    return X, oracle.m_step(X, resp, covariance_type, reg_covar=0), rng


def fit(X, start, sample_weight=None):
    model = GaussianMixture(
        reg_covar=0, tol=0, max_iter=N_ITERATIONS, random_state=0, **oracle.start_of(start)
    )
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, FitWarning):
            warnings.simplefilter("ignore", category)
        return model.fit(X, sample_weight=sample_weight)


def assert_same(model, parameters, lower_bounds=None):
    for ours, theirs in zip(oracle.parameters_of(model)[:3], parameters[:3], strict=True):
        assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)
    if lower_bounds is not None:
        assert_allclose(model.lower_bounds_, lower_bounds, rtol=1e-9, atol=1e-10)


@identity
@given(problems())
def test_oracle(problem):
    X, start, _ = problem
    truth = oracle.em(X, start, tol=0, max_iter=N_ITERATIONS, reg_covar=0)
    model = fit(X, start)
    assert_same(model, truth.parameters, truth.lower_bounds)
    assert_allclose(model.score_samples(X), oracle.score_samples(X, truth.parameters), rtol=1e-7)
    assert_allclose(model.predict_proba(X), oracle.responsibilities(X, truth.parameters), atol=1e-7)
    assert_allclose(model.mahalanobis(X), oracle.mahalanobis(X, truth.parameters), rtol=1e-7)
    assert_allclose(
        model.component_log_density(X), oracle.log_densities(X, truth.parameters), rtol=1e-7
    )
    assert model._n_parameters() == oracle.n_parameters(*start.means.shape, start.covariance_type)


@identity
@given(problems())
def test_row_order_does_not_matter(problem):
    X, start, rng = problem
    order = rng.permutation(len(X))
    a, b = fit(X, start), fit(X[order], start)
    assert_same(b, oracle.parameters_of(a), a.lower_bounds_)
    assert_allclose(b.score_samples(X), a.score_samples(X), rtol=1e-8)


@identity
@given(problems())
def test_component_order_comes_back(problem):
    X, start, rng = problem
    order = rng.permutation(len(start.weights))
    tied = start.covariance_type == "tied"

    def permuted(p):
        covariances = p.covariances if tied else p.covariances[order]
        return oracle.Parameters(p.weights[order], p.means[order], covariances, p.covariance_type)

    a, b = fit(X, start), fit(X, permuted(start))
    assert_same(b, permuted(oracle.parameters_of(a)), a.lower_bounds_)
    assert_array_equal(order[b.predict(X)], a.predict(X))


@identity
@given(problems())
def test_affine_maps(problem):
    """Any invertible map for full and tied, axis by axis for diag, a rotation for spherical."""
    X, start, rng = problem
    d = X.shape[1]
    shift = rng.uniform(-10, 10, d)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    stretch = np.diag(np.exp(rng.uniform(-2, 2, d)))
    linear = {"diag": stretch, "spherical": 3 * rotation}.get(
        start.covariance_type, rotation @ stretch
    )

    def mapped(p):
        matrices = linear @ oracle.covariance_matrices(p) @ linear.T
        covariances = oracle.compact(matrices, p.covariance_type)
        return p._replace(means=p.means @ linear.T + shift, covariances=covariances)

    a, b = fit(X, start), fit(X @ linear.T + shift, mapped(start))
    log_volume = np.linalg.slogdet(linear)[1]
    assert_same(b, mapped(oracle.parameters_of(a)), np.array(a.lower_bounds_) - log_volume)


@identity
@given(problems())
def test_weights_are_repeated_rows(problem):
    """A weight of 2 is the row twice, a weight of 0 no row at all."""
    X, start, rng = problem
    w = rng.randint(0, 4, len(X))
    w[: len(start.weights)] = 1
    a, b = fit(X, start, sample_weight=w), fit(np.repeat(X, w, axis=0), start)
    assert_same(a, oracle.parameters_of(b), b.lower_bounds_)
    assert_allclose(a.score(X, sample_weight=w), b.score(np.repeat(X, w, axis=0)), rtol=1e-9)


@identity
@given(problems(), st.floats(1e-3, 1e3))
def test_only_the_ratio_of_weights_matters(problem, factor):
    X, start, rng = problem
    w = rng.uniform(0.1, 2.0, len(X))
    a, b = fit(X, start, sample_weight=w), fit(X, start, sample_weight=factor * w)
    assert_same(a, oracle.parameters_of(b), b.lower_bounds_)
    truth = oracle.em(X, start, tol=0, max_iter=N_ITERATIONS, reg_covar=0, sample_weight=w)
    assert_same(a, truth.parameters, truth.lower_bounds)


@identity
@given(problems())
def test_inference_is_a_distribution(problem):
    X, start, _ = problem
    model = fit(X, start)
    proba = model.predict_proba(X)
    assert (proba >= 0).all()
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert_array_equal(proba.argmax(axis=1), model.predict(X))
    assert_allclose(model.score(X), model.score_samples(X).mean(), rtol=1e-12)


@identity
@given(problems(), st.integers(1, 200), st.integers(0, 2**31))
def test_samples(problem, n_samples, seed):
    X, start, _ = problem
    K, d = start.means.shape
    model = fit(X, start)
    rows, labels = model.sample(n_samples, random_state=seed)
    assert rows.shape == (n_samples, d)
    assert rows.dtype == np.float64
    assert labels.shape == (n_samples,)
    assert (np.diff(labels) >= 0).all()
    assert set(labels) <= set(range(K))
    assert_array_equal(model.sample(n_samples, random_state=seed)[0], rows)


@pytest.mark.parametrize("covariance_type", oracle.COVARIANCE_TYPES)
def test_samples_are_scikit_learns(covariance_type):
    X = np.random.RandomState(0).standard_normal((100, 3)) * [1, 2, 3]
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=7).fit(X)
    theirs = model.to_sklearn().sample(500)
    for ours, expected in zip(model.sample(500), theirs, strict=True):
        assert_allclose(ours, expected, rtol=1e-12)
        assert ours.dtype == expected.dtype
