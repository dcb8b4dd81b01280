"""The outlier detector: scores against scipy, thresholds against numpy, promises kept on data."""

import copy
import pickle
import sys
import threading
import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_models import each_type, known, made, small

from fastgmm import FitWarning, GaussianMixture, GaussianMixtureOutlierDetector
from fastgmm._chi_square import log_survival

nojit = pytest.mark.nojit
each_rule = pytest.mark.parametrize(
    "options",
    [
        {"rule": "mixture", "log_density": -6.0},
        {"rule": "component", "log_density": -6.0},
        {"rule": "component", "false_alarm": 0.05},
    ],
    ids=["mixture", "component", "p-value"],
)


def detector(kind="full", **options):
    return GaussianMixtureOutlierDetector.from_mixture(made(kind), **options)


def rows(n=200, spread=3.0, seed=0):
    """Near and far from the components of the known mixture, and between them."""
    rng = np.random.RandomState(seed)
    return rng.normal(scale=spread, size=(n, 3)) + rng.uniform(-1, 4, size=(n, 1))


def by_hand(X, parameters, options):
    """Scores from densities of scipy, one component after the other."""
    if options["rule"] == "mixture":
        return oracle.score_samples(X, parameters)
    own = oracle.weighted_log_densities(X, parameters).argmax(axis=1)
    each = np.arange(len(X))
    if "false_alarm" not in options:
        return oracle.log_densities(X, parameters)[each, own]
    return stats.chi2(X.shape[1]).logsf(oracle.mahalanobis(X, parameters)[each, own] ** 2)


# --- scores ---------------------------------------------------------------------------------------


@nojit
@each_rule
@each_type
def test_scores_are_the_oracles(kind, options):
    X, model = rows(), detector(kind, **options)
    expected = by_hand(X, known(kind), options)
    offset = np.log(0.05) if "false_alarm" in options else -6.0
    assert model.offset_ == pytest.approx(offset, rel=1e-15)
    assert_allclose(model.score_samples(X), expected, rtol=1e-9, atol=1e-12)
    assert_allclose(model.decision_function(X), expected - offset, rtol=1e-9, atol=1e-10)
    labels = model.predict(X)
    assert_array_equal(labels, np.where(expected < offset, -1, 1))
    assert labels.dtype == np.int64
    assert {-1, 1} == set(labels)


def exact_log_survival(square, degrees):
    """Sums of positive terms, from one or two degrees of freedom upwards; DLMF 8.8.2, 8.4.6."""
    x, odd = square / 2, degrees % 2
    a = np.arange(0, degrees // 2) + odd / 2
    terms = a * np.log(x) - x - special.gammaln(a + 1)
    if odd:
        terms = np.append(terms, np.log(2) + special.log_ndtr(-np.sqrt(square)))
    return special.logsumexp(terms)


@nojit
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 201, 1000, 5001])
def test_log_survival_is_exact_however_far_out(degrees):
    near = degrees + np.sqrt(2 * degrees) * np.array([-0.9, -0.5, 0.0, 1.0, 5.0, 15.0, 30.0])
    far = degrees + np.geomspace(200, 1e6, 60)
    squares = np.concatenate([near[near > 0], far, [1e4 + degrees, 1e12]])
    expected = [exact_log_survival(square, degrees) for square in squares]
    found = log_survival(squares, degrees)
    assert_allclose(found, expected, rtol=1e-11)
    one_by_one = [log_survival(squares[i : i + 1], degrees)[0] for i in range(len(squares))]
    assert_allclose(one_by_one, found, rtol=1e-14)


@nojit
def test_log_survival_at_the_ends():
    assert_array_equal(log_survival(np.array([0.0, -1e-12, np.inf]), 3), [0.0, 0.0, -np.inf])
    assert log_survival(np.array([np.inf]), 3) == -np.inf
    assert np.isnan(log_survival(np.array([np.nan]), 3)).all()
    assert log_survival(np.array([1e4]), 2) == pytest.approx(-5e3, rel=1e-15)


@nojit
@each_rule
def test_rows_out_of_reach_score_minus_infinity(options):
    model = detector("diag", **options)
    with np.errstate(all="ignore"):
        assert_array_equal(model.score_samples([[1e200, 0, 0]]), [-np.inf])
        assert_array_equal(model.predict([[1e200, 0, 0]]), [-1])
        assert model.scorer()([1e200, 0.0, 0.0]) == -np.inf


