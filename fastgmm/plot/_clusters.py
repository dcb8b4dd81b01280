"""`clusters`: which component each point belongs to, and how surely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._mixture import Features, FittedMixture, columns, sampled, shown
from ._style import (
    MARKERS,
    colour_of,
    draw_ellipses,
    explain_ellipses,
    given_or_new,
    name_axes,
    one_of_each,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NAMED = 8  # components with a line of their own in the legend


class Classifier(FittedMixture, Protocol):
    """A mixture that also tells the components' probabilities."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each component given each row."""
        ...


def clusters(
    model: Classifier,
    X: ArrayLike,
    ax: Axes | None = None,
    *,
    features: Features | None = None,
    certain: float = 0.9,
    sds: tuple[float, ...] = (1, 2),
    legend: bool = True,
) -> Axes:
    """Draw points by their component, and the components as ellipses.

    Points whose most probable component is not probable enough are drawn hollow and larger.

    Parameters
    ----------
    model : fitted mixture
        A ``GaussianMixture``, or any mixture with ``predict_proba``, ``weights_``, ``means_``,
        ``covariances_`` and ``covariance_type``.
    X : array-like of shape (n_samples, n_features)
        The points, with all of the model's features, which all count for the components'
        probabilities. Of more than 5000, a random sample (with a fixed seed) of 5000 is drawn, and
        the legend says so.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None: on a new figure.
    features : pair of int or str, default=None
        The features to show, by number or by their name in ``feature_names_in_``; None: both, if
        there are two.
    certain : float, default=0.9
        Points are hollow whose largest probability of a component is less.
    sds : tuple of float, default=(1, 2)
        The ellipses' half axes, in standard deviations. In two dimensions the ellipse
        at 1 holds 39 % of a component, at 2 86 %.
    legend : bool, default=True
        Whether to draw a legend.

    Returns
    -------
    ax : matplotlib.axes.Axes
        What was drawn on: a collection of points for each component that has any, and an ellipse
        for each component and each of `sds`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the model is not fitted, or if it has more or fewer than two features and none are
        chosen, or if X does not fit to it or holds NaN or infinities.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastgmm import GaussianMixture, plot
    >>> from fastgmm.data import load_faithful
    >>> X = load_faithful()
    >>> model = GaussianMixture(2, random_state=0).fit(X)
    >>> ax = plot.clusters(model, X, ax=Figure().subplots())
    >>> len(ax.collections), len(ax.patches)
    (2, 4)
    """
    mixture = shown(model, features, at_least=2)
    rows, note = sampled(X)
    points = columns(rows, mixture, model.means_.shape[1])
    probabilities = model.predict_proba(rows)
    ax = given_or_new(ax)

    labels = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1) >= certain
    for k in np.unique(labels):
        own = labels == k
        filled = np.where(sure[own], colour_of(k), "white")
        ax.scatter(
            *points[own].T,
            s=np.where(sure[own], 20, 32),
            c=filled,
            marker=one_of_each(MARKERS, k),
            edgecolor=colour_of(k),
            linewidth=0.9,
            alpha=0.8,
        )
    draw_ellipses(ax, mixture, sds, linewidth=1.5)
    name_axes(ax, mixture)
    if legend:
        _explain(ax, mixture.weights, certain, bool(sure.all()))
        explain_ellipses(ax, sds)
        ax.legend(frameon=False, fontsize="small", title=note, title_fontsize="small")
    return ax


def _explain(ax: Axes, weights: NDArray[Any], certain: float, all_sure: bool) -> None:
    """Add the points to the legend-to-be."""
    few = len(weights) <= _MAX_NAMED
    for k in range(len(weights) if few else 1):
        name = f"component {k} ({100 * weights[k]:.0f} %)" if few else f"{len(weights)} components"
        marker, colour = one_of_each(MARKERS, k), colour_of(k)
        ax.plot([], [], linestyle="none", marker=marker, markersize=5, color=colour, label=name)
    if not all_sure:
        style = {"marker": "o", "markersize": 5, "color": "grey", "markerfacecolor": "white"}
        ax.plot([], [], linestyle="none", **style, label=f"less than {100 * certain:g} % sure")
