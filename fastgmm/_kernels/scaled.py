"""The scale kind: no products between features (diagonal, spherical and, whitened, tied).

``log N_k(x) = c_k - sum_j p_kj (y_j - centre_kj)^2 / 2`` where y is the row itself or, for tied
covariances, the row whitened once by the shared factor.  Precisions have one column for a whole
component or one for each feature.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .exp import LOG2_E
from .options import device, strict_device
from .simd import LANES, fma, lane_sum, load, splat, store, where_less
from .tile import log2_density, tile_rows

# Registers of rows that are worked on together: their sums do not wait for one another.
ABREAST = 4 * LANES


class Scaled(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), what moments are taken about
    centres: Array  # (K, d), the means as the density sees them: whitened, if there is a factor
    precisions: Array  # (K, d), or (K, 1) for one scale in every direction
    constants: Array  # (K,)
    factor: Array  # (d, d) lower triangular, to whiten rows with; (0, 0) for none
    origin: Array  # (d,), subtracted before whitening
    moments: Array  # (m,): only its length counts, the second moments of a component: d, 1 or 0


def work_size(params: Scaled) -> int:
    """Return how much scratch the functions below need as ``work``."""
    d = int(params.means.shape[1])
    return d * tile_rows(d)


@device
def _whiten(factor: Array, origin: Array, x: Array, b: int, out: Array) -> None:
    """Write factor (x - origin) to out (d b,); factor is lower triangular."""
    d = factor.shape[0]
    for i in range(d):
        for t in range(0, b, ABREAST):
            y0, y1, y2, y3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for j in range(i + 1):
                place = j * b + t
                y0 = fma(load(x, place) - origin[j], factor[i, j], y0)
                y1 = fma(load(x, place + LANES) - origin[j], factor[i, j], y1)
                y2 = fma(load(x, place + 2 * LANES) - origin[j], factor[i, j], y2)
                y3 = fma(load(x, place + 3 * LANES) - origin[j], factor[i, j], y3)
            place = i * b + t
            store(out, place, y0)
            store(out, place + LANES, y1)
            store(out, place + 2 * LANES, y2)
            store(out, place + 3 * LANES, y3)


@device
def squares_abreast(x: Array, b: int, t: int, centres: Array, k: int) -> Any:
    """Return |x - centre_k|^2 of the rows from t on, in four registers."""
    q0, q1, q2, q3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for j in range(centres.shape[1]):
        centre = centres[k, j]
        place = j * b + t
        z0 = load(x, place) - centre
        z1 = load(x, place + LANES) - centre
        z2 = load(x, place + 2 * LANES) - centre
        z3 = load(x, place + 3 * LANES) - centre
        q0 = fma(z0, z0, q0)
        q1 = fma(z1, z1, q1)
        q2 = fma(z2, z2, q2)
        q3 = fma(z3, z3, q3)
    return q0, q1, q2, q3


@device
def _scaled_squares_abreast(
    x: Array, b: int, t: int, centres: Array, precisions: Array, k: int
) -> Any:
    """Return sum_j p_j (x_j - centre_j)^2 of the rows from t on, in four registers."""
    q0, q1, q2, q3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for j in range(centres.shape[1]):
        centre, precision = centres[k, j], precisions[k, j]
        place = j * b + t
        z0 = load(x, place) - centre
        z1 = load(x, place + LANES) - centre
        z2 = load(x, place + 2 * LANES) - centre
        z3 = load(x, place + 3 * LANES) - centre
        q0 = fma(z0 * precision, z0, q0)
        q1 = fma(z1 * precision, z1, q1)
        q2 = fma(z2 * precision, z2, q2)
        q3 = fma(z3 * precision, z3, q3)
    return q0, q1, q2, q3


@device
def _finish(
    square: Any, factor: float, peak: float, h: Array, place: int, best: Array, t: int
) -> None:
    """Write a log2-density to h, and take it into account in best."""
    value = log2_density(square, factor, peak)
    store(h, place, value)
    top = load(best, t)
    store(best, t, where_less(top, value, value, top))


@device
def begin_tile(params: Any, x: Array, best: Array, work: Array) -> None:
    """Whiten the rows of a tile, if there is a factor; begin with no best component."""
    b = best.shape[0]
    if params.factor.shape[0] > 0:
        _whiten(params.factor, params.origin, x, b, work)
    for i in range(0, b, LANES):
        store(best, i, splat(-np.inf))


@device
def log2_densities(
    params: Any, active: Array, x: Array, h: Array, best: Array, work: Array
) -> None:
    """Write log2-densities in the active components to h; raise best (b,) to them."""
    centres, precisions, constants = params.centres, params.precisions, params.constants
    b = best.shape[0]
    one_scale = precisions.shape[1] == 1
    seen = x
    if params.factor.shape[0] > 0:
        seen = work
    for p in range(active.shape[0]):
        k = active[p]
        peak = LOG2_E * constants[k]
        scale = precisions[k, 0] if one_scale else 1.0
        for t in range(0, b, ABREAST):
            if one_scale:
                q0, q1, q2, q3 = squares_abreast(seen, b, t, centres, k)
            else:
                q0, q1, q2, q3 = _scaled_squares_abreast(seen, b, t, centres, precisions, k)
            place = p * b + t
            _finish(q0, scale, peak, h, place, best, t)
            _finish(q1, scale, peak, h, place + LANES, best, t + LANES)
            _finish(q2, scale, peak, h, place + 2 * LANES, best, t + 2 * LANES)
            _finish(q3, scale, peak, h, place + 3 * LANES, best, t + 3 * LANES)


@device
def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block: nothing to do, tiles are added to the statistics themselves."""


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
    """Add a tile's moments in the active components, weighted by h scale, which h becomes.

    second has a column for each feature, one column for the sum over features, or none.
    """
    means = params.means
    d = means.shape[1]
    b = scale.shape[0]
    columns = second.shape[1]
    for p in range(active.shape[0]):
        k, o = active[p], p * b
        total = splat(0.0)
        for i in range(0, b, LANES):
            weight = load(h, o + i) * load(scale, i)
            store(h, o + i, weight)
            total = total + weight
        here = lane_sum(total)
        mass[k] += here
        if here == 0.0:
            continue  # all the rest would be exact zeros
        head = d % 4
        for j in range(head):
            t0, s0 = splat(0.0), splat(0.0)
            for i in range(0, b, LANES):
                z0 = load(x, j * b + i) - means[k, j]
                w0 = load(h, o + i) * z0
                t0 = t0 + w0
                s0 = fma(w0, z0, s0)
            first[k, j] += lane_sum(t0)
            if columns > 0:
                second[k, min(j, columns - 1)] += lane_sum(s0)
        for j in range(head, d, 4):
            if columns == 0:
                _add_first_moments(x, b, j, means, k, h, o, first)
            else:
                _add_both_moments(x, b, j, means, k, h, o, first, second)


