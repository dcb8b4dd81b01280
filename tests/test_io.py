"""Model files: what is saved comes back exactly; what is not a model is refused in clear words."""

import io
import json
import os
import stat
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastgmm.io
from fastgmm import GaussianMixture, load
from fastgmm.data import load_faithful

TYPES = ("full", "tied", "diag", "spherical")


def fitted(**params):
    params = {"n_components": 2, "random_state": 0, **params}
    return GaussianMixture(**params).fit(load_faithful())


def public_state(model):
    return {k: v for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}


def assert_same(a, b):
    """Equal in value, type and dtype."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert_array_equal(a, b, strict=True)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.random.RandomState):
        assert_array_equal(a.get_state()[1], b.get_state()[1])
        assert a.get_state()[2:] == b.get_state()[2:]
    else:
        assert a == b


def assert_same_model(a, b):
    assert type(a) is type(b)
    for x, y in ((a.get_params(), b.get_params()), (public_state(a), public_state(b))):
        assert x.keys() == y.keys()
        for name in x:
            assert_same(x[name], y[name])


def rewrite(content, change_header=None, **arrays):
    """Give the archive again with a changed header or with other arrays."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "header.json" and change_header:
                header = json.loads(data)
                change_header(header)
                data = json.dumps(header)
            if name.removesuffix(".npy") in arrays:
                buffer = io.BytesIO()
                np.save(buffer, arrays[name.removesuffix(".npy")])
                data = buffer.getvalue()
            new.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture
def content(path):
    """The bytes of a small model file."""
    fitted().save(path)
    return path.read_bytes()


def refused(path, content, match):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as info:
        load(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_all_types(self, path, covariance_type, dtype):
        X = load_faithful().astype(dtype)
        model = GaussianMixture(3, covariance_type=covariance_type, random_state=1).fit(X)
        model.save(path)
        again = load(path)
        assert_same_model(model, again)
        assert_array_equal(model.score_samples(X), again.score_samples(X), strict=True)
        assert_array_equal(model.predict(X), again.predict(X), strict=True)

    def test_array_parameters(self, path):
        model = fitted(
            weights_init=[0.5, 0.5],
            means_init=np.array([[2.0, 50.0], [4.0, 80.0]]),
            precisions_init=(np.eye(2), np.eye(2)),
        )
        parameters = model.get_params()
        model.save(path)
        again = load(path)
        assert_same_model(model, again)
        assert_same(parameters, model.get_params())

    @pytest.mark.parametrize("random_state", [None, 3, np.int64(3), np.random.RandomState(7)])
    def test_random_state(self, path, random_state):
        model = fitted(random_state=random_state)
        if isinstance(random_state, np.random.RandomState):
            random_state.normal()  # leaves a second normal number waiting in the state
        model.save(path)
        again = load(path)
        assert_same_model(model, again)
        if random_state is not None:
            assert_array_equal(model.sample(5)[0], again.sample(5)[0])

    def test_other_bit_generator_is_refused(self, path):
        model = fitted()
        model.random_state = np.random.RandomState(np.random.PCG64(0))
        with pytest.raises(TypeError, match="PCG64"):
            model.save(path)
        assert not path.exists()

    def test_feature_names(self, path):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(load_faithful(), columns=["eruptions", "waiting"])
        model = GaussianMixture(2, random_state=0).fit(frame)
        model.save(path)
        assert_same_model(model, load(path))
        assert load(path).feature_names_in_.tolist() == ["eruptions", "waiting"]

    def test_numpy_scalars_and_infinities(self, path):
        model = fitted(n_components=np.int32(2), tol=np.float32(1e-3), max_iter=0)
        assert model.lower_bound_ == -np.inf
        model.save(path)
        assert_same_model(model, load(path))

    def test_from_parameters(self, path):
        model = GaussianMixture.from_parameters(
            [0.3, 0.7], [[0.0, 0.0], [3.0, 3.0]], [np.eye(2), [[2.0, 1.0], [1.0, 2.0]]]
        )
        model.save(path)
        assert_same_model(model, load(path))

    @pytest.mark.parametrize("scale", [1e-100, 1e-5, 1e5, 1e100])
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_any_scale_and_condition(self, path, covariance_type, scale):
        X = load_faithful() * [scale, 1.0]
        X = np.column_stack([X, X[:, 0] + 1e-6 * scale * np.sin(np.arange(len(X)))])
        model = GaussianMixture(
            covariance_type=covariance_type, reg_covar=0, weights_init=[1.0]
        ).fit(X)
        model.save(path)
        assert_same_model(model, load(path))

    def test_same_model_same_bytes(self, path, content):
        fitted().save(path)
        assert path.read_bytes() == content

    def test_numpy_reads_it_without_pickle(self, path, content):
        with np.load(path, allow_pickle=False) as archive:
            assert_array_equal(archive["means_"], fitted().means_)

    def test_path_as_text(self, path):
        fitted().save(str(path))
        assert_same_model(load(str(path)), load(path))


class TestWriting:
    def test_unfitted(self, path):
        with pytest.raises(ValueError, match="not fitted"):
            GaussianMixture().save(path)
        with pytest.raises(ValueError, match="not fitted"):
            fastgmm.io.save(GaussianMixture(), path)
        assert not path.exists()

    def test_subclass(self, path):
        class Mine(GaussianMixture):
            pass

        with pytest.raises(TypeError, match="Mine has no place in a model file"):
            Mine().fit(load_faithful()).save(path)

    def test_strange_parameter(self, path):
        model = fitted()
        model.tol = object()
        with pytest.raises(TypeError, match="tol: a value of type object"):
            model.save(path)

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_failure_leaves_the_old_file(self, path, content, monkeypatch, step):
        def fail(*args):
            raise OSError("no space left on device")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="no space"):
            fitted(n_components=3).save(path)
        assert path.read_bytes() == content
        assert os.listdir(path.parent) == [path.name]

    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            fitted().save(tmp_path / "missing" / "model.npz")

    @pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
    def test_permissions(self, path, content):
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o640)
        fitted().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.skipif(os.name != "posix", reason="symbolic links")
    def test_symbolic_link(self, path, content):
        link = path.with_name("link.npz")
        link.symlink_to(path.name)
        fitted(n_components=3).save(link)
        assert link.is_symlink()
        assert load(path).n_components == 3


