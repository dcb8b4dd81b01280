"""The command line: tables against published figures, one clear line for whatever goes wrong."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cli_fixtures
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastgmm._cli.fit
from fastgmm import BayesianGaussianMixture, GaussianMixture, load
from fastgmm.__main__ import main
from fastgmm._cli.tables import read_table
from fastgmm._matrices import covariance_matrices
from fastgmm._rules import MaximumLikelihood
from fastgmm.data import load_faithful

data, in_own_folder, run = cli_fixtures.data, cli_fixtures.in_own_folder, cli_fixtures.run
pytestmark = pytest.mark.usefixtures("in_own_folder")


def write(name, text, encoding="utf-8"):
    with open(name, "w", encoding=encoding, newline="") as file:
        file.write(text)
    return name


class TestDemo:
    def test_table_and_choice(self, run):
        code, out, err = run("demo")
        assert code == 0
        assert "compiled or loaded" in err
        rows = re.findall(r"^ +([1-6])((?: +\d+\.\d[* ]?){4}) *$", out, re.M)
        assert [int(k) for k, _ in rows] == [1, 2, 3, 4, 5, 6]
        bic = {int(k): [float(v) for v in values.replace("*", "").split()] for k, values in rows}
        # mclust 6.1.3, its sign changed, in its order: spherical, diag, tied, full
        mclust = {
            1: [4024.721, 3055.835, 2607.623, 2607.623],
            2: [3458.305, 2346.065, 2325.220, 2322.192],
        }
        for k, expected in mclust.items():
            np.testing.assert_allclose(bic[k][::-1], expected, atol=0.06)  # printed to 0.1
        assert bic[3][1] == pytest.approx(2314.316, abs=0.06)
        assert "2314.3*" in out
        assert "3 components, 2 features, tied covariance" in out

    def test_picture(self, run):
        pytest.importorskip("matplotlib")
        _, out, _ = run("demo")
        assert "Picture: fastgmm-demo.png" in out
        with open("fastgmm-demo.png", "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"

    def test_picture_elsewhere(self, run):
        pytest.importorskip("matplotlib")
        os.mkdir("pictures")
        assert run("demo", "-o", "pictures/faithful.svg")[0] == 0
        assert os.listdir("pictures") == ["faithful.svg"]

    def test_without_matplotlib(self, run, monkeypatch):
        monkeypatch.setattr("fastgmm._cli.demo.find_spec", lambda name: None)
        code, out, err = run("demo")
        assert code == 0
        assert "Picture" not in out
        assert "install matplotlib" in err
        assert os.listdir() == []


class TestFit:
    def test_bayesian(self, run, data):
        code, out, _ = run("fit", data, "-k", 4, "--bayesian", "--max-iter", 500, "-o", "model.npz")
        assert code == 0
        assert "BIC" not in out
        expected = BayesianGaussianMixture(n_components=4, max_iter=500, random_state=0)
        expected.fit(np.load(data))
        model = load("model.npz")
        assert_array_equal(model.covariances_, expected.covariances_)
        assert f"4 components ({model.n_effective_components_} effective)" in out
        assert f"lower bound {model.lower_bound_:.6g}\n" in out
        assert run("info", "model.npz")[1].startswith("4 components")

    def test_bayesian_priors(self, run, data):
        options = ["--weight-concentration-prior-type", "dirichlet_distribution"]
        options += ["--weight-concentration-prior", 0.01, "--mean-precision-prior", 0.5]
        options += ["--degrees-of-freedom-prior", 4.0]
        code, *_ = run("fit", data, "-k", 3, "--bayesian", *options, "-q", "-o", "model.npz")
        assert code == 0
        priors = {
            "weight_concentration_prior_type": "dirichlet_distribution",
            "weight_concentration_prior": 0.01,
            "mean_precision_prior": 0.5,
            "degrees_of_freedom_prior": 4.0,
        }
        expected = BayesianGaussianMixture(n_components=3, random_state=0, **priors)
        assert load("model.npz").get_params() == expected.get_params()

    def test_prior(self, run, data):
        code, out, _ = run("fit", data, "-k", 3, "--prior", "conjugate", "-q", "-o", "model.npz")
        assert code == 0
        model = load("model.npz")
        assert model.prior == "conjugate"
        assert f"mean log-posterior {model.lower_bound_:.6g} a row" in out

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            (["--mean-precision-prior", 1.0], "--mean-precision-prior needs --bayesian"),
            (["--bayesian", "--prior", "conjugate"], "--prior does not go with --bayesian"),
        ],
    )
    def test_priors_of_the_other_class(self, run, data, options, match):
        code, out, err = run("fit", data, "-k", 2, *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert match in err

    def test_same_as_the_class(self, run, data):
        options = ["--covariance-type", "tied", "--tol", "1e-5", "--max-iter", "200"]
        options += ["--n-init", "2", "--init", "k-means++", "--seed", "3", "--reg-covar", "1e-5"]
        code, out, err = run("fit", data, "-k", 3, *options, "--threads", 2, "-o", "model.npz")
        assert code == 0
        expected = GaussianMixture(
            3,
            covariance_type="tied",
            tol=1e-5,
            max_iter=200,
            n_init=2,
            init_params="k-means++",
            random_state=3,
            reg_covar=1e-5,
        ).fit(load_faithful())
        model = load("model.npz")
        assert_array_equal(model.means_, expected.means_)
        assert_array_equal(model.covariances_, expected.covariances_)
        assert f"BIC {expected.bic(load_faithful()):.6g}" in out
        assert "272 rows, 2 columns" in err
        assert "Initialization 0" in err
        assert "saved as model.npz" in err
        assert "Initialization" not in out

    def test_defaults_are_the_class_s(self, run, data):
        assert run("fit", data, "-k", 2, "-o", "model.npz")[0] == 0
        given = {"n_components": 2, "random_state": 0, "verbose": 0}
        assert load("model.npz").get_params() == GaussianMixture(**given).get_params()

    def test_quiet_and_nothing_saved(self, run, data):
        code, out, err = run("fit", data, "-k", 2, "--quiet")
        assert (code, err) == (0, "")
        assert "component" in out
        assert os.listdir() == [data]

    @pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
    def test_table_of_parameters(self, run, data, covariance_type):
        _, out, _ = run("fit", data, "-k", 2, "--covariance-type", covariance_type, "-o", "m.npz")
        model = load("m.npz")
        covariances = np.linalg.inv(
            [
                {
                    "full": lambda i: model.precisions_[i],
                    "tied": lambda i: model.precisions_,
                    "diag": lambda i: np.diag(model.precisions_[i]),
                    "spherical": lambda i: np.eye(2) * model.precisions_[i],
                }[covariance_type](i)
                for i in range(2)
            ]
        )
        matrices = covariance_matrices(model.means_, model.covariances_, covariance_type)
        np.testing.assert_allclose(matrices, covariances, rtol=1e-8, atol=1e-10)
        for i, covariance in enumerate(covariances):
            sd = np.sqrt(np.diag(covariance))
            pairs = zip(model.means_[i], sd, strict=True)
            cells = [f"{model.weights_[i]:.4f}", *(f"{m:.4g} ± {s:.2g}" for m, s in pairs)]
            cells.append(f"{covariance[0, 1] / sd.prod():.2f}")
            assert " ".join(cells) in re.sub(" +", " ", out)

    def test_many_features(self, run):
        np.save("wide.npy", np.random.default_rng(0).normal(size=(50, 9)))
        _, out, _ = run("fit", "wide.npy", "-k", 1)
        assert "x5" in out
        assert "x6" not in out
        assert "3 more are not shown" in out

    def test_warning_is_one_line(self, run, data):
        code, out, err = run("fit", data, "-k", 3, "--max-iter", 1, "--quiet")
        assert code == 0
        assert "not converged after 1 iterations" in out
        assert re.fullmatch(r"(fastgmm: warning: .+\n)+", err)
        assert "did not converge" in err


class TestInfo:
    def test_same_description(self, run, data):
        _, fitted, _ = run("fit", data, "-k", 2, "-o", "model.npz")
        code, out, err = run("info", "model.npz")
        assert (code, err) == (0, "")
        assert fitted.startswith(out)

    def test_feature_names(self, run):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(load_faithful(), columns=["eruptions", "waiting"])
        GaussianMixture(2, random_state=0).fit(frame).save("model.npz")
        assert "eruptions" in run("info", "model.npz")[1]


class TestTables:
    X = np.arange(12.0).reshape(4, 3)

    @pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i2", "?"])
    def test_npy_is_mapped(self, dtype):
        np.save("a.npy", self.X.astype(dtype))
        X, names = read_table("a.npy")
        assert isinstance(X, np.memmap)
        assert_array_equal(X, self.X.astype(dtype), strict=True)
        assert names == ["x0", "x1", "x2"]

    def test_one_dimension_is_one_feature(self):
        np.save("a.npy", np.arange(3.0))
        assert_array_equal(read_table("a.npy")[0], [[0.0], [1.0], [2.0]])

    def test_npz(self):
        np.savez_compressed("a.npz", anything=self.X)
        assert_array_equal(read_table("a.npz")[0], self.X)
        np.savez("a.npz", y=np.zeros(4), X=self.X)
        assert_array_equal(read_table("a.npz")[0], self.X)

    @pytest.mark.parametrize(
        "text",
        [
            "a,b,c\n0,1,2\n3,4,5\n6,7,8\n9,10,11\n",
            '"a","b","c"\r\n0,1,2\r\n3,4,5\r\n6,7,8\r\n9,10,11\r\n',
            "\ufeff a, b ,c\n0, 1,2.0\n3,4,5e0\n\n6,7,8\n9,10,11",
            '\n"a","b",\'c\'\n"0","1","2"\n3,4,5\n6,7,8\n9,10,11',
        ],
    )
    def test_csv(self, text):
        X, names = read_table(write("a.csv", text))
        assert_array_equal(X, self.X)
        assert [name.strip("'") for name in names] == ["a", "b", "c"]

    def test_csv_without_header(self):
        X, names = read_table(write("a.csv", "0,1,2\n3,4,5\n6,7,8\n9,10,11\n"))
        assert_array_equal(X, self.X)
        assert names == ["x0", "x1", "x2"]

    @pytest.mark.parametrize(("columns", "index"), [("c,a", [2, 0]), ("1", [1]), ("a, 2", [0, 2])])
    def test_columns(self, columns, index):
        X, names = read_table(write("a.csv", "a,b,c\n0,1,2\n3,4,5\n6,7,8\n9,10,11\n"), columns)
        assert_array_equal(X, self.X[:, index])
        assert names == [["a", "b", "c"][j] for j in index]

    def test_columns_of_an_array(self):
        np.save("a.npy", self.X)
        X, names = read_table("a.npy", "2,x0")
        assert_array_equal(X, self.X[:, [2, 0]])
        assert names == ["x2", "x0"]

    def test_text_column_can_be_left_out(self):
        write("iris.csv", "length,species\n5.1,setosa\n4.9,setosa\n")
        assert_array_equal(read_table("iris.csv", "length")[0], [[5.1], [4.9]])


class TestBadInput:
    """Exit code 2 and one line on standard error."""

    def refused(self, run, match, *argv):
        try:
            code, out, err = run(*argv)
        except SystemExit as error:  # argparse
            code, out, err = error.code, "", None
        assert code == 2
        assert out == ""
        if err is not None:
            assert err.count("\n") == 1
            assert re.search(match, err), err

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("a,species\n1,setosa\n", r"column 'species' holds text, 'setosa', in line 2"),
            ("5.1,3.5,setosa\n", "column 'x2' holds text, 'setosa', in line 1"),
            ("a,b\n1,2\n\n3,\n", "column 'b' has no value in line 4"),
            ("a,b\n1,2\n3\n", "column 'b' has no value in line 3"),
            ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, but there are 2 columns: mend it"),
            ("a,b\n1,2,3\n3,4,5\n", "line 2 has 3 fields, but there are 2 columns: mend it"),
            ("a;b\n1;2\n", "column 'a;b' holds text, '1;2'"),
            ("a,b\n", "no rows"),
            ("", "empty"),
            ("\n\n", "empty"),
            ("a,b\n1,nan\n2,3\n4,5\n", "NaN"),
            ("a,b\n1,2\n", "1 sample"),
        ],
    )
    def test_csv(self, run, text, match):
        self.refused(run, match, "fit", write("bad.csv", text), "-k", 1, "-q")

    def test_csv_of_another_encoding(self, run):
        write("bad.csv", "größe\n1\n2\n", encoding="latin-1")
        self.refused(run, "bad.csv: is no text in UTF-8", "fit", "bad.csv", "-k", 1)

    @pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
    @pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04"])
    def test_damaged(self, run, name, content):
        with open(name, "wb") as file:
            file.write(content)
        self.refused(run, name, "fit", name, "-k", 1)

    def test_cut_off(self, run, data):
        with open(data, "rb+") as file:
            file.truncate(1000)
        self.refused(run, data, "fit", data, "-k", 1)

    @pytest.mark.parametrize(
        ("array", "match"),
        [
            (np.zeros((2, 2, 2)), "3 dimensions"),
            (np.zeros((0, 2)), "0 sample|bad.npy"),
            (np.array([["a", "b"]]), "not real numbers"),
            (np.zeros((3, 2), complex), "complex128, not real numbers"),
            (np.zeros(3, [("a", "f8")]), "not real numbers"),
            (np.array([[None, 1]]), "bad.npy"),
        ],
    )
    def test_npy(self, run, array, match):
        np.save("bad.npy", array)
        self.refused(run, match, "fit", "bad.npy", "-k", 1, "-q")

    def test_npz_of_many(self, run):
        np.savez("bad.npz", a=np.zeros(3), b=np.zeros(3))
        self.refused(run, "one called X; found: a, b", "fit", "bad.npz", "-k", 1)

    @pytest.mark.parametrize("command", [["info"], ["fit", "-k", "2"]])
    @pytest.mark.parametrize("name", ["missing.npy", "missing.npz", "missing.csv"])
    def test_missing(self, run, command, name):
        self.refused(run, f"{name}: No such file", *command, name)

    @pytest.mark.parametrize(
        ("argv", "match"),
        [
            (["-k", 0], "n_components"),
            (["-k", 300], "n_samples >= n_components"),
            (["-k", 2, "--tol", -1], "tol"),
            (["-k", 2, "--seed", -1], "random_state"),
            (["-k", 2, "--threads", 0], "n_threads"),
            (["-k", 2, "--columns", "7"], "no column '7'; there are x0, x1"),
            (["-k", 2, "-o", "missing/model.npz"], "no folder missing"),
            (["-k", 2, "-o", "."], "cannot be written"),
            ([], ""),
            (["-k", "many"], ""),
            (["-k", 2, "--init", "nothing"], ""),
            (["-k", 2, "--unknown"], ""),
        ],
    )
    def test_options(self, run, data, argv, match):
        self.refused(run, match, "fit", data, "-q", *argv)

    def test_other_suffix(self, run):
        self.refused(run, "must end in .npy, .npz, .csv, .parquet", "fit", "data.txt", "-k", 1)

    def test_folder(self, run):
        os.mkdir("folder.csv")
        self.refused(run, "folder.csv", "fit", "folder.csv", "-k", 1)

    def test_info_of_no_model(self, run):
        np.savez("other.npz", X=np.zeros(3))
        self.refused(run, "other.npz.*not written by fastgmm", "info", "other.npz")

    def test_usage_error_is_one_line(self, capsys):
        with pytest.raises(SystemExit) as info:
            main(["fit", "data.npy"])
        out, err = capsys.readouterr()
        assert (info.value.code, out, err.count("\n")) == (2, "", 1)
        assert "-k/--components" in err

    def test_out_of_memory(self, run, data, monkeypatch):
        def fail(*args):
            raise MemoryError("Unable to allocate 1 TiB")

        monkeypatch.setattr(fastgmm._cli.fit, "read_table", fail)
        self.refused(run, "not enough memory; Unable to allocate", "fit", data, "-k", 1)


class TestProcess:
    """Seen from outside: a process of its own, which imports what this one imports."""

    @pytest.fixture(autouse=True)
    def same_package(self, monkeypatch):
        folder = os.path.dirname(os.path.dirname(fastgmm.__file__))
        monkeypatch.setenv("PYTHONPATH", folder)

    def command(self, *argv):
        return [sys.executable, "-m", "fastgmm", *argv]

    def test_module(self, data):
        done = subprocess.run(
            self.command("fit", data, "-k", "2"), capture_output=True, text=True, check=True
        )
        assert "2 components, 2 features" in done.stdout
        assert "Initialization 0" in done.stderr

    def test_help(self):
        done = subprocess.run(self.command("--help"), capture_output=True, text=True, check=True)
        assert all(
            name in done.stdout
            for name in ("demo", "fit", "info", "predict", "sample", "score", "select")
        )

    def test_missing_file(self):
        done = subprocess.run(
            self.command("info", "missing.npz"), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr == "fastgmm: error: missing.npz: No such file or directory\n"

    @pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
    def test_broken_pipe(self, data):
        """A reader that has gone, such as head, is no error, and what was to be saved is."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            self.command("fit", data, "-k", "2", "-q", "-o", "model.npz"),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        assert done.returncode == 141
        assert done.stderr == ""
        assert load("model.npz").n_components == 2

    @pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
    def test_interrupt(self):
        X = np.random.default_rng(0).normal(size=(200_000, 4))
        np.save("noise.npy", X)
        argv = ["fit", "noise.npy", "-k", "40", "--tol", "0", "--max-iter", "1000000"]
        process = subprocess.Popen(
            self.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert "200000 rows" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
        assert out == ""
        assert err.endswith("fastgmm: interrupted\n")
        assert "Traceback" not in err


def test_interrupt_inside(run, data, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(GaussianMixture, "fit", interrupt)
    code, out, err = run("fit", data, "-k", 2, "-q")
    assert (code, out, err) == (130, "", "fastgmm: interrupted\n")


class TestCheckpoints:
    ARGV = ("-k", 3, "--tol", 1e-9, "--max-iter", 60)

    def test_resume(self, run, data):
        code, _, err = run("fit", data, *self.ARGV, "--checkpoint", "run.npz", "--resume")
        assert code == 0
        assert "Going on" not in err
        argv = (*self.ARGV, "--checkpoint", "run.npz", "--resume", "-o", "model.npz")
        code, out, err = run("fit", data, *argv)
        assert code == 0
        n_iter = load("model.npz").n_iter_
        assert f"Going on with initialization 0, after iteration {n_iter}\n" in err
        assert run("fit", data, *self.ARGV, "-o", "other.npz")[1] == out
        for name in ("means_", "precisions_cholesky_", "lower_bounds_"):
            assert_array_equal(getattr(load("model.npz"), name), getattr(load("other.npz"), name))

    def test_other_data(self, run, data):
        run("fit", data, *self.ARGV, "--checkpoint", "run.npz")
        np.save("other.npy", np.load(data)[1:])
        code, out, err = run("fit", "other.npy", *self.ARGV, "--checkpoint", "run.npz", "--resume")
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("fastgmm: error: 'run.npz' is the checkpoint of an")

    @pytest.mark.parametrize(
        ("argv", "match"),
        [
            (("--resume",), "--resume needs the file to go on from: give --checkpoint, too"),
            (("--checkpoint", "none/run.npz"), "none/run.npz: there is no folder none"),
            (("--checkpoint", "a.npz", "-o", "./a.npz"), "must be two files"),
            (
                ("--checkpoint", "data.npy"),
                "data.npy: would be written over data.npy, which is read",
            ),
        ],
    )
    def test_refusals(self, run, data, argv, match):
        content = Path(data).read_bytes()
        code, out, err = run("fit", data, *self.ARGV, *argv, "-q")
        assert (code, out) == (2, "")
        assert match in err
        assert err.count("\n") == 1
        assert Path(data).read_bytes() == content

    @pytest.mark.parametrize("resume", [(), ("--resume",)])
    def test_interrupt_says_how_to_go_on(self, run, data, monkeypatch, resume):
        update = MaximumLikelihood.update
        calls = []

        def interrupted(self, stats):
            calls.append(1)
            if len(calls) == 9:
                raise KeyboardInterrupt
            return update(self, stats)

        monkeypatch.setattr(MaximumLikelihood, "update", interrupted)
        argv = ("fit", data, *self.ARGV, "--checkpoint", "run.npz", "-q")
        code, out, err = run(*argv, *resume)
        assert (code, out) == (130, "")
        how = "the same command" + ("" if resume else " and --resume")
        assert err == f"fastgmm: run.npz is kept: {how} goes on\nfastgmm: interrupted\n"
        code, out, err = run(*argv)
        assert code == 2
        assert "a fit that has not ended" in err
        code, out, err = run(*argv[:-1], "--resume")
        assert code == 0
        assert "Going on with initialization 0, after iteration 8\n" in err
        assert run("fit", data, *self.ARGV, "-q")[1] == out


def test_ascii_output(data, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["fit", data, "-k", "2", "-q"]) == 0
    assert b"2 components" in stream.buffer.getvalue()
