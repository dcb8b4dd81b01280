"""Segments of images: the same as fitting every pixel, in any layout, dtype and dimension."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.phantom import MEANS, SDS, dice, make_phantom
from fastgmm import FitWarning, GaussianMixture, _pixels
from fastgmm.image import segment

DTYPES = ["u1", "u2", "i1", "i2", ">u2", ">i2", "i4", "u4", ">i8", "u8", "f2", "f4", ">f4", "f8"]
TYPES = ["full", "tied", "diag", "spherical"]


def blobs(shape=(40, 60), levels=(20, 60, 100), sd=4.0, seed=0):
    """Vertical bands of noisy levels, as floats."""
    band = np.arange(shape[-1]) * len(levels) // shape[-1]
    noise = np.random.default_rng(seed).normal(0.0, sd, shape)
    return np.asarray(levels, float)[band] + noise, np.broadcast_to(band, shape)


def colours(shape=(30, 40), seed=0):
    """Noisy bands of three colours (..., 3) of uint8, and their numbers."""
    levels = np.array([[20.0, 40, 60], [200, 30, 30], [120, 220, 180]])
    band = np.broadcast_to(np.arange(shape[-1]) * 3 // shape[-1], shape)
    noise = np.random.default_rng(seed).normal(0.0, 5.0, (*shape, 3))
    return (levels[band] + noise).clip(0, 255).astype(np.uint8), band


def start(k, low, high):
    """An explicit start, so that weights and repetitions must agree."""
    return {
        "weights_init": np.full(k, 1.0 / k),
        "means_init": np.linspace(low, high, k)[:, None],
        "precisions_init": np.full((k, 1, 1), 1e-2),
        "tol": 1e-7,
        "max_iter": 500,
    }


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few pixels, so that small images have many."""
    monkeypatch.setattr(_pixels, "BLOCK", 64)


