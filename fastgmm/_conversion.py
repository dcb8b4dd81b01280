"""From scikit-learn's estimator to ours and back."""

from typing import Any

import numpy as np


def is_sklearn_mixture(model: Any) -> bool:
    """Return whether an object is scikit-learn's GaussianMixture, without importing it."""
    return any(
        kind.__module__.startswith("sklearn.mixture") and kind.__name__ == "GaussianMixture"
        for kind in type(model).__mro__
    )


def converted(model: Any, kind: type) -> Any:
    """Return an estimator of another class with the shared parameters and fitted attributes."""
    result = kind()
    shared = result.get_params().keys() & model.get_params().keys()
    result.set_params(**{name: getattr(model, name) for name in shared})
    fitted = {
        name: value
        for name, value in vars(model).items()
        if name.endswith("_") and not name.startswith("_")
    }
    for name, value in fitted.items():
        copied = value.copy() if isinstance(value, np.ndarray | list) else value
        setattr(result, name, copied)
    return result
