"""Slow and obvious truth for everything fastgmm computes fast.

Float64 throughout, one component after the other, covariances in two passes about the mean,
n×K arrays without shame. Formulas are scikit-learn's where it has one. Nothing here imports
fastgmm; a test compares the two.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, special, stats

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


class Parameters(NamedTuple):
    """A mixture: weights (K,), means (K, d), covariances in the shape of their type."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    covariance_type: str


class EMResult(NamedTuple):
    """What a fit leaves behind."""

    parameters: Parameters
    lower_bounds: list
    n_iter: int
    converged: bool


def covariance_matrices(parameters):
    """Covariances of any type as (K, d, d)."""
    K, d = parameters.means.shape
    covariances = np.asarray(parameters.covariances, dtype=np.float64)
    match parameters.covariance_type:
        case "full":
            return covariances
        case "tied":
            return np.array([covariances] * K)
        case "diag":
            return np.array([np.diag(variances) for variances in covariances])
        case "spherical":
            return np.array([variance * np.eye(d) for variance in covariances])


def compact(matrices, covariance_type):
    """Matrices (K, d, d) in the shape of their type; what the type cannot hold is dropped."""
    match covariance_type:
        case "full":
            return np.array(matrices)
        case "tied":
            return np.array(matrices[0])
        case "diag":
            return np.array([np.diag(matrix) for matrix in matrices])
        case "spherical":
            return np.array([np.trace(matrix) / len(matrix) for matrix in matrices])


def precisions(parameters):
    """Inverse covariances, in the shape of the type."""
    if parameters.covariance_type in ("full", "tied"):
        return np.linalg.inv(parameters.covariances)
    return 1.0 / np.asarray(parameters.covariances)


# --- densities --------------------------------------------------------------------------------


def mahalanobis(X, parameters):
    """Distances (not squared) of rows from component means, (n, K)."""
    X = np.asarray(X, dtype=np.float64)
    columns = []
    for mean, covariance in zip(parameters.means, covariance_matrices(parameters), strict=True):
        factor = linalg.cholesky(covariance, lower=True)
        whitened = linalg.solve_triangular(factor, (X - mean).T, lower=True)
        columns.append(np.sqrt((whitened**2).sum(axis=0)))
    return np.column_stack(columns)


def log_densities(X, parameters):
    """Log N_k(x) without the weights, (n, K)."""
    X = np.asarray(X, dtype=np.float64)
    return np.column_stack(
        [
            np.reshape(stats.multivariate_normal(mean, covariance).logpdf(X), len(X))
            for mean, covariance in zip(
                parameters.means, covariance_matrices(parameters), strict=True
            )
        ]
    )


def weighted_log_densities(X, parameters):
    """Log densities by triangular solves, plus log weights, (n, K); any scale of covariance."""
    d = parameters.means.shape[1]
    factors = [linalg.cholesky(c, lower=True) for c in covariance_matrices(parameters)]
    log_determinants = np.array([2 * np.log(np.diag(factor)).sum() for factor in factors])
    squares = mahalanobis(X, parameters) ** 2
    with np.errstate(divide="ignore"):  # a weight of zero is a density of zero
        log_weights = np.log(np.asarray(parameters.weights, dtype=np.float64))
    return log_weights - 0.5 * (d * np.log(2 * np.pi) + log_determinants + squares)


def score_samples(X, parameters):
    """Log-likelihood of each row, (n,)."""
    return special.logsumexp(weighted_log_densities(X, parameters), axis=1)


def responsibilities(X, parameters):
    """Posterior probabilities, (n, K); rows sum to 1."""
    return special.softmax(weighted_log_densities(X, parameters), axis=1)


def n_parameters(n_components, n_features, covariance_type):
    """Free parameters of a mixture."""
    K, d = n_components, n_features
    of_covariances = {
        "full": K * d * (d + 1) // 2,
        "tied": d * (d + 1) // 2,
        "diag": K * d,
        "spherical": K,
    }
    return of_covariances[covariance_type] + K * d + K - 1


# --- EM -----------------------------------------------------------------------------------------


def m_step(X, resp, covariance_type, reg_covar=1e-6, sample_weight=None, eps=None):
    """Parameters from responsibilities; covariances about the new means, in two passes.

    `eps` is what scikit-learn adds to each component's count: ten times the machine epsilon of
    the responsibilities' dtype. Its weights are divided by their sum, as in its M-step.
    """
    X = np.asarray(X, dtype=np.float64)
    if eps is None:
        eps = 10 * np.finfo(np.float64).eps
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    resp = np.asarray(resp, dtype=np.float64) * w[:, None]
    # Sums about a centre inside the data: an offset costs no digits.
    centre = X.mean(axis=0)
    Y = X - centre
    counts = resp.sum(axis=0) + eps
    means = (resp.T @ Y - eps * centre) / counts[:, None]
    d = X.shape[1]
    scatters = np.empty((len(means), d, d))
    for k, mean in enumerate(means):
        difference = Y - mean
        scatters[k] = (resp[:, k, None] * difference).T @ difference
    within = scatters / counts[:, None, None]
    match covariance_type:
        case "full":
            covariances = within + reg_covar * np.eye(d)
        case "tied":
            covariances = scatters.sum(axis=0) / counts.sum() + reg_covar * np.eye(d)
        case "diag":
            covariances = within.diagonal(axis1=1, axis2=2) + reg_covar
        case "spherical":
            covariances = within.trace(axis1=1, axis2=2) / d + reg_covar
    return Parameters(counts / counts.sum(), means + centre, covariances, covariance_type)


