"""The same bits for any number of threads and any memory layout of the same numbers."""

import warnings

import numpy as np
import oracle
import pytest
from datasets import synthetic
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture

N_SAMPLES = 70_001  # several blocks, the last one not full
THREADS = (1, 2, 3, 7)
FITTED = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_",
    "precisions_cholesky_",
    "lower_bound_",
    "lower_bounds_",
    "n_iter_",
    "converged_",
)
INFERENCE = ("predict", "predict_proba", "score_samples")


def strided(X):
    """View X as every third row and every second column, backwards, of a larger array."""
    larger = np.zeros((3 * X.shape[0], 2 * X.shape[1]), dtype=X.dtype)
    view = larger[::-3, ::-2]
    view[...] = X
    return view


def memory_mapped(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def fit(X, n_threads, sample_weight=None, **params):
    model = GaussianMixture(3, n_threads=n_threads, random_state=0, max_iter=3, tol=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=sample_weight)


def assert_same_bits(model, expected, X, X_expected):
    for name in FITTED:
        ours, theirs = getattr(model, name), getattr(expected, name)
        assert_array_equal(ours, theirs, err_msg=name)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    for name in INFERENCE:
        assert_array_equal(getattr(model, name)(X), getattr(expected, name)(X_expected))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("covariance_type", oracle.COVARIANCE_TYPES)
def test_threads_and_layouts(covariance_type, dtype, tmp_path):
    X = synthetic(N_SAMPLES).astype(dtype)
    layouts = {
        "C": X,
        "Fortran": np.asfortranarray(X),
        "strided": strided(X),
        "memory-mapped": memory_mapped(X, tmp_path),
    }
    expected = fit(X, 1, covariance_type=covariance_type)
    for n_threads in THREADS:
        for other in layouts.values():
            model = fit(other, n_threads, covariance_type=covariance_type)
            assert_same_bits(model, expected, other, X)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_start(init_params, weighted):
    X = synthetic(N_SAMPLES)
    w = np.random.RandomState(0).uniform(size=N_SAMPLES) if weighted else None
    expected = fit(X, 1, w, init_params=init_params)
    model = fit(np.asfortranarray(X), 3, w, init_params=init_params)
    assert_same_bits(model, expected, X, X)


def test_environment_does_not_change_bits(monkeypatch):
    X = synthetic(N_SAMPLES)
    expected = fit(X, None)
    for number in ("1", "5"):
        monkeypatch.setenv("FASTGMM_NUM_THREADS", number)
        assert_same_bits(fit(X, None), expected, X, X)


def test_sample_of_rows_for_the_start():
    X = synthetic(N_SAMPLES)
    expected = fit(X, 1, init_size=5000)
    assert_same_bits(fit(strided(X), 7, init_size=5000), expected, X, X)
    whole = fit(X, 2, init_size=N_SAMPLES)
    assert_same_bits(whole, fit(X, 2), X, X)
