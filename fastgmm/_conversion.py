"""From scikit-learn's estimator to ours and back."""

from typing import Any, Self

import numpy as np

__all__ = ["SklearnConversion"]


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


class SklearnConversion:
    """Mixin: from and to scikit-learn's class of the same name."""

    def to_sklearn(self) -> Any:
        """Return a ``sklearn.mixture.GaussianMixture`` with the same parameters and attributes.

        ``n_threads`` and ``init_size`` have no counterpart and are left out.
        """
        from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

        return converted(self, SklearnGaussianMixture)

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """Return a model with the parameters and attributes of a scikit-learn one.

        Parameters
        ----------
        model : sklearn.mixture.GaussianMixture
            The model, fitted or not.
        """
        if not is_sklearn_mixture(model):
            raise TypeError(
                f"Expected a sklearn.mixture.GaussianMixture, got {type(model).__qualname__}."
            )
        result: Self = converted(model, cls)
        return result
