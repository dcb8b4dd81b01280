"""Bad input: offsets, scales, degenerate data, odd arrays, odd starts.

Each test is a row of what scikit-learn does badly (or well) with such data and what fastgmm does
instead. Truth is the two-pass oracle, on data from which the offset is subtracted exactly.
"""

import re
import warnings

import numpy as np
import oracle
import pytest
import scipy.sparse
from datasets import two_clusters
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from fastgmm import FitWarning, GaussianMixture

TYPES = oracle.COVARIANCE_TYPES
each_type = pytest.mark.parametrize("covariance_type", TYPES)


def warned(pattern, **params):
    """Fit; return the model. Something of FitWarning must match, nothing but it may be said."""
    X = params.pop("X")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GaussianMixture(**{"random_state": 0, **params}).fit(X)
    assert {w.category for w in caught} <= {FitWarning, ConvergenceWarning}
    texts = [str(w.message) for w in caught if w.category is FitWarning]
    assert any(re.search(pattern, text) for text in texts), texts
    assert all(np.isfinite(p).all() for p in oracle.parameters_of(model)[:3])
    return model


def assert_right(model, X, labels, rtol, offset=0.0, reg_covar=1e-6):
    """Compare a fit of two separate clusters with the oracle's, started from the labels."""
    centred = X.astype(np.float64) - offset  # exact: the rows are this close to the offset
    resp = oracle.one_hot(labels, 2)
    start = oracle.initial_parameters(centred, resp, model.covariance_type, reg_covar)
    truth = oracle.em(centred, start, reg_covar=reg_covar).parameters
    order = np.argsort(model.means_[:, 0])
    resolution = 4 * np.spacing(np.abs(model.means_).max())
    means = model.means_[order].astype(np.float64) - offset
    assert_allclose(means, truth.means, rtol=rtol, atol=resolution)
    covariances = (
        model.covariances_ if model.covariance_type == "tied" else model.covariances_[order]
    )
    assert_allclose(covariances, truth.covariances, rtol=rtol, atol=rtol)
    assert_allclose(model.weights_[order], truth.weights, rtol=rtol)
    assert model.converged_


# --- offsets and scales -------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize(
    ("offset", "dtype"),
    [(1e8, np.float64), (1e3, np.float32), (1e4, np.float32)],
    ids=["1e8-float64", "1e3-float32", "1e4-float32"],
)
def test_offset(covariance_type, offset, dtype):
    X, labels = two_clusters()
    X = (X + offset).astype(dtype)
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    assert_right(model, X, labels, rtol=1e-6, offset=offset)


@each_type
@pytest.mark.parametrize("offset", [1e6, 1e7])
def test_nist_offsets(covariance_type, offset):
    X = offset + np.array([[0.2] + [0.1, 0.3] * 500]).T
    model = GaussianMixture(covariance_type=covariance_type, reg_covar=0).fit(X)
    deviation = np.sqrt(model.covariances_.ravel()[0] * 1001 / 1000)
    assert_allclose(deviation, 0.1, rtol=1e-7)


@each_type
def test_tiny_scale_warns_that_reg_covar_dominates(covariance_type):
    X, _ = two_clusters()
    warned("reg_covar", X=1e-6 * X, n_components=2, covariance_type=covariance_type)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_one_tiny_feature_warns_that_reg_covar_dominates(covariance_type):
    X, _ = two_clusters()
    X = X * [1.0, 1e-5, 1.0]
    warned("reg_covar", X=X, n_components=2, covariance_type=covariance_type)


@each_type
def test_huge_scale_fits(covariance_type):
    X, labels = two_clusters()
    X = 1e150 * X
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    model.means_ /= 1e150
    model.covariances_ /= 1e300
    assert_right(model, X / 1e150, labels, rtol=1e-9, reg_covar=0)


@each_type
@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize(("scale", "dtype"), [(1e200, np.float64), (1e20, np.float32)])
def test_scale_beyond_squares_says_so(covariance_type, n_components, scale, dtype):
    X, _ = two_clusters()
    X = (scale * X).astype(dtype)
    model = GaussianMixture(n_components, covariance_type=covariance_type, random_state=0)
    with pytest.raises(ValueError, match=r"(?i)overflow|too large|scale") as caught:
        model.fit(X)
    assert "must not contain infs or NaNs" not in str(caught.value)
    assert not hasattr(model, "means_")


# --- degenerate data ------------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize("value", [0.0, -3.7, 1e6])
def test_constant_column_is_named(covariance_type, value):
    X = np.random.RandomState(0).standard_normal((200, 9))
    X[:, 7] = value
    warned(r"(?i)column.*\b7\b.*constant", X=X, n_components=1, covariance_type=covariance_type)


@each_type
def test_all_rows_equal(covariance_type):
    warned("(?i)empty", X=np.full((50, 2), 3.0), n_components=2, covariance_type=covariance_type)


