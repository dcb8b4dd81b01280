"""Gaussian mixture models at the speed of the hardware, in the shape of scikit-learn's."""

from ._conditioning import ConditionalMixtures
from ._history import History
from ._warmup import warmup
from ._warnings import FitWarning
from .io import load
from .mixture import GaussianMixture
from .selection import ModelSelection, select_model

__version__ = "0.1.0"
__all__ = [
    "ConditionalMixtures",
    "FitWarning",
    "GaussianMixture",
    "History",
    "ModelSelection",
    "load",
    "select_model",
    "warmup",
]
