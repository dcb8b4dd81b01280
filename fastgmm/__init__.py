"""Gaussian mixture models at the speed of the hardware, in the shape of scikit-learn's."""

from importlib import import_module
from types import ModuleType

from ._collector import collector_paused

# Numba and scikit-learn bring so many objects that the collector would look through all of them
# again and again, for nothing: 0.1 to 0.2 s of an import.
with collector_paused():
    from ._checkpoint import Checkpoint
    from ._conditioning import ConditionalMixtures
    from ._history import History
    from ._sources._arrow import Parquet
    from ._sources._readers import Batches
    from ._warmup import warmup
    from ._warnings import FitWarning
    from .bayesian import BayesianGaussianMixture
    from .io import load
    from .mixture import GaussianMixture
    from .outliers import GaussianMixtureOutlierDetector
    from .selection import ModelSelection, select_model

__version__ = "0.1.0"
__all__ = [
    "Batches",
    "BayesianGaussianMixture",
    "Checkpoint",
    "ConditionalMixtures",
    "FitWarning",
    "GaussianMixture",
    "GaussianMixtureOutlierDetector",
    "History",
    "ModelSelection",
    "Parquet",
    "load",
    "select_model",
    "warmup",
]

_ON_DEMAND = ("image", "plot")  # modules that most programs do without


def __getattr__(name: str) -> ModuleType:
    if name in _ON_DEMAND:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
