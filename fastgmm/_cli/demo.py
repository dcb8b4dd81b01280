"""The demonstration: choose a mixture for the eruptions of Old Faithful."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastgmm import GaussianMixture, ModelSelection, plot, select_model
from fastgmm._cli.common import check_writable
from fastgmm._cli.report import criterion_table, describe
from fastgmm.data import load_faithful

__all__ = ["add_demo", "run_demo"]

CovarianceType = Literal["full", "tied", "diag", "spherical"]
FEATURES = ("eruption duration (min)", "waiting time (min)")
TYPES: tuple[CovarianceType, ...] = ("full", "tied", "diag", "spherical")
COMPONENTS = (1, 2, 3, 4, 5, 6)


def add_demo(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("demo", help="choose a mixture for the shipped Old Faithful data")
    parser.add_argument("-o", "--output", default="fastgmm-demo.png", help="where the picture goes")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    check_writable(options.output)
    run_demo(options.output)


def run_demo(picture: str) -> None:
    """Choose a mixture for the shipped data by BIC, print it and draw it.

    Parameters
    ----------
    picture : str
        Where the picture goes, if matplotlib is installed.
    """
    X = load_faithful()
    start = time.perf_counter()
    for covariance_type in TYPES:
        GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    seconds_to_load = time.perf_counter() - start
    print(f"kernels compiled or loaded in {seconds_to_load:.1f} s", file=sys.stderr)

    start = time.perf_counter()
    selection = select_model(X, COMPONENTS, TYPES, tol=1e-6, max_iter=1000, random_state=0)
    seconds = time.perf_counter() - start

    print(f"Old Faithful: {len(X)} eruptions, duration and waiting time to the next one.")
    print("BIC by number of components and covariance type; the smallest (*) is chosen.\n")
    print(criterion_table(selection))
    print(f"\n{len(selection.table)} models fitted in {seconds:.2f} s. The chosen one:\n")
    print(describe(selection.best, FEATURES))
    if find_spec("matplotlib") is None:
        print("for a picture, install matplotlib", file=sys.stderr)
        return
    draw(selection, X, picture)
    print(f"\nPicture: {picture}")


def draw(selection: ModelSelection, X: NDArray[np.float64], path: str) -> None:
    """Draw the data with the chosen mixture, and the BIC of all, into a file.

    Parameters
    ----------
    selection : ModelSelection
        What was chosen, and from what.
    X : ndarray of shape (n_samples, 2)
        The data.
    path : str
        The file; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    plot.clusters(selection.best, X, ax=left)
    left.set(xlabel=FEATURES[0], ylabel=FEATURES[1])
    left.set_title(f"Old Faithful: {len(X)} eruptions")
    plot.selection(selection, ax=right)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
