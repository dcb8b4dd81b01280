"""The triangular kind: one Cholesky factor for each component (full covariances).

``log N_k(x) = c_k - |T_k (x - m_k)|^2 / 2`` with T_k lower triangular, and the statistics
``A_k = sum r (x - m_k)`` and ``B_k = sum r (x - m_k)(x - m_k)^T`` as packed lower triangles.

The M-step multiplies ``v = r (x - m)`` by ``x - m``; the sum of v comes along.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import moments, scaled, tiles, tiny, triangular_separations
from .arrays import Array
from .exp import LOG2_E
from .loading import lanes_of
from .options import device, shared, strict_device
from .simd import LANES, load, splat, store
from .tile import log2_density, tile_rows
from .tiles import ROWS, first_square, front_square, next_square, tile_width
from .tiny import MOST, tiny_log_densities
from .views import viewed

separations = triangular_separations.separations  # of d <= MOST features


class Triangular(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), which the moments are about
    centres: Array  # (K, d), the same in the type of the tiles
    factors: Array  # (K, factor_size(d)), packed, in the type of the tiles
    constants: Array  # (K,)
    shifts: Array  # (0, 0); see `TriangularFloat32`


class TriangularFloat32(Triangular):
    """The same for float32 rows in float32 tiles: centres, factors and shifts are float32.

    ``means`` are those of the mixture rounded to float32, and ``shifts`` (K, d) are the factors
    times what this has added to them.
    """

    __slots__ = ()


@shared
def factor_size(d: int) -> int:
    """Return how many numbers a packed factor has."""
    if d <= MOST:
        return d * (d + 1) // 2
    panels = (d + LANES - 1) // LANES
    front = d - (panels - 1) * LANES
    return front * front + (panels - 1) * LANES * (front + LANES * panels // 2)


@lru_cache(maxsize=MOST)
def _lower(d: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.tril_indices(d)


def pack(factors: Array) -> Array:
    """Return lower triangular factors (K, d, d) in the order in which the E-step reads them.

    Panels of ``LANES`` factor rows, from the last (longest) to the second; each is stored column
    by column and ends with its own lower triangle.  Then the front panel, with what rows are left.
    Up to ``MOST`` features: simply the row-wise lower triangle.
    """
    k, d, _ = factors.shape
    if d <= MOST:
        rows, columns = _lower(d)
        return factors[:, rows, columns]
    lower = np.tril(factors)
    parts = []
    for end in range(d, 0, -LANES):
        panel = lower[:, max(0, end - LANES) : end, :end]
        parts.append(panel.transpose(0, 2, 1).reshape(k, -1))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


@strict_device
def _factor_entry(factors: Array, k: int, i: int, j: int, d: int) -> float:
    """Return entry (i, j) of packed factor k."""
    if d <= MOST:
        return factors[k, i * (i + 1) // 2 + j]  # type: ignore[no-any-return]
    place, end = 0, d
    while i < end - LANES:
        place += end * LANES
        end -= LANES
    height = min(LANES, end)
    return factors[k, place + j * height + i - (end - height)]  # type: ignore[no-any-return]


@shared
def tiles_size(d: int, width: int) -> int:
    """Return how many float64 fill the memory of a tile of centred and one of weighted rows."""
    return d * (tile_rows(d, width) * width // 8 + ROWS)


def work_size(params: Triangular) -> int:
    """Return how much scratch the functions below need as ``work``."""
    n_components, d = map(int, params.means.shape)
    return tiles_size(d, params.centres.itemsize) + n_components * moments.cells_size(d)


@device
def rows_together(params: Any) -> int:
    """Return how many rows the E-step works on at a time: tiles hold a multiple."""
    registers = tiny.REGISTERS if params.means.shape[1] <= MOST else tiles.REGISTERS
    return registers * lanes_of(params.centres.itemsize)


@device
def squares(
    factors: Array,
    place: int,
    means: Array,
    mean: int,
    x: Array,
    t: int,
    b: int,
    z: Array,
    shifts: Array,
    shift: int,
    q: Array,
    out: int,
    d: int,
) -> None:
    """Write ``|T (x - m) + shift|^2`` of the rows of a panel from t on to q; z is scratch."""
    n = d - LANES
    first_square(factors, place, n, x, t, b, means, mean, z, 0, shifts, shift + n, q, out)
    while n > LANES:
        place += (n + LANES) * LANES
        n -= LANES
        next_square(factors, place, n, z, 0, shifts, shift + n, q, out)
    front_square(n, factors, place + (n + LANES) * LANES, z, 0, shifts, shift, q, out)


@device
def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Do nothing: components share nothing."""


