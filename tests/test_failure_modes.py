"""Ways a mixture can fail, one small test each.

Elsewhere: odd arrays, NaN, far points, bad starts and a failed first run in test_bad_input.py;
Ctrl-C in test_safe_company.py; permutations, weights and affine maps in test_properties.py; memory
maps and layouts in test_determinism.py.
"""

import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful, iris, synthetic, two_clusters
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from fastgmm import FitWarning, GaussianMixture

TYPES = oracle.COVARIANCE_TYPES
each_type = pytest.mark.parametrize("covariance_type", TYPES)


def fit(X, sample_weight=None, **params):
    """Fit, converged or not, whatever it warns of."""
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, FitWarning):
            warnings.simplefilter("ignore", category)
        return GaussianMixture(**{"random_state": 0, **params}).fit(X, sample_weight=sample_weight)


def fit_from(X, start, max_iter=5, **params):
    """Fit for a fixed number of iterations from a given start, without reg_covar."""
    return fit(
        X, **{"reg_covar": 0, "tol": 0, **params}, max_iter=max_iter, **oracle.start_of(start)
    )


def assert_parameters(model, truth, rtol=1e-9, atol=0.0):
    for ours, theirs in zip(oracle.parameters_of(model)[:3], truth[:3], strict=True):
        assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def assert_usable(model, X):
    """Finite parameters, probabilities that sum to one, no NaN."""
    assert all(np.isfinite(p).all() for p in oracle.parameters_of(model)[:3])
    assert_allclose(model.weights_.sum(), 1, rtol=1e-6)
    assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    assert not np.isnan(model.score_samples(X)).any()


# --- offsets and scales -------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize(
    ("offset", "dtype"),
    [(10.0**e, np.float64) for e in (2, 4, 6, 8, 10)]
    + [(10.0**e, np.float32) for e in (2, 3, 4, 5)],
)
def test_offset(covariance_type, offset, dtype):
    X, labels = two_clusters(400)
    X = (X + offset).astype(dtype)
    centred = X.astype(np.float64) - offset
    start = oracle.m_step(centred, oracle.one_hot(labels, 2), covariance_type)
    truth = oracle.em(centred, start).parameters
    model = fit(X, n_components=2, covariance_type=covariance_type)
    order = np.argsort(model.means_[:, 0])
    resolution = np.spacing(dtype(offset))  # of the data and of means_
    assert_allclose(model.means_[order] - offset, truth.means, atol=2 * resolution, rtol=1e-6)
    ours = model.covariances_ if covariance_type == "tied" else model.covariances_[order]
    assert_allclose(ours, truth.covariances, rtol=1e-6, atol=1e-6)


@each_type
@pytest.mark.parametrize("offset", [1e8, 1e10])
def test_offset_that_swallows_float32(covariance_type, offset):
    X = (two_clusters(400)[0] + offset).astype(np.float32)
    assert_usable(fit(X, n_components=2, covariance_type=covariance_type), X)


@each_type
@pytest.mark.parametrize(
    ("exponent", "dtype"),
    [(e, np.float64) for e in (-150, -75, 0, 75, 150)] + [(e, np.float32) for e in (-15, 15)],
)
def test_scale(covariance_type, exponent, dtype):
    X = (two_clusters(400)[0] * 10.0**exponent).astype(dtype)
    model = fit(X, n_components=2, covariance_type=covariance_type, reg_covar=0)
    scale = np.abs(X.astype(np.float64)).max()
    truth = oracle.fit(X / scale, 2, covariance_type, reg_covar=0).parameters
    rtol = 1e-6 if dtype == np.float32 else 1e-9
    assert_allclose(model.weights_, truth.weights, rtol=rtol)
    assert_allclose(model.means_ / scale, truth.means, rtol=rtol, atol=rtol)
    covariances = model.covariances_.astype(np.float64) / scale / scale
    assert_allclose(covariances, truth.covariances, rtol=rtol, atol=rtol)
    assert_usable(model, X)


