"""The libraries compared, behind one call: so many EM iterations from a given start."""

from __future__ import annotations

import importlib.util

import numpy as np
from sklearn import mixture
from threadpoolctl import threadpool_limits

from benchmarks.cases import given_fit
from fastgmm import GaussianMixture


class Unsupported(Exception):
    """The library has no such model."""


def fit_fastgmm(iterations, X, case, start, threads, **params):
    params = {"n_threads": threads, **params}
    return given_fit(GaussianMixture, case, X, start, iterations, **params).lower_bound_


def fit_sklearn(iterations, X, case, start, threads):
    with threadpool_limits(threads):
        return given_fit(mixture.GaussianMixture, case, X, start, iterations).lower_bound_


def fit_daal4py(iterations, X, case, start, threads):
    import daal4py

    storage = {"full": "full", "diag": "diagonal"}.get(case.covariance_type)
    if storage is None:
        raise Unsupported
    daal4py.daalinit(threads)
    algorithm = daal4py.em_gmm(
        nComponents=case.k,
        maxIterations=iterations,
        accuracyThreshold=1e-300,
        covarianceStorage=storage,
        fptype="float" if X.dtype == np.float32 else "double",
    )
    covariance = np.diag(start.variances) if storage == "full" else start.variances[None]
    values = (start.weights[None], start.means, *[covariance] * case.k)
    weights, means, *covariances = (np.ascontiguousarray(v, dtype=X.dtype) for v in values)
    result = algorithm.compute(X, weights, means, covariances)
    return float(np.ravel(result.goalFunction)[0]) / case.n


def fit_pomegranate(iterations, X, case, start, threads):
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    if case.covariance_type not in ("full", "diag"):
        raise Unsupported
    torch.set_num_threads(threads)
    covariance = np.diag(start.variances) if case.covariance_type == "full" else start.variances
    components = [
        Normal(torch.tensor(mean), torch.tensor(covariance), covariance_type=case.covariance_type)
        for mean in start.means
    ]
    priors = torch.tensor(start.weights)
    model = GeneralMixtureModel(components, priors=priors, max_iter=iterations, tol=-np.inf)
    model.fit(torch.from_numpy(X))


def fit_gmmx(iterations, X, case, start, threads):
    """Fit in float32, the library's own choice; JAX takes all cores of the process."""
    from gmmx import EMFitter, GaussianMixtureModelJax

    storage = {"full": "full", "diag": "diag"}.get(case.covariance_type)
    # it keeps arrays of n K d^2 numbers
    if storage is None or case.n * case.k * case.d**2 > 4e8:
        raise Unsupported
    covariances = start.matrices() if storage == "full" else np.tile(start.variances, (case.k, 1))
    model = GaussianMixtureModelJax.from_squeezed(
        means=start.means.astype(np.float32),
        covariances=covariances.astype(np.float32),
        weights=start.weights.astype(np.float32),
        covariance_type=storage,
    )
    fitter = EMFitter(tol=0.0, max_iter=iterations)
    fitter.fit(X.astype(np.float32), model).log_likelihood.block_until_ready()


OPTIONAL = {"daal4py": fit_daal4py, "pomegranate": fit_pomegranate, "gmmx": fit_gmmx}


def available():
    """Give name -> fit of the libraries that are installed, ours first."""
    peers = {"fastgmm": fit_fastgmm, "scikit-learn": fit_sklearn}
    installed = {name: fit for name, fit in OPTIONAL.items() if importlib.util.find_spec(name)}
    return peers | installed