@device
def log2_densities(params: Any, active: Array, x: Array, h: Array, work: Array) -> None:
    """Write log2-densities in the active components to h.

    A square that is not finite counts as infinite: log-density minus infinity.
    """
    means, centres, factors, constants, shifts = params
    n_components, d = means.shape
    b = h.shape[0] // active.shape[0]
    size, rows = factor_size(d), tile_width(x.itemsize)
    flat_means = centres.reshape(n_components * d)
    flat_shifts = shifts.reshape(shifts.size)
    flat_factors = factors.reshape(n_components * size)
    if d <= MOST:
        tiny_log_densities(active, x, b, flat_means, flat_factors, constants, flat_shifts, h, d)
        return
    z = viewed(work[: d * ROWS], centres.dtype)
    for p in range(active.shape[0]):
        k = active[p]
        peak = LOG2_E * constants[k]
        if constants[k] == -np.inf:
            for i in range(0, b, LANES):
                store(h, p * b + i, splat(peak))
            continue
        for t in range(0, b, rows):
            q = p * b + t
            squares(
                flat_factors, k * size, flat_means, k * d, x, t, b, z, flat_shifts, k * d, h, q, d
            )
            for i in range(0, rows, LANES):
                store(h, q + i, log2_density(load(h, q + i), 1.0, peak))


@device
def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block."""
    n_components, d = params.means.shape
    start = tiles_size(d, params.centres.itemsize)
    for i in range(start, start + n_components * moments.cells_size(d)):
        work[i] = 0.0


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
    """Add a tile's moments in the active components, weighted by h scale, to ``work``."""
    n_components, d = params.means.shape
    b, size = scale.shape[0], tiles_size(d, x.itemsize)
    centres = params.centres.reshape(n_components * d)
    v = viewed(work[d * ROWS : size], params.centres.dtype)
    cells = work[size:]
    moments.add_moments(active, x, b, centres, h, scale, v, cells, d)


most_listed, add_listed = scaled.most_listed, scaled.add_listed  # never


@device
def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """Add the sums of a block to mass (K,), first (K, d) and second (K, d (d + 1) / 2)."""
    n_components, d = params.means.shape
    cells = work[tiles_size(d, params.centres.itemsize) :]
    for k in range(n_components):
        mass[k] += moments.unpack_moments(cells, k * moments.cells_size(d), first[k], second[k], d)


@strict_device
def nearest(params: Any, row: Array) -> int:
    """Return the component nearest to a row so far out that every square distance overflows."""
    means, factors, constants = params.means, params.factors, params.constants
    n_components, d = means.shape
    largest_difference = 0.0
    largest_factor = 0.0
    for k in range(n_components):
        for i in range(d):
            # a quarter of each: the difference of two huge numbers must not overflow either
            difference = abs(0.25 * row[i] - 0.25 * means[k, i])
            largest_difference = max(largest_difference, difference)
        for i in range(factors.shape[1]):
            largest_factor = max(largest_factor, abs(factors[k, i]))
    best, best_square = 0, np.inf
    for k in range(n_components):
        square = 0.0
        for i in range(d):
            y = 0.0
            for j in range(i + 1):
                z = (0.25 * row[j] - 0.25 * means[k, j]) / largest_difference
                y += (_factor_entry(factors, k, i, j, d) / largest_factor) * z
            square += y * y
        if constants[k] > -np.inf and square < best_square:
            best, best_square = k, square
    return best
