"""The demonstration: choose a mixture for the eruptions of Old Faithful."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastgmm import GaussianMixture, ModelSelection, select_model
from fastgmm._cli.common import check_writable
from fastgmm._cli.report import covariance_matrices, criterion_table, describe
from fastgmm.data import load_faithful

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["add_demo", "run_demo"]

CovarianceType = Literal["full", "tied", "diag", "spherical"]
FEATURES = ("eruption duration (min)", "waiting time (min)")
TYPES: tuple[CovarianceType, ...] = ("full", "tied", "diag", "spherical")
COMPONENTS = (1, 2, 3, 4, 5, 6)
# Okabe and Ito's colours, told apart by colour-blind eyes; markers say it a second time.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")


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
    _draw_mixture(left, selection.best, X)
    low = selection.best_row.bic
    for covariance_type, colour, marker in zip(TYPES, COLOURS, MARKERS, strict=False):
        rows = [row for row in selection.table if row.covariance_type == covariance_type]
        above = [row.bic - low for row in rows]
        right.plot(COMPONENTS, above, color=colour, marker=marker, label=covariance_type)
    right.plot(selection.best.n_components, 0, "o", ms=15, mfc="none", mec="black", label="chosen")
    right.set_yscale("symlog", linthresh=10)  # the best models and the hopeless ones in one view
    right.set(xlabel="Number of components", ylabel="BIC above the smallest")
    right.set_title(f"Choice by BIC (smallest: {low:.1f})")
    right.legend(title="covariance", frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)


def _draw_mixture(axes: Axes, model: GaussianMixture, X: NDArray[np.float64]) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    labels = model.predict(X)
    factors = np.linalg.cholesky(covariance_matrices(model))
    for i, (mean, factor) in enumerate(zip(model.means_, factors, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        marker = MARKERS[i % len(MARKERS)]
        label = f"component {i} ({model.weights_[i]:.0%})"
        axes.scatter(
            *X[labels == i].T, s=22, c=colour, marker=marker, alpha=0.75, lw=0, label=label
        )
        for probability, style in ((0.5, "-"), (0.95, "--")):
            radius = np.sqrt(-2 * np.log1p(-probability))  # chi-squared with 2 degrees of freedom
            axes.plot(*(mean + radius * circle @ factor.T).T, style, c=colour, lw=1.5)
    axes.plot([], [], "-", c="grey", label="half of a component")
    axes.plot([], [], "--", c="grey", label="95 % of a component")
    axes.set(xlabel=FEATURES[0].capitalize(), ylabel=FEATURES[1].capitalize())
    axes.set_title(
        f"Old Faithful: {len(X)} eruptions, {model.n_components} components "
        f"({model.covariance_type} covariance)"
    )
    axes.legend(loc="upper left", frameon=False)
