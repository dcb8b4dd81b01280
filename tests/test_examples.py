"""Every script of ``examples/`` runs as written and writes the picture it promises."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(ROOT.glob("examples/*.py"))

pytestmark = pytest.mark.slow


def run(script, tmp_path, *options):
    command = [sys.executable, "-W", "error", script, *options]
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_runs_and_draws(script, tmp_path):
    picture = tmp_path / "picture.png"
    run(script, tmp_path, "--output", picture)
    assert picture.stat().st_size > 5_000


def test_generate_digits_from_files_of_mnist(tmp_path):
    images = np.kron(load_digits().images[:300], np.ones((2, 2))) * 15
    head = np.array([0x803, *images.shape], ">i4").tobytes()
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(head + images.astype(np.uint8).tobytes())
    picture = tmp_path / "picture.png"
    script = ROOT / "examples" / "generate_digits.py"
    run(script, tmp_path, "--mnist", tmp_path, "--output", picture)
    assert picture.stat().st_size > 5_000


def test_watch_em_writes_an_animation(tmp_path):
    gif = tmp_path / "em.gif"
    script = ROOT / "examples" / "watch_em.py"
    run(script, tmp_path, "--gif", gif, "--output", tmp_path / "picture.png")
    assert gif.read_bytes()[:6] == b"GIF89a"
