"""The triangular kind: one Cholesky factor for each component (full covariances).

``log N_k(x) = c_k - ||T_k (x - m_k)||^2 / 2`` with T_k lower triangular, and the statistics
``A_k = sum r (x - m_k)`` and ``B_k = sum r (x - m_k)(x - m_k)^T`` as a packed lower triangle.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .options import device, strict_device


class Triangular(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d)
    factors: Array  # (K, d, d), lower triangular
    constants: Array  # (K,)


@device
def log_density(params: Any, tile: Array, rows: int, work: Array, logs: Array) -> None:
    """Write the log-densities of a tile (d, rows) to logs (K, rows); work is (d + 1, rows)."""
    means, factors, constants = params
    n_components, d = means.shape
    y = work[d]
    for k in range(n_components):
        for j in range(d):
            mean = means[k, j]
            for b in range(rows):
                work[j, b] = tile[j, b] - mean
        squares = logs[k]
        for b in range(rows):
            squares[b] = 0.0
        for i in range(d):
            t = factors[k, i, 0]
            for b in range(rows):
                y[b] = t * work[0, b]
            for j in range(1, i + 1):
                t = factors[k, i, j]
                for b in range(rows):
                    y[b] += t * work[j, b]
            for b in range(rows):
                squares[b] += y[b] * y[b]
        constant = constants[k]
        for b in range(rows):
            # inf - inf inside an overflowing product gives NaN: that, too, is infinitely far.
            q = squares[b]
            squares[b] = constant - 0.5 * q if q < np.inf else -np.inf


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
    """Add a tile's moments to mass (K,), first (K, d) and second (K, d (d + 1) / 2)."""
    means = params.means
    n_components, d = means.shape
    weighted = work[d]
    for k in range(n_components):
        r = responsibilities[k]
        total = 0.0
        for b in range(rows):
            total += r[b]
        mass[k] += total
        for j in range(d):
            mean = means[k, j]
            for b in range(rows):
                work[j, b] = tile[j, b] - mean
        pair = 0
        for i in range(d):
            total = 0.0
            for b in range(rows):
                weighted[b] = r[b] * work[i, b]
                total += weighted[b]
            first[k, i] += total
            for j in range(i + 1):
                total = 0.0
                for b in range(rows):
                    total += weighted[b] * work[j, b]
                second[k, pair] += total
                pair += 1


@strict_device
def nearest(params: Any, row: Array) -> int:
    """Return the component nearest to a row so far out that every square distance overflows."""
    means, factors, constants = params
    n_components, d = means.shape
    largest_difference = 0.0
    largest_factor = 0.0
    for k in range(n_components):
        for i in range(d):
            # a quarter of each: the difference of two huge numbers must not overflow either
            difference = abs(0.25 * row[i] - 0.25 * means[k, i])
            largest_difference = max(largest_difference, difference)
            for j in range(i + 1):
                largest_factor = max(largest_factor, abs(factors[k, i, j]))
    best, best_square = 0, np.inf
    for k in range(n_components):
        square = 0.0
        for i in range(d):
            y = 0.0
            for j in range(i + 1):
                z = (0.25 * row[j] - 0.25 * means[k, j]) / largest_difference
                y += (factors[k, i, j] / largest_factor) * z
            square += y * y
        if constants[k] > -np.inf and square < best_square:
            best, best_square = k, square
    return best
