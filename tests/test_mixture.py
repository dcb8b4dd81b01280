"""The estimator's own methods and promises; what it shares with scikit-learn is in conformance."""

import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import oracle
import pytest
from datasets import faithful, iris
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from fastgmm import FitWarning, GaussianMixture
from fastgmm._kernels.options import JIT_DISABLED

TYPES = oracle.COVARIANCE_TYPES
ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
FITTED = (*ARRAYS, "converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_")

nojit = pytest.mark.nojit
each_type = pytest.mark.parametrize("kind", TYPES)


def small():
    """60 flowers, 3 of the lengths: quick even uncompiled."""
    return iris()[::5, :3].repeat(2, axis=0) + 0.01 * np.arange(60)[:, None]


def fitted(kind="full", k=2, X=None, **params):
    params = {"random_state": 0, "tol": 1e-2, "reg_covar": 1e-4, **params}
    return GaussianMixture(k, covariance_type=kind, **params).fit(small() if X is None else X)


def known(kind):
    """Parameters of two components in three dimensions."""
    matrices = np.array([np.diag([1.0, 2.0, 0.5]) + 0.1, np.diag([0.3, 1.0, 4.0]) - 0.05])
    means = np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
    return oracle.Parameters(np.array([0.3, 0.7]), means, oracle.compact(matrices, kind), kind)


def made(kind, **params):
    weights, means, covariances, _ = known(kind)
    return GaussianMixture.from_parameters(
        weights, means, covariances, covariance_type=kind, **params
    )


def weights_for(X):
    weights = np.random.RandomState(0).randint(0, 4, len(X)).astype(float)
    return weights


# --- criteria and weights ----------------------------------------------------------------------


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
    for method in (model.score, model.aic, model.bic, model.icl):
        assert type(method(X)) is float


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


# --- densities and distances -------------------------------------------------------------------


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


# --- models from elsewhere ---------------------------------------------------------------------


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
@pytest.mark.parametrize("model", [None, 3, GaussianMixture(2), {"means_": 1}])
def test_only_scikit_learn_mixtures_convert(model):
    with pytest.raises(TypeError, match=r"Expected a sklearn.mixture.GaussianMixture, got"):
        GaussianMixture.from_sklearn(model)


# --- samples -------------------------------------------------------------------------------------


@nojit
@each_type
@pytest.mark.parametrize("n_samples", [1, 7, 200])
def test_samples_are_scikit_learns_draws(kind, n_samples):
    ours = made(kind, random_state=5)
    theirs = ours.to_sklearn()
    for one, other in zip(ours.sample(n_samples), theirs.sample(n_samples), strict=True):
        assert_array_equal(one, other)
        assert one.dtype == other.dtype
    given = made(kind, random_state=99)
    for state in (5, np.random.RandomState(5)):
        for one, other in zip(
            given.sample(n_samples, random_state=state), ours.sample(n_samples), strict=True
        ):
            assert_array_equal(one, other)


@nojit
def test_samples_of_a_stream_go_on():
    stream = np.random.RandomState(0)
    ours = made("full", random_state=stream)
    first, second = ours.sample(5)[0], ours.sample(5)[0]
    theirs = ours.to_sklearn().set_params(random_state=np.random.RandomState(0))
    assert_array_equal(first, theirs.sample(5)[0])
    assert_array_equal(second, theirs.sample(5)[0])


@nojit
@each_type
def test_a_generator_draws_in_the_same_order(kind):
    truth = known(kind)
    matrices = oracle.covariance_matrices(truth)
    X, y = made(kind).sample(50, random_state=np.random.default_rng(3))
    rng = np.random.default_rng(3)
    counts = rng.multinomial(50, truth.weights)
    assert_array_equal(y, np.repeat([0, 1], counts))
    for k, count in enumerate(counts):
        if kind in ("full", "tied"):
            expected = rng.multivariate_normal(truth.means[k], matrices[k], count)
        else:
            deviations = np.sqrt(np.diag(matrices[k]))
            expected = truth.means[k] + rng.standard_normal((count, 3)) * deviations
        assert_array_equal(X[y == k], expected)


@nojit
@pytest.mark.parametrize("n_samples", [0, -3])
def test_samples_of_no_rows_are_refused(n_samples):
    with pytest.raises(ValueError, match="Invalid value for 'n_samples'"):
        made("full").sample(n_samples)
    with pytest.raises(NotFittedError):
        GaussianMixture().sample(n_samples)


