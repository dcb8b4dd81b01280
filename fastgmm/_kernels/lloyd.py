"""k-means kernels over one block of rows: seeding distances, assignment with sums, hard moments.

Square distances are summed from differences, never expanded into products, so that data far from
the origin lose no digits.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, Labels, Rows
from .options import device, entry
from .scaled import ABREAST, squares_abreast
from .simd import LANES, fma, lane_sum, load, splat, store, use_wide_registers, where_less
from .tile import load_tile, load_weights, padded, tile_rows


class Centres(NamedTuple):
    """Cluster centres as the kernels read them: C-contiguous, read-only float64 (K, d)."""

    means: Array


def scratch_size(d: int) -> int:
    """Return how many float64 ``assign_block`` and ``seed_block`` need as scratch."""
    b = tile_rows(d)
    return padded(d) * b + 2 * b


@device
def _regions(scratch: Array, d: int) -> Any:
    """Divide the scratch into a tile and two vectors of a number for each of its rows."""
    b = tile_rows(d)
    size = padded(d) * b
    return scratch[:size], scratch[size : size + b], scratch[size + b : size + 2 * b]


@entry
def seed_block(
    X: Rows,
    centres: Any,
    weights: Array,
    closest: Array,
    update: bool,
    scratch: Array,
    potentials: Array,
) -> None:
    """Take candidates for the next seed of k-means++ into account.

    X : IN (n, d); centres : IN, the candidates; weights : IN (n,) or (0,) for ones;
    closest : INOUT (n,) square distance to the nearest seed so far; scratch : WORK;
    potentials : INOUT (candidates,), to which the weighted sums of the square distances are added
    as they would be with each candidate.  With ``update`` the (only) candidate becomes a seed.
    """
    use_wide_registers()
    candidates = centres.means
    d = X.shape[1]
    b = tile_rows(d)
    x, near, tile_weights = _regions(scratch, d)
    for start in range(0, X.shape[0], b):
        rows = min(b, X.shape[0] - start)
        load_tile(X, start, x)
        load_weights(weights, start, rows, tile_weights)
        for i in range(b):
            near[i] = closest[start + i] if i < rows else 0.0
        for k in range(candidates.shape[0]):
            total = splat(0.0)
            for t in range(0, b, ABREAST):
                q0, q1, q2, q3 = squares_abreast(x, b, t, candidates, k)
                q0, q1 = _smaller(q0, near, t), _smaller(q1, near, t + LANES)
                q2, q3 = _smaller(q2, near, t + 2 * LANES), _smaller(q3, near, t + 3 * LANES)
                total = fma(q0, load(tile_weights, t), total)
                total = fma(q1, load(tile_weights, t + LANES), total)
                total = fma(q2, load(tile_weights, t + 2 * LANES), total)
                total = fma(q3, load(tile_weights, t + 3 * LANES), total)
                if update:
                    store(near, t, q0)
                    store(near, t + LANES, q1)
                    store(near, t + 2 * LANES, q2)
                    store(near, t + 3 * LANES, q3)
            potentials[k] += lane_sum(total)
        if update:
            for i in range(rows):
                closest[start + i] = near[i]


@device
def _smaller(square: Any, near: Array, t: int) -> Any:
    known = load(near, t)
    return where_less(known, square, known, square)


@device
def _nearest_abreast(x: Array, b: int, t: int, centres: Array, out: Array) -> None:
    """Write the numbers of the nearest centres of the rows from t on, as floats."""
    q0, q1, q2, q3 = squares_abreast(x, b, t, centres, 0)
    n0, n1, n2, n3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for k in range(1, centres.shape[0]):
        p0, p1, p2, p3 = squares_abreast(x, b, t, centres, k)
        number = splat(float(k))
        n0, n1 = where_less(p0, q0, number, n0), where_less(p1, q1, number, n1)
        n2, n3 = where_less(p2, q2, number, n2), where_less(p3, q3, number, n3)
        q0, q1 = where_less(p0, q0, p0, q0), where_less(p1, q1, p1, q1)
        q2, q3 = where_less(p2, q2, p2, q2), where_less(p3, q3, p3, q3)
    store(out, t, n0)
    store(out, t + LANES, n1)
    store(out, t + 2 * LANES, n2)
    store(out, t + 3 * LANES, n3)


@entry
def assign_block(
    X: Rows, centres: Any, weights: Array, labels: Labels, scratch: Array, statistics: Array
) -> None:
    """Assign rows to their nearest centre and sum them up.

    X : IN (n, d); centres : IN; weights : IN (n,) or (0,) for ones; labels : INOUT (n,) int32;
    scratch : WORK; statistics : INOUT flat ``[changed labels, mass K, first K*d]`` with the
    first moments about the centres.
    """
    use_wide_registers()
    means = centres.means
    n_clusters, d = means.shape
    b = tile_rows(d)
    x, nearest, _ = _regions(scratch, d)
    mass = statistics[1 : 1 + n_clusters]
    first = statistics[1 + n_clusters :].reshape(n_clusters, d)
    for start in range(0, X.shape[0], b):
        rows = min(b, X.shape[0] - start)
        load_tile(X, start, x)
        for t in range(0, b, ABREAST):
            _nearest_abreast(x, b, t, means, nearest)
        for i in range(start, start + rows):
            label = np.int64(nearest[i - start])
            if labels[i] != label:
                labels[i] = label
                statistics[0] += 1.0
            w = 1.0 if weights.shape[0] == 0 else weights[i]
            mass[label] += w
            for j in range(d):
                first[label, j] += w * (np.float64(X[i, j]) - means[label, j])


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
    as in ``em_pass``, with d (d + 1) / 2, d, 1 or no second moments for each component.
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
        pair = 0
        for j in range(d):
            z = np.float64(X[i, j]) - means[k, j]
            weighted = w * z
            first[k, j] += weighted
            if columns > d:
                for m in range(j + 1):
                    second[k, pair] += weighted * (np.float64(X[i, m]) - means[k, m])
                    pair += 1
            elif columns == d:
                second[k, j] += weighted * z
            elif columns == 1:
                second[k, 0] += weighted * z
