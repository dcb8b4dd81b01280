"""Draws from given parameters."""

import numpy as np
from numpy.typing import NDArray

from ._structures import CovarianceStructure, Params

Array = NDArray[np.float64]


def draw(
    params: Params,
    structure: CovarianceStructure,
    n_samples: int,
    rng: np.random.RandomState | np.random.Generator,
) -> tuple[Array, NDArray[np.int64]]:
    """Return rows (n, d), grouped by component, and their components (n,).

    The calls to the generator, and their order, are scikit-learn's.
    """
    counts = rng.multinomial(n_samples, params.weights)
    rows = np.empty((n_samples, params.means.shape[1]))
    stop = np.cumsum(counts)
    for k, count in enumerate(counts):
        rows[stop[k] - count : stop[k]] = structure.draw(
            rng, params.means[k], params.covariances, k, int(count)
        )
    return rows, np.repeat(np.arange(len(counts), dtype=np.int64), counts)
