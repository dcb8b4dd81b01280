"""The edge: what a user gives is checked here, once, and trusted below."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, validate_data

from ._sources import UnfitRow, check_any_weight, check_weights_of_rows
from ._structures import CovarianceStructure, IllDefinedCovariance, Params

Array = NDArray[np.float64]

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical "
    "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
    "number of components, increase reg_covar, or scale the input data."
)
FLOAT32_HINT = (
    " The numerical accuracy can also be improved by passing float64 data instead of float32."
)


def check_rows(estimator: Any, X: Any, *, reset: bool) -> NDArray[Any]:
    """Return X as a 2-D array of real numbers without scanning, copying or casting large arrays."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X is a masked array with masked entries, which a mixture would silently use. Drop "
            "or impute those rows first, for example with X[~X.mask.any(axis=1)].data"
        )
    options = {"ensure_min_samples": 2} if reset else {}
    try:
        rows: NDArray[Any] = validate_data(
            estimator, X, reset=reset, dtype="numeric", ensure_all_finite=False, **options
        )
        if rows.dtype.kind == "O":  # scikit-learn 1.7 leaves mixed data frames as they are
            rows = rows.astype(np.float64)
    except ValueError as error:
        raise ValueError(f"{error}{_text_columns(X)}") from error
    if rows.dtype.kind not in "fiub":
        raise ValueError(f"X has dtype {rows.dtype}, which does not hold real numbers.")
    return rows


def _text_columns(X: Any) -> str:
    """Return what to say of a data frame's columns that hold no numbers; nothing if all do."""
    if not (hasattr(X, "dtypes") and hasattr(X, "columns")):
        return ""
    names = [
        repr(name)
        for name, dtype in zip(X.columns, X.dtypes, strict=True)
        if not (hasattr(dtype, "is_numeric") and dtype.is_numeric())  # polars
        and getattr(dtype, "kind", "O") in "OSU"
    ]
    if not names:
        return ""
    return f". Columns without numbers: {', '.join(names)}. Leave them out, or encode them."


def check_sample_weight(sample_weight: ArrayLike | None, n_rows: int | None) -> Array | None:
    """Return the weights as a read-only float64 array (n,), or None.

    n_rows : how many there must be; None: to be seen later.
    """
    if sample_weight is None:
        return None
    weights: Array = np.array(sample_weight, dtype=np.float64, ndmin=0)
    expected = (weights.size if n_rows is None else n_rows,)
    if weights.shape != expected:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {expected}: one weight for each "
            "row of X."
        )
    check_weights_of_rows(weights)
    check_any_weight(bool(weights.any()))
    weights.flags.writeable = False
    return weights


def unfit_message(error: UnfitRow, estimator: Any) -> str:
    """Return what to tell about a row that is not finite."""
    name = type(estimator).__name__
    names = getattr(estimator, "feature_names_in_", None)
    place = f"row {error.row}, column {error.column} (counted from 0)"
    if names is not None:
        place += f", called {str(names[error.column])!r}"
    if np.isfinite(error.value):
        return (
            f"Input X contains {error.value:g} in {place}, which is too large: its square "
            "overflows. Scale X, or drop such rows."
        )
    what = "NaN" if np.isnan(error.value) else "infinity or a value too large for dtype('float64')"
    return (
        f"Input X contains {what}.\nThe first is in {place}. {name} does not accept such rows: "
        "drop them, or impute their values, for example with sklearn.impute."
    )


def check_weights(weights: ArrayLike, n_components: int) -> Array:
    """Return mixing proportions (K,) or raise scikit-learn's errors."""
    array = check_array(weights, dtype=[np.float64, np.float32], ensure_2d=False)
    _check_shape(array, (n_components,), "weights")
    if (array < 0.0).any() or (array > 1.0).any():
        # scikit-learn names the two the wrong way round, and people match its text
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{np.min(array):.5f}, min value {np.max(array):.5f}"
        )
    tolerance = 1e-6 if array.dtype == np.float32 else 1e-8
    if not np.allclose(np.abs(1.0 - np.sum(array)), 0.0, atol=tolerance):
        raise ValueError(
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            f"{np.sum(array):.5f}"
        )
    checked: Array = array.astype(np.float64)
    return checked


