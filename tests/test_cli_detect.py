"""``fastgmm detect``: what the detector finds, as a table."""

import csv
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    GaussianMixtureOutlierDetector,
)
from fastgmm.__main__ import main
from fastgmm.data import load_faithful


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.vstack([load_faithful(), [[3.0, 40.0]]])
    np.save("data.npy", X)
    with open("named.csv", "w") as file:
        file.write("duration,waiting\n" + "".join(f"{a!r},{b!r}\n" for a, b in X.tolist()))
    GaussianMixture(2, random_state=0).fit(load_faithful()).save("model.npz")


@pytest.fixture
def run(capsys):
    def run(*argv):
        code = main(["detect", *map(str, argv)])
        return code, *capsys.readouterr()

    return run


def expected(**options):
    mixture = GaussianMixture(2, random_state=0).fit(load_faithful())
    X = np.load("data.npy")
    return GaussianMixtureOutlierDetector.from_mixture(mixture, X, **options), X


def table(text):
    head, *lines = csv.reader(text.splitlines())
    return head, np.array(lines, dtype=float).reshape(len(lines), len(head))


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        ([], {}),
        (["--contamination", 0.02], {"contamination": 0.02}),
        (["--rule", "component"], {"rule": "component"}),
        (["--log-density", -7], {"log_density": -7.0}),
        (
            ["--rule", "component", "--false-alarm", 0.01],
            {"rule": "component", "false_alarm": 0.01},
        ),
    ],
)
def test_same_as_the_class(run, argv, options):
    code, out, err = run("model.npz", "data.npy", *argv)
    assert code == 0
    detector, X = expected(**options)
    outliers = np.flatnonzero(detector.predict(X) == -1)
    head, found = table(out)
    assert head == ["row", "score"]
    assert_array_equal(found[:, 0], outliers)
    assert_array_equal(found[:, 1], detector.score_samples(X)[outliers])
    assert 272 in found[:, 0]
    assert f"{len(outliers)} of 273 rows score below {detector.offset_:.6g}" in err


@pytest.mark.parametrize("data", ["data.npy", "named.csv"])
def test_explanation(run, data):
    _, out, _ = run("model.npz", data, "--explain", "--contamination", 0.01)
    head, found = table(out)
    features = ["duration", "waiting"] if data == "named.csv" else ["x0", "x1"]
    assert head == ["row", "score", "component", "distance", *features]
    assert_allclose(found[:, 4:].sum(axis=1), found[:, 3] ** 2)
    detector, X = expected(contamination=0.01)
    rows = found[:, 0].astype(int)
    assert_allclose(found[:, 3], detector.explain(X[rows]).distance, rtol=1e-12)


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_no_outliers(run, explain):
    code, out, _ = run("model.npz", "data.npy", "--log-density", -1e6, *explain)
    assert code == 0
    assert table(out)[1].shape[0] == 0
    assert out.startswith("row,score")


def test_file(run):
    code, out, err = run("model.npz", "data.npy", "-o", "found.csv")
    assert (code, out) == (0, "")
    assert "saved as found.csv" in err
    with open("found.csv") as file:
        written = file.read()
    assert written == run("model.npz", "data.npy", "-q")[1]


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (["missing.npz", "data.npy"], "missing.npz: No such file"),
        (["model.npz", "missing.npy"], "missing.npy: No such file"),
        (["model.npz", "data.npy", "-o", "missing/found.csv"], "no folder missing"),
        (["model.npz", "data.npy", "--columns", "0"], "1 features.*expecting 2"),
        (["model.npz", "data.npy", "--contamination", 0.9], "contamination"),
        (["model.npz", "data.npy", "--false-alarm", 0.1], "rule='component'"),
        (["model.npz", "data.npy", "--log-density", -1, "--false-alarm", 0.1], "not allowed with"),
        (["data.npy"], "required"),
    ],
)
def test_bad_input_is_one_line(capsys, argv, match):
    try:
        code = main(["detect", "-q", *map(str, argv)])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(match, err)


def test_a_bayesian_model(run):
    X = np.load("data.npy")
    model = BayesianGaussianMixture(n_components=2, random_state=0).fit(load_faithful())
    model.save("model.npz")
    code, out, _ = run("model.npz", "data.npy", "--contamination", 0.05)
    assert code == 0
    scores = model.score_samples(X)
    lowest = np.sort(np.argsort(scores)[: int(0.05 * len(X))])
    assert [int(line.split(",")[0]) for line in out.splitlines()[1:]] == lowest.tolist()
