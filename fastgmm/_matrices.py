"""Covariances of any type written out as matrices, for those who show them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._structures import STRUCTURES

__all__ = ["covariance_matrices"]


def covariance_matrices(
    means: NDArray[Any], covariances: NDArray[Any], covariance_type: str
) -> NDArray[np.float64]:
    """Return the covariance of each component as a matrix, whatever the covariance type.

    Parameters
    ----------
    means : ndarray of shape (n_components, n_features)
        The means.
    covariances : ndarray
        The covariances, in the shape of their type.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
        Their type.

    Returns
    -------
    matrices : ndarray of shape (n_components, n_features, n_features), float64
        The covariances.
    """
    return STRUCTURES[covariance_type].full(np.asarray(covariances, np.float64), *means.shape)
