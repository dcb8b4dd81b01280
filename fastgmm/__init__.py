"""Gaussian mixture models at the speed of the hardware, in the shape of scikit-learn's."""

from ._history import History
from ._warmup import warmup
from ._warnings import FitWarning
from .bayesian import BayesianGaussianMixture
from .io import load
from .mixture import GaussianMixture

__version__ = "0.1.0"
__all__ = ["BayesianGaussianMixture", "FitWarning", "GaussianMixture", "History", "load", "warmup"]
