"""Images cut into segments by a mixture of their intensities or colours.

`segment` labels each pixel of a picture or a volume with the component it most probably belongs to.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from fastgmm import FitWarning, GaussianMixture

__all__ = ["Segmentation", "segment"]

CovarianceType = Literal["full", "tied", "diag", "spherical"]
Array = NDArray[Any]

BLOCK = 1 << 18  # numbers read at a time
MAX_SPAN = 1 << 16  # integers that span no more are counted, not listed
ROUNDING_VARIANCE = 1.0 / 12.0  # of a number that was rounded to an integer
RELATIVE_VARIANCE = 1e-6  # of all pixels: what a component's variance is raised by at least

# Which attributes hold one entry for each component, whatever the type, and which with some types.
BY_COMPONENT = ("weights_", "means_")
BY_COVARIANCE = ("covariances_", "precisions_", "precisions_cholesky_")
OWN_COVARIANCE = {"full": True, "tied": False, "diag": True, "spherical": True}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What `segment` found, and a means to do the same to other images.

    Attributes
    ----------
    labels : ndarray of unsigned integers, shaped like the image without its channels
        The segment of each pixel: the component, or one more where a mask was given, so that 0
        is outside it.
    model : GaussianMixture
        The fitted mixture, its components ordered by mean intensity.
    n_fitted : int
        The number of pixels that it was fitted to.
    channel_axis : int or None
        The axis of the channels; None: the image was grey.
    """

    labels: Array
    model: GaussianMixture
    n_fitted: int
    channel_axis: int | None = None

    def label(self, image: ArrayLike, mask: ArrayLike | None = None) -> Array:
        """Label the pixels of an image by the same model: the next slice, or the next frame.

        Parameters
        ----------
        image : array-like of real numbers
            An image with as many channels, on the same axis; its size and dtype may differ.
        mask : array-like of bool, shaped like the image without its channels, default=None
            The pixels to label; the others become 0, and the segments count from 1.

        Returns
        -------
        labels : ndarray of unsigned integers, shaped like the image without its channels
            As `segment` returns them.

        Raises
        ------
        ValueError
            If the image has other channels, or a pixel that is NaN or infinite.
        """
        return _labels(self.model, self._pixels(image, mask))

    def probabilities(self, image: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.float32]:
        """Compute the probability of each segment at each pixel of an image.

        Parameters
        ----------
        image : array-like of real numbers
            The image that was segmented, or another with as many channels on the same axis.
        mask : array-like of bool, shaped like the image without its channels, default=None
            The pixels to look at; the others get zeros.

        Returns
        -------
        probabilities : ndarray of shape (..., n_segments), float32
            The shape of the image without its channels, and an axis for the segments, in the
            order of the model's components. They sum to 1 at each pixel inside the mask.

        Raises
        ------
        ValueError
            If the image has other channels, or a pixel that is NaN or infinite.
        """
        pixels = self._pixels(image, mask)

        def probabilities(rows: Array) -> Array:
            return self.model.predict_proba(rows).astype(np.float32)

        return _map(pixels, probabilities, np.dtype(np.float32), (len(self.model.means_),))

    def _pixels(self, image: ArrayLike, mask: ArrayLike | None) -> "_Pixels":
        pixels = _Pixels(image, self.channel_axis, mask)
        if pixels.n_channels != self.model.n_features_in_:
            raise ValueError(
                f"the image has {pixels.n_channels} channels, but the model was fitted to "
                f"{self.model.n_features_in_}."
            )
        pixels.check_finite()
        return pixels


