"""Where the time of a fit goes: per phase, per iteration, per Python function.

python -m benchmarks.profile_fit --size 1000000,8,16 --covariance-type full
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import warnings

import numpy as np

from benchmarks.cases import Case, make_data
from benchmarks.measure import cores, matrix_product_rate, seconds
from fastgmm import GaussianMixture


def phases(case, X, params):
    """Time the phases of a default fit through its public interface."""

    def fit(max_iter, tol, rows=X):
        model = GaussianMixture(case.k, covariance_type=case.covariance_type, **params)
        return seconds(model.set_params(max_iter=max_iter, tol=tol).fit, rows), model

    yield "first fit of a few rows (compiles or loads)", fit(2, 0, X[: 50 * case.k])[0]
    start = fit(0, 0)[0]
    yield f"start ({params['init_params']})", start
    one, eleven = fit(1, 0)[0], fit(11, 0)[0]
    yield "one EM iteration", (eleven - one) / 10
    yield "everything else (checks, last parameters)", one - start - (eleven - one) / 10
    whole, model = fit(100, 1e-3)
    yield f"whole fit, {model.n_iter_} iterations", whole
    yield "predict", seconds(model.predict, X)
    yield "score_samples", seconds(model.score_samples, X)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", default="1000000,8,16", metavar="N,D,K")
    add("--covariance-type", default="full", choices=("full", "tied", "diag", "spherical"))
    add("--init", default="kmeans", choices=("kmeans", "k-means++", "random", "random_from_data"))
    add("--threads", type=int, default=cores())
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--functions", type=int, default=15, help="Python functions to list")
    return parser.parse_args(argv)


def main():
    warnings.simplefilter("ignore")  # not converged: meant so
    options = parse()
    case = Case(options.covariance_type, *map(int, options.size.split(",")))
    X = make_data(case, options.dtype)
    params = {"init_params": options.init, "n_threads": options.threads, "random_state": 0}
    print(f"{case.name}, {options.dtype}, {options.threads} threads")
    for phase, time in phases(case, X, params):
        line = f"{phase:45} {time:10.4f} s"
        if phase == "one EM iteration":
            line += f"  {time / (case.n * case.k) * 1e9:.2f} ns a row and component"
            if case.needed_flops:
                rate = np.median([matrix_product_rate(options.threads) for _ in range(3)])
                speed = case.needed_flops / time
                line += f", {speed / 1e9:.1f} GF/s, {speed / rate:.0%} of the matrix product"
        print(line, flush=True)

    model = GaussianMixture(case.k, covariance_type=case.covariance_type, **params)
    profile = cProfile.Profile()
    profile.runcall(model.fit, X)
    print("\nThe calling thread, by own time:")
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(options.functions)


if __name__ == "__main__":
    main()
