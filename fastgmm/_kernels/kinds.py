"""One name for what the two kinds of kernels have in common.

Numba resolves these calls by the type of ``params`` when it compiles, so a pass is written once
and contains no test of the kind.  Without compilation the same table decides at run time.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload

from . import scaled, triangular
from .arrays import Array
from .options import JIT_DISABLED, overload_options
from .scaled import Scaled
from .triangular import Triangular

KernelParams = Triangular | Scaled

_MODULES: dict[Any, Any] = {Triangular: triangular, Scaled: scaled}


def second_size(params: KernelParams) -> int:
    """Return how many second moments a component has in the statistics."""
    if isinstance(params, Triangular):
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
        return Triangular(reference, nothing.reshape(0, 0, 0), nothing)
    counted = np.empty(n_second)
    counted.flags.writeable = False
    return Scaled(reference, reference, square, nothing, square, nothing, counted)


def log_density(params: Any, tile: Array, rows: int, work: Array, logs: Array) -> None:
    """Write the log-densities of a tile (d, rows) to logs (K, rows)."""
    _MODULES[type(params)].log_density(params, tile, rows, work, logs)


def add_moments(
    params: Any,
    tile: Array,
    rows: int,
    responsibilities: Array,
    work: Array,
    mass: Array,
    first: Array,
    second: Array,
) -> None:
    """Add the moments of a tile about the means, weighted by responsibilities (K, rows)."""
    _MODULES[type(params)].add_moments(
        params, tile, rows, responsibilities, work, mass, first, second
    )


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
    for _function in (log_density, add_moments, nearest):
        _resolve_by_kind(_function)
