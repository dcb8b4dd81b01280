"""Marginals, conditionals and regression: against the textbook's formulas and scipy's densities."""

import pickle
import warnings

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from small_models import each_type, fitted

from fastgmm import BayesianGaussianMixture, GaussianMixture, load

RNG = np.random.default_rng(5)
D, K = 4, 3
GIVEN, OTHERS = [2, 0], [1, 3]


def joint(kind, offset=0.0, scale=1.0, **params):
    """A mixture of 3 components in 4 dimensions, all correlated; its means lie at an offset."""
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(K, D, D))
    matrices = scale**2 * (roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(D))
    means = 3 * scale * rng.normal(size=(K, D)) + offset
    return GaussianMixture.from_parameters(
        [0.2, 0.5, 0.3], means, oracle.compact(matrices, kind), covariance_type=kind, **params
    )


def matrices(model):
    return oracle.covariance_matrices(oracle.parameters_of(model))


def textbook(model, given, others, x):
    """Bishop 2006, eq. 2.81 and 2.82, and Bayes' rule, by inverses; scipy's densities."""
    weights, means, covariances = [], [], []
    for weight, mean, matrix in zip(model.weights_, model.means_, matrices(model), strict=True):
        block = matrix[np.ix_(given, given)]
        gain = matrix[np.ix_(others, given)] @ np.linalg.inv(block)
        means.append(mean[others] + gain @ (x - mean[given]))
        covariances.append(matrix[np.ix_(others, others)] - gain @ matrix[np.ix_(given, others)])
        weights.append(weight * stats.multivariate_normal(mean[given], block).pdf(x))
    weights = np.array(weights) / np.sum(weights)
    return weights, np.array(means), np.array(covariances)


def moments(weights, means, covariances):
    mean = weights @ means
    second = np.einsum("k,kij->ij", weights, covariances)
    second += np.einsum("k,ki,kj->ij", weights, means - mean, means - mean)
    return mean, second


class TestMarginal:
    @each_type
    def test_density_is_scipys(self, kind):
        model = joint(kind)
        marginal = model.marginal(GIVEN)
        X = RNG.normal(size=(20, 2))
        expected = sum(
            w * stats.multivariate_normal(m[GIVEN], c[np.ix_(GIVEN, GIVEN)]).pdf(X)
            for w, m, c in zip(model.weights_, model.means_, matrices(model), strict=True)
        )
        assert_allclose(np.exp(marginal.score_samples(X)), expected, rtol=1e-10)
        assert marginal.covariance_type == kind
        assert marginal.n_features_in_ == 2

    @each_type
    def test_is_a_model_like_any(self, kind, tmp_path):
        model = joint(kind, random_state=3, n_threads=1, means_init=np.zeros((K, D)))
        marginal = model.marginal([3])
        marginal.save(tmp_path / "m.npz")
        assert_array_equal(load(tmp_path / "m.npz").means_, model.means_[:, [3]])
        assert marginal.get_params()["means_init"] is None
        assert marginal.get_params()["random_state"] == 3
        marginal.set_params(max_iter=1000)
        assert marginal.fit(RNG.normal(size=(200, 1))).converged_

    @each_type
    def test_all_features_in_another_order(self, kind):
        model, order = joint(kind), [3, 1, 0, 2]
        X = RNG.normal(size=(10, D))
        assert_allclose(
            model.marginal(order).score_samples(X[:, order]), model.score_samples(X), rtol=1e-12
        )

    @pytest.mark.parametrize(
        "features", [2, [2], np.array([2]), [-2], [False, False, True, False], np.int64(2)]
    )
    def test_ways_to_name_a_feature(self, features):
        model = joint("full")
        assert_array_equal(model.marginal(features).means_, model.means_[:, [2]])

    @pytest.mark.parametrize(
        ("features", "match"),
        [
            ([], "one or more numbers from 0 to 3"),
            (4, "from 0 to 3"),
            ([0, -5], "from 0 to 3"),
            ([0.5], "from 0 to 3"),
            ([[0, 1]], "from 0 to 3"),
            ([True, False], "from 0 to 3"),
            ([False] * 4, "from 0 to 3"),
            ([1, 1], "twice"),
            ([1, -3], "twice"),
            ("a", "fitted without names"),
            (["a", "b"], "fitted without names"),
        ],
    )
    def test_bad_features(self, features, match):
        for call in (
            joint("full").marginal,
            lambda f: joint("full").condition(f, 0.0),
            lambda f: joint("full").predict_conditional([[0.0]], f),
        ):
            with pytest.raises(ValueError, match=match):
                call(features)

    def test_float32_fit(self):
        model = fitted(X=RNG.normal(size=(200, 3)).astype(np.float32), k=3, tol=0.1)
        marginal = model.marginal([0, 2])
        assert_allclose(marginal.weights_.sum(), 1.0, rtol=1e-15)
        assert_allclose(marginal.covariances_, model.covariances_[:, [0, 2]][:, :, [0, 2]])


