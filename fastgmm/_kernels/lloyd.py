"""k-means kernels over one block of rows: seeding distances, assignment with sums, hard moments.

Square distances are summed from differences, never expanded into products, so that data far from
the origin lose no digits.

By the triangle inequality most rows need not even be read: what is known of them tells that nothing
has changed [1]_.  What may have changed is decided with room for rounding, and worked out exactly.

References
----------
.. [1] C. Elkan, "Using the triangle inequality to accelerate k-means", ICML 2003; G. Hamerly,
   "Making k-means even faster", SDM 2010.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, Indices, Labels, Rows
from .loading import FEW, gather_rows, load_few, prefetch_rows
from .options import device, entry
from .scaled import ABREAST, squares_abreast
from .simd import LANES, fma, lane_sum, load, root, splat, store, use_wide_registers, where_less
from .tile import padded, tile_rows

# Far above the relative rounding errors of distances, and below any that counts.
ROUNDING = 1e-10
_LARGEST_SQUARE, _SMALLEST_GAP = 1.7e308, 1e-150
# Rows to be read are listed for so many tiles at a time, and asked for before they are needed.
_TILES_LISTED = 16


class Centres(NamedTuple):
    """Cluster centres as the kernels read them: C-contiguous, read-only float64 (K, d)."""

    means: Array


class Candidates(NamedTuple):
    """A new seed, and candidates for the next one."""

    means: Array  # (1 + trials, d)
    reach: Array  # (seeds,), squares: what is closer to a seed than this is closest to it


class MovingCentres(NamedTuple):
    """Centres that have been elsewhere before; all arrays are read-only float64."""

    means: Array  # (K, d)
    reference: Array  # (K, d), what sums are taken about
    travelled: Array  # (K,), how much nearer other centres may have come to the rows of each


class Scratch(NamedTuple):
    """Memory for some tiles of rows, of which those that are listed are read."""

    x: Array  # (padded(d) tile_rows,)
    by_row: Array  # (3, tile_rows)
    chosen: Indices  # (16 tile_rows,)


def scratch_for(d: int) -> Scratch:
    """Return what ``assign_block`` and ``seed_block`` need for rows of d features."""
    b = tile_rows(d)
    return Scratch(np.empty(padded(d) * b), np.empty((3, b)), np.empty(_TILES_LISTED * b, np.int32))


@device
def _look_up(table: Array, numbers: Labels, start: int, out: Array, rows: int) -> None:
    """Write what a table holds for some rows' numbers."""
    for r in range(rows):
        out[r] = table[np.uint32(numbers[start + r])]


@device
def _filled_up(chosen: Indices, listed: int) -> Indices:
    """Return the rows that are listed, the last one repeated until registers are full."""
    whole = (listed + ABREAST - 1) // ABREAST * ABREAST
    for r in range(listed, whole):
        chosen[r] = chosen[listed - 1]
    return chosen[:whole]