class TestRefusals:
    def test_missing(self, path):
        with pytest.raises(FileNotFoundError):
            load(path)

    @pytest.mark.parametrize("foreign", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04" * 50])
    def test_no_archive(self, path, foreign):
        refused(path, foreign, "no .npz archive")

    def test_foreign_archive(self, path):
        np.savez(path, weights_=np.ones(2))
        refused(path, path.read_bytes(), "not written by fastgmm")

    def test_pickled_array(self, path, content):
        means = np.array([{"a": 1}, None], dtype=object)
        refused(path, rewrite(content, means_=means), "does not hold the numbers")

    def test_newer_version(self, path, content):
        def newer(header):
            header.update(format_version=2, fastgmm="9.1")

        refused(path, rewrite(content, newer), r"version 2 \(fastgmm 9.1\).*please upgrade")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda h: h.update(format="other"), "not written by fastgmm"),
            (lambda h: h.update({"class": "History"}), "unknown class 'History'"),
            (lambda h: h["parameters"].update(colour="red"), "colour"),
            (lambda h: h["parameters"].update(tol={"eval": "1"}), "unknown kind of value 'eval'"),
            (lambda h: h["parameters"].update(n_components=3), "n_components"),
            (lambda h: h["parameters"].update(covariance_type="round"), "covariance_type"),
            (lambda h: h["parameters"].update(covariance_type="tied"), "must have shape"),
            (lambda h: h["attributes"].pop("n_iter_"), "n_iter_ missing"),
            (lambda h: h["attributes"].update(n_iter_=-1), "n_iter_"),
            (lambda h: h["attributes"].update(converged_="yes"), "converged_"),
            (lambda h: h["attributes"].update(lower_bound_="high"), "lower_bound_"),
            (lambda h: h["attributes"].update(n_features_in_=5), "n_features_in_"),
            (lambda h: h["attributes"].update(fit=1), "impossible name"),
            (lambda h: h["attributes"].update(__class__=1), "impossible name"),
            (
                lambda h: h["attributes"].update(feature_names_in_={"strings": ["a"]}),
                "feature_names_in_ must be 2 names",
            ),
        ],
    )
    def test_header(self, path, content, change, match):
        refused(path, rewrite(content, change), match)

    @pytest.mark.parametrize(
        ("arrays", "match"),
        [
            ({"weights_": np.array([0.5, 0.6])}, "must sum to 1, not 1.1"),
            ({"weights_": np.array([1.5, -0.5])}, "must not be negative"),
            ({"weights_": np.array([1.0])}, r"must have shape \(2,\)"),
            ({"weights_": np.array([1, 0])}, "must be finite real numbers"),
            ({"means_": np.array([[0.0, np.nan], [0.0, 0.0]])}, "means_ must be finite"),
            ({"means_": np.zeros(2)}, "means_ must have 2 dimensions"),
            ({"means_": np.zeros((2, 0))}, "means_ must have 2 dimensions"),
            ({"means_": np.zeros((2, 3))}, "n_features_in_"),
            ({"covariances_": np.ones((2, 2))}, "must have shape"),
            ({"covariances_": np.array([[[1.0, 2], [2, 1]]] * 2)}, "positive definite"),
            ({"covariances_": np.array([-np.eye(2)] * 2)}, "positive definite"),
            ({"covariances_": np.array([[[1.0, 0.5], [0.4, 1]]] * 2)}, "positive definite"),
            ({"precisions_": np.array([np.eye(2)] * 2)}, "positive definite and agree"),
            ({"precisions_cholesky_": np.array([np.eye(2)] * 2)}, "positive definite and agree"),
            ({"precisions_cholesky_": np.full((2, 2, 2), 1e300)}, "positive definite and agree"),
        ],
    )
    def test_arrays(self, path, content, arrays, match):
        refused(path, rewrite(content, **arrays), match)

    @pytest.mark.parametrize("covariance_type", ["diag", "spherical", "tied"])
    def test_negative_variance(self, path, covariance_type):
        model = fitted(covariance_type=covariance_type)
        model.save(path)
        changed = rewrite(path.read_bytes(), covariances_=-model.covariances_)
        refused(path, changed, "positive definite")

    def test_compressed_member(self, path, content):
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            header = old.read("header.json")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
            new.writestr("header.json", header)
            new.writestr("means_.npy", bytes(10_000_000))
        refused(path, stream.getvalue(), "compressed or has an impossible size")

    def test_absurd_shape(self, path, content):
        buffer = io.BytesIO()
        description = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
        np.lib.format.write_array_header_1_0(buffer, description)
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
            for name in old.namelist():
                new.writestr(name, buffer.getvalue() if name == "means_.npy" else old.read(name))
        refused(path, stream.getvalue(), "does not hold the numbers")

    def test_deep_header(self, path, content):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as new:
            new.writestr("header.json", "[" * 200_000)
        refused(path, stream.getvalue(), "cannot read")

    def test_model_that_could_not_be_read_is_not_written(self, path, content):
        model = fitted(n_components=3)
        model.means_ = np.full_like(model.means_, np.nan)
        with pytest.raises(ValueError, match="means_ must be finite"):
            model.save(path)
        assert path.read_bytes() == content


