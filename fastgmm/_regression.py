"""Some features of a mixture given the others: the algebra, and the moments of many mixtures.

In each component, with the features divided into given ones b and others a (Bishop 2006, eq. 2.81,
2.82, 2.98)::

    mean_{a|b}       = mean_a + S_ab S_bb^-1 (x_b - mean_b)
    covariance_{a|b} = S_aa - S_ab S_bb^-1 S_ba
    marginal of b    : mean_b, S_bb

and the weight of a component becomes its probability given x_b under the marginal of b. The
Cholesky factor of the covariance with b before a holds all of it, and what it gives is positive
definite whatever the rounding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._passes import PROBABILITIES, Block, MapPass, RowMap
from ._structures import CovarianceStructure

Array = NDArray[np.float64]
Index = NDArray[np.intp]

_SCRATCH = 1 << 18  # numbers that a thread holds of the conditional means at once: 2 MB


class Regression(NamedTuple):
    """In each component, the mean of the other features as a linear function of the given ones."""

    given: Array  # (K, b) means
    others: Array  # (K, a) means
    gains: Array | None  # (K, b, a) or, shared, (b, a); None where features are uncorrelated
    covariances: Array  # of the others given the given ones, in the shape of the type

    def means(self, rows: NDArray[Any]) -> Array:
        """Return the components' means (n, K, a) for given features (n, b)."""
        if self.gains is None:
            return np.broadcast_to(self.others, (len(rows), *self.others.shape))
        offsets = rows - self.given[:, None]
        means: Array = offsets @ self.gains + self.others[:, None]
        return means.transpose(1, 0, 2)


def regression(
    structure: CovarianceStructure, means: Array, covariances: Array, given: Index, others: Index
) -> Regression:
    """Divide the features of a mixture into given ones and others."""
    if not structure.has_matrices:
        kept = structure.of_features(covariances, others)
        return Regression(means[:, given], means[:, others], None, kept)
    joint = structure.of_features(covariances, np.concatenate([given, others]))
    factors = np.asarray(np.linalg.cholesky(joint), dtype=np.float64)
    b = len(given)
    cross, own = factors[..., b:, :b], factors[..., b:, b:]
    solved = np.linalg.solve(_transposed(factors[..., :b, :b]), _transposed(cross))
    gains = np.asarray(solved, dtype=np.float64)
    return Regression(means[:, given], means[:, others], gains, own @ _transposed(own))


def _transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


# Moments of mixtures (n, K) with means (n, K, a): sums over the components.


def mean_of(weights: Array, means: Array) -> Array:
    """Return the means (n, a)."""
    mean: Array = np.einsum("nk,nka->na", weights, means)
    return mean


def variance_of(weights: Array, means: Array, mean: Array, variances: Array) -> Array:
    """Return the variances (n, a), from those of the components (K, a)."""
    between: Array = np.einsum("nk,nka->na", weights, (means - mean[:, None]) ** 2)
    return weights @ variances + between


def covariance_of(weights: Array, means: Array, mean: Array, matrices: Array) -> Array:
    """Return the covariances (n, a, a), from those of the components (K, a, a)."""
    offsets = means - mean[:, None]
    between: Array = _transposed(offsets * weights[:, :, None]) @ offsets
    return np.tensordot(weights, matrices, 1) + between


class MomentsMap(RowMap):
    """A map of given features (n, b) to the moments (n, m, a) of the others.

    m : 1 for the mean alone, 2 with the standard deviations, 1 + a with the covariance.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, params: Any, relation: Regression, matrices: Array, what: str) -> None:
        self.weigh = MapPass(params, PROBABILITIES, self.dtype)
        self.relation = relation
        self.matrices = matrices  # (K, a, a)
        self.what = what
        k, a = relation.others.shape
        self.columns = ({"mean": 1, "std": 2, "cov": 1 + a}[what], a)
        self.step = max(1, _SCRATCH // (k * (a + relation.given.shape[1])))

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        weigh = self.weigh.worker()
        variances = np.diagonal(self.matrices, axis1=1, axis2=2)

        def run(block: Block, out: NDArray[Any]) -> None:
            weights = np.empty((len(out), len(self.matrices)))
            weigh(block, weights)
            for start in range(0, len(out), self.step):
                part = slice(start, start + self.step)
                means = self.relation.means(block.rows[part])
                mean = out[part, 0] = mean_of(weights[part], means)
                if self.what == "std":
                    out[part, 1] = np.sqrt(variance_of(weights[part], means, mean, variances))
                elif self.what == "cov":
                    out[part, 1:] = covariance_of(weights[part], means, mean, self.matrices)

        return run
