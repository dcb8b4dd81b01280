"""One name for what the kinds of kernels have in common.

Numba resolves these calls by the type of ``params`` when it compiles, so a pass is written once
and contains no test of the kind.  Without compilation the same table decides at run time.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload

from . import expanded, expanded_triangular, scaled, triangular
from .arrays import Array, Indices
from .expanded import Expanded
from .expanded_triangular import ExpandedTriangular
from .options import JIT_DISABLED, overload_options
from .scaled import Scaled
from .triangular import Triangular, TriangularFloat32

KernelParams = Triangular | ExpandedTriangular | Scaled | Expanded

_MODULES: dict[Any, Any] = {
    Triangular: triangular,
    TriangularFloat32: triangular,
    Scaled: scaled,
    Expanded: expanded,
    ExpandedTriangular: expanded_triangular,
}


def second_size(params: KernelParams) -> int:
    """Return how many second moments a component has in the statistics."""
    if isinstance(params, Triangular | ExpandedTriangular):
        d = int(params.means.shape[1])
        return d * (d + 1) // 2
    return len(params.moments)


def moments_params(reference: Array, n_second: int) -> KernelParams:
    """Return parameters for moments about a reference (K, d) alone, without densities."""
    d = reference.shape[1]
    nothing = np.empty(0)
    nothing.flags.writeable = False
    square = nothing.reshape(0, 0)
    if n_second > d:
        return Triangular(reference, reference, square, nothing, square)
    counted = np.empty(n_second)
    counted.flags.writeable = False
    return Scaled(reference, reference, square, nothing, square, nothing, counted)


def work_size(params: KernelParams) -> int:
    """Return how much scratch of its own the kind needs."""
    return int(_MODULES[type(params)].work_size(params))


def rows_together(params: Any) -> int:
    """Return how many rows the E-step works on at a time: a tile holds a multiple of them."""
    return int(_MODULES[type(params)].rows_together(params))


def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Do what all components share for a tile x of b rows."""
    _MODULES[type(params)].begin_tile(params, x, b, work)


def log2_densities(params: Any, active: Array, x: Array, h: Array, work: Array) -> None:
    """Write the log2-densities of a tile to h (n b,), never NaN.

    active (n,) are the components that take part; the p-th of them has h from p b on.
    """
    _MODULES[type(params)].log2_densities(params, active, x, h, work)


def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block."""
    _MODULES[type(params)].clear_moments(params, work)


def add_moments(
    params: Any,
    active: Array,
    x: Array,
    h: Array,
    scale: Array,
    work: Array,
    mass: Array,
    first: Array,
    second: Array,
) -> None:
    """Add the moments of a tile about the means of active components, weighted by h scale."""
    _MODULES[type(params)].add_moments(params, active, x, h, scale, work, mass, first, second)


def most_listed(params: KernelParams) -> float:
    """Return the share of pairs up to which it pays to list those that count; 0 if never."""
    return float(_MODULES[type(params)].most_listed(params))


def add_listed(
    params: Any, rows: Indices, counts: Indices, h: Array, scale: Array, work: Array
) -> None:
    """Add the moments of listed pairs of a tile, weighted by h scale; see ``lists.py``.

    Only of kinds whose pairs may be listed, and of tiles that were begun.
    """
    _MODULES[type(params)].add_listed(params, rows, counts, h, scale, work)


def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """End the sums of a block: after this all of them are in mass, first and second."""
    _MODULES[type(params)].finish_moments(params, work, mass, first, second)


def separations(params: Any, j: int, work: Array, distances: Array, stretches: Array) -> None:
    """Write how far component j is from each k, in k's metric, and by how much j's lengths grow.

    work : WORK, of the size that `triangular_separations` tells; where there are factors,
    d <= MOST; distances, stretches : OUT (K,).
    """
    _MODULES[type(params)].separations(params, j, work, distances, stretches)


def nearest(params: Any, row: Array) -> int:
    """Return the component nearest to a row (d,) whose square distances all overflow."""
    return int(_MODULES[type(params)].nearest(params, row))


def _resolve_by_kind(function: Callable[..., Any]) -> None:
    """Let Numba replace calls of a function by its namesake for the kind of the parameters."""
    name = function.__name__
    first = getattr(triangular, name)

    def choose(params: Any, *_: Any) -> Any:
        return getattr(_MODULES[params.instance_class], name).py_func

    # Numba wants the signatures of both to agree, annotations included.
    choose.__signature__ = inspect.signature(first.py_func)  # type: ignore[attr-defined]
    overload(function, jit_options=overload_options(first))(choose)


if not JIT_DISABLED:
    for _function in (
        rows_together,
        begin_tile,
        log2_densities,
        clear_moments,
        add_moments,
        most_listed,
        add_listed,
        finish_moments,
        separations,
        nearest,
    ):
        _resolve_by_kind(_function)
