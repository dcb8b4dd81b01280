"""Conjugate priors: against scipy's densities and optimisers, and against mclust."""

import warnings

import datasets
import numpy as np
import oracle
import pytest
from datasets import iris
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special, stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from small_models import ARRAYS, each_type, small

from fastgmm import Batches, FitWarning, GaussianMixture, History, load, select_model

PRIORS = ("conjugate", "covariance")
INITS = ("kmeans", "k-means++", "random", "random_from_data")
each_prior = pytest.mark.parametrize("prior", PRIORS)


def fitted(X, kind="full", prior="conjugate", k=2, sample_weight=None, **params):
    params = {"random_state": 0, "tol": 1e-6, "max_iter": 2000, "n_threads": 2, **params}
    model = GaussianMixture(k, covariance_type=kind, prior=prior, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=sample_weight)


def log_prior(X, parameters, prior):
    """The prior's log-density at the parameters, by scipy's distributions."""
    k, d = parameters.means.shape
    kind, nu, kappa = parameters.covariance_type, d + 2, 0.01
    S = np.atleast_2d(np.cov(X.T)) / k ** (2 / d)
    covariances = parameters.covariances
    match kind:
        case "full":
            total = sum(stats.invwishart(nu, S).logpdf(c) for c in covariances)
        case "tied":
            total = stats.invwishart(nu, S).logpdf(covariances)
        case "diag":
            total = stats.invgamma(nu / 2, scale=np.diag(S) / 2).logpdf(covariances).sum()
        case "spherical":
            total = stats.invgamma(nu / 2, scale=np.trace(S) / d / 2).logpdf(covariances).sum()
    if prior == "conjugate":
        matrices = oracle.covariance_matrices(parameters)
        for mean, matrix in zip(parameters.means, matrices, strict=True):
            total += stats.multivariate_normal(X.mean(axis=0), matrix / kappa).logpdf(mean)
    return total


def log_posterior(X, parameters, prior):
    joint = oracle.log_densities(X, parameters) + np.log(parameters.weights)
    return special.logsumexp(joint, axis=1).sum() + log_prior(X, parameters, prior)