@nojit
def test_component_without_weight_owns_nothing():
    truth = known("full")
    dead = GaussianMixture.from_parameters([1.0, 0.0], truth.means, truth.covariances)
    model = GaussianMixtureOutlierDetector.from_mixture(dead, rule="component", log_density=-9)
    alone = stats.multivariate_normal(truth.means[0], truth.covariances[0])
    assert_allclose(model.score_samples(rows()), alone.logpdf(rows()), rtol=1e-9)
    with np.errstate(all="ignore"):
        assert_array_equal(model.score_samples([[1e200, 0, 0]]), [-np.inf])


def test_rules_differ_where_a_component_is_small():
    model = GaussianMixture.from_parameters([0.999, 0.001], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
    make = GaussianMixtureOutlierDetector.from_mixture
    assert make(model, rule="mixture", log_density=-5).predict([[9.0]]) == -1
    assert make(model, rule="component", log_density=-5).predict([[9.0]]) == 1


# --- thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1, 0.1 + 0.2, 1 / 3, 0.5])
@pytest.mark.parametrize("rule", ["mixture", "component"])
@pytest.mark.parametrize("n", [60, 299, 1000])
def test_share_of_training_outliers(n, rule, share):
    X = rows(n)
    labels = GaussianMixtureOutlierDetector(rule=rule, contamination=share).fit_predict(X)
    assert np.count_nonzero(labels == -1) == int(share * n * (1 + 1e-12))


def test_default_share_is_a_tenth():
    labels = GaussianMixtureOutlierDetector().fit_predict(rows(150))
    assert np.count_nonzero(labels == -1) == 15


@pytest.mark.parametrize("share", [0.0371, 0.1234, 0.4567])
@pytest.mark.parametrize("weighted", [False, True])
def test_threshold_is_numpys_inverted_distribution_function(weighted, share):
    X = rows(311)
    weights = np.random.RandomState(1).uniform(0, 3, len(X)) if weighted else None
    if weighted:
        weights[::7] = 0.0
    model = GaussianMixtureOutlierDetector(contamination=share).fit(X, sample_weight=weights)
    scores = model.score_samples(X)
    upper = np.quantile(-scores, 1 - share, method="inverted_cdf", weights=weights)
    assert model.offset_ == -upper
    w = np.ones(len(X)) if weights is None else weights
    outliers = model.predict(X) == -1
    assert w[outliers].sum() <= share * w.sum()
    assert w[outliers].sum() + w[scores == model.offset_].sum() > share * w.sum()


def test_tied_rows_are_on_one_side():
    X = np.repeat([[0.0], [1.0], [3.0], [8.0]], [40, 40, 15, 5], axis=0)

    def outliers(share):
        labels = GaussianMixtureOutlierDetector(contamination=share).fit_predict(X)
        return np.unique(X[labels == -1])

    assert_array_equal(outliers(0.049), [])
    assert_array_equal(outliers(0.05), [8.0])  # 5 of 100 rows, all of the same score
    assert_array_equal(outliers(0.19), [8.0])
    assert_array_equal(outliers(0.2), [3.0, 8.0])


def test_row_on_the_threshold_is_normal():
    X = rows(50)
    model = GaussianMixtureOutlierDetector(contamination=0.1).fit(X)
    on = model.score_samples(X) == model.offset_
    assert on.sum() == 1
    assert_array_equal(model.decision_function(X)[on], [0.0])
    assert_array_equal(model.predict(X)[on], [1])


def test_constant_rows_have_no_outliers():
    X = np.full((30, 2), 3.0)
    with pytest.warns(FitWarning, match="constant"):
        model = GaussianMixtureOutlierDetector(contamination=0.2).fit(X)
    assert_array_equal(model.predict(X), np.ones(30))
    assert_array_equal(model.predict([[3.0, 4.0]]), [-1])


@pytest.mark.parametrize(
    "options", [{}, {"rule": "component"}, {"rule": "component", "false_alarm": 0.1}]
)
def test_weights_are_repetitions(options):
    X, weights = rows(80), np.random.RandomState(0).randint(0, 4, 80)
    repeated = np.repeat(X, weights, axis=0)
    one = GaussianMixtureOutlierDetector(**options).fit(X, sample_weight=weights)
    other = GaussianMixtureOutlierDetector(**options).fit(repeated)
    assert_allclose(one.offset_, other.offset_, rtol=1e-10)
    assert_allclose(one.decision_function(X), other.decision_function(X), rtol=1e-8, atol=1e-9)
    assert_array_equal(one.predict(X), other.predict(X))
    labels = GaussianMixtureOutlierDetector(**options).fit_predict(X, sample_weight=weights)
    assert_array_equal(labels, one.predict(X))


# --- p-values -------------------------------------------------------------------------------------


@each_type
def test_false_alarms_are_as_many_as_promised(kind):
    mixture = known(kind)
    covariance = oracle.covariance_matrices(mixture)[0]
    if kind == "spherical":
        covariance = covariance[0, 0] * np.eye(3)
    X = np.random.RandomState(3).multivariate_normal(mixture.means[0], covariance, 40_000)
    model = GaussianMixtureOutlierDetector(
        covariance_type=kind, rule="component", false_alarm=0.01
    ).fit(X[:20_000])
    logs = model.score_samples(X[20_000:])
    assert stats.kstest(np.exp(logs), "uniform").pvalue > 0.01
    alarms = np.count_nonzero(model.predict(X[20_000:]) == -1)
    assert stats.binomtest(alarms, 20_000, 0.01).pvalue > 0.01
    # the density orders rows of one component in the same way
    density = model.mixture_.score_samples(X[:500])
    assert_array_equal(np.argsort(density), np.argsort(model.score_samples(X[:500])))


# --- explanations ---------------------------------------------------------------------------------


@nojit
@each_type
def test_explanation_adds_up(kind):
    X, truth = rows(40), known(kind)
    model = detector(kind, rule="component", log_density=-6.0)
    found = model.explain(X)
    own = oracle.weighted_log_densities(X, truth).argmax(axis=1)
    distance = oracle.mahalanobis(X, truth)[np.arange(40), own]
    precision = np.linalg.inv(oracle.covariance_matrices(truth))[own]
    z = X - truth.means[own]
    assert_array_equal(found.component, own)
    assert_allclose(found.distance, distance, rtol=1e-9)
    assert_allclose(found.contributions, z * np.einsum("nij,nj->ni", precision, z), rtol=1e-8)
    assert_allclose(found.contributions.sum(axis=1), distance**2, rtol=1e-9)
    assert_array_equal(found.decision, model.decision_function(X))
    assert len(found) == 40


@nojit
def test_explanation_reads():
    model = detector("diag", log_density=-6.0)
    found = model.explain([0.0, 1.0, 9.0])
    head, line = str(found).splitlines()
    assert head.split() == [
        "row", "decision", "component", "distance", "largest", "contributions", "to", "distance²"
    ]  # fmt: skip
    assert line.split()[0] == "0"
    largest = found.contributions[0].argmax()
    assert f"  x{largest} {found.contributions[0, largest]:.4g}, " in line
    assert found.feature_names == ("x0", "x1", "x2")


def test_explanation_of_a_data_frame():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(faithful(), columns=["duration", "waiting"])
    model = GaussianMixtureOutlierDetector(2, random_state=0).fit(X)
    frame = model.explain(X[:5]).to_frame()
    assert list(frame) == ["decision", "component", "distance", "duration", "waiting"]
    assert_allclose(frame["duration"] + frame["waiting"], frame["distance"] ** 2)
    assert "waiting" in str(model.explain(X[:5]))
    assert_array_equal(model.feature_names_in_, ["duration", "waiting"])
    assert_array_equal(model.fit(X.to_numpy()).explain(X.to_numpy()).feature_names, ["x0", "x1"])
    assert not hasattr(model, "feature_names_in_")


@nojit
def test_frame_without_pandas(monkeypatch):
    explanation = detector(log_density=-6.0).explain(small()[0])  # scikit-learn may use pandas
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        explanation.to_frame()


# --- live data ------------------------------------------------------------------------------------


@nojit
@each_rule
@each_type
def test_scorer_is_the_decision_function(kind, options):
    X, model = rows(120), detector(kind, **options)
    expected, score = model.decision_function(X), model.scorer()
    batch = score(X)
    assert batch.dtype == np.float64
    assert_array_equal(batch, expected)
    singles = [score(row) for row in X]
    assert all(type(value) is float for value in singles)
    assert_array_equal(singles, expected)


@nojit
@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        np.ndarray.tolist,
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f8"),
        lambda X: np.frombuffer(b" " + X.tobytes(), offset=1).reshape(X.shape),  # unaligned
    ],
    ids=["fortran", "list", "strides", "endian", "unaligned"],
)
def test_scorer_reads_any_layout(change):
    X, model = rows(10), detector(log_density=-6.0)
    assert_array_equal(model.scorer()(change(X)), model.decision_function(X))
    assert_array_equal(model.scorer()(change(X)[0]), model.decision_function(X)[0])


