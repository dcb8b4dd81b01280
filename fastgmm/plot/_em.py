"""`em` and `animate_em`: the iterations that a `History` recorded, over the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._density import draw_curves, draw_histogram, draw_points
from ._mixture import Array, Features, Shown, marginal, rows_shown
from ._style import (
    MARKERS,
    check_axes,
    colour_of,
    draw_ellipses,
    given_or_new,
    name_axes,
    new_axes,
    one_of_each,
)

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

_N_PANELS = 6
_PANELS_WIDE = 3
_N_FRAMES = 60
_SDS = (1.0, 2.0)


class Recorded(Protocol):
    """A history of EM iterations."""

    records: list[Any]


def em(
    history: Recorded,
    X: ArrayLike,
    ax: Axes | NDArray[Any] | None = None,
    *,
    steps: int | Sequence[int] | None = None,
    init: int | None = None,
    features: Features | None = None,
) -> Any:
    """Draw iterations of EM over the data: curves in one dimension, ellipses in two.

    Parameters
    ----------
    history : History
        Set on the mixture before its fit: ``model.set_callbacks(history).fit(X)``.
    X : array-like of shape (n_samples, n_features)
        The data, with all of the mixture's features. Of more than 5000 points in two dimensions, a
        random sample (with a fixed seed) of 5000 is drawn, and a note says so.
    ax : matplotlib.axes.Axes or array of them, default=None
        An array: one iteration on each. A single one: all iterations on it, the earlier the paler,
        and the paths of the means. None: an array on a new figure.
    steps : int or sequence of int, default=None
        Which iterations, from 1; or how many, of which the first and the last are two and those
        between get sparser, as EM slows down. None: one for each of the axes, 6 without an array.
    init : int, default=None
        Which of the ``n_init`` runs, from 0; None: the one with the largest bound.
    features : int, str or pair of them, default=None
        The features to show, by number or, if X is a data frame, by name; None: all, if there are
        no more than two.

    Returns
    -------
    ax : matplotlib.axes.Axes or ndarray of them
        What was drawn on; a flat array unless a single one was given.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the history is empty or keeps no parameters, if it lacks a run or an iteration, if there
        are fewer axes than iterations, or if the features are more than two and none are chosen.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastgmm import GaussianMixture, History, plot
    >>> from fastgmm.data import load_faithful
    >>> X, history = load_faithful(), History()
    >>> model = GaussianMixture(2, init_params="random", random_state=0)
    >>> model = model.set_callbacks(history).fit(X)
    >>> axes = plot.em(history, X, ax=Figure().subplots(2, 2))
    >>> axes[0].get_title()
    'iteration 1'
    >>> axes[-1].get_title() == f"iteration {model.n_iter_}"
    True
    """
    given = None if ax is None else np.ravel(np.asarray(ax, dtype=object))
    overlay = ax is not None and not np.iterable(ax)
    if steps is None:
        steps = _N_PANELS if given is None or overlay else len(given)
    frames = _frames(history, X, steps, init, features)
    n = len(frames.mixtures)
    for panel in () if given is None else given:
        check_axes(panel)
    if given is not None and not overlay and len(given) < n:
        raise ValueError(f"{n} iterations need as many axes; {len(given)} were given.")

    if overlay:
        _overlay(ax, frames)
        return ax
    panels = _panels(n) if given is None else given[:n]
    for panel, (step, mixture) in zip(panels, frames.mixtures.items(), strict=True):
        _draw_data(panel, frames)
        _draw_step(panel, mixture)
        name_axes(panel, mixture)
        panel.set_title(f"iteration {step}")
    if given is None:
        _label_outer(panels)
    return panels


def animate_em(
    history: Recorded,
    X: ArrayLike,
    path: str | Path | None = None,
    ax: Axes | None = None,
    *,
    steps: int | Sequence[int] | None = None,
    init: int | None = None,
    features: Features | None = None,
    interval: float = 300.0,
    dpi: float | None = None,
) -> FuncAnimation:
    """Animate EM over the data: a frame an iteration.

    Parameters
    ----------
    history : History
        Set on the mixture before its fit: ``model.set_callbacks(history).fit(X)``.
    X : array-like of shape (n_samples, n_features)
        The data, with all of the mixture's features.
    path : str or Path, default=None
        Where to save the animation, by matplotlib's ``PillowWriter``: a ``.gif`` file.
        None: nowhere.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None: on a new figure. Other axes of its figure stay as they are.
    steps : int or sequence of int, default=None
        Which iterations, from 1, or how many, as in ``em``; None: up to 60.
    init : int, default=None
        Which of the ``n_init`` runs, from 0; None: the one with the largest bound.
    features : int, str or pair of them, default=None
        The features to show, by number or, if X is a data frame, by name; None: all, if there are
        no more than two.
    interval : float, default=300.0
        Milliseconds between two frames.
    dpi : float, default=None
        Dots per inch of the file; None: those of the figure.

    Returns
    -------
    animation : matplotlib.animation.FuncAnimation
        Keep it as long as it is to run.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        As ``em``; also if `interval` is not positive.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from matplotlib.figure import Figure
    >>> from fastgmm import GaussianMixture, History, plot
    >>> from fastgmm.data import load_faithful
    >>> X, history = load_faithful(), History()
    >>> model = GaussianMixture(2, random_state=0).set_callbacks(history).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "em.gif"
    ...     animation = plot.animate_em(history, X, path, ax=Figure().subplots(), steps=2)
    ...     path.read_bytes()[:6]
    b'GIF89a'
    """
    if not interval > 0:
        raise ValueError(f"interval must be a positive number of milliseconds; got {interval!r}.")
    frames = _frames(history, X, _N_FRAMES if steps is None else steps, init, features)
    ax = given_or_new(ax)
    from matplotlib.animation import FuncAnimation, PillowWriter

    _draw_data(ax, frames)
    moving = [artist for mixture in frames.mixtures.values() for artist in _draw_step(ax, mixture)]
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # with room for every frame
    name_axes(ax, next(iter(frames.mixtures.values())))

    def draw(step: int) -> list[Any]:
        for artist in moving:
            artist.remove()
        moving[:] = _draw_step(ax, frames.mixtures[step])
        ax.set_title(f"iteration {step}")
        return moving

    animation = FuncAnimation(ax.figure, draw, list(frames.mixtures), interval=interval)
    if path is not None:
        animation.save(path, writer=PillowWriter(fps=1000 / interval), dpi=dpi)
    return animation


class _Frames(NamedTuple):
    mixtures: dict[int, Shown]  # by iteration
    rows: Array  # what is shown of the data
    note: str | None  # what to say if these are not all


def _frames(
    history: Recorded,
    X: ArrayLike,
    steps: int | Sequence[int],
    init: int | None,
    features: Features | None,
) -> _Frames:
    if not hasattr(history, "records"):
        raise TypeError(
            f"Expected the History of a fit, got {type(history).__name__}: history = History(), "
            "model.set_callbacks(history).fit(X), then plot.em(history, X)."
        )
    run = _run(history, init)
    names = list(X.columns) if hasattr(X, "columns") else None
    mixtures = {
        step: marginal(
            run[step - 1].weights,
            run[step - 1].means,
            run[step - 1].covariances,
            run[step - 1].covariance_type,
            features=features,
            names=names,
        )
        for step in _chosen(steps, len(run))
    }
    one = next(iter(mixtures.values()))
    return _Frames(mixtures, *rows_shown(X, one, run[0].means.shape[1]))


def _run(history: Recorded, init: int | None) -> list[Any]:
    """Return the records of one run."""
    if not history.records:
        raise ValueError("The history is empty: fit a mixture after its set_callbacks(history).")
    if history.records[0].means is None:
        raise ValueError(
            "The history holds numbers alone: fit with History(keep_parameters=True) to draw it."
        )
    runs: dict[int, list[Any]] = {}
    for record in history.records:
        runs.setdefault(record.init, []).append(record)
    if init is None:
        init = max(runs, key=lambda number: runs[number][-1].bound)
    if init not in runs:
        raise ValueError(f"There is no run {init!r}; the history has runs 0 to {max(runs)}.")
    return runs[init]


def _chosen(steps: int | Sequence[int], n: int) -> list[int]:
    """Return the numbers of iterations, from 1 to n."""
    if isinstance(steps, int | np.integer):
        if steps < 1:
            raise ValueError(f"steps={steps}: draw at least one iteration.")
        if steps == 1:
            return [n]
        count = min(int(steps), n)
        places = np.arange(count)
        # in a geometric series, each at least one after the one before
        apart = np.geomspace(1, n, count).round().astype(int) - places
        return [int(step) for step in np.maximum.accumulate(apart) + places]
    chosen = [int(step) for step in steps]
    wrong = [step for step in chosen if not 1 <= step <= n]
    if wrong or not chosen:
        raise ValueError(f"steps={chosen}: this run has the iterations 1 to {n}.")
    return chosen


def _panels(n: int) -> NDArray[Any]:
    """Return n axes on a new figure."""
    width = min(n, _PANELS_WIDE)
    height = math.ceil(n / width)
    grid = new_axes(height, width, size=(3.4 * width, 2.8 * height)).ravel()
    for panel in grid[n:]:
        panel.remove()
    return np.asarray(grid[:n])


def _label_outer(panels: NDArray[Any]) -> None:
    """Leave labels only where no panel is below or to the left, in an unfinished last row, too."""
    for i, panel in enumerate(panels):
        if i % _PANELS_WIDE > 0:
            panel.set_ylabel("")
        if i + _PANELS_WIDE < len(panels):
            panel.set_xlabel("")
        else:
            panel.tick_params(labelbottom=True)


def _draw_data(ax: Axes, frames: _Frames) -> None:
    if frames.rows.shape[1] == 1:
        draw_histogram(ax, frames.rows[:, 0])
    else:
        draw_points(ax, frames.rows, frames.note)
    if frames.note is not None:
        ax.text(0.02, 0.98, frames.note, transform=ax.transAxes, va="top", fontsize="x-small")


def _draw_step(ax: Axes, mixture: Shown) -> list[Any]:
    """Draw one iteration; return what was drawn."""
    if len(mixture.features) == 1:
        return draw_curves(ax, mixture)
    drawn = draw_ellipses(ax, mixture, _SDS, linewidth=1.5)
    for k, mean in enumerate(mixture.means):
        style = {"marker": one_of_each(MARKERS, k), "markeredgecolor": "black", "markersize": 6}
        drawn += ax.plot(*mean, color=colour_of(k), linestyle="none", **style)
    return drawn


def _overlay(ax: Axes, frames: _Frames) -> None:
    """Draw iterations on one axes, the earlier the paler, and the paths of the means."""
    _draw_data(ax, frames)
    *earlier, last = frames.mixtures.values()
    shades = np.linspace(0.15, 0.6, len(earlier))
    if len(last.features) == 1:
        for mixture, alpha in zip(earlier, shades, strict=True):
            draw_curves(ax, mixture, components=False, alpha=alpha)
    else:
        for mixture, alpha in zip(earlier, shades, strict=True):
            draw_ellipses(ax, mixture, _SDS[:1], linewidth=1, alpha=alpha)
        paths = np.stack([mixture.means for mixture in frames.mixtures.values()], axis=1)
        for k, path in enumerate(paths):
            ax.plot(*path.T, color=colour_of(k), linewidth=1.5)
    _draw_step(ax, last)
    name_axes(ax, last)
    ax.set_title("iterations " + ", ".join(map(str, frames.mixtures)))
