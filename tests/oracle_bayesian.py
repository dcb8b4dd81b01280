"""Slow and obvious truth for variational inference: the formulas of Bishop (2006), section 10.2.

One component after the other, responsibilities written out, in whatever precision X has (long
double works: nothing here calls LAPACK). Constants that scikit-learn leaves out of the bound are
left out. Nothing here imports fastgmm or sklearn.mixture.
"""

from typing import NamedTuple

import numpy as np
from scipy import special


class Priors(NamedTuple):
    """What is believed before any row is seen."""

    process: bool  # a Dirichlet process rather than a Dirichlet distribution
    alpha: float
    beta: float
    mean: np.ndarray
    nu: float
    scale: np.ndarray  # (d, d), (d,) or a number; the inverse of W_0


class Posterior(NamedTuple):
    """Weights' concentration, then beta, m, nu and W^-1 / nu of each component."""

    concentration: np.ndarray
    beta: np.ndarray
    means: np.ndarray
    nu: np.ndarray  # (K,), or a number for tied
    covariances: np.ndarray


def default_priors(X, n_components, covariance_type, process, sample_weight=None):
    """scikit-learn's defaults; a weight is a number of rows."""
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    mean = (w[:, None] * X).sum(axis=0) / w.sum()
    scatter = (w[:, None] * (X - mean)).T @ (X - mean) / (w.sum() - 1)
    d = X.shape[1]
    scale = {
        "full": scatter,
        "tied": scatter,
        "diag": np.diag(scatter),
        "spherical": np.trace(scatter) / d,
    }[covariance_type]
    return Priors(process, 1.0 / n_components, 1.0, mean, d, scale)


def cholesky(matrix):
    """Lower factor by the textbook, in any precision."""
    d = len(matrix)
    factor = np.zeros_like(matrix)
    for j in range(d):
        factor[j, j] = np.sqrt(matrix[j, j] - factor[j, :j] @ factor[j, :j])
        for i in range(j + 1, d):
            factor[i, j] = (matrix[i, j] - factor[i, :j] @ factor[j, :j]) / factor[j, j]
    return factor


def solve_lower(factor, columns):
    """Forward substitution, in any precision."""
    solved = np.zeros_like(columns)
    for i in range(len(factor)):
        solved[i] = (columns[i] - factor[i, :i] @ solved[:i]) / factor[i, i]
    return solved


def matrices(covariances, covariance_type, K, d):
    """Covariances of any type as (K, d, d)."""
    eye = np.eye(d)
    return {
        "full": lambda: covariances,
        "tied": lambda: np.stack([covariances] * K),
        "diag": lambda: covariances[:, :, None] * eye,
        "spherical": lambda: covariances[:, None, None] * eye,
    }[covariance_type]()


def log_determinants(posterior, covariance_type):
    """Log-determinants of the expected precisions W nu, (K,)."""
    K, d = posterior.means.shape
    stack = matrices(posterior.covariances, covariance_type, K, d)
    return np.array([-2 * np.log(np.diag(cholesky(matrix))).sum() for matrix in stack])


def expected_log_weights(posterior, priors):
    """E[log pi]: equation 10.66, or the sticks of Blei and Jordan."""
    if not priors.process:
        alpha = posterior.concentration
        return special.digamma(alpha.astype(float)) - special.digamma(float(alpha.sum()))
    a, b = posterior.concentration.astype(float)
    broken = special.digamma(a) - special.digamma(a + b)
    left = special.digamma(b) - special.digamma(a + b)
    return np.array([broken[k] + left[:k].sum() for k in range(len(a))])