@device
def _load_tile(data: Array, chosen: Indices, start: int, d: int, x: Array, b: int) -> Indices:
    """Transpose a tile of chosen rows into x, and ask for those of the next; return its rows."""
    n = chosen.shape[0]
    tile = chosen[start : min(start + b, n)]
    prefetch_rows(data, chosen, start + b, min(start + 2 * b, n), d)
    rows = tile.shape[0]
    first = int(tile[0])
    if d <= FEW and rows == b and int(tile[b - 1]) - first == b - 1:  # all there are
        load_few(data, first, d, x, b)
    else:
        gather_rows(data, tile, rows, d, x, b)
    return tile


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
    counted[:] = 1.0
    for start in range(where.start, where.stop, chosen.shape[0]):
        stop = min(start + chosen.shape[0], where.stop)
        listed = 0
        for i in range(start, stop, b):
            rows = min(b, stop - i)
            bound = near
            _look_up(reach, nearest, i, bound, rows)
            known = known + _sum_less(closest, weights, i, bound, rows)
            for r in range(rows):
                # always written, but only a row that may be near a candidate keeps its place
                chosen[listed] = i + r
                listed += int(not closest[i + r] < bound[r])
        filled = _filled_up(chosen, listed)
        for first in range(0, filled.shape[0], b):
            tile = _load_tile(data, filled, first, d, x, b)
            rows = min(b, listed - first)
            for r in range(tile.shape[0]):
                before[r] = closest[np.uint32(tile[r])] if r < rows else 0.0
            if weights.shape[0] > 0:
                for r in range(tile.shape[0]):
                    counted[r] = weights[np.uint32(tile[r])]
            _take_in(x, b, tile.shape[0], means, before, counted, near, potentials)
            for r in range(rows):
                # without a branch, for which rows change cannot be guessed
                row, new = np.uint32(tile[r]), np.int32(near[r] < before[r])
                closest[row] = near[r]
                nearest[row] += new * (np.int32(number) - nearest[row])
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
) -> None:
    """Add up the square distances of a tile; write those with the new seed to near."""
    known = before
    for k in range(means.shape[0]):
        total = splat(0.0)
        for t in range(0, whole, ABREAST):
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
def _gap(square: Any, second: Any) -> Any:
    """Return how much nearer a row is to its own centre than to any other, at least."""
    second = where_less(second, _LARGEST_SQUARE, second, _LARGEST_SQUARE)
    own = fma(root(square), 1.0 + ROUNDING, _SMALLEST_GAP)
    return root(second) * (1.0 - ROUNDING) - own


@device
def _nearest_abreast(x: Array, b: int, t: int, centres: Array, out: Array, gaps: Array) -> None:
    """Write the numbers of the nearest centres of the rows from t on, as floats, and their gaps."""
    q0, q1, q2, q3 = squares_abreast(x, b, t, centres, 0)
    n0, n1, n2, n3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    s0, s1, s2, s3 = splat(np.inf), splat(np.inf), splat(np.inf), splat(np.inf)
    for k in range(1, centres.shape[0]):
        p0, p1, p2, p3 = squares_abreast(x, b, t, centres, k)
        number = splat(float(k))
        n0, n1 = where_less(p0, q0, number, n0), where_less(p1, q1, number, n1)
        n2, n3 = where_less(p2, q2, number, n2), where_less(p3, q3, number, n3)
        s0, s1 = _second(q0, s0, p0), _second(q1, s1, p1)
        s2, s3 = _second(q2, s2, p2), _second(q3, s3, p3)
        q0, q1 = where_less(p0, q0, p0, q0), where_less(p1, q1, p1, q1)
        q2, q3 = where_less(p2, q2, p2, q2), where_less(p3, q3, p3, q3)
    store(out, t, n0)
    store(out, t + LANES, n1)
    store(out, t + 2 * LANES, n2)
    store(out, t + 3 * LANES, n3)
    store(gaps, t, _gap(q0, s0))
    store(gaps, t + LANES, _gap(q1, s1))
    store(gaps, t + 2 * LANES, _gap(q2, s2))
    store(gaps, t + 3 * LANES, _gap(q3, s3))


@device
def _second(best: Any, second: Any, new: Any) -> Any:
    """Return the second smallest of three numbers, of which best is not above second."""
    larger = where_less(new, best, best, new)
    return where_less(larger, second, larger, second)