@overload
def segment(
    image: ArrayLike,
    n_segments: int,
    *,
    channel_axis: int | None = ...,
    mask: ArrayLike | None = ...,
    covariance_type: CovarianceType = ...,
    reg_covar: float | None = ...,
    max_pixels: int | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    n_threads: int | None = ...,
    full_output: Literal[False] = ...,
    **params: Any,
) -> Array: ...
@overload
def segment(
    image: ArrayLike,
    n_segments: int,
    *,
    channel_axis: int | None = ...,
    mask: ArrayLike | None = ...,
    covariance_type: CovarianceType = ...,
    reg_covar: float | None = ...,
    max_pixels: int | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    n_threads: int | None = ...,
    full_output: Literal[True],
    **params: Any,
) -> Segmentation: ...
def segment(
    image: ArrayLike,
    n_segments: int,
    *,
    channel_axis: int | None = None,
    mask: ArrayLike | None = None,
    covariance_type: CovarianceType = "full",
    reg_covar: float | None = None,
    max_pixels: int | None = 1 << 20,
    random_state: int | np.random.RandomState | None = 0,
    n_threads: int | None = None,
    full_output: bool = False,
    **params: Any,
) -> Array | Segmentation:
    """Cut an image into segments by a Gaussian mixture of its intensities or colours.

    Grey images of integers are fitted on their distinct values, with counts as weights: the
    cost of the fit does not grow with the image, and a volume costs two passes over its memory.

    Parameters
    ----------
    image : array-like of real numbers
        A picture (rows, columns) or a volume (planes, rows, columns), of any integer or
        floating-point dtype or bool, in any layout and byte order; memory-mapped files are read
        block by block.
    n_segments : int
        The number of segments, components of the mixture.
    channel_axis : int or None, default=None
        The axis of the colours or channels, as in scikit-image; None: a grey image. Use -1 for
        an RGB picture (rows, columns, 3).
    mask : array-like of bool, shaped like the image without its channels, default=None
        The pixels to segment, True inside, as in scikit-image. Pixels outside are neither
        fitted nor looked at, so they may be NaN.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The type of the covariances over the channels, as in `GaussianMixture`. With one channel
        only 'tied' differs, segments of one common variance.
    reg_covar : float or None, default=None
        Added to each variance, in squared units of the image. None: 1e-6 of the variance of
        all pixels. Images of integers get at least 1/12, the variance of rounding, so that
        a spike, such as a background of one value, does not collapse.
    max_pixels : int or None, default=1048576
        The most pixels to list for a fit, which concerns images of several channels, floats, or
        integers that span more than 65536. Of more, a random sample of at most so many is
        fitted (`Segmentation.n_fitted` tells the number) and all are labelled. None: all.
    random_state : int, RandomState instance or None, default=0
        Seed of the sample and the start; None: another at each call.
    n_threads : int or None, default=None
        The number of threads, as in `GaussianMixture`. The result does not depend on it.
    full_output : bool, default=False
        Whether to return a `Segmentation`, which holds the model and gives probabilities,
        instead of the labels alone.
    **params
        Further parameters of `GaussianMixture`, such as ``n_init`` or ``means_init``.

    Returns
    -------
    labels : ndarray of unsigned integers, shaped like the image without its channels
        The segment of each pixel, in the smallest unsigned dtype that holds them, ordered
        by mean intensity (of several channels: the mean over channels). Without a mask they
        are 0, ..., n_segments - 1, the components of the model: ``model.means_[labels]`` is the
        image in n_segments colours. With a mask, pixels outside are 0 and segments 1, ...,
        n_segments. Only if ``full_output`` is False.
    segmentation : Segmentation
        The labels, the model and the number of pixels fitted. Only if ``full_output`` is True.

    Raises
    ------
    ValueError
        If a pixel is NaN or infinite, the image is empty, constant, of complex numbers or no
        numbers, the mask has another shape or leaves no pixel, or there are fewer distinct
        values than segments.

    Warns
    -----
    ConvergenceWarning
        If the fit did not converge.
    FitWarning
        If the fit of an image of floats deserves a second look, as in `GaussianMixture.fit`.

    Notes
    -----
    Each pixel is looked at alone, not with its neighbours: smooth a noisy image before, for
    example with `scipy.ndimage.gaussian_filter`. Segments may differ in spread: a wide one can lie on
    both sides of a narrow one, so they are not intervals of intensity as those of thresholds.

    References
    ----------
    .. [1] W. M. Wells, W. E. L. Grimson, R. Kikinis and F. A. Jolesz, "Adaptive segmentation of
       MRI data", IEEE Trans. Medical Imaging 15(4), 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm.image import segment
    >>> image = np.array([[0, 1, 90, 91], [1, 0, 92, 90], [200, 201, 90, 92]], dtype=np.uint8)
    >>> segment(image, 3)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [2, 2, 1, 1]], dtype=uint8)
    >>> result = segment(image, 3, full_output=True)
    >>> result.model.means_.ravel().round(2)
    array([  0.5 ,  90.83, 200.5 ])
    >>> result.probabilities(image).shape
    (3, 4, 3)
    >>> segment(image, 2, mask=image < 150)
    array([[1, 1, 2, 2],
           [1, 1, 2, 2],
           [0, 0, 2, 2]], dtype=uint8)
    """
    for name, value in (("n_segments", n_segments), ("max_pixels", max_pixels)):
        is_count = isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
        if not (is_count or (name == "max_pixels" and value is None)):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    pixels = _Pixels(image, channel_axis, mask)
    pixels.check_finite()
    counted = _counted(pixels) or _listed(pixels, max_pixels, random_state)
    _check_distinct(counted.rows, n_segments)
    model = GaussianMixture(
        n_segments,
        covariance_type=covariance_type,
        reg_covar=_smallest_variance(counted, pixels.is_integral, reg_covar),
        random_state=random_state,
        n_threads=n_threads,
        **params,
    )
    with warnings.catch_warnings():
        if pixels.is_integral:  # spikes held up by reg_covar are what it is there for
            warnings.simplefilter("ignore", FitWarning)
        model.fit(counted.rows, sample_weight=counted.weights)
    _put_in_order(model)
    labels = _labels(model, pixels)
    if not full_output:
        return labels
    return Segmentation(labels, model, counted.n_pixels, channel_axis)


