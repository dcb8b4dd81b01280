"""k-means++ over one block of rows: square distances to the nearest seed, now and with candidates.

By the triangle inequality most rows need not be read: a row is as near to its seed as a candidate
cannot be.  What may have changed is decided with room for rounding, and worked out exactly.

References
----------
.. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
.. [2] C. Elkan, "Using the triangle inequality to accelerate k-means", ICML 2003.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, Indices, Labels, Rows
from .chosen import (
    choose,
    filled_up,
    list_all,
    list_unless_less,
    load_chosen,
    look_up,
    without_gaps,
)
from .loading import prefetch_rows
from .options import device, entry
from .scaled import ABREAST, squares_abreast
from .simd import LANES, fma, lane_sum, load, splat, store, use_wide_registers, where_less
from .tile import choose_weights

# Where so large a share of the rows is listed, reading all of them takes less time.
_MOST = 0.6


class Candidates(NamedTuple):
    """A new seed, and candidates for the next one."""

    means: Array  # (1 + trials, d)
    reach: Array  # (seeds,), squares: what is closer to a seed than this is closest to it


@entry
def seed_block(
    X: Rows,
    candidates: Any,
    weights: Array,
    number: int,
    closest: Array,
    nearest: Labels,
    scratch: Any,
    stretch: int,
    potentials: Array,
) -> None:
    """Make the first candidate seed ``number`` of k-means++, and try the others as the next.

    X : IN (n, d); candidates : IN; weights : IN (n,) or (0,) for ones; closest, nearest : INOUT
    (n,), int32: square distance to the nearest seed so far, and its number; scratch : WORK;
    potentials : OUT (stretches, 1 + trials), for each stretch of so many rows the weighted sums of
    the square distances: with the new seed, and with each candidate after it.
    """
    use_wide_registers()
    for place in range(potentials.shape[0]):
        where = range(place * stretch, min((place + 1) * stretch, X.shape[0]))
        _seed_rows(
            X, where, candidates, weights, number, closest, nearest, scratch, potentials[place]
        )


@device
def _seed_rows(
    X: Rows,
    where: Any,
    candidates: Any,
    weights: Array,
    number: int,
    closest: Array,
    nearest: Labels,
    scratch: Any,
    potentials: Array,
) -> None:
    """Do so for a range of rows; potentials : OUT (1 + trials,)."""
    means, reach = candidates
    n, d = X.shape
    data = X.reshape(n * d)
    x, chosen = scratch.x, scratch.chosen
    before, near, counted = scratch.by_row[0], scratch.by_row[1], scratch.by_row[2]
    b = before.shape[0]
    known = splat(0.0)
    potentials[:] = 0.0
    for start in range(where.start, where.stop, chosen.shape[0]):
        stop = min(start + chosen.shape[0], where.stop)
        listed, passed = 0, splat(0.0)
        for i in range(start, stop, b):
            rows = min(b, stop - i)
            bound = near
            look_up(reach, nearest, i, bound, rows)
            passed = passed + _sum_less(closest, weights, i, bound, rows)
            listed = list_unless_less(closest[i : i + rows], bound, i, chosen, listed)
        if listed < _MOST * (stop - start):
            known = known + passed
        else:
            listed = list_all(chosen, start, stop)
        filled = filled_up(chosen, listed)
        prefetch_rows(data, filled, 0, min(b, filled.shape[0]), d)
        for first in range(0, filled.shape[0], b):
            rows = min(b, listed - first)
            tile, ahead = filled[first : first + b], filled[first + b : first + 2 * b]
            load_chosen(data, tile, rows, d, x, b)
            choose(closest, tile, rows, before)
            choose_weights(weights, tile, rows, counted[: tile.shape[0]])
            _take_in(x, b, tile.shape[0], means, before, counted, near, potentials, data, ahead)
            _write_seed(tile, rows, near, before, number, closest, nearest)
    for k in range(means.shape[0]):
        potentials[k] += lane_sum(known)


@device
def _sum_less(values: Array, weights: Array, start: int, bound: Array, rows: int) -> Any:
    """Return the weighted sum, lane by lane, of those values that are below their bounds."""
    total, rest = splat(0.0), 0.0
    whole = rows // LANES * LANES
    for r in range(0, whole, LANES):
        value = load(values, start + r)
        value = where_less(value, load(bound, r), value, 0.0)
        if weights.shape[0] > 0:
            value = value * load(weights, start + r)
        total = total + value
    for r in range(whole, rows):
        value = values[start + r]
        w = 1.0 if weights.shape[0] == 0 else weights[start + r]
        rest += w * value if value < bound[r] else 0.0
    return total + rest * (1.0 / LANES)


@device
def _take_in(
    x: Array,
    b: int,
    whole: int,
    means: Array,
    before: Array,
    counted: Array,
    near: Array,
    potentials: Array,
    data: Array,
    ahead: Indices,
) -> None:
    """Add up the square distances of a tile; write those with the new seed to near.

    On the way the rows of the next tile are asked for, few at a time: at once they would wait.
    """
    known = before
    d = means.shape[1]
    asked, few = 0, (ABREAST + means.shape[0] - 1) // means.shape[0]
    for k in range(means.shape[0]):
        total = splat(0.0)
        for t in range(0, whole, ABREAST):
            prefetch_rows(data, ahead, asked, min(asked + few, ahead.shape[0]), d)
            asked += few
            q0, q1, q2, q3 = squares_abreast(x, b, t, means, k)
            q0, q1 = _smaller(q0, known, t), _smaller(q1, known, t + LANES)
            q2, q3 = _smaller(q2, known, t + 2 * LANES), _smaller(q3, known, t + 3 * LANES)
            q = fma(q0, load(counted, t), q1 * load(counted, t + LANES))
            other = q2 * load(counted, t + 2 * LANES)
            total = total + (q + fma(q3, load(counted, t + 3 * LANES), other))
            if k == 0:
                store(near, t, q0)
                store(near, t + LANES, q1)
                store(near, t + 2 * LANES, q2)
                store(near, t + 3 * LANES, q3)
        known = near
        potentials[k] += lane_sum(total)


@device
def _smaller(square: Any, near: Array, t: int) -> Any:
    known = load(near, t)
    return where_less(known, square, known, square)


@device
def _write_seed(
    tile: Indices,
    rows: int,
    near: Array,
    before: Array,
    number: int,
    closest: Array,
    nearest: Labels,
) -> None:
    """Write the square distances of a tile's rows, and the number of the seed that is nearer now.

    Without a branch: which rows change cannot be guessed.
    """
    if without_gaps(tile, rows):
        first = int(tile[0])
        squares, numbers = closest[first : first + rows], nearest[first : first + rows]
        for r in range(rows):
            squares[r] = near[r]
            numbers[r] = np.int32(number) if near[r] < before[r] else numbers[r]
    else:
        for r in range(rows):
            row, new = np.uint32(tile[r]), np.int32(near[r] < before[r])
            closest[row] = near[r]
            nearest[row] += new * (np.int32(number) - nearest[row])
