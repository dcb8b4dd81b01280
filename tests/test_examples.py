"""Every script of ``examples/`` runs as written and writes the picture it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(ROOT.glob("examples/*.py"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_runs_and_draws(script, tmp_path):
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-W", "error", script, "--output", picture]
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 5_000
