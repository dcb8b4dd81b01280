"""The fused E and M pass over a block, without the (row, component) pairs that cannot matter.

For factors of many features, where finishing a pair costs much more than a bound on it; for all
else see ``pruned_tiles.py``.

The rows are sorted by their likely component j, whose exact log-density bounds the log-density of
the mixture from below.  A bound from above on every other component's costs d multiply-adds
instead of d^2 / 2 (see ``bounds.py``).  Only pairs that survive it are finished, and of them only
those with a responsibility that counts go into the moments.

What is skipped is a function of the rows, the parameters and the likely components alone.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, Indices, Labels, Rows
from .bounds import ABREAST, survivors
from .em_pass import split_statistics
from .exp import LN2, LOG2_E, LOWEST, exp2_or_0, log_positive
from .loading import gather_rows, lanes_of, prefetch_rows
from .moments import add_blocks, cells_size
from .options import device, entry
from .simd import (
    LANES,
    divide,
    fma,
    lane_sum,
    load,
    load_like,
    load_own,
    splat,
    store,
    use_wide_registers,
    where_less,
)
from .sorting import sort_rows
from .tile import NEVER, load_weights, log2_density, padded, tile_rows
from .tiles import ROWS, tile_width
from .triangular import (
    Triangular,
    clear_moments,
    factor_size,
    finish_moments,
    nearest,
    squares,
    tiles_size,
    work_size,
)
from .views import viewed


class Scratch(NamedTuple):
    """Memory for blocks of up to n rows."""

    lists: Indices  # (K, n + tile_width): the rows that a component may matter to
    heights: Array  # (K, n + tile_width): their log2-densities, later their densities
    counts: Indices  # (3, K + 1): starts of the labels, lengths of the lists, first own rows
    order: Indices  # (n,)
    chosen: Indices  # (tile_rows,)
    by_row: Array  # (4, n + LANES): best, total, scale, weight
    x: Array  # (padded(d) tile_rows,), in the type of the tiles
    tile: Array  # (2, tile_rows)
    alive: Array  # (ABREAST * lanes,)
    work: Array  # as the triangular kind wants it


def scratch_for(params: Triangular, n: int) -> Scratch:
    """Return scratch for blocks of up to n rows."""
    n_components, d = map(int, params.means.shape)
    dtype = params.centres.dtype
    b, width = tile_rows(d, dtype.itemsize), tile_width(dtype.itemsize)
    return Scratch(
        np.empty((n_components, n + width), np.int32),
        np.empty((n_components, n + width)),
        np.empty((3, n_components + 1), np.int32),
        np.empty(n, np.int32),
        np.empty(b, np.int32),
        np.empty((4, n + LANES)),
        np.empty(padded(d, dtype.itemsize) * b, dtype),
        np.empty((2, b)),
        np.empty(ABREAST * lanes_of(dtype.itemsize)),
        np.empty(work_size(params)),
    )


@device
def _choose(rows: Indices, start: int, count: int, whole: int, chosen: Indices) -> None:
    """Copy a ``whole`` tile's numbers of rows, the last of ``count`` repeated."""
    for i in range(whole):
        chosen[i] = rows[start + min(i, count - 1)]


@device
def _log2_densities(
    params: Any, k: int, data: Rows, chosen: Indices, x: Array, work: Array, out: Array
) -> None:
    """Load a tile of rows into x and write their log2-densities in component k to out."""
    _, centres, factors, constants, shifts = params
    n_components, d = centres.shape
    size, rows = factor_size(d), tile_width(x.itemsize)
    flat_centres, flat_shifts = centres.reshape(n_components * d), shifts.reshape(shifts.size)
    flat_factors = factors.reshape(n_components * size)
    peak = LOG2_E * constants[k]
    gather_rows(data, chosen, rows, d, x, rows)
    z, place = viewed(work[: d * ROWS], centres.dtype), k * d
    squares(
        flat_factors, k * size, flat_centres, place, x, 0, rows, z, flat_shifts, place, out, 0, d
    )
    for i in range(0, rows, LANES):
        store(out, i, log2_density(load(out, i), 1.0, peak))


