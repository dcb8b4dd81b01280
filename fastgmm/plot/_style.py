"""Axes, colours, ellipses and samples: what all pictures share."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from ._mixture import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours without black and the pale yellow.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("--", "-.", ":", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
ELLIPSES = ("-", "--", ":", "-.")
DATA = "0.7"  # grey


def new_axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.8)) -> Any:
    """Return an array of axes (rows, columns) on a new figure of pyplot.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which is not installed: pip install "fastgmm[plot]"'
        ) from error
    _, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    return axes


def check_axes(ax: Any) -> None:
    """Raise TypeError unless one can draw on this."""
    if not hasattr(ax, "add_patch"):
        raise TypeError(
            f"ax must be one matplotlib Axes, got {type(ax).__name__}. plt.gca(), or subplots() of "
            "a figure, gives one."
        )


def given_or_new(ax: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure."""
    if ax is None:
        new: Axes = new_axes()[0, 0]
        return new
    check_axes(ax)
    return ax


def one_of_each(styles: tuple[Any, ...], i: int) -> Any:
    """Return the i-th style, in an order that pairs each colour with each style in time."""
    return styles[(i + i // len(COLOURS)) % len(styles)]


def colour_of(i: int) -> str:
    """Return the colour of component i."""
    return COLOURS[i % len(COLOURS)]


def draw_ellipses(ax: Axes, mixture: Shown, sds: tuple[float, ...], **style: Any) -> list[Any]:
    """Draw each component's ellipses at so many standard deviations; return them."""
    from matplotlib.patches import Ellipse

    variances, axes = np.linalg.eigh(mixture.covariances)
    # eigh sorts upwards: the last axis is the long one, the width
    angles = np.degrees(np.arctan2(axes[:, 1, 1], axes[:, 0, 1]))
    drawn = []
    for k, mean in enumerate(mixture.means):
        height, width = 2 * np.sqrt(variances[k])
        for sd, line in zip(sds, cycle(ELLIPSES), strict=False):
            ellipse = Ellipse(mean, sd * width, sd * height, angle=angles[k], fill=False)
            ellipse.set(edgecolor=colour_of(k), linestyle=line, **style)
            drawn.append(ax.add_patch(ellipse))
    ax.autoscale_view()
    return drawn


def explain_ellipses(ax: Axes, sds: tuple[float, ...]) -> None:
    """Add the ellipses' line styles to the legend-to-be."""
    for sd, line in zip(sds, cycle(ELLIPSES), strict=False):
        ax.plot([], [], color="grey", linestyle=line, label=f"{sd:g} sd")


def name_axes(ax: Axes, mixture: Shown) -> None:
    """Label the axes with the features' names, or the only one and the density."""
    names = [*mixture.names, "density"]
    ax.set(xlabel=names[0], ylabel=names[1])