def parameters_at(theta, k, d, kind):
    """Any numbers as a mixture: softmax, and factors of precisions with logarithmic diagonals."""
    logits, means, rest = np.split(theta, [k, k + k * d])
    if kind in ("diag", "spherical"):
        covariances = np.exp(-2 * rest).reshape(k, -1) if kind == "diag" else np.exp(-2 * rest)
    else:
        matrices = []
        for part in rest.reshape(-1, d * (d + 1) // 2):
            factor = np.zeros((d, d))
            factor[np.tril_indices(d)] = part
            factor[np.diag_indices(d)] = np.exp(factor.diagonal())
            matrices.append(np.linalg.inv(factor @ factor.T))
        covariances = np.array(matrices) if kind == "full" else matrices[0]
    weights = np.exp(logits - logits.max())
    return oracle.Parameters(weights / weights.sum(), means.reshape(k, d), covariances, kind)


def theta_of(model):
    if model.covariance_type in ("diag", "spherical"):
        rest = -0.5 * np.log(model.covariances_)
    else:
        d = model.n_features_in_
        factors = np.linalg.cholesky(model.precisions_.reshape(-1, d, d))
        diagonal = np.arange(d)
        factors[:, diagonal, diagonal] = np.log(factors[:, diagonal, diagonal])
        rest = factors[:, *np.tril_indices(d)]
    return np.concatenate([np.log(model.weights_), model.means_.ravel(), np.ravel(rest)])


@each_type
@each_prior
def test_the_fit_is_the_mode_of_the_posterior(kind, prior):
    X = iris()[50::3, 2:]  # two species that overlap
    model = fitted(X, kind, prior, tol=1e-13, max_iter=5000)

    def loss(theta):
        return -log_posterior(X, parameters_at(theta, 2, 2, kind), prior)

    theta = theta_of(model)
    gradient = optimize.approx_fprime(theta, loss, 1e-6)
    assert_allclose(gradient, 0.0, atol=2e-3)
    if prior != "conjugate":
        return
    # from elsewhere an optimiser that knows nothing of EM finds the same
    away = theta + 0.05 * np.random.RandomState(0).standard_normal(len(theta))
    found = optimize.minimize(loss, away, method="BFGS", options={"gtol": 1e-3})
    assert_allclose(found.fun, loss(theta), rtol=1e-8)
    mode = parameters_at(found.x, 2, 2, kind)
    assert_allclose(model.means_, mode.means, rtol=1e-3)
    assert_allclose(model.covariances_, mode.covariances, rtol=2e-3, atol=1e-4)


@each_type
@each_prior
def test_bound_is_scipys(kind, prior):
    X = small()
    start = oracle.m_step(X, np.random.RandomState(0).dirichlet(np.ones(3), len(X)), kind)
    model = GaussianMixture(prior=prior, max_iter=1, tol=1e9, **oracle.start_of(start))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # no bound to compare with
        model.fit(X)
    assert_allclose(model.lower_bound_, log_posterior(X, start, prior) / len(X), rtol=1e-12)


# Log-likelihoods after 20 iterations of mclust 6.1.3's compiled mevvvp, meeeep, mevvip and meviip
# from the oracle's random responsibilities, with the numbers of its priorControl() and
# priorControl(shrinkage = 0).  Of the latter, mevvvp divides by one row more than the mode.  For
# 'diag' features are scaled to one variance: mclust's prior has no more.
MCLUST = [
    ("iris", "full", "conjugate", -201.4576831835),
    ("iris", "tied", "conjugate", -380.8311154388),
    ("iris", "tied", "covariance", -380.5418791229),
    ("iris", "diag", "conjugate", -423.0882323282),
    ("iris", "diag", "covariance", -422.6904896882),
    ("iris", "spherical", "conjugate", -444.0417542440),
    ("iris", "spherical", "covariance", -391.0090265270),
    ("faithful", "full", "conjugate", -1132.8506574766),
    ("faithful", "tied", "conjugate", -1289.9249371086),
    ("faithful", "tied", "covariance", -1289.8721504986),
    ("faithful", "diag", "conjugate", -402.0972831496),
    ("faithful", "diag", "covariance", -402.0731987545),
    ("faithful", "spherical", "conjugate", -1709.5808288493),
    ("faithful", "spherical", "covariance", -1709.5500989738),
]


@pytest.mark.parametrize(("data", "kind", "prior", "expected"), MCLUST)
def test_likelihood_is_mclusts(data, kind, prior, expected):
    X = getattr(datasets, data)()
    if kind == "diag":
        X = X / X.std(axis=0, ddof=1)
    k = {"iris": 3, "faithful": 2}[data]
    model = fitted(X, kind, prior, k, init_params="random", max_iter=19, tol=0.0)
    assert model.score(X) * len(X) == pytest.approx(expected, abs=1e-8)
    # information criteria take the likelihood at the mode
    cost = oracle.n_parameters(k, X.shape[1], kind) * np.log(len(X))
    assert model.bic(X) == pytest.approx(cost - 2 * expected, abs=1e-7)


def copies():
    """Two clouds, thirty copies of a row, and three rows far away."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(120, 3)), rng.normal(4.0, 0.5, size=(60, 3))
    return np.concatenate([*clouds, np.full((30, 3), -5.0), rng.normal(20.0, size=(3, 3))])


@each_type
@each_prior
@pytest.mark.parametrize("init", INITS)
def test_nothing_collapses(kind, prior, init):
    X = copies()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FitWarning)
        model = fitted(X, kind, prior, 12, init_params=init, tol=1e-4)
    bounds = np.array(model.lower_bounds_)
    assert (np.diff(bounds) >= -1e-12 * np.abs(bounds[1:])).all()
    smallest = np.linalg.eigvalsh(oracle.covariance_matrices(oracle.parameters_of(model)))[:, 0]
    assert smallest.min() > 1e-3 * np.linalg.eigvalsh(np.cov(X.T))[0]
    assert_allclose(model.weights_.sum(), 1.0)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_maximum_likelihood_collapses_there(kind):
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        fitted(copies(), kind, None, 12, reg_covar=0.0, tol=1e-4)


@each_type
@each_prior
@pytest.mark.parametrize("init", ["k-means++", "random", "random_from_data"])
def test_units_do_not_matter(kind, prior, init):
    X = copies()
    units = 1e6 if kind == "spherical" else np.array([1e6, 1.0, 1e-6])
    if init == "k-means++":  # distances have the units of the features
        units = 1e-6
    here = fitted(X, kind, prior, 5, init_params=init, max_iter=40, tol=0.0)
    there = fitted(X * units, kind, prior, 5, init_params=init, max_iter=40, tol=0.0)
    assert_array_equal(there.predict(X * units), here.predict(X))
    assert_allclose(there.means_ / units, here.means_, rtol=1e-9, atol=1e-10)
    assert_allclose(there.weights_, here.weights_, rtol=1e-9)
    change = np.diff(there.lower_bounds_) - np.diff(here.lower_bounds_)
    assert_allclose(change, 0.0, atol=1e-10)


@each_type
@each_prior
def test_fewer_rows_than_features(kind, prior):
    X = np.random.default_rng(0).normal(size=(6, 9)) * np.geomspace(1e-3, 1e3, 9)
    model = fitted(X, kind, prior, 2)
    assert np.isfinite(model.score_samples(X)).all()
    assert model.predict(X).max() <= 1


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_column_twice(kind):
    X = iris()[:, [0, 1, 2, 1]]
    model = fitted(X, kind, k=3)
    assert np.isfinite(model.lower_bound_)
    assert (np.diff(model.lower_bounds_) > -1e-10).all()


@each_type
def test_constant_columns_are_refused(kind):
    X = iris() * [1.0, 0.0, 1.0, 1.0] + [0.0, 0.1, 0.0, 0.0]
    model = GaussianMixture(2, covariance_type=kind, prior="conjugate")
    with pytest.raises(ValueError, match=r"column 1 \(counted from 0\).*prior=None"):
        model.fit(X)
    assert not hasattr(model, "means_")


def test_weights_that_are_no_rows_are_refused():
    with pytest.raises(ValueError, match="set prior=None"):
        fitted(iris(), sample_weight=np.full(150, 1e-3))


@each_type
@each_prior
def test_a_weight_is_a_number_of_rows(kind, prior):
    X = small()
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    start = oracle.start_of(
        oracle.m_step(X, np.random.RandomState(1).dirichlet(np.ones(2), len(X)), kind)
    )
    params = {"prior": prior, "max_iter": 10, "tol": 0.0, **start}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one = GaussianMixture(**params).fit(X, sample_weight=weight)
        two = GaussianMixture(**params).fit(np.repeat(X, weight, axis=0))
    assert_allclose(one.lower_bounds_, two.lower_bounds_, rtol=1e-11)
    assert_allclose(one.covariances_, two.covariances_, rtol=1e-9, atol=1e-12)


@each_type
@each_prior
def test_incremental_passes_raise_it_too(kind, prior, monkeypatch):
    monkeypatch.setattr("fastgmm._sources._array.block_rows", lambda n_features: 30)
    X = np.random.RandomState(3).permutation(iris())[:, :3]
    plain = fitted(X, kind, prior, init_params="random", tol=1e-9)
    history = History()
    model = GaussianMixture(
        2, covariance_type=kind, prior=prior, init_params="random", random_state=0, tol=1e-9,
        max_iter=2000, incremental_groups=5,
    )  # fmt: skip
    model.set_callbacks(history).fit(X)
    assert_allclose(model.lower_bound_, plain.lower_bound_, rtol=1e-6)
    assert_allclose(model.means_, plain.means_, rtol=1e-2)
    # plain EM takes over with the bound before its own step
    assert (np.sort(np.diff(model.lower_bounds_))[1:] > -1e-12).all()


def test_same_bits_from_any_source_and_threads():
    X = iris()
    here = fitted(X, k=3, n_threads=1)
    for source in (Batches(lambda: np.array_split(X, 4)), np.asfortranarray(X)):
        there = fitted(source, k=3, n_threads=2)
        for name in ARRAYS:
            assert_array_equal(getattr(there, name), getattr(here, name))


def test_float32():
    X = iris().astype(np.float32)
    model = fitted(X, k=3)
    assert model.means_.dtype == np.float32
    wide = fitted(X.astype(np.float64), k=3)
    assert_allclose(model.means_, wide.means_, rtol=1e-3)


@each_prior
def test_saved_cloned_converted(prior, tmp_path):
    X = iris()
    model = fitted(X, prior=prior, k=3)
    model.save(tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    assert again.get_params() == model.get_params() == clone(model).get_params()
    assert again.prior == prior
    assert_array_equal(again.covariances_, model.covariances_)
    assert_allclose(model.to_sklearn().score_samples(X), model.score_samples(X), rtol=1e-12)
    assert GaussianMixture.from_sklearn(model.to_sklearn()).prior is None
    assert model.marginal([0, 2]).prior == prior


def test_warm_start_goes_on():
    X = iris()
    whole = fitted(X, k=3, max_iter=9, tol=0.0)
    parts = fitted(X, k=3, max_iter=4, tol=0.0, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        parts.set_params(max_iter=5).fit(X)
    assert_allclose(parts.means_, whole.means_, rtol=1e-12)


@pytest.mark.parametrize("given", [{"weights_init"}, {"means_init"}, {"precisions_init"}])
def test_given_parts_of_a_start_are_kept(given):
    X = iris()
    start = oracle.start_of(oracle.m_step(X, oracle.one_hot(np.arange(150) // 50, 3), "full"))
    params = {name: start[name] for name in given}
    model = GaussianMixture(3, prior="conjugate", max_iter=0, random_state=0, **params).fit(X)
    for name, value in params.items():
        attribute = {"weights_init": "weights_", "means_init": "means_"}.get(name, "precisions_")
        assert_allclose(getattr(model, attribute), value, rtol=1e-9, atol=1e-12)


def test_starts_from_samples():
    X = iris()
    model = fitted(X, k=3, init_size=60)
    assert model.lower_bound_ == pytest.approx(fitted(X, k=3).lower_bound_, rel=1e-2)


def test_streams_know_no_prior():
    model = GaussianMixture(2, prior="conjugate")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as error:
        model.partial_fit(iris())
    assert "prior=None" in str(error.value.__cause__ or error.value)
    assert hasattr(model.set_params(prior=None), "partial_fit")


def test_selection_does_without_failures():
    selection = select_model(
        copies(), [1, 8, 16], ["full", "diag"], random_state=0, prior="conjugate", tol=1e-4,
        max_iter=1000,
    )  # fmt: skip
    assert all(row.error is None for row in selection.table)
    assert selection.best.prior == "conjugate"


def test_unknown_priors_are_named():
    with pytest.raises(ValueError, match=r"'prior' parameter of GaussianMixture must be"):
        GaussianMixture(prior="jeffreys").fit(iris())
