"""``fastgmm segment``: the labels of the function, files of all kinds, one line for bad input."""

import builtins
import os
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastgmm import load
from fastgmm.__main__ import main
from fastgmm.image import segment


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    def run(*argv):
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


def bands(n_axes=2):
    """Three noisy bands of grey."""
    shape = (6, 20, 30)[-n_axes:]
    levels = np.array([20.0, 90, 200])[np.arange(30) // 10]
    return (levels + np.random.default_rng(0).normal(0, 4, shape)).astype(np.uint8)


def colours():
    """Three noisy bands of colour."""
    levels = np.array([[200, 20, 20], [90, 90, 100], [230, 240, 250]])[np.arange(30) // 10]
    noise = np.random.default_rng(0).integers(-5, 5, (20, 30, 3))
    return (levels + noise).astype(np.uint8)


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4"])
def test_same_as_the_function(run, n_axes, dtype):
    image = bands(n_axes).astype(dtype)
    np.save("image.npy", image)
    options = ["--covariance-type", "tied", "--seed", 2, "--n-init", 2, "--threads", 1]
    code, out, err = run(
        "segment", "image.npy", "-k", 3, "-o", "labels.npy", "--model", "model.npz", *options
    )
    assert code == 0
    expected = segment(image, 3, covariance_type="tied", random_state=2, n_init=2, full_output=True)
    assert_array_equal(np.load("labels.npy"), expected.labels, strict=True)
    assert_array_equal(load("model.npz").means_, expected.model.means_)
    assert "3 components, 1 feature, tied covariance" in out
    assert "intensity" in out
    assert f"fitted on {image.size} pixels" in err
    assert "labels 0 to 2, saved as labels.npy" in err


def test_channel_axis_and_quiet(run):
    image = np.moveaxis(colours(), -1, 0)
    np.save("image.npy", image)
    code, out, err = run(
        "segment", "image.npy", "-k", 3, "-o", "labels.npy", "--channel-axis", 0, "-q"
    )
    assert (code, err) == (0, "")
    assert "channel 2" in out
    assert_array_equal(np.load("labels.npy"), segment(image, 3, channel_axis=0), strict=True)
    assert sorted(os.listdir()) == ["image.npy", "labels.npy"]


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "F", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_pictures(run, pillow, mode):
    grey = mode in ("L", "I;16", "I", "F", "LA")
    image = bands() if grey else colours()
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    picture = pillow.fromarray(image.astype(dtype))
    if picture.mode != mode:
        picture = picture.convert(mode)
    picture.save("image.tif")
    assert run("segment", "image.tif", "-k", 3, "-o", "labels.npy")[0] == 0
    assert_array_equal(np.load("labels.npy"), np.broadcast_to(np.arange(30) // 10, (20, 30)))


def test_png_holds_the_labels_and_shows_them(run, pillow):
    np.save("image.npy", bands())
    assert run("segment", "image.npy", "-k", 3, "-o", "labels.png")[0] == 0
    with pillow.open("labels.png") as picture:
        assert_array_equal(np.array(picture), segment(bands(), 3))
        shades = np.unique(np.array(picture.convert("L")))
    assert_array_equal(shades, [0, 128, 255])


@pytest.mark.parametrize("kind", ["npy", "L", "RGB"])
def test_mask(run, pillow, kind):
    image = bands()
    mask = np.zeros(image.shape, bool)
    mask[2:-3, 4:] = True
    np.save("image.npy", image)
    if kind == "npy":
        np.save("mask.npy", mask)
    else:
        pillow.fromarray(mask).convert(kind).save("mask.png")
    name = "mask.npy" if kind == "npy" else "mask.png"
    code, _, err = run("segment", "image.npy", "-k", 3, "-o", "labels.npy", "--mask", name)
    assert code == 0
    assert_array_equal(np.load("labels.npy"), segment(image, 3, mask=mask), strict=True)
    assert "labels 1 to 3, 0 outside the mask" in err


class TestBadInput:
    """Exit code 2, one line on standard error, and no file."""

    def refused(self, run, match, *argv):
        before = sorted(os.listdir())
        code, out, err = run("segment", *argv, "-q")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert re.search(match, err), err
        assert sorted(os.listdir()) == before

    @pytest.mark.parametrize(
        ("image", "match"),
        [
            (np.full((3, 3), 4), "constant"),
            (np.array([[1.0, np.nan, 2.0]]), r"NaN at pixel \(0, 1\)"),
            (np.array([["a"]]), "text, not numbers"),
            (np.array([[None]]), "bad.npy"),
            (np.arange(6).reshape(2, 3) % 2, "at most 2 segments"),
        ],
    )
    def test_npy(self, run, image, match):
        np.save("bad.npy", image)
        self.refused(run, match, "bad.npy", "-k", 3, "-o", "labels.npy")

    @pytest.mark.parametrize(
        ("argv", "match"),
        [
            (["-k", 0, "-o", "a.npy"], "n_segments"),
            (["-k", 2, "-o", "a.jpg"], "a.jpg: the name must end in .npy, .png"),
            (["-k", 2, "-o", "missing/a.npy"], "no folder missing"),
            (["-k", 2, "-o", "a.npy", "--model", "missing/a.npz"], "no folder missing"),
            (["-k", 2, "-o", "a.npy", "--mask", "missing.npy"], "missing.npy: No such file"),
            (["-k", 2, "-o", "a.npy", "--channel-axis", 5], "channel_axis=5"),
            (["-k", 2, "-o", "a.npy", "--reg-covar", -1], "reg_covar"),
            (["-k", 257, "-o", "a.png"], "labels up to 256; write a .npy file"),
            (["-k", 2, "-o", "a.png", "--channel-axis", 0], "1 axes"),
        ],
    )
    def test_options(self, run, argv, match):
        np.save("image.npy", bands())
        self.refused(run, match, "image.npy", *argv)

    @pytest.mark.parametrize("name", ["bad.npy", "bad.png", "bad.tif"])
    @pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"])
    def test_damaged(self, run, pillow, name, content):
        with open(name, "wb") as file:
            file.write(content)
        self.refused(run, name, name, "-k", 2, "-o", "labels.npy")
        self.refused(run, "No such file", f"missing{name[3:]}", "-k", 2, "-o", "labels.npy")

    def test_cut_off_picture(self, run, pillow):
        pillow.fromarray(colours()).save("whole.png")
        with open("whole.png", "rb") as file:
            content = file.read()
        for size in (40, len(content) // 2):
            with open("cut.png", "wb") as file:
                file.write(content[:size])
            self.refused(run, "cut.png|truncated", "cut.png", "-k", 2, "-o", "labels.npy")

    def test_several_pictures(self, run, pillow):
        pages = [pillow.fromarray(bands()) for _ in range(3)]
        pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
        self.refused(run, "pages.tif: holds 3 pictures", "pages.tif", "-k", 2, "-o", "a.npy")

    def test_too_large_to_trust(self, run, pillow, monkeypatch):
        pillow.fromarray(bands()).save("image.png")
        monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
        self.refused(run, "image.png: .*limit", "image.png", "-k", 2, "-o", "a.npy")

    def test_without_pillow(self, run, monkeypatch):
        real = builtins.__import__

        def fake(name, *args, **kwargs):
            if name == "PIL":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        np.save("image.npy", bands())
        monkeypatch.setattr(builtins, "__import__", fake)
        match = r'pip install "fastgmm\[plot\]"'
        self.refused(run, match, "image.png", "-k", 2, "-o", "a.npy")
        self.refused(run, match, "image.npy", "-k", 2, "-o", "a.png")
        assert run("segment", "image.npy", "-k", 2, "-o", "a.npy")[0] == 0