class TestOneVector:
    @each_type
    @pytest.mark.parametrize(("given", "others"), [(GIVEN, OTHERS), ([1], [0, 2, 3])])
    def test_textbook(self, kind, given, others):
        model, x = joint(kind), RNG.normal(size=len(given))
        weights, means, covariances = textbook(model, given, others, x)
        conditional = model.condition(given, x)
        assert isinstance(conditional, GaussianMixture)
        assert conditional.covariance_type == kind
        assert_allclose(conditional.weights_, weights, rtol=1e-10)
        assert_allclose(conditional.means_, means, rtol=1e-10)
        assert_allclose(matrices(conditional), covariances, rtol=1e-10, atol=1e-12)

    @each_type
    def test_density_is_joint_over_marginal(self, kind):
        model, x = joint(kind), np.array([0.3, -1.2])
        Y = RNG.normal(size=(30, 2))
        rows = np.empty((30, D))
        rows[:, GIVEN], rows[:, OTHERS] = x, Y
        expected = model.score_samples(rows) - model.marginal(GIVEN).score_samples([x])
        assert_allclose(model.condition(GIVEN, x).score_samples(Y), expected, rtol=1e-10)

    @each_type
    @pytest.mark.parametrize(("offset", "scale"), [(1e6, 1.0), (0.0, 1e-6), (-1e3, 1e6)])
    def test_offset_and_scale(self, kind, offset, scale):
        x = np.array([0.7, 0.1])
        near, far = joint(kind), joint(kind, offset, scale)
        ours, truth = far.condition(GIVEN, scale * x + offset), near.condition(GIVEN, x)
        digits = 1e-15 * (1 + abs(offset) / scale)  # what rounding the data itself costs
        assert_allclose(ours.weights_, truth.weights_, atol=100 * digits)
        assert_allclose((ours.means_ - offset) / scale, truth.means_, atol=100 * digits)
        assert_allclose(ours.covariances_ / scale**2, truth.covariances_, rtol=1e-12, atol=1e-14)

    @each_type
    def test_values_far_from_everything(self, kind):
        """Densities underflow; the component that decays least has all the weight."""
        model = joint(kind)
        conditional = model.condition(GIVEN, [1e5, -1e5])
        marginal = oracle.parameters_of(model.marginal(GIVEN))
        nearest = oracle.weighted_log_densities(np.array([[1e5, -1e5]]), marginal).argmax()
        assert conditional.weights_.sum() == 1.0
        if kind != "tied":  # there the distances may differ by little
            assert conditional.weights_[nearest] == 1.0
        assert np.isfinite(conditional.means_).all()

    def test_nearly_singular_is_positive_definite(self):
        """Features that all but determine one another: a difference would turn negative."""
        line = np.array([1.0, 2.0, -1.0])
        matrix = np.outer(line, line) + 1e-13 * np.eye(3)
        model = GaussianMixture.from_parameters([1.0], [np.zeros(3)], [matrix])
        conditional = model.condition([0, 1], [1.0, 2.0])
        assert_allclose(conditional.means_, [[-1.0]], rtol=1e-2)
        assert 0.5e-13 < conditional.covariances_[0, 0, 0] < 2e-13

    def test_gmr_published_example(self):
        """The moments that gmr's own tests expect of GMM.condition and MVN.condition."""
        model = GaussianMixture.from_parameters(
            [0.5, 0.5],
            [[0.0, 1.0], [2.0, -1.0]],
            [[[0.5, -1.0], [-1.0, 5.0]], [[5.0, 1.0], [1.0, 0.5]]],
        )
        conditional = model.condition(np.array([1]), np.array([1.0]))
        assert_allclose(conditional.means_[0], [0.0], atol=1e-12)
        assert_allclose(conditional.covariances_[0], [[0.3]])
        conditional = model.condition(np.array([0]), np.array([2.0]))
        assert_allclose(conditional.means_[1], [-1.0])
        assert_allclose(conditional.covariances_[1], [[0.3]])

    def test_a_dead_component_stays_dead(self):
        model = GaussianMixture.from_parameters(
            [1.0, 0.0], [[0.0, 0.0], [5.0, 5.0]], np.array([np.eye(2)] * 2)
        )
        assert_array_equal(model.condition(0, 5.0).weights_, [1.0, 0.0])

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            ([1.0], "1 numbers for 2"),
            ([1.0, 2.0, 3.0], "3 numbers for 2"),
            (0.0, "1 numbers for 2"),
            ([[1.0, 2.0, 3.0]], "3 features, but .* expecting 2"),
            ([np.nan, 1.0], "NaN"),
            ([[0.0, 0.0], [1.0, np.inf]], "infinity.*\n.*row 1, column 1"),
        ],
    )
    def test_bad_values(self, values, match):
        with pytest.raises(ValueError, match=match):
            joint("full").condition(GIVEN, values)

    def test_nothing_left(self):
        with pytest.raises(ValueError, match="none left"):
            joint("full").condition([0, 1, 2, 3], np.zeros(4))

    @pytest.mark.parametrize("method", ["marginal", "condition", "predict_conditional"])
    def test_unfitted(self, method):
        arguments = {"marginal": (0,), "condition": (0, 0.0), "predict_conditional": ([[0.0]], 0)}
        with pytest.raises(ValueError, match="not fitted"):
            getattr(GaussianMixture(), method)(*arguments[method])


