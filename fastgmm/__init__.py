"""Gaussian mixture models at the speed of the hardware, in the shape of scikit-learn's."""

from ._history import History
from ._sources._arrow import Parquet
from ._sources._readers import Batches
from ._warmup import warmup
from ._warnings import FitWarning
from .io import load
from .mixture import GaussianMixture

__version__ = "0.1.0"
__all__ = ["Batches", "FitWarning", "GaussianMixture", "History", "Parquet", "load", "warmup"]