class TestFuzz:
    """A damaged file loads equal (the damage was in no man's land) or is refused, no third way."""

    def check(self, path, damaged, model):
        path.write_bytes(damaged)
        try:
            again = load(path)
        except ValueError as error:
            message = str(error)
        else:
            assert_same_model(model, again)
            message = str(path)
        assert str(path) in message

    def test_truncated(self, path, content):
        model = load(path)
        for size in range(0, len(content), 7):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match="cannot read a fastgmm model"):
                load(path)
        self.check(path, content + b"\0" * 10, model)

    def test_flipped_bits(self, path, content):
        model = load(path)
        generator = np.random.default_rng(0)
        directory = content.index(b"PK\x01\x02")  # each bit of the table of contents
        bits = {*generator.integers(8 * len(content), size=1500).tolist()}
        bits |= {*range(8 * directory, 8 * len(content), 3)}
        for bit in sorted(bits):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << (bit % 8)
            self.check(path, bytes(damaged), model)

    def test_overwritten_stretches(self, path, content):
        model = load(path)
        generator = np.random.default_rng(1)
        for _ in range(300):
            start, size = generator.integers(len(content)), generator.integers(1, 64)
            damaged = bytearray(content)
            damaged[start : start + size] = generator.bytes(size)
            self.check(path, bytes(damaged), model)
