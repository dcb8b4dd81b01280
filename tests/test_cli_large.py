"""Commands whose rows do not fit into memory: the same numbers piece by piece, or no file."""

import os
import signal
import subprocess
import sys
import time

import cli_fixtures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from fastgmm import GaussianMixture, GaussianMixtureOutlierDetector, Parquet
from fastgmm._cli import tables
from fastgmm._cli.results import write_table
from fastgmm._cli.tables import read_table

in_own_folder, run = cli_fixtures.in_own_folder, cli_fixtures.run
NAMES = ["a", "b", "c"]


def rows(n=3001):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)) + 4.0 * rng.integers(3, size=(n, 1))


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of few rows, so that little data have many."""
    monkeypatch.setattr(tables, "PIECE", 300)


@pytest.fixture
def model(in_own_folder):
    model = GaussianMixture(3, random_state=0).fit(rows())
    model.save("model.npz")
    return model


def table(X):
    return pa.table(dict(zip(NAMES, X.T.copy(), strict=True)))


def save(X, name):
    """Write rows to a file of the name's kind."""
    if name.endswith(".npy"):
        np.save(name, X)
    elif name.endswith(".csv"):
        np.savetxt(name, X, "%.17g", ",", header=",".join(NAMES), comments="")
    elif name.endswith(".parquet"):
        pq.write_table(table(X), name, row_group_size=700)
    else:
        os.mkdir(name)
        for number, part in enumerate(np.array_split(X, 3)):
            pq.write_table(table(part), f"{name}/{number}.parquet")
    return name


each_kind = pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet", "folder"])


@each_kind
@pytest.mark.parametrize("output", ["out.npy", "out.csv"])
def test_the_bits_of_the_call_in_memory(run, model, small_pieces, name, output):
    X = rows()
    save(X, name)
    for command, expected in (
        (["predict", "-o", output], model.predict(X)),
        (["predict", "--proba", "-o", output], model.predict_proba(X)),
        (["score", "--samples", output], model.score_samples(X)),
    ):
        code, _, err = run(command[0], "model.npz", name, *command[1:], "-q")
        assert (code, err) == (0, "")
        if output.endswith("npy"):
            np.save("expected.npy", expected)
            with open(output, "rb") as one, open("expected.npy", "rb") as two:
                assert one.read() == two.read()
        else:
            assert_array_equal(read_table(output)[0].reshape(expected.shape), expected)
        os.remove(output)


@each_kind
def test_columns_in_another_order(run, model, small_pieces, name):
    X = rows()
    save(X[:, [2, 0, 1]], name)
    columns = "1,2,0" if name == "x.npy" else "b,c,a"
    assert run("predict", "model.npz", name, "--columns", columns, "-o", "out.npy")[0] == 0
    assert_array_equal(np.load("out.npy"), model.predict(X))


def test_a_model_with_names_takes_its_columns(run, in_own_folder, small_pieces):
    pq.write_table(table(rows()).append_column("text", [["x"] * 3001]), "x.parquet")
    X = Parquet("x.parquet", ["c", "a"])
    model = GaussianMixture(2, random_state=0).fit(X)
    model.save("model.npz")
    code, _, err = run("predict", "model.npz", "x.parquet", "-o", "out.npy", "-q")
    assert (code, err) == (0, "")
    assert_array_equal(np.load("out.npy"), model.predict(X))
    pq.write_table(table(rows()).drop_columns(["c"]), "other.parquet")
    code, _, err = run("predict", "model.npz", "other.parquet", "-q")
    assert (code, err.count("\n")) == (2, 1)
    assert "no column 'c'" in err


@each_kind
def test_detect(run, model, small_pieces, name):
    X = rows()
    save(X, name)
    detector = GaussianMixtureOutlierDetector.from_mixture(model, X, contamination=0.01)
    code, _, _ = run(
        "detect", "model.npz", name, "--contamination", 0.01, "--explain", "-o", "o.csv"
    )
    assert code == 0
    found = np.loadtxt("o.csv", delimiter=",", skiprows=1)
    outliers = np.flatnonzero(detector.predict(X) < 0)
    assert_array_equal(found[:, 0], outliers)
    assert_array_equal(found[:, 3], detector.explain(X[outliers]).distance)


@each_kind
@pytest.mark.parametrize("output", ["out.npy", "out.csv"])
def test_a_bad_row_leaves_the_old_file(run, model, small_pieces, name, output):
    X = rows()
    X[2345, 1] = np.nan
    save(X, name)
    with open(output, "w") as file:
        file.write("old")
    before = set(os.listdir())
    code, out, err = run("predict", "model.npz", name, "-o", output, "-q")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "row 2345, column 1" in err
    assert set(os.listdir()) == before
    with open(output) as file:
        assert file.read() == "old"


