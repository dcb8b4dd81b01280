"""Products of features of rows that belong to one component each: the M-step's tiles, by label.

Without products, `lloyd.labelled_block` is faster: it reads rows as they come.
"""

from typing import Any

from .arrays import Array, Labels, Rows
from .em_pass import regions, scratch_size, split_statistics
from .kinds import KernelParams, add_moments, clear_moments, finish_moments
from .loading import gather_rows
from .options import entry
from .simd import LANES, lane_sum, splat, use_wide_registers
from .sorting import SortedScratch, sort_rows, sorted_scratch
from .tile import add_all, choose_rows, choose_weights, padded, tile_rows


def scratch_for(params: KernelParams, n: int) -> SortedScratch:
    """Return scratch for blocks of up to n rows."""
    n_components, d = map(int, params.means.shape)
    return sorted_scratch(scratch_size(params), n_components, n, tile_rows(d))


@entry
def labelled_products_block(
    X: Rows, params: Any, weights: Array, labels: Labels, scratch: Any, statistics: Array
) -> None:
    """Add the moments of rows that belong to one component each, products of features included.

    X : IN (n, d); params : IN, of which only the means count, float64; weights : IN (n,) or (0,)
    for ones; labels : IN (n,) int32; scratch : WORK, for n rows; statistics : INOUT flat, as in
    ``em_pass``.
    """
    use_wide_registers()
    n, d = X.shape
    n_components = params.means.shape[0]
    data = X.reshape(n * d)
    starts, order, chosen = scratch.starts, scratch.order, scratch.chosen
    whole_x, _, _, whole_h, whole_ones, _, active, _, work = regions(scratch.numbers, params)
    mass, first, second = split_statistics(statistics, d, n_components)
    most = chosen.shape[0]
    weight = splat(0.0)
    for i in range(most):
        whole_ones[i] = 1.0
    sort_rows(labels, starts, order)
    clear_moments(params, work)
    for k in range(n_components):
        active[0] = k
        for start in range(starts[k], starts[k + 1], most):
            rows = min(most, starts[k + 1] - start)
            b = (rows + LANES - 1) // LANES * LANES
            x, h, ones = whole_x[: padded(d) * b], whole_h[:b], whole_ones[:b]
            choose_rows(order, start, rows, b, chosen)
            gather_rows(data, chosen, b, d, x, b)
            choose_weights(weights, chosen, rows, h)
            weight = add_all(weight, h)
            add_moments(params, active[:1], x, h, ones, work, mass, first, second)
    finish_moments(params, work, mass, first, second)
    statistics[1] += lane_sum(weight)