class _Pixels:
    """The pixels of an image, block by block as they lie in memory; none is copied before."""

    def __init__(
        self, image: ArrayLike, channel_axis: int | None, mask: ArrayLike | None
    ) -> None:
        array = _checked(image)
        if channel_axis is None:
            array = array[..., None]
        else:
            array = np.moveaxis(array, _checked_axis(channel_axis, array.ndim), -1)
        shape = array.shape[:-1]
        # the axis with the largest steps first, so that blocks are compact in any layout
        self._axes = sorted(range(len(shape)), key=lambda axis: -abs(array.strides[axis]))
        self._array = array.transpose(*self._axes, len(shape))
        self.shape = self._array.shape[:-1]
        self.n_channels = array.shape[-1]
        self.dtype = array.dtype.newbyteorder("=")
        self.is_integral = self.dtype.kind in "iu"
        self._mask = None
        self.n_pixels = math.prod(shape)
        if mask is not None:
            inside = np.asarray(mask)
            if inside.shape != shape:
                raise ValueError(
                    f"mask.shape == {inside.shape}, expected {shape}: one entry for each pixel."
                )
            self._mask = inside.astype(bool, copy=False).transpose(self._axes)
            self.n_pixels = int(np.count_nonzero(self._mask))
            if self.n_pixels == 0:
                raise ValueError("mask leaves no pixel: it must be True where to segment.")
        self.span = self._find_span()

    @property
    def first_label(self) -> int:
        """Return the label of the first segment: 0 is for what a mask leaves out."""
        return 0 if self._mask is None else 1

    def blocks(self) -> Iterator[tuple[tuple[slice, ...], Array, NDArray[np.bool_] | None]]:
        """Yield place, rows (m, channels) and mask (m,) of each block."""
        for where in _boxes(self.shape, max(1, BLOCK // self.n_channels)):
            box = np.ascontiguousarray(self._array[where], dtype=self.dtype)
            inside = None if self._mask is None else self._mask[where].reshape(-1)
            yield where, box.reshape(-1, self.n_channels), inside

    def rows(self) -> Iterator[Array]:
        """Yield the rows of each block that the mask lets through."""
        for _, rows, inside in self.blocks():
            yield rows if inside is None else rows[inside]

    def codes(self, rows: Array) -> NDArray[np.intp]:
        """Return how far the integers of a block lie above the smallest there may be."""
        assert self.span is not None
        # differences modulo 2^bits are right even where signed ones overflow
        unsigned = np.dtype(f"u{self.dtype.itemsize}")
        low = np.array(self.span[0], self.dtype).view(unsigned)
        return np.subtract(rows[:, 0].view(unsigned), low).astype(np.intp)

    def values(self) -> Array:
        """Return the values of all codes, as rows (span, 1)."""
        assert self.span is not None
        low, high = self.span
        return np.arange(high - low + 1, dtype=np.float64)[:, None] + float(low)

    def empty(self, dtype: np.dtype[Any], extra: tuple[int, ...] = ()) -> Array:
        """Return an array for a result at each pixel, to be filled block by block."""
        return np.empty((*self.shape, *extra), dtype)

    def as_given(self, array: Array) -> Array:
        """Return an array over the pixels with its axes as those of the image."""
        back = np.argsort(self._axes)
        return array.transpose(*back, *range(len(back), array.ndim))

    def check_finite(self) -> None:
        """Raise unless all pixels inside the mask are finite."""
        if self.is_integral:
            return
        for where, rows, inside in self.blocks():
            bad = ~np.isfinite(rows)
            if inside is not None:
                bad &= inside[:, None]
            if bad.any():
                row, channel = map(int, np.argwhere(bad)[0])
                raise ValueError(self._complaint(where, row, channel, rows[row, channel]))

    def _complaint(self, where: tuple[slice, ...], row: int, channel: int, value: Any) -> str:
        box = self._array[where].shape[:-1]
        starts = [part.start for part in where] + [0] * (len(box) - len(where))
        place = dict(zip(self._axes, map(sum, zip(starts, np.unravel_index(row, box))))) # noqa
        index = tuple(int(place[axis]) for axis in range(len(box)))
        of_channel = f", channel {channel}" if self.n_channels > 1 else ""
        return (
            f"the image is {'NaN' if np.isnan(value) else 'infinite'} at pixel {index}"
            f"{of_channel} (counted from 0). Leave such pixels out by a mask, for example "
            "mask=np.isfinite(image), or replace them."
        )

    def _find_span(self) -> tuple[int, int] | None:
        """Return the smallest and the largest value there may be, if they are to be counted."""
        if not self.is_integral or self.n_channels > 1:
            return None
        info = np.iinfo(self.dtype)
        if info.max - info.min < MAX_SPAN:
            return int(info.min), int(info.max)
        ends = [(rows.min(), rows.max()) for rows in self.rows() if rows.size]
        low, high = int(min(low for low, _ in ends)), int(max(high for _, high in ends))
        return (low, high) if high - low < MAX_SPAN else None


def _checked(image: ArrayLike) -> Array:
    if isinstance(image, np.ma.MaskedArray):
        raise ValueError("image is a masked array: pass image.data and mask=~image.mask instead.")
    array = np.asarray(image)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the image has dtype {array.dtype}, which does not hold real numbers.")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"the image is empty: its shape is {array.shape}.")
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def _checked_axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim or ndim < 2:
        raise ValueError(
            f"channel_axis={axis}, but the image has {ndim} axes, of which at least one must "
            "remain for its pixels."
        )
    return axis


def _boxes(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, ...]]:
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


class _Counted(NamedTuple):
    """What is fitted: rows, how often each counts, and how many pixels that is."""

    rows: Array  # (n, channels)
    weights: NDArray[np.float64] | None  # (n,)
    n_pixels: int


def _counted(pixels: _Pixels) -> _Counted | None:
    """Return the distinct values of a grey image of integers, if they are few enough to count."""
    if pixels.span is None:
        return None
    values = pixels.values()
    counts = np.zeros(len(values), np.int64)
    for rows in pixels.rows():
        counts += np.bincount(pixels.codes(rows), minlength=len(counts))
    found = np.flatnonzero(counts)
    return _Counted(values[found], counts[found].astype(np.float64), pixels.n_pixels)


def _listed(
    pixels: _Pixels, max_pixels: int | None, random_state: int | np.random.RandomState | None
) -> _Counted:
    """Return the pixels themselves, or a random sample of at most ``max_pixels`` of them."""
    if max_pixels is None or pixels.n_pixels <= max_pixels:
        rows = np.concatenate(list(pixels.rows()))
        return _Counted(rows, None, len(rows))
    rng = check_random_state(random_state)
    # pixels drawn twice are taken once: memory grows with the sample, not with the image
    chosen = np.unique(rng.randint(0, pixels.n_pixels, size=max_pixels, dtype=np.int64))
    parts, start = [], 0
    for rows in pixels.rows():
        first, last = np.searchsorted(chosen, [start, start + len(rows)])
        parts.append(rows[chosen[first:last] - start])
        start += len(rows)
    return _Counted(np.concatenate(parts), None, len(chosen))


def _check_distinct(rows: Array, n_segments: int) -> None:
    """Raise unless there are as many distinct rows as segments, and more than one."""
    needed = max(2, n_segments)
    known = rows[:0]
    for start in range(0, len(rows), needed * 1024):
        known = np.unique(np.concatenate([known, rows[start : start + needed * 1024]]), axis=0)
        if len(known) >= needed:
            return
    if len(known) == 1:
        raise ValueError(
            f"the image is constant: every pixel is {_text(known[0])}, so there is nothing to "
            "segment."
        )
    raise ValueError(
        f"n_segments={n_segments}, but the pixels have only {len(known)} distinct values. Ask for "
        f"at most {len(known)} segments."
    )


def _text(pixel: Array) -> str:
    numbers = [f"{value:g}" for value in pixel.tolist()]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def _smallest_variance(counted: _Counted, is_integral: bool, given: float | None) -> float:
    """Return what to add to each variance."""
    if given is None:
        rows = counted.rows.astype(np.float64, copy=False)
        mean = np.average(rows, axis=0, weights=counted.weights)
        variances = np.average((rows - mean) ** 2, axis=0, weights=counted.weights)
        given = RELATIVE_VARIANCE * float(variances.mean())
    return max(given, ROUNDING_VARIANCE) if is_integral else given


def _put_in_order(model: GaussianMixture) -> None:
    """Put the components of a fitted model in the order of their mean intensities."""
    order = np.argsort(model.means_.mean(axis=1), kind="stable")
    names = BY_COMPONENT + BY_COVARIANCE * OWN_COVARIANCE[model.covariance_type]
    for name in names:
        setattr(model, name, getattr(model, name)[order])


def _labels(model: GaussianMixture, pixels: _Pixels) -> Array:
    first = pixels.first_label
    dtype = np.min_scalar_type(len(model.means_) - 1 + first)

    def labels(rows: Array) -> Array:
        return (model.predict(rows) + first).astype(dtype)

    return _map(pixels, labels, dtype)


def _map(
    pixels: _Pixels,
    function: Callable[[Array], Array],
    dtype: np.dtype[Any],
    extra: tuple[int, ...] = (),
) -> Array:
    """Return a function of each pixel's row, and 0 outside the mask.

    It is computed once for each value where these can be counted, and looked up from there.
    """
    out = pixels.empty(dtype, extra)
    table = None if pixels.span is None else function(pixels.values())
    for where, rows, inside in pixels.blocks():
        if table is not None:
            # what lies outside the mask may also lie outside the table
            found = table.take(pixels.codes(rows), axis=0, mode="clip")
        else:
            found = function(rows if inside is None else np.where(inside[:, None], rows, 0))
        if inside is not None:
            found[~inside] = 0
        out[where] = found.reshape(out[where].shape)
    return pixels.as_given(out)
