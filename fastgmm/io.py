"""Fitted models as files: NumPy arrays and a JSON header in an ``.npz`` archive, no pickle.

The archive holds ``header.json`` and one ``.npy`` member an array, uncompressed, so that
``numpy.load`` reads it too and no member can be larger than the file itself.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import fastgmm
from fastgmm._model_checks import CHECKS, check_model, is_fitted_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastgmm.bayesian import BayesianGaussianMixture
    from fastgmm.mixture import GaussianMixture

    Mixture: TypeAlias = GaussianMixture | BayesianGaussianMixture

__all__ = ["load", "save"]

FORMAT = "fastgmm model"
FORMAT_VERSION = 1
HEADER = "header.json"


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
    fitted = {key: value for key, value in vars(model).items() if is_fitted_name(key)}
    parameters = model.get_params(deep=False)
    check_model(name, parameters, fitted)  # nothing is written that could not be read back

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
    check_model(header["class"], parameters, fitted)
    model: Mixture = getattr(fastgmm, header["class"])(**parameters)
    for key, value in fitted.items():
        setattr(model, key, value)
    return model
