"""Models from numbers, from scikit-learn and to it: exact both ways."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from small_models import ARRAYS, FITTED, each_type, fitted, known, made, small

from fastgmm import GaussianMixture

nojit = pytest.mark.nojit


@nojit
@each_type
def test_from_parameters_is_a_fitted_model(kind):
    truth = known(kind)
    model = made(kind, tol=1e-5, n_threads=1)
    assert_array_equal(model.weights_, truth.weights)
    assert_array_equal(model.means_, truth.means)
    assert_array_equal(model.covariances_, truth.covariances)
    assert_allclose(model.precisions_, oracle.precisions(truth), rtol=1e-12, atol=1e-12)
    assert model.n_iter_ == 0
    assert model.n_features_in_ == 3
    assert model.get_params()["tol"] == 1e-5
    assert model.n_components == 2
    assert set(FITTED) <= set(vars(model))
    assert model._n_parameters() == oracle.n_parameters(2, 3, kind)


@nojit
def test_from_parameters_copies():
    weights, means, covariances, _ = known("diag")
    model = GaussianMixture.from_parameters(weights, means, covariances, covariance_type="diag")
    means += 1.0
    assert_array_equal(model.means_, known("diag").means)


@nojit
def test_from_parameters_takes_lists_and_is_one_of_its_class():
    class Mine(GaussianMixture):
        pass

    model = Mine.from_parameters([1], [[0, 1]], [2], covariance_type="spherical")
    assert type(model) is Mine
    assert model.means_.dtype == np.float64


@nojit
@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"weights": [0.5, 0.6]}, "should be normalized"),
        ({"weights": [-0.5, 1.5]}, r"in the range \[0, 1\]"),
        ({"weights": [0.2, 0.3, 0.5]}, r"'weights' should have the shape of \(2,\)"),
        ({"weights": [0.5, np.nan]}, "NaN"),
        ({"means": np.zeros(3)}, r"'means' should have the shape of \(n_components, n_features\)"),
        ({"means": np.zeros((0, 3))}, "'means' should have the shape"),
        ({"means": np.full((2, 3), np.inf)}, "infinity"),
        ({"means": np.zeros((2, 4))}, r"'full covariance' should have the shape of \(2, 4, 4\)"),
        ({"covariances": np.ones((2, 3))}, r"'full covariance' should have the shape"),
        ({"covariances": -known("full").covariances}, "should be symmetric, positive-definite"),
        ({"covariances": np.triu(known("full").covariances)}, "should be symmetric"),
        ({"covariances": np.full((2, 3, 3), np.nan)}, "NaN"),
        ({"n_components": 3}, "n_components=3, but means are given for 2"),
        ({"covariance_type": "round"}, "covariance_type"),
        ({"tol": -1.0}, "tol"),
    ],
)
def test_from_parameters_refuses_what_is_no_mixture(changed, match):
    given = dict(zip(("weights", "means", "covariances"), known("full")[:3], strict=True))
    with pytest.raises(ValueError, match=match):
        GaussianMixture.from_parameters(**(given | changed))


@nojit
@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_from_parameters_refuses_variances_that_are_not_positive(kind):
    weights, means, covariances, _ = known(kind)
    with pytest.raises(ValueError, match=f"'{kind} covariance' should be positive"):
        GaussianMixture.from_parameters(weights, means, 0 * covariances, covariance_type=kind)


@nojit
def test_from_parameters_refuses_unknown_parameters():
    with pytest.raises(TypeError, match="colour"):
        made("full", colour="red")


@nojit
@each_type
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_to_scikit_learn_and_back(kind, dtype):
    X = small().astype(dtype)
    ours = fitted(kind, X=X, n_init=2)
    theirs = ours.to_sklearn()
    assert type(theirs) is SklearnGaussianMixture
    back = GaussianMixture.from_sklearn(theirs)
    for name in FITTED:
        for other in (theirs, back):
            assert_array_equal(getattr(other, name), getattr(ours, name))
            assert type(getattr(other, name)) is type(getattr(ours, name))
    for name in ARRAYS:
        assert getattr(theirs, name).dtype == dtype
        assert not np.shares_memory(getattr(theirs, name), getattr(ours, name))
    shared = theirs.get_params()
    assert {name: ours.get_params()[name] for name in shared} == shared
    assert {name: back.get_params()[name] for name in shared} == shared
    assert_array_equal(theirs.predict(X), ours.predict(X))
    rtol = 1e-9 if dtype == np.float64 else 1e-4
    assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=rtol, atol=rtol)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=rtol, atol=rtol)
    if dtype == np.float64:
        assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-9)
        for one, other in zip(ours.sample(20), theirs.sample(20), strict=True):
            assert_array_equal(one, other)


@nojit
@each_type
def test_a_scikit_learn_model_works_here(kind):
    X = small()
    theirs = SklearnGaussianMixture(
        2, covariance_type=kind, random_state=0, tol=1e-2, reg_covar=1e-4
    ).fit(X)
    ours = GaussianMixture.from_sklearn(theirs)
    for name in FITTED:
        assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-9)
    ours.set_params(warm_start=True).fit(X)
    assert ours.converged_


@nojit
def test_models_that_are_not_fitted_convert_too():
    ours = GaussianMixture(3, tol=0.5, means_init=[[1.0]] * 3)
    theirs = ours.to_sklearn()
    assert not hasattr(theirs, "means_")
    assert GaussianMixture.from_sklearn(theirs).get_params() == ours.get_params()


@nojit
def test_a_derived_class_converts_like_its_parent():
    class Mine(GaussianMixture):
        pass

    theirs = Mine(3).to_sklearn()
    assert type(theirs) is SklearnGaussianMixture
    assert type(Mine.from_sklearn(theirs)) is Mine


@nojit
@pytest.mark.parametrize("model", [None, 3, GaussianMixture(2), {"means_": 1}])
def test_only_scikit_learn_mixtures_convert(model):
    with pytest.raises(TypeError, match=r"Expected a sklearn.mixture.GaussianMixture, got"):
        GaussianMixture.from_sklearn(model)
