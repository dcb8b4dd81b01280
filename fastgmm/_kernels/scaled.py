"""The scale kind: no products between features (diagonal, spherical and, whitened, tied).

``log N_k(x) = c_k - sum_j p_kj (y_j - centre_kj)^2 / 2`` where y is the row itself or, for tied
covariances, the row whitened once by the shared factor.  Precisions have one column for a whole
component or one for each feature.
"""

from typing import Any, NamedTuple

import numpy as np

from . import scaled_tiles
from .arrays import Array, Indices
from .exp import LOG2_E
from .options import device, strict_device
from .scaled_tiles import (
    cells_size,
    log_density_1,
    log_density_2,
    precise_log_density_1,
    precise_log_density_2,
    unpack_moments,
)
from .simd import LANES, fma, lane_sum, load, splat, store
from .tile import tile_rows

# Registers of rows that are worked on together: their sums do not wait for one another.
ABREAST = 4 * LANES
_HALF_LOG2_E = -0.5 * LOG2_E


class Scaled(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), what moments are taken about
    centres: Array  # (K, d), the means as the density sees them: whitened, if there is a factor
    precisions: Array  # (K, d), or (K, 1) for one scale in every direction
    constants: Array  # (K,)
    factor: Array  # (d, d) lower triangular, to whiten rows with; (0, 0) for none
    origin: Array  # (d,), subtracted before whitening, or where squares are multiplied out
    moments: Array  # (m,): only its length counts, the second moments of a component: d, 1 or 0


def work_size(params: Scaled) -> int:
    """Return how much scratch the functions below need as ``work``."""
    n_components, d = map(int, params.means.shape)
    return d * tile_rows(d) + n_components * cells_size(d, len(params.moments) > 0)


@device
def rows_together(params: Any) -> int:
    """Return how many rows the functions below work on at a time: tiles hold a multiple."""
    return ABREAST


@device
def whiten(factor: Array, z: Array, b: int) -> None:
    """Multiply rows z, transposed (d b,), by a lower triangular factor, in place."""
    for i in range(factor.shape[0] - 1, -1, -1):
        for t in range(0, b, ABREAST):
            y0, y1, y2, y3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for j in range(i + 1):
                place, entry = j * b + t, factor[i, j]
                y0 = fma(load(z, place), entry, y0)
                y1 = fma(load(z, place + LANES), entry, y1)
                y2 = fma(load(z, place + 2 * LANES), entry, y2)
                y3 = fma(load(z, place + 3 * LANES), entry, y3)
            place = i * b + t
            store(z, place, y0)
            store(z, place + LANES, y1)
            store(z, place + 2 * LANES, y2)
            store(z, place + 3 * LANES, y3)


@device
def squares_abreast(x: Array, b: int, t: int, centres: Array, k: int) -> Any:
    """Return |x - centre_k|^2 of the rows from t on, in four registers."""
    q0, q1, q2, q3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for j in range(centres.shape[1]):
        centre = centres[k, j]
        place = j * b + t
        # this way round the rows can be the subtraction's operand in memory
        z0 = centre - load(x, place)
        z1 = centre - load(x, place + LANES)
        z2 = centre - load(x, place + 2 * LANES)
        z3 = centre - load(x, place + 3 * LANES)
        q0 = fma(z0, z0, q0)
        q1 = fma(z1, z1, q1)
        q2 = fma(z2, z2, q2)
        q3 = fma(z3, z3, q3)
    return q0, q1, q2, q3


@device
def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Whiten the rows of a tile, if there is a factor."""
    if params.factor.shape[0] > 0:
        for j in range(params.means.shape[1]):
            place = params.origin[j]
            for i in range(j * b, (j + 1) * b, LANES):
                store(work, i, load(x, i) - place)
        whiten(params.factor, work, b)


@device
def log2_densities(params: Any, active: Array, x: Array, h: Array, work: Array) -> None:
    """Write log2-densities in the active components to h."""
    n_components, d = params.centres.shape
    count = active.shape[0]
    b = h.shape[0] // count
    centres = params.centres.reshape(n_components * d)
    precisions = params.precisions.reshape(params.precisions.size)
    one_scale = params.precisions.shape[1] == 1
    seen = x
    if params.factor.shape[0] > 0:
        seen = work
    for p in range(0, count, 2):
        k, other = active[p], active[min(p + 1, count - 1)]
        first, second = _HALF_LOG2_E, _HALF_LOG2_E
        if one_scale:
            first, second = precisions[k] * _HALF_LOG2_E, precisions[other] * _HALF_LOG2_E
        factors = (first, second)
        peaks = (LOG2_E * params.constants[k], LOG2_E * params.constants[other])
        o = p * b
        if p + 1 < count and one_scale:
            log_density_2(seen, b, d, centres, precisions, k, other, factors, peaks, h, o)
        elif p + 1 < count:
            precise_log_density_2(seen, b, d, centres, precisions, k, other, factors, peaks, h, o)
        elif one_scale:
            log_density_1(seen, b, d, centres, precisions, k, other, factors, peaks, h, o)
        else:
            precise_log_density_1(seen, b, d, centres, precisions, k, other, factors, peaks, h, o)


@device
def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block."""
    n_components, d = params.means.shape
    start, both = d * tile_rows(d), params.moments.shape[0] > 0
    for i in range(start, start + n_components * cells_size(d, both)):
        work[i] = 0.0