@device
def _add_first_moments(
    x: Array, b: int, j: int, means: Array, k: int, h: Array, o: int, first: Array
) -> None:
    """Add the first moments of features j to j + 3."""
    m0, m1, m2, m3 = means[k, j], means[k, j + 1], means[k, j + 2], means[k, j + 3]
    t0, t1, t2, t3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for i in range(0, b, LANES):
        r = load(h, o + i)
        place = j * b + i
        t0 = fma(r, load(x, place) - m0, t0)
        t1 = fma(r, load(x, place + b) - m1, t1)
        t2 = fma(r, load(x, place + 2 * b) - m2, t2)
        t3 = fma(r, load(x, place + 3 * b) - m3, t3)
    first[k, j] += lane_sum(t0)
    first[k, j + 1] += lane_sum(t1)
    first[k, j + 2] += lane_sum(t2)
    first[k, j + 3] += lane_sum(t3)


@device
def _add_both_moments(
    x: Array, b: int, j: int, means: Array, k: int, h: Array, o: int, first: Array, second: Array
) -> None:
    """Add the first and second moments of features j to j + 3."""
    m0, m1, m2, m3 = means[k, j], means[k, j + 1], means[k, j + 2], means[k, j + 3]
    t0, t1, t2, t3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    s0, s1, s2, s3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for i in range(0, b, LANES):
        r = load(h, o + i)
        place = j * b + i
        z0 = load(x, place) - m0
        z1 = load(x, place + b) - m1
        z2 = load(x, place + 2 * b) - m2
        z3 = load(x, place + 3 * b) - m3
        w0, w1, w2, w3 = r * z0, r * z1, r * z2, r * z3
        t0, t1, t2, t3 = t0 + w0, t1 + w1, t2 + w2, t3 + w3
        s0, s1, s2, s3 = fma(w0, z0, s0), fma(w1, z1, s1), fma(w2, z2, s2), fma(w3, z3, s3)
    first[k, j] += lane_sum(t0)
    first[k, j + 1] += lane_sum(t1)
    first[k, j + 2] += lane_sum(t2)
    first[k, j + 3] += lane_sum(t3)
    if second.shape[1] == 1:
        second[k, 0] += lane_sum((s0 + s1) + (s2 + s3))
    else:
        second[k, j] += lane_sum(s0)
        second[k, j + 1] += lane_sum(s1)
        second[k, j + 2] += lane_sum(s2)
        second[k, j + 3] += lane_sum(s3)


@device
def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """End the sums of a block: nothing to do."""


@strict_device
def separation(params: Any, j: int, k: int, work: Array) -> tuple[float, float]:
    """Return how far component j is from k, in k's metric, and by how much j's lengths may grow.

    NaN where either cannot be told.
    """
    centres, precisions = params.centres, params.precisions
    columns = precisions.shape[1]
    square, largest, doubt = 0.0, 0.0, 0.0
    for i in range(centres.shape[1]):
        z = centres[j, i] - centres[k, i]
        square += precisions[k, min(i, columns - 1)] * z * z
    for i in range(columns):
        ratio = precisions[k, i] / precisions[j, i]
        largest = max(largest, ratio)
        doubt += 0.0 * ratio  # a maximum may pass over NaN
    return np.sqrt(square), np.sqrt(largest + doubt)


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
