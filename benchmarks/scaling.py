"""How time and memory grow with rows, components and threads: a table and a picture.

    python -m benchmarks.scaling [--output benchmarks/scaling.png] [--rounds 3] [--largest 10000000]

Full covariances, d=8; a pass is (time of 11 iterations - time of 1) / 10 with ``tol=0``.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.cases import Case, make_data, make_start
from benchmarks.measure import cores, fit_memory, interleave, pass_seconds
from benchmarks.peers import fit_fastgmm

D = 8
ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
COMPONENTS = (2, 4, 8, 16, 32, 64, 128)


def fit(case, threads, X, start, iterations, _):
    """Run a number of EM iterations from a given start."""
    fit_fastgmm(iterations, X, case, start, threads)


def pass_times(case, rounds, threads_tried):
    """Give the median seconds of a pass for each number of threads, measured in turn."""
    X = make_data(case)
    start = make_start(case, X)
    runs = {
        threads: partial(pass_seconds, partial(fit, case, threads, X, start), None)
        for threads in threads_tried
    }
    fit(case, 1, X, start, 1, None)
    return {threads: median(times) for threads, times in interleave(runs, rounds).items()}


def memory(n):
    """Give the peak memory of a fit above its data, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, make_data(Case("full", n, D, 16)))
        params = {"n_components": 16, "max_iter": 3, "random_state": 0}
        return fit_memory("fastgmm", path, params)["megabytes"]


def slope(x, y):
    """Give the exponent of a power law fitted through points."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="benchmarks/scaling.png")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=ROWS[-1])
    options = parser.parse_args()
    threads = sorted({1, cores()})
    rows = [n for n in ROWS if n <= options.largest]

    by_rows = {n: pass_times(Case("full", n, D, 16), options.rounds, threads) for n in rows}
    by_components = {
        k: pass_times(Case("full", 100_000, D, k), options.rounds, threads) for k in COMPONENTS
    }
    megabytes = {n: memory(n) for n in rows if n >= 100_000}

    print(f"{'rows':>10} {'components':>10} " + " ".join(f"{t} thread, ms" for t in threads))
    for (n, k), times in {
        **{(n, 16): times for n, times in by_rows.items()},
        **{(100_000, k): times for k, times in by_components.items()},
    }.items():
        figures = " ".join(f"{1e3 * times[t]:12.2f}" for t in threads)
        print(
            f"{n:10} {k:10} {figures}   {times[threads[0]] / times[threads[-1]]:.2f} times faster"
        )
    for n, size in megabytes.items():
        print(f"{n:10} rows: {size:.1f} MB above the data")
    draw(by_rows, by_components, megabytes, threads, options.output)


def draw(by_rows, by_components, megabytes, threads, output):
    """Draw three panels: time against rows, time against components, memory against rows."""
    import matplotlib.pyplot as plt

    colours = ("#0072B2", "#D55E00")  # safe for colour-blind eyes
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    panels = ((axes[0], by_rows, "rows"), (axes[1], by_components, "components"))
    for ax, times, what in panels:
        x = np.array(list(times))
        for threads_used, colour, marker in zip(threads, colours, "os", strict=False):
            y = 1e3 * np.array([figures[threads_used] for figures in times.values()])
            large = len(x) // 2
            label = f"{threads_used} thread{'s' * (threads_used > 1)}"
            label += f", exponent {slope(x[large:], y[large:]):.2f}"
            ax.loglog(x, y, marker=marker, color=colour, label=label)
        ax.set(xlabel=f"number of {what}", ylabel="one EM pass (ms)")
        ax.legend(frameon=False)
    axes[0].set_title(f"full covariances, d={D}, K=16")
    axes[1].set_title(f"full covariances, d={D}, n=100,000")
    n = np.array(list(megabytes))
    axes[2].loglog(n, list(megabytes.values()), "o-", color=colours[0], label="whole fit")
    axes[2].loglog(n, 8e-6 * D * n, ":", color="grey", label="the data themselves")
    axes[2].set(xlabel="number of rows", ylabel="peak memory above the data (MB)")
    axes[2].set_title("default fit, k-means start included, K=16")
    axes[2].legend(frameon=False)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=120)
    print(f"picture: {output}")


if __name__ == "__main__":
    main()