class TestManyVectors:
    X = RNG.normal(scale=2.0, size=(7, 2))

    @each_type
    def test_each_is_the_mixture_of_one(self, kind):
        model = joint(kind)
        mixtures = model.condition(GIVEN, self.X)
        assert mixtures.means.shape == (7, K, 2)
        assert len(mixtures) == len(list(mixtures)) == 7
        assert mixtures.covariance_type == kind
        for x, one in zip(self.X, mixtures, strict=True):
            alone = model.condition(GIVEN, x)
            for name in ("weights_", "means_", "covariances_"):
                assert_allclose(getattr(one, name), getattr(alone, name), rtol=1e-13)
        assert_array_equal(mixtures[-1].means_, mixtures.means[6])
        with pytest.raises(IndexError):
            mixtures[7]

    @each_type
    def test_moments(self, kind):
        model = joint(kind)
        mixtures = model.condition(GIVEN, self.X)
        for i, x in enumerate(self.X):
            mean, covariance = moments(*textbook(model, GIVEN, OTHERS, x))
            assert_allclose(mixtures.mean()[i], mean, rtol=1e-10)
            assert_allclose(mixtures.covariance()[i], covariance, rtol=1e-10, atol=1e-12)
            assert_allclose(mixtures.variance()[i], np.diag(covariance), rtol=1e-10)

    @each_type
    def test_draws(self, kind):
        mixtures = joint(kind, random_state=0).condition(GIVEN, self.X)
        draws = mixtures.sample(40_000)
        assert draws.shape == (7, 40_000, 2)
        error = np.sqrt(mixtures.variance() / 40_000)
        assert (np.abs(draws.mean(axis=1) - mixtures.mean()) < 5 * error).all()
        for i in range(7):
            scale = np.sqrt(np.outer(*[mixtures.variance()[i]] * 2))
            assert_allclose(np.cov(draws[i].T) / scale, mixtures.covariance()[i] / scale, atol=0.05)
        assert_array_equal(mixtures.sample(3), mixtures.sample(3))
        assert mixtures.sample(random_state=np.random.default_rng(0)).shape == (7, 1, 2)

    def test_no_draw_from_a_component_without_weight(self):
        mixtures = joint("diag").condition(GIVEN, self.X)
        mixtures.weights = np.tile([0.5, 0.5 + 1e-16, 0.0], (7, 1))
        mixtures.means = mixtures.means.copy()
        mixtures.means[:, 2] = 1e9
        assert np.abs(mixtures.sample(1000, random_state=0)).max() < 1e3

    def test_pickles(self):
        mixtures = pickle.loads(pickle.dumps(joint("tied").condition(GIVEN, self.X)))
        assert "7 mixtures of 3 tied components" in repr(mixtures)
        assert mixtures[0].n_features_in_ == 2

    def test_integers_and_rows_of_one_feature(self):
        model = joint("full")
        one = model.condition(0, [[1], [2]])
        assert one.means.shape == (2, K, 3)
        assert_allclose(one[0].means_, model.condition(0, 1.0).means_)


