"""k-means kernels over one block of rows: seeding distances, assignment with sums, hard moments.

Square distances are summed from differences, never expanded into products, so that data far from
the origin lose no digits.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, Labels, Rows
from .options import entry
from .tile import load, square_distances, tile_rows


class Centres(NamedTuple):
    """Cluster centres as the kernels read them: C-contiguous, read-only float64 (K, d)."""

    means: Array


def scratch_size(n_features: int, n_components: int) -> int:
    """Return how many float64 ``assign_block`` and ``seed_block`` need as scratch."""
    return tile_rows(n_features, n_components) * (n_features + 3)


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
    candidates = centres.means
    d = X.shape[1]
    size = scratch.shape[0] // (d + 3)
    tile = scratch[: d * size].reshape(d, size)
    distances = scratch[d * size : (d + 1) * size]
    for start in range(0, X.shape[0], size):
        rows = min(size, X.shape[0] - start)
        load(X, start, rows, tile)
        for k in range(candidates.shape[0]):
            square_distances(tile, rows, candidates, k, distances)
            total = 0.0
            for b in range(rows):
                near = closest[start + b]
                distances[b] = near if near < distances[b] else distances[b]
            if weights.shape[0] == 0:
                for b in range(rows):
                    total += distances[b]
            else:
                for b in range(rows):
                    total += weights[start + b] * distances[b]
            potentials[k] += total
        if update:
            for b in range(rows):
                closest[start + b] = distances[b]


@entry
def assign_block(
    X: Rows, centres: Any, weights: Array, labels: Labels, scratch: Array, statistics: Array
) -> None:
    """Assign rows to their nearest centre and sum them up.

    X : IN (n, d); centres : IN; weights : IN (n,) or (0,) for ones; labels : INOUT (n,) int32;
    scratch : WORK; statistics : INOUT flat ``[changed labels, mass K, first K*d]`` with the
    first moments about the centres.
    """
    means = centres.means
    n_clusters, d = means.shape
    size = scratch.shape[0] // (d + 3)
    tile = scratch[: d * size].reshape(d, size)
    distances = scratch[d * size : (d + 1) * size]
    best = scratch[(d + 1) * size : (d + 2) * size]
    nearest = scratch[(d + 2) * size : (d + 3) * size]  # cluster numbers as floats: they vectorise
    mass = statistics[1 : 1 + n_clusters]
    first = statistics[1 + n_clusters :].reshape(n_clusters, d)
    for start in range(0, X.shape[0], size):
        rows = min(size, X.shape[0] - start)
        load(X, start, rows, tile)
        square_distances(tile, rows, means, 0, best)
        for b in range(rows):
            nearest[b] = 0.0
        for k in range(1, n_clusters):
            square_distances(tile, rows, means, k, distances)
            number = float(k)
            for b in range(rows):
                closer = distances[b] < best[b]
                best[b] = distances[b] if closer else best[b]
                nearest[b] = number if closer else nearest[b]
        for b in range(rows):
            label = np.int64(nearest[b])
            i = start + b
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
