"""Same start, same fit as scikit-learn: a few seeds of the grid that parity_bayesian.py runs."""

import parity_bayesian
import pytest


@pytest.mark.parametrize(
    "data",
    [
        "faithful",
        "iris",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("wine", "digits")),
    ],
)
def test_fits_are_scikit_learns_and_bounds_never_fall(data):
    count, exceptions, worst = parity_bayesian.run([data], seeds=range(1))
    assert count == 32
    assert exceptions == []
    assert worst < 1e-12
