"""Our speed and memory beside the peers', in one run on one machine.

    python -m benchmarks.compare_peers                  # EM passes, all cases
    python -m benchmarks.compare_peers --what pass fit memory maps small startup --markdown

See the README beside this file for what each figure means.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import sklearn.mixture
from threadpoolctl import threadpool_limits

import fastgmm
from benchmarks import startup
from benchmarks.cases import CASES, Case, make_data, make_start
from benchmarks.measure import (
    cores,
    fit_memory,
    interleave,
    matrix_product_rate,
    pass_seconds,
    seconds,
)
from benchmarks.peers import Unsupported, available

CLASSES = {"fastgmm": fastgmm.GaussianMixture, "scikit-learn": sklearn.mixture.GaussianMixture}
BAYESIAN = {
    "fastgmm": fastgmm.BayesianGaussianMixture,
    "scikit-learn": sklearn.mixture.BayesianGaussianMixture,
}
MODULES = {"fastgmm": "fastgmm", "scikit-learn": "sklearn.mixture"}


def compare_passes(options):
    """Time one EM pass of every library from the same start."""
    peers = available()
    ours, *others = peers
    heads = ["one EM pass", *(f"{name}, ns" for name in peers)]
    heads += [*(f"{name} ÷ ours" for name in others), "of matrix product"]
    rows, medians = [], {}
    for case in options.cases:
        X = make_data(case, options.dtype, spread=options.spread)
        args = (X, case, make_start(case, X), options.threads)
        runs = {name: partial(attempt, fit, *args) for name, fit in peers.items()}
        for run in runs.values():
            run(iterations=1)  # compiles
        runs["matmul"] = partial(matrix_product_rate, options.threads)
        times = interleave(runs, options.rounds)
        rate = median(times.pop("matmul"))
        times = {name: values for name, values in times.items() if None not in values}
        speed = case.needed_flops and case.needed_flops / median(times[ours])
        unit = case.n * case.k / 1e9
        rows.append(
            [
                case.name,
                *(f"{median(times[name]) / unit:.2f}" if name in times else "–" for name in peers),
                *(ratio(times[name], times[ours]) if name in times else "–" for name in others),
                f"{speed / rate:.0%} of {rate / 1e9:.0f} GF/s" if speed else "–",
            ]
        )
        medians[case.name] = {name: median(times[name]) / unit for name in peers if name in times}
        say("  ".join(rows[-1]))
    if options.picture:
        draw(medians, list(peers), options)
    return heads, rows


def draw(medians, names, options):
    """Draw a bar for each library and case: nanoseconds per row and component, log scale."""
    import matplotlib.pyplot as plt

    colours = dict(
        zip(names, ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7"), strict=False)
    )
    height = 0.8 / len(names)
    figure, ax = plt.subplots(figsize=(8, 0.75 * len(medians) + 1.2), layout="constrained")
    for i, found in enumerate(medians.values()):
        for j, (name, value) in enumerate(found.items()):
            place = i + height * (j - (len(names) - 1) / 2)
            label = name if i == 0 else None
            ax.barh(place, value, height=0.9 * height, color=colours[name], label=label)
            text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
            ax.text(value * 1.06, place, text, va="center", fontsize=7)
    ax.set_yticks(range(len(medians)), list(medians))
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="one EM pass: nanoseconds per row and component (less is better)")
    ax.set_xlim(right=3 * max(max(found.values()) for found in medians.values()))
    ax.set_title(f"{options.threads} threads, {options.dtype}")
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.picture, dpi=110)
    say(f"picture: {options.picture}")


def attempt(fit, *args, iterations=None):
    """Give the seconds of one EM pass, or None where the library fails."""
    try:
        return fit(iterations, *args) if iterations else pass_seconds(fit, *args)
    except (Unsupported, RuntimeError) as error:
        say(f"{fit.__name__}: {' '.join(str(error).split()) or 'has no such model'}")
        return None


def compare_fits(options):
    """Time the whole default fit, k-means included, from the same random state."""
    heads = ["whole default fit", "ours, s", "scikit-learn, s", "ratio", "iterations", "bound"]
    rows = []
    for case in options.large:
        X = make_data(case, options.dtype)
        models = {name: estimator(name, case, options) for name in CLASSES}
        compile_kernels(case, X, options)
        times = interleave(
            {n: partial(seconds, m.fit, X) for n, m in models.items()}, options.rounds
        )
        row = [case.name, *pair(times, "{:.2f}")]
        row.append(" / ".join(f"{model.n_iter_}" for model in models.values()))
        row.append(" / ".join(f"{model.lower_bound_:.10g}" for model in models.values()))
        rows.append(row)
    return heads, rows


def compare_maps(options):
    """Time the methods that map rows, on the same model."""
    heads = ["row map", "ours, s", "scikit-learn, s", "ratio"]
    rows = []
    for case in options.large:
        X = make_data(case, options.dtype)
        ours = compile_kernels(case, X, options)
        models = {"fastgmm": ours, "scikit-learn": ours.to_sklearn()}
        for method in ("predict", "score_samples", "predict_proba"):
            getattr(ours, method)(X[:1000])
            runs = {n: partial(seconds, getattr(m, method), X) for n, m in models.items()}
            times = interleave(runs, options.rounds)
            rows.append([f"{method} {case.name}", *pair(times, "{:.3f}")])
    return heads, rows


def compare_memory(options):
    """Measure the memory of a whole default fit above the data, in fresh processes."""
    heads = ["memory of a fit", "ours, MB", "scikit-learn, MB", "the data, MB"]
    rows = []
    for case in options.large:
        X = make_data(case, options.dtype)
        params = {"n_components": case.k, "random_state": 0, "max_iter": options.memory_iterations}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.npy"
            np.save(path, X)
            used = [fit_memory(module, path, params)["megabytes"] for module in MODULES.values()]
        rows.append([case.name, *(f"{value:.1f}" for value in used), f"{X.nbytes / 1e6:.0f}"])
    return heads, rows


def compare_bayesian(options):
    """Time variational inference: one pass, the whole default fit; and the memory of ours."""
    heads = ["variational inference", "ours, s", "scikit-learn, s", "ratio", "iterations"]
    heads.append("memory of a fit, ours, MB")
    rows = []
    for case in options.large:
        X = make_data(case, options.dtype)
        params = {"n_components": case.k, "covariance_type": case.covariance_type}
        models = {name: kind(**params, random_state=0) for name, kind in BAYESIAN.items()}
        steps = {name: kind(**params, random_state=0, tol=0.0) for name, kind in BAYESIAN.items()}

        def iterate(n_iter, model, X=X):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.set_params(max_iter=n_iter).fit(X)

        iterate(2, steps["fastgmm"])  # compiles
        runs = {name: partial(pass_seconds, iterate, model) for name, model in steps.items()}
        passes = interleave(runs, options.rounds)
        runs = {name: partial(seconds, iterate, 100, model) for name, model in models.items()}
        fits = interleave(runs, options.rounds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.npy"
            np.save(path, X)
            params |= {"random_state": 0, "max_iter": options.memory_iterations}
            used = fit_memory("fastgmm", path, params, BAYESIAN["fastgmm"].__name__)
        rows.append([f"one pass {case.name}", *pair(passes, "{:.4f}"), "", ""])
        numbers = " / ".join(f"{model.n_iter_}" for model in models.values())
        memory = f"{used['megabytes']:.1f}"
        rows.append([f"whole fit {case.name}", *pair(fits, "{:.2f}"), numbers, memory])
    return heads, rows


def compare_small(options):
    """Time a small default fit in a running process."""
    case = Case("full", 500, 4, 3)
    X = make_data(case, options.dtype)
    models = {name: estimator(name, case, options).fit(X) for name in CLASSES}
    runs = {name: partial(seconds, model.fit, X) for name, model in models.items()}
    times = interleave(runs, 10 * options.rounds)
    heads = ["small fit", "ours, s", "scikit-learn, s", "ratio"]
    return heads, [["full 500x4 K=3", *pair(times, "{:.5f}")]]


def compare_startup(options):
    """Time import and first fit of iris in fresh processes."""
    startup.first_fit("fastgmm")  # fills the cache
    runs = {name: partial(startup.first_fit, module) for name, module in MODULES.items()}
    results = interleave(runs, options.rounds)
    rows = []
    for label, key in (
        ("import", "import"),
        ("first fit of iris, warm cache", "fit"),
        ("whole process, warm cache", "process"),
    ):
        times = {name: [result[key] for result in results[name]] for name in CLASSES}
        rows.append([label, *pair(times, "{:.2f}")])
    rows.append(["import beyond sklearn.base", f"{startup.added_import_seconds():.2f}", "–", "–"])
    rows.append(["first fit of iris, cold cache", f"{startup.cold_fit_seconds():.2f}", "–", "–"])
    return ["start-up", "ours, s", "scikit-learn, s", "ratio"], rows


TASKS = {
    "pass": compare_passes,
    "fit": compare_fits,
    "maps": compare_maps,
    "memory": compare_memory,
    "bayesian": compare_bayesian,
    "small": compare_small,
    "startup": compare_startup,
}


def estimator(name, case, options):
    """Give an unfitted model with default arguments."""
    params = {"n_threads": options.threads} if name == "fastgmm" else {}
    return CLASSES[name](case.k, covariance_type=case.covariance_type, random_state=0, **params)


def compile_kernels(case, X, options):
    """Fit ours to a few rows, for what it compiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator("fastgmm", case, options).set_params(max_iter=2).fit(X[: 50 * case.k])