@device
def _list_survivors(data: Rows, params: Any, bounds: Any, scratch: Any, limit: int) -> int:
    """Write which rows each component may matter to; return the pairs, -1 if above the limit."""
    n_components, d = params.means.shape
    lists, heights, chosen = scratch.lists, scratch.heights, scratch.chosen
    starts, counts, own_first = scratch.counts[0], scratch.counts[1], scratch.counts[2]
    best, x, own, alive = scratch.by_row[0], scratch.x, scratch.tile[0], scratch.alive
    gap, pairs = bounds.gap[0], 0
    whole, lanes = tile_width(x.itemsize), lanes_of(x.itemsize)
    counts[:] = 0
    for j in range(n_components):
        own_first[j] = counts[j]
        for t in range(starts[j], starts[j + 1], whole):
            rows = min(whole, starts[j + 1] - t)
            _choose(scratch.order, t, rows, whole, chosen)
            last = min(t + rows + whole, starts[n_components])
            prefetch_rows(data, scratch.order, t + rows, last, d)
            _log2_densities(params, j, data, chosen, x, scratch.work, own)
            for i in range(rows):
                best[chosen[i]] = own[i]
                lists[j, counts[j]] = chosen[i]
                heights[j, counts[j]] = own[i]
                counts[j] += 1
            pairs += rows
            for f in range(d):
                centre = params.centres[j, f]
                for i in range(f * whole, (f + 1) * whole, lanes):
                    store(x, i, load_own(x, i) - centre)
            for i in range(0, rows, lanes):
                here = load_like(own, i, x)
                cut = where_less(NEVER, here, here + gap, -np.inf)
                for first in range(0, n_components, ABREAST):
                    if survivors(bounds, j, first, x, i, cut, alive, d) == 0.0:
                        continue
                    for k in range(first, min(first + ABREAST, n_components)):
                        count = counts[k]
                        if k != j:
                            for lane in range(min(lanes, rows - i)):
                                # always written, but only a survivor keeps its place
                                lists[k, count] = chosen[i + lane]
                                count += np.int32(alive[(k - first) * lanes + lane])
                        pairs += int(count - counts[k])
                        counts[k] = count
        if pairs > limit:
            return -1
    return pairs


@device
def _finish_survivors(data: Rows, params: Any, scratch: Any, labels: Labels) -> None:
    """Write the log2-densities of all pairs; each row's best one and its component."""
    n_components, d = params.means.shape
    lists, heights, chosen = scratch.lists, scratch.heights, scratch.chosen
    starts, counts, own_first = scratch.counts[0], scratch.counts[1], scratch.counts[2]
    best, found = scratch.by_row[0], scratch.tile[0]
    whole = tile_width(scratch.x.itemsize)
    for k in range(n_components):
        own_last = own_first[k] + starts[k + 1] - starts[k]
        t = 0
        while t < counts[k]:
            if own_first[k] <= t < own_last:  # they are known
                t = own_last
                continue
            stop = own_first[k] if t < own_first[k] else counts[k]
            rows = min(whole, stop - t)
            _choose(lists[k], t, rows, whole, chosen)
            prefetch_rows(data, lists[k], t + rows, min(t + rows + whole, stop), d)
            _log2_densities(params, k, data, chosen, scratch.x, scratch.work, found)
            for i in range(rows):
                heights[k, t + i] = found[i]
                if found[i] > best[chosen[i]]:
                    best[chosen[i]] = found[i]
                    labels[chosen[i]] = k
            t += rows