@entry
def assign_block(
    X: Rows,
    centres: Any,
    weights: Array,
    fresh: bool,
    labels: Labels,
    limits: Array,
    scratch: Any,
    statistics: Array,
) -> None:
    """Assign rows to their nearest centre and sum up what changes by that.

    X : IN (n, d); centres : IN; weights : IN (n,) or (0,) for ones; labels : INOUT (n,) int32;
    limits : INOUT (n,), how far other centres may travel before they can be nearer to the row;
    scratch : WORK; statistics : INOUT flat ``[changed labels, entered K*2, left K*2, first K*d]``:
    for each centre the mass and the sum of absolute differences from the reference of the rows
    that came, then of those that went away, and the change of the first moments about the
    reference.  With ``fresh`` limits are not read, and all rows count as new ones.
    """
    use_wide_registers()
    means, reference, travelled = centres
    n_clusters, d = means.shape
    n = X.shape[0]
    data = X.reshape(n * d)
    x, chosen = scratch.x, scratch.chosen
    nearest, gaps, bound = scratch.by_row[0], scratch.by_row[1], scratch.by_row[2]
    b = nearest.shape[0]
    entered = statistics[1 : 1 + 2 * n_clusters].reshape(n_clusters, 2)
    left = statistics[1 + 2 * n_clusters : 1 + 4 * n_clusters].reshape(n_clusters, 2)
    first = statistics[1 + 4 * n_clusters :].reshape(n_clusters, d)
    for start in range(0, n, chosen.shape[0]):
        stop = min(start + chosen.shape[0], n)
        listed = 0
        for i in range(start, stop, b):
            rows = min(b, stop - i)
            if fresh:
                for r in range(rows):
                    chosen[listed + r] = i + r
                listed += rows
            else:
                _look_up(travelled, labels, i, bound, rows)
                for r in range(rows):
                    chosen[listed] = i + r
                    listed += int(not bound[r] < limits[i + r])
        filled = _filled_up(chosen, listed)
        for place in range(0, filled.shape[0], b):
            tile = _load_tile(data, filled, place, d, x, b)
            for t in range(0, tile.shape[0], ABREAST):
                _nearest_abreast(x, b, t, means, nearest, gaps)
            for r in range(min(b, listed - place)):
                row, label = np.uint32(tile[r]), np.uint32(nearest[r])
                old = labels[row]
                limits[row] = fma(travelled[label], 1.0 - ROUNDING, gaps[r])
                if label != old:
                    labels[row] = label
                    statistics[0] += 1.0
                if fresh or label != old:
                    w = 1.0 if weights.shape[0] == 0 else weights[row]
                    _add_row(X[row], w, 1.0, reference[label], entered[label], first[label])
                    if not fresh:
                        _add_row(X[row], w, -1.0, reference[old], left[old], first[old])


@device
def _add_row(row: Array, w: float, sign: float, centre: Array, total: Array, first: Array) -> None:
    """Add a row to what came or went, (2,), and add it to or take it from first moments (d,)."""
    size = 0.0
    for j in range(row.shape[0]):
        z = w * (np.float64(row[j]) - centre[j])
        size += abs(z)
        first[j] += sign * z
    total[0] += w
    total[1] += size


@entry
def square_distances_block(X: Rows, centres: Any, labels: Labels, out: Array) -> None:
    """Write the square distance of each row to its own centre to out (n,)."""
    means = centres.means
    for i in range(X.shape[0]):
        total = 0.0
        for j in range(X.shape[1]):
            z = np.float64(X[i, j]) - means[labels[i], j]
            total += z * z
        out[i] = total


@entry
def labelled_block(
    X: Rows, centres: Any, weights: Array, labels: Labels, statistics: Array
) -> None:
    """Add the moments of rows that belong to one component each.

    X : IN (n, d); centres : IN, what moments are taken about; weights : IN (n,) or (0,) for ones;
    labels : IN (n,) int32, or (0,) for all rows in component 0; statistics : INOUT flat, laid out
    as in ``em_pass``, with d, 1 or no second moments for each component.
    """
    means = centres.means
    n_components, d = means.shape
    mass = statistics[2 : 2 + n_components]
    start = 2 + n_components
    first = statistics[start : start + n_components * d].reshape(n_components, d)
    start += n_components * d
    columns = (statistics.shape[0] - start) // n_components
    second = statistics[start:].reshape(n_components, columns)
    for i in range(X.shape[0]):
        k = 0 if labels.shape[0] == 0 else np.int64(labels[i])
        w = 1.0 if weights.shape[0] == 0 else weights[i]
        statistics[1] += w
        mass[k] += w
        total = 0.0
        for j in range(d):
            z = np.float64(X[i, j]) - means[k, j]
            weighted = w * z
            first[k, j] += weighted
            total += weighted * z
            if columns == d:
                second[k, j] += weighted * z
        if columns == 1 < d:
            second[k, 0] += total
