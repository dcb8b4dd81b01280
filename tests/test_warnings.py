"""What a fit says about itself: each kind of trouble once, and nothing without trouble."""

import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful, iris
from sklearn.exceptions import ConvergenceWarning
from small_models import each_type, fitted, small

from fastgmm import FitWarning, GaussianMixture

nojit = pytest.mark.nojit


def warnings_of(model, X, **fit_params):
    """Fit, and return the texts of the FitWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, **fit_params)
    own = [w for w in caught if issubclass(w.category, FitWarning)]
    others = [w for w in caught if w not in own]
    assert all(issubclass(w.category, ConvergenceWarning) for w in others)
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
    assert f"by up to {fall:.3g}:" in falls[0]


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


@nojit
@pytest.mark.parametrize("method", ["fit", "fit_predict"])
def test_warnings_blame_the_caller(method):
    X = np.insert(small(), 1, 4.5, axis=1)
    model = GaussianMixture(2, max_iter=1, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, method)(X)
    assert {w.category for w in caught} == {FitWarning, ConvergenceWarning}
    assert {w.filename for w in caught} == {__file__}