@device
def _exponentiate(scratch: Any, labels: Labels) -> None:
    """Turn log2-densities into responsibilities times the total."""
    lists, heights, counts = scratch.lists, scratch.heights, scratch.counts[1]
    best, total, x = scratch.by_row[0], scratch.by_row[1], scratch.x
    lanes = lanes_of(x.itemsize)
    total[:] = 0.0
    for k in range(lists.shape[0]):
        count, values, rows = counts[k], heights[k], lists[k]
        for e in range(count):
            top = best[rows[e]]
            values[e] -= top if top > NEVER else 0.0
        for e in range(count, (count + lanes - 1) // lanes * lanes):
            values[e] = LOWEST
        for e in range(0, count, lanes):
            store(values, e, exp2_or_0(load_like(values, e, x), x))
        for e in range(count):
            row = rows[e]
            if not best[row] > NEVER:  # all probability lies with the nearest component
                values[e] = 1.0 if labels[row] == k else 0.0
            total[row] += values[e]


@device
def _add_pairs(data: Rows, params: Any, bounds: Any, scratch: Any) -> None:
    """Add the moments of all pairs that count."""
    n_components, d = params.centres.shape
    x, lanes = scratch.x, lanes_of(scratch.x.itemsize)
    b, size = tile_rows(d, x.itemsize), tiles_size(d, x.itemsize)
    flat_centres = params.centres.reshape(n_components * d)
    lists, heights, counts = scratch.lists, scratch.heights, scratch.counts[1]
    chosen = scratch.chosen
    total, scale = scratch.by_row[1], scratch.by_row[2]
    kept, ones = scratch.tile[0], scratch.tile[1]
    v, cells = viewed(scratch.work[d * ROWS : size], params.centres.dtype), scratch.work[size:]
    ones[:] = 1.0
    for k in range(n_components):
        floor, e = bounds.floors[k], 0
        while e < counts[k]:
            rows = 0
            while e < counts[k] and rows < b:
                row, value = lists[k, e], heights[k, e]
                r = value * scale[row]
                if value >= floor * total[row] and r > 0.0:
                    chosen[rows] = row
                    kept[rows] = r
                    rows += 1
                e += 1
            if rows == 0:
                continue
            whole = (rows + lanes - 1) // lanes * lanes
            for i in range(rows, whole):
                chosen[i] = chosen[rows - 1]
                kept[i] = 0.0
            gather_rows(data, chosen, whole, d, x, whole)
            c = k * cells_size(d)
            add_blocks(x, whole, flat_centres, k * d, kept, 0, ones, v, cells, c, d)


@entry
def pruned_block(
    X: Rows,
    params: Any,
    weights: Array,
    bounds: Any,
    limit: int,
    labels: Labels,
    scratch: Any,
    statistics: Array,
) -> int:
    """Add the statistics of one block of rows, unless more than ``limit`` pairs may matter.

    X : IN (n, d), d > MOST; params : IN triangular; weights : IN (n,), or (0,) for ones; bounds :
    IN; labels : INOUT (n,) likely components, then the likeliest; scratch : WORK; statistics :
    INOUT flat.  Returns the pairs that were finished, or -1 when nothing was done.
    """
    use_wide_registers()
    n, d = X.shape
    n_components = params.means.shape[0]
    data = X.reshape(n * d)
    sort_rows(labels, scratch.counts[0], scratch.order)
    pairs = _list_survivors(data, params, bounds, scratch, limit)
    if pairs < 0:
        return pairs
    _finish_survivors(data, params, scratch, labels)
    best, total, scale, counted = scratch.by_row
    for i in range(n):
        if not best[i] > NEVER:
            labels[i] = nearest(params, X[i])
    _exponentiate(scratch, labels)
    load_weights(weights, 0, n, counted)
    for i in range(n, n + LANES):
        best[i], total[i] = 0.0, 1.0
    likelihood, weight = splat(0.0), splat(0.0)
    for i in range(0, n, LANES):
        w, top, sum_ = load(counted, i), load(best, i), load(total, i)
        density = where_less(NEVER, top, fma(top, LN2, log_positive(sum_)), -np.inf)
        # a row of weight 0 counts for nothing, even where its log-density is -inf
        likelihood = likelihood + where_less(0.0, w, w * density, 0.0)
        weight = weight + w
        store(scale, i, divide(w, sum_))
    mass, first, second = split_statistics(statistics, d, n_components)
    clear_moments(params, scratch.work)
    _add_pairs(data, params, bounds, scratch)
    finish_moments(params, scratch.work, mass, first, second)
    statistics[0] += lane_sum(likelihood)
    statistics[1] += lane_sum(weight)
    return pairs
