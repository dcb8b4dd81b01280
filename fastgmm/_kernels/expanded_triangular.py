"""The triangular kind with its squares multiplied out, for few features; see `expanded`.

Among the features are then the products of all pairs: as many as a factor has entries.
"""

from typing import Any, NamedTuple

from . import expanded, triangular
from .arrays import Array
from .expanded import set_largest
from .expanded_tiles import write_products
from .options import device
from .triangular import Triangular


class ExpandedTriangular(NamedTuple):
    """What the kernels read; every array is C-contiguous, read-only float64."""

    means: Array  # (K, d), what moments are taken about
    centres: Array  # as in `triangular.Triangular`, like the next ones
    factors: Array
    constants: Array
    shifts: Array
    factor: Array  # (0, 0): as in `expanded.Expanded`, like the next ones
    origin: Array
    whitening: Array
    coefficients: Array


def expand_triangular(params: Triangular, origin: Array, coefficients: Array) -> ExpandedTriangular:
    """Return the same components with their squares multiplied out about an origin (d,)."""
    nothing = params.shifts
    return ExpandedTriangular(
        *params, factor=nothing, origin=origin, whitening=nothing, coefficients=coefficients
    )


@device
def begin_tile(params: Any, x: Array, b: int, work: Array) -> None:
    """Write the panels of a tile, of which the origin is subtracted."""
    d = params.means.shape[1]
    set_largest(params, work, write_products(x, b, d, params.origin, work))


work_size, rows_together = expanded.work_size, expanded.rows_together
log2_densities, clear_moments = expanded.log2_densities, expanded.clear_moments
add_moments, finish_moments = expanded.add_moments, expanded.finish_moments
most_listed, add_listed = expanded.most_listed, expanded.add_listed
separations, nearest = triangular.separations, triangular.nearest
