"""BayesianGaussianMixture: against the formulas, scikit-learn, and what the first class can do."""

import functools
import warnings

import numpy as np
import oracle
import oracle_bayesian as truth
import pytest
from datasets import faithful, iris, two_clusters
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture as SklearnMixture
from small_models import each_type, small

import fastgmm
from fastgmm import (
    BayesianGaussianMixture,
    FitWarning,
    GaussianMixtureOutlierDetector,
    History,
)
from fastgmm._pruning import EMPasses

PROCESS, DISTRIBUTION = "dirichlet_process", "dirichlet_distribution"
each_prior = pytest.mark.parametrize("prior", [PROCESS, DISTRIBUTION])
POSTERIOR = ("means_", "covariances_", "mean_precision_", "degrees_of_freedom_")


def fitted(X=None, kind="full", prior=PROCESS, sample_weight=None, **params):
    params = {"n_components": 3, "random_state": 0, "n_threads": 2, **params}
    model = BayesianGaussianMixture(
        covariance_type=kind, weight_concentration_prior_type=prior, **params
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(small() if X is None else X, sample_weight=sample_weight)


def expected(X, kind, prior, n_iter, k=3, sample_weight=None, **changed):
    """The oracle's posterior and bounds, from the random responsibilities of seed 0."""
    resp = oracle.initial_responsibilities(np.asarray(X, float), k, "random", 0)
    priors = truth.default_priors(X, k, kind, prior == PROCESS, sample_weight)
    priors = priors._replace(**changed)
    return truth.fit(X, resp, priors, kind, n_iter, sample_weight=sample_weight)


def assert_posterior(model, posterior, rtol=1e-9):
    values = (posterior.means, posterior.covariances, posterior.beta, posterior.nu)
    for name, value in zip(POSTERIOR, values, strict=True):
        value = np.asarray(value, np.float64)
        size = np.abs(value).max()
        assert_allclose(getattr(model, name), value, rtol=rtol, atol=rtol * size, err_msg=name)
    concentration = np.asarray(posterior.concentration, np.float64)
    assert_allclose(np.asarray(model.weight_concentration_), concentration, rtol=rtol)


@each_type
@each_prior
@pytest.mark.parametrize("weighted", [False, True])
def test_every_iteration_is_the_formulas(kind, prior, weighted):
    X = small()
    weight = np.random.RandomState(1).uniform(0.2, 3.0, len(X)) if weighted else None
    model = fitted(X, kind, prior, weight, init_params="random", max_iter=12, tol=0.0)
    posterior, bounds = expected(X, kind, prior, 12, sample_weight=weight)
    assert_allclose(model.lower_bounds_, bounds, rtol=1e-10)
    assert_posterior(model, posterior)


@each_type
def test_given_priors(kind):
    X = small()
    scale = {"full": np.eye(3), "tied": np.eye(3), "diag": np.ones(3), "spherical": 1.0}[kind]
    given = {"alpha": 0.3, "beta": 2.5, "mean": np.array([5.0, 3.0, 1.0]), "nu": 4.5}
    model = fitted(
        X,
        kind,
        init_params="random",
        max_iter=5,
        tol=0.0,
        weight_concentration_prior=0.3,
        mean_precision_prior=2.5,
        mean_prior=[5, 3, 1],
        degrees_of_freedom_prior=4.5,
        covariance_prior=2.0 * scale,
    )
    posterior, bounds = expected(X, kind, PROCESS, 5, **given, scale=2.0 * scale)
    assert_allclose(model.lower_bounds_, bounds, rtol=1e-10)
    assert_posterior(model, posterior)
    assert_array_equal(model.covariance_prior_, 2.0 * scale)
    assert_array_equal(model.mean_prior_, [5, 3, 1])


@each_type
@each_prior
def test_digits_survive_far_from_the_origin(kind, prior):
    X = small() + 1e6
    model = fitted(X, kind, prior, init_params="random", max_iter=8, tol=0.0)
    posterior, bounds = expected(X.astype(np.longdouble), kind, prior, 8)
    assert_allclose(model.lower_bounds_, bounds, rtol=1e-7)
    assert_posterior(model, posterior, rtol=1e-7)


@each_type
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_components_that_die_do_so_anywhere(offset, kind):
    X, _ = two_clusters(300, 2)
    model = fitted(X + offset, kind, n_components=6, max_iter=300)
    here = fitted(X, kind, n_components=6, max_iter=300)
    assert model.n_effective_components_ == here.n_effective_components_ == 2
    assert_allclose(model.covariances_, here.covariances_, rtol=1e-6, atol=1e-8)
    assert_allclose(model.means_ - offset, here.means_, atol=1e-7)


@each_type
@each_prior
def test_bounds_never_fall(kind, prior):
    for init in ("kmeans", "k-means++", "random", "random_from_data"):
        model = fitted(iris(), kind, prior, n_components=5, init_params=init, tol=1e-6)
        bounds = np.array(model.lower_bounds_)
        assert (np.diff(bounds) >= -1e-11 * np.abs(bounds[1:])).all()


def test_bound_without_the_pairs_that_are_skipped(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=12.0, size=(24, 17))
    X = centres[rng.integers(24, size=30_000)] + rng.standard_normal((30_000, 17))
    params = {"n_components": 24, "max_iter": 6, "tol": 0.0}
    kinds = []
    run = EMPasses.run

    def noted(self, *args):
        stats = run(self, *args)
        kinds.append(self._stage)
        return stats

    monkeypatch.setattr(EMPasses, "run", noted)
    pruned = fitted(X, **params)
    assert "pruned" in kinds
    monkeypatch.setattr("fastgmm._em.EMPasses", functools.partial(EMPasses, prune=False))
    dense = fitted(X, **params)
    assert_allclose(pruned.lower_bounds_, dense.lower_bounds_, rtol=1e-12)
    assert_allclose(pruned.means_, dense.means_, rtol=1e-10, atol=1e-10)


@each_type
def test_float32_rows_are_fitted_in_float64(kind):
    X = iris().astype(np.float32)
    model = fitted(X, kind, init_params="random", max_iter=10, tol=0.0)
    same = fitted(X.astype(np.float64), kind, init_params="random", max_iter=10, tol=0.0)
    assert model.means_.dtype == model.covariances_.dtype == np.float64
    assert_allclose(model.lower_bounds_, same.lower_bounds_, rtol=1e-12)
    assert model.score_samples(X).dtype == np.float64
    assert_allclose(model.covariances_, same.covariances_, rtol=1e-10)


@each_type
def test_inference_is_scikit_learns(kind):
    X = iris()
    model = fitted(X, kind, n_components=4)
    theirs = model.to_sklearn()
    assert type(theirs) is SklearnMixture
    assert_allclose(model.score_samples(X), theirs.score_samples(X), rtol=1e-10)
    assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-8, atol=1e-12)
    assert_array_equal(model.predict(X), theirs.predict(X))
    ours, labels = model.sample(50)
    rows, components = theirs.sample(50)
    assert_allclose(ours, rows, rtol=1e-10)
    assert_array_equal(labels, components)
    back = BayesianGaussianMixture.from_sklearn(theirs)
    for name in (*POSTERIOR, "weight_concentration_", "covariance_prior_", "lower_bounds_"):
        assert_array_equal(getattr(back, name), getattr(model, name))


