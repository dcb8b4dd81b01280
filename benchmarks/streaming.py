"""How near one pass over a stream comes to a batch fit, and how many passes a fit needs.

    python -m benchmarks.streaming [--rows 10000000] [--batches 10000 100000] [--sensitivity]
    python -m benchmarks.streaming --picture benchmarks/streaming.png [--rows 1000000]

Rows of a mixture of 16 overlapping Gaussians in 8 dimensions, in no order.  *Gap*: the mean
log-likelihood of all rows under a batch fit (``tol=1e-6``) less that under the streamed model.
The batch fit starts where the stream's first batch ended, so both climb the same hill; which hill
that is the start decides, and beside it stands a batch fit from k-means of its own.  The
picture shows that of the parameters after each pass, or part of one, with all three ways started
from the same parameters.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from fastgmm import GaussianMixture, History

D, K = 8, 16
N_INIT = 10  # starts tried on the first batch
POWERS, OFFSETS = (0.55, 0.6, 0.7, 0.8, 0.9, 1.0), (0.0, 2.0, 10.0)


def make_rows(n, spread=2.0, seed=0):
    """Give n rows of K components with covariances of their own; the less spread, the harder."""
    rng = np.random.default_rng(seed)
    means = spread * rng.normal(size=(K, D))
    factors = np.eye(D) + 0.4 * rng.normal(size=(K, D, D))
    weights = rng.dirichlet(np.full(K, 5.0))
    X = np.empty((n, D))
    for start in range(0, n, 100_000):
        part = X[start : start + 100_000]
        labels = rng.choice(K, size=len(part), p=weights)
        noise = rng.normal(size=part.shape)
        for k in range(K):
            rows = labels == k
            part[rows] = means[k] + noise[rows] @ factors[k].T
    return X


def stream(X, size, **params):
    """Give the model after one pass in batches of this size, and the seconds it took."""
    model = GaussianMixture(K, random_state=0, n_init=N_INIT, **params)
    began = time.perf_counter()
    for start in range(0, len(X), size):
        model.partial_fit(X[start : start + size])
    return model, time.perf_counter() - began


def start_of(X, size):
    """Give constructor arguments that start where a first batch ends."""
    first = GaussianMixture(K, random_state=0, n_init=N_INIT).partial_fit(X[:size])
    names = ("weights", "means", "precisions")
    return {f"{name}_init": getattr(first, f"{name}_") for name in names}


def batch_fit(X, start, **params):
    """Give the fit to all rows, and the seconds it took."""
    began = time.perf_counter()
    model = GaussianMixture(K, **{"tol": 1e-6, "max_iter": 500, **start, **params}).fit(X)
    return model, time.perf_counter() - began


def table(n, sizes, sensitivity):
    X = make_rows(n)
    print(f"{n} rows, d={D}, K={K}, full covariances")
    print(f"{'batch':>8} {'power':>6} {'offset':>6} {'seconds':>8} {'bound':>10} {'gap':>10}")
    own, seconds = batch_fit(X, {}, random_state=0)
    print(f"{'all':>8} {'fit':>6} {own.n_iter_:6} {seconds:8.1f} {own.score(X):10.5f}")
    for size in sizes:
        batch, seconds = batch_fit(X, start_of(X, size))
        bound = batch.score(X)
        print(f"{size:8} {'fit':>6} {batch.n_iter_:6} {seconds:8.1f} {bound:10.5f}")
        settings = [(0.6, 2.0)]
        if sensitivity:
            settings += [(power, 2.0) for power in POWERS] + [(0.6, offset) for offset in OFFSETS]
        for power, offset in dict.fromkeys(settings):
            model, seconds = stream(X, size, step_power=power, step_offset=offset)
            reached = model.score(X)
            print(
                f"{size:8} {power:6} {offset:6} {seconds:8.1f} {reached:10.5f} "
                f"{bound - reached:10.6f}",
                flush=True,
            )


def courses(X, size, passes):
    """Give for each way the passes made and the mean log-likelihood reached, and the best of it."""
    start = start_of(X, size)
    found = {}
    for name, groups in (("batch EM", 1), ("incremental, 16 groups", 16)):
        history = History()
        model = GaussianMixture(K, tol=0.0, max_iter=passes, incremental_groups=groups, **start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is not meant to converge
            model.set_callbacks(history).fit(X)
        scores = [
            GaussianMixture.from_parameters(r.weights, r.means, r.covariances).score(X)
            for r in history.records
        ]
        found[name] = np.arange(1, passes + 1), np.array(scores)
    model = GaussianMixture(K, random_state=0, n_init=N_INIT)
    n, done, scores = len(X), [], []
    marks = np.unique(np.geomspace(size, n, 25).astype(int) // size)
    for number in range(-(-n // size)):
        model.partial_fit(X[number * size : (number + 1) * size])
        if number + 1 in marks:
            done.append((number + 1) * size / n)
            scores.append(model.score(X))
    found[f"stepwise, batches of {size:,}"] = np.array(done), np.array(scores)
    best, _ = batch_fit(X, start, tol=1e-9, max_iter=2000)  # much further than any of these
    return found, best.score(X)


def draw(n, size, output, passes=30):
    """Draw how far below the best bound each way is, against passes over the data."""
    import matplotlib.pyplot as plt

    found, best = courses(make_rows(n), size, passes)
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    styles = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))  # safe for colour-blind eyes
    for (name, (done, scores)), (colour, marker) in zip(found.items(), styles, strict=True):
        gap = np.maximum(best - scores, 1e-8)
        ax.loglog(done, gap, marker=marker, markersize=4, color=colour, label=name)
    ax.axhline(1e-3, color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="passes over the data", ylabel="log-likelihood below the best, per row")
    ax.set_title(f"{n:,} rows, d={D}, K={K}, one start")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=120)
    print(f"picture: {output}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--sensitivity", action="store_true")
    parser.add_argument("--picture")
    options = parser.parse_args()
    if options.picture:
        draw(options.rows, options.batches[0], options.picture)
    else:
        table(options.rows, options.batches, options.sensitivity)


if __name__ == "__main__":
    main()
