"""Start-up: import and first fit in a fresh process, with a warm and with a cold cache."""

from __future__ import annotations

import os
import tempfile

from benchmarks.measure import run_python

_FIRST_FIT = """
import json, sys, time, warnings
start = time.perf_counter()
module = __import__(sys.argv[1], fromlist=["GaussianMixture"])
imported = time.perf_counter()
import sklearn.datasets
X = sklearn.datasets.load_iris().data
loaded = time.perf_counter()
module.GaussianMixture(3, random_state=0).fit(X)
fitted = time.perf_counter()
times = {"import": imported - start, "fit": fitted - loaded, "process": time.process_time()}
print(json.dumps(times))
"""

_ADDED_IMPORT = """
import time
import sklearn.base
start = time.perf_counter()
import fastgmm
print(time.perf_counter() - start)
"""


def _environment(**more):
    """Variables with which modules keep their bytecode, as those of an installed package do."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | more


def first_fit(module, **more):
    """Give the seconds of import and first fit, and the processor time of the whole process."""
    return run_python(_FIRST_FIT, module, env=_environment(**more))


def added_import_seconds():
    """Give what ``import fastgmm`` takes beyond importing scikit-learn's base."""
    return min(run_python(_ADDED_IMPORT, env=_environment()) for _ in range(3))


def cold_fit_seconds():
    """Give the first fit with an empty cache: mostly compilation."""
    with tempfile.TemporaryDirectory() as folder:
        return first_fit("fastgmm", NUMBA_CACHE_DIR=folder)["fit"]


def track_import():
    return added_import_seconds()


def track_first_fit_warm():
    first_fit("fastgmm")
    return min(first_fit("fastgmm")["fit"] for _ in range(3))


def track_first_fit_cold():
    return cold_fit_seconds()


for _benchmark in (track_import, track_first_fit_warm, track_first_fit_cold):
    _benchmark.unit = "seconds"
track_first_fit_cold.timeout = 300
