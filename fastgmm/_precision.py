"""Whether float32 is enough for the arithmetic on float32 rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A product with a factor loses as many digits as the root of the covariance's condition has.
# Up to here what is left, summed in float64, gives parameters to five digits and more.
MAX_CONDITION = 1e4
# Squares and products of deviations must neither overflow nor underflow, even times small weights.
MIN_VARIANCE, MAX_VARIANCE = 1e-20, 1e20

_STEPS = 4


def float32_will_do(covariances: Array, factors: Array) -> bool:
    """Tell whether float32 tiles serve components with these covariances (K, d, d).

    factors : (K, d, d), T with T^T T the inverses.
    """
    d = covariances.shape[-1]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if not (variances.min() > MIN_VARIANCE and variances.max() < MAX_VARIANCE):
        return False
    # The traces of a matrix and its inverse, multiplied, sum up all ratios of eigenvalues: each
    # pair adds 2 and more to the d of the diagonal.
    traces = variances.sum(axis=1) * np.einsum("kij,kij->k", factors, factors)
    if (traces - d * d + 2.0 <= MAX_CONDITION).all():
        return True
    return bool((conditions(covariances, factors) <= MAX_CONDITION).all())


def conditions(covariances: Array, factors: Array) -> Array:
    """Estimate the condition numbers (K,) from below, by a few O(d^2) steps of the power method.

    factors : (K, d, d), T with T^T T the inverses.
    """
    transposed = factors.transpose(0, 2, 1)
    largest = _largest_eigenvalues(
        lambda v: covariances @ v, np.diagonal(covariances, axis1=1, axis2=2)
    )
    precise = _largest_eigenvalues(
        lambda v: transposed @ (factors @ v), np.einsum("kij,kij->kj", factors, factors)
    )
    return largest * precise


def _largest_eigenvalues(multiply: Callable[[Array], Array], diagonals: Array) -> Array:
    """Return estimates (K,) for matrices with these diagonals (K, d)."""
    vectors = np.zeros((*diagonals.shape, 1))
    # the axis on which the form is largest: at least a d-th of the largest eigenvalue
    vectors[np.arange(len(vectors)), diagonals.argmax(axis=1)] = 1.0
    for _ in range(_STEPS):
        vectors = multiply(vectors)
        norms: Array = np.sqrt(np.einsum("kij,kij->k", vectors, vectors))
        vectors /= norms[:, None, None]
    return norms
