"""Same start, same fit: BayesianGaussianMixture beside scikit-learn's, fit for fit.

As a script it runs the whole grid (4 covariance types × 2 weight priors × 4 initialisations ×
10 seeds × 4 data sets), prints every exception with its cause, and exits with 1 when fewer than
98 % agree or a lower bound decreased::

    python tests/conformance/parity_bayesian.py [n_seeds] [data set ...]
"""

import itertools
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture as SklearnMixture

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import oracle
from datasets import DATASETS

from fastgmm import BayesianGaussianMixture, FitWarning

TYPES = oracle.COVARIANCE_TYPES
PRIORS = ("dirichlet_process", "dirichlet_distribution")
INITS = ("kmeans", "k-means++", "random", "random_from_data")
DATA = ("iris", "wine", "digits", "faithful")
N_COMPONENTS = 6
REQUIRED = 0.98
RTOL = 1e-6
PARAMETERS = (
    "weights_",
    "means_",
    "covariances_",
    "weight_concentration_",
    "mean_precision_",
    "degrees_of_freedom_",
)


class Case(NamedTuple):
    """One pair of fits."""

    data: str
    covariance_type: str
    prior: str
    init_params: str
    seed: int


def fit(cls, X, case, **params):
    """Fit one class, converged or not."""
    model = cls(
        n_components=N_COMPONENTS,
        covariance_type=case.covariance_type,
        weight_concentration_prior_type=case.prior,
        init_params=case.init_params,
        random_state=case.seed,
        **params,
    )
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, FitWarning):
            warnings.simplefilter("ignore", category)
        return model.fit(X)


def close(ours, theirs):
    """Compare numbers: rtol 1e-6, atol 1e-8 times the largest."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return np.allclose(ours, theirs, rtol=RTOL, atol=1e-8 * np.abs(theirs).max())


def difference(ours, theirs):
    """Name the first thing that differs, or return an empty string."""
    if ours.n_iter_ != theirs.n_iter_:
        return f"n_iter_ {ours.n_iter_} != {theirs.n_iter_}"
    if not close(ours.lower_bounds_, np.ravel(theirs.lower_bounds_)):
        return "lower_bounds_"
    for name in PARAMETERS:
        if not close(getattr(ours, name), getattr(theirs, name)):
            return name
    return ""


def cause_of(case, X, theirs):
    """Find out whether scikit-learn agrees with itself when the features change places."""
    reversed_ = fit(SklearnMixture, X[:, ::-1], case)
    same = reversed_.n_iter_ == theirs.n_iter_ and close(reversed_.weights_, theirs.weights_)
    return "unexplained" if same else "rounding decides: scikit-learn disagrees with itself"


def decrease(model):
    """Tell by how much the bound ever decreased, relative to its size."""
    bounds = np.asarray(model.lower_bounds_)
    return float(np.max((bounds[:-1] - bounds[1:]) / (1.0 + np.abs(bounds[1:])), initial=0.0))


def run(data, seeds):
    """Compare all cases; return their number, the exceptions, and the largest decrease."""
    count, exceptions, worst = 0, [], 0.0
    for name in data:
        X = DATASETS[name]()
        for case in itertools.starmap(Case, itertools.product([name], TYPES, PRIORS, INITS, seeds)):
            ours, theirs = fit(BayesianGaussianMixture, X, case), fit(SklearnMixture, X, case)
            count += 1
            worst = max(worst, decrease(ours))
            if differs := difference(ours, theirs):
                exceptions.append((case, differs, cause_of(case, X, theirs)))
    return count, exceptions, worst


def main(arguments):
    seeds = range(int(arguments[0]) if arguments else 10)
    count, exceptions, worst = run(arguments[1:] or DATA, seeds)
    for case, differs, cause in exceptions:
        print(f"{' '.join(map(str, case))}: {differs}; {cause}")
    agreeing = count - len(exceptions)
    print(f"{agreeing} of {count} agree ({100 * agreeing / count:.2f} %)")
    print(f"largest relative decrease of a bound: {worst:.1e}")
    return 0 if agreeing >= REQUIRED * count and worst < 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
