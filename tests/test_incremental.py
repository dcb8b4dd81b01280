"""Incremental EM against the oracle's, and against batch EM."""

import warnings
from itertools import pairwise

import numpy as np
import oracle
import pytest
from datasets import faithful, iris, synthetic, wine
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from small_models import each_type

from fastgmm import GaussianMixture, History

BLOCK = 30


@pytest.fixture
def small_blocks(monkeypatch):
    """Sources of few rows with several blocks."""
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: BLOCK)


def start_for(X, kind, k, weights=None):
    r = np.random.RandomState(0).dirichlet(np.full(k, 0.3), len(X))
    return oracle.m_step(X, r, kind, 1e-6, weights)


def fit(X, start, n_groups, n_passes, weights=None, **params):
    params = {"tol": 0.0, "max_iter": n_passes, "incremental_groups": n_groups, **params}
    model = GaussianMixture(**oracle.start_of(start), **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=weights)


def slices(n, n_groups):
    """Rows of groups of whole blocks, sizes as even as they go."""
    n_blocks = -(-n // BLOCK)
    edges = [BLOCK * (n_blocks * g // n_groups) for g in range(n_groups + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def assert_same_parameters(model, truth, rtol=1e-8):
    ours = oracle.parameters_of(model)
    for name in ("weights", "means", "covariances"):
        one, two = getattr(ours, name), getattr(truth, name)
        assert_allclose(one, two, rtol=rtol, atol=rtol * np.abs(two).max(), err_msg=name)


def some_flowers():
    return np.random.RandomState(3).permutation(iris())[:, :3]


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_every_pass_is_the_oracles(kind, weighted, small_blocks):
    X = some_flowers()
    w = np.random.RandomState(1).uniform(0.1, 2.0, len(X)) if weighted else None
    start = start_for(X, kind, 2, w)
    for n_groups in (2, 3, 5):
        groups = slices(len(X), n_groups)
        truth, bounds = oracle.incremental_em(X, start, groups, 4, sample_weight=w)
        model = fit(X, start, n_groups, 4, w)
        assert_same_parameters(model, truth)
        assert_allclose(model.lower_bounds_, bounds, rtol=1e-9)
        assert model.n_iter_ == 4
        assert not model.converged_


@each_type
def test_far_from_the_origin_nothing_changes(kind, small_blocks):
    X = some_flowers() + 2.0**20
    start = start_for(X, kind, 2)
    truth, _ = oracle.incremental_em(X, start, slices(len(X), 4), 5)
    model = fit(X, start, 4, 5)
    assert_same_parameters(model, truth, 1e-8)
    assert_allclose(model.means_ - 2.0**20, truth.means - 2.0**20, rtol=1e-7)


@each_type
def test_float32_rows(kind, small_blocks):
    X = some_flowers().astype(np.float32)
    start = start_for(X, kind, 2)
    truth, _ = oracle.incremental_em(X, start, slices(len(X), 4), 4)
    model = fit(X, start, 4, 4)
    assert model.means_.dtype == np.float32
    assert_same_parameters(model, truth, 3e-5)


@each_type
def test_a_weight_of_two_is_the_row_twice(kind, monkeypatch):
    X = some_flowers()[:120]
    start = start_for(X, kind, 2)
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 30)
    weighted = fit(X, start, 4, 4, np.full(len(X), 2.0))
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 60)
    repeated = fit(np.repeat(X, 2, axis=0), start, 4, 4)
    assert_same_parameters(weighted, oracle.parameters_of(repeated))
    assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-12)


@each_type
def test_without_regularisation_the_free_energy_never_falls(kind, small_blocks):
    X = some_flowers()
    model = fit(X, start_for(X, kind, 3), 5, 60, reg_covar=0.0)
    rises = np.diff(model.lower_bounds_)
    assert (rises >= -1e-12 * abs(model.lower_bound_)).all()
    assert model.lower_bound_ > model.lower_bounds_[0] + 0.1


