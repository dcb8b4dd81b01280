"""The fused E and M pass over one block of rows, and the maps from rows to densities.

Each entry point works on one block with scratch given by the caller; it neither allocates nor
raises, draws no random numbers and calls no BLAS, so that blocks may run on any thread.

Flat statistics (see ``fastgmm._stats``): ``[log-likelihood, weight, mass K, first K*d, second]``.
"""

from typing import Any

import numpy as np

from .arrays import Array, Labels, Rows
from .exp import LN2
from .kinds import (
    KernelParams,
    add_listed,
    add_moments,
    begin_tile,
    clear_moments,
    finish_moments,
    log2_densities,
    most_listed,
    nearest,
    rows_together,
    work_size,
)
from .lists import exponentiate_listed, list_pairs
from .loading import prefetch_stretch
from .options import device, entry, shared
from .simd import LANES, lane_sum, load, splat, store, use_wide_registers, where_less
from .tile import (
    NEVER,
    add_all,
    exponentiate,
    find_best,
    load_tile,
    load_weights,
    log_densities,
    padded,
    sum_log_densities,
    sum_weighted_log_densities,
    tile_rows,
)
from .views import viewed

# What a map writes for each row.
LOG_DENSITY, LABEL, PROBABILITIES, COMPONENT_LOG_DENSITIES = range(4)

_LINE = 8  # float64 in a cache line
# Where too many pairs count to list them, this is not tried in so many tiles after.
_PATIENCE = 16


def scratch_size(params: KernelParams) -> int:
    """Return how many float64 the entry points of this file need as scratch."""
    n_components, d = map(int, params.means.shape)
    width = params.centres.itemsize
    b = tile_rows(d, width)
    tile = padded(d, width) * b * width // 8
    lists = _lines(n_components) + _lists_size(n_components, b)
    return tile + n_components * b + 4 * b + lists + work_size(params) + 4 * _LINE


@shared
def _lines(n: int) -> int:
    """Return the numbers in as many cache lines as hold n of them."""
    return (n + _LINE - 1) // _LINE * _LINE


