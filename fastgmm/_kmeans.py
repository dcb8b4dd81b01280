"""Greedy k-means++ and Lloyd's algorithm over a source of rows.

Draws, order of draws and stopping rule are scikit-learn's, so the same ``random_state`` gives the
same clusters; the work is done block by block and takes at most 12 bytes a row beside the data.

References
----------
.. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007;
   the greedy variant with 2 + log(K) candidates is from section 5.
.. [2] S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28(2), 1982.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._passes import NO_LABELS, AssignPass, LabelledPass, OwnDistancePass, SeedPass
from ._sources import ArraySource, RowSource
from ._stats import SufficientStats
from ._structures import readonly

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

MAX_ITER = 300
TOLERANCE = 1e-4


class Clustering(NamedTuple):
    """Rows divided among centres."""

    centres: Array  # (K, d)
    labels: Labels  # (n,)


def pilot(source: RowSource) -> Array:
    """Return a point (d,) near the rows, to take moments about before their mean is known."""
    first = source.take(np.arange(min(source.n_rows, 256)))
    finite = first[np.isfinite(first).all(axis=1)]  # the first pass will report the others
    mean: Array = finite.mean(axis=0) if len(finite) else np.zeros(source.n_features)
    return mean


def seed(source: ArraySource, n_clusters: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Choose rows as initial centres by greedy k-means++."""
    n = source.n_rows
    trials = 2 + int(np.log(n_clusters))
    chosen = np.empty(n_clusters, np.int64)
    chosen[0] = _first_seed(source, rng)
    closest = np.full(n, np.inf)
    sums = np.empty(source.n_blocks)
    first = readonly(source.take(chosen[:1]))
    potential = source.reduce(SeedPass(first, closest, sums))[0]
    for c in range(1, n_clusters):
        targets = rng.uniform(size=trials) * potential
        candidates = _search_sums(source, closest, sums, targets)
        rows = readonly(source.take(candidates))
        potentials = source.reduce(SeedPass(rows, closest))
        best = int(np.argmin(potentials))
        chosen[c], potential = candidates[best], potentials[best]
        source.reduce(SeedPass(readonly(rows[best : best + 1]), closest, sums))
    return chosen


def _first_seed(source: ArraySource, rng: np.random.RandomState) -> int:
    if source.weights is None:
        # what rng.choice(n) with equal probabilities does, without its arrays of n
        return int(min(rng.random_sample() * source.n_rows, source.n_rows - 1))
    return int(rng.choice(source.n_rows, p=source.weights / source.weights.sum()))


def _search_sums(
    source: ArraySource, closest: Array, sums: Array, targets: Array
) -> NDArray[np.int64]:
    """Return where the running sum of weight * distance first reaches each target.

    closest : (n,) distances; sums : (blocks,) weighted sums of them.  Rows that add nothing, seeds
    and rows of weight 0 among them, are never found, unless no row adds anything.
    """
    running = np.cumsum(sums)
    filled = np.flatnonzero(sums > 0.0)
    if not filled.size:  # all rows are seeds, or equal to one
        weights = source.weights
        return np.full(len(targets), 0 if weights is None else np.argmax(weights > 0.0))
    found = np.empty(len(targets), np.int64)
    for i, target in enumerate(targets):
        # rounding may leave a target beyond the last sum, and 0 is reached before the first
        number = int(filled[np.searchsorted(running[filled[:-1]], target)])
        block = source.block(number)
        added = closest[block.where]
        if block.weights.size:
            added = added * block.weights
        positive = np.flatnonzero(added > 0.0)
        before = running[number] - sums[number]
        place = np.searchsorted(before + np.cumsum(added[positive]), target)
        found[i] = block.start + positive[min(int(place), len(positive) - 1)]
    return found


def mean_variance(source: ArraySource) -> float:
    """Return the mean over features of the weighted variance."""
    centre = readonly(pilot(source)[None])
    d = source.n_features
    flat = source.reduce(LabelledPass(centre, NO_LABELS, d))
    stats = SufficientStats.from_flat(flat, centre)
    mean = stats.first[0] / stats.weight
    return float((stats.second[0] / stats.weight - mean**2).mean())


def kmeans(source: ArraySource, n_clusters: int, rng: np.random.RandomState) -> Clustering:
    """Cluster the rows by one run of Lloyd's algorithm from k-means++ seeds."""
    tolerance = mean_variance(source) * TOLERANCE
    centres = source.take(seed(source, n_clusters, rng))
    labels = np.full(source.n_rows, -1, np.int32)
    for _ in range(MAX_ITER):
        changed, moved = _lloyd_step(source, centres, labels)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if changed == 0:
            return Clustering(centres, labels)
        if shift <= tolerance:
            break
    source.reduce(AssignPass(readonly(centres), labels))  # labels of the last centres
    return Clustering(centres, labels)


def _lloyd_step(source: ArraySource, centres: Array, labels: Labels) -> tuple[int, Array]:
    """Assign all rows; return how many labels changed, and the new centres."""
    k, d = centres.shape
    flat = source.reduce(AssignPass(readonly(centres), labels))
    mass, first = flat[1 : 1 + k], flat[1 + k :].reshape(k, d)
    moved = centres.copy()
    relocated: list[int] = []
    if (mass == 0.0).any():
        relocated = _relocate_empty(source, centres, labels, mass, first, moved)
    filled = mass > 0.0
    filled[relocated] = False
    moved[filled] += first[filled] / mass[filled, None]
    empty = mass == 0.0
    if empty.any():
        moved[empty] = moved[int(np.argmax(mass))]
    return int(flat[0]), moved


def _relocate_empty(
    source: ArraySource, centres: Array, labels: Labels, mass: Array, first: Array, moved: Array
) -> list[int]:
    """Move empty clusters to the rows farthest from their centres; update sums in place."""
    empty = np.flatnonzero(mass == 0.0)
    distances = _square_distances(source, centres, labels)
    if distances.max() <= 0.0:
        return []  # fewer distinct rows than clusters
    farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
    relocated = []
    for cluster, row in zip(empty, farthest, strict=True):
        if distances[row] < 0.0:
            continue
        weight = 1.0 if source.weights is None else source.weights[row]
        position = source.take(np.array([row]))[0]
        old = labels[row]
        first[old] -= weight * (position - centres[old])
        mass[old] -= weight
        mass[cluster] = weight
        moved[cluster] = position
        relocated.append(int(cluster))
    return relocated


def _square_distances(source: ArraySource, centres: Array, labels: Labels) -> Array:
    """Return each row's square distance to its own centre; -1 for rows of weight 0."""
    distances = source.map_rows(OwnDistancePass(readonly(centres), labels))
    if source.weights is not None:
        distances[source.weights == 0.0] = -1.0
    return distances


def labelled_stats(source: ArraySource, clustering: Clustering, n_second: int) -> SufficientStats:
    """Return the moments of the clusters about their centres."""
    reference = readonly(clustering.centres)
    flat = source.reduce(LabelledPass(reference, clustering.labels, n_second))
    return SufficientStats.from_flat(flat, reference)
