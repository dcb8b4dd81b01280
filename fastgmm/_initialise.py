"""Where EM starts: the four ways of scikit-learn, with its draws in its order.

The statistics that a way's responsibilities would give become parameters by the update rule, as
after any other pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._kmeans import Clustering, kmeans, labelled_stats, pilot, seed
from ._passes import Block, MomentsPass
from ._rules import Moments, UpdateRule
from ._sources import ArraySource, RowSource
from ._stats import SufficientStats, unpack
from ._structures import Scatter, readonly
from ._threads import Tree

Array = NDArray[np.float64]

# With more rows than these the start is found from a random sample, of 64 MB of float64 numbers.
ALL_ROWS = 1 << 22
_SAMPLE_NUMBERS = 1 << 23
_SAMPLE_ROWS_EACH = 64  # and no fewer rows than these for each component


class Start(NamedTuple):
    """What an initialisation found."""

    moments: Moments  # of scikit-learn's seeds the mass sums up to K rows
    weight: float  # of all rows
    n_distinct: int  # components that hold a row


def total_weight(source: RowSource) -> float:
    """Return the weight of all rows."""
    return source.n_counted * source.mean_weight


def default_init_size(n_features: int, n_components: int) -> int:
    """Return how many rows a sample has if there are too many for all of them."""
    return max(_SAMPLE_NUMBERS // n_features, _SAMPLE_ROWS_EACH * n_components)


def sample_rows(
    source: RowSource, init_size: int | None, n_components: int, rng: np.random.RandomState
) -> ArraySource:
    """Return the rows to start from: all, or a sample where there are more than ``init_size``."""
    size = init_size
    if size is None:
        size = default_init_size(source.n_features, n_components)
        size = max(size, ALL_ROWS) if source.n_rows <= ALL_ROWS else size
    if source.n_rows <= size:
        rows: ArraySource = source.gather()
        return rows
    counted = source.n_counted
    if counted > size:
        ranks = _sample_without_replacement(counted, size, rng)
    else:
        ranks = np.arange(counted)
    sampled: ArraySource = source.sample(ranks)
    return sampled


def _sample_without_replacement(n: int, size: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Return ``size`` of the numbers below n in increasing order; memory grows with size only.

    Selection by strata would not be a simple random sample; drawing with replacement and filling
    up the duplicates is.  Of most numbers, the others are drawn: the last gaps are hard to hit.
    """
    if size > n // 2:
        kept = np.ones(n, np.bool_)
        kept[_sample_without_replacement(n, n - size, rng)] = False
        return np.flatnonzero(kept)
    index = _distinct(rng.randint(0, n, size=size, dtype=np.int64))
    while len(index) < size:
        more = _distinct(rng.randint(0, n, size=2 * (size - len(index)), dtype=np.int64))
        places = np.minimum(np.searchsorted(index, more), len(index) - 1)
        fresh = more[index[places] != more]
        index = np.concatenate([index, rng.permutation(fresh)[: size - len(index)]])
        index.sort()
    return index


def _distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort numbers in place; return each of them once.  `numpy.unique` takes six times the room."""
    numbers.sort()
    first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]


# By the number of clusters and the state of the draws: the clusters, and the state after them.
_Known = dict[tuple[int, bytes, int], tuple[Clustering, dict[str, Any]]]
_clusterings: ContextVar[_Known | None] = ContextVar("clusterings", default=None)


@contextmanager
def shared_clusterings() -> Iterator[None]:
    """Let this thread's fits to the same rows and weights share the clusters of k-means.

    The covariance type plays no part in them. What the same draws would find again is remembered,
    at 4 bytes a row for each number of clusters and run.
    """
    token = _clusterings.set({})
    try:
        yield
    finally:
        _clusterings.reset(token)


def _clustered(source: ArraySource, k: int, rng: np.random.RandomState) -> Clustering:
    known = _clusterings.get()
    if known is None:
        return kmeans(source, k, rng)
    before = rng.get_state(legacy=False)["state"]
    key = (k, before["key"].tobytes(), before["pos"])
    if key not in known:
        known[key] = kmeans(source, k, rng), rng.get_state(legacy=False)
    clustering, after = known[key]
    rng.set_state(after)
    return clustering


def _from_kmeans(
    source: ArraySource, k: int, rule: UpdateRule, rng: np.random.RandomState
) -> Start:
    clustering = _clustered(source, k, rng)
    n_second = rule.structure.second_columns(source.n_features)
    n_distinct = int((np.bincount(clustering.labels, minlength=k) > 0).sum())
    stats = labelled_stats(source, clustering, n_second)
    return Start(rule.moments(stats), stats.weight, n_distinct)


def _from_rows(source: ArraySource, index: NDArray[np.int64], rule: UpdateRule) -> Start:
    """Return what scikit-learn starts from with seeds: each seed a component of its one row."""
    rows = source.take(index)
    k = len(rows)
    mass = 1.0 + rule.guard / rule.mean_weight
    covariances = rule.seed_covariances(rows, mass)
    moments = Moments(np.full(k, mass * rule.mean_weight), rows / mass, covariances)
    return Start(moments, total_weight(source), k)


def _from_kmeans_plusplus(
    source: ArraySource, k: int, rule: UpdateRule, rng: np.random.RandomState
) -> Start:
    return _from_rows(source, seed(source, k, rng), rule)


def _from_random_rows(
    source: ArraySource, k: int, rule: UpdateRule, rng: np.random.RandomState
) -> Start:
    p = None if source.weights is None else source.weights / source.weights.sum()
    return _from_rows(source, rng.choice(source.n_rows, size=k, replace=False, p=p), rule)


def _from_random_responsibilities(
    source: ArraySource, k: int, rule: UpdateRule, rng: np.random.RandomState
) -> Start:
    """Draw n*K responsibilities from the stream, one block at a time and in order."""

    def draw(block: Block) -> Array:
        responsibilities = rng.uniform(size=(len(block.rows), k))
        responsibilities /= responsibilities.sum(axis=1, keepdims=True)
        if block.weights.size:
            responsibilities *= block.weights[:, None]
        return responsibilities

    reference = readonly(np.repeat(pilot(source)[None], k, axis=0))
    task = MomentsPass(reference, rule.structure.second_columns(source.n_features), draw)
    add, tree = task.worker(), Tree()
    for block in source.blocks():
        statistics = tree.buffer(task.size)
        add(block, statistics)
        tree.add(block.number, statistics)
    stats = SufficientStats.from_flat(tree.total(), reference)
    return Start(rule.moments(stats), stats.weight, k)


INITIALISATIONS: dict[
    str, Callable[[ArraySource, int, UpdateRule, np.random.RandomState], Start]
] = {
    "kmeans": _from_kmeans,
    "k-means++": _from_kmeans_plusplus,
    "random": _from_random_responsibilities,
    "random_from_data": _from_random_rows,
}


def total_scatter(source: RowSource) -> Scatter:
    """Return the weighted scatter of all rows about their mean."""

    def whole(block: Block) -> Array:
        weights = block.weights if block.weights.size else np.ones(len(block.rows))
        return weights[:, None]

    reference = readonly(pilot(source)[None])
    d = source.n_features
    flat = source.reduce(MomentsPass(reference, d * (d + 1) // 2, whole))
    stats = SufficientStats.from_flat(flat, reference)
    mean = reference + stats.first / stats.weight
    central = stats.rebase(mean)
    residual = central.first[0] / stats.weight
    return Scatter(stats.weight, mean[0], unpack(central.second, d)[0], residual)
