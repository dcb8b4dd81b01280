"""Microseconds a row of live data: our scorer and decision function, and scikit-learn's.

    python -m benchmarks.detector [--features 8] [--components 8] [--covariance-type full]

Single rows, and micro-batches of 100. All are fitted to the same rows; a figure is the median over
rounds, in which the calls take turns.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import sklearn.mixture
from sklearn.ensemble import IsolationForest

from benchmarks.cases import Case, make_data
from benchmarks.measure import interleave, seconds
from fastgmm import GaussianMixtureOutlierDetector

BATCH = 100
ROUNDS = 15
SPEND = 0.02  # seconds a measurement
RULES = {
    "mixture": {"contamination": 0.01},
    "component": {"rule": "component", "contamination": 0.01},
    "p-value": {"rule": "component", "false_alarm": 0.01},
}


def calls(options):
    """Give the functions to compare by name."""
    k, kind = options.components, options.covariance_type
    X = make_data(Case(kind, options.rows, options.features, k))
    shared = {"covariance_type": kind, "random_state": 0, "tol": 1e-2}
    found = {}
    for name, rule in RULES.items():
        detector = GaussianMixtureOutlierDetector(k, **shared, **rule).fit(X)
        found[f"scorer(), {name}"] = detector.scorer()
        found[f"decision_function, {name}"] = detector.decision_function
    found["sklearn GaussianMixture.score_samples"] = (
        sklearn.mixture.GaussianMixture(k, **shared).fit(X).score_samples
    )
    found["sklearn IsolationForest.decision_function"] = (
        IsolationForest(random_state=0).fit(X).decision_function
    )
    return X, found


def repeated(function, rows, times):
    for _ in range(times):
        function(rows)


def microseconds(function, rows):
    """Give the time of one call, from as many as fill the time of a measurement."""
    once = seconds(function, rows)
    times = max(1, int(SPEND / max(once, 1e-6)))
    return 1e6 * seconds(repeated, function, rows, times) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000, help="to fit to")
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--covariance-type", default="full")
    options = parser.parse_args()
    X, functions = calls(options)
    print(f"{options.covariance_type}, d={options.features}, K={options.components}: µs per row")
    print(f"{'':42}  {'single rows':>12}  {f'batches of {BATCH}':>14}")
    runs = {}
    for name, function in functions.items():
        # a scorer takes a row, scikit-learn a table of one row
        single = X[0] if name.startswith("scorer") else X[:1]
        runs[name, 1] = partial(microseconds, function, single)
        runs[name, BATCH] = partial(microseconds, function, X[:BATCH])
    times = interleave(runs, ROUNDS)
    for name in functions:
        single, batch = (median(times[name, n]) / n for n in (1, BATCH))
        print(f"{name:42}  {single:12.2f}  {batch:14.3f}")


if __name__ == "__main__":
    main()
