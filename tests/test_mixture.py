"""The estimator's own methods and promises; what it shares with scikit-learn is in conformance."""

import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import oracle
import pytest
from datasets import faithful
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from small_models import ARRAYS, FITTED, each_type, fitted, known, made, small

from fastgmm import GaussianMixture
from fastgmm._kernels.options import JIT_DISABLED

nojit = pytest.mark.nojit


def weights_for(X):
    weights = np.random.RandomState(0).randint(0, 4, len(X)).astype(float)
    return weights


# --- criteria and weights ------------------------------------------------------------------------


@nojit
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_criteria_are_the_oracles(kind, weighted):
    X, model, truth = small(), made(kind), known(kind)
    weights = np.random.RandomState(0).uniform(0, 2, len(X)) if weighted else None
    w = np.ones(len(X)) if weights is None else weights
    log_likelihood = w @ oracle.score_samples(X, truth)
    p = oracle.n_parameters(2, 3, kind)
    largest = oracle.responsibilities(X, truth).max(axis=1)
    bic = -2 * log_likelihood + p * np.log(w.sum())
    assert model.score(X, sample_weight=weights) == pytest.approx(log_likelihood / w.sum())
    assert model.aic(X, weights) == pytest.approx(-2 * log_likelihood + 2 * p)
    assert model.bic(X, weights) == pytest.approx(bic)
    assert model.icl(X, weights) == pytest.approx(bic - 2 * w @ np.log(largest))
    together = model.information_criteria(X, weights)
    assert together._asdict() == pytest.approx(
        {
            "log_likelihood": log_likelihood,
            "n_parameters": p,
            "aic": -2 * log_likelihood + 2 * p,
            "bic": bic,
            "icl": bic - 2 * w @ np.log(largest),
        }
    )
    for method in (model.score, model.aic, model.bic, model.icl):
        assert type(method(X)) is float
    assert [type(value) for value in together] == [float, int, float, float, float]


@nojit
def test_criteria_of_a_row_out_of_reach():
    model = made("full")
    assert model.information_criteria([[1e200, 0.0, 0.0]])[2:] == (np.inf, np.inf, np.inf)


@nojit
@each_type
def test_weights_count_rows_everywhere(kind):
    X, model = small(), made(kind)
    weights = weights_for(X)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    for method in (model.aic, model.bic, model.icl):
        assert method(X, sample_weight=weights) == pytest.approx(method(repeated), rel=1e-12)
    weighted = model.score(X, sample_weight=weights)
    assert weighted == pytest.approx(model.score(repeated), rel=1e-12)
    start = oracle.start_of(oracle.parameters_of(fitted(kind)))
    start |= {"reg_covar": 0, "tol": 0, "max_iter": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one = GaussianMixture(**start)
        labels = one.fit_predict(X, sample_weight=weights)
        other = GaussianMixture(**start).fit(repeated)
    assert_array_equal(labels, one.predict(X))
    for name in ARRAYS:
        assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-8, atol=1e-9)


@nojit
def test_rows_of_weight_0_out_of_reach_cost_nothing():
    model, X = made("full"), np.vstack([small(), np.full((1, 3), 1e200)])
    weights = np.ones(len(X))
    weights[-1] = 0.0
    # compiled kernels overflow in silence, uncompiled ones do not
    with np.errstate(all="ignore") if JIT_DISABLED else nullcontext():
        assert model.score(X, sample_weight=weights) == pytest.approx(model.score(X[:-1]))
        assert model.icl(X, weights) == pytest.approx(model.icl(X[:-1]))
        assert model.score(X) == -np.inf
        assert model.bic(X) == np.inf


@nojit
@pytest.mark.parametrize("method", ["fit", "fit_predict", "score", "aic", "bic", "icl"])
@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
        (np.ones((60, 1)), r"sample_weight.shape == \(60, 1\)"),
        (2.0, r"sample_weight.shape == \(\)"),
        (np.r_[np.nan, np.ones(59)], "sample_weight contains NaN or infinity"),
        (np.r_[np.ones(59), np.inf], "sample_weight contains NaN or infinity"),
        (np.r_[np.ones(7), -1.0, np.ones(52)], "Negative values in sample_weight, the first at 7"),
        (np.zeros(60), "at least one non-zero"),
    ],
)
def test_bad_weights_are_refused_everywhere(method, weights, match):
    with pytest.raises(ValueError, match=match):
        getattr(made("diag"), method)(small(), sample_weight=weights)


@nojit
def test_there_must_be_as_many_rows_that_count_as_components():
    weights = np.zeros(60)
    weights[:2] = 1.0
    with pytest.raises(ValueError, match=r"n_components = 3, n_samples = 2"):
        GaussianMixture(3).fit(small(), sample_weight=weights)


@nojit
def test_given_weights_are_neither_kept_nor_changed():
    weights = np.ones(60)
    model = fitted().fit(small(), sample_weight=weights)
    weights[:] = 7.0
    assert all(value is not weights for value in vars(model).values())
    ours = np.full(60, 2.0)
    model.fit(small(), sample_weight=ours)
    assert_array_equal(ours, 2.0)
    assert ours.flags.writeable


