"""What every pass does to a tile: load it, turn log-densities into responsibilities.

A tile is a few dozen to a few hundred rows, transposed so that the innermost loops run over rows:
they vectorise whatever the number of features.  ``tile[j, b]`` is feature j of row b.
"""

import numpy as np

from .arrays import Array, Rows
from .exp import exp_nonpositive, log_positive
from .options import device

# A tile and its scratch should stay in the second-level cache.
_TILE_BYTES = 1 << 18
_MIN_TILE, _MAX_TILE = 16, 256


def tile_rows(n_features: int, n_components: int) -> int:
    """Return the rows of a tile: a function of the problem's shape alone, so results repeat."""
    per_row = 8 * (3 * n_features + n_components + 6)
    rows = _TILE_BYTES // per_row // 16 * 16
    return max(_MIN_TILE, min(_MAX_TILE, rows))


@device
def load(X: Rows, start: int, rows: int, tile: Array) -> None:
    """Transpose ``rows`` rows of X (n, d), from ``start`` on, into tile (d, rows) as float64."""
    for b in range(rows):
        for j in range(tile.shape[0]):
            tile[j, b] = np.float64(X[start + b, j])


@device
def exponentiate(logs: Array, rows: int, top: Array, total: Array) -> int:
    """Replace logs (K, rows) by exp(logs - top), where top (rows,) is the largest of each row.

    total (rows,) receives the sums.  Returns how many rows have a density of exactly 0 in every
    component; their entries and totals are 0 and it is for the caller to place them.
    """
    for b in range(rows):
        top[b] = logs[0, b]
        total[b] = 0.0
    for k in range(1, logs.shape[0]):
        for b in range(rows):
            top[b] = logs[k, b] if logs[k, b] > top[b] else top[b]
    lost = 0
    for b in range(rows):
        lost += 1 if top[b] == -np.inf else 0
    if lost > 0:
        for b in range(rows):
            top[b] = 0.0 if top[b] == -np.inf else top[b]  # -inf - 0 stays -inf, and no NaN
    for k in range(logs.shape[0]):
        for b in range(rows):
            e = exp_nonpositive(logs[k, b] - top[b])
            logs[k, b] = e
            total[b] += e
    return lost


@device
def log_totals(top: Array, total: Array, rows: int, out: Array) -> None:
    """Write top + log(total) to out (rows,): the log-densities; -inf where total is 0."""
    for b in range(rows):
        value = top[b] + log_positive(total[b] if total[b] > 0.0 else 1.0)
        out[b] = value if total[b] > 0.0 else -np.inf


@device
def scale_columns(values: Array, rows: int, factor: Array) -> None:
    """Multiply column b of values (K, rows) by factor[b]."""
    for k in range(values.shape[0]):
        for b in range(rows):
            values[k, b] *= factor[b]


@device
def square_distances(tile: Array, rows: int, centres: Array, k: int, out: Array) -> None:
    """Write |x - centre_k|^2 of a tile (d, rows) to out (rows,); four features a sweep."""
    d = centres.shape[1]
    head = d % 4
    for b in range(rows):
        out[b] = 0.0
    for j in range(head):
        c = centres[k, j]
        for b in range(rows):
            z = tile[j, b] - c
            out[b] += z * z
    for j in range(head, d, 4):
        c0, c1, c2, c3 = centres[k, j], centres[k, j + 1], centres[k, j + 2], centres[k, j + 3]
        for b in range(rows):
            z0 = tile[j, b] - c0
            z1 = tile[j + 1, b] - c1
            z2 = tile[j + 2, b] - c2
            z3 = tile[j + 3, b] - c3
            out[b] += (z0 * z0 + z1 * z1) + (z2 * z2 + z3 * z3)