def test_from_sklearn_and_on(tmp_path):
    X = faithful()
    theirs = SklearnMixture(n_components=3, covariance_type="tied", random_state=0, max_iter=500)
    model = BayesianGaussianMixture.from_sklearn(theirs.fit(X))
    assert_array_equal(model.predict(X), theirs.predict(X))
    model.save(tmp_path / "model.npz")
    assert_array_equal(fastgmm.load(tmp_path / "model.npz").predict(X), theirs.predict(X))
    with pytest.raises(TypeError, match=r"Expected a sklearn\.mixture\.BayesianGaussianMixture"):
        BayesianGaussianMixture.from_sklearn(fastgmm.GaussianMixture())


@each_type
@each_prior
def test_saved_and_loaded(kind, prior, tmp_path):
    model = fitted(None, kind, prior)
    model.save(tmp_path / "model.npz")
    again = fastgmm.load(tmp_path / "model.npz")
    assert type(again) is BayesianGaussianMixture
    names = [name for name in vars(model) if name.endswith("_")]
    assert names == [name for name in vars(again) if name.endswith("_")]
    for name in names:
        assert_array_equal(getattr(again, name), getattr(model, name), strict=True)
        assert type(getattr(again, name)) is type(getattr(model, name))
    assert_array_equal(again.predict_proba(small()), model.predict_proba(small()))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("mean_precision_", np.zeros(3), "mean_precision_ must be above 0"),
        ("degrees_of_freedom_", np.full(3, 2.0), "degrees_of_freedom_ must be above 2"),
        (
            "weight_concentration_",
            np.ones(3),
            r"weight_concentration_ must be finite, of shape \(2",
        ),
        ("covariance_prior_", np.full((3, 3), np.nan), "covariance_prior_ must be finite"),
    ],
)
def test_what_contradicts_itself_is_not_saved(name, value, match, tmp_path):
    model = fitted()
    setattr(model, name, value)
    with pytest.raises(ValueError, match=match):
        model.save(tmp_path / "model.npz")


