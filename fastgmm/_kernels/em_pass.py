"""The fused E and M pass over one block of rows, and the maps from rows to densities.

Each entry point works on one block with scratch given by the caller; it neither allocates nor
raises, draws no random numbers and calls no BLAS, so that blocks may run on any thread.

Flat statistics (see ``fastgmm._stats``): ``[log-likelihood, weight, mass K, first K*d, second]``.
"""

from typing import Any

import numpy as np

from .arrays import Array, Labels, Rows
from .kinds import add_moments, log_density, nearest
from .options import device, entry
from .tile import exponentiate, load, log_totals, scale_columns, tile_rows

# What a map writes for each row.
LOG_DENSITY, LABEL, PROBABILITIES, COMPONENT_LOG_DENSITIES = range(4)


def scratch_size(n_features: int, n_components: int) -> int:
    """Return how many float64 the entry points of this file need as scratch."""
    return tile_rows(n_features, n_components) * (2 * n_features + n_components + 4)


@device
def _split(scratch: Array, d: int, n_components: int) -> Any:
    """Divide the scratch into tile, work, logs and three vectors; return them and the tile size."""
    rows = scratch.shape[0] // (2 * d + n_components + 4)
    tile = scratch[: d * rows].reshape(d, rows)
    work = scratch[d * rows : (2 * d + 1) * rows].reshape(d + 1, rows)
    start = (2 * d + 1) * rows
    logs = scratch[start : start + n_components * rows].reshape(n_components, rows)
    start += n_components * rows
    top = scratch[start : start + rows]
    total = scratch[start + rows : start + 2 * rows]
    density = scratch[start + 2 * rows : start + 3 * rows]
    return rows, tile, work, logs, top, total, density


@device
def _split_statistics(statistics: Array, d: int, n_components: int) -> Any:
    mass = statistics[2 : 2 + n_components]
    start = 2 + n_components
    first = statistics[start : start + n_components * d].reshape(n_components, d)
    start += n_components * d
    columns = (statistics.shape[0] - start) // n_components
    second = statistics[start:].reshape(n_components, columns)
    return mass, first, second


@device
def _weigh(
    logs: Array,
    rows: int,
    start: int,
    weights: Array,
    total: Array,
    density: Array,
    statistics: Array,
) -> None:
    """Turn exponentials into weighted responsibilities; add log-likelihood and weight."""
    log_likelihood = 0.0
    if weights.shape[0] == 0:
        for b in range(rows):
            log_likelihood += density[b]
            total[b] = 1.0 / total[b]
        statistics[1] += rows
    else:
        weight = 0.0
        for b in range(rows):
            w = weights[start + b]
            # a row of weight 0 counts for nothing, even where its log-density is -inf
            log_likelihood += w * density[b] if w > 0.0 else 0.0
            weight += w
            total[b] = w / total[b]
        statistics[1] += weight
    statistics[0] += log_likelihood
    scale_columns(logs, rows, total)


@device
def _place_lost(params: Any, tile: Array, rows: int, logs: Array, total: Array) -> None:
    """Give each row of density 0 to its nearest component."""
    for b in range(rows):
        if total[b] == 0.0:
            logs[nearest(params, tile[:, b]), b] = 1.0
            total[b] = 1.0


@entry
def em_block(X: Rows, params: Any, weights: Array, scratch: Array, statistics: Array) -> None:
    """Add the statistics of one block of rows.

    X : IN (n, d); params : IN; weights : IN (n,), or (0,) for ones; scratch : WORK;
    statistics : INOUT flat.
    """
    n_components, d = params.means.shape
    size, tile, work, logs, top, total, density = _split(scratch, d, n_components)
    mass, first, second = _split_statistics(statistics, d, n_components)
    for start in range(0, X.shape[0], size):
        rows = min(size, X.shape[0] - start)
        load(X, start, rows, tile)
        log_density(params, tile, rows, work, logs)
        lost = exponentiate(logs, rows, top, total)
        log_totals(top, total, rows, density)
        if lost > 0:
            _place_lost(params, tile, rows, logs, total)
        _weigh(logs, rows, start, weights, total, density, statistics)
        add_moments(params, tile, rows, logs, work, mass, first, second)


@device
def _write_row_labels(logs: Array, rows: int, top: Array, labels: Labels, start: int) -> None:
    """Write the index of the largest log-density of each row; the first one wins a tie."""
    for b in range(rows):
        top[b] = logs[0, b]
        labels[start + b] = 0
    for k in range(1, logs.shape[0]):
        for b in range(rows):
            larger = logs[k, b] > top[b]
            top[b] = logs[k, b] if larger else top[b]
            labels[start + b] = k if larger else labels[start + b]


@device
def _write_transposed(logs: Array, rows: int, start: int, out: Array) -> None:
    for b in range(rows):
        for k in range(logs.shape[0]):
            out[start + b, k] = logs[k, b]


@device
def _normalise(logs: Array, rows: int, total: Array) -> None:
    for b in range(rows):
        total[b] = 1.0 / total[b]
    scale_columns(logs, rows, total)


@entry
def map_block(X: Rows, params: Any, what: int, scratch: Array, out: Array, labels: Labels) -> None:
    """Map one block of rows to what is asked for.

    X : IN (n, d); params : IN; what : one of the constants of this file; scratch : WORK;
    out : OUT (n, 1) or (n, K) float64, or labels : OUT (n,) int64, whichever it needs.
    """
    n_components, d = params.means.shape
    size, tile, work, logs, top, total, _ = _split(scratch, d, n_components)
    for start in range(0, X.shape[0], size):
        rows = min(size, X.shape[0] - start)
        load(X, start, rows, tile)
        log_density(params, tile, rows, work, logs)
        if what == COMPONENT_LOG_DENSITIES:
            _write_transposed(logs, rows, start, out)
        elif what == LABEL:
            _write_row_labels(logs, rows, top, labels, start)
            for b in range(rows):
                if top[b] == -np.inf:
                    labels[start + b] = nearest(params, tile[:, b])
        else:
            lost = exponentiate(logs, rows, top, total)
            if what == LOG_DENSITY:
                log_totals(top, total, rows, out[start : start + rows, 0])
            else:
                if lost > 0:
                    _place_lost(params, tile, rows, logs, total)
                _normalise(logs, rows, total)
                _write_transposed(logs, rows, start, out)


@entry
def moments_block(
    X: Rows, params: Any, responsibilities: Array, scratch: Array, statistics: Array
) -> None:
    """Add the statistics of one block of rows for given responsibilities; no log-likelihood.

    X : IN (n, d); params : IN, of which only the means count; responsibilities : IN (n, K),
    weights included; scratch : WORK; statistics : INOUT flat.
    """
    n_components, d = params.means.shape
    size, tile, work, logs, _, _, _ = _split(scratch, d, n_components)
    mass, first, second = _split_statistics(statistics, d, n_components)
    for start in range(0, X.shape[0], size):
        rows = min(size, X.shape[0] - start)
        load(X, start, rows, tile)
        for k in range(n_components):
            for b in range(rows):
                logs[k, b] = responsibilities[start + b, k]
                statistics[1] += responsibilities[start + b, k]
        add_moments(params, tile, rows, logs, work, mass, first, second)
