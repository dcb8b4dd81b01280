"""Fitted models as files: NumPy arrays and a JSON header in an ``.npz`` archive, no pickle.

The archive holds ``header.json`` and one ``.npy`` member an array, uncompressed, so that
``numpy.load`` reads it too and no member can be larger than the file itself.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import fastgmm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastgmm.bayesian import BayesianGaussianMixture
    from fastgmm.mixture import GaussianMixture

    Mixture: TypeAlias = GaussianMixture | BayesianGaussianMixture

__all__ = ["load", "save"]

FORMAT = "fastgmm model"
FORMAT_VERSION = 1
HEADER = "header.json"
# Shape of covariances_, precisions_ and precisions_cholesky_ in a file.
COVARIANCE_AXES = {"full": "Kdd", "tied": "dd", "diag": "Kd", "spherical": "K"}


def save(model: Mixture, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to a file; an old file is replaced as a whole or not at all.

    Parameters
    ----------
    model : GaussianMixture or BayesianGaussianMixture
        A fitted model.
    path : path-like
        Where to write, usually with the suffix ``.npz``.

    Raises
    ------
    TypeError
        If the class of the model or of a parameter has no place in a model file.
    ValueError
        If the model is not fitted or its parameters are not those of a mixture.

    See Also
    --------
    load : Read the model back.

    Examples
    --------
    >>> import tempfile, pathlib, fastgmm
    >>> model = fastgmm.GaussianMixture(random_state=0).fit([[0.0], [1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastgmm.io.save(model, pathlib.Path(folder) / "model.npz")
    ...     again = fastgmm.load(pathlib.Path(folder) / "model.npz")
    >>> again.means_ == model.means_
    array([[ True]])
    """
    name = type(model).__name__
    if name not in CHECKS:
        raise TypeError(f"{name} has no place in a model file, only {', '.join(CHECKS)}")
    fitted = {key: value for key, value in vars(model).items() if _is_fitted_name(key)}
    parameters = model.get_params(deep=False)
    _check(name, parameters, fitted)  # nothing is written that could not be read back

    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fastgmm": fastgmm.__version__,
        "class": name,
        "parameters": {key: _encode(value, key, arrays) for key, value in parameters.items()},
        "attributes": {key: _encode(value, key, arrays) for key, value in fitted.items()},
    }
    _replace_file(Path(path), _archive(header, arrays))


def load(path: str | os.PathLike[str]) -> Mixture:
    """Read a model written by its method `save`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    model : GaussianMixture or BayesianGaussianMixture
        A fitted model, equal to the saved one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is no model file, was written by a newer version of the format,
        or contradicts itself. Nothing in a file is ever executed.

    Examples
    --------
    >>> import tempfile, pathlib, fastgmm
    >>> model = fastgmm.GaussianMixture(random_state=0).fit([[0.0], [1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(pathlib.Path(folder) / "model.npz")
    ...     print(fastgmm.load(pathlib.Path(folder) / "model.npz"))
    GaussianMixture(random_state=0)
    """
    content = Path(path).read_bytes()
    try:
        return _model(*_unpack(content))
    except Exception as error:
        # Damage can surface anywhere in zipfile, json or numpy: no list of classes is complete.
        message = f"cannot read a fastgmm model from {os.fspath(path)!r}: {error}"
        raise ValueError(message) from error


# -- values -----------------------------------------------------------------------------------
# JSON has no arrays, NumPy scalars or infinities: such a value becomes {tag: content}.


