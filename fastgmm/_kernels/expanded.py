"""The scale kind with its squares multiplied out: a product of coefficients with features.

A Gaussian belongs to the exponential family: its log-density is linear in features and products,
``log2 N_k(x) = sum_j a_kj phi_j(y)`` with phi 1, the features of y, and either the square of each,
the sum of their squares or the products of all pairs; y is the row less an origin.  The moments of
phi are all that the M-step needs.

Where components share a factor the last of phi is the square of the whitened row, the same for all
of them: neither a comparison of components nor the M-step asks for it, see `without_squares`.

What multiplying out costs in digits is what ``(distance of a centre from the origin / sd)^2`` has;
whoever makes these parameters sees that it is few, and takes `scaled`, or `triangular`, where it
is not.
"""

from typing import Any, NamedTuple

import numpy as np

from . import expanded_tiles, scaled
from .arrays import Array, Indices
from .expanded_tiles import PANEL, log_densities, summed, whitened_squares
from .listed_tiles import add_listed_moments, write_lines
from .options import device, shared
from .scaled import Scaled, weigh
from .simd import LANES, fma, lane_max, load, splat, store, where_less
from .tile import padded, tile_rows
from .views import viewed

# Products that overflow weigh nothing, and nothing times infinity is NaN.
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
    # (d, 1 + d), the factor behind a column of zeros; (0, 0) if there is none, or without squares
    whitening: Array
    coefficients: Array  # (K, 1 + features and products): a


def expand(params: Scaled, coefficients: Array) -> Expanded:
    """Return the same components with their squares multiplied out, see `algebra`."""
    rows, columns = params.factor.shape
    whitening = np.zeros((rows, columns + 1 if rows else 0))
    whitening[:, 1:] = params.factor
    whitening.flags.writeable = False
    return Expanded(*params, whitening=whitening, coefficients=coefficients)


def without_squares(params: Expanded) -> Expanded:
    """Return components that share a factor, less the squares that all of them have in common."""
    coefficients = np.ascontiguousarray(params.coefficients[:, :-1])
    coefficients.flags.writeable = False
    return params._replace(whitening=params.whitening[:0, :0], coefficients=coefficients)


separations, nearest = scaled.separations, scaled.nearest


@shared
def _cells_size(columns: int) -> int:
    """Return the numbers in a component's cells: its moments, and room for whole registers."""
    return (summed(columns) + 2 * LANES - 1) // LANES * LANES


@shared
def _counted(d: int, columns: int, factors: int) -> int:
    """Return how many of a panel's features have moments: not what is the same for all."""
    return 1 + d if factors > 0 else columns


def work_size(params: Expanded) -> int:
    """Return how much scratch the functions below need as ``work``."""
    n_components, columns = map(int, params.coefficients.shape)
    d = int(params.means.shape[1])
    b, counted = tile_rows(d), _counted(d, columns, params.factor.size)
    cells = columns * b + n_components * _cells_size(counted)
    return int(cells + padded(d) + b * padded(counted))


@device
def rows_together(params: Any) -> int:
    """Return how many rows the functions below work on at a time: tiles hold a multiple."""
    return PANEL


@device
def _write_rows(x: Array, b: int, origin: Array, columns: int, out: Array) -> None:
    """Write the features of a tile's rows, less the origin, to panels of so many columns."""
    for i in range(0, b, PANEL):
        for j in range(origin.shape[0]):
            centre, place = origin[j], i * columns + (1 + j) * PANEL
            for r in range(0, PANEL, LANES):
                store(out, place + r, load(x, j * b + i + r) - centre)


@device
def _write_squares(b: int, d: int, columns: int, out: Array) -> float:
    """Write the squares of the features in panels, or their sums; return the largest."""
    largest = splat(0.0)
    for i in range(0, b, PANEL):
        row = i * columns + PANEL
        place = row + d * PANEL
        for j in range(d):
            if columns == 1 + 2 * d:
                for r in range(0, PANEL, LANES):
                    y = load(out, row + r)
                    square = y * y
                    store(out, place + r, square)
                    largest = where_less(largest, square, square, largest)
                place += PANEL
            else:
                for r in range(0, PANEL, LANES):
                    y = load(out, row + r)
                    total = y * y
                    if j > 0:
                        total = fma(y, y, load(out, place + r))
                    store(out, place + r, total)
                    largest = where_less(largest, total, total, largest)
            row += PANEL
    return lane_max(largest)