class TestFit:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u8"])
    @pytest.mark.usefixtures("small_blocks")
    def test_counting_is_fitting_every_pixel(self, dtype):
        image, _ = blobs(levels=(-60, -10, 70) if dtype[0] == "i" else (60, 100, 170), sd=12.0)
        image = image.astype(dtype)
        begin = start(3, image.min(), image.max())
        result = segment(image, 3, full_output=True, reg_covar=0.5, **begin)
        every = GaussianMixture(3, reg_covar=0.5, **begin).fit(image.reshape(-1, 1))
        for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
            assert_allclose(getattr(result.model, name), getattr(every, name), rtol=1e-8)
        assert_array_equal(result.labels.ravel(), every.predict(image.reshape(-1, 1)))
        assert result.n_fitted == image.size

    @pytest.mark.parametrize("covariance_type", TYPES)
    @pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
    def test_labels_are_the_components_in_order_of_intensity(self, covariance_type, dtype):
        image = blobs(sd=12.0, seed=1)[0].clip(0).astype(dtype)
        options = {
            "covariance_type": covariance_type,
            "weights_init": np.full(3, 1 / 3),
            "means_init": [[100.0], [20.0], [60.0]],
            "precisions_init": {
                "full": np.full((3, 1, 1), 1e-2),
                "tied": np.full((1, 1), 1e-2),
                "diag": np.full((3, 1), 1e-2),
                "spherical": np.full(3, 1e-2),
            }[covariance_type],
        }
        result = segment(image, 3, full_output=True, **options)
        found, rows = result.model, image.reshape(-1, 1)
        assert (np.diff(found.means_.ravel()) > 0).all()
        assert_array_equal(result.labels.ravel(), found.predict(rows))
        # the same mixture as that of all pixels, in the order of means_init
        given = GaussianMixture(3, reg_covar=found.reg_covar, **options).fit(rows)
        rtol = 1e-4 if dtype == "f4" else 1e-8
        assert_allclose(found.means_, given.means_[[1, 2, 0]], rtol=rtol)
        assert_allclose(found.score_samples(rows), given.score_samples(rows), rtol=rtol)

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_order_with_channels(self, covariance_type):
        # as many channels as segments: shapes do not tell one covariance from three
        image, band = colours()
        result = segment(
            image, 3, channel_axis=-1, covariance_type=covariance_type, full_output=True
        )
        assert_array_equal(result.labels, band)
        rows = image.reshape(-1, 3)
        assert_array_equal(result.model.predict(rows), band.ravel())
        parts = [rows[band.ravel() == i] for i in range(3)]
        each = np.stack([np.cov(part.T, bias=True) for part in parts])
        share = np.bincount(band.ravel()) / band.size
        expected = {
            "full": each + np.eye(3) / 12,
            "tied": np.tensordot(share, each, 1) + np.eye(3) / 12,
            "diag": np.diagonal(each, axis1=1, axis2=2) + 1 / 12,
            "spherical": np.trace(each, axis1=1, axis2=2) / 3 + 1 / 12,
        }[covariance_type]
        assert_allclose(result.model.covariances_, expected, rtol=1e-6)
        assert_allclose(result.model.means_, [part.mean(axis=0) for part in parts], rtol=1e-6)
        kept = GaussianMixture.from_parameters(
            result.model.weights_, result.model.means_, expected, covariance_type=covariance_type
        )
        assert_allclose(result.model.precisions_, kept.precisions_, rtol=1e-5, atol=1e-9)
        assert_allclose(
            result.model.precisions_cholesky_, kept.precisions_cholesky_, rtol=1e-5, atol=1e-9
        )

    def test_phantom(self):
        volume, truth = make_phantom(64)
        result = segment(volume, 4, full_output=True)
        assert dice(result.labels, truth).min() >= 0.95
        assert_allclose(result.model.means_.ravel(), MEANS, rtol=0.01)
        assert_allclose(np.sqrt(result.model.covariances_.ravel()), SDS, rtol=0.02)

    def test_spike_of_one_value_does_not_collapse(self):
        image = np.zeros((50, 50), np.uint8)
        image[:, 25:] = blobs((50, 25), (90, 160), 10.0)[0]
        for given in (None, 0.0, 1e-3):
            model = segment(image, 3, reg_covar=given, full_output=True).model
            assert model.reg_covar == 1 / 12
            assert model.covariances_[0] == pytest.approx(1 / 12, rel=1e-6)
        assert segment(image, 3, reg_covar=2.0, full_output=True).model.reg_covar == 2.0

    def test_units_of_floats_do_not_matter(self):
        image, _ = blobs()
        labels = segment(image, 3)
        for scale in (1e-9, 1e9):
            result = segment(image * scale, 3, full_output=True)
            assert_array_equal(result.labels, labels)
            assert result.model.reg_covar == pytest.approx(1e-6 * image.var() * scale**2)

    def test_floats_keep_the_warnings_of_the_fit(self):
        image = np.repeat([0.0, 1.0], 50).reshape(10, 10)
        with pytest.warns(FitWarning, match="held up by reg_covar"):
            segment(image, 2)

    def test_parameters_reach_the_mixture(self):
        model = segment(
            blobs()[0], 2, full_output=True, n_init=2, init_params="k-means++", random_state=5,
            covariance_type="tied", n_threads=1,
        ).model  # fmt: skip
        expected = {"n_init": 2, "init_params": "k-means++", "random_state": 5, "n_threads": 1}
        assert model.get_params().items() >= expected.items()
        assert model.covariance_type == "tied"
        with pytest.raises(TypeError, match="colour"):
            segment(blobs()[0], 2, colour=True)


