"""How far triangular components of few features are apart, and by how much lengths grow between.

By one component's metric and those of `LANES` others at a time: each lane of a register is about
one of them.
"""

from typing import Any

import numpy as np

from .arrays import Array
from .options import shared, strict_device
from .simd import LANES, divide, fma, load, root, splat, store, where_less

# What inverting and multiplying factors of d <= MOST features may add, by their condition.
_ROUNDING = 1e-13
_LEAST_TRACE = 1e-290  # squares below have lost digits


@shared
def work_size(d: int) -> int:
    """Return how many numbers of scratch `separations` needs."""
    return (1 + 2 * LANES) * d * d + (d + 1) * LANES


@strict_device
def _invert(factors: Array, j: int, d: int, inverse: Array) -> tuple[float, float]:
    """Write the inverse of packed factor j to the lower triangle of inverse (d, d).

    Returns the sums of squares of the factor and of its inverse.
    """
    size, size_inverse = 0.0, 0.0
    for i in range(d):
        line = i * (i + 1) // 2
        for c in range(i + 1):
            size += float(factors[j, line + c]) * float(factors[j, line + c])
            total = 1.0 if c == i else 0.0
            for m in range(c, i):
                total -= factors[j, line + m] * inverse[m, c]
            inverse[i, c] = total / factors[j, line + i]
            size_inverse += inverse[i, c] * inverse[i, c]
    return size, size_inverse


@strict_device
def _offsets(params: Any, j: int, first: int, factors: Array, offsets: Array) -> tuple[Any, Any]:
    """Return the squares of ``|T_k (m_j - m_k)|`` and of the size of T_k for the k from first on.

    factors : OUT (d * d * LANES,), the T_k; offsets : WORK ((d + 1) * LANES,).  What is beyond the
    last component repeats it.
    """
    means, all_factors, shifts = params.means, params.factors, params.shifts
    last, d = means.shape[0] - 1, means.shape[1]
    for lane in range(LANES):
        k = min(first + lane, last)
        for i in range(d):
            offsets[i * LANES + lane] = means[j, i] - means[k, i]
            for c in range(i + 1):
                factors[(i * d + c) * LANES + lane] = all_factors[k, i * (i + 1) // 2 + c]
    distance, size = splat(0.0), splat(0.0)
    for i in range(d):
        y = splat(0.0)
        for c in range(i + 1):
            factor = load(factors, (i * d + c) * LANES)
            y = fma(factor, load(offsets, c * LANES), y)
            size = fma(factor, factor, size)
        if shifts.shape[0] > 0:  # by how much the means of both are rounded
            for lane in range(LANES):
                offsets[d * LANES + lane] = shifts[min(first + lane, last), i]
            y = y + load(offsets, d * LANES)
        distance = fma(y, y, distance)
    return distance, size


@strict_device
def _times_inverse(factors: Array, inverse: Array, out: Array) -> None:
    """Write the products T_k T_j^-1 to out (d * d * LANES,); of both lower triangles are read."""
    d = inverse.shape[0]
    for i in range(d):
        for c in range(i + 1):
            total = splat(0.0)
            for m in range(c, i + 1):
                total = fma(load(factors, (i * d + m) * LANES), inverse[m, c], total)
            store(out, (c * d + i) * LANES, splat(0.0))
            store(out, (i * d + c) * LANES, total)


@strict_device
def _times_itself(a: Array, d: int, out: Array) -> None:
    """Write the product of a with its transpose to out; both are (d * d * LANES,)."""
    for i in range(d):
        for c in range(0, i + 1, 4):  # four sums at a time: one waits for its last addition
            c1, c2, c3 = min(c + 1, i), min(c + 2, i), min(c + 3, i)
            s0, s1, s2, s3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for m in range(d):
                x = load(a, (i * d + m) * LANES)
                s0 = fma(x, load(a, (c * d + m) * LANES), s0)
                s1 = fma(x, load(a, (c1 * d + m) * LANES), s1)
                s2 = fma(x, load(a, (c2 * d + m) * LANES), s2)
                s3 = fma(x, load(a, (c3 * d + m) * LANES), s3)
            _store_both(out, i, c, d, s0)
            _store_both(out, i, c1, d, s1)
            _store_both(out, i, c2, d, s2)
            _store_both(out, i, c3, d, s3)


@strict_device
def _store_both(out: Array, i: int, c: int, d: int, value: Any) -> None:
    store(out, (i * d + c) * LANES, value)
    store(out, (c * d + i) * LANES, value)


@strict_device
def _sum_of_squares(a: Array) -> Any:
    total, other = splat(0.0), splat(0.0)
    for i in range(0, a.shape[0] - LANES, 2 * LANES):
        x, y = load(a, i), load(a, i + LANES)
        total, other = fma(x, x, total), fma(y, y, other)
    if a.shape[0] // LANES % 2 == 1:
        x = load(a, a.shape[0] - LANES)
        total = fma(x, x, total)
    return total + other


@strict_device
def _spectral_norms(a: Array, d: int, other: Array) -> Any:
    """Return bounds from above, at most d^(1/32) too large, on the norms of matrices a.

    With G the product of a matrix and its transpose, divided by its trace, it is the root of that
    trace and the 32nd root of the trace of G^16: between 1 and d^-15, whatever the matrix.  NaN
    where squares overflow or underflow; a, other : (d * d * LANES,), both are scratch.
    """
    trace = _sum_of_squares(a)
    trace = where_less(_LEAST_TRACE, trace, trace, np.nan)
    scale = divide(splat(1.0), root(trace))
    for i in range(0, a.shape[0], LANES):
        store(a, i, load(a, i) * scale)
    _times_itself(a, d, other)
    _times_itself(other, d, a)
    _times_itself(a, d, other)
    _times_itself(other, d, a)  # G^8
    return root(trace * root(root(root(root(_sum_of_squares(a))))))


@strict_device
def separations(params: Any, j: int, work: Array, distances: Array, stretches: Array) -> None:
    """Write how far component j is from each k, in k's metric, and by how much j's lengths grow.

    ``|T_k (m_j - m_k)|``, or less, to distances (K,), and a bound from above on ``|T_k T_j^-1|``
    to stretches (K,); NaN where either cannot be told.  work (work_size(d),) is scratch.
    """
    n_components, d = params.means.shape
    cells = d * d
    inverse = work[:cells].reshape(d, d)
    a, b = work[cells : (1 + LANES) * cells], work[(1 + LANES) * cells : (1 + 2 * LANES) * cells]
    numbers = work[(1 + 2 * LANES) * cells :]
    size_j, size_inverse = _invert(params.factors, j, d, inverse)
    moved = 0.0
    if params.shifts.shape[0] > 0:
        for i in range(d):
            moved += float(params.shifts[j, i]) * float(params.shifts[j, i])
    for first in range(0, n_components, LANES):
        square, size_k = _offsets(params, j, first, a, numbers)
        _times_inverse(a, inverse, b)
        rounding = root(size_k) * (_ROUNDING * np.sqrt(size_j) * size_inverse)
        stretch = _spectral_norms(b, d, a) + rounding
        distance = root(square) - stretch * np.sqrt(moved)
        store(numbers, 0, where_less(distance, 0.0, 0.0, distance))
        store(numbers, LANES, stretch)
        for lane in range(min(LANES, n_components - first)):
            distances[first + lane] = numbers[lane]
            stretches[first + lane] = numbers[LANES + lane]
