"""Parameters as the kernels read them."""

import math

import numpy as np
from numpy.typing import DTypeLike

from .._kernels.algebra import multiply_out, multiply_out_scaled
from .._kernels.expanded import Expanded, expand
from .._kernels.expanded_triangular import ExpandedTriangular, expand_triangular
from .._kernels.kinds import KernelParams
from .._kernels.scaled import Scaled
from .._kernels.tiny import MOST
from .._kernels.triangular import Triangular, TriangularFloat32, pack
from ._base import Array, Params

# Multiplying out the squares of deviations loses as many digits as (distance of a centre from
# the origin / sd)^2 has: 13 of 16 are left up to here.  Should a pass shrink a component's sd a
# lot, its new variance loses more by the same rule; the next pass sees that and mends it.
# Where a factor whitens rows, what their features add up to is held to the same limit.
MAX_SQUARE_DISTANCE = 1e3


def readonly(array: Array, dtype: DTypeLike = np.float64) -> Array:
    """Return a C-contiguous, read-only view or copy: the only arrays that kernels take."""
    view: Array = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


_NOTHING = readonly(np.empty((0, 0)))


def constants_of(log_weights: Array, log_determinants: Array, d: int) -> Array:
    """Return the constants (K,) of the log-densities, log-weights included."""
    return readonly(log_weights + log_determinants - 0.5 * d * math.log(2.0 * math.pi))


def triangular(means: Array, factors: Array, constants: Array) -> Triangular:
    """Return components with a factor each (K, d, d), lower triangular."""
    shared = readonly(means)
    return Triangular(shared, shared, readonly(pack(factors)), constants, _NOTHING)


def triangular_expanded_if_near(
    params: Params, factors: Array, constants: Array
) -> Triangular | ExpandedTriangular:
    """Return such components with squares multiplied out, where that gains and costs few digits."""
    given = triangular(params.means, factors, constants)
    if given.means.shape[1] > MOST:
        return given
    k, d = params.means.shape
    origin, coefficients = np.empty(d), np.empty((k, 1 + d * (d + 3) // 2))
    arrays = map(readonly, (params.weights, params.means, params.covariances, constants))
    terms = multiply_out(readonly(factors), None, *arrays, origin, coefficients)
    if not terms <= MAX_SQUARE_DISTANCE:
        return given
    return expand_triangular(given, readonly(origin), readonly(coefficients))


def triangular_float32(means: Array, factors: Array, constants: Array) -> Triangular:
    """Return the same for float32 rows in float32 tiles."""
    centres = readonly(means, np.float32)
    rounded = readonly(centres)
    return TriangularFloat32(
        means=rounded,
        centres=centres,
        factors=readonly(pack(factors), np.float32),
        constants=constants,
        shifts=readonly((factors @ (rounded - means)[:, :, None])[:, :, 0], np.float32),
    )


def unwhitened(
    params: Params, precisions: Array, constants: Array, moments: int
) -> Scaled | Expanded:
    """Return components with precisions (K, d) or (K, 1); moments: how many are gathered.

    Their squares are multiplied out, where that costs few digits.
    """
    means, precisions = readonly(params.means), readonly(precisions)
    k, d = means.shape
    origin, coefficients = np.empty(d), np.empty((k, 1 + d + precisions.shape[1]))
    weights = readonly(params.weights)
    terms = multiply_out_scaled(precisions, None, weights, means, constants, origin, coefficients)
    scaled = Scaled(
        means=means,
        centres=means,
        precisions=precisions,
        constants=constants,
        factor=_NOTHING,
        origin=readonly(origin),
        moments=readonly(np.empty(moments)),
    )
    return expanded_if_near(scaled, terms, coefficients)


def expanded_if_near(params: Scaled, terms: float, coefficients: Array) -> Scaled | Expanded:
    """Return components with their squares multiplied out, where terms of this size allow it."""
    return expand(params, readonly(coefficients)) if terms <= MAX_SQUARE_DISTANCE else params


def centred(params: KernelParams) -> KernelParams:
    """Return the same components with squares of differences, which keep all their digits."""
    if isinstance(params, Expanded):
        return Scaled(*params[:7])
    if isinstance(params, ExpandedTriangular):
        return Triangular(*params[:5])
    return params


def distance_params(params: KernelParams) -> KernelParams:
    """Return parameters whose log-densities are minus half the square distances.

    params : centred, so that distances near 0 keep their digits.
    """
    return params._replace(constants=readonly(np.zeros(len(params.means))))