class TestRegression:
    @each_type
    def test_mean_and_spread_are_those_of_the_mixtures(self, kind, monkeypatch):
        monkeypatch.setattr("fastgmm._regression._SCRATCH", 100)  # parts of 8 rows
        model = joint(kind)
        X = RNG.normal(scale=2.0, size=(45, 2))
        mixtures = model.condition(GIVEN, X)
        mean, std = model.predict_conditional(X, GIVEN, return_std=True)
        again, cov = model.predict_conditional(X, GIVEN, return_cov=True)
        assert_allclose(mean, mixtures.mean(), rtol=1e-13)
        assert_allclose(std**2, mixtures.variance(), rtol=1e-12)
        assert_allclose(cov, mixtures.covariance(), rtol=1e-12, atol=1e-14)
        assert_array_equal(mean, again)
        assert_array_equal(mean, model.predict_conditional(X, GIVEN))

    def test_one_component_is_linear_regression(self):
        X = RNG.normal(size=(500, 3))
        X[:, 2] = X[:, :2] @ [2.0, -1.0] + 5.0 + 0.1 * RNG.normal(size=500)
        model = GaussianMixture(reg_covar=0).fit(X)
        design = np.column_stack([np.ones(500), X[:, :2]])
        expected = design @ np.linalg.lstsq(design, X[:, 2])[0]
        predicted = model.predict_conditional(X[:, :2], [0, 1])
        assert_allclose(predicted[:, 0], expected, rtol=1e-9)

    def test_gmr_published_example(self):
        """A noiseless line, as in gmr's test_regression_without_noise: error below 0.01."""
        x = np.linspace(0, 1, 200)[:, None]
        y = 3 * x + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # singular but for reg_covar
            model = GaussianMixture(2, random_state=0).fit(np.hstack([x, y]))
        assert_allclose(model.predict_conditional(x, [0]), y, atol=0.005)

    @each_type
    def test_offset(self, kind):
        X = RNG.normal(scale=2.0, size=(20, 2))
        mean, std = joint(kind).predict_conditional(X, GIVEN, return_std=True)
        far, far_std = joint(kind, 1e6).predict_conditional(X + 1e6, GIVEN, return_std=True)
        assert_allclose(far - 1e6, mean, atol=1e-7)
        assert_allclose(far_std, std, rtol=1e-7)

    def test_bits_do_not_depend_on_threads_or_layout(self):
        X = np.asfortranarray(RNG.normal(size=(20_000, 2)))
        one, two = (
            joint("full", n_threads=n).predict_conditional(X, GIVEN, return_std=True)
            for n in (1, 3)
        )
        assert_array_equal(one, two)

    def test_float32_rows(self):
        X = RNG.normal(size=(50, 2)).astype(np.float32)
        model = joint("full")
        ours = model.predict_conditional(X, GIVEN)
        assert ours.dtype == np.float64
        assert_allclose(ours, model.predict_conditional(X.astype(float), GIVEN), rtol=1e-5)

    def test_the_bad_row_is_named(self):
        X = np.zeros((20_000, 2))
        X[15_000, 1] = np.nan
        with pytest.raises(ValueError, match="row 15000, column 1"):
            joint("full").predict_conditional(X, GIVEN)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="the latter holds the former"):
            joint("full").predict_conditional([[0.0]], 0, return_std=True, return_cov=True)
        with pytest.raises(ValueError, match=r"3 features, but .* expecting 2"):
            joint("full").predict_conditional(np.zeros((5, 3)), GIVEN)


