"""The four covariance types: the only room that knows one from another.

Everything here is O(K d^3) NumPy and SciPy on parameters; the rows never come this way.
"""

from ._base import CovarianceStructure, IllDefinedCovariance, Params, Posterior, Scatter
from ._full import Full
from ._records import centred, distance_params, readonly
from ._scaled import Diagonal, Spherical
from ._tied import Tied, split_squares

__all__ = [
    "STRUCTURES",
    "CovarianceStructure",
    "IllDefinedCovariance",
    "Params",
    "Posterior",
    "Scatter",
    "centred",
    "distance_params",
    "readonly",
    "split_squares",
]

STRUCTURES: dict[str, CovarianceStructure] = {
    structure.name: structure for structure in (Full(), Tied(), Diagonal(), Spherical())
}