@nojit
def test_scorer_leaves_rows_alone():
    X = rows(5)
    before = X.copy()
    detector(log_density=-6.0).scorer()(X)
    assert_array_equal(X, before)
    assert X.flags.writeable
    assert detector(log_density=-6.0).scorer()(X[:0]).shape == (0,)


@nojit
@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
def test_scorer_refuses_what_is_not_finite(value, name):
    X, score = rows(4), detector(log_density=-6.0).scorer()
    X[2, 1] = value
    with pytest.raises(ValueError, match=f"{name}: the first is in row 2, column 1"):
        score(X)
    with pytest.raises(ValueError, match=f"{name}: the first is in row 0, column 1"):
        score(X[2])


@nojit
@pytest.mark.parametrize("row", ["a", {"x": 1.0}, [[1.0, 2.0, 3.0], [4.0]]])
def test_scorer_refuses_what_is_no_row_of_numbers(row):
    with pytest.raises(ValueError, match="row of 3 numbers"):
        detector(log_density=-6.0).scorer()(row)


@nojit
@pytest.mark.parametrize("shape", [(), (2,), (4,), (5, 2), (3, 1), (2, 2, 3), (0,)])
def test_scorer_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="row of 3 features"):
        detector(log_density=-6.0).scorer()(np.zeros(shape))


