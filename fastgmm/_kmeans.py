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

from ._passes import (
    NO_LABELS,
    AssignPass,
    Candidates,
    LabelledPass,
    LabelledProductsPass,
    MovingCentres,
    OwnDistancePass,
    SeedPass,
    block_rows,
)
from ._sources import ArraySource, RowSource, UnfitRow
from ._stats import SufficientStats
from ._structures import readonly

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

MAX_ITER = 300
TOLERANCE = 1e-4

_LARGEST_SQUARE, _SMALLEST_SQUARE = 1.7e308, 1e-280
# Sums are begun anew when only so small a part of them is left that rounding would count.
_WORN = 0.999
# A block of which few rows are read takes little more time than a thread needs to begin the next:
# so many blocks are handed over at a time, but never fewer than so many times in all, for threads
# to share: on how many of them there are the sums must not depend.
_SEEDED_TOGETHER, _ASSIGNED_TOGETHER, _LEAST_SHARES = 4, 8, 16


class Clustering(NamedTuple):
    """Rows divided among centres."""

    centres: Array  # (K, d)
    labels: Labels  # (n,)


def _together(source: ArraySource, most: int) -> int:
    """Return how many blocks to hand over at a time."""
    return max(1, min(most, int(source.n_blocks) // _LEAST_SHARES))


def pilot(source: RowSource) -> Array:
    """Return a point (d,) near the rows, to take moments about before their mean is known.

    It is the weighted mean of the first rows that count.
    """
    numbers = np.arange(min(source.n_counted, 256))
    try:
        first: ArraySource = source.sample(numbers)
    except UnfitRow:
        return np.zeros(source.n_features)  # the first pass will report the first of them
    mean: Array = np.average(first.take(numbers), axis=0, weights=first.weights)
    return mean


def seed(source: ArraySource, n_clusters: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Choose rows as initial centres by greedy k-means++."""
    trials = 2 + int(np.log(n_clusters))
    seeds = _Seeds(source, trials)
    chosen = np.empty(n_clusters, np.int64)
    chosen[0] = _first_seed(source, rng)
    potential = seeds.try_(chosen[:1], chosen[1:1])[0]
    for c in range(1, n_clusters):
        candidates = seeds.search(chosen[:c], rng.uniform(size=trials) * potential)
        potentials = seeds.try_(chosen[:c], candidates)[1:]
        best = int(np.argmin(potentials))
        chosen[c], potential = candidates[best], potentials[best]
        seeds.choose(1 + best)
    return chosen


def _first_seed(source: ArraySource, rng: np.random.RandomState) -> int:
    if source.weights is None:
        # what rng.choice(n) with equal probabilities does, without its arrays of n
        return int(min(rng.random_sample() * source.n_rows, source.n_rows - 1))
    return int(rng.choice(source.n_rows, p=source.weights / source.weights.sum()))


class _Seeds:
    """What is known of all rows while seeds are chosen.

    The distances lag behind: the seed chosen last is taken in by the pass that tries candidates
    for the next one.  Sums over blocks are known before, from the pass that tried it.
    """

    def __init__(self, source: ArraySource, trials: int) -> None:
        self.source = source
        self.closest = np.full(source.n_rows, np.inf)  # square distances to the nearest seed
        self.nearest = np.zeros(source.n_rows, np.int32)  # its number
        self.stretch = block_rows(source.n_features)
        self.tried = np.zeros((source.n_blocks, 1 + trials))
        self.sums: Array = self.tried[:, 0]  # of weight * closest, by block

    def try_(self, chosen: NDArray[np.int64], candidates: NDArray[np.int64]) -> Array:
        """Take in the last seed; return the potentials with it, and with each candidate, too."""
        together = _together(self.source, _SEEDED_TOGETHER)
        return self.source.reduce(self._pass(chosen, candidates), together=together)

    def choose(self, tried: int) -> None:
        """Let what was tried in this place be the next seed."""
        self.sums = self.tried[:, tried].copy()

    def _pass(self, chosen: NDArray[np.int64], candidates: NDArray[np.int64]) -> SeedPass:
        new = len(chosen) - 1
        rows = self.source.take(np.concatenate([chosen[new:], candidates]))
        with np.errstate(over="ignore", under="ignore"):
            squares = ((self.source.take(chosen)[:, None] - rows) ** 2).sum(axis=2)
        squares[new, 0] = np.inf  # a search may have taken in the new seed in some blocks
        squares = squares.min(axis=1)
        # Half the distance to the nearest of these rows, with room for rounding, overflow and
        # underflow: a row closer than that to its seed is not closer to any of them.
        reach = np.minimum(squares, _LARGEST_SQUARE) * (0.25 - 1e-9)
        reach[squares < _SMALLEST_SQUARE] = 0.0
        points = Candidates(readonly(rows), readonly(reach))
        sums = self.tried[:, : len(rows)]
        return SeedPass(points, new, self.closest, self.nearest, sums, self.stretch)

    def search(self, chosen: NDArray[np.int64], targets: Array) -> NDArray[np.int64]:
        """Return where the running sum of weight * distance first reaches each target.

        Rows that add nothing, seeds and rows of weight 0 among them, are never found, unless no
        row adds anything.
        """
        source, sums = self.source, self.sums
        running = np.cumsum(sums)
        filled = np.flatnonzero(sums > 0.0)
        if not filled.size:  # all rows are seeds, or equal to one
            weights = source.weights
            return np.full(len(targets), 0 if weights is None else np.argmax(weights > 0.0))
        task = self._pass(chosen, chosen[:0])
        task.sums = np.empty_like(task.sums)
        take_in = task.worker()
        found = np.empty(len(targets), np.int64)
        # rounding may leave a target beyond the last sum, and 0 is reached before the first
        numbers = filled[np.searchsorted(running[filled[:-1]], targets)]
        for number in set(numbers.tolist()):
            block, here = source.block(number), numbers == number
            take_in(block, np.zeros(1))
            added = self.closest[block.where]
            if block.weights.size:
                added = added * block.weights
            positive = np.flatnonzero(added > 0.0)
            before = running[number] - sums[number]
            places = np.searchsorted(before + np.cumsum(added[positive]), targets[here])
            found[here] = block.start + positive[np.minimum(places, len(positive) - 1)]
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
    lloyd = _Lloyd(source, source.take(seed(source, n_clusters, rng)))
    for _ in range(MAX_ITER):
        changed = lloyd.assign()
        shift = lloyd.move()
        if changed == 0:
            return Clustering(lloyd.centres, lloyd.labels)
        if shift <= tolerance:
            break
    lloyd.assign()  # labels of the last centres
    return Clustering(lloyd.centres, lloyd.labels)


class _Lloyd:
    """Lloyd's steps, which read only the rows that may change clusters.

    Each cluster's sums are about a fixed reference, and rows are added to them, or taken from them,
    when they come or go.
    """

    def __init__(self, source: ArraySource, centres: Array) -> None:
        self.source = source
        self.centres = centres
        self.labels = np.full(source.n_rows, -1, np.int32)
        self._limits = np.empty(source.n_rows)
        self._travelled = np.zeros(len(centres))
        self._begin()

    def _begin(self) -> None:
        """Let the next assignment begin the sums anew, about the centres it is made for."""
        k, d = self.centres.shape
        self._fresh = True
        self._reference = self.centres
        self._entered, self._left = np.zeros((k, 2)), np.zeros((k, 2))
        self._first = np.zeros((k, d))

    def assign(self) -> int:
        """Assign all rows; return how many labels changed."""
        changed = self._assign()
        if (self._left > _WORN * self._entered).any():
            self._begin()
            self._assign()
        return changed

    def _assign(self) -> int:
        k, d = self.centres.shape
        moving = MovingCentres(*map(readonly, (self.centres, self._reference, self._travelled)))
        task = AssignPass(moving, self.labels, self._limits, fresh=self._fresh)
        flat = self.source.reduce(task, together=_together(self.source, _ASSIGNED_TOGETHER))
        self._fresh = False
        self._entered += flat[1 : 1 + 2 * k].reshape(k, 2)
        self._left += flat[1 + 2 * k : 1 + 4 * k].reshape(k, 2)
        self._first += flat[1 + 4 * k :].reshape(k, d)
        return int(flat[0])

    def move(self) -> float:
        """Move the centres to the means of their rows; return the sum of square distances."""
        mass, first = self._entered[:, 0] - self._left[:, 0], self._first.copy()
        moved = self.centres.copy()
        relocated: list[int] = []
        if (mass == 0.0).any():
            relocated = self._relocate_empty(mass, first, moved)
        filled = mass > 0.0
        filled[relocated] = False
        moved[filled] = self._reference[filled] + first[filled] / mass[filled, None]
        empty = mass == 0.0
        if empty.any():
            moved[empty] = moved[int(np.argmax(mass))]
        squares = ((moved - self.centres) ** 2).sum(axis=1)
        self._travel(np.sqrt(squares))
        self.centres = moved
        if relocated:
            self._begin()
        return float(squares.sum())

    def _relocate_empty(self, mass: Array, first: Array, moved: Array) -> list[int]:
        """Move empty clusters to the rows farthest from their centres; update sums in place."""
        empty = np.flatnonzero(mass == 0.0)
        distances = self._square_distances()
        if distances.max() <= 0.0:
            return []  # fewer distinct rows than clusters
        source = self.source
        farthest = np.argpartition(distances, -len(empty))[: -len(empty) - 1 : -1]
        relocated = []
        for cluster, row in zip(empty, farthest, strict=True):
            if distances[row] < 0.0:
                continue
            weight = 1.0 if source.weights is None else source.weights[row]
            position = source.take(np.array([row]))[0]
            old = self.labels[row]
            first[old] -= weight * (position - self._reference[old])
            mass[old] -= weight
            mass[cluster] = weight
            moved[cluster] = position
            relocated.append(int(cluster))
        return relocated

    def _square_distances(self) -> Array:
        """Return each row's square distance to its own centre; -1 for rows of weight 0."""
        distances = self.source.map_rows(OwnDistancePass(readonly(self.centres), self.labels))
        if self.source.weights is not None:
            distances[self.source.weights == 0.0] = -1.0
        return distances

    def _travel(self, distances: Array) -> None:
        """Add to each centre's path the longest step of another one, and its own."""
        longest = int(np.argmax(distances))
        others = np.full(len(distances), distances[longest])
        others[longest] = np.delete(distances, longest).max(initial=0.0)
        self._travelled = self._travelled + (distances + others)


def labelled_stats(source: ArraySource, clustering: Clustering, n_second: int) -> SufficientStats:
    """Return the moments of the clusters about their centres."""
    reference = readonly(clustering.centres)
    if n_second > source.n_features:
        flat = source.reduce(LabelledProductsPass(reference, clustering.labels))
    else:
        flat = source.reduce(LabelledPass(reference, clustering.labels, n_second))
    return SufficientStats.from_flat(flat, reference)