def pair(times, form):
    """Give our median, scikit-learn's, and the ratio, as text."""
    ours, theirs = times["fastgmm"], times["scikit-learn"]
    return [form.format(median(ours)), form.format(median(theirs)), ratio(theirs, ours)]


def ratio(theirs, ours):
    """Give the median of the ratios of each round, as text."""
    return f"{median(t / o for t, o in zip(theirs, ours, strict=True)):.1f}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def table(heads, rows, markdown):
    if markdown:
        lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if j else cell.ljust(width)
            for j, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [heads, *rows]
    )


def machine(options):
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    versions += [f"scikit-learn {sklearn.__version__}"]
    processor = models[0] if models else platform.processor()
    return f"{processor}, {options.threads} threads, {options.dtype}; {', '.join(versions)}"


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--what", nargs="+", choices=TASKS, default=["pass"], help="what to measure")
    add("--cases", default="", help="of the EM passes, those whose name contains this")
    add(
        "--large",
        nargs="+",
        default=["1000000,8,16"],
        metavar="N,D,K",
        help="sizes for fit, maps and memory (default: 1000000,8,16)",
    )
    add(
        "--spread",
        type=float,
        default=3.0,
        help="of the clusters' centres in the EM passes; 0.5: all overlap (default: 3)",
    )
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=cores())
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--memory-iterations", type=int, default=3, help="length of the fits whose memory counts")
    add("--markdown", action="store_true")
    add("--picture", metavar="PNG", help="draw the EM passes")
    options = parser.parse_args(argv)
    options.cases = [case for case in CASES if options.cases in case.name]
    options.large = [Case("full", *map(int, size.split(","))) for size in options.large]
    return options


def main():
    options = parse()
    print(machine(options), flush=True)
    with threadpool_limits(options.threads):
        for what in options.what:
            print(f"\n{table(*TASKS[what](options), options.markdown)}", flush=True)


if __name__ == "__main__":
    main()