@each_type
def test_scale_ratio_between_features(covariance_type):
    X = two_clusters(400)[0] * [1e6, 1.0, 1e-6]
    start = oracle.m_step(
        X, oracle.responsibilities(X, _halves(X, covariance_type)), covariance_type, 0
    )
    truth = oracle.em(X, start, tol=0, max_iter=5, reg_covar=0).parameters
    model = fit_from(X, start)
    assert_allclose(model.weights_, truth.weights, rtol=1e-9)
    assert_allclose(model.means_, truth.means, rtol=1e-9)
    sizes = X.std(axis=0)
    unit = {"diag": sizes**2, "spherical": 1.0}.get(covariance_type, np.outer(sizes, sizes))
    assert_allclose(model.covariances_ / unit, truth.covariances / unit, rtol=1e-9, atol=1e-9)


def _halves(X, covariance_type):
    """Two overlapping components along the first feature."""
    resp = oracle.one_hot(X[:, 0] > np.median(X[:, 0]), 2)
    return oracle.m_step(X, 0.6 * resp + 0.2, covariance_type, 0)


# --- degenerate data ------------------------------------------------------------------------------


@each_type
def test_constant_column(covariance_type):
    X = np.column_stack([iris(), np.full(150, 7.0)])
    model = fit(X, n_components=3, covariance_type=covariance_type)
    assert_usable(model, X)
    assert_allclose(model.means_[:, 4], 7)
    if covariance_type == "diag":
        assert_allclose(model.covariances_[:, 4], 1e-6, rtol=1e-9)


@each_type
def test_duplicated_column(covariance_type):
    X = iris()[:, [0, 1, 1]]
    model = fit(X, n_components=2, covariance_type=covariance_type)
    truth = oracle.fit(X, 2, covariance_type).parameters
    assert_parameters(model, truth, rtol=1e-6, atol=1e-9)
    assert_usable(model, X)


@each_type
def test_duplicated_rows(covariance_type):
    X = faithful()
    start = oracle.fit(X, 3, covariance_type, max_iter=2, reg_covar=0).parameters
    once = fit_from(X, start)
    assert_parameters(fit_from(np.repeat(X, 3, axis=0), start), oracle.parameters_of(once))


@each_type
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_all_rows_equal(covariance_type, init_params):
    X = np.full((20, 3), 0.1)
    model = fit(X, n_components=2, covariance_type=covariance_type, init_params=init_params)
    assert_usable(model, X)
    alive = model.weights_ > 1e-6
    assert_allclose(model.means_[alive], 0.1)


@each_type
@pytest.mark.parametrize("n_components", [10, 4])
def test_as_many_components_as_rows_or_more_than_distinct_rows(covariance_type, n_components):
    X = np.repeat([[0.0, 0.0], [1.0, 5.0]], 5, axis=0)
    params = {"n_components": n_components, "covariance_type": covariance_type}
    assert_usable(fit(X, **params), X)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        fit(X, reg_covar=0, **params)


def test_more_components_than_rows():
    with pytest.raises(ValueError, match="got n_components = 6, n_samples = 5"):
        fit(np.eye(5), n_components=6)


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_one_component_is_the_covariance(covariance_type, init_params):
    X = iris()
    model = fit(X, covariance_type=covariance_type, reg_covar=0, init_params=init_params)
    expected = np.cov(X, rowvar=False, bias=True)
    assert_allclose(
        model.covariances_, oracle.compact([expected], covariance_type), rtol=1e-12, atol=1e-14
    )
    assert_allclose(model.means_, [X.mean(axis=0)], rtol=1e-14)


@each_type
def test_more_features_than_rows(covariance_type):
    X = np.random.RandomState(0).standard_normal((6, 15))
    assert_parameters(
        fit(X, covariance_type=covariance_type),
        oracle.m_step(X, np.ones((6, 1)), covariance_type),
        rtol=1e-9,
        atol=1e-12,
    )
    assert_usable(fit(X, n_components=2, covariance_type=covariance_type), X)


@each_type
@pytest.mark.parametrize("size", [1e6, 1e12])
def test_one_outlier(covariance_type, size):
    X, _ = two_clusters(400)
    X = np.vstack([X, np.full((1, 3), size)])
    model = fit(X, n_components=3, covariance_type=covariance_type, init_params="kmeans")
    assert_usable(model, X)
    assert_allclose(model.means_.max(), size, rtol=1e-12)
    others = np.argsort(model.means_[:, 0])[:2]
    if covariance_type != "tied" or size == 1e6:
        assert_allclose(np.sort(model.means_[others][:, 0]), [0, 6], atol=0.5)


# --- inference, weights, likelihood --------------------------------------------------------------


