"""`selection`: how the candidates of a model selection compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._style import COLOURS, MARKERS, given_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Selection(Protocol):
    """The outcome of a model selection."""

    @property
    def criterion(self) -> str:
        """The name of the criterion, by which each row has its value."""
        ...

    @property
    def table(self) -> Iterable[Any]:
        """The candidates: rows with `covariance_type`, `n_components` and the criterion."""
        ...

    @property
    def best_row(self) -> Any:
        """The winner among them."""
        ...


def selection(result: Selection, ax: Axes | None = None) -> Axes:
    """Draw the criterion of a model selection against the number of components.

    One line for each covariance type, the winner in a ring. Shown is how far each candidate lies
    above the winner: linearly up to 10, which is very strong evidence by a BIC [1]_, and
    logarithmically beyond, so that close and hopeless candidates share a view.

    Parameters
    ----------
    result : ModelSelection
        Its ``table`` has rows with ``covariance_type``, ``n_components`` and the criterion, the
        lower the better, by the name that ``criterion`` says; ``best_row`` is one of them. Rows
        whose criterion is None or NaN are candidates that failed and are left out.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None: on a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        What was drawn on: a line for each covariance type and one for the winner.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If every candidate failed.

    References
    ----------
    .. [1] R. E. Kass and A. E. Raftery, "Bayes factors", J. Amer. Statist. Assoc. 90(430), 1995,
       section 3.2.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from matplotlib.figure import Figure
    >>> from fastgmm import plot
    >>> rows = [
    ...     SimpleNamespace(covariance_type="full", n_components=k, bic=bic)
    ...     for k, bic in ((1, 2607.6), (2, 2322.2), (3, 2333.7))
    ... ]
    >>> result = SimpleNamespace(criterion="bic", table=rows, best_row=rows[1])
    >>> ax = plot.selection(result, ax=Figure().subplots())
    >>> ax.get_ylabel()
    'BIC above the smallest'
    """
    if not hasattr(result, "best_row"):
        raise TypeError(
            f"Expected what select_model returned, got {type(result).__name__}: "
            "plot.selection(select_model(X))."
        )
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in result.table:
        value = getattr(row, result.criterion)
        if value is not None and np.isfinite(value):
            lines.setdefault(row.covariance_type, []).append((row.n_components, value))
    if not lines:
        raise ValueError("Every candidate failed: there is nothing to draw.")
    ax = given_or_new(ax)

    best, name = result.best_row, result.criterion.upper()
    low = getattr(best, result.criterion)
    for i, (covariance_type, points) in enumerate(lines.items()):
        k, values = np.array(sorted(points)).T
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(k, values - low, **style, label=covariance_type)
    ring = {"marker": "o", "markersize": 14, "markerfacecolor": "none", "color": "black"}
    ax.plot(best.n_components, 0, linestyle="none", **ring)
    ax.set_yscale("symlog", linthresh=10)
    ax.set_ylim(bottom=-2)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="number of components", ylabel=f"{name} above the smallest")
    ax.set_title(f"{name} chose {best.covariance_type}, K={best.n_components} ({name} {low:.1f})")
    ax.legend(title="covariance", frameon=False, fontsize="small", title_fontsize="small")
    return ax