@each_type
def test_more_components_than_distinct_rows(covariance_type):
    X = np.repeat([[0.0, 0.0], [1.0, 2.0]], 20, axis=0)
    warned("(?i)empty", X=X, n_components=4, covariance_type=covariance_type)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_as_many_components_as_rows(covariance_type):
    X = np.random.RandomState(0).standard_normal((12, 2))
    warned("reg_covar|empty", X=X, n_components=12, covariance_type=covariance_type)


@each_type
def test_more_components_than_rows(covariance_type):
    X = np.random.RandomState(0).standard_normal((5, 2))
    with pytest.raises(ValueError, match="Expected n_samples >= n_components"):
        GaussianMixture(6, covariance_type=covariance_type).fit(X)


@each_type
def test_component_far_from_all_rows(covariance_type):
    X, _ = two_clusters()
    model = warned(
        "(?i)empty",
        X=X,
        n_components=2,
        covariance_type=covariance_type,
        means_init=[[3.0] * 3, [1e6] * 3],
    )
    assert_allclose(model.weights_, [1, 0], atol=1e-12)


@each_type
def test_weight_of_zero_to_start_with(covariance_type):
    X, _ = two_clusters()
    model = warned(
        "(?i)empty", X=X, n_components=2, covariance_type=covariance_type, weights_init=[1, 0]
    )
    assert_allclose(model.weights_, [1, 0], atol=1e-12)
    proba = model.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)
    assert np.isfinite(model.score_samples(X)).all()


@each_type
def test_one_outlier_takes_a_component(covariance_type):
    X, _ = two_clusters()
    X = np.vstack([X, [[1e12] * 3]])
    warned("(?i)component", X=X, n_components=2, covariance_type=covariance_type)


# --- values and containers ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [(0, 0), (517, 2), (-1, -1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init_params", ["kmeans", "random_from_data"])
def test_nonfinite_is_named(value, position, dtype, init_params):
    X = np.random.RandomState(0).standard_normal((70_001, 3)).astype(dtype)
    model = GaussianMixture(2, tol=1e9, init_params=init_params, random_state=0)
    model.fit(X)
    row, column = position[0] % len(X), position[1] % 3
    X[row, column] = value
    what = "NaN" if np.isnan(value) else "infinity"
    calls = (model.fit, model.predict, model.predict_proba, model.score_samples, model.score)
    for call in calls:
        with pytest.raises(ValueError, match=f"Input X contains {what}") as caught:
            call(X)
        assert re.search(rf"row {row}\b.*column {column}\b", str(caught.value))


def test_nonfinite_row_of_weight_zero():
    X, _ = two_clusters()
    X[17, 1] = np.nan
    w = np.ones(len(X))
    w[17] = 0
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(2, random_state=0).fit(X, sample_weight=w)


def test_masked_array():
    X, _ = two_clusters()
    masked = np.ma.masked_array(X, mask=X > 7)
    model = GaussianMixture(2, random_state=0).fit(X)
    for call in (model.fit, model.predict, model.score_samples):
        with pytest.raises((ValueError, TypeError), match="mask"):
            call(masked)


def test_objects_are_converted_and_strings_refused():
    X, _ = two_clusters()
    expected = GaussianMixture(2, random_state=0).fit(X)
    model = GaussianMixture(2, random_state=0).fit(X.astype(object))
    assert_array_equal(model.means_, expected.means_)
    for strings in (X.astype(str), np.full(X.shape, "a").astype(object)):
        with pytest.raises(ValueError):  # noqa: PT011 (the text is NumPy's or scikit-learn's)
            GaussianMixture(2).fit(strings)


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (np.ones((5, 2)) + 1j, ValueError, "Complex data not supported"),
        (scipy.sparse.csr_array(np.eye(5)), TypeError, "(?i)sparse"),
        (np.arange(5.0), ValueError, "Expected 2D array"),
        (np.float64(1), ValueError, "Expected 2D array"),
        (np.ones((5, 2, 2)), ValueError, "dim"),
        (np.empty((5, 0)), ValueError, r"0 feature\(s\)"),
        (np.empty((0, 2)), ValueError, r"0 sample\(s\)"),
        (np.ones((1, 2)), ValueError, r"1 sample\(s\)"),
    ],
    ids=["complex", "sparse", "1-d", "0-d", "3-d", "no-columns", "no-rows", "one-row"],
)
def test_refused(X, error, match):
    with pytest.raises(error, match=match):
        GaussianMixture().fit(X)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.float16])
