"""After a warm-up nothing is compiled any more."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
import fastgmm
import fastgmm._kmeans as start
import fastgmm._sources._array as source
from fastgmm._kernels import em_pass, lloyd, pruned_tiles, seeding

source.block_rows = start.block_rows = lambda n_features: 10  # several go to a thread at once
fastgmm.warmup([{kind!r}], [{dtype!r}])
variants = [
    variant
    for module in (em_pass, lloyd, pruned_tiles, seeding)
    for entry in vars(module).values()
    for variant in getattr(entry, "variants", {{}}).values()
]
before = {{variant: len(variant.overloads) for variant in variants}}
X = np.random.default_rng(0).normal(size=(700, 5)).astype({dtype!r})
X[:150] += {distance}
model = fastgmm.GaussianMixture(3, covariance_type={kind!r}, random_state=0).fit(X)
model.predict_proba(X), model.score(X), model.mahalanobis(X)
after = {{
    variant: len(variant.overloads)
    for module in (em_pass, lloyd, pruned_tiles, seeding)
    for entry in vars(module).values()
    for variant in getattr(entry, "variants", {{}}).values()
}}
assert before == after, (before, after)
print(len(after), "kernels")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
@pytest.mark.parametrize(
    ("kind", "dtype", "distance"),
    [("full", "float64", 1), ("tied", "float32", 1), ("diag", "float64", 300)],
)
def test_warmup_compiles_what_a_fit_needs(kind, dtype, distance):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(kind=kind, dtype=dtype, distance=distance)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "kernels" in done.stdout
