"""Fixtures of the command line's tests; a test file takes them by assignment."""

import numpy as np
import pytest

from fastgmm.__main__ import main
from fastgmm.data import load_faithful


@pytest.fixture
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(in_own_folder):
    """A file of the shipped data."""
    np.save("data.npy", load_faithful())
    return "data.npy"


@pytest.fixture
def run(in_own_folder, capsys):
    """Run a command; give its exit code, standard output and standard error."""

    def run(*argv):
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as usage:  # argparse
            code = usage.code
        return code, *capsys.readouterr()

    return run
