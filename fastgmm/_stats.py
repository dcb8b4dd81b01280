"""Sufficient statistics of a mixture: plain sums about a reference, so parts merge with ``+``."""

from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def flat_size(n_components: int, n_features: int, n_second: int) -> int:
    """Return the length of flat statistics with ``n_second`` second moments a component."""
    return 2 + n_components * (1 + n_features + n_second)


class SufficientStats(NamedTuple):
    """What one pass over the rows leaves behind, in float64.

    With responsibilities ``r`` (weights included) and the reference ``m`` of each component:

    log_likelihood : sum of weight * log p(x) under the parameters of the pass
    weight : total weight of the rows
    mass : (K,) ``N_k = sum r``
    first : (K, d) ``A_k = sum r (x - m_k)``
    second : (K, d (d+1)/2) packed lower triangles of ``B_k = sum r (x - m_k)(x - m_k)^T``,
        or (K, d) its diagonal, or (K, 1) its trace, or (K, 0)
    reference : (K, d) ``m``
    """

    log_likelihood: float
    weight: float
    mass: Array
    first: Array
    second: Array
    reference: Array

    @classmethod
    def from_flat(cls, flat: Array, reference: Array) -> Self:
        """View flat statistics, as kernels fill them, about a reference (K, d)."""
        k, d = reference.shape
        a, b = 2 + k, 2 + k + k * d
        return cls(
            float(flat[0]),
            float(flat[1]),
            flat[2:a],
            flat[a:b].reshape(k, d),
            flat[b:].reshape(k, -1),
            reference,
        )

    def is_finite(self) -> bool:
        """Return whether nothing overflowed."""
        parts = (self.log_likelihood, self.mass, self.first, self.second)
        return all(bool(np.isfinite(part).all()) for part in parts)

    def __add__(self, other: object) -> Self:
        """Merge with the statistics of other rows about the same reference."""
        if not isinstance(other, SufficientStats):
            return NotImplemented
        if not np.array_equal(self.reference, other.reference):
            raise ValueError("statistics about different references: rebase one of them first")
        return type(self)(
            self.log_likelihood + other.log_likelihood,
            self.weight + other.weight,
            self.mass + other.mass,
            self.first + other.first,
            self.second + other.second,
            self.reference,
        )

    def scale(self, factor: float) -> Self:
        """Return the statistics of the same rows with their weights multiplied."""
        return type(self)(
            self.log_likelihood * factor,
            self.weight * factor,
            self.mass * factor,
            self.first * factor,
            self.second * factor,
            self.reference,
        )

    def rebase(self, reference: Array) -> Self:
        """Return the same statistics about another reference (K, d).

        With ``s = m - m'``: ``A' = A + N s`` and ``B' = B + A s^T + s A^T + N s s^T``.
        """
        shift = self.reference - reference
        first = self.first + self.mass[:, None] * shift
        second = self.second + _symmetric_products(
            self.first, shift, self.mass, self.second.shape[1]
        )
        return self._replace(first=first, second=second, reference=np.array(reference))


def _symmetric_products(first: Array, shift: Array, mass: Array, columns: int) -> Array:
    """Return ``A s^T + s A^T + N s s^T`` in the layout of second moments."""
    k, d = shift.shape
    if columns == d * (d + 1) // 2 and d > 1:
        cross = first[:, :, None] * shift[:, None, :]
        cross = cross + cross.transpose(0, 2, 1)
        cross += mass[:, None, None] * shift[:, :, None] * shift[:, None, :]
        rows, cols = np.tril_indices(d)
        return cross[:, rows, cols]
    diagonal: Array = 2.0 * first * shift + mass[:, None] * shift**2
    if columns == d:
        return diagonal
    if columns == 1:
        trace: Array = diagonal.sum(axis=1, keepdims=True)
        return trace
    return np.empty((k, 0))


@lru_cache(maxsize=16)
def _packed_positions(d: int) -> NDArray[np.intp]:
    """Return for each entry of a (d, d) matrix its position in a packed lower triangle."""
    rows, cols = np.tril_indices(d)
    positions = np.empty((d, d), np.intp)
    positions[rows, cols] = positions[cols, rows] = np.arange(len(rows))
    return positions


def unpack(packed: Array, d: int) -> Array:
    """Return packed lower triangles (..., d (d+1)/2) as symmetric matrices (..., d, d)."""
    matrices: Array = packed[..., _packed_positions(d)]
    return matrices
