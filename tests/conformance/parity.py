"""Same start, same fit: fastgmm beside scikit-learn, fit for fit, from the same seeds.

As a script it runs the whole grid (4 covariance types × 4 initialisations × 20 seeds × 5 data
sets), prints a table of the cases that agree and every exception with its cause, and exits with 1
when fewer than 98 % agree::

    python tests/conformance/parity.py [n_seeds] [data set ...]
"""

import itertools
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import oracle
from datasets import DATASETS

from fastgmm import FitWarning, GaussianMixture

TYPES = oracle.COVARIANCE_TYPES
INITS = ("kmeans", "k-means++", "random", "random_from_data")
N_COMPONENTS = 4
MAX_ITER = (100, 5)  # scikit-learn's default, and stopped before most fits converge
REQUIRED = 0.98


class Case(NamedTuple):
    """One pair of fits."""

    data: str
    covariance_type: str
    init_params: str
    max_iter: int
    seed: int


class Disagreement(NamedTuple):
    """A case that does not agree: what differs, and why."""

    case: Case
    differs: str
    cause: str


def fit(cls, X, case, **params):
    """Fit one class, converged or not; an error is a result, too."""
    model = cls(
        N_COMPONENTS,
        covariance_type=case.covariance_type,
        init_params=case.init_params,
        random_state=case.seed,
        **{"max_iter": case.max_iter, **params},
    )
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, FitWarning):
            warnings.simplefilter("ignore", category)
        try:
            return model.fit(X)
        except ValueError as error:
            return error


def close(ours, theirs):
    """Compare parameters: rtol 1e-6, atol 1e-8 times the largest covariance."""
    atol = 1e-8 * np.abs(theirs[2]).max()
    return all(np.allclose(a, b, rtol=1e-6, atol=atol) for a, b in zip(ours, theirs, strict=True))


def parameters(model):
    return model.weights_, model.means_, model.covariances_


def difference(ours, theirs, X):
    """Name the first thing that differs, or return an empty string."""
    raising = [type(model).__name__ for model in (ours, theirs) if isinstance(model, Exception)]
    if raising:
        return f"raises {' and '.join(raising)}"
    if ours.n_iter_ != theirs.n_iter_:
        return f"n_iter_ {ours.n_iter_} != {theirs.n_iter_}"
    if not np.array_equal(ours.predict(X), theirs.predict(X)):
        return "labels"
    return "" if close(parameters(ours), parameters(theirs)) else "parameters"


def cause_of(case, X, ours, theirs):
    """Find out who is right, by the start, by the oracle, and by scikit-learn itself.

    A fit that rounding decides changes in scikit-learn, too, when the features change places.
    """
    reversed_ = fit(SklearnMixture, X[:, ::-1], case)
    if isinstance(reversed_, Exception) or isinstance(theirs, Exception):
        sensitive = type(reversed_) is not type(theirs)
    else:
        sensitive = reversed_.n_iter_ != theirs.n_iter_ or not close(
            (reversed_.weights_, reversed_.means_[:, ::-1], reversed_.weights_),
            (theirs.weights_, theirs.means_, theirs.weights_),
        )
    if sensitive:
        return "rounding decides: scikit-learn disagrees with itself when features change places"
    starts = [fit(cls, X, case, max_iter=0) for cls in (GaussianMixture, SklearnMixture)]
    if any(isinstance(start, Exception) for start in starts):
        return "the start raises"
    if not close(*map(parameters, starts)):
        return "the start differs"
    truth = oracle.fit(
        X,
        N_COMPONENTS,
        case.covariance_type,
        init_params=case.init_params,
        random_state=case.seed,
        max_iter=case.max_iter,
    )
    right = {
        name: truth.n_iter == model.n_iter_ and close(parameters(model), truth.parameters[:3])
        for name, model in (("fastgmm", ours), ("scikit-learn", theirs))
        if not isinstance(model, Exception)
    }
    agreeing = [name for name, agrees in right.items() if agrees]
    return f"the two-pass oracle agrees with {' and '.join(agreeing) or 'neither'}"


def run(data, seeds, types=TYPES, inits=INITS):
    """Compare all cases; return the number of agreeing cases by group, and the exceptions."""
    agreeing, exceptions = Counter(), []
    for name, covariance_type, init in itertools.product(data, types, inits):
        X = DATASETS[name]()
        for max_iter, seed in itertools.product(MAX_ITER, seeds):
            case = Case(name, covariance_type, init, max_iter, seed)
            ours, theirs = fit(GaussianMixture, X, case), fit(SklearnMixture, X, case)
            if differs := difference(ours, theirs, X):
                exceptions.append(Disagreement(case, differs, cause_of(case, X, ours, theirs)))
            else:
                agreeing[name, covariance_type, init] += 1
    return agreeing, exceptions


def report(agreeing, exceptions):
    """Table of agreeing cases by data set, type and initialisation; then every exception."""
    rows = sorted({key[:2] for key in agreeing} | {e.case[:2] for e in exceptions})
    lines = [f"{'agreeing fits':24}" + "".join(f"{init:>18}" for init in INITS)]
    for name, kind in rows:
        counts = "".join(f"{agreeing[name, kind, init]:18}" for init in INITS)
        lines.append(f"{name + ' ' + kind:24}{counts}")
    for case, differs, cause in exceptions:
        lines.append(f"{' '.join(map(str, case))}: {differs}; {cause}")
    total = agreeing.total() + len(exceptions)
    lines.append(f"{agreeing.total()} of {total} agree ({100 * agreeing.total() / total:.2f} %)")
    lines.extend(f"{count:6} {cause}" for cause, count in causes(exceptions).most_common())
    return "\n".join(lines)


def causes(exceptions):
    return Counter(exception.cause for exception in exceptions)


def share(agreeing, exceptions):
    """Agreeing share of all cases."""
    return agreeing.total() / (agreeing.total() + len(exceptions))


def main(arguments):
    seeds = range(int(arguments[0]) if arguments else 20)
    agreeing, exceptions = run(arguments[1:] or DATASETS, seeds)
    print(report(agreeing, exceptions))
    return 0 if share(agreeing, exceptions) >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
