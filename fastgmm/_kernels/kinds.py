"""One name for what the two kinds of kernels have in common.

Numba resolves these calls by the type of ``params`` when it compiles, so a pass is written once
and contains no test of the kind.  Without compilation the same table decides at run time.
"""

from typing import Any

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from . import scaled, triangular
from .options import device_options
from .scaled import Scaled
from .triangular import Triangular

Array = NDArray[np.float64]
KernelParams = Triangular | Scaled

_MODULES: dict[Any, Any] = {Triangular: triangular, Scaled: scaled}


def second_size(params: KernelParams) -> int:
    """Return how many second moments a component has in the statistics."""
    if isinstance(params, Triangular):
        d = params.means.shape[1]
        return d * (d + 1) // 2
    return params.moments.shape[0]


def moments_params(reference: Array, n_second: int) -> KernelParams:
    """Return parameters for moments about a reference (K, d) alone, without densities."""
    n_components, d = reference.shape
    nothing = np.empty(0)
    nothing.flags.writeable = False
    square = nothing.reshape(0, 0)
    if n_second > d:
        return Triangular(reference, nothing.reshape(0, 0, 0), nothing)
    counted = np.empty(n_second)
    counted.flags.writeable = False
    return Scaled(reference, reference, square, nothing, square, nothing, counted)


def log_density(params, tile, rows, work, logs):
    """Write the log-densities of a tile (d, rows) to logs (K, rows)."""
    return _MODULES[type(params)].log_density(params, tile, rows, work, logs)


def add_moments(params, tile, rows, responsibilities, work, mass, first, second):
    """Add the moments of a tile about the means, weighted by responsibilities (K, rows)."""
    return _MODULES[type(params)].add_moments(
        params, tile, rows, responsibilities, work, mass, first, second
    )


def nearest(params, row):
    """Return the component nearest to a row (d,) whose square distances all overflow."""
    return _MODULES[type(params)].nearest(params, row)


@overload(log_density, jit_options=device_options())
def _log_density(params, tile, rows, work, logs):
    return _MODULES[params.instance_class].log_density.py_func


@overload(add_moments, jit_options=device_options())
def _add_moments(params, tile, rows, responsibilities, work, mass, first, second):
    return _MODULES[params.instance_class].add_moments.py_func


@overload(nearest, jit_options=device_options())
def _nearest(params, row):
    return _MODULES[params.instance_class].nearest.py_func
