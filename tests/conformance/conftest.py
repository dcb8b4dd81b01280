"""The fixtures scikit-learn's own tests ask for, under the environment variables it documents."""

import os

import numpy as np
import pytest


@pytest.fixture(
    params=[
        pytest.param(
            np.float32,
            marks=pytest.mark.skipif(
                os.environ.get("SKLEARN_RUN_FLOAT32_TESTS", "0") != "1",
                reason="set SKLEARN_RUN_FLOAT32_TESTS=1 to run float32 tests",
            ),
        ),
        np.float64,
    ]
)
def global_dtype(request):
    return request.param


def _random_seeds():
    """Seeds 0 to 99: one number, a range "0-9", or "all"; 42 when nothing is said."""
    chosen = os.environ.get("SKLEARN_TESTS_GLOBAL_RANDOM_SEED", "42")
    first, _, last = ("0-99" if chosen == "all" else chosen).partition("-")
    return range(int(first), int(last or first) + 1)


def pytest_generate_tests(metafunc):
    if "global_random_seed" in metafunc.fixturenames:
        metafunc.parametrize("global_random_seed", _random_seeds())