def initial_parameters(X, resp, covariance_type, reg_covar=1e-6, sample_weight=None):
    """The start scikit-learn makes of responsibilities: weights divided by n, whatever their sum.

    Responsibilities that leave rows out (k-means++ and random_from_data, one row a component) have
    no variance: there scikit-learn's own raw moments decide, to the last digit in diag and
    spherical, and with the moments of *all* rows about the origin in tied.
    """
    start = m_step(X, resp, covariance_type, reg_covar, sample_weight)
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    counts = (resp * w[:, None]).sum(axis=0) + 10 * np.finfo(np.float64).eps
    start = start._replace(weights=counts / w.sum())
    if np.allclose(resp.sum(axis=1), 1) or covariance_type == "full":
        return start
    resp = resp * w[:, None]
    means = resp.T @ X / counts[:, None]
    if covariance_type == "tied":
        raw = (X * w[:, None]).T @ X - (counts * means.T) @ means
        return start._replace(covariances=raw / counts.sum() + reg_covar * np.eye(X.shape[1]))
    variances = (resp.T @ (X * X)) / counts[:, None] - means**2 + reg_covar
    if covariance_type == "spherical":
        variances = variances.mean(axis=1)
    return start._replace(means=means, covariances=variances)


def em(X, start, *, tol=1e-3, max_iter=100, reg_covar=1e-6, sample_weight=None):
    """EM from a given start, in scikit-learn's order.

    E-step with the old parameters, M-step, then the test `abs(change) < tol`; the bound is the
    (weighted) mean log-likelihood *before* the M-step, and the newer parameters are kept.
    """
    parameters, bound, bounds = start, -np.inf, []
    for iteration in range(1, max_iter + 1):
        previous = bound
        log_likelihood = score_samples(X, parameters)
        resp = responsibilities(X, parameters)
        parameters = m_step(X, resp, start.covariance_type, reg_covar, sample_weight)
        bound = np.average(log_likelihood, weights=sample_weight)
        bounds.append(bound)
        if abs(bound - previous) < tol:
            return EMResult(parameters, bounds, iteration, True)
    return EMResult(parameters, bounds, max_iter, False)


def one_hot(labels, n_components):
    """Labels as responsibilities, (n, K)."""
    return (np.asarray(labels)[:, None] == np.arange(n_components)).astype(np.float64)


# --- initialisation: scikit-learn's draws, in its order ---------------------------------------


def initial_responsibilities(X, n_components, init_params, random_state, sample_weight=None):
    """What each of the four `init_params` starts from, (n, K)."""
    X = np.asarray(X, dtype=np.float64)
    n, K = len(X), n_components
    rng = np.random.RandomState(random_state)
    resp = np.zeros((n, K))
    match init_params:
        case "kmeans":
            resp = one_hot(kmeans(X, K, rng, sample_weight), K)
        case "k-means++":
            resp[kmeans_plusplus(X, K, rng, sample_weight), np.arange(K)] = 1
        case "random":
            resp = rng.uniform(size=(n, K))
            resp /= resp.sum(axis=1, keepdims=True)
        case "random_from_data":
            resp[rng.choice(n, size=K, replace=False), np.arange(K)] = 1
    return resp


def squared_distances(X, centers):
    """Squared Euclidean distances from differences, (n, K)."""
    return ((X[:, None, :] - centers[None, :, :]) ** 2).sum(axis=2)


def kmeans_plusplus(X, n_clusters, rng, sample_weight=None):
    """Rows chosen by greedy k-means++: the best of 2 + log(K) candidates each time."""
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    n_trials = 2 + int(np.log(n_clusters))
    chosen = [rng.choice(len(X), p=w / w.sum())]
    closest = squared_distances(X, X[chosen])[:, 0]
    for _ in range(1, n_clusters):
        thresholds = rng.uniform(size=n_trials) * (closest @ w)
        candidates = np.searchsorted(np.cumsum(w * closest), thresholds)
        candidates = np.minimum(candidates, len(X) - 1)
        trials = np.minimum(closest[:, None], squared_distances(X, X[candidates]))
        best = np.argmin(w @ trials)
        chosen.append(candidates[best])
        closest = trials[:, best]
    return np.array(chosen)


