"""From scikit-learn's estimators to ours and back."""

import copy
from typing import Any, Self

import numpy as np

__all__ = ["SklearnConversion"]


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


class SklearnConversion:
    """Mixin: from and to scikit-learn's class of the same name.

    That is the name of the class this is mixed into: those derived from it convert like it.
    """

    @classmethod
    def _sklearn_name(cls) -> str:
        return next(kind.__name__ for kind in cls.__mro__ if SklearnConversion in kind.__bases__)

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator with the same parameters and fitted attributes.

        Parameters that it does not have, such as ``n_threads``, are left out.

        Returns
        -------
        model : sklearn.mixture.GaussianMixture or sklearn.mixture.BayesianGaussianMixture
            An estimator of the class that has the name of this one.
        """
        import sklearn.mixture

        return converted(self, getattr(sklearn.mixture, self._sklearn_name()))

    @classmethod
    def from_sklearn(cls, model: Any) -> Self:
        """Return a model with the parameters and attributes of a scikit-learn one.

        Parameters
        ----------
        model : sklearn.mixture.GaussianMixture or sklearn.mixture.BayesianGaussianMixture
            The model, fitted or not, of the class that has the name of this one.

        Returns
        -------
        model : object
            A model of this class.

        Raises
        ------
        TypeError
            If the model is not of that class.
        """
        check_sklearn_mixture(model, cls._sklearn_name())
        result: Self = converted(model, cls)
        fitted = vars(result)
        if isinstance(fitted.get("lower_bound_"), np.ndarray):  # Bayesian and tied: of one number
            fitted["lower_bound_"] = fitted["lower_bound_"].item()
            fitted["lower_bounds_"] = [
                np.asarray(bound).item() for bound in fitted["lower_bounds_"]
            ]
        return result
