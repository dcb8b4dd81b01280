"""`select_model` beside the same loop over scikit-learn's class, in one run; and its memory.

    python -m benchmarks.select [--rows 100000] [--features 8] [--components 10] [--rounds 1]

The loop fits and scores the same candidates with the same seed. It is run between two runs of
ours, so that a machine that drifts shows. Memory (Linux) is the peak above the data, of fresh
processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import sklearn.mixture

import fastgmm
from benchmarks.cases import Case, make_data
from benchmarks.measure import seconds, watch_memory

TYPES = ("full", "tied", "diag", "spherical")

_CHILD = """
import json, sys, time, warnings
import numpy as np
import fastgmm
warnings.simplefilter("ignore")
X, largest = np.load(sys.argv[1]), int(sys.argv[2])
fastgmm.select_model(X[:20000].copy(), range(1, 3), random_state=0)
print("ready", flush=True)
sys.stdin.readline()
selection = fastgmm.select_model(X, range(1, largest + 1), random_state=0)
print(json.dumps({"chosen": repr(selection)}), flush=True)
sys.stdin.readline()
"""


def select_sklearn(X, sizes):
    """Fit all candidates one after another; give the BIC of each, and the seconds of each type."""
    bic, took = {}, {}
    for kind in TYPES:
        began = time.perf_counter()
        for k in sizes:
            model = sklearn.mixture.GaussianMixture(k, covariance_type=kind, random_state=0)
            bic[kind, k] = model.fit(X).bic(X)
        took[kind] = time.perf_counter() - began
    return bic, took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--clusters", type=int, default=5, help="in the data")
    parser.add_argument("--spread", type=float, default=3.0, help="of the clusters, in sd")
    parser.add_argument("--components", type=int, default=10, help="the most that are tried")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    sizes = range(1, options.components + 1)
    case = Case("full", options.rows, options.features, options.clusters)
    X = make_data(case, spread=options.spread)
    fastgmm.select_model(X[:20_000], range(1, 4), random_state=0)  # compiles or loads the kernels
    warnings.simplefilter("ignore")  # of candidates that do not converge

    ratios = []
    for _ in range(options.rounds):
        before = seconds(partial(fastgmm.select_model, random_state=0), X, sizes)
        bic, took = select_sklearn(X, sizes)
        theirs = sum(took.values())
        start = time.perf_counter()
        selection = fastgmm.select_model(X, sizes, random_state=0)
        ours = (before + time.perf_counter() - start) / 2
        ratios.append(theirs / ours)
        each = ", ".join(f"{kind} {time:.1f}" for kind, time in took.items())
        print(f"fastgmm {ours:.2f} s, scikit-learn {theirs:.1f} s ({each})", flush=True)
    row, winner = selection.best_row, min(bic, key=bic.get)
    error = max(abs(r.bic / bic[r.covariance_type, r.n_components] - 1) for r in selection.table)
    print(f"{median(ratios):.1f} times faster")
    print(f"chosen by fastgmm: {row.covariance_type}, {row.n_components}: BIC {row.bic:.3f}")
    print(f"chosen by scikit-learn: {winner[0]}, {winner[1]}: BIC {bic[winner]:.3f}")
    print(f"largest relative difference of BIC over {len(bic)} candidates: {error:.1e}")
    if not options.no_memory:
        memory(options, sizes)


def memory(options, sizes):
    """Print the peak memory of a search over ever more rows."""
    for n in (options.rows, 4 * options.rows, 16 * options.rows):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.npy"
            case = Case("full", n, options.features, options.clusters)
            np.save(path, make_data(case, spread=options.spread))
            peak = watch_memory(_CHILD, path, max(sizes))
        data = 8e-6 * n * options.features
        print(f"{n} rows of {data:.0f} MB: {peak['megabytes']:.1f} MB above, {peak['chosen']}")


if __name__ == "__main__":
    main()
