"""`density`: a mixture's density in one or two dimensions, over the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._mixture import (
    Array,
    Features,
    FittedMixture,
    Shown,
    axis_points,
    component_densities,
    density_at,
    mass_levels,
    rows_shown,
    shown,
)
from ._style import DATA, LINES, colour_of, given_or_new, name_axes, one_of_each

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASSES = (0.99, 0.9, 0.75, 0.5, 0.25, 0.1)
_MAX_NAMED = 6  # components with a line of their own in the legend
_MAX_BINS = 120


def density(
    model: FittedMixture,
    X: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    features: Features | None = None,
    bins: int | ArrayLike | None = None,
    components: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw the density of a mixture of one or two features.

    One feature: the curve of the mixture, the curves of its components times their weights, and
    the histogram of the data as a density. Two features: contours that hold 10 % to 99 % of the
    mixture's probability, and the data as points.

    Parameters
    ----------
    model : fitted mixture
        A ``GaussianMixture``, or any mixture with ``weights_``, ``means_``, ``covariances_`` and
        ``covariance_type``.
    X : array-like of shape (n_samples, n_features), default=None
        The data to draw beneath, with all of the model's features. Of more than 5000 points in two
        dimensions, a random sample (with a fixed seed) of 5000 is drawn, and the legend says so.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None: on a new figure.
    features : int, str or pair of them, default=None
        The features to show, by number or by their name in ``feature_names_in_``; None: all, if
        there are no more than two. What is drawn is their marginal density.
    bins : int or array-like, default=None
        The number of the histogram's bins, or their edges. None: the square root of the number of
        rows, or what Freedman and Diaconis' rule gives if that is more, but at most 120.
    components : bool, default=True
        Whether to draw the curves of the components; in one dimension only.
    legend : bool, default=True
        Whether to draw a legend.

    Returns
    -------
    ax : matplotlib.axes.Axes
        What was drawn on. In one dimension its first line is the mixture, the next ones are the
        components in their order.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the model is not fitted or has more than two features and none are chosen, or if X does
        not fit to it or holds NaN or infinities.

    References
    ----------
    .. [1] R. J. Hyndman, "Computing and graphing highest density regions", The American
       Statistician 50(2), 1996: the contours.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastgmm import GaussianMixture, plot
    >>> from fastgmm.data import load_faithful
    >>> X = load_faithful()
    >>> model = GaussianMixture(2, random_state=0).fit(X)
    >>> ax = plot.density(model, X, features=1, ax=Figure().subplots())
    >>> [line.get_label() for line in ax.lines]
    ['mixture', 'component 0 (36 %)', 'component 1 (64 %)']
    >>> ax = plot.density(model, X)  # of both features, on a new figure
    >>> ax.get_xlabel()
    'feature 0'

    >>> import matplotlib.pyplot as plt
    >>> plt.close(ax.figure)
    """
    mixture = shown(model, features)
    rows, note = (None, None) if X is None else rows_shown(X, mixture, model.means_.shape[1])
    ax = given_or_new(ax)
    if len(mixture.features) == 1:
        if rows is not None:
            draw_histogram(ax, rows[:, 0], bins)
        draw_curves(ax, mixture, components=components)
    else:
        if rows is not None:
            draw_points(ax, rows, note)
        _draw_contours(ax, mixture)
    name_axes(ax, mixture)
    if legend:
        ax.legend(frameon=False, fontsize="small")
    return ax


def draw_curves(
    ax: Axes, mixture: Shown, *, components: bool = True, alpha: float = 1.0
) -> list[Any]:
    """Draw the curve of a mixture of one feature, and those of its components; return them."""
    x = axis_points(mixture, 0, 400)
    curves = list(component_densities(mixture, x[:, None]))
    style = {"color": "black", "linewidth": 1.8, "alpha": alpha, "zorder": 3}
    lines = ax.plot(x, sum(curves), label="mixture", **style)
    few = len(curves) <= _MAX_NAMED
    for k, curve in enumerate(curves if components else ()):
        if few:
            name = f"component {k} ({100 * mixture.weights[k]:.0f} %)"
        else:
            name = "components" if k == 0 else "_"
        style = {"color": colour_of(k), "linestyle": one_of_each(LINES, k), "alpha": alpha}
        lines += ax.plot(x, curve, label=name, linewidth=1.4, **style)
    return list(lines)


def draw_points(ax: Axes, rows: Array, note: str | None) -> None:
    """Draw rows of two features as grey points."""
    ax.scatter(*rows.T, s=9, color=DATA, linewidth=0, label=note or "data", zorder=1)


def draw_histogram(ax: Axes, x: Array, bins: int | ArrayLike | None = None) -> None:
    """Draw the values of one feature as a density."""
    heights, edges = np.histogram(x, _number_of_bins(x) if bins is None else bins, density=True)
    ax.stairs(heights, edges, fill=True, color="0.85", label="data")


def _number_of_bins(x: Array) -> int:
    """Return a number of bins that outliers cannot drive beyond all bounds."""
    low, first, third, high = np.quantile(x, (0, 0.25, 0.75, 1))
    width = 2 * (third - first) / len(x) ** (1 / 3)
    by_width = (high - low) / width if width > 0 else 0
    return int(np.ceil(min(max(by_width, np.sqrt(len(x))), _MAX_BINS)))


def _draw_contours(ax: Axes, mixture: Shown) -> None:
    from matplotlib import colormaps

    x, y = (axis_points(mixture, j, 160) for j in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    heights = density_at(mixture, grid.reshape(-1, 2)).reshape(len(y), len(x))
    levels, masses = np.unique(mass_levels(mixture, MASSES), return_index=True)
    colours = colormaps["viridis_r"](np.linspace(0.2, 1, len(levels)))
    ax.contour(x, y, heights, levels, colors=colours, linewidths=1.4, zorder=2)
    for colour, mass in zip(colours, masses, strict=True):
        ax.plot([], [], color=colour, label=f"{100 * MASSES[mass]:.0f} % within")
