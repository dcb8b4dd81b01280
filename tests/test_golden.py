"""Golden answers: certified, published or worked out by hand, none of them our own output."""

import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful, geyser_waiting
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture

TYPES = oracle.COVARIANCE_TYPES

# Maximum-likelihood fits of two components, by EM in 34 digits to a change below 1e-24.
# The first agrees with mixtools' normalmixEM, the second with direct optimisation, the third with
# mclust (VVV, 2).
CERTIFIED = {
    "faithful waiting": {
        "data": lambda: faithful()[:, 1:],
        "log_likelihood": -1034.00174983160796,
        "weights": [0.360886073790171539, 0.639113926209828461],
        "means": [[54.6148561406229357], [80.0910694027336434]],
        "covariances": [[[34.4712173864815827]], [[34.430307267164405]]],
    },
    "geyser waiting": {
        "data": geyser_waiting,
        "log_likelihood": -1157.54201599538753,
        "weights": [0.30759356291279477, 0.69240643708720523],
        "means": [[54.2026490363752529], [80.3603091394783562]],
        "covariances": [[[24.5223169075544405]], [[56.3646049388026008]]],
    },
    "faithful": {
        "data": faithful,
        "log_likelihood": -1130.2639601847416,
        "weights": [0.355872857105707618, 0.644127142894292382],
        "means": [
            [2.03638845461995831, 54.4785163769682892],
            [4.28966197309598996, 79.9681151738560759],
        ],
        "covariances": [
            [
                [0.0691676725593107277, 0.435167624443500726],
                [0.435167624443500726, 33.6972820723022351],
            ],
            [
                [0.169968435747095413, 0.940609319270252591],
                [0.940609319270252591, 36.0462113175531889],
            ],
        ],
    },
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_certified_fit(name):
    golden = CERTIFIED[name]
    X = golden["data"]()
    model = GaussianMixture(2, reg_covar=0, tol=0, max_iter=1000, random_state=0)
    with pytest.warns(ConvergenceWarning):  # no change is below 0: all iterations run
        model.fit(X)
    order = np.argsort(model.means_[:, 0])
    assert_allclose(model.score(X) * len(X), golden["log_likelihood"], rtol=1e-8)
    assert_allclose(model.weights_[order], golden["weights"], rtol=1e-6)
    assert_allclose(model.means_[order], golden["means"], rtol=1e-6)
    assert_allclose(model.covariances_[order], golden["covariances"], rtol=1e-6)


# BIC of faithful by mclust, in its sign: 2 log-likelihood - p log n.
MCLUST = {
    "spherical": [-4024.721, -3458.305, -3336.598, -3242.826],
    "diag": [-3055.835, -2346.065, -2342.366, -2343.486],
    "tied": [-2607.623, -2325.220, -2314.316, -2331.223],
    "full": [-2607.623, -2322.192, -2349.696, -2351.493],
}


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_bic_of_mclust(covariance_type, n_components):
    X = faithful()
    # Beyond two components there are many optima: mclust's own, or a better one, takes a search.
    search = {} if n_components <= 2 else {"init_params": "random", "n_init": 30}
    model = GaussianMixture(
        n_components,
        covariance_type=covariance_type,
        reg_covar=0,
        tol=1e-7,
        max_iter=2000,
        random_state=0,
        **search,
    ).fit(X)
    ours, theirs = -model.bic(X), MCLUST[covariance_type][n_components - 1]
    assert ours > theirs - 0.01
    if n_components <= 2:
        assert_allclose(ours, theirs, atol=0.01)


# NIST StRD, univariate summary statistics: data, certified mean and standard deviation (n - 1).
def _numacc(whole):
    return [whole + 0.2] + [whole + 0.1, whole + 0.3] * 500


NIST = {
    "NumAcc1": ([10000001, 10000003, 10000002], 10000002, 1),
    "NumAcc2": (_numacc(1), 1.2, 0.1),
    "NumAcc3": (_numacc(1000000), 1000000.2, 0.1),
    "NumAcc4": (_numacc(10000000), 10000000.2, 0.1),
}


@pytest.mark.nojit
@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("name", NIST)
def test_nist_univariate(name, covariance_type):
    data, mean, deviation = NIST[name]
    X = np.array(data, dtype=np.float64)[:, None]
    model = GaussianMixture(covariance_type=covariance_type, reg_covar=0).fit(X)
    n = len(X)
    assert_allclose(model.means_, [[mean]], rtol=1e-15)
    ours = np.sqrt(model.covariances_.ravel()[0] * n / (n - 1))
    assert_allclose(ours, deviation, rtol=1e-7)


DENSITIES = {
    (0, 0): 0.05094887202534870,
    (1, 1): 0.0345199666732262,
    (2, 2): 0.0469630225387823,
    (3, 3): 0.0643275968499797,
    (-1, 5.3): 2.503171278804795e-06,
    (1.4, 0): 0.0246766821762994,
}


@pytest.mark.nojit
def test_density_by_hand():
    model = GaussianMixture.from_parameters(
        [0.3, 0.7], [[0, 0], [3, 3]], [[[1, 0], [0, 1]], [[2, 1], [1, 2]]]
    )
    X = np.array(list(DENSITIES), dtype=np.float64)
    assert_allclose(np.exp(model.score_samples(X)), list(DENSITIES.values()), rtol=1e-12)
    assert model.n_iter_ == 0


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("shrink", [1.0, 1e-3])
def test_one_iteration_by_the_oracle(covariance_type, shrink):
    X = shrink * faithful()
    start = oracle.fit(X, 3, covariance_type, random_state=1, max_iter=2, reg_covar=0).parameters
    truth = oracle.em(X, start, max_iter=1, reg_covar=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianMixture(max_iter=1, reg_covar=0, **oracle.start_of(start)).fit(X)
    assert_allclose(model.lower_bounds_, truth.lower_bounds, rtol=1e-12)
    for ours, theirs in zip(oracle.parameters_of(model)[:3], truth.parameters[:3], strict=True):
        assert_allclose(ours, theirs, rtol=1e-9)
