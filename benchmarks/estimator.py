"""asv: the estimator's methods over covariance type, dtype and threads."""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.cases import Case, make_data, make_start
from fastgmm import GaussianMixture

TYPES = ("full", "tied", "diag", "spherical")
SIZES = ((100_000, 2, 8), (50_000, 8, 16), (10_000, 32, 16))


def fixed_fit(case, X, start, n_threads=None, iterations=5):
    """Fit so many iterations from a given start."""
    model = GaussianMixture(
        case.k,
        covariance_type=case.covariance_type,
        tol=0,
        max_iter=iterations,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions(case.covariance_type),
        n_threads=n_threads,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: meant so
        return model.fit(X)


class Fit:
    """Five EM iterations."""

    params = (TYPES, SIZES, ("float64", "float32"))
    param_names = ("covariance_type", "size", "dtype")

    def setup(self, covariance_type, size, dtype):
        self.case = Case(covariance_type, *size)
        self.X = make_data(self.case, dtype)
        self.start = make_start(self.case, self.X)
        fixed_fit(self.case, self.X[:2000], self.start)  # compiles

    def time_fit(self, *_):
        fixed_fit(self.case, self.X, self.start)

    def peakmem_fit(self, *_):
        fixed_fit(self.case, self.X, self.start)


class Threads:
    """Five EM iterations by number of threads."""

    params = (1, 2)
    param_names = ("n_threads",)

    def setup(self, n_threads):
        self.case = Case("full", 100_000, 8, 16)
        self.X = make_data(self.case)
        self.start = make_start(self.case, self.X)
        fixed_fit(self.case, self.X[:2000], self.start)

    def time_fit(self, n_threads):
        fixed_fit(self.case, self.X, self.start, n_threads)


class Layout:
    """Five EM iterations by how the rows lie in memory."""

    params = ("C", "F", "strided")
    param_names = ("layout",)

    def setup(self, layout):
        self.case = Case("full", 100_000, 8, 16)
        X = make_data(self.case)
        self.start = make_start(self.case, X)
        self.X = {
            "C": lambda: X,
            "F": lambda: np.asfortranarray(X),
            "strided": lambda: np.repeat(X, 2, axis=0)[::2],
        }[layout]()
        fixed_fit(self.case, self.X[:2000], self.start)

    def time_fit(self, _):
        fixed_fit(self.case, self.X, self.start)


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
