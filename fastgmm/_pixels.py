"""The pixels of an image as rows of channels: any layout, any real type, masked or not."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Place = tuple[slice, ...]

BLOCK = 1 << 18  # numbers read at a time
MAX_SPAN = 1 << 16  # grey integers that span no more can be counted


class Pixels:
    """The pixels of an image, read block by block as they lie in memory, never copied whole.

    Every pixel inside the mask must be finite; those outside are never looked at.
    """

    def __init__(self, image: ArrayLike, channel_axis: int | None, mask: ArrayLike | None) -> None:
        array = _channels_last(_checked(image), channel_axis)
        shape = array.shape[:-1]
        # the axis with the largest steps first, so that blocks are compact in any layout
        self._axes = sorted(range(len(shape)), key=lambda axis: -abs(array.strides[axis]))
        self._array = array.transpose(*self._axes, len(shape))
        self._shape = self._array.shape[:-1]
        self.n_channels = array.shape[-1]
        self.n_pixels = math.prod(shape)
        self.dtype = array.dtype.newbyteorder("=")
        self.is_integral = self.dtype.kind in "iu"
        self._mask = None
        if mask is not None:
            self._mask = _checked_mask(mask, shape).transpose(self._axes)
            self.n_pixels = int(np.count_nonzero(self._mask))
        if not self.is_integral:
            self._check_finite()
        self._span = self._find_span()

    @property
    def is_masked(self) -> bool:
        """Return whether there is a mask, even one that leaves nothing out."""
        return self._mask is not None

    @property
    def values(self) -> NDArray[np.float64] | None:
        """Return all values (n, 1) there may be, in order, if these can be counted."""
        if self._span is None:
            return None
        low, high = self._span
        return np.arange(high - low + 1, dtype=np.float64)[:, None] + float(low)

    def rows(self) -> Iterator[Array]:
        """Yield the pixels (m, channels) of each block that are inside the mask."""
        for _, rows, inside in self._blocks():
            yield rows if inside is None else rows[inside]

    def counts(self) -> NDArray[np.int64]:
        """Return how many pixels there are of each of ``values``."""
        assert self._span is not None
        low, high = self._span
        counts = np.zeros(high - low + 1, np.int64)
        for rows in self.rows():
            counts += np.bincount(self._codes(rows), minlength=len(counts))
        return counts

    def sample(self, size: int, rng: np.random.RandomState) -> Array:
        """Return a random sample (m, channels) of at most ``size`` pixels.

        Pixels drawn twice are taken once, so that memory grows with the sample alone.
        """
        chosen = np.unique(rng.randint(0, self.n_pixels, size=size, dtype=np.int64))
        parts, start = [], 0
        for rows in self.rows():
            first, last = np.searchsorted(chosen, [start, start + len(rows)])
            parts.append(rows[chosen[first:last] - start])
            start += len(rows)
        found: Array = np.concatenate(parts)
        return found

    def map(
        self, function: Callable[[Array], Array], dtype: np.dtype[Any], *extra: int
    ) -> NDArray[Any]:
        """Return a function of each pixel, (m, channels) -> (m, *extra), and 0 outside the mask.

        Where values can be counted it is called once for each of them, and looked up from there.
        """
        out = np.empty((*self._shape, *extra), dtype)
        values = self.values
        table = None if values is None else function(values)
        for where, rows, inside in self._blocks():
            found = np.zeros((len(rows), *extra), dtype)
            wanted = rows if inside is None else rows[inside]
            if len(wanted):
                found[... if inside is None else inside] = (
                    function(wanted) if table is None else table.take(self._codes(wanted), axis=0)
                )
            out[where] = found.reshape(out[where].shape)
        back = np.argsort(self._axes)
        return out.transpose(*back, *range(len(back), out.ndim))

    def _blocks(self) -> Iterator[tuple[Place, Array, NDArray[np.bool_] | None]]:
        """Yield place, rows (m, channels) and mask (m,) of each block."""
        for where in _boxes(self._shape, max(1, BLOCK // self.n_channels)):
            box = np.ascontiguousarray(self._array[where], dtype=self.dtype)
            inside = None if self._mask is None else self._mask[where].reshape(-1)
            yield where, box.reshape(-1, self.n_channels), inside

    def _codes(self, rows: Array) -> NDArray[np.intp]:
        """Return how far the integers of a block lie above the smallest there may be."""
        assert self._span is not None
        # differences modulo 2^bits are right even where signed ones overflow
        unsigned = np.dtype(f"u{self.dtype.itemsize}")
        low = np.array([self._span[0]], self.dtype).view(unsigned)
        above = np.subtract(rows[:, 0].view(unsigned), low)
        codes: NDArray[np.intp] = above.astype(np.intp)
        return codes

    def _find_span(self) -> tuple[int, int] | None:
        """Return the smallest and the largest value there may be, if they can be counted."""
        if not self.is_integral or self.n_channels > 1:
            return None
        info = np.iinfo(self.dtype)
        low, high = int(info.min), int(info.max)
        if high - low >= MAX_SPAN:
            ends = [(rows.min(), rows.max()) for rows in self.rows() if len(rows)]
            low, high = int(min(low for low, _ in ends)), int(max(high for _, high in ends))
        return (low, high) if high - low < MAX_SPAN else None

    def _check_finite(self) -> None:
        for where, rows, inside in self._blocks():
            bad = ~np.isfinite(rows)
            if inside is not None:
                bad &= inside[:, None]
            if bad.any():
                row, channel = divmod(int(bad.argmax()), self.n_channels)
                what = "NaN" if np.isnan(rows[row, channel]) else "infinite"
                of_channel = f", channel {channel}" if self.n_channels > 1 else ""
                raise ValueError(
                    f"the image is {what} at pixel {self._place(where, row)}{of_channel} (counted "
                    "from 0). Leave such pixels out by a mask, for example "
                    "mask=np.isfinite(image), or replace them."
                )

    def _place(self, where: Place, row: int) -> tuple[int, ...]:
        """Return the index in the given image of a row of a block."""
        index = list(np.unravel_index(row, self._array[where].shape[:-1]))
        for axis, part in enumerate(where):
            index[axis] += part.start
        return tuple(int(index[self._axes.index(axis)]) for axis in range(len(index)))


def _checked(image: ArrayLike) -> Array:
    """Return an array of integers or floats."""
    if isinstance(image, np.ma.MaskedArray):
        raise ValueError("image is a masked array: pass image.data and mask=~image.mask instead.")
    array = np.asarray(image)
    if array.dtype.kind in "US":
        raise ValueError(
            "image is text, not numbers: of a file, give what matplotlib.image.imread, or another "
            "reader, makes of it."
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the image has dtype {array.dtype}, which does not hold real numbers.")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"the image has no pixels: its shape is {array.shape}.")
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def _channels_last(array: Array, axis: Any) -> Array:
    if axis is None:
        return array[..., None]
    if not isinstance(axis, int | np.integer):
        raise ValueError(
            f"channel_axis={axis!r} should be the number of an axis, -1 for the last one, or None "
            "for a grey image."
        )
    if array.ndim < 2 or not -array.ndim <= axis < array.ndim:
        raise ValueError(
            f"channel_axis={axis}, but the image has {array.ndim} axes, of which at least one "
            "must be left for its pixels."
        )
    return np.moveaxis(array, axis, -1)


def _checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.asarray(mask)
    if inside.shape != shape:
        raise ValueError(f"mask.shape == {inside.shape}, expected {shape}: one entry a pixel.")
    if not inside.any():
        raise ValueError("mask leaves no pixel: it must be True where to segment.")
    return inside.astype(bool, copy=False)


def _boxes(shape: tuple[int, ...], size: int) -> Iterator[Place]:
    """Yield indices of boxes of at most ``size`` pixels that cover an array in its order."""
    inner = math.prod(shape[1:])
    if inner > size:
        for i in range(shape[0]):
            for rest in _boxes(shape[1:], size):
                yield slice(i, i + 1), *rest
        return
    step = size // inner
    for start in range(0, shape[0], step):
        yield (slice(start, start + step),)