def test_samples_have_the_moments_of_the_mixture():
    truth, n = known("full"), 100_000
    X, y = made("full").sample(n, random_state=np.random.default_rng(0))
    assert_allclose(np.bincount(y) / n, truth.weights, atol=5 * 0.5 / np.sqrt(n))
    for k in range(2):
        rows = X[y == k]
        spread = np.sqrt(np.diag(truth.covariances[k]) / len(rows))
        assert (np.abs(rows.mean(axis=0) - truth.means[k]) < 5 * spread).all()
        assert_allclose(np.cov(rows.T), truth.covariances[k], atol=0.1)


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


# --- warnings ------------------------------------------------------------------------------------


def warnings_of(model, X, **fit_params):
    """Fit, and return the texts of the FitWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, **fit_params)
    own = [w for w in caught if issubclass(w.category, FitWarning)]
    others = [w for w in caught if w not in own]
    assert all(issubclass(w.category, ConvergenceWarning) for w in others)
    assert {w.filename for w in caught} <= {__file__}  # who called fit is to blame
    return [str(w.message) for w in own]


@nojit
@each_type
def test_a_nearly_empty_component_is_named_once(kind):
    X = np.vstack([np.random.RandomState(0).standard_normal((40, 2)), [[50.0, 50.0]]])
    start = {"means_init": [[0.0, 0.0], [50.0, 50.0]], "weights_init": [0.9, 0.1]}
    model = GaussianMixture(2, covariance_type=kind, **start, reg_covar=1e-2, random_state=0)
    texts = warnings_of(model, X)
    assert len(texts) == 1
    assert texts[0].startswith("Component 1 ended nearly empty: fewer than ")
    assert "Try" in texts[0]


@nojit
@each_type
def test_constant_columns_are_named_once(kind):
    X = np.insert(small(), [1, 3], 4.5, axis=1)  # columns 1 and 4
    texts = warnings_of(fitted(kind).set_params(tol=1e-2), X)
    assert [text for text in texts if "constant" in text] == texts[:1]
    assert texts[0].startswith("Columns 1, 4 are constant")
    # a variance that one value for all features hides is nobody's to hold up
    assert len(texts) == 1


@nojit
def test_a_column_constant_in_the_rows_that_count():
    X, weights = small(), np.ones(60)
    X[:, 2] = 1.0
    X[:5, 2] = np.arange(5.0)
    weights[:5] = 0.0
    model = GaussianMixture(1, reg_covar=1e-2, random_state=0)
    texts = warnings_of(model, X, sample_weight=weights)
    assert len(texts) == 1
    assert texts[0].startswith("Column 2 is constant")
    assert warnings_of(model, X) == []


@nojit
@each_type
def test_components_held_up_by_reg_covar_are_named_once(kind):
    X = 1e-4 * small()
    model = GaussianMixture(2, covariance_type=kind, random_state=0, reg_covar=1e-4)
    texts = warnings_of(model, X)
    assert len(texts) == 1
    assert texts[0].startswith("Components 0, 1 held up by reg_covar=0.0001 alone")


@nojit
@each_type
def test_a_falling_likelihood_is_reported_once(kind):
    X = small()
    best = fitted(kind, tol=1e-4, reg_covar=1e-6)
    start = oracle.start_of(oracle.parameters_of(best))
    model = GaussianMixture(**start, reg_covar=1.0, tol=1e9)
    texts = warnings_of(model, X)
    fall = model.lower_bounds_[0] - model.lower_bounds_[1]
    assert fall > 0
    falls = [text for text in texts if "decreased" in text]
    assert len(falls) == 1
    assert f"by up to {fall:.3g} a row" in falls[0]


@each_type
@pytest.mark.parametrize("data", [iris, faithful])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sensible_fits_are_silent(kind, data, k, dtype):
    X = data().astype(dtype)
    for random_state in range(3):
        model = GaussianMixture(k, covariance_type=kind, random_state=random_state)
        assert warnings_of(model, X) == []
        weights = np.full(len(X), 1e-3)
        assert warnings_of(model, X, sample_weight=weights) == []


@nojit
def test_without_iterations_there_is_nothing_to_warn_about():
    X = np.insert(small(), 1, 4.5, axis=1)
    assert warnings_of(GaussianMixture(2, max_iter=0, random_state=0), X) == []


@nojit
def test_fit_warning_is_a_user_warning_of_its_own():
    assert issubclass(FitWarning, UserWarning)
    assert not issubclass(FitWarning, ConvergenceWarning)
