"""Same start, same fit as scikit-learn: a few seeds of the grid that parity.py runs in full."""

import parity
import pytest


@pytest.mark.slow
def test_fits_are_scikit_learns():
    agreeing, exceptions = parity.run(("iris", "wine", "digits", "faithful"), seeds=range(2))
    print(parity.report(agreeing, exceptions))
    assert parity.share(agreeing, exceptions) >= parity.REQUIRED


@pytest.mark.slow
def test_fits_are_scikit_learns_on_many_rows():
    agreeing, exceptions = parity.run(("synthetic",), seeds=range(1))
    print(parity.report(agreeing, exceptions))
    assert parity.share(agreeing, exceptions) >= parity.REQUIRED
