"""The M-step's algebra on whole components: covariances from moments, and inverse factors.

LAPACK would do the second, one component a call; its calls cost more than the work where matrices
are small, and its threads get in the way of ours where they are large.
"""

from typing import Any

import numpy as np

from .arrays import Array
from .options import device, entry

_EPSILON = 2.0**-52


@entry
def central_covariances(
    second: Array, params: Any, first: Array, mass: Array, guarded: Array, shift: Array, out: Array
) -> None:
    """Write the covariances about new means to out (K, d, d).

    second : IN (K, d (d + 1) / 2) packed lower triangles about the reference; params : not read;
    first : IN (K, d); mass, guarded : IN (K,), the second of which divides; shift : IN (K, d) from
    the reference to the new means.
    """
    n_components, d = shift.shape
    for k in range(n_components):
        scale = 1.0 / guarded[k]
        pair = 0
        for i in range(d):
            a, s = first[k, i], shift[k, i]
            moved = mass[k] * s - a
            for j in range(i + 1):
                value = (second[k, pair] + moved * shift[k, j] - s * first[k, j]) * scale
                out[k, i, j] = value
                out[k, j, i] = value
                pair += 1


@device
def _cholesky(matrix: Array, lower: Array) -> bool:
    """Write the lower Cholesky factor of a matrix (d, d); return whether there is one.

    A pivot that is rounding alone counts as 0: of a feature that is there twice, it is the
    processor that decides on which side of 0 it comes out.
    """
    d = matrix.shape[0]
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for m in range(j):
                total += lower[i, m] * lower[j, m]
            value = matrix[i, j] - total
            if j < i:
                lower[i, j] = value / lower[j, j]
            elif d * _EPSILON * matrix[i, i] < value < np.inf:  # false for NaN, too
                lower[i, i] = np.sqrt(value)
            else:
                return False
    return True


@device
def _invert(lower: Array, out: Array) -> None:
    """Write the inverse of a lower triangular matrix (d, d), with zeros above its diagonal."""
    d = lower.shape[0]
    for i in range(d):
        for j in range(d):
            out[i, j] = 0.0
        for m in range(i):
            factor = lower[i, m]
            for j in range(m + 1):
                out[i, j] -= factor * out[m, j]
        scale = 1.0 / lower[i, i]
        for j in range(i):
            out[i, j] *= scale
        out[i, i] = scale


@entry
def inverse_factors(matrices: Array, params: Any, work: Array, out: Array) -> int:
    """Write the inverses of the lower Cholesky factors of matrices (K, d, d) to out (K, d, d).

    params : not read; work : WORK (d, d).  Returns the number of the first matrix that is not
    positive definite, or -1.
    """
    for k in range(matrices.shape[0]):
        if not _cholesky(matrices[k], work):
            return k
        _invert(work, out[k])
    return -1