class TestSample:
    def test_labels_all_and_reports_what_was_fitted(self):
        image, band = colours((60, 90))
        result = segment(image, 3, channel_axis=-1, max_pixels=1000, full_output=True)
        assert 800 < result.n_fitted <= 1000
        assert_array_equal(result.labels, band)
        again = segment(image, 3, channel_axis=-1, max_pixels=1000, full_output=True)
        assert_array_equal(again.model.means_, result.model.means_)
        other = segment(
            image, 3, channel_axis=-1, max_pixels=1000, full_output=True, random_state=1
        )
        assert (other.model.means_ != result.model.means_).any()
        every = segment(image, 3, channel_axis=-1, max_pixels=None, full_output=True)
        assert every.n_fitted == band.size

    @pytest.mark.usefixtures("small_blocks")
    def test_every_pixel_has_the_same_chance(self):
        values = np.arange(600.0).reshape(20, 30)
        pixels = _pixels.Pixels(values, None, values >= 100)
        drawn = np.zeros(600)
        rng = np.random.RandomState(0)
        for _ in range(400):
            sample = pixels.sample(100, rng)[:, 0].astype(int)
            assert len(np.unique(sample)) == len(sample)
            drawn[sample] += 1
        assert not drawn[:100].any()
        # each pixel: 400 draws of probability 1 - (1 - 1/500)^100
        p = 1 - (1 - 1 / 500) ** 100
        z = (drawn[100:] - 400 * p) / np.sqrt(400 * p * (1 - p))
        assert abs(z).max() < 4.5
        assert z.std() == pytest.approx(1.0, abs=0.15)


class TestImages:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("ndim", [1, 2, 3])
    @pytest.mark.usefixtures("small_blocks")
    def test_dtypes_and_dimensions(self, dtype, ndim):
        image, band = blobs((4, 5, 60)[-ndim:] if ndim > 1 else (300,))
        image = image.astype(dtype)
        before = image.copy()
        labels = segment(image, 3)
        assert_array_equal(labels, band.astype(np.uint8), strict=True)
        assert_array_equal(image, before, strict=True)

    def test_largest_integers(self):
        for dtype in ("i1", "i2"):
            info = np.iinfo(dtype)
            image = np.array([[info.min, info.min + 1], [info.max - 1, info.max]], dtype)
            assert_array_equal(segment(image, 2), [[0, 0], [1, 1]])
        wide = np.array([[-(2**31), -(2**31) + 5], [2**31 - 9, 2**31 - 1]], np.int32)
        assert_array_equal(segment(wide, 2), [[0, 0], [1, 1]])
        high = np.array([[2**40, 2**40 + 5], [2**40 + 900, 2**40 + 910]], np.uint64)
        assert_array_equal(segment(high, 2), [[0, 0], [1, 1]])

    def test_bool(self):
        image = np.random.default_rng(0).random((20, 20)) < 0.3
        assert_array_equal(segment(image, 2), image.astype(np.uint8), strict=True)
        assert_array_equal(segment(image[::-2, 1::3], 2), image[::-2, 1::3])

    @pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "f4"])
    @pytest.mark.usefixtures("small_blocks")
    def test_layouts(self, dtype):
        image = blobs((6, 20, 60))[0].astype(dtype)
        mask = np.random.default_rng(1).random(image.shape) < 0.8
        expected, inside = segment(image, 3), segment(image, 3, mask=mask)
        wide = np.repeat(image, 2, axis=2)
        views = {
            "fortran": np.asfortranarray(image),
            "strided": wide[:, :, ::2],
            "permuted": image.transpose(1, 2, 0).copy().transpose(2, 0, 1),
            "backwards": image[:, ::-1].copy()[:, ::-1],
        }
        for name, view in views.items():
            assert_array_equal(view, image)
            assert_array_equal(segment(view, 3), expected, err_msg=name)
            assert_array_equal(segment(view, 3, mask=mask), inside, err_msg=name)
        assert segment(views["fortran"], 3).flags.f_contiguous
        assert segment(image, 3).flags.c_contiguous

    def test_lists(self):
        assert_array_equal(segment([[1, 2, 90], [91, 2, 1]], 2), [[0, 0, 1], [1, 0, 0]])

    def test_memory_mapped(self, tmp_path):
        image, band = blobs()
        np.save(tmp_path / "image.npy", image.astype("u2"))
        mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
        labels = segment(mapped, 3)
        assert_array_equal(labels, band)
        assert type(labels) is np.ndarray

    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
    @pytest.mark.usefixtures("small_blocks")
    def test_channel_axis(self, axis):
        image, band = colours()
        mask = np.arange(band.size).reshape(band.shape) % 7 > 0
        moved = np.moveaxis(image, -1, axis)
        for array in (moved, np.ascontiguousarray(moved), np.asfortranarray(moved)):
            assert_array_equal(segment(array, 3, channel_axis=axis), band)
            labels = segment(array, 3, channel_axis=axis, mask=mask)
            assert_array_equal(labels, np.where(mask, band + 1, 0))

    def test_volume_of_colours_and_one_channel(self):
        image, band = colours((4, 9, 30))
        assert_array_equal(segment(image, 3, channel_axis=3), band)
        grey, band = blobs()
        grey = grey.astype("u1")
        assert_array_equal(segment(grey[None], 3, channel_axis=0), band)

    def test_more_channels_than_numbers_in_a_block(self, monkeypatch):
        monkeypatch.setattr(_pixels, "BLOCK", 2)
        image, band = colours((3, 30))
        assert_array_equal(segment(image, 3, channel_axis=-1), band)

    @pytest.mark.parametrize(
        ("n", "masked", "dtype"),
        [(200, False, "u1"), (256, False, "u1"), (256, True, "u2"), (300, False, "u2")],
    )
    def test_smallest_dtype(self, n, masked, dtype):
        values = np.arange(0, 100 * n, 50, dtype=np.uint16).reshape(2, -1)
        pairs = values.ravel().reshape(n, 2)
        labels = segment(
            values,
            n,
            mask=np.ones(values.shape, bool) if masked else None,
            means_init=pairs.mean(axis=1, keepdims=True),
            weights_init=np.full(n, 1 / n),
            precisions_init=np.full((n, 1, 1), 1e-2),
        )
        assert labels.dtype == dtype
        assert_array_equal(labels.ravel(), np.repeat(np.arange(n), 2) + masked)


