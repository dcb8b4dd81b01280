"""Images cut into segments by a mixture of their intensities or colours.

`segment` labels each pixel of a picture or a volume with the component it most probably belongs to.
"""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from fastgmm import FitWarning, GaussianMixture

from ._pixels import Pixels

__all__ = ["Segmentation", "segment"]

CovarianceType = Literal["full", "tied", "diag", "spherical"]
Array = NDArray[Any]

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

        def probabilities(rows: Array) -> Array:
            return self.model.predict_proba(rows).astype(np.float32)

        pixels = self._pixels(image, mask)
        return pixels.map(probabilities, np.dtype(np.float32), len(self.model.means_))

    def _pixels(self, image: ArrayLike, mask: ArrayLike | None) -> Pixels:
        pixels = Pixels(image, self.channel_axis, mask)
        if pixels.n_channels != self.model.n_features_in_:
            raise ValueError(
                f"the image has {pixels.n_channels} channels, but the model was fitted to "
                f"{self.model.n_features_in_}."
            )
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
    example with `scipy.ndimage.gaussian_filter`. Segments may differ in spread, so that a wide
    one can lie on both sides of a narrow one: unlike those of thresholds, they are not always
    intervals of intensity. EM finds a local optimum, and the most likely segments need not be
    those one looks for: ``n_init=10`` costs little where values are counted, and where two
    tissues share a segment, ask for one more, or give ``means_init``.

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
    _check_count("n_segments", n_segments)
    if max_pixels is not None:
        _check_count("max_pixels", max_pixels)
    if "n_components" in params:
        raise TypeError("Segments are components: give n_segments alone, without n_components.")
    pixels = Pixels(image, channel_axis, mask)
    chosen = _chosen(pixels, max_pixels, random_state)
    _check_distinct(chosen.rows, n_segments)
    model = GaussianMixture(
        n_segments,
        covariance_type=covariance_type,
        reg_covar=_regularisation(reg_covar, chosen, pixels.is_integral),
        random_state=random_state,
        n_threads=n_threads,
        **params,
    )
    with warnings.catch_warnings():
        if pixels.is_integral:  # spikes that only reg_covar holds up are what it is there for
            warnings.simplefilter("ignore", FitWarning)
        model.fit(chosen.rows, sample_weight=chosen.weights)
    _put_in_order(model)
    labels = _labels(model, pixels)
    if not full_output:
        return labels
    return Segmentation(labels, model, chosen.n_pixels, channel_axis)


class _Chosen(NamedTuple):
    """What is fitted: rows, how often each counts, and how many pixels that is."""

    rows: Array  # (n, channels)
    weights: NDArray[np.float64] | None  # (n,)
    n_pixels: int


def _chosen(
    pixels: Pixels, max_pixels: int | None, random_state: int | np.random.RandomState | None
) -> _Chosen:
    """Return the distinct values if they can be counted, or else the pixels or a sample."""
    values = pixels.values
    if values is not None:
        counts = pixels.counts()
        found = np.flatnonzero(counts)
        return _Chosen(values[found], counts[found].astype(np.float64), pixels.n_pixels)
    if max_pixels is None or pixels.n_pixels <= max_pixels:
        rows = np.concatenate(list(pixels.rows()))
    else:
        rows = pixels.sample(max_pixels, check_random_state(random_state))
    return _Chosen(rows, None, len(rows))


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")


def _check_distinct(rows: Array, n_segments: int) -> None:
    """Raise unless there are as many distinct rows as segments, and more than one."""
    needed = max(2, n_segments)
    step = 1024 * needed  # most images are done with the first of these
    known = rows[:0]
    for start in range(0, len(rows), step):
        known = np.unique(np.concatenate([known, rows[start : start + step]]), axis=0)
        if len(known) >= needed:
            return
    if len(known) > 1:
        raise ValueError(
            f"n_segments={n_segments}, but the pixels have only {len(known)} distinct values. Ask "
            f"for at most {len(known)} segments."
        )
    value = ", ".join(f"{channel:g}" for channel in known[0].tolist())
    raise ValueError(
        f"the image is constant: every pixel is {value}, so there is nothing to segment."
    )


def _regularisation(given: Any, chosen: _Chosen, is_integral: bool) -> float:
    """Return what to add to each variance."""
    if given is None:
        rows = chosen.rows.astype(np.float64, copy=False)
        mean = np.average(rows, axis=0, weights=chosen.weights)
        variances = np.average((rows - mean) ** 2, axis=0, weights=chosen.weights)
        given = RELATIVE_VARIANCE * float(variances.mean())
    elif not (isinstance(given, Real) and float(given) >= 0.0):
        raise ValueError(f"reg_covar must be a number of at least 0, or None, got {given!r}.")
    return max(float(given), ROUNDING_VARIANCE) if is_integral else float(given)


def _put_in_order(model: GaussianMixture) -> None:
    """Put the components of a fitted model in the order of their mean intensities."""
    order = np.argsort(model.means_.mean(axis=1), kind="stable")
    for name in BY_COMPONENT + BY_COVARIANCE * OWN_COVARIANCE[model.covariance_type]:
        setattr(model, name, getattr(model, name)[order])


def _labels(model: GaussianMixture, pixels: Pixels) -> Array:
    first = 1 if pixels.is_masked else 0
    dtype = np.min_scalar_type(len(model.means_) - 1 + first)

    def labels(rows: Array) -> Array:
        return (model.predict(rows) + first).astype(dtype)

    return pixels.map(labels, dtype)