def test_as_many_rows_as_pieces_hold(in_own_folder, monkeypatch):
    monkeypatch.setattr("fastgmm._cli.tables.PIECE", 20)
    X = np.arange(60.0).reshape(30, 2)
    np.savetxt("even.csv", X, delimiter=",")
    assert_array_equal(read_table("even.csv")[0], X)
    assert_array_equal(read_table("even.csv", "1")[0], X[:, 1:])


def test_a_file_that_shrinks_is_an_error(in_own_folder):
    for name in ("a.npy", "a.csv"):
        with pytest.raises(ValueError, match="5 rows at first, and 4 when"):
            write_table(name, iter([np.zeros(3), np.zeros(1)]), ["a"], 5)
    assert os.listdir() == []


def test_a_full_disk_is_one_line(run, model, monkeypatch):
    save(rows(), "x.csv")

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables.tempfile, "TemporaryFile", lambda **options: Full())
    code, _, err = run("predict", "model.npz", "x.csv", "-o", "out.npy", "-q")
    assert (code, err.count("\n")) == (2, 1)
    assert "no room for a temporary file" in err
    assert "TMPDIR" in err
    assert "out.npy" not in os.listdir()


def test_the_output_keeps_its_link_and_mode(run, model):
    save(rows(), "x.npy")
    np.save("real.npy", 0)
    os.chmod("real.npy", 0o640)
    os.symlink("real.npy", "out.npy")
    assert run("predict", "model.npz", "x.npy", "-o", "out.npy")[0] == 0
    assert os.path.islink("out.npy")
    assert os.stat("real.npy").st_mode & 0o777 == 0o640
    assert_array_equal(np.load("real.npy"), model.predict(rows()))


# Pieces are slow to make, so that Ctrl-C comes in the middle.
_SLOW = """
import sys, time
import fastgmm.__main__, fastgmm._cli.use as use
pieces = use.pieces
def slowly(*args):
    for number, piece in enumerate(pieces(*args)):
        if number == 2:
            print("writing", flush=True)
            time.sleep(60)
        yield piece
use.pieces = slowly
use.pieces.__globals__["pieces"].__globals__["PIECE"] = 300
sys.exit(fastgmm.__main__.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.npy", "out.csv"])
def test_ctrl_c_leaves_nothing(model, output):
    save(rows(), "x.npy")
    before = set(os.listdir())
    command = [sys.executable, "-c", _SLOW, "predict", "model.npz", "x.npy", "-o", output, "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        assert len(set(os.listdir())) == len(before) + 1  # under another name
        assert output not in os.listdir()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert b"interrupted" in err
    assert set(os.listdir()) == before


_WATCHED = """
import sys, threading
from pathlib import Path
import fastgmm.__main__
import fastgmm._cli.tables
fastgmm._cli.tables.PIECE = 300_000
def anonymous():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) // 1024
fastgmm.__main__.main([*sys.argv[1:3], "few" + Path(sys.argv[3]).suffix, *sys.argv[4:]])
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())
before = anonymous()
thread = threading.Thread(target=watch)
thread.start()
fastgmm.__main__.main(sys.argv[1:])
done.set()
thread.join()
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells what is anonymous")
@pytest.mark.parametrize("name", ["x.npy", "x.csv", "x.parquet"])
def test_memory_is_bounded(model, name):
    """Input and output of 48 MB each, in pieces of 2.4 MB; pyarrow keeps some 45 MB for itself."""
    n = 2_000_000
    save(rows(20), f"few{os.path.splitext(name)[1]}")
    if name.endswith("csv"):
        lines = "".join(",".join(f"{value:.3f}" for value in row) + "\n" for row in rows(1000))
        with open(name, "w") as file:
            file.writelines([lines] * (n // 1000))
    else:
        X = np.tile(rows(1000), (n // 1000, 1))
        if name.endswith("npy"):
            np.save(name, X)
        else:
            pq.write_table(table(X), name, row_group_size=100_000, use_dictionary=False)
    argv = ["predict", "model.npz", name, "--proba", "-q", "-o", "out.npy"]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *argv], capture_output=True, text=True, check=True
    )
    assert (np.load("out.npy", mmap_mode="r").shape, done.stderr) == ((n, 3), "")
    assert int(done.stdout) < 64, done.stdout
