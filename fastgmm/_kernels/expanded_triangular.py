"""The triangular kind with its squares multiplied out, for few features; see `expanded`.

Among the features are then the products of all pairs: as many as a factor has entries.
"""

from typing import NamedTuple

import numpy as np

from . import expanded, triangular
from .arrays import Array
from .exp import LOG2_E
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


def expand_triangular(
    params: Triangular, origin: Array, offsets: Array, precisions: Array
) -> ExpandedTriangular:
    """Return the same components with their squares multiplied out.

    offsets : (K, d), the centres from the origin (d,); precisions : (K, d, d).
    """
    rows, columns = np.tril_indices(offsets.shape[1])
    slopes = np.einsum("kij,kj->ki", precisions, offsets)
    constants = params.constants - 0.5 * np.einsum("ki,ki->k", slopes, offsets)
    products = precisions[:, rows, columns] * np.where(rows == columns, -0.5, -1.0)
    parts = (constants[:, None], slopes, products)
    coefficients = np.ascontiguousarray(LOG2_E * np.concatenate(parts, axis=1))
    coefficients.flags.writeable = False
    nothing = params.shifts
    return ExpandedTriangular(
        *params, factor=nothing, origin=origin, whitening=nothing, coefficients=coefficients
    )


work_size, rows_together = expanded.work_size, expanded.rows_together
begin_tile, log2_densities = expanded.begin_tile, expanded.log2_densities
clear_moments, add_moments = expanded.clear_moments, expanded.add_moments
finish_moments = expanded.finish_moments
separation, nearest = triangular.separation, triangular.nearest
