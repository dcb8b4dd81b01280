"""The oracle itself, held against scikit-learn where scikit-learn is right."""

import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful, iris, synthetic
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

TYPES = oracle.COVARIANCE_TYPES
INITS = ("kmeans", "k-means++", "random", "random_from_data")


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("init_params", INITS)
def test_whole_fit_is_scikit_learns(covariance_type, init_params):
    X = iris()
    params = {"covariance_type": covariance_type, "init_params": init_params, "random_state": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = SklearnMixture(3, **params).fit(X)
    truth = oracle.fit(X, 3, **params)
    assert (truth.n_iter, truth.converged) == (theirs.n_iter_, theirs.converged_)
    assert_allclose(truth.lower_bounds, theirs.lower_bounds_, rtol=1e-6)
    for ours, name in zip(truth.parameters, ("weights_", "means_", "covariances_"), strict=False):
        assert_allclose(ours, getattr(theirs, name), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_densities_are_scikit_learns_and_scipys(covariance_type):
    X = faithful()
    theirs = SklearnMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    truth = oracle.parameters_of(theirs)
    assert_allclose(oracle.score_samples(X, truth), theirs.score_samples(X), rtol=1e-9)
    assert_allclose(oracle.responsibilities(X, truth), theirs.predict_proba(X), atol=1e-9)
    assert_allclose(
        oracle.log_densities(X, truth) + np.log(truth.weights),
        oracle.weighted_log_densities(X, truth),
        rtol=1e-9,
    )
    assert oracle.n_parameters(3, 2, covariance_type) == theirs._n_parameters()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_kmeans_is_scikit_learns(weighted, seed):
    X = synthetic(500)
    w = np.random.RandomState(seed).uniform(0.1, 3.0, len(X)) if weighted else None
    theirs = KMeans(7, n_init=1, random_state=seed).fit(X, sample_weight=w)
    ours = oracle.kmeans(X, 7, np.random.RandomState(seed), w)
    assert_array_equal(ours, theirs.labels_)
    _, chosen = kmeans_plusplus(X, 7, sample_weight=w, random_state=seed)
    assert_array_equal(oracle.kmeans_plusplus(X, 7, np.random.RandomState(seed), w), chosen)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_integer_weights_repeat_rows(covariance_type):
    X = iris()
    w = np.random.RandomState(0).randint(0, 4, len(X))
    start = oracle.fit(X, 3, covariance_type, max_iter=1).parameters
    weighted = oracle.em(X, start, max_iter=5, tol=0, sample_weight=w)
    repeated = oracle.em(np.repeat(X, w, axis=0), start, max_iter=5, tol=0)
    assert_allclose(weighted.lower_bounds, repeated.lower_bounds, rtol=1e-12)
    for a, b in zip(weighted.parameters[:3], repeated.parameters[:3], strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)