@pytest.mark.filterwarnings("ignore::fastgmm.FitWarning")  # some of these are near a collapse
@each_type
@pytest.mark.parametrize("data", [iris, faithful, wine])
def test_it_ends_where_batch_em_does_or_above(kind, data, small_blocks):
    X = data()
    X = np.random.RandomState(0).permutation((X - X.mean(axis=0)) / X.std(axis=0))
    tol = 1e-4
    for k in (2, 3):
        params = {"covariance_type": kind, "random_state": 0, "tol": tol, "max_iter": 1000}
        batch = GaussianMixture(k, **params).fit(X)
        model = GaussianMixture(k, incremental_groups=4, **params).fit(X)
        assert model.converged_
        assert model.lower_bound_ > batch.lower_bound_ - tol
        # the last bounds are batch EM's own, and no bound lies below those before it
        truth = oracle.score_samples(X, oracle.parameters_of(model)).mean()
        assert abs(model.lower_bound_ - truth) < tol
        assert (np.diff(model.lower_bounds_) > -1e-6).all()


def test_fewer_passes_where_em_is_slow():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 2)) + 2.0 * rng.integers(2, size=(60_000, 1))
    params = {"init_params": "random_from_data", "random_state": 0, "tol": 1e-6, "max_iter": 500}
    models = [GaussianMixture(2, incremental_groups=n, **params).fit(X) for n in (1, 8)]
    assert all(model.converged_ for model in models)
    assert models[1].lower_bound_ > models[0].lower_bound_
    assert models[1].n_iter_ < 0.75 * models[0].n_iter_


def test_same_bits_for_any_number_of_threads():
    X = synthetic(40_001)
    start = start_for(X, "full", 3)
    models = [fit(X, start, 4, 5, n_threads=n_threads) for n_threads in (1, 2, 5)]
    for model in models[1:]:
        assert model.lower_bounds_ == models[0].lower_bounds_
        assert_array_equal(model.covariances_, models[0].covariances_)


@pytest.mark.nojit
def test_one_group_or_one_block_is_batch_em(small_blocks):
    X = some_flowers()
    start = start_for(X, "full", 2)
    expected = fit(X, start, 1, 3)
    few = fit(X[:BLOCK], start, 4, 3)
    assert fit(X[:BLOCK], start, 1, 3).lower_bounds_ == few.lower_bounds_
    # as many groups as blocks, at most
    assert fit(X, start, 64, 3).lower_bounds_ == fit(X, start, 5, 3).lower_bounds_
    assert expected.lower_bounds_ != fit(X, start, 5, 3).lower_bounds_


@pytest.mark.nojit
def test_a_component_without_weight_stays_dead_in_silence(small_blocks):
    X = some_flowers()
    start = start_for(X, "diag", 3)._replace(weights=np.array([0.4, 0.0, 0.6]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = fit(X, start, 3, 3)
    assert model.weights_[1] == pytest.approx(0.0, abs=1e-15)
    assert np.isfinite(model.lower_bounds_).all()


@pytest.mark.nojit
def test_callbacks_see_every_pass(small_blocks):
    X = some_flowers()
    history = History()
    model = GaussianMixture(2, random_state=0, incremental_groups=3, tol=1e-3)
    model.set_callbacks(history).fit(X)
    assert model.converged_
    assert [record.iteration for record in history.records] == list(range(1, model.n_iter_ + 1))
    assert_array_equal(history.bounds, model.lower_bounds_)
    assert_array_equal(history.records[-1].means, model.means_)


@pytest.mark.nojit
def test_a_warm_start_goes_on(small_blocks):
    X = some_flowers()
    model = GaussianMixture(2, random_state=0, incremental_groups=3, warm_start=True).fit(X)
    before = model.lower_bound_
    assert model.fit(X).lower_bound_ > before - 1e-9


@pytest.mark.nojit
@pytest.mark.parametrize("wrong", [0, 65, 2.5, "all", None])
def test_bad_numbers_of_groups(wrong):
    with pytest.raises(ValueError, match="incremental_groups"):
        GaussianMixture(2, incremental_groups=wrong).fit(some_flowers())