def test_scorer_serves_several_threads():
    X, model = rows(2000), detector(rule="component", false_alarm=0.01)
    expected, score, found = model.decision_function(X), model.scorer(), {}

    def work(part):
        found[part] = [score(row) for row in X[part::4]]

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in range(4):
        assert_array_equal(found[part], expected[part::4])


def test_scorer_outlives_a_refit():
    X = rows(100)
    model = GaussianMixtureOutlierDetector().fit(X)
    expected, score = model.decision_function(X), model.scorer()
    model.fit(2 * X + 1)
    assert_array_equal(score(X), expected)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(score)


# --- the estimator --------------------------------------------------------------------------------

_checks = parametrize_with_checks(
    [GaussianMixtureOutlierDetector(), GaussianMixtureOutlierDetector(rule="component")]
)
# Below 1.9 scikit-learn passes a generator, which pytest deprecates.
each_check = pytest.mark.parametrize(_checks.args[0], list(_checks.args[1]), **_checks.kwargs)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastgmm.FitWarning")
@each_check
def test_check_estimator(estimator, check):
    check(estimator)


@nojit
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"contamination": 0.1, "log_density": -3.0}, "contamination and log_density are set"),
        (
            {"rule": "component", "false_alarm": 0.1, "contamination": 0.1},
            "contamination and false_alarm are set",
        ),
        ({"false_alarm": 0.1}, "needs rule='component'"),
        ({"contamination": 0.0}, "'contamination' parameter"),
        ({"contamination": 0.51}, "'contamination' parameter"),
        ({"false_alarm": 1.0, "rule": "component"}, "'false_alarm' parameter"),
        ({"log_density": np.inf}, "'log_density' parameter"),
        ({"log_density": np.nan}, "'log_density' parameter"),
        ({"rule": "either"}, "'rule' parameter"),
    ],
)
def test_thresholds_that_make_no_sense(options, match):
    with pytest.raises(ValueError, match=match):
        GaussianMixtureOutlierDetector(**options).fit(small())
    with pytest.raises(ValueError, match=match):
        detector(**options)


@pytest.mark.parametrize("bad", [{"n_components": 0}, {"covariance_type": "round"}, {"tol": -1}])
def test_parameters_of_the_mixture_are_checked(bad):
    with pytest.raises(ValueError, match=f"'{next(iter(bad))}' parameter"):
        GaussianMixtureOutlierDetector(**bad).fit(small())