class TestMask:
    @pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
    @pytest.mark.usefixtures("small_blocks")
    def test_outside_is_zero_and_does_not_count(self, dtype):
        image, band = blobs()
        image = image.astype(dtype)
        mask = np.ones(image.shape, bool)
        mask[3:9, :] = False
        expected = segment(np.delete(image, range(3, 9), axis=0), 3, full_output=True)
        spoilt = image.copy()
        spoilt[3:9] = {"u1": 255, "i4": 2**31 - 1, "f8": np.nan}[dtype]
        result = segment(spoilt, 3, mask=mask, full_output=True)
        assert_array_equal(result.labels, np.where(mask, band + 1, 0))
        assert_allclose(result.model.means_, expected.model.means_, rtol=1e-12)
        assert result.n_fitted == mask.sum()
        assert result.model.n_iter_ == expected.model.n_iter_
        assert_array_equal(segment(spoilt, 3, mask=mask.astype(int)), result.labels)
        assert_array_equal(result.label(spoilt, mask), result.labels)


class TestSegmentation:
    @pytest.mark.parametrize("dtype", ["u1", "f4"])
    def test_probabilities(self, dtype):
        image = blobs(sd=12.0)[0].astype(dtype)
        result = segment(image, 3, full_output=True)
        found = result.probabilities(image)
        assert found.shape == (*image.shape, 3)
        assert found.dtype == np.float32
        expected = result.model.predict_proba(image.reshape(-1, 1)).reshape(found.shape)
        assert_allclose(found, expected, atol=1e-7)
        assert_array_equal(found.argmax(axis=-1), result.labels)
        mask = image > 50
        inside = result.probabilities(image, mask)
        assert_array_equal(inside[~mask], 0.0)
        assert_array_equal(inside[mask], found[mask])

    def test_next_image(self):
        volume, _ = make_phantom(32)
        result = segment(volume[:24], 4, full_output=True)
        following = result.label(volume[24:])
        rows = volume[24:].reshape(-1, 1)
        assert_array_equal(following.ravel(), result.model.predict(rows))
        assert_array_equal(result.label(volume[24:].astype(">f4")), following)
        assert following.dtype == np.uint8

    def test_other_channels(self):
        image, band = colours()
        result = segment(image, 3, channel_axis=-1, full_output=True)
        assert_array_equal(result.label(image[:, ::-1]), band[:, ::-1])
        for call in (result.label, result.probabilities):
            with pytest.raises(ValueError, match="2 channels, but the model was fitted to 3"):
                call(image[..., :2])


