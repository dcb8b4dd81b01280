"""From where on another component can matter to a row, told by the row's own component alone.

In the metric of component k, a row at the distance r from its own component j, in the metric of j,
is no nearer to k than ``D_jk - s_jk r``: D_jk is how far apart the centres are, as k sees it, and
s_jk by how much lengths may grow from j's metric to k's.  So k matters to no row of j whose own
log-density is above a limit.  Each component has a list of the others, by falling limits: a tile
of its rows takes the front of that list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Rows
from .exp import LOG2_E
from .kinds import KernelParams, separations
from .options import entry
from .simd import use_wide_registers
from .tiny import MOST
from .triangular_separations import work_size

# A half, less what rounding may have added to the square bound.
_HALF = 0.5 * 0.999
# By this the distances are taken to be smaller, and stretches to be larger, than they came out.
_ROUNDING = 1e-12


class Reaches(NamedTuple):
    """What tells which components may matter to a tile; every array is C-contiguous."""

    order: NDArray[np.int64]  # (K, K): for each component, itself and then the others
    limits: Array  # (K, K): in that order, the own log2-density above which none matters
    gaps: Array  # (K,): by how much less than the best a log2-density counts; or -inf


@entry
def all_separations(
    means: Rows, params: KernelParams, work: Array, distances: Array, stretches: Array
) -> None:
    """Write how far apart components j and k are, and the largest stretch from j to k, to [j, k].

    means : IN (K, d), those of params; params : IN; work : WORK, as `separations` takes it;
    distances, stretches : OUT (K, K).
    """
    use_wide_registers()
    for j in range(means.shape[0]):
        separations(params, j, work, distances[j], stretches[j])


def separations_of(params: KernelParams) -> tuple[Array, Array]:
    """Return how far apart components j and k are, and the largest stretch from j to k: (K, K)."""
    n_components, d = params.means.shape
    distances, stretches = np.empty((2, n_components, n_components))
    work = np.empty(work_size(min(d, MOST)))  # kinds of more features need none
    all_separations(params.means, params, work, distances, stretches)
    return distances, stretches


def reaches_for(params: KernelParams, skipped: NDArray[np.bool_], gap: float) -> Reaches:
    """Return the reaches of components (K,) of which some must not be ``skipped``.

    gap : the logarithm of the smallest responsibility that counts.
    """
    distances, stretches = separations_of(params)
    distances *= 1.0 - _ROUNDING
    stretches *= 1.0 + _ROUNDING
    peaks = params.constants[:, None]
    with np.errstate(all="ignore"):
        # k is out of reach as long as  _HALF (D - s r)^2 + spare > r^2 / 2, or, once r is so
        # large that the bound D - s r is 0, as long as  spare > r^2 / 2
        spare = peaks + gap - peaks.T
        at_centre = _HALF * distances**2 + spare
        slope = _HALF * distances * stretches
        curvature = _HALF * stretches**2 - 0.5
        crossing = at_centre / (slope + np.sqrt(slope**2 - curvature * at_centre))
        beyond = spare > 0.5 * (distances / stretches) ** 2
        square = np.where(beyond, 2.0 * spare, crossing**2)
        limits = LOG2_E * (peaks - 0.5 * square)
        usable = skipped & (at_centre > 0.0) & np.isfinite(distances) & np.isfinite(stretches)
    limits[~usable | np.isnan(limits)] = np.finfo(np.float64).max  # matters to every row
    np.fill_diagonal(limits, np.inf)  # comes first
    order = np.argsort(-limits, axis=1, kind="stable")
    reaches = Reaches(
        order, np.take_along_axis(limits, order, axis=1), np.where(skipped, LOG2_E * gap, -np.inf)
    )
    for array in reaches:
        array.flags.writeable = False
    return reaches
