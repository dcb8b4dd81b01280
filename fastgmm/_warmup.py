"""Compile what a deployment needs before the first request, or the first fork, needs it."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from ._pruning import compile_kernels
from ._structures import STRUCTURES
from .mixture import GaussianMixture

CovarianceType = Literal["full", "tied", "diag", "spherical"]
_ALL: tuple[CovarianceType, ...] = ("full", "tied", "diag", "spherical")


def warmup(
    covariance_types: Sequence[CovarianceType] = _ALL,
    dtypes: Sequence[DTypeLike] = (np.float64,),
) -> None:
    """Compile the kernels, or load them from the cache, by fitting and asking a tiny model.

    Kernels are compiled at first use, once for each kind of covariance and type of rows, and then
    kept in Numba's cache. Call this where a delay of some seconds does no harm: when an image is
    built, or before worker processes start.

    Parameters
    ----------
    covariance_types : sequence of {'full', 'tied', 'diag', 'spherical'}, default=all four
        The types that will be fitted or asked. Tied, diagonal and spherical ones share kernels.
    dtypes : sequence of dtype, default=(float64,)
        The types of the rows: float32, float64, or anything that is read as one of them.

    Examples
    --------
    >>> import fastgmm
    >>> fastgmm.warmup(["full"])
    """
    rng = np.random.default_rng(0)
    rows, cluster = rng.standard_normal((64, 2)), (np.arange(64) % 2)[:, None]
    for dtype in dtypes:
        near, far = ((rows + distance * cluster).astype(dtype) for distance in (8.0, 200.0))
        for covariance_type in covariance_types:
            model = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what such data say about the model
                for X, init_params in ((near, "random"), (far, "kmeans"), (near, "kmeans")):
                    model.set_params(init_params=init_params).fit(X).predict(X)
            compile_kernels(STRUCTURES[covariance_type], near.dtype)