@each_type
def test_same_bits_for_any_threads(kind):
    X = np.random.default_rng(0).normal(size=(40_001, 3))
    X[::3] += 4.0
    models = [fitted(X, kind, max_iter=3, tol=0.0, n_threads=n) for n in (1, 2, 5)]
    for other in models[1:]:
        for name in (*POSTERIOR, "weights_", "lower_bounds_", "weight_concentration_"):
            assert_array_equal(getattr(other, name), getattr(models[0], name))


@each_type
@each_prior
def test_warm_start_goes_on(kind, prior):
    whole = fitted(None, kind, prior, max_iter=4, tol=0.0)
    steps = fitted(None, kind, prior, max_iter=2, tol=0.0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        steps.fit(small())
    assert steps.lower_bound_ == whole.lower_bound_
    assert_array_equal(steps.covariances_, whole.covariances_)


def test_warm_start_with_another_prior_is_refused():
    model = fitted(warm_start=True)
    before = model.means_
    model.set_params(weight_concentration_prior_type=DISTRIBUTION)
    with pytest.raises(ValueError, match="was changed after the fit"):
        model.fit(small())
    assert model.means_ is before


@pytest.mark.parametrize(
    "params",
    [
        {"degrees_of_freedom_prior": 2.0},
        {"mean_prior": [1.0, 2.0]},
        {"covariance_prior": np.eye(2)},
        {"covariance_prior": -np.eye(3)},
        {"covariance_prior": np.triu(np.ones((3, 3)))},
        {"covariance_type": "tied", "covariance_prior": np.ones(3)},
        {"covariance_type": "diag", "covariance_prior": np.eye(3)},
        {"covariance_type": "diag", "covariance_prior": [1.0, 0.0, 1.0]},
        {"weight_concentration_prior": 0.0},
        {"mean_precision_prior": -1.0},
        {"weight_concentration_prior_type": "process"},
        {"n_components": 61},
    ],
)
def test_errors_are_scikit_learns(params):
    texts = []
    for cls in (SklearnMixture, BayesianGaussianMixture):
        with pytest.raises(ValueError, match=r"\w") as error:
            cls(**params).fit(small())
        texts.append(str(error.value))
    assert texts[0] == texts[1] or "must be a str among" in texts[1]


def test_a_spherical_prior_is_one_number():
    with pytest.raises(ValueError, match=r"'spherical covariance_prior' .* got \(3,\)"):
        fitted(kind="spherical", covariance_prior=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="'full covariance_prior' should have the shape of"):
        fitted(covariance_prior=2.0)


def test_weights_are_numbers_of_rows():
    X = small()
    twice = fitted(np.repeat(X, 2, axis=0), mean_prior=X.mean(axis=0), max_iter=1)
    weighted = fitted(X, mean_prior=X.mean(axis=0), sample_weight=np.full(len(X), 2.0), max_iter=1)
    assert_allclose(weighted.mean_precision_.sum(), twice.mean_precision_.sum(), rtol=1e-12)
    assert_allclose(weighted.covariance_prior_, twice.covariance_prior_, rtol=1e-12)
    with pytest.raises(ValueError, match=r"weights sum to 0\.6, and each is a number of rows"):
        fitted(X, sample_weight=np.full(len(X), 0.01))
    fitted(
        X,
        sample_weight=np.full(len(X), 0.01),
        mean_prior=X.mean(axis=0),
        covariance_prior=np.eye(3),
    )


def test_components_may_die_without_a_warning_but_columns_may_not():
    X, _ = two_clusters(200, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(X, n_components=8, max_iter=500)
    assert model.converged_
    assert model.n_effective_components_ == 2
    with pytest.warns(FitWarning, match="Column 2 is constant: .* the lower bound depends on it"):
        fitted(np.column_stack([X, np.ones(len(X))]), n_components=2)


def test_start_from_a_sample_stands_for_all_rows():
    X = np.random.default_rng(0).normal(size=(1000, 2))
    for init in ("kmeans", "random"):
        start = fitted(X, init_params=init, init_size=100, max_iter=0)
        assert_allclose((start.mean_precision_ - 1.0).sum(), 1000, rtol=1e-12)


def test_history_sees_the_bounds():
    history = History()
    model = BayesianGaussianMixture(n_components=2, random_state=0).set_callbacks(history)
    model.fit(iris())
    assert_array_equal(history.bounds, model.lower_bounds_)
    assert history.records[-1].means is not model.means_
    assert_array_equal(history.records[-1].means, model.means_)


def test_callbacks_may_ask_the_model_at_any_time():
    class Asking:
        scores = ()

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            if fitted_estimator is not None:
                self.scores += (fitted_estimator.score(X),)

        def teardown(self, estimator, context):
            pass

    asking = Asking()
    model = BayesianGaussianMixture(n_components=2, random_state=0).set_callbacks(asking)
    model.fit(iris())
    assert len(asking.scores) == model.n_iter_ + 1
    assert asking.scores[-1] == model.score(iris())


def test_no_criteria_that_are_not_defined():
    for name in ("aic", "bic", "icl", "from_parameters"):
        assert not hasattr(BayesianGaussianMixture, name)


@each_type
def test_detects_outliers(kind):
    X = faithful()
    model = fitted(X, kind, max_iter=300)
    make = GaussianMixtureOutlierDetector.from_mixture
    detector = make(model, X, contamination=0.05)
    assert_array_equal(detector.score_samples(X), model.score_samples(X))
    assert np.count_nonzero(detector.predict(X) < 0) == int(0.05 * len(X))
    own = model.predict(X), np.arange(len(X))
    density = make(model, rule="component", log_density=-9.0).score_samples(X)
    assert_allclose(density, model.component_log_density(X)[own[1], own[0]], rtol=1e-9)
    tails = make(model, rule="component", false_alarm=0.01)
    squares = model.mahalanobis(X)[own[1], own[0]] ** 2
    assert_allclose(tails.score_samples(X), stats.chi2(2).logsf(squares), rtol=1e-7, atol=1e-9)
    assert tails.scorer()(X[0]) == pytest.approx(tails.decision_function(X[:1])[0])


def test_is_drawn():
    pytest.importorskip("matplotlib")
    from fastgmm import plot

    history = History()
    model = BayesianGaussianMixture(n_components=5, max_iter=300, random_state=0)
    model.set_callbacks(history).fit(faithful())
    plot.clusters(model, faithful())
    plot.density(model, faithful())
    plot.em(history, faithful())
