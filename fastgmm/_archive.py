"""Values as files: NumPy arrays and a JSON header in an ``.npz`` archive, no pickle.

The archive holds ``header.json`` and one ``.npy`` member an array, uncompressed, so that
``numpy.load`` reads it too and no member can be larger than the file itself.  Arrays are written
and read piece by piece: they may be larger than memory.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = "header.json"
_PIECE = 1 << 20  # bytes

# -- values -----------------------------------------------------------------------------------
# JSON has no arrays, NumPy scalars or infinities: such a value becomes {tag: content}.


def encode(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a value as JSON has it; what is an array goes to ``arrays``, under this name."""
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return {"scalar": [value.dtype.str, encode(value.item(), name, arrays)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [encode(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {k: encode(item, f"{name}.{k}", arrays) for k, item in value.items()}}
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise TypeError(f"a RandomState of {state['bit_generator']} cannot be saved")
        numbers = (*state["state"].values(), state["has_gauss"], state["gauss"])
        return {"RandomState": [encode(v, f"{name}.{i}", arrays) for i, v in enumerate(numbers)]}
    if hasattr(value, "__array__"):  # arrays and whatever scikit-learn would take for one
        array = np.asarray(value)
        if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
            return {"strings": array.tolist()}
        if array.dtype.kind in "biuf":
            # the order in memory counts, too: sums may have other bits in another one
            axes = np.argsort([-stride for stride in array.strides], kind="stable")
            dense = array.transpose(axes)
            if array.flags.forc or not dense.flags.c_contiguous:
                arrays[name] = array
                return {"array": name}
            arrays[name] = dense
            return {"transposed": [np.argsort(axes).tolist(), {"array": name}]}
    raise TypeError(f"{name}: a value of type {type(value).__name__} cannot be saved")


def decode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return the value that `encode` was given."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "array":
        return arrays[content]
    if tag == "transposed":
        return decode(content[1], arrays).transpose(content[0])
    if tag == "scalar":
        return np.dtype(content[0]).type(decode(content[1], arrays))
    if tag == "float":
        return float(content)
    if tag == "tuple":
        return tuple(decode(content, arrays))
    if tag == "dict":
        return {key: decode(item, arrays) for key, item in content.items()}
    if tag == "strings":
        return np.array(content, dtype=object)
    if tag == "RandomState":
        generator = np.random.RandomState(0)
        generator.set_state(("MT19937", *decode(content, arrays)))
        return generator
    raise ValueError(f"unknown kind of value {tag!r}")


# -- the archive ------------------------------------------------------------------------------


def write_archive(
    path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, NDArray[Any]]
) -> None:
    """Write a file; an old file is replaced as a whole or not at all."""
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            _pack(file, header, arrays)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _pack(file: BinaryIO, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        # ZipInfo's fixed date: the same values give the same bytes.
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, indent=1, allow_nan=False))
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def read_archive(
    file: BinaryIO,
    kind: str,
    version: int,
    *,
    make: Callable[[int, np.dtype[Any]], NDArray[Any]] = np.empty,
    only_header: bool = False,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and the arrays of a file, trusting nothing in it.

    Parameters
    ----------
    file : binary file
        The archive.
    kind, version : str, int
        What the header must hold as ``format`` and ``format_version``.
    make : callable
        Returns the memory for so many numbers of a type.
    only_header : bool, default=False
        Whether arrays are left alone.

    Raises
    ------
    ValueError, KeyError, OSError, zipfile.BadZipFile
        If it is no such archive, or damaged; what happens in json, zipfile and numpy, too.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no .npz archive, or it is cut off")
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if HEADER not in names or len(set(names)) != len(names):
            raise ValueError("it was not written by fastgmm")
        for member in members:
            # Uncompressed members only: a small file cannot unfold into a huge one.
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                raise ValueError(f"{member.filename!r} is compressed or has an impossible size")
        header = json.loads(archive.read(HEADER))
        if not isinstance(header, dict) or header.get("format") != kind:
            raise ValueError(f"it was not written by fastgmm as a {kind.removeprefix('fastgmm ')}")
        if header["format_version"] != version:
            raise ValueError(
                f"it has format version {header['format_version']} (fastgmm {header['fastgmm']}), "
                f"this fastgmm reads version {version}; please upgrade"
            )
        arrays: dict[str, NDArray[Any]] = {}
        for member in members:
            if member.filename == HEADER or only_header:
                continue
            with archive.open(member) as stream:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _array(stream, member.file_size, member.filename, make)
    return header, arrays


def _array(
    stream: IO[bytes],
    size: int,
    name: str,
    make: Callable[[int, np.dtype[Any]], NDArray[Any]],
) -> NDArray[Any]:
    """Read one ``.npy`` member of so many bytes, trusting nothing that it declares."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name!r} has an unknown .npy version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    n = math.prod(shape)
    if dtype.kind not in "biuf" or n * dtype.itemsize != size - stream.tell():
        raise ValueError(f"{name!r} does not hold the numbers that it declares")
    flat = make(n, dtype)
    content = flat.view(np.uint8)
    for start in range(0, n * dtype.itemsize, _PIECE):
        piece = stream.read(min(_PIECE, len(content) - start))
        content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return flat.reshape(shape, order="F" if fortran_order else "C")