def test_other_numbers_are_float64(dtype):
    X, _ = two_clusters()
    X = (10 * X).astype(np.int8).astype(dtype)
    expected = GaussianMixture(random_state=0).fit(X.astype(np.float64))
    model = GaussianMixture(random_state=0).fit(X)
    assert model.means_.dtype == np.float64
    assert_array_equal(model.covariances_, expected.covariances_)
    assert_array_equal(model.score_samples(X), expected.score_samples(X.astype(np.float64)))


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "longdouble": lambda X: X.astype(np.longdouble),
    "list": lambda X: X.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same(layout):
    X, _ = two_clusters()
    expected = GaussianMixture(2, random_state=0).fit(X)
    other = LAYOUTS[layout](X)
    model = GaussianMixture(2, random_state=0).fit(other)
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        assert_array_equal(getattr(model, name), getattr(expected, name))
    assert_array_equal(model.predict_proba(other), expected.predict_proba(X))


def test_read_only_input_is_not_touched():
    X, _ = two_clusters()
    expected = GaussianMixture(2, random_state=0).fit(X)
    before = X.copy()
    X.flags.writeable = False
    model = GaussianMixture(2, random_state=0).fit(X)
    assert_array_equal(model.means_, expected.means_)
    assert_array_equal(X, before)


# --- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precisions", "match"),
    [
        ([[[1.0, 0.5], [0.0, 1.0]]], "symmetric, positive-definite"),
        ([[[1.0, 2.0], [2.0, 1.0]]], "symmetric, positive-definite"),
        ([[[np.nan, 0.0], [0.0, 1.0]]], "NaN"),
    ],
    ids=["asymmetric", "indefinite", "nan"],
)
def test_precisions_that_are_none(precisions, match):
    X = np.random.RandomState(0).standard_normal((20, 2))
    with pytest.raises(ValueError, match=match):
        GaussianMixture(precisions_init=precisions).fit(X)


@each_type
def test_nearly_singular_precisions_recover(covariance_type):
    X, _ = two_clusters()
    precisions = oracle.compact([1e-300 * np.eye(3)] * 2, covariance_type)
    model = GaussianMixture(
        2, covariance_type=covariance_type, precisions_init=precisions, random_state=0, reg_covar=0
    ).fit(X)
    expected = oracle.m_step(X, np.full((600, 2), 0.5), covariance_type, reg_covar=0)
    assert model.converged_
    assert_allclose(model.means_.mean(axis=0), expected.means[0], rtol=1e-6)


def test_bound_that_is_no_number_in_the_first_run(monkeypatch):
    import fastgmm._multistart as multistart

    runs = []

    def run_em(*args, **kwargs):
        result = true_run_em(*args, **kwargs)
        runs.append(result)
        if len(runs) == 1:
            result = result._replace(bounds=[np.nan for _ in result.bounds])
        return result

    true_run_em = multistart.run_em
    monkeypatch.setattr(multistart, "run_em", run_em)
    X, _ = two_clusters()
    model = GaussianMixture(2, n_init=3, random_state=0, init_params="random").fit(X)
    assert len(runs) == 3
    assert model.lower_bound_ == max(run.bounds[-1] for run in runs[1:])


# --- far points ----------------------------------------------------------------------------------


def nearest(x, parameters):
    """Component of the smallest Mahalanobis distance, computed on rows scaled into range."""
    scale = np.abs(x).max()
    scaled = parameters._replace(means=parameters.means / scale)
    return np.argmin(oracle.mahalanobis(x[None] / scale, scaled)[0])


@each_type
@pytest.mark.parametrize("size", [1e3, 1e9, 1e20, 1e155, 1e200, 1e308])
def test_far_rows_belong_to_one_component(covariance_type, size):
    X, labels = two_clusters()
    X = X * np.where(labels, 1.0, 2.0)[:, None]
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    directions = np.random.RandomState(1).uniform(-1, 1, (20, 3))
    far = size * np.vstack([directions, -directions, np.eye(3), -np.eye(3)])
    proba, labels = model.predict_proba(far), model.predict(far)
    log_likelihood = model.score_samples(far)
    assert np.isfinite(proba).all()
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert not np.isnan(log_likelihood).any()
    assert (log_likelihood < 0).all()
    assert_array_equal(labels, proba.argmax(axis=1))
    if covariance_type != "tied" or size < 1e9:
        assert_allclose(proba.max(axis=1), 1)
        truth = oracle.parameters_of(model)
        assert_array_equal(labels, [nearest(x, truth) for x in far])


@pytest.mark.parametrize("size", [1e3, 1e9, 1e20])
def test_far_float32_rows(size):
    X, _ = two_clusters()
    model = GaussianMixture(2, random_state=0).fit(X.astype(np.float32))
    far = np.float32(size) * np.vstack([np.eye(3), -np.eye(3)]).astype(np.float32)
    proba, log_likelihood = model.predict_proba(far), model.score_samples(far)
    assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert not np.isnan(log_likelihood).any()


def test_text_columns_of_a_data_frame_are_named():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"width": [1.0, 2.0, 3.0], "species": ["a", "b", "c"]})
    with pytest.raises(ValueError, match="'species'"):
        GaussianMixture(1).fit(frame)