def log_rho(X, posterior, priors, covariance_type):
    """Equation 10.46 with 10.64 and 10.65, (n, K)."""
    K, d = posterior.means.shape
    stack = matrices(posterior.covariances, covariance_type, K, d)
    nu = np.broadcast_to(posterior.nu, K).astype(float)
    log_weights = expected_log_weights(posterior, priors)
    columns = []
    for k in range(K):
        factor = cholesky(stack[k])
        square = (solve_lower(factor, (X - posterior.means[k]).T) ** 2).sum(axis=0)
        log_lambda = special.digamma((nu[k] - np.arange(d)) / 2).sum() + d * np.log(2)
        log_lambda += -2 * np.log(np.diag(factor)).sum() - d * np.log(nu[k])
        log_gauss = log_lambda / 2 - d / 2 * np.log(2 * np.pi)
        columns.append(log_weights[k] + log_gauss - (d / posterior.beta[k] + square) / 2)
    return np.column_stack(columns)


def log_responsibilities(rho):
    """Normalised over components."""
    top = rho.max(axis=1, keepdims=True)
    return rho - top - np.log(np.exp(rho - top).sum(axis=1, keepdims=True))


def update(X, resp, priors, covariance_type, reg_covar=1e-6):
    """Equations 10.58 to 10.63; covariances divided by nu, sums over components if shared."""
    K = resp.shape[1]
    d = X.shape[1]
    eye = np.eye(d)
    N = resp.sum(axis=0) + 10 * np.finfo(float).eps
    beta = priors.beta + N
    means = np.empty((K, d), X.dtype)
    scatters = np.empty((K, d, d), X.dtype)
    for k in range(K):
        average = (resp[:, k, None] * (X - priors.mean)).sum(axis=0) / N[k]
        centred = X - priors.mean - average
        S = (resp[:, k, None] * centred).T @ centred + N[k] * reg_covar * eye
        scatters[k] = S + N[k] * priors.beta / beta[k] * np.outer(average, average)
        means[k] = priors.mean + N[k] / beta[k] * average
    nu = priors.nu + N
    match covariance_type:
        case "full":
            covariances = (priors.scale + scatters) / nu[:, None, None]
        case "tied":
            nu = priors.nu + N.sum() / K
            covariances = (priors.scale + scatters.sum(axis=0) / K) / nu
        case "diag":
            covariances = (priors.scale + scatters.diagonal(axis1=1, axis2=2)) / nu[:, None]
        case "spherical":
            covariances = (priors.scale + scatters.trace(axis1=1, axis2=2) / d) / nu
    concentration = priors.alpha + N
    if priors.process:
        later = np.array([N[k + 1 :].sum() for k in range(K)])
        concentration = np.stack([1 + N, priors.alpha + later])
    return Posterior(concentration, beta, means, nu, covariances)


def bound(log_resp, posterior, priors, covariance_type, sample_weight=None):
    """The bound right after an update, without the constants that scikit-learn leaves out."""
    K, d = posterior.means.shape
    w = np.ones(len(log_resp)) if sample_weight is None else sample_weight
    entropy = -(w[:, None] * np.exp(log_resp) * log_resp).sum()
    nu = np.broadcast_to(posterior.nu, K).astype(float)
    log_scale = log_determinants(posterior, covariance_type) - d * np.log(nu)
    wishart = 0.0
    for k in range(K):
        gammas = special.gammaln((nu[k] - np.arange(d)) / 2).sum()
        wishart -= nu[k] / 2 * log_scale[k] + nu[k] * d / 2 * np.log(2) + gammas
    concentration = posterior.concentration.astype(float)
    if priors.process:
        weights = -special.betaln(*concentration).sum()
    else:
        weights = special.gammaln(concentration.sum()) - special.gammaln(concentration).sum()
    return float(entropy - wishart - weights - d / 2 * np.log(posterior.beta).sum())


def fit(X, resp, priors, covariance_type, n_iter, *, reg_covar=1e-6, sample_weight=None):
    """Run so many iterations from responsibilities; return the posterior and all bounds."""
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    posterior = update(X, w[:, None] * resp, priors, covariance_type, reg_covar)
    bounds = []
    for _ in range(n_iter):
        log_resp = log_responsibilities(log_rho(X, posterior, priors, covariance_type))
        weighted = w[:, None] * np.exp(log_resp)
        posterior = update(X, weighted, priors, covariance_type, reg_covar)
        bounds.append(bound(log_resp, posterior, priors, covariance_type, sample_weight))
    return posterior, bounds
