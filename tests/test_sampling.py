"""Samples: scikit-learn's draws, and any generator's in the same order."""

import numpy as np
import oracle
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from small_models import each_type, known, made

from fastgmm import GaussianMixture

nojit = pytest.mark.nojit


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