# --- densities and distances ---------------------------------------------------------------------


@nojit
@each_type
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_densities_and_distances_are_the_oracles(kind, offset):
    X, truth = small(), known(kind)
    X, truth = X + offset, truth._replace(means=truth.means + offset)
    model = GaussianMixture.from_parameters(*truth[:3], covariance_type=kind)
    tolerance = {"rtol": 1e-11 * (1 + offset), "atol": 1e-11 * (1 + offset)}
    logs = oracle.weighted_log_densities(X, truth)
    assert_allclose(model.component_log_density(X), logs - np.log(truth.weights), **tolerance)
    assert_allclose(model.mahalanobis(X), oracle.mahalanobis(X, truth), **tolerance)
    assert_allclose(model.score_samples(X), oracle.score_samples(X, truth), **tolerance)
    assert_allclose(model.predict_proba(X), oracle.responsibilities(X, truth), **tolerance)
    assert_array_equal(model.predict(X), logs.argmax(axis=1))


@nojit
@each_type
def test_components_without_weight_have_densities_and_distances(kind):
    _, means, covariances, _ = truth = known(kind)
    model = GaussianMixture.from_parameters([1.0, 0.0], means, covariances, covariance_type=kind)
    X = small()
    assert_allclose(model.mahalanobis(X), oracle.mahalanobis(X, truth), rtol=1e-11)
    expected = oracle.weighted_log_densities(X, truth) - np.log(truth.weights)
    assert_allclose(model.component_log_density(X), expected, rtol=1e-11)
    assert_array_equal(model.predict(X), 0)


@nojit
@each_type
def test_the_distance_of_a_mean_from_itself_is_zero(kind):
    distances = np.diag(made(kind).mahalanobis(known(kind).means))
    # tied rows are whitened first: what is left is rounding
    assert_allclose(distances, 0.0, atol=1e-14)
    assert not np.signbit(distances).any()


@nojit
@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "score_samples", "score", "bic", "aic", "icl", "mahalanobis",
     "component_log_density"],
)  # fmt: skip
def test_inference_checks_its_rows(method):
    ask = getattr(made("full"), method)
    X = small()
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        ask(X[:, :2])
    X[41, 2] = np.nan
    with pytest.raises(ValueError, match=r"Input X contains NaN(.|\n)*row 41, column 2"):
        ask(X)
    with pytest.raises(NotFittedError, match="This GaussianMixture instance is not fitted yet"):
        getattr(GaussianMixture(2), method)(small())


@nojit
def test_saving_asks_for_a_fit(tmp_path):
    with pytest.raises(NotFittedError):
        GaussianMixture().save(tmp_path / "model.npz")


# --- starts --------------------------------------------------------------------------------------


@nojit
@each_type
def test_no_iterations_keep_the_given_start(kind):
    truth = known(kind)
    model = GaussianMixture(**oracle.start_of(truth), max_iter=0).fit(small())
    assert_array_equal(model.weights_, truth.weights)
    assert_array_equal(model.means_, truth.means)
    assert_allclose(model.covariances_, truth.covariances, rtol=1e-10, atol=1e-12)
    assert (model.n_iter_, model.converged_, model.lower_bounds_) == (0, False, [])


@nojit
@each_type
@pytest.mark.parametrize("given", [("precisions_init",), ("weights_init", "means_init"), ()])
def test_parts_of_a_start_can_be_given(kind, given):
    X, start = small(), oracle.start_of(oracle.parameters_of(fitted(kind)))
    params = {"covariance_type": kind, "random_state": 1, "max_iter": 2, "tol": 0}
    params |= {name: start[name] for name in given}
    before = {name: start[name].copy() for name in given}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = GaussianMixture(2, **params).fit(X)
        theirs = SklearnGaussianMixture(2, **params).fit(X)
    for name in ARRAYS:
        truth = getattr(theirs, name)
        assert_allclose(getattr(ours, name), truth, rtol=1e-7, atol=1e-9 * np.abs(truth).max())
    for name, value in before.items():
        assert_array_equal(getattr(ours, name), value)


@nojit
@each_type
def test_warm_start_goes_on(kind):
    X = small()
    params = {"covariance_type": kind, "random_state": 0, "tol": 0, "reg_covar": 1e-4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = GaussianMixture(2, max_iter=4, **params).fit(X)
        steps = GaussianMixture(2, max_iter=2, warm_start=True, **params).fit(X).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert_allclose(getattr(steps, name), getattr(whole, name), rtol=1e-9, atol=1e-12)
    assert steps.n_iter_ == 2
    assert steps.lower_bounds_ == pytest.approx(whole.lower_bounds_[2:])


@nojit
@pytest.mark.parametrize(
    ("params", "columns"), [({"n_components": 3}, 3), ({"covariance_type": "diag"}, 3), ({}, 2)]
)
def test_warm_start_needs_the_same_shapes(params, columns):
    model = fitted(warm_start=True).set_params(**params)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="warm_start=True cannot go on from"):
        model.fit(small()[:, :columns])
    assert vars(model) == before


