"""Which components can matter to a row, by d multiply-adds each: for the pass that skips pairs.

For a row x of component j, the square distance to component k is at least
``(u . T_k (x - m_k))^2`` with u the unit vector along ``T_k (m_j - m_k)``.  That is the square of
``a . (x - m_j) + |T_k (m_j - m_k)|`` with one vector ``a = T_k^T u`` for each pair of components.

Tiles of float32 rows add a shift to what their factors give (see ``tiles.py``), and so does this:
it bounds what those tiles compute.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array, Rows
from .emitter import LANES
from .exp import LOG2_E
from .loading import lanes_of
from .options import device, entry, shared
from .simd import fma, lane_sum, load_like, load_own, splat_own, store, where_less
from .tiles import tile_width

ABREAST = 8  # components whose bounds are worked out together
# Half the square bound, less what its rounding may have added, to base 2.
_HALF = -0.5 * 0.999 * LOG2_E


class Bounds(NamedTuple):
    """What tells which pairs cannot matter; every array is C-contiguous."""

    # (K * groups * d * ABREAST,), vectors T_k^T u by j, group of k, feature, k; the tiles' type
    directions: Array
    distances: Array  # (K, groups * ABREAST), |T_k (m_j - m_k)| by j and k
    peaks: Array  # (groups * ABREAST,): the largest log2-density; inf for components never skipped
    floors: Array  # (K,): smaller responsibilities do not count
    gap: Array  # (1,): the log2 of the smallest responsibility that counts


@shared
def groups(n_components: int) -> int:
    """Return how many groups of components there are."""
    return (n_components + ABREAST - 1) // ABREAST


def empty_bounds(n_components: int, d: int, dtype: DTypeLike) -> Bounds:
    """Return bounds to be filled."""
    columns = groups(n_components) * ABREAST
    return Bounds(
        np.zeros(n_components * columns * d, dtype),
        np.zeros((n_components, columns)),
        np.full(columns, -np.inf),
        np.zeros(n_components),
        np.zeros(1),
    )


@device
def _unpack(factors: Array, k: int, d: int, out: Array) -> None:
    """Write the lower triangle of packed factor k to out (d, d)."""
    place, end = 0, d
    while end > 0:
        height = min(LANES, end)
        for j in range(end):
            for i in range(height):
                out[end - height + i, j] = factors[k, place + j * height + i]
        place += end * height
        end -= height


@entry
def fill_directions(means: Rows, params: Any, work: Array, bounds: Any) -> None:
    """Write the vectors and distances of all pairs of components.

    means : IN (K, d), those of params; params : IN; work : WORK (d + 2, d); bounds : OUT.
    """
    n_components, d = means.shape
    directions, distances, shifts = bounds.directions, bounds.distances, params.shifts
    factor, offset, image = work[:d], work[d], work[d + 1]
    columns = groups(n_components) * ABREAST
    for k in range(n_components):
        _unpack(params.factors, k, d, factor)
        for j in range(n_components):
            square = 0.0
            for i in range(d):
                offset[i] = means[j, i] - means[k, i]
                image[i] = 0.0
            for i in range(d):
                total = 0.0 if shifts.shape[0] == 0 else float(shifts[k, i])
                for f in range(i + 1):
                    total += factor[i, f] * offset[f]
                square += total * total
                for f in range(i + 1):
                    image[f] += total * factor[i, f]
            distance = np.sqrt(square)
            usable = 0.0 < distance < np.inf  # else the bound is 0: nothing is skipped
            place = j * columns * d + k // ABREAST * ABREAST * d + k % ABREAST
            for f in range(d):
                directions[place + f * ABREAST] = image[f] / distance if usable else 0.0
            distances[j, k] = distance if usable else 0.0


@device
def survivors(
    bounds: Any, j: int, first: int, x: Array, i: int, cut: Any, alive: Array, d: int
) -> float:
    """Mark which of `ABREAST` components from ``first`` on may matter to rows i, i+1, ... of x.

    x holds rows centred on component j; cut is a register as `load_like` gives; alive becomes 1
    or 0.  Returns the sum of alive.
    """
    directions, distances, peaks = bounds.directions, bounds.distances, bounds.peaks
    columns = peaks.shape[0]
    place, stride = (j * columns + first) * d, tile_width(x.itemsize)
    s0, s1 = splat_own(distances[j, first], x), splat_own(distances[j, first + 1], x)
    s2, s3 = splat_own(distances[j, first + 2], x), splat_own(distances[j, first + 3], x)
    s4, s5 = splat_own(distances[j, first + 4], x), splat_own(distances[j, first + 5], x)
    s6, s7 = splat_own(distances[j, first + 6], x), splat_own(distances[j, first + 7], x)
    for f in range(d):
        z = load_own(x, f * stride + i)
        s0 = fma(z, directions[place], s0)
        s1 = fma(z, directions[place + 1], s1)
        s2 = fma(z, directions[place + 2], s2)
        s3 = fma(z, directions[place + 3], s3)
        s4 = fma(z, directions[place + 4], s4)
        s5 = fma(z, directions[place + 5], s5)
        s6 = fma(z, directions[place + 6], s6)
        s7 = fma(z, directions[place + 7], s7)
        place += ABREAST
    total = _mark(s0, peaks[first], cut, x, alive, 0)
    total = total + _mark(s1, peaks[first + 1], cut, x, alive, 1)
    total = total + _mark(s2, peaks[first + 2], cut, x, alive, 2)
    total = total + _mark(s3, peaks[first + 3], cut, x, alive, 3)
    total = total + _mark(s4, peaks[first + 4], cut, x, alive, 4)
    total = total + _mark(s5, peaks[first + 5], cut, x, alive, 5)
    total = total + _mark(s6, peaks[first + 6], cut, x, alive, 6)
    total = total + _mark(s7, peaks[first + 7], cut, x, alive, 7)
    return lane_sum(total)


@device
def _mark(projection: Any, peak: float, cut: Any, x: Array, alive: Array, number: int) -> Any:
    """Return 1 for rows whose log-density may be above the cut, else 0 (NaN is above)."""
    place = number * lanes_of(x.itemsize)
    store(alive, place, projection)
    wide = load_like(alive, place, x)
    upper = fma(wide * wide, _HALF, peak)
    mark = where_less(upper, cut, 0.0, 1.0)
    store(alive, place, mark)
    return mark