@device
def _cells_of(params: Any, work: Array) -> tuple[Array, int, Array]:
    """Return the components' cells, the size of each, and what is behind them.

    First of all, there, is the largest product of a tile.
    """
    n_components, columns = params.coefficients.shape
    d = params.means.shape[1]
    size = _cells_size(_counted(d, columns, params.factor.shape[0]))
    start = columns * tile_rows(d)
    end = start + n_components * size
    return work[start:end], size, work[end:]


@device
def set_largest(params: Any, work: Array, product: float) -> None:
    """Keep the largest product of a tile, for `add_moments`."""
    _cells_of(params, work)[2][0] = product


@device
def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Write the panels of a tile, of which the origin is subtracted."""
    d, columns = params.means.shape[1], params.coefficients.shape[1]
    _write_rows(x, b, params.origin, columns, work)
    largest = 0.0
    if params.whitening.shape[0] > 0:
        rest = _cells_of(params, work)[2]
        numbers = viewed(rest[:d], np.int64)
        for j in range(d):
            numbers[j] = j
        whitened_squares(work, b, columns, params.whitening, numbers, rest[padded(d) :])
    elif columns > 1 + d:
        largest = _write_squares(b, d, columns, work)
    set_largest(params, work, largest)


@device
def log2_densities(params: Any, active: Array, x: Array, h: Array, work: Array) -> None:
    """Write log2-densities in the active components to h."""
    n_components, columns = params.coefficients.shape
    coefficients, b = params.coefficients.reshape(n_components * columns), h.shape[0]
    b //= active.shape[0]
    log_densities(work, b, columns, coefficients, active, h)


@device
def clear_moments(params: Any, work: Array) -> None:
    """Begin the sums of a block."""
    cells, _, _ = _cells_of(params, work)
    columns = params.coefficients.shape[1]
    for place in range(0, columns * tile_rows(params.means.shape[1]), columns * PANEL):
        for r in range(0, PANEL, LANES):  # what the first feature is
            store(work, place + r, splat(1.0))
    cells[:] = 0.0


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
    d, columns, b = params.means.shape[1], params.coefficients.shape[1], scale.shape[0]
    cells, size, rest = _cells_of(params, work)
    if rest[0] > _LARGEST:
        for i in range(0, columns * b, LANES):
            product = load(work, i)
            product = where_less(product, _LARGEST, product, _LARGEST)
            store(work, i, where_less(-_LARGEST, product, product, -_LARGEST))
    counted = _counted(d, columns, params.factor.shape[0])
    for p in range(active.shape[0]):
        weigh(h, p * b, scale)
    expanded_tiles.add_moments(work, b, columns, counted, active, h, cells, size)


@device
def most_listed(params: Any) -> float:
    """Return the share of pairs up to which it pays to list those that count.

    By what was measured, in ns: a pair in the dense pass, what it takes to tell which count, and
    one that does.
    """
    n_components, columns = params.coefficients.shape
    dense, telling = 1.05 + 0.047 * columns, 0.45 + 0.21 * columns / n_components
    listed = 3.0 + 0.1 * columns
    return max(0.0, 0.9 * (dense - telling) / listed)  # type: ignore[no-any-return]


@device
def add_listed(
    params: Any, rows: Indices, counts: Indices, h: Array, scale: Array, work: Array
) -> None:
    """Add the moments of listed pairs of a tile, weighted by h scale, to ``work``."""
    n_components, d = params.means.shape
    columns, b = params.coefficients.shape[1], scale.shape[0]
    counted = _counted(d, columns, params.factor.shape[0])
    width = padded(counted)
    cells, size, rest = _cells_of(params, work)
    lines = rest[padded(d) :]
    write_lines(work, b, columns, counted, lines)
    for k in range(n_components):
        add_listed_moments(lines, width, rows, k * b, counts[k], h, scale, cells, k * size)


@device
def finish_moments(params: Any, work: Array, mass: Array, first: Array, second: Array) -> None:
    """Add the sums of a block, about the components' own means, to the statistics."""
    n_components, d = params.means.shape
    cells, size, _ = _cells_of(params, work)
    columns = second.shape[1]
    for k in range(n_components):
        sums = cells[k * size : (k + 1) * size]
        weight, products = sums[0], sums[1 + d :]
        mass[k] += weight
        for j in range(d):
            shift = params.means[k, j] - params.origin[j]
            first[k, j] += sums[1 + j] - weight * shift
            if columns == d or columns == 1:
                second[k, min(j, columns - 1)] += shift * (weight * shift - 2.0 * sums[1 + j])
            elif columns > d:
                for c in range(j + 1):
                    other = params.means[k, c] - params.origin[c]
                    moved = other * (weight * shift - sums[1 + j]) - shift * sums[1 + c]
                    second[k, j * (j + 1) // 2 + c] += moved
        for c in range(columns):
            second[k, c] += products[c]
