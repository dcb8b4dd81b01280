"""The fused E and M pass over a block, without the (tile, component) pairs that cannot matter.

For kinds whose pairs cost little more than a bound on them.  The rows are sorted by their likely
component and, within it, by how far out they are, so that the rows of a tile have the same
neighbours.  The component's distances to the others tell which of them may matter to any row of
the tile (see ``reaches.py``); of these the E-step is made, and it tells exactly.  The tile then
goes through the functions of the dense pass, with the components that are left.

What is skipped is a function of the rows, the parameters and the keys they are sorted by alone.
"""

from typing import Any

import numpy as np

from .arrays import Array, Indices, Labels, Rows
from .em_pass import place_lost, regions, scratch_size, split_statistics
from .exp import LN2, LOG2_E
from .kinds import (
    KernelParams,
    add_moments,
    begin_tile,
    clear_moments,
    finish_moments,
    log2_densities,
    nearest,
    rows_together,
)
from .loading import gather_rows, prefetch_rows
from .options import device, entry
from .simd import LANES, fma, lane_sum, load, root, splat, store, use_wide_registers, where_less
from .sorting import SortedScratch, sort_rows, sorted_scratch
from .tile import (
    NEVER,
    add_all,
    choose_rows,
    choose_weights,
    exponentiate,
    find_best,
    padded,
    sum_log_densities,
    sum_weighted_log_densities,
)

# Rows are sorted by their component times RINGS, plus a ring: how far out they are.
RINGS = 8
_RINGS_PER_UNIT = 2.5  # distances from the own component spread by about 0.7, whatever d
# Rows of a tile at most: few, so that they have few neighbours.
TILE = 72


def scratch_for(params: KernelParams, n: int) -> SortedScratch:
    """Return scratch for blocks of up to n rows."""
    return sorted_scratch(scratch_size(params), len(params.means) * RINGS, n, 2 * TILE)


@device
def _count_in_reach(limits: Array, own: Array) -> int:
    """Return how many components of the front of a list may matter to rows of a tile.

    own : their log2-densities in their own component, never NaN.
    """
    lowest = splat(np.inf)
    for i in range(0, own.shape[0], LANES):
        here = load(own, i)
        lowest = where_less(here, lowest, here, lowest)
    store(own, 0, lowest)
    low = own[0]
    for i in range(1, LANES):
        low = min(low, own[i])
    count = 1
    while count < limits.shape[0] and not low > limits[count]:
        count += 1
    return count


@device
def _keep_what_counts(gaps: Array, count: int, h: Array, best: Array, active: Array) -> int:
    """Move to the front the components that count for any row of a tile; return how many.

    A row of density 0 has no best component: then all of them stay.
    """
    b = best.shape[0]
    kept = 0
    for p in range(count):
        k = active[p]
        gap = gaps[k]
        counting = splat(0.0)
        for i in range(0, b, LANES):
            counting = counting + where_less(load(h, p * b + i), load(best, i) + gap, 0.0, 1.0)
        if lane_sum(counting) > 0.0:
            if kept < p:
                active[kept] = k
                for i in range(0, b, LANES):
                    store(h, kept * b + i, load(h, p * b + i))
            kept += 1
    return kept


@device
def _write_keys(
    params: Any, active: Array, h: Array, numbers: Array, rings: Array, chosen: Indices,
    rows: int, keys: Labels,
) -> None:  # fmt: skip
    """Write each row's likeliest component and its ring there; numbers and rings are scratch."""
    constants, d = params.constants, params.means.shape[1]
    b = numbers.shape[0]
    first = 0.5 * RINGS + 0.5 - _RINGS_PER_UNIT * np.sqrt(d)
    for i in range(0, b, LANES):
        top = load(h, i)
        number, peak = splat(float(active[0])), splat(LOG2_E * constants[active[0]])
        for p in range(1, active.shape[0]):
            k = active[p]
            value = load(h, p * b + i)
            number = where_less(top, value, float(k), number)
            peak = where_less(top, value, LOG2_E * constants[k], peak)
            top = where_less(top, value, value, top)
        square = where_less(top, peak, 2.0 * LN2 * (peak - top), 0.0)
        ring = fma(root(square), _RINGS_PER_UNIT, first)
        ring = where_less(ring, RINGS - 0.5, ring, RINGS - 0.5)  # NaN and infinity, too
        store(rings, i, where_less(0.0, ring, ring, 0.0))
        store(numbers, i, number)
    for i in range(rows):
        keys[chosen[i]] = np.int64(numbers[i]) * RINGS + np.int64(rings[i])