@shared
def _lists_size(n_components: int, b: int) -> int:
    """Return the float64 that lists of all pairs of a tile take, and their lengths."""
    return _lines(n_components * (b + 1) // 2 + 1)


@device
def regions(scratch: Array, params: Any) -> Any:
    """Divide the scratch: x, h, best, weights, scale, total, everyone, lists and the kind's work.

    Each begins on a cache line, which makes them faster.  everyone (K,) is filled with the numbers
    of the components: all of them are active.  lists : (K b + K,), see ``lists.py``.
    """
    n_components, d = params.means.shape
    width = params.centres.itemsize
    b = tile_rows(d, width)
    place = (-scratch.ctypes.data // 8) % _LINE
    size = padded(d, width) * b * width // 8
    x = viewed(scratch[place : place + size], params.centres.dtype)
    place += size
    h = scratch[place : place + n_components * b]
    place += n_components * b
    best = scratch[place : place + b]
    weights = scratch[place + b : place + 2 * b]
    scale = scratch[place + 2 * b : place + 3 * b]
    total = scratch[place + 3 * b : place + 4 * b]
    place += 4 * b
    everyone = viewed(scratch[place : place + n_components], np.int64)
    for k in range(n_components):
        everyone[k] = k
    place += _lines(n_components)
    lists = viewed(scratch[place : place + _lists_size(n_components, b)], np.int32)
    work = scratch[place + _lists_size(n_components, b) :]
    return x, h, best, weights, scale, total, everyone, lists[: n_components * (b + 1)], work


@device
def split_statistics(statistics: Array, d: int, n_components: int) -> Any:
    """Divide flat statistics into mass, first and second moments."""
    mass = statistics[2 : 2 + n_components]
    start = 2 + n_components
    first = statistics[start : start + n_components * d].reshape(n_components, d)
    start += n_components * d
    columns = (statistics.shape[0] - start) // n_components
    second = statistics[start:].reshape(n_components, columns)
    return mass, first, second


@device
def place_lost(params: Any, active: Array, row: Array, h: Array, i: int, b: int) -> None:
    """Give row i of a tile, of density 0, to its nearest component; all must be active."""
    k = nearest(params, row)
    for p in range(active.shape[0]):
        if active[p] == k:
            h[p * b + i] = 1.0


@device
def _ask_for(X: Rows, start: int, part: int, rows: int) -> None:
    """Ask for a part of the rows of the next tile: of all at once some would have to wait."""
    n, d = X.shape
    first, last = start + part * rows // 4, start + (part + 1) * rows // 4
    prefetch_stretch(X.reshape(n * d), min(first, n) * d, min(last, n) * d)


@device
def _add_block(
    X: Rows, params: Any, weights: Array, gaps: Array, scratch: Array, statistics: Array
) -> None:
    """Add the statistics of one block of rows; see ``em_block``."""
    n_components, d = params.means.shape
    whole, together = tile_rows(d, params.centres.itemsize), rows_together(params)
    x, whole_h, whole_best, whole_weights, whole_scale, whole_total, everyone, lists, work = (
        regions(scratch, params)
    )
    mass, first, second = split_statistics(statistics, d, n_components)
    likelihood, weight = 0.0, splat(0.0)
    counts, wait = lists[n_components * whole :], 0
    most = most_listed(params) if gaps.shape[0] > 0 else 0.0
    clear_moments(params, work)
    for start in range(0, X.shape[0], whole):
        rows = min(whole, X.shape[0] - start)
        b = (rows + together - 1) // together * together  # fewer rows in the last tile
        h, best, tile_weights = whole_h[: n_components * b], whole_best[:b], whole_weights[:b]
        scale, total = whole_scale[:b], whole_total[:b]
        ahead = start + whole
        load_tile(X, start, b, x)
        load_weights(weights, start, rows, tile_weights)
        begin_tile(params, x, b, work)
        _ask_for(X, ahead, 0, whole)
        log2_densities(params, everyone, x, h, work)
        _ask_for(X, ahead, 1, whole)
        find_best(h, best)
        _ask_for(X, ahead, 2, whole)
        few, wait = False, wait - 1
        if most > 0.0 and wait < 0:
            few = list_pairs(h, best, gaps, everyone, lists, counts) <= most * h.shape[0]
            wait = 0 if few else _PATIENCE
        if few:
            exponentiate_listed(h, best, lists, counts, tile_weights, scale, total, x)
        elif exponentiate(h, best, tile_weights, scale, total, x) > 0.0:
            for i in range(rows):
                if not best[i] > NEVER:
                    place_lost(params, everyone, X[start + i], h, i, b)
        if weights.shape[0] == 0:
            likelihood += sum_log_densities(best, total, rows)
        else:
            likelihood += sum_weighted_log_densities(best, total, tile_weights)
        weight = add_all(weight, tile_weights)
        _ask_for(X, ahead, 3, whole)
        if few:
            add_listed(params, lists, counts, h, scale, work)
        else:
            add_moments(params, everyone, x, h, scale, work, mass, first, second)
    finish_moments(params, work, mass, first, second)
    statistics[0] += likelihood
    statistics[1] += lane_sum(weight)


@device
def _add_last(partial: Array, waiting: int, statistics: Array) -> None:
    """Add the last of the sums in statistics and partial to the one before: so many are left."""
    target = statistics
    if waiting > 1:
        target = partial[waiting - 2]
    for i in range(target.shape[0]):
        target[i] += partial[waiting - 1, i]


@entry
def em_block(
    X: Rows,
    params: Any,
    weights: Array,
    gaps: Array,
    each: int,
    scratch: Array,
    partial: Array,
    statistics: Array,
) -> None:
    """Add the statistics of one block of rows, or of several, one after the other.

    X : IN (n, d); params : IN; weights : IN (n,), or (0,) for ones; gaps : IN (K,), by how much
    less than the best a log2-density counts, or (0,) for all; each : rows of a block, the last may
    have fewer; scratch : WORK; partial : WORK (l, m), for up to 2**l blocks; statistics : INOUT
    flat (m,).

    Where few pairs count, they are listed; each tile tells, and each block begins anew.  Sums of
    blocks are added in pairs, then the sums of pairs, and so on.
    """
    use_wide_registers()
    done, waiting = 0, 0
    for start in range(0, X.shape[0], max(1, each)):
        target = statistics
        if waiting > 0:
            target = partial[waiting - 1]
            target[:] = 0.0
        stop = start + each
        _add_block(X[start:stop], params, weights[start:stop], gaps, scratch, target)
        done, waiting = done + 1, waiting + 1
        pairs = done
        while pairs & 1 == 0:
            pairs, waiting = pairs >> 1, waiting - 1
            _add_last(partial, waiting, statistics)
    while waiting > 1:
        waiting -= 1
        _add_last(partial, waiting, statistics)


@device
def _write_labels(
    params: Any, X: Rows, start: int, rows: int, h: Array, best: Array, labels: Labels
) -> None:
    """Write the component of the largest log-density of each row; the first one wins a tie.

    h : the log-densities (K b,), then WORK; best : WORK (b,).
    """
    b = best.shape[0]
    for i in range(0, b, LANES):
        top, number = load(h, i), splat(0.0)
        for k in range(1, h.shape[0] // b):
            value = load(h, k * b + i)
            number = where_less(top, value, float(k), number)
            top = where_less(top, value, value, top)
        store(h, i, number)
        store(best, i, top)
    for i in range(rows):
        labels[start + i] = np.int64(h[i])
        if not best[i] > NEVER:
            labels[start + i] = nearest(params, X[start + i])


@entry
def map_block(X: Rows, params: Any, what: int, scratch: Array, out: Array, labels: Labels) -> None:
    """Map one block of rows to what is asked for.

    X : IN (n, d); params : IN; what : one of the constants of this file; scratch : WORK;
    out : OUT (n, 1) or (n, K) float64, or labels : OUT (n,) int64, whichever it needs.
    """
    use_wide_registers()
    n_components, d = params.means.shape
    whole, together = tile_rows(d, params.centres.itemsize), rows_together(params)
    x, whole_h, whole_best, whole_weights, whole_scale, whole_total, everyone, _, work = regions(
        scratch, params
    )
    for i in range(whole_weights.shape[0]):
        whole_weights[i] = 1.0
    for start in range(0, X.shape[0], whole):
        rows = min(whole, X.shape[0] - start)
        # fewer in the last tile: a single row of live data must not cost a whole one
        b = (rows + together - 1) // together * together
        h, best, tile_weights = whole_h[: n_components * b], whole_best[:b], whole_weights[:b]
        scale, total = whole_scale[:b], whole_total[:b]
        load_tile(X, start, b, x)
        begin_tile(params, x, b, work)
        log2_densities(params, everyone, x, h, work)
        if what == LABEL:
            _write_labels(params, X, start, rows, h, best, labels)
            continue
        if what == COMPONENT_LOG_DENSITIES:
            for i in range(rows):
                for k in range(n_components):
                    out[start + i, k] = LN2 * h[k * b + i]
            continue
        find_best(h, best)
        lost = exponentiate(h, best, tile_weights, scale, total, x)
        if what == LOG_DENSITY:
            log_densities(best, total, total)
            for i in range(rows):
                out[start + i, 0] = total[i]
            continue
        if lost > 0.0:
            for i in range(rows):
                if not best[i] > NEVER:
                    place_lost(params, everyone, X[start + i], h, i, b)
        for i in range(rows):
            for k in range(n_components):
                out[start + i, k] = h[k * b + i] * scale[i]


@entry
def moments_block(
    X: Rows, params: Any, responsibilities: Array, scratch: Array, statistics: Array
) -> None:
    """Add the statistics of one block of rows for given responsibilities; no log-likelihood.

    X : IN (n, d); params : IN, of which only the means count; responsibilities : IN (n, K),
    weights included; scratch : WORK; statistics : INOUT flat.
    """
    use_wide_registers()
    n_components, d = params.means.shape
    b = tile_rows(d, params.centres.itemsize)
    x, h, _, _, scale, _, everyone, _, work = regions(scratch, params)
    mass, first, second = split_statistics(statistics, d, n_components)
    for i in range(b):
        scale[i] = 1.0
    clear_moments(params, work)
    for start in range(0, X.shape[0], b):
        rows = min(b, X.shape[0] - start)
        load_tile(X, start, b, x)
        for k in range(n_components):
            for i in range(b):
                r = responsibilities[start + i, k] if i < rows else 0.0
                h[k * b + i] = r
                statistics[1] += r
        add_moments(params, everyone, x, h, scale, work, mass, first, second)
    finish_moments(params, work, mass, first, second)
