"""From scikit-learn's estimator to ours and back."""

import copy
from typing import Any


def check_sklearn_mixture(model: Any, name: str) -> None:
    """Raise TypeError unless an object is of scikit-learn's class, without importing that."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith("sklearn.mixture") and kind.__name__ == name:
            return
    raise TypeError(f"Expected a sklearn.mixture.{name}, got {type(model).__qualname__}.")


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
        setattr(result, name, copy.deepcopy(value))
    return result
