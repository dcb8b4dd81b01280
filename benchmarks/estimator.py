"""asv: the estimator's methods over covariance type, dtype and threads."""

from __future__ import annotations

import itertools
import random
import tempfile

import numpy as np

from benchmarks.cases import Case, given_fit, make_data, make_start
from fastgmm import GaussianMixture

TYPES = ("full", "tied", "diag", "spherical")


def mapped(X):
    """Give the same rows in a memory-mapped file, which goes with the process."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the map keeps it open
    X.tofile(file)
    return np.memmap(file, dtype=X.dtype, mode="r", shape=X.shape)


LAYOUTS = {
    "C": np.asarray,
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "mapped": mapped,
}
GRID = (
    TYPES,
    [f"d={d}" for d in (1, 2, 3, 5, 8, 16, 32, 64, 128)],
    [f"K={k}" for k in (1, 4, 16, 64)],
    ("float64", "float32"),
    ("1thr", "2thr"),
    tuple(LAYOUTS),
)


def some_combinations(number):
    """Choose from the grid, always the same, so that every value of every axis is in it."""
    whole = list(itertools.product(*GRID))
    random.Random(0).shuffle(whole)
    chosen, missing = [], {value for axis in GRID for value in axis}
    for combination in whole:  # first those that bring something new
        if missing.intersection(combination):
            chosen.append(combination)
            missing.difference_update(combination)
    rest = (combination for combination in whole if combination not in chosen)
    chosen += itertools.islice(rest, max(0, number - len(chosen)))
    return sorted(" ".join(combination) for combination in chosen)


def fixed_fit(case, X, start, n_threads=None, iterations=5):
    return given_fit(GaussianMixture, case, X, start, iterations, n_threads=n_threads)


class Grid:
    """Five EM iterations over all that matters: a fixed sample of the whole grid."""

    params = (some_combinations(40),)
    param_names = ("combination",)

    def setup(self, combination):
        covariance_type, d, k, dtype, threads, layout = combination.split()
        d, k = int(d.removeprefix("d=")), int(k.removeprefix("K="))
        n = max(2000, min(200_000, int(1e7 / (d * k))))
        self.case = Case(covariance_type, n, d, k)
        self.X = LAYOUTS[layout](make_data(self.case, dtype))
        self.start = make_start(self.case, self.X)
        self.threads = int(threads.removesuffix("thr"))
        fixed_fit(self.case, self.X[: 20 * k], self.start)  # compiles

    def time_fit(self, _):
        fixed_fit(self.case, self.X, self.start, self.threads)

    def peakmem_fit(self, _):
        fixed_fit(self.case, self.X, self.start, self.threads)


class Separation:
    """Five EM iterations where clusters lie apart, and where they overlap."""

    params = (TYPES, (0.5, 3.0, 6.0))
    param_names = ("covariance_type", "spread")

    def setup(self, covariance_type, spread):
        self.case = Case(covariance_type, 50_000, 16, 32)
        self.X = make_data(self.case, spread=spread)
        self.start = make_start(self.case, self.X)
        fixed_fit(self.case, self.X[:2000], self.start)

    def time_fit(self, *_):
        fixed_fit(self.case, self.X, self.start, iterations=10)


class Initialisation:
    """The start alone: no EM iteration."""

    params = ("kmeans", "k-means++", "random", "random_from_data")
    param_names = ("init_params",)

    def setup(self, init_params):
        self.X = make_data(Case("full", 100_000, 8, 16))
        self.fit(init_params, self.X[:2000])

    def fit(self, init_params, X):
        GaussianMixture(16, init_params=init_params, max_iter=0, random_state=0).fit(X)

    def time_start(self, init_params):
        self.fit(init_params, self.X)

    def peakmem_start(self, init_params):
        self.fit(init_params, self.X)


class Small:
    """A whole default fit of little data: what Python costs."""

    def setup(self):
        self.X = make_data(Case("full", 500, 4, 3))
        self.time_fit()

    def time_fit(self):
        GaussianMixture(3, random_state=0).fit(self.X)


class Predict:
    """Row maps and draws."""

    params = TYPES
    param_names = ("covariance_type",)

    def setup(self, covariance_type):
        case = Case(covariance_type, 200_000, 8, 16)
        self.X = make_data(case)
        self.model = fixed_fit(case, self.X, make_start(case, self.X), iterations=2)
        self.model.set_params(random_state=0)
        for method in (self.model.predict, self.model.predict_proba, self.model.score_samples):
            method(self.X[:2000])

    def time_predict(self, _):
        self.model.predict(self.X)

    def time_predict_proba(self, _):
        self.model.predict_proba(self.X)

    def time_score_samples(self, _):
        self.model.score_samples(self.X)

    def time_sample(self, _):
        self.model.sample(200_000)

    def peakmem_score_samples(self, _):
        self.model.score_samples(self.X)