class TestNames:
    @pytest.fixture
    def frame(self):
        pd = pytest.importorskip("pandas")
        X = np.random.default_rng(0).normal(size=(100, 3))
        return pd.DataFrame(X, columns=["length", "width", "height"])

    def test_names_all_the_way(self, frame):
        model = fitted(X=frame)
        marginal = model.marginal(["height", "length"])
        assert list(marginal.feature_names_in_) == ["height", "length"]
        assert_array_equal(marginal.means_, model.means_[:, [2, 0]])
        marginal.predict(frame[["height", "length"]])  # without a warning
        conditional = model.condition("width", 0.3)
        assert list(conditional.feature_names_in_) == ["length", "height"]
        rows = model.condition(["width"], frame[["width"]])
        assert list(rows[0].feature_names_in_) == ["length", "height"]
        assert_allclose(rows.mean(), model.predict_conditional(frame[["width"]].values, 1))

    def test_values_may_come_without_names(self, frame):
        model = fitted(X=frame)
        assert model.condition(["width"], [[0.1], [0.2]]).means.shape == (2, 2, 2)
        assert model.condition(frame.columns[:2], frame.iloc[0, :2]).n_features_in_ == 1

    def test_wrong_names(self, frame):
        model = fitted(X=frame)
        with pytest.raises(ValueError, match=r"no feature 'depth'; there are .*'length'"):
            model.marginal(["length", "depth"])
        with pytest.raises(ValueError, match="feature names"):
            model.predict_conditional(frame[["length"]], ["width"])


class TestBayesian:
    """Marginals and conditionals are those of the mixture that is sampled from."""

    @pytest.fixture
    def model(self, kind):
        X = joint("full").sample(400, np.random.RandomState(0))[0]
        params = {"weight_concentration_prior": 0.1, "covariance_prior": None, "max_iter": 500}
        return BayesianGaussianMixture(
            n_components=5, covariance_type=kind, random_state=7, n_threads=1, **params
        ).fit(X)

    @each_type
    def test_formulas(self, model):
        X = RNG.normal(size=(5, 2))
        means, covariances = model.predict_conditional(X, GIVEN, return_cov=True)
        mixtures = model.condition(GIVEN, X)
        for i, x in enumerate(X):
            weights, *parameters = textbook(model, GIVEN, OTHERS, x)
            mean, covariance = moments(weights, *parameters)
            assert_allclose(means[i], mean, rtol=1e-8)
            assert_allclose(covariances[i], covariance, rtol=1e-8)
            assert_allclose(mixtures.weights[i], weights, rtol=1e-8, atol=1e-12)

    @each_type
    def test_same_as_the_plain_mixture(self, model):
        plain = GaussianMixture.from_parameters(
            model.weights_, model.means_, model.covariances_, covariance_type=model.covariance_type
        )
        marginal = model.marginal(GIVEN)
        assert type(marginal) is GaussianMixture
        assert (marginal.random_state, marginal.n_threads) == (7, 1)
        for name in ("weights_", "means_", "covariances_"):
            ours, theirs = (getattr(m, name) for m in (marginal, plain.marginal(GIVEN)))
            assert_array_equal(ours, theirs)
        one = model.condition(GIVEN, [0.5, 0.0])
        assert_array_equal(one.means_, plain.condition(GIVEN, [0.5, 0.0]).means_)
        rows = model.sample(20_000, np.random.RandomState(1))[0][:, GIVEN]
        assert_allclose(rows.mean(axis=0), marginal.weights_ @ marginal.means_, atol=0.1)
