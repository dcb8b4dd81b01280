"""The triangular kind with its squares multiplied out, for few features; see `expanded`.

Among the features are then the products of all pairs: as many as a factor has entries.
"""

from typing import NamedTuple

from . import expanded, triangular
from .arrays import Array
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


work_size, rows_together = expanded.work_size, expanded.rows_together
begin_tile, log2_densities = expanded.begin_tile, expanded.log2_densities
clear_moments, add_moments = expanded.clear_moments, expanded.add_moments
most_listed, add_listed = expanded.most_listed, expanded.add_listed
finish_moments = expanded.finish_moments
separation, nearest = triangular.separation, triangular.nearest
