"""What every pass does to a tile: load it, turn log-densities into responsibilities.

Log-densities of a tile (``h``, ``best``) are to base 2, see ``exp.py``; all results are natural.

A tile is some tens of registers of rows, transposed: ``x[j*b + i]`` is feature j of row i, so that
a register holds one feature of ``LANES`` rows whatever the number of features.
"""

from typing import Any

import numpy as np

from .arrays import Array, Indices, Rows
from .exp import LN2, LOG2_E, exp2_or_0, log_positive
from .loading import FEW, lanes_of, load_few, load_panel
from .options import device, shared
from .simd import (
    LANES,
    divide,
    fma,
    lane_sum,
    load,
    load_as,
    splat,
    splat_like,
    splat_together,
    store,
    together,
    where_less,
)

# Below any finite log-density.
NEVER = -1e308


@shared
def tile_rows(d: int, width: int = 8) -> int:
    """Return the rows of a tile of features of ``width`` bytes: the scratch fits a near cache."""
    rows = 192 if d <= 128 else 96  # multiples of ROWS
    return rows * 8 // width


@shared
def padded(d: int, width: int = 8) -> int:
    """Return the features of a tile with those that fill up its last panel."""
    lanes = lanes_of(width)
    return (d + lanes - 1) // lanes * lanes


@device
def load_tile(X: Rows, start: int, b: int, x: Array) -> None:
    """Transpose b rows of X (n, d) from ``start`` on into x; rows past the last repeat it."""
    n, d = X.shape
    lanes = lanes_of(x.itemsize)
    data = X.reshape(n * d)
    if d <= FEW and start + b <= n:
        load_few(data, start, d, x, b)
        return
    for i in range(0, b, lanes):
        for j in range(0, d, lanes):
            load_panel(data, start + i, n - 1, d, j, x, j * b + i, b)


@device
def choose_rows(order: Indices, start: int, rows: int, b: int, chosen: Indices) -> None:
    """Copy b numbers of rows, the last of ``rows`` repeated."""
    for i in range(b):
        chosen[i] = order[start + min(i, rows - 1)]


@device
def choose_weights(weights: Array, chosen: Indices, rows: int, out: Array) -> None:
    """Write the rows' weights: ones if there are none, 0 past the last."""
    for i in range(out.shape[0]):
        out[i] = 1.0 if i < rows else 0.0
    if weights.shape[0] > 0:
        for i in range(rows):
            out[i] = weights[chosen[i]]


@device
def load_weights(weights: Array, start: int, rows: int, out: Array) -> None:
    """Write the weights of a tile's rows to out (b,): ones if there are none, 0 past the last."""
    for i in range(out.shape[0]):
        out[i] = 1.0 if i < rows else 0.0
    if weights.shape[0] > 0:
        for i in range(rows):
            out[i] = weights[start + i]


@device
def log2_density(square: Any, factor: float, peak: float) -> Any:
    """Return ``peak - factor square log2(e) / 2``; minus infinity where it is NaN."""
    value = fma(square, factor * (-0.5 * LOG2_E), peak)
    return where_less(-np.inf, value, value, -np.inf)


@device
def find_best(h: Array, best: Array) -> None:
    """Write the largest of each row's log-densities h (n b,) to best (b,)."""
    b = best.shape[0]
    for i in range(0, b, LANES):
        top = splat(-np.inf)
        for p in range(0, h.shape[0], b):
            value = load(h, p + i)
            top = where_less(top, value, value, top)
        store(best, i, top)


@device
def exponentiate(
    h: Array, best: Array, weights: Array, scale: Array, total: Array, x: Array
) -> float:
    """Turn log-densities h (n b,) into densities, with responsibilities ``h scale``.

    best, weights : IN (b,); scale, total : OUT (b,), total the densities of the mixture, all of
    them in units of ``2^best``; x : the tile, of which only the type counts.
    Returns how many rows have a density of exactly 0 in every component: their h are 0, and it is
    for the caller to set one of them to 1.
    """
    b = best.shape[0]
    step = together(x)
    whole = b // step * step
    zero, last = splat_together(0.0, x), splat_like(0.0, x)
    lost = _exponentiate_rows(0, whole, step, zero, h, best, weights, scale, total, x)
    if LANES < 8 and whole < b:  # what is left is less than two registers: one more
        lost += _exponentiate_rows(whole, b, step, last, h, best, weights, scale, total, x)
    return lost


@device
def _exponentiate_rows(
    start: int,
    stop: int,
    step: int,
    zero: Any,
    h: Array,
    best: Array,
    weights: Array,
    scale: Array,
    total: Array,
    x: Array,
) -> float:
    """Do so for some rows of the tile, as many at a time as the register ``zero`` has."""
    b, lost = best.shape[0], zero
    for i in range(start, stop, step):
        top = load_as(best, i, zero)
        bounded_top = where_less(NEVER, top, top, 0.0)  # -inf - 0 stays -inf, and no NaN
        sum_ = zero
        for p in range(i, h.shape[0], b):
            value = exp2_or_0(load_as(h, p, zero) - bounded_top, x)
            store(h, p, value)
            sum_ = sum_ + value
        lost = lost + where_less(sum_, 0.5, 1.0, 0.0)
        sum_ = where_less(sum_, 0.5, 1.0, sum_)
        store(total, i, sum_)
        store(scale, i, divide(load_as(weights, i, zero), sum_))
    return lane_sum(lost)


@device
def log_densities(best: Array, total: Array, out: Array) -> None:
    """Write the natural log-densities of a tile's rows to out (b,), which may be ``total``."""
    for i in range(0, best.shape[0], LANES):
        top = load(best, i)
        found = fma(top, LN2, log_positive(load(total, i)))
        store(out, i, where_less(NEVER, top, found, -np.inf))


@device
def sum_log_densities(best: Array, total: Array, rows: int) -> float:
    """Return the sum of the log-densities of a tile's first rows.

    One logarithm serves many rows: a total lies between 1 and the number of components, so that a
    product of eight of them cannot overflow.
    """
    tops, logs, last = splat(0.0), splat(0.0), 1.0
    whole = rows // LANES * LANES
    for first in range(0, whole, 8 * LANES):
        product = splat(1.0)
        for i in range(first, min(first + 8 * LANES, whole), LANES):
            product = product * load(total, i)
            tops = tops + load(best, i)
        logs = logs + log_positive(product)
    for i in range(whole, rows):
        last *= total[i]
        tops = tops + best[i] / LANES
    return LN2 * lane_sum(tops) + lane_sum(logs + log_positive(splat(last)) * (1.0 / LANES))


@device
def sum_weighted_log_densities(best: Array, total: Array, weights: Array) -> float:
    """Return the sum of the log-densities of a tile's rows (b,) times their weights."""
    log_densities(best, total, total)
    result = splat(0.0)
    for i in range(0, best.shape[0], LANES):
        w = load(weights, i)
        # a row of weight 0 counts for nothing, even where its log-density is -inf
        result = result + where_less(0.0, w, w * load(total, i), 0.0)
    return lane_sum(result)


@device
def add_all(register: Any, values: Array) -> Any:
    """Return the register with a number for each of a tile's rows added, lane by lane."""
    for i in range(0, values.shape[0], LANES):
        register = register + load(values, i)
    return register
