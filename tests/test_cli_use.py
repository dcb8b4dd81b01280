"""Commands that choose a model and use one: the same as the class, and one line on bad input."""

import os
import re

import cli_fixtures
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm import BayesianGaussianMixture, GaussianMixture, load, select_model
from fastgmm._cli.results import write_table
from fastgmm._cli.tables import read_table
from fastgmm.data import load_faithful

X = load_faithful()
data, in_own_folder, run = cli_fixtures.data, cli_fixtures.in_own_folder, cli_fixtures.run


@pytest.fixture
def model(in_own_folder):
    """A fitted model, in a file too."""
    model = GaussianMixture(2, covariance_type="tied", random_state=0).fit(X)
    model.save("model.npz")
    return model


def refused(outcome, match):
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(match, err), err


class TestPredict:
    def test_labels(self, run, data, model):
        code, _, err = run("predict", "model.npz", data, "-o", "labels.npy")
        assert code == 0
        assert "272 rows, 2 columns" in err
        assert "saved as labels.npy" in err
        assert_array_equal(np.load("labels.npy"), model.predict(X), strict=True)

    def test_printed(self, run, data, model):
        code, out, err = run("predict", "model.npz", data, "-q")
        assert (code, err) == (0, "")
        head, *labels = out.split()
        assert head == "component"
        assert_array_equal([int(label) for label in labels], model.predict(X))

    @pytest.mark.parametrize("file", ["p.npy", "p.csv"])
    def test_probabilities(self, run, data, model, file):
        assert run("predict", "model.npz", data, "--proba", "-o", file)[0] == 0
        found, names = read_table(file)
        assert_array_equal(found, model.predict_proba(X))
        if file == "p.csv":
            assert names == ["component 0", "component 1"]

    def test_columns_by_name(self, run):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(X, columns=["eruptions", "waiting"])
        model = GaussianMixture(2, random_state=0).fit(frame)
        model.save("model.npz")
        frame[["waiting", "eruptions"]].assign(more=0.0).to_csv("data.csv", index=False)
        assert run("predict", "model.npz", "data.csv", "-o", "labels.npy")[0] == 0
        assert_array_equal(np.load("labels.npy"), model.predict(frame))
        # without names, or with columns asked for, in their order
        frame.to_csv("plain.csv", header=False, index=False)
        code, _, err = run("predict", "model.npz", "plain.csv", "-q", "-o", "labels.npy")
        assert (code, err) == (0, "")
        assert_array_equal(np.load("labels.npy"), model.predict(frame))
        frame.rename(columns={"waiting": "pause"}).to_csv("other.csv", index=False)
        refused(run("predict", "model.npz", "other.csv", "-q"), "no column 'waiting'.*--columns")
        ask = ["--columns", "eruptions,pause", "-q", "-o", "labels.npy"]
        assert run("predict", "model.npz", "other.csv", *ask)[0] == 0
        assert_array_equal(np.load("labels.npy"), model.predict(frame))


class TestScore:
    def test_figures(self, run, data, model):
        code, out, _ = run("score", "model.npz", data)
        assert code == 0
        figures = [float(number) for number in re.findall(r"-?\d+\.\d+", out)]
        expected = [model.score(X) * 272, model.score(X), model.bic(X), model.aic(X), model.icl(X)]
        assert_allclose(figures, expected, rtol=1e-5)

    @pytest.mark.parametrize("file", ["s.npy", "s.csv"])
    def test_samples(self, run, data, model, file):
        code, out, _ = run("score", "model.npz", data, "--samples", file, "-q")
        assert code == 0
        assert "BIC" in out
        assert_array_equal(read_table(file)[0][:, 0], model.score_samples(X))

    def test_bayesian_has_no_criteria(self, run, data):
        model = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
        model.save("model.npz")
        code, out, _ = run("score", "model.npz", data, "--samples", "s.npy", "-q")
        assert (code, out.count("\n")) == (0, 1)
        figures = [float(number) for number in re.findall(r"-?\d+\.\d+", out)]
        assert_allclose(figures, [model.score(X) * 272, model.score(X)], rtol=1e-5)
        assert_array_equal(np.load("s.npy"), model.score_samples(X))


class TestSample:
    def test_rows(self, run, model):
        code, out, _ = run("sample", "model.npz", "-n", 50, "--seed", 3, "-o", "new.npy")
        assert (code, out) == (0, "")
        assert_array_equal(np.load("new.npy"), model.sample(50, random_state=3)[0])

    def test_printed(self, run, model):
        code, out, err = run("sample", "model.npz", "-n", 2, "-q")
        assert (code, err) == (0, "")
        assert out.splitlines()[0] == "x0,x1"
        rows = np.array([line.split(",") for line in out.split()[1:]], dtype=float)
        assert_array_equal(rows, model.sample(2, random_state=0)[0])

    def test_can_be_fitted_again(self, run, model):
        assert run("sample", "model.npz", "-n", 500, "-o", "new.csv")[0] == 0
        assert run("fit", "new.csv", "-k", 2, "-q")[0] == 0


