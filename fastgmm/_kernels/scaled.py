"""The scale kind: no products between features (diagonal, spherical and, whitened, tied).

``log N_k(x) = c_k - sum_j p_kj (y_j - centre_kj)^2 / 2`` where y is the row itself or, for tied
covariances, the row whitened once by the shared factor.  Precisions have one column for a whole
component or one for each feature.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .options import device, strict_device
from .tile import square_distances


class Scaled(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), what moments are taken about
    centres: Array  # (K, d), the means as the density sees them: whitened, if there is a factor
    precisions: Array  # (K, d), or (K, 1) for one scale in every direction
    constants: Array  # (K,)
    factor: Array  # (d, d) lower triangular, to whiten rows with; (0, 0) for none
    origin: Array  # (d,), subtracted before whitening
    moments: Array  # (m,): only its length counts, the second moments of a component: d, 1 or 0


@device
def _whiten(tile: Array, rows: int, factor: Array, origin: Array, whitened: Array) -> None:
    """Write factor (tile - origin) to whitened (d, rows); factor is lower triangular."""
    for i in range(tile.shape[0]):
        for b in range(rows):
            whitened[i, b] = 0.0
        for j in range(i + 1):
            t = factor[i, j]
            shift = origin[j]
            for b in range(rows):
                whitened[i, b] += t * (tile[j, b] - shift)


@device
def log_density(params: Any, tile: Array, rows: int, work: Array, logs: Array) -> None:
    """Write the log-densities of a tile (d, rows) to logs (K, rows); work is (d + 1, rows)."""
    centres, precisions, constants = params.centres, params.precisions, params.constants
    n_components = centres.shape[0]
    one_scale = precisions.shape[1] == 1
    seen = tile
    if params.factor.shape[0] > 0:
        _whiten(tile, rows, params.factor, params.origin, work)
        seen = work
    for k in range(n_components):
        squares = logs[k]
        if one_scale:
            square_distances(seen, rows, centres, k, squares)
        else:
            _scaled_square_distances(seen, rows, centres, precisions, k, squares)
        half = 0.5 * precisions[k, 0] if one_scale else 0.5
        constant = constants[k]
        for b in range(rows):
            q = half * squares[b]
            squares[b] = constant - q if q < np.inf else -np.inf


@device
def _scaled_square_distances(
    tile: Array, rows: int, centres: Array, precisions: Array, k: int, out: Array
) -> None:
    """Write sum_j p_j (x_j - centre_j)^2 of a tile to out (rows,); four features a sweep."""
    d = centres.shape[1]
    head = d % 4
    for b in range(rows):
        out[b] = 0.0
    for j in range(head):
        c, p = centres[k, j], precisions[k, j]
        for b in range(rows):
            z = tile[j, b] - c
            out[b] += p * z * z
    for j in range(head, d, 4):
        c0, c1, c2, c3 = centres[k, j], centres[k, j + 1], centres[k, j + 2], centres[k, j + 3]
        p0, p1 = precisions[k, j], precisions[k, j + 1]
        p2, p3 = precisions[k, j + 2], precisions[k, j + 3]
        for b in range(rows):
            z0 = tile[j, b] - c0
            z1 = tile[j + 1, b] - c1
            z2 = tile[j + 2, b] - c2
            z3 = tile[j + 3, b] - c3
            out[b] += (p0 * z0 * z0 + p1 * z1 * z1) + (p2 * z2 * z2 + p3 * z3 * z3)


@strict_device
def _nearest_whitened(params: Any, row: Array) -> int:
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


@device
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
    """Add a tile's moments to mass (K,), first (K, d) and second.

    second has a column for each feature, one column for the sum over features, or none.
    """
    means = params.means
    n_components, d = means.shape
    columns = second.shape[1]
    for k in range(n_components):
        r = responsibilities[k]
        total = 0.0
        for b in range(rows):
            total += r[b]
        mass[k] += total
        if columns == 0:
            for j in range(d):
                mean = means[k, j]
                total = 0.0
                for b in range(rows):
                    total += r[b] * (tile[j, b] - mean)
                first[k, j] += total
            continue
        for j in range(d % 2):
            mean = means[k, j]
            total = 0.0
            square = 0.0
            for b in range(rows):
                z = tile[j, b] - mean
                weighted = r[b] * z
                total += weighted
                square += weighted * z
            first[k, j] += total
            second[k, j] += square
        for j in range(d % 2, d, 2):  # two features a sweep share the responsibilities
            m0, m1 = means[k, j], means[k, j + 1]
            t0, t1, s0, s1 = 0.0, 0.0, 0.0, 0.0
            for b in range(rows):
                z0 = tile[j, b] - m0
                z1 = tile[j + 1, b] - m1
                w0 = r[b] * z0
                w1 = r[b] * z1
                t0 += w0
                t1 += w1
                s0 += w0 * z0
                s1 += w1 * z1
            first[k, j] += t0
            first[k, j + 1] += t1
            if columns == 1:
                second[k, 0] += s0 + s1
            else:
                second[k, j] += s0
                second[k, j + 1] += s1


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
