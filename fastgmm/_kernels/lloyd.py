"""Lloyd's algorithm over one block of rows: assignment with sums, hard moments.

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
from .chosen import filled_up, list_all, list_unless_less, load_chosen, look_up
from .loading import prefetch_rows
from .options import device, entry
from .scaled import ABREAST, squares_abreast
from .simd import LANES, fma, root, splat, store, use_wide_registers, where_less

# Far above the relative rounding errors of distances, and below any that counts.
ROUNDING = 1e-10
_LARGEST_SQUARE, _SMALLEST_GAP = 1.7e308, 1e-150


class Centres(NamedTuple):
    """Cluster centres as the kernels read them: C-contiguous, read-only float64 (K, d)."""

    means: Array


class MovingCentres(NamedTuple):
    """Centres that have been elsewhere before; all arrays are read-only float64."""

    means: Array  # (K, d)
    reference: Array  # (K, d), what sums are taken about
    travelled: Array  # (K,), how much nearer other centres may have come to the rows of each


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


@device
def _list_unsure(
    travelled: Array,
    labels: Labels,
    limits: Array,
    start: int,
    stop: int,
    bound: Array,
    chosen: Indices,
) -> int:
    """List rows to which another centre may have come nearer; return how many there are.

    bound : WORK (b,), for b rows at a time.
    """
    listed, b = 0, bound.shape[0]
    for i in range(start, stop, b):
        rows = min(b, stop - i)
        look_up(travelled, labels, i, bound, rows)
        listed = list_unless_less(bound[:rows], limits[i : i + rows], i, chosen, listed)
    return listed


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
        if fresh:
            listed = list_all(chosen, start, stop)
        else:
            listed = _list_unsure(travelled, labels, limits, start, stop, bound, chosen)
        filled = filled_up(chosen, listed)
        prefetch_rows(data, filled, 0, min(b, filled.shape[0]), d)
        for place in range(0, filled.shape[0], b):
            rows = min(b, listed - place)
            tile, ahead = filled[place : place + b], filled[place + b : place + 2 * b]
            load_chosen(data, tile, rows, d, x, b)
            for t in range(0, tile.shape[0], ABREAST):
                prefetch_rows(data, ahead, t, min(t + ABREAST, ahead.shape[0]), d)
                _nearest_abreast(x, b, t, means, nearest, gaps)
            for r in range(rows):
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