class TestSelect:
    def test_same_as_the_function(self, run, data):
        options = ["-k", "1-3,5", "--types", "tied,full", "--tol", "1e-4", "--n-init", 2]
        code, out, err = run("select", data, *options, "--seed", 1, "-o", "best.npz")
        assert code == 0
        expected = select_model(
            X, [1, 2, 3, 5], ["tied", "full"], tol=1e-4, n_init=2, random_state=1
        )
        assert_array_equal(load("best.npz").means_, expected.best.means_)
        rows = re.findall(r"^ +(\d) +([\d.]+)([* ]) +([\d.]+)([* ]) *$", out, re.M)
        assert [int(row[0]) for row in rows] == [1, 2, 3, 5]
        printed = [float(row[column]) for column in (1, 3) for row in rows]
        assert_allclose(printed, [row.bic for row in expected.table], atol=0.051)
        stars = [row[column] for column in (2, 4) for row in rows]
        assert stars.index("*") == expected.best_index
        assert stars.count("*") == 1
        assert f"{expected.best.n_components} components, 2 features, tied" in out
        assert len(re.findall(r"^\[\d/8\]", err, re.M)) == 8
        assert "8 candidates" in err

    def test_published_choice(self, run, data):
        """mclust's, its sign changed: EEE with 3 components, 2314.316."""
        _, out, _ = run("select", data, "-k", "1-4", "--tol", "1e-6", "--max-iter", 1000)
        assert "2314.3*" in out
        assert "3 components, 2 features, tied covariance" in out

    def test_criterion(self, run, data):
        code, out, err = run("select", data, "-k", "2,3", "--criterion", "icl", "--quiet")
        assert (code, err) == (0, "")
        assert "ICL by number" in out
        assert os.listdir() == [data]

    def test_failures_are_dashes(self, run):
        np.save("few.npy", X[:4])
        code, out, _ = run("select", "few.npy", "-k", "1,2,9", "--types", "diag", "-q")
        assert code == 0
        assert re.search(r"^ +9 +- *$", out, re.M)


class TestBadInput:
    @pytest.mark.parametrize(
        ("argv", "match"),
        [
            (["predict", "missing.npz", "data.npy"], "missing.npz: No such file"),
            (["predict", "data.npy", "data.npy"], "cannot read a fastgmm model"),
            (["predict", "model.npz", "data.npy", "--columns", "0"], "1 features, but"),
            (["predict", "model.npz", "data.npy", "-o", "labels.txt"], "must end in .npy or .csv"),
            (["predict", "model.npz", "data.npy", "-o", "no/labels.npy"], "no folder no"),
            (["score", "model.npz", "data.npy", "--samples", "s.npz"], "must end in .npy or .csv"),
            (["score", "model.npz", "nan.npy"], "NaN"),
            (["sample", "model.npz", "-n", "0"], "at least one sample"),
            (["sample", "model.npz", "-n", "5", "--seed", "-1"], "[Ss]eed"),
            (["sample", "model.npz"], "-n"),
            (["select", "data.npy", "-k", "0"], "n_components"),
            (["select", "data.npy", "-k", "3-1"], "range '3-1' is empty"),
            (["select", "data.npy", "-k", "two"], "'two' is no number"),
            (["select", "data.npy", "--types", "full,round"], "'round' is none of full, tied"),
            (["select", "data.npy", "-k", "300"], "None of the 4 candidates"),
            (["select", "data.npy", "-o", "no/best.npz"], "no folder no"),
        ],
    )
    def test_one_line(self, run, data, model, argv, match):
        X_nan = X.copy()
        X_nan[5] = np.nan
        np.save("nan.npy", X_nan)
        before = set(os.listdir())
        refused(run(*argv, "-q"), match)
        assert set(os.listdir()) == before


def test_numbers_of_all_types_are_written(in_own_folder):
    for values in (np.arange(3), np.arange(6.0).reshape(3, 2) / 3, np.float32([0.1, 2.0])):
        for path in ("a.npy", "a.csv", "A.NPY"):
            heads = [f"c{j}" for j in range(values[:1].size)]
            write_table(path, [values[:1], values[1:]], heads, len(values))
            assert_array_equal(read_table(path)[0], values.reshape(len(values), -1))
    assert set(os.listdir()) == {"a.npy", "a.csv", "A.NPY"}