def kmeans(X, n_clusters, rng, sample_weight=None, max_iter=300, tol=1e-4):
    """Labels by Lloyd's algorithm from greedy k-means++, on centred data.

    Stops when the labels repeat, or when the centres' squared shift is at most `tol` times the
    mean variance; then the labels are those of the last centres. A cluster without rows moves to
    the row farthest from its centre.
    """
    w = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    threshold = tol * np.mean(np.var(X, axis=0))
    X = X - X.mean(axis=0)
    centers = X[kmeans_plusplus(X, n_clusters, rng, sample_weight)]
    labels = np.full(len(X), -1)
    for _ in range(max_iter):
        previous_labels, previous = labels, centers
        labels = np.argmin(squared_distances(X, centers), axis=1)
        resp = one_hot(labels, n_clusters) * w[:, None]
        counts, sums = resp.sum(axis=0), resp.T @ X
        _fill_empty(X, w, labels, previous, counts, sums)
        occupied = counts > 0
        # As in scikit-learn, a cluster that stays empty goes where the biggest one is.
        centers = np.repeat(sums[[np.argmax(counts)]] / counts.max(), n_clusters, axis=0)
        centers[occupied] = sums[occupied] / counts[occupied, None]
        if np.array_equal(labels, previous_labels):
            return labels
        if ((centers - previous) ** 2).sum() <= threshold:
            break
    return np.argmin(squared_distances(X, centers), axis=1)


def _fill_empty(X, w, labels, centers, counts, sums):
    empty = np.flatnonzero(counts == 0)
    distances = ((X - centers[labels]) ** 2).sum(axis=1)
    if not len(empty) or distances.max() == 0:
        return
    farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
    for cluster, row in zip(empty, farthest, strict=True):
        sums[labels[row]] -= w[row] * X[row]
        counts[labels[row]] -= w[row]
        sums[cluster], counts[cluster] = w[row] * X[row], w[row]


# --- fits, for comparison with an estimator -----------------------------------------------------


def fit(
    X,
    n_components,
    covariance_type,
    *,
    init_params="kmeans",
    random_state=0,
    reg_covar=1e-6,
    tol=1e-3,
    max_iter=100,
    sample_weight=None,
):
    """One whole fit from a seed."""
    resp = initial_responsibilities(X, n_components, init_params, random_state, sample_weight)
    start = initial_parameters(X, resp, covariance_type, reg_covar, sample_weight)
    return em(
        X, start, tol=tol, max_iter=max_iter, reg_covar=reg_covar, sample_weight=sample_weight
    )


def parameters_of(model):
    """The parameters of a fitted estimator, in float64."""
    return Parameters(
        np.asarray(model.weights_, dtype=np.float64),
        np.asarray(model.means_, dtype=np.float64),
        np.asarray(model.covariances_, dtype=np.float64),
        model.covariance_type,
    )


def start_of(parameters):
    """Constructor arguments that start an estimator at these parameters."""
    return {
        "n_components": len(parameters.weights),
        "covariance_type": parameters.covariance_type,
        "weights_init": parameters.weights,
        "means_init": parameters.means,
        "precisions_init": precisions(parameters),
    }


# --- EM by parts ------------------------------------------------------------------------------


def free_energy(X, resp, parameters, sample_weight=None):
    """Mean over rows of E[log p(x, k)] + entropy, for any responsibilities (n, K)."""
    terms = resp * weighted_log_densities(X, parameters) - special.xlogy(resp, resp)
    return np.average(terms.sum(axis=1), weights=sample_weight)


def incremental_em(X, start, groups, n_passes, *, reg_covar=1e-6, sample_weight=None):
    """Neal and Hinton's: an E-step of one group (a slice), an M-step, the next group.

    The first pass is an iteration of batch EM. Returns the parameters and free energies after
    each pass.
    """
    resp = responsibilities(X, start)
    parameters = m_step(X, resp, start.covariance_type, reg_covar, sample_weight)
    bounds = [free_energy(X, resp, parameters, sample_weight)]
    for _ in range(n_passes - 1):
        for rows in groups:
            resp[rows] = responsibilities(X[rows], parameters)
            parameters = m_step(X, resp, start.covariance_type, reg_covar, sample_weight)
        bounds.append(free_energy(X, resp, parameters, sample_weight))
    return parameters, bounds


def stepwise_em(batches, start, steps, *, reg_covar=1e-6, sample_weights=None):
    """Cappé and Moulines': each batch is seen once, and fades as those behind it come.

    All rows are kept with the responsibilities of their one E-step; `steps` has a number for each
    batch. Returns the parameters after each batch.
    """
    parameters, results = start, []
    seen, resp, counts = [], [], []
    for number, (X, step) in enumerate(zip(batches, steps, strict=True)):
        w = np.ones(len(X)) if sample_weights is None else sample_weights[number]
        resp.append(responsibilities(X, parameters))
        counts = [(1 - step) * old for old in counts] + [step * w / w.sum()]
        seen.append(X)
        parameters = m_step(
            np.concatenate(seen),
            np.concatenate(resp),
            start.covariance_type,
            reg_covar,
            np.concatenate(counts),
            eps=0.0,
        )
        results.append(parameters)
    return results