class TestBadInput:
    @pytest.mark.parametrize(
        ("image", "match"),
        [
            (np.full((4, 4), 7, np.uint8), "constant: every pixel is 7,"),
            (np.full((4, 4), 0.5), "constant: every pixel is 0.5,"),
            (np.ones((4, 4), bool), "constant: every pixel is 1,"),
            (np.arange(6).reshape(2, 3) % 2, "only 2 distinct values. Ask for at most 2 segments"),
            (np.arange(6.0).reshape(2, 3) % 2, "only 2 distinct values"),
            (np.ones((4, 0)), r"no pixels: its shape is \(4, 0\)"),
            (np.float64(3.0), "no pixels"),
            (np.ones((4, 4), complex), "complex128"),
            (np.array([["a", "b"]]), "text, not numbers"),
            (np.array([[1, None]]), "real numbers"),
            ("head.png", "matplotlib.image.imread"),
            (np.ma.masked_equal(np.eye(3), 0), "mask=~image.mask"),
        ],
    )
    def test_image(self, image, match):
        with pytest.raises(ValueError, match=match):
            segment(image, 3)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"n_segments": 0}, "n_segments must be"),
            ({"n_segments": 2.0}, "n_segments must be"),
            ({"max_pixels": 0}, "max_pixels must be"),
            ({"reg_covar": -1.0}, "reg_covar must be"),
            ({"reg_covar": "small"}, "reg_covar must be"),
            ({"reg_covar": np.nan}, "reg_covar must be"),
            ({"covariance_type": "round"}, "covariance_type"),
            ({"channel_axis": 2}, "channel_axis=2, but the image has 2 axes"),
            ({"channel_axis": "last"}, "-1 for the last one"),
            ({"channel_axis": 1.0}, "-1 for the last one"),
            ({"mask": np.ones((2, 2))}, r"mask.shape == \(2, 2\), expected \(40, 60\)"),
            ({"mask": np.zeros((40, 60))}, "leaves no pixel"),
        ],
    )
    def test_options(self, options, match):
        image = blobs()[0].astype(np.uint8)
        with pytest.raises(ValueError, match=match):
            segment(image, **{"n_segments": 2} | options)

    def test_constant_colours(self):
        with pytest.raises(ValueError, match="every pixel is 1, 2, 3,"):
            segment(np.broadcast_to([1, 2, 3], (5, 5, 3)), 2, channel_axis=-1)
        two = np.zeros((5, 5, 3))
        two[2:] = 1.0
        with pytest.raises(ValueError, match="only 2 distinct values"):
            segment(two, 3, channel_axis=-1)
        assert_array_equal(segment(two.astype(int), 2, channel_axis=-1), two[..., 0])

    @pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite")])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.usefixtures("small_blocks")
    def test_place_of_what_is_no_number(self, value, what, order):
        image = np.asarray(blobs((5, 9, 60))[0], order=order)
        image[3, 4, 17] = value
        with pytest.raises(ValueError, match=rf"{what} at pixel \(3, 4, 17\) \(counted"):
            segment(image, 3)
        assert segment(image, 3, mask=np.isfinite(image))[3, 4, 17] == 0
        colour = np.asarray(np.moveaxis(colours()[0].astype("f4"), -1, 0), order=order)
        colour[2, 7, 5] = value
        with pytest.raises(ValueError, match=rf"{what} at pixel \(7, 5\), channel 2"):
            segment(colour, 3, channel_axis=0)
        result = segment(image[:2], 3, full_output=True)
        with pytest.raises(ValueError, match=what):
            result.label(image)


def test_memory_is_that_of_the_labels_and_some_blocks():
    volume = np.tile(blobs((8, 16, 60))[0].astype(np.uint16), (16, 8, 5))  # 128 x 128 x 300
    segment(volume[:1], 3)
    for image in (volume, np.asfortranarray(volume), volume[:, ::-1]):
        tracemalloc.start()
        labels = segment(image, 3)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < labels.nbytes + 16e6  # a block as int64, its labels, and the table of counts
    assert labels.nbytes == volume.nbytes / 2
