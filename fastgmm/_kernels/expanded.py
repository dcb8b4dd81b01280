"""The scale kind with its squares multiplied out: a product of coefficients with features.

A Gaussian belongs to the exponential family: its log-density is linear in features and squares,
``log2 N_k(x) = a_k0 + sum_j a_kj phi_j(y)`` with phi the features of y and either the square of
each or the sum of their squares.  y is the row less an origin, whitened if components share a
factor.  The moments of phi are all that the M-step needs.

What multiplying out costs in digits is what ``(distance of a centre from the origin / sd)^2`` has;
whoever makes these parameters sees that it is few, and takes `scaled` where it is not.
"""

from typing import Any, NamedTuple

import numpy as np

from . import scaled
from .arrays import Array
from .exp import LOG2_E
from .expanded_tiles import (
    add_moments_of_one,
    add_moments_of_two,
    log_density_1,
    log_density_2,
    log_density_4,
)
from .options import device, shared
from .scaled import ABREAST, Scaled, weigh, whiten
from .simd import LANES, fma, load, splat, store, where_less
from .tile import tile_rows

# Squares that overflow weigh nothing, and nothing times infinity is NaN.
_LARGEST = 1.7e308


class Expanded(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), what moments are taken about
    centres: Array  # as in `scaled.Scaled`, like the next ones
    precisions: Array
    constants: Array
    factor: Array
    origin: Array  # (d,), subtracted from all rows
    moments: Array
    coefficients: Array  # (K, 1 + features): a


def expand(params: Scaled, offsets: Array, squares: Array) -> Expanded:
    """Return the same components with their squares multiplied out.

    offsets : (K, d), the centres as the density sees them, from the origin of the rows it sees;
    squares : (K,), the square distances of the origin in the components' metrics.
    """
    constants = (params.constants - 0.5 * squares)[:, None]
    parts = (constants, params.precisions * offsets, -0.5 * params.precisions)
    coefficients = np.ascontiguousarray(LOG2_E * np.concatenate(parts, axis=1))
    coefficients.flags.writeable = False
    return Expanded(*params, coefficients=coefficients)


separation, nearest = scaled.separation, scaled.nearest


@shared
def _cells_size(n_features: int) -> int:
    """Return the numbers in a component's cells: moments, mass, and room for whole registers."""
    return (n_features + 2 * LANES) // LANES * LANES


def work_size(params: Expanded) -> int:
    """Return how much scratch the functions below need as ``work``."""
    n_components, columns = map(int, params.coefficients.shape)
    return (columns - 1) * tile_rows(params.means.shape[1]) + n_components * _cells_size(columns)


@device
def rows_together(params: Any) -> int:
    """Return how many rows the functions below work on at a time: tiles hold a multiple."""
    return ABREAST


@device
def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Subtract the origin from the rows of a tile; write their features phi to ``work``."""
    d, n_features = params.means.shape[1], params.coefficients.shape[1] - 1
    for j in range(d):
        place = params.origin[j]
        for i in range(j * b, (j + 1) * b, LANES):
            z = load(x, i) - place
            store(x, i, z)
            store(work, i, z)
    if params.factor.shape[0] > 0:
        whiten(params.factor, work, b)
    alone = n_features == 2 * d
    if not alone:
        for i in range(0, b, LANES):
            store(work, d * b + i, splat(0.0))
    for j in range(d):
        for i in range(0, b, LANES):
            y, out = load(work, j * b + i), d * b + i
            if alone:
                store(work, out + j * b, y * y)
            else:
                store(work, out, fma(y, y, load(work, out)))


@device
def log2_densities(params: Any, active: Array, x: Array, h: Array, work: Array) -> None:
    """Write log2-densities in the active components to h."""
    n_components, columns = params.coefficients.shape
    a, count = params.coefficients.reshape(n_components * columns), active.shape[0]
    b, features, p = h.shape[0] // count, columns - 1, 0
    while p + 4 <= count:
        s0, s1 = active[p] * columns, active[p + 1] * columns
        s2, s3 = active[p + 2] * columns, active[p + 3] * columns
        log_density_4(work, b, features, a, (s0, s1, s2, s3), h, p * b)
        p += 4
    if p + 2 <= count:
        starts = (active[p] * columns, active[p + 1] * columns)
        log_density_2(work, b, features, a, starts, h, p * b)
        p += 2
    if p < count:
        log_density_1(work, b, features, a, (active[p] * columns,), h, p * b)


@device
def _cells(params: Any, work: Array) -> Array:
    """Return where the sums of a block are."""
    n_components, columns = params.coefficients.shape
    start = (columns - 1) * tile_rows(params.means.shape[1])
    return work[start : start + n_components * _cells_size(columns)]


@device
def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block."""
    _cells(params, work)[:] = 0.0


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
    d, n_features = params.means.shape[1], params.coefficients.shape[1] - 1
    size, b = _cells_size(n_features + 1), scale.shape[0]
    cells = _cells(params, work)
    # rows are whitened for the densities alone
    features, counted = work, n_features
    if params.factor.shape[0] > 0:
        features, counted = x, d
    else:
        for i in range(d * b, n_features * b, LANES):
            square = load(work, i)
            store(work, i, where_less(square, _LARGEST, square, _LARGEST))
    for p in range(0, active.shape[0] - 1, 2):
        one, other = active[p] * size, active[p + 1] * size
        here, there = weigh(h, p * b, scale), weigh(h, (p + 1) * b, scale)
        cells[one + n_features] += here
        cells[other + n_features] += there
        if here + there != 0.0:  # else all the rest would be exact zeros
            add_moments_of_two(features, b, counted, h, p * b, cells, one, other)
    if active.shape[0] % 2 == 1:
        p = active.shape[0] - 1
        one, here = active[p] * size, weigh(h, p * b, scale)
        cells[one + n_features] += here
        if here != 0.0:
            add_moments_of_one(features, b, counted, h, p * b, cells, one)


@device
def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """Add the sums of a block, about the components' own means, to the statistics."""
    n_components, d = params.means.shape
    n_features = params.coefficients.shape[1] - 1
    cells, size = _cells(params, work), _cells_size(n_features + 1)
    columns = second.shape[1]
    for k in range(n_components):
        sums = cells[k * size : (k + 1) * size]
        weight = sums[n_features]
        mass[k] += weight
        for j in range(d):
            shift = params.means[k, j] - params.origin[j]
            first[k, j] += sums[j] - weight * shift
            if columns > 0:
                moved = shift * (weight * shift - 2.0 * sums[j])
                if columns == d:
                    moved += sums[d + j]
                second[k, min(j, columns - 1)] += moved
        if 0 < columns < d:
            second[k, 0] += sums[d]