def check_means(means: ArrayLike, n_components: int, n_features: int) -> Array:
    """Return means (K, d) or raise scikit-learn's error."""
    array = check_array(means, dtype=[np.float64, np.float32], ensure_2d=False)
    _check_shape(array, (n_components, n_features), "means")
    checked: Array = array.astype(np.float64)
    return checked


def check_mean_prior(mean: ArrayLike, n_features: int) -> Array:
    """Return the prior of the means (d,) or raise scikit-learn's error."""
    array = check_array(mean, dtype=[np.float64, np.float32], ensure_2d=False)
    _check_shape(array, (n_features,), "means")
    checked: Array = array.astype(np.float64)
    return checked


def check_covariance_prior(
    covariance: ArrayLike, structure: CovarianceStructure, n_features: int
) -> Array:
    """Return the prior of one component's covariance, or raise scikit-learn's errors."""
    shape = structure.compact(np.eye(n_features)).shape
    array = check_array(
        np.atleast_1d(covariance), dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True
    )
    if np.ndim(covariance) == 0:
        array = array[0]
    _check_shape(array, shape, f"{structure.name} covariance_prior")
    checked: Array = np.asarray(array, dtype=np.float64)
    positive = bool((checked > 0.0).all())
    if structure.has_matrices:
        positive = np.allclose(checked, checked.T) and bool(np.linalg.eigvalsh(checked)[0] > 0.0)
    if not positive:
        raise ValueError(f"'{structure.name} precision' should be {_demand(structure)}")
    return checked


def unbiased_weight(weight: float, instead: str) -> float:
    """Return what to divide the scatter of rows of this weight by, or say what to do instead."""
    if not weight > 1.0:
        raise ValueError(
            f"The sample weights sum to {weight:g}, and each is a number of rows: there is no "
            f"covariance of one row. Multiply them, or {instead}."
        )
    return weight - 1.0


def check_precisions(
    precisions: ArrayLike, structure: CovarianceStructure, n_components: int, n_features: int
) -> Array:
    """Return factors of given precisions, or raise scikit-learn's errors."""
    return _check_matrices(precisions, structure, n_components, n_features, "precision")[1]


def check_covariances(
    covariances: ArrayLike, structure: CovarianceStructure, n_components: int, n_features: int
) -> tuple[Array, Array]:
    """Return covariances and the factors of their inverses, or raise."""
    return _check_matrices(covariances, structure, n_components, n_features, "covariance")


def _check_matrices(
    given: ArrayLike, structure: CovarianceStructure, k: int, d: int, what: str
) -> tuple[Array, Array]:
    array = check_array(given, dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True)
    name = f"{structure.name} {what}"
    shape = structure.shape(k, d)
    _check_shape(array, shape, name)
    matrices = array.astype(np.float64)
    factorise = (
        structure.precisions_cholesky
        if what == "covariance"
        else structure.precisions_cholesky_from_precisions
    )
    symmetric = not structure.has_matrices or np.allclose(matrices, np.swapaxes(matrices, -1, -2))
    try:
        if not symmetric:
            raise IllDefinedCovariance
        return matrices, factorise(matrices)
    except IllDefinedCovariance:
        raise ValueError(f"'{name}' should be {_demand(structure)}") from None


def _demand(structure: CovarianceStructure) -> str:
    return "symmetric, positive-definite" if structure.has_matrices else "positive"


def _check_shape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
        )


def ill_defined_message(dtype: np.dtype[Any]) -> str:
    """Return why a covariance could not be factorised."""
    return ILL_DEFINED + (FLOAT32_HINT if dtype == np.float32 else "")


def largest_fittable(dtype: np.dtype[Any], n_rows: int) -> float:
    """Return how large entries may be: neither sums of squares nor covariances must overflow."""
    if dtype == np.float32:
        return float(np.sqrt(np.finfo(np.float32).max / 8.0))  # the attributes are float32
    return float(np.sqrt(np.finfo(np.float64).max / (8.0 * n_rows)))


def params_of(estimator: Any) -> Params:
    """Return the parameters that an estimator's fitted attributes hold, in float64."""
    names = ("weights_", "means_", "covariances_", "precisions_cholesky_")
    weights, means, covariances, factors = (
        np.asarray(getattr(estimator, name), dtype=np.float64) for name in names
    )
    return Params(weights, means, covariances, factors)