def _encode(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return {"scalar": [value.dtype.str, _encode(value.item(), name, arrays)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise TypeError(f"a RandomState of {state['bit_generator']} cannot be saved")
        numbers = (*state["state"].values(), state["has_gauss"], state["gauss"])
        return {"RandomState": [_encode(v, f"{name}.{i}", arrays) for i, v in enumerate(numbers)]}
    if hasattr(value, "__array__"):  # arrays and whatever scikit-learn would take for one
        array = np.asarray(value)
        if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
            return {"strings": array.tolist()}
        if array.dtype.kind in "biuf":
            arrays[name] = array
            return {"array": name}
    raise TypeError(f"{name}: a value of type {type(value).__name__} cannot be saved")


def _decode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "array":
        return arrays[content]
    if tag == "scalar":
        return np.dtype(content[0]).type(_decode(content[1], arrays))
    if tag == "float":
        return float(content)
    if tag == "tuple":
        return tuple(_decode(content, arrays))
    if tag == "strings":
        return np.array(content, dtype=object)
    if tag == "RandomState":
        generator = np.random.RandomState(0)
        generator.set_state(("MT19937", *_decode(content, arrays)))
        return generator
    raise ValueError(f"unknown kind of value {tag!r}")


# -- the archive ------------------------------------------------------------------------------


def _archive(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        # ZipInfo's fixed date: the same model gives the same bytes.
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, indent=1, allow_nan=False))
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("it is no .npz archive, or it is cut off")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if HEADER not in names or len(set(names)) != len(names):
            raise ValueError("it was not written by fastgmm")
        for member in members:
            # Uncompressed members only: a small file cannot unfold into a huge one.
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise ValueError(f"{member.filename!r} is compressed or has an impossible size")
        header = json.loads(archive.read(HEADER))
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("it was not written by fastgmm")
        if header["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"it has format version {header['format_version']} (fastgmm {header['fastgmm']}), "
                f"this fastgmm reads version {FORMAT_VERSION}; please upgrade"
            )
        arrays = {
            name.removesuffix(".npy"): _array(archive.read(name), name)
            for name in names
            if name != HEADER
        }
    return header, arrays


def _array(content: bytes, name: str) -> NDArray[Any]:
    """Decode one ``.npy`` member, trusting nothing that it declares."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name!r} has an unknown .npy version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    offset = stream.tell()
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize != len(content) - offset:
        raise ValueError(f"{name!r} does not hold the numbers that it declares")
    flat = np.frombuffer(content, dtype=dtype, offset=offset)
    return flat.reshape(shape, order="F" if fortran_order else "C").copy(order="K")


def _replace_file(path: Path, content: bytes) -> None:
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


# -- the model --------------------------------------------------------------------------------


def _model(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Mixture:
    if header["class"] not in CHECKS:
        raise ValueError(f"it holds an unknown class {header['class']!r}")
    parameters = {key: _decode(value, arrays) for key, value in header["parameters"].items()}
    fitted = {key: _decode(value, arrays) for key, value in header["attributes"].items()}
    _check(header["class"], parameters, fitted)
    model: Mixture = getattr(fastgmm, header["class"])(**parameters)
    for key, value in fitted.items():
        setattr(model, key, value)
    return model


def _is_fitted_name(name: str) -> bool:
    return re.fullmatch(r"[a-z]\w*_", name) is not None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check(name: str, parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are those of one fitted model of a class."""
    for check in CHECKS[name]:
        check(parameters, fitted)


def _check_mixture(parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Raise ValueError unless the values are those of the parameters of a mixture."""
    needed = {"weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"}
    needed |= {"n_iter_", "converged_", "lower_bound_", "n_features_in_"}
    missing = ", ".join(sorted(needed - fitted.keys()))
    _require(not missing, f"the model is not fitted: {missing} missing")
    _require(all(map(_is_fitted_name, fitted)), "an attribute has an impossible name")

    weights, means = fitted["weights_"], fitted["means_"]
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
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
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        _require(fitted[name].shape == shape, f"{name} must have shape {shape}")
    _require(
        _is_positive_definite(*_matrices(fitted, axes)),
        "covariances_, precisions_ and precisions_cholesky_ must be positive definite and agree",
    )

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
    rows = fitted.get("first_rows_", np.empty((0, size["d"])))
    fit = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == size["d"]
    _require(fit and bool(np.isfinite(rows).all()), f"first_rows_ must be rows of {size['d']}")
    weights = fitted.get("first_weights_", np.empty(0))
    fit = isinstance(weights, np.ndarray) and weights.shape == rows.shape[:1]
    _require(fit and bool((weights >= 0.0).all()), "first_weights_ must be a weight for each row")
    names = fitted.get("feature_names_in_")
    _require(
        names is None or bool(isinstance(names, np.ndarray) and names.shape == (size["d"],)),
        f"feature_names_in_ must be {size['d']} names",
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
    "GaussianMixture": (_check_mixture,),
    "BayesianGaussianMixture": (_check_mixture, _check_posterior),
}


def _matrices(fitted: dict[str, Any], axes: str) -> list[NDArray[np.float64]]:
    """Give covariances, precisions and factors as stacks of matrices (1×1 where diagonal)."""
    names = ("covariances_", "precisions_", "precisions_cholesky_")
    values = [fitted[name].astype(np.float64) for name in names]
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
