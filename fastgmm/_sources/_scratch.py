"""Arrays that may be larger than memory: in memory if small, otherwise in a temporary file."""

import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# What is read from elsewhere is kept in memory up to so many bytes.
IN_MEMORY = 64 << 20
_STRETCH = 16 << 20


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros.

    A large one is the map of a temporary file that has no name (any more) and is gone with the
    array.  Its pages leave memory when others need it.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    n_bytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if n_bytes <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="fastgmm-") as file:
        try:
            _reserve(file.fileno(), n_bytes)
        except OSError as error:
            raise OSError(
                error.errno,
                f"There is no room for a temporary file of {n_bytes / 1e9:.3g} GB in "
                f"{tempfile.gettempdir()} ({error.strerror}). Set the environment variable TMPDIR "
                "to a folder with more room, or init_size to a smaller number of rows.",
            ) from None
        return np.memmap(file, dtype, "r+", shape=shape).view(np.ndarray)


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Take the room now: a full disk is an error here, and kills the process in a later write."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
        return
    zeros = memoryview(bytes(_STRETCH))
    while n_bytes > 0:
        n_bytes -= os.write(descriptor, zeros[: min(n_bytes, _STRETCH)])
