"""Images from files, and labels into files: ``.npy`` always, pictures through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_labels", "read_image", "read_mask", "write_labels"]

# Pillow's modes that hold numbers as they are; all others are read as red, green and blue.
GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: str) -> tuple[NDArray[Any], int | None]:
    """Read an image.

    Parameters
    ----------
    path : str
        A ``.npy`` file (memory-mapped, never read whole) or a picture that Pillow knows.

    Returns
    -------
    image : ndarray
        The numbers as they are stored: grey, or red, green and blue last. Transparency is left
        out.
    channel_axis : int or None
        Where the colours are; None in a grey picture and in a ``.npy`` file.

    Raises
    ------
    ImportError
        If the file is a picture and Pillow is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If it holds several pictures, or no array.
    """
    if Path(path).suffix.lower() == ".npy":
        try:
            return np.lib.format.open_memmap(path, mode="r"), None
        except (EOFError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
    image_module = _pillow(path)
    try:
        with image_module.open(path) as picture:
            return _pixels_of(picture)
    except (ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        raise ValueError(f"{path}: {error}") from error


def _pixels_of(picture: Any) -> tuple[NDArray[Any], int | None]:
    if getattr(picture, "n_frames", 1) > 1:
        raise ValueError(f"holds {picture.n_frames} pictures; save them as one .npy array")
    if picture.mode in GREY:
        return np.array(picture), None
    if picture.mode == "LA":
        return np.array(picture.convert("L")), None
    return np.array(picture.convert("RGB")), -1


def read_mask(path: str) -> NDArray[np.bool_]:
    """Read a mask: an image that is not 0, or not black, where to segment.

    Parameters
    ----------
    path : str
        A file that `read_image` reads.

    Returns
    -------
    mask : ndarray of bool
        True where to segment.
    """
    image, channel_axis = read_image(path)
    inside = np.not_equal(image, 0)
    mask: NDArray[np.bool_] = inside if channel_axis is None else inside.any(axis=channel_axis)
    return mask


def check_labels(path: str, n_axes: int, largest: int) -> None:
    """Find out before the work that a file cannot hold its labels.

    Parameters
    ----------
    path : str
        Where the labels go.
    n_axes : int
        The number of their axes.
    largest : int
        The largest label.

    Raises
    ------
    ImportError
        If the file is a picture and Pillow is not installed.
    ValueError
        If it is neither a ``.npy`` nor a ``.png`` file, or a picture cannot hold the labels.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".npy", ".png"):
        raise ValueError(f"{path}: the name must end in .npy, .png")
    if suffix == ".npy":
        return
    _pillow(path)
    if n_axes != 2 or largest > 255:
        raise ValueError(
            f"{path}: a picture holds two axes and labels up to 255, but there are {n_axes} axes "
            f"and labels up to {largest}; write a .npy file"
        )


def write_labels(path: str, labels: NDArray[Any]) -> None:
    """Write labels: an array, or a picture whose palette shows them.

    Parameters
    ----------
    path : str
        A ``.npy`` file, or a ``.png`` file: its pixels are the labels, which its palette shows
        in shades from black to white.
    labels : ndarray of unsigned integers
        The labels, which `check_labels` found to fit.
    """
    if Path(path).suffix.lower() == ".npy":
        np.save(path, labels)
        return
    picture = _pillow(path).fromarray(np.ascontiguousarray(labels))
    shades = np.linspace(0.0, 255.0, max(2, int(labels.max()) + 1)).round().astype(int)
    picture.putpalette(np.repeat(shades, 3).tolist())
    picture.save(path)


def _pillow(path: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f'{path}: pictures need Pillow: pip install "fastgmm[plot]", or use .npy files'
        ) from error
    return Image