@entry
def pruned_tiles_block(
    X: Rows,
    params: Any,
    weights: Array,
    reaches: Any,
    keys: Labels,
    scratch: Any,
    statistics: Array,
) -> float:
    """Add the statistics of one block of rows.

    X : IN (n, d); params : IN; weights : IN (n,), or (0,) for ones; reaches : IN; keys : INOUT
    (n,) likely components times RINGS plus a ring, then the likeliest; scratch : WORK;
    statistics : INOUT flat.  Returns the pairs that were finished: half a pair is its log-density,
    the other half its part in the responsibilities and moments.
    """
    use_wide_registers()
    n, d = X.shape
    n_components, width = params.means.shape[0], params.centres.itemsize
    data = X.reshape(n * d)
    starts, order, chosen = scratch.starts, scratch.order, scratch.chosen
    whole_x, whole_h, whole_best, whole_weights, whole_scale, whole_total, active, _, work = (
        regions(scratch.numbers, params)
    )
    mass, first, second = split_statistics(statistics, d, n_components)
    sort_rows(keys, starts, order)
    likelihood, weight, pairs = 0.0, splat(0.0), 0.0
    together = rows_together(params)
    tile = TILE // together * together
    clear_moments(params, work)
    for j in range(n_components):
        stop = starts[(j + 1) * RINGS]
        for start in range(starts[j * RINGS], stop, tile):
            rows = min(tile, stop - start)
            b = (rows + together - 1) // together * together
            x, h, best = (
                whole_x[: padded(d, width) * b],
                whole_h[: n_components * b],
                whole_best[:b],
            )
            tile_weights, scale, total = whole_weights[:b], whole_scale[:b], whole_total[:b]
            choose_rows(order, start, rows, b, chosen)
            gather_rows(data, chosen, b, d, x, b)
            prefetch_rows(data, order, start + rows, min(start + rows + tile, n), d)
            choose_weights(weights, chosen, rows, tile_weights)
            begin_tile(params, x, b, work)
            begin, count = 0, 1  # the own component; then those that it leaves in reach
            while begin < count:
                for p in range(begin, count):
                    active[p] = reaches.order[j, p]
                log2_densities(params, active[begin:count], x, h[begin * b : count * b], work)
                begin = count
                if count == 1:
                    for i in range(0, b, LANES):
                        store(scale, i, load(h, i))
                    count = _count_in_reach(reaches.limits[j], scale)
            find_best(h[: count * b], best)
            kept = _keep_what_counts(reaches.gaps, count, h, best, active)
            pairs += 0.5 * rows * (count + kept)
            left, heights = active[:kept], h[: kept * b]
            _write_keys(params, left, heights, total, scale, chosen, rows, keys)
            lost = exponentiate(heights, best, tile_weights, scale, total, x)
            if lost > 0.0:
                for i in range(rows):
                    if not best[i] > NEVER:
                        row = X[chosen[i]]
                        keys[chosen[i]] = nearest(params, row) * RINGS
                        place_lost(params, left, row, heights, i, b)
            if weights.shape[0] == 0:
                likelihood += sum_log_densities(best, total, rows)
            else:
                likelihood += sum_weighted_log_densities(best, total, tile_weights)
            weight = add_all(weight, tile_weights)
            add_moments(params, left, x, heights, scale, work, mass, first, second)
    finish_moments(params, work, mass, first, second)
    statistics[0] += likelihood
    statistics[1] += lane_sum(weight)
    return pairs
