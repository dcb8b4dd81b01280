"""Whether values are those of one fitted model: what a file is asked before it is believed."""

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHECKS", "check_model", "is_fitted_name"]

MATRICES = ("covariances_", "precisions_", "precisions_cholesky_")
# Their shape in a file.
COVARIANCE_AXES = {"full": "Kdd", "tied": "dd", "diag": "Kd", "spherical": "K"}


def is_fitted_name(name: str) -> bool:
    """Tell whether an attribute of this name is one that a fit sets."""
    return re.fullmatch(r"[a-z]\w*_", name) is not None


def check_model(name: str, parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are those of one fitted model of a class."""
    for check in CHECKS[name]:
        check(parameters, fitted)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_mixture(parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are those of the parameters of a mixture."""
    needed = {"weights_", "means_", *MATRICES}
    needed |= {"n_iter_", "converged_", "lower_bound_", "n_features_in_"}
    missing = ", ".join(sorted(needed - fitted.keys()))
    _require(not missing, f"the model is not fitted: {missing} missing")
    _require(all(map(is_fitted_name, fitted)), "an attribute has an impossible name")

    weights, means = fitted["weights_"], fitted["means_"]
    for name in ("weights_", "means_", *MATRICES):
        value = fitted[name]
        real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        _require(real and bool(np.isfinite(value).all()), f"{name} must be finite real numbers")
    _require(means.ndim == 2 and means.size > 0, "means_ must have 2 dimensions")
    size = dict(zip("Kd", means.shape, strict=True))
    _require(weights.shape == (size["K"],), f"weights_ must have shape ({size['K']},)")
    _require(parameters.get("n_components") == size["K"], "n_components must be the rows of means_")
    _require(fitted["n_features_in_"] == size["d"], "n_features_in_ must be the columns of means_")
    eps = float(np.finfo(weights.dtype).eps)
    total = float(weights.sum(dtype=np.float64))
    _require(bool((weights >= 0).all()), "weights_ must not be negative")
    off = abs(total - 1.0)
    _require(off <= 64 * eps * len(weights), f"weights_ must sum to 1, not {total:.6g}")

    axes = COVARIANCE_AXES.get(parameters.get("covariance_type", "full"), "")
    _require(bool(axes), "covariance_type is unknown")
    shape = tuple(size[axis] for axis in axes)
    for name in MATRICES:
        _require(fitted[name].shape == shape, f"{name} must have shape {shape}")
    _require(
        _is_positive_definite(*_matrices(fitted, axes)),
        "covariances_, precisions_ and precisions_cholesky_ must be positive definite and agree",
    )


def _check_course(parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are also those of how a fit went, and of its rows."""
    d = fitted["means_"].shape[1]
    _require(isinstance(fitted["converged_"], bool | np.bool_), "converged_ must be a bool")
    n_iter = fitted["n_iter_"]
    _require(
        isinstance(n_iter, int | np.integer) and bool(n_iter >= 0), "n_iter_ must be an int >= 0"
    )
    bounds = [fitted["lower_bound_"], *fitted.get("lower_bounds_", [])]
    _require(
        all(isinstance(bound, float | np.floating) for bound in bounds),
        "lower_bound_ and lower_bounds_ must be floats",
    )
    for name, kinds in (("n_samples_seen_", (int, float)), ("n_batches_seen_", int)):
        count = fitted.get(name, 0)
        _require(isinstance(count, kinds) and 0 <= count < math.inf, f"{name} must be a number")
    rows = fitted.get("first_rows_", np.empty((0, d)))
    fit = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == d
    _require(fit and bool(np.isfinite(rows).all()), f"first_rows_ must be rows of {d}")
    weights = fitted.get("first_weights_", np.empty(0))
    fit = isinstance(weights, np.ndarray) and weights.shape == rows.shape[:1]
    _require(fit and bool((weights >= 0.0).all()), "first_weights_ must be a weight for each row")
    names = fitted.get("feature_names_in_")
    _require(
        names is None or bool(isinstance(names, np.ndarray) and names.shape == (d,)),
        f"feature_names_in_ must be {d} names",
    )


def _check_posterior(parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are also those of a posterior and its priors."""
    k, d = fitted["means_"].shape
    axes = COVARIANCE_AXES[parameters.get("covariance_type", "full")]
    sticks = parameters["weight_concentration_prior_type"] == "dirichlet_process"
    one = tuple(d for axis in axes if axis == "d")
    least = d - 1.0
    # name: shape, and what the numbers must exceed
    arrays: dict[str, tuple[tuple[int, ...], float]] = {
        "weight_concentration_": ((2, k) if sticks else (k,), 0.0),
        "mean_precision_": ((k,), 0.0),
        "degrees_of_freedom_": ((k,) if "K" in axes else (), least),
        "weight_concentration_prior_": ((), 0.0),
        "mean_precision_prior_": ((), 0.0),
        "mean_prior_": ((d,), -np.inf),
        "degrees_of_freedom_prior_": ((), least),
        "covariance_prior_": (one, -np.inf),
    }
    for name, (shape, bound) in arrays.items():
        _require(name in fitted, f"the model is not fitted: {name} missing")
        value = np.asarray(fitted[name])
        real = value.dtype.kind in "fiu" and bool(np.isfinite(value).all())
        _require(real and value.shape == shape, f"{name} must be finite, of shape {shape}")
        _require(bool((value > bound).all()), f"{name} must be above {bound:g}")


# Public names of fastgmm that a file may ask for, and what their values must pass.
CHECKS = {
    "GaussianMixture": (_check_mixture, _check_course),
    "BayesianGaussianMixture": (_check_mixture, _check_course, _check_posterior),
}


def _matrices(fitted: dict[str, Any], axes: str) -> list[NDArray[np.float64]]:
    """Give covariances, precisions and factors as stacks of matrices (1×1 where diagonal)."""
    values = [fitted[name].astype(np.float64) for name in MATRICES]
    return values if axes.endswith("dd") else [value[..., None, None] for value in values]


def _is_positive_definite(
    covariance: NDArray[np.float64],
    precision: NDArray[np.float64],
    factor: NDArray[np.float64],
) -> bool:
    """Tell whether Uᵀ Σ U = I and P = U Uᵀ within what rounding to float32 explains.

    By Sylvester's law of inertia Σ is then positive definite. Everything is first scaled to unit
    variances; the bounds then follow the backward error of Cholesky's factorisation.
    """
    d = factor.shape[-1]
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    if not ((variance > 0).all() and (np.diagonal(factor, axis1=-2, axis2=-1) > 0).all()):
        return False
    sd = np.sqrt(variance)[..., :, None]
    with np.errstate(over="ignore", invalid="ignore"):
        correlation = covariance / sd / _transpose(sd)
        precision = precision * sd * _transpose(sd)
        factor = factor * sd
        growth = np.abs(factor).sum(axis=-2)[..., None]
        errors_and_bounds = (
            (correlation - _transpose(correlation), np.ones(())),
            (_transpose(factor) @ correlation @ factor - np.eye(d), growth * _transpose(growth)),
            (factor @ _transpose(factor) - precision, np.abs(factor) @ _transpose(np.abs(factor))),
        )
    unit = 64 * d * float(np.finfo(np.float32).eps)
    return all(
        bool(np.isfinite(bound).all() and (np.abs(error) <= unit * bound).all())
        for error, bound in errors_and_bounds
    )


def _transpose(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.swapaxes(matrices, -1, -2)