@each_type
def test_float32_weights_sum_to_one(covariance_type):
    X = synthetic(60_000).astype(np.float32)
    model = fit(
        X, n_components=7, covariance_type=covariance_type, init_params="random", max_iter=5
    )
    assert model.weights_.dtype == np.float32
    # Each is a float32 nearest to a float64; half a unit in the last place of 1 is 2**-25.
    assert abs(model.weights_.astype(np.float64).sum() - 1) <= 7 * 2.0**-25
    again = fit(
        X[:500], n_components=7, covariance_type=covariance_type, weights_init=model.weights_
    )
    assert_usable(again, X)


@each_type
@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_inference_in_chunks(covariance_type, chunk):
    X = synthetic(500)
    model = fit(X, n_components=3, covariance_type=covariance_type)
    parts = [X[i : i + chunk] for i in range(0, len(X), chunk)]
    for method in (model.score_samples, model.predict_proba, model.predict):
        assert_allclose(np.concatenate([method(part) for part in parts]), method(X), rtol=1e-12)


@each_type
def test_mean_of_chunks_is_the_whole(covariance_type):
    X = synthetic(50_000)
    model = fit(X, n_components=3, covariance_type=covariance_type, max_iter=5)
    parts = [X[:1], X[1:8], X[8:20_000], X[20_000:]]
    total = sum(model.score(part) * len(part) for part in parts)
    assert_allclose(total / len(X), model.score(X), rtol=1e-12)


@each_type
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_order_is_rounding(covariance_type, dtype):
    X = synthetic(30_000).astype(dtype)
    start = oracle.fit(X[:300], 3, covariance_type, max_iter=3, reg_covar=0).parameters
    order = np.random.RandomState(0).permutation(len(X))
    a, b = fit_from(X, start, max_iter=4), fit_from(X[order], start, max_iter=4)
    rtol = 1e-12 if dtype == np.float64 else 1e-6  # float32 attributes
    assert_parameters(b, oracle.parameters_of(a), rtol=10 * rtol, atol=rtol)


@each_type
@pytest.mark.parametrize("data", [iris, faithful])
def test_likelihood_never_decreases(covariance_type, data):
    model = fit(
        data(), n_components=3, covariance_type=covariance_type, reg_covar=0, tol=0, max_iter=600
    )
    bounds = np.array(model.lower_bounds_)
    assert len(bounds) == 600
    assert (np.diff(bounds) >= -1e-12 * np.abs(bounds[1:])).all()


@pytest.mark.nojit
@each_type
def test_weights_of_two_and_zero(covariance_type):
    X = iris()[:60]
    w = np.tile([0.0, 1.0, 2.0], 20)
    start = oracle.fit(X, 2, covariance_type, max_iter=1, reg_covar=0).parameters
    weighted = fit_from(X, start, sample_weight=w)
    repeated = fit_from(np.repeat(X, w.astype(int), axis=0), start)
    assert_parameters(weighted, oracle.parameters_of(repeated), rtol=1e-9, atol=1e-12)
    assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-12)
    for name in ("score", "aic", "bic"):
        ours = getattr(weighted, name)(X, sample_weight=w)
        assert_allclose(
            ours, getattr(repeated, name)(np.repeat(X, w.astype(int), axis=0)), rtol=1e-9
        )


@pytest.mark.parametrize(
    "w",
    [[-1.0] + [1.0] * 19, [np.nan] + [1.0] * 19, [np.inf] + [1.0] * 19, [0.0] * 20, [1.0] * 19],
    ids=["negative", "nan", "infinite", "all zero", "one short"],
)
def test_weights_that_are_none(w):
    X = np.random.RandomState(0).standard_normal((20, 2))
    model = GaussianMixture(random_state=0).fit(X)
    for call in (GaussianMixture().fit, model.score, model.aic, model.bic):
        with pytest.raises(ValueError, match=r"(?i)weight"):
            call(X, sample_weight=w)


@each_type
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_rows_of_weight_zero_are_never_seeds(covariance_type, init_params):
    X, _ = two_clusters(60)
    X[::3] = 1e6
    w = np.ones(60)
    w[::3] = 0
    for seed in range(5):
        model = GaussianMixture(
            2,
            covariance_type=covariance_type,
            init_params=init_params,
            random_state=seed,
            max_iter=0,
        ).fit(X, sample_weight=w)
        assert np.abs(model.means_).max() < 100
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        GaussianMixture(41).fit(X, sample_weight=w)