@device
def weigh(h: Array, start: int, scale: Array) -> float:
    """Multiply a component's h, from ``start`` on, by scale (b,); return the sum."""
    total = splat(0.0)
    for i in range(0, scale.shape[0], LANES):
        weight = load(h, start + i) * load(scale, i)
        store(h, start + i, weight)
        total = total + weight
    return lane_sum(total)


@device
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
    """Add a tile's moments in the active components, weighted by h scale, which h becomes."""
    n_components, d = params.means.shape
    b, both = scale.shape[0], params.moments.shape[0] > 0
    means = params.means.reshape(n_components * d)
    cells, size = work[d * tile_rows(d) :], cells_size(d, both)
    for p in range(active.shape[0]):
        k, o = active[p], p * b
        here = weigh(h, o, scale)
        mass[k] += here
        if here != 0.0:  # else all the rest would be exact zeros
            scaled_tiles.add_moments(x, b, means, k * d, h, o, cells, k * size, d, both)


@device
def most_listed(params: Any) -> float:
    """Return that pairs are never listed."""
    return 0.0


@device
def add_listed(
    params: Any, rows: Indices, counts: Indices, h: Array, scale: Array, work: Array
) -> None:
    """Do nothing: pairs are never listed."""


@device
def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """Add the sums of a block to first (K, d) and second (K, m); mass has its part already."""
    n_components, d = params.means.shape
    cells, size = work[d * tile_rows(d) :], cells_size(d, params.moments.shape[0] > 0)
    for k in range(n_components):
        unpack_moments(cells, k * size, first[k], second[k], d)


@strict_device
def separations(params: Any, j: int, work: Array, distances: Array, stretches: Array) -> None:
    """Write how far component j is from each k, in k's metric, and by how much j's lengths grow.

    distances, stretches : OUT (K,), NaN where either cannot be told.
    """
    centres, precisions = params.centres, params.precisions
    columns = precisions.shape[1]
    for k in range(centres.shape[0]):
        square, largest, doubt = 0.0, 0.0, 0.0
        for i in range(centres.shape[1]):
            z = centres[j, i] - centres[k, i]
            square += precisions[k, min(i, columns - 1)] * z * z
        for i in range(columns):
            ratio = precisions[k, i] / precisions[j, i]
            largest = max(largest, ratio)
            doubt += 0.0 * ratio  # a maximum may pass over NaN
        distances[k], stretches[k] = np.sqrt(square), np.sqrt(largest + doubt)


@strict_device
def _nearest_whitened(params: Scaled, row: Array) -> int:
    """Do the same for a shared factor: the whitened row itself may overflow."""
    means, factor, constants = params.means, params.factor, params.constants
    n_components, d = means.shape
    largest = 0.0
    for k in range(n_components):
        for j in range(d):
            largest = max(largest, abs(0.25 * row[j] - 0.25 * means[k, j]))
    largest_factor = 0.0
    for i in range(d):
        for j in range(i + 1):
            largest_factor = max(largest_factor, abs(factor[i, j]))
    best, best_square = 0, np.inf
    for k in range(n_components):
        square = 0.0
        for i in range(d):
            y = 0.0
            for j in range(i + 1):
                z = (0.25 * row[j] - 0.25 * means[k, j]) / largest
                y += (factor[i, j] / largest_factor) * z
            square += y * y
        if constants[k] > -np.inf and square < best_square:
            best, best_square = k, square
    return best


@strict_device
def nearest(params: Any, row: Array) -> int:
    """Return the component nearest to a row so far out that every square distance overflows."""
    precisions, constants, factor = params.precisions, params.constants, params.factor
    if factor.shape[0] > 0:
        return _nearest_whitened(params, row)
    centres = params.means
    n_components, d = centres.shape
    one_scale = precisions.shape[1] == 1
    largest_difference = 0.0
    largest_precision = 0.0
    for k in range(n_components):
        for j in range(precisions.shape[1]):
            largest_precision = max(largest_precision, precisions[k, j])
        for j in range(d):
            # a quarter of each: the difference of two huge numbers must not overflow either
            difference = abs(0.25 * row[j] - 0.25 * centres[k, j])
            largest_difference = max(largest_difference, difference)
    best, best_square = 0, np.inf
    for k in range(n_components):
        square = 0.0
        for j in range(d):
            precision = precisions[k, 0] if one_scale else precisions[k, j]
            z = (0.25 * row[j] - 0.25 * centres[k, j]) / largest_difference
            square += (precision / largest_precision) * z * z
        if constants[k] > -np.inf and square < best_square:
            best, best_square = k, square
    return best