@nojit
def test_several_starts_keep_the_best():
    X = faithful()[::3]
    model = GaussianMixture(3, n_init=4, init_params="random_from_data", random_state=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = model.fit(X)
        stream = np.random.RandomState(2)
        bounds = [
            clone(model).set_params(n_init=1, random_state=stream).fit(X).lower_bound_
            for _ in range(4)
        ]
    assert best.lower_bound_ == max(bounds)


# --- what a fit leaves behind --------------------------------------------------------------------


@nojit
@pytest.mark.filterwarnings("ignore::fastgmm.FitWarning")  # rounded numbers fit as they may
@pytest.mark.parametrize("fit_dtype", [np.float32, np.float64, np.int64, np.bool_, np.float16])
def test_dtypes(fit_dtype):
    X = np.round(small() * 2).astype(fit_dtype)
    if fit_dtype == np.bool_:
        X = np.random.RandomState(0).uniform(size=(60, 3)) < [0.2, 0.5, 0.7]
    model = fitted(X=X, reg_covar=1e-2)
    expected = np.float32 if fit_dtype == np.float32 else np.float64
    for name in ARRAYS:
        assert getattr(model, name).dtype == expected
        assert getattr(model, name).flags.c_contiguous
    assert model.lower_bound_.dtype == expected
    assert all(bound.dtype == expected for bound in model.lower_bounds_)
    assert type(model.converged_) is bool
    assert type(model.n_iter_) is int
    for dtype in (np.float32, np.float64):
        rows = X.astype(dtype)
        for method in (
            model.predict_proba, model.score_samples, model.mahalanobis, model.component_log_density
        ):  # fmt: skip
            assert method(rows).dtype == np.result_type(expected, dtype)
        assert model.predict(rows).dtype == np.int64
    assert model.sample(3)[0].dtype == np.float64


@nojit
def test_float32_fits_like_the_same_values_in_float64():
    X = small().astype(np.float32)
    narrow, wide = fitted(X=X), fitted(X=X.astype(np.float64))
    assert narrow.n_iter_ == wide.n_iter_
    for name in ("weights_", "means_", "covariances_"):
        assert_allclose(getattr(narrow, name), getattr(wide, name), rtol=1e-6, atol=1e-7)


@nojit
def test_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(small(), columns=["a", "b", "c"])
    model = fitted(X=frame)
    assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    plain = fitted()
    assert_array_equal(model.means_, plain.means_)
    assert_array_equal(model.predict(frame), plain.predict(small()))
    assert_array_equal(model.to_sklearn().feature_names_in_, ["a", "b", "c"])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(small())
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c"]])
    model.fit(small())
    assert not hasattr(model, "feature_names_in_")


@nojit
@each_type
def test_pickles_and_clones(kind):
    X, model = small(), fitted(kind)
    copy = pickle.loads(pickle.dumps(model))
    assert vars(copy).keys() == vars(model).keys()
    for name in FITTED:
        assert_array_equal(getattr(copy, name), getattr(model, name))
    assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "means_")


BAD_FITS = [
    ("a row", {}, lambda X: (np.where(np.arange(60)[:, None] == 3, np.nan, X), None), "NaN"),
    ("weights", {}, lambda X: (X, -np.ones(60)), "Negative"),
    ("weights' shape", {"warm_start": True}, lambda X: (X[:, :2], np.ones(2)), "sample_weight"),
    ("a parameter", {"tol": -1.0}, lambda X: (X, None), "tol"),
    ("a start", {"means_init": [[0.0]]}, lambda X: (X, None), "'means' should have the shape"),
    ("a collapse", {"reg_covar": 0.0}, lambda X: (0 * X, None), "ill-defined"),
    ("too few rows", {"n_components": 61}, lambda X: (X, None), "n_samples >= n_components"),
]


@nojit
@pytest.mark.filterwarnings("ignore:Number of distinct")
@pytest.mark.parametrize("fitted_before", [False, True])
@pytest.mark.parametrize(
    ("params", "change", "match"), [case[1:] for case in BAD_FITS], ids=[c[0] for c in BAD_FITS]
)
def test_a_fit_that_fails_changes_nothing(fitted_before, params, change, match):
    model = fitted() if fitted_before else GaussianMixture(2, random_state=0)
    model.set_params(**params)
    before = dict(vars(model))
    X, weights = change(small())
    with pytest.raises(ValueError, match=match):
        model.fit(X, sample_weight=weights)
    assert list(vars(model)) == list(before)
    assert all(vars(model)[name] is value for name, value in before.items())


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_means_of_any_layout_begin_a_fit(kind):
    X = np.random.RandomState(0).standard_normal((60, 3))
    model = GaussianMixture(2, covariance_type=kind, means_init=X[:2], random_state=0, tol=0.1)
    expected = model.fit(X).means_
    model.set_params(means_init=np.asfortranarray(X[:2])).fit(X)
    assert_array_equal(model.means_, expected)
    model.means_ = np.asfortranarray(expected)
    assert model.predict(X).shape == (60,)