def test_parameters_reach_the_mixture():
    params = {
        "n_components": 3, "covariance_type": "tied", "tol": 1e-5, "reg_covar": 1e-3,
        "max_iter": 7, "n_init": 2, "init_params": "random_from_data", "random_state": 5,
        "n_threads": 1,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianMixtureOutlierDetector(**params).fit(faithful())
        mixture = GaussianMixture(**params).fit(faithful())
    assert_array_equal(model.mixture_.means_, mixture.means_)
    assert model.n_iter_ == mixture.n_iter_
    again = GaussianMixtureOutlierDetector.from_mixture(mixture, faithful())
    assert again.get_params() == model.get_params()
    assert again.offset_ == model.offset_


@nojit
def test_from_mixture_wants_a_fitted_one_and_rows():
    make = GaussianMixtureOutlierDetector.from_mixture
    with pytest.raises(NotFittedError):
        make(GaussianMixture(), log_density=-3.0)
    with pytest.raises(TypeError, match="from_sklearn"):
        make(made("full").to_sklearn(), log_density=-3.0)
    for share in (None, 0.2):
        with pytest.raises(ValueError, match="give X"):
            make(made("full"), contamination=share)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="density of zero"):
        make(made("diag"), np.full((5, 3), 1e200))


def test_from_mixture_keeps_a_copy():
    mixture = made("full")
    model = GaussianMixtureOutlierDetector.from_mixture(mixture, rows())
    expected = model.decision_function(rows())
    mixture.fit(10 * rows())
    assert_array_equal(model.decision_function(rows()), expected)


@nojit
@pytest.mark.parametrize(
    "method", ["predict", "decision_function", "score_samples", "explain", "scorer"]
)
def test_unfitted(method):
    arguments = () if method == "scorer" else (small(),)
    with pytest.raises(NotFittedError):
        getattr(GaussianMixtureOutlierDetector(), method)(*arguments)


@nojit
@pytest.mark.parametrize("method", ["predict", "decision_function", "score_samples", "explain"])
def test_rows_that_do_not_fit(method):
    call, X = getattr(detector(log_density=-6.0), method), small()
    with pytest.raises(ValueError, match=r"2 features.*expecting 3"):
        call(X[:, :2])
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"contains NaN\.\nThe first is in row 3, column 1"):
        call(X)


def test_failed_fit_changes_nothing():
    X = rows(60)
    model = GaussianMixtureOutlierDetector().fit(X)
    before = copy.deepcopy(vars(model))
    bad = X.copy()
    bad[5, 0] = np.nan
    for arguments in ((bad,), (X[:, :2], None, np.ones(3)), (X, None, -np.ones(60))):
        with pytest.raises(ValueError, match=r"NaN|sample_weight"):
            model.fit(*arguments)
    assert model.offset_ == before["offset_"]
    assert_array_equal(model.mixture_.means_, before["mixture_"].means_)
    assert model.n_features_in_ == 3


def test_float32_stays_float32():
    X = rows(500).astype(np.float32)
    model = GaussianMixtureOutlierDetector(rule="component", contamination=0.1).fit(X)
    decision = model.decision_function(X)
    assert decision.dtype == np.float32
    assert np.count_nonzero(decision < 0) == np.count_nonzero(model.predict(X) == -1) == 50
    assert_allclose(model.scorer()(X), decision, rtol=1e-4, atol=1e-5)


def test_pickle_and_clone():
    model = GaussianMixtureOutlierDetector(2, rule="component", random_state=0).fit(faithful())
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.decision_function(faithful()), model.decision_function(faithful()))
    assert_array_equal(again.scorer()(faithful()), model.scorer()(faithful()))
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize("rule", ["mixture", "component"])
def test_many_blocks_and_any_number_of_threads(rule):
    X = rows(40_000)
    one = GaussianMixtureOutlierDetector(rule=rule, n_threads=1, random_state=0).fit(X)
    two = GaussianMixtureOutlierDetector(rule=rule, n_threads=2, random_state=0).fit(
        np.asfortranarray(X)
    )
    assert one.offset_ == two.offset_
    assert_array_equal(one.decision_function(X), two.decision_function(X))
    assert_array_equal(one.decision_function(X[-5:]), two.decision_function(X)[-5:])


def test_weights_are_routed():
    X, weights = rows(60), np.random.RandomState(0).randint(0, 3, 60)
    with config_context(enable_metadata_routing=True):
        final = GaussianMixtureOutlierDetector(random_state=0).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, final).fit(X, sample_weight=weights)
    scaled = pipe[0].transform(X)
    expected = GaussianMixtureOutlierDetector(random_state=0).fit(scaled, sample_weight=weights)
    assert pipe[-1].offset_ == expected.offset_
