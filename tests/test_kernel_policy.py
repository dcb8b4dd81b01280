"""Numba options are in one file, and what is compiled is cached, once for each type of input."""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import fastgmm
from fastgmm import GaussianMixture
from fastgmm._kernels import (
    bounds,
    em_pass,
    finite,
    lloyd,
    options,
    pruned,
    pruned_tiles,
    reaches,
    seeding,
)

PACKAGE = Path(fastgmm.__file__).parent
KERNELS = sorted(PACKAGE.glob("_kernels/*.py"))
MODULES = (bounds, em_pass, finite, lloyd, pruned, pruned_tiles, reaches, seeding)
jit_only = pytest.mark.skipif(options.JIT_DISABLED, reason="nothing is compiled")


def entries():
    return {
        name: value
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, options.Entry)
    }


def device_functions():
    """Compiled functions that other kernels call, by file and name."""
    found = {}
    for path in KERNELS:
        module = sys.modules.get(f"fastgmm._kernels.{path.stem}")
        for name, value in vars(module).items() if module else ():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
                found[f"{path.stem}.{name}"] = value
    return found


# --- where options are -------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_numba_is_asked_to_compile_in_one_file(path):
    if path.name == "options.py":
        return
    compilers = {"jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc", "prange"}
    tree = ast.parse(path.read_text())
    used = [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id in compilers)
        or (isinstance(node, ast.Attribute) and node.attr in compilers)
        or (isinstance(node, ast.ImportFrom) and {a.name for a in node.names} & compilers)
    ]
    assert used == []
    keywords = {"fastmath", "nogil", "cache", "parallel", "boundscheck", "error_model"}
    given = [
        (call.lineno, keyword.arg)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in keywords
    ]
    assert given == []


@pytest.mark.nojit
def test_the_policy():
    assert set(options.FASTMATH) == {"contract", "reassoc", "nsz", "arcp"}
    assert set(options.STRICT) == {"contract"}
    assert options.COMMON["nogil"] is True
    assert options.COMMON["error_model"] == "numpy"
    assert options.INLINED["forceinline"] is True
    for chosen in (options.COMMON, options.INLINED):
        assert not chosen.keys() & {"fastmath", "parallel", "cache"}


@jit_only
def test_device_functions_follow_the_policy():
    functions = device_functions()
    assert len(functions) > 10
    for name, dispatcher in functions.items():
        chosen = dispatcher.targetoptions
        assert chosen["nogil"] is True, name
        assert chosen["error_model"] == "numpy", name
        # else each entry's object brings a copy of its own, and the first one loaded is used
        assert chosen["forceinline"] is True, name
        assert chosen["fastmath"] in (options.FASTMATH, options.STRICT), name
        assert not chosen.get("parallel"), name
    strict = {n for n, f in functions.items() if f.targetoptions["fastmath"] == options.STRICT}
    # they split numbers in two, or divide before they square
    assert {"exp._exp2_by_polynomial", "exp._exp2_by_table", "exp.log_positive"} <= strict
    assert {"triangular.nearest", "scaled.nearest"} <= strict


@pytest.mark.nojit
def test_no_two_parameter_types_look_the_same():
    """Numba's dispatcher knows a named tuple by its name and its fields alone.

    Of two that agree in these it takes one for the other, and then works out all types anew, in
    Python and with the interpreter's lock, in each call.
    """
    seen = {}
    for path in KERNELS:
        for value in vars(importlib.import_module(f"fastgmm._kernels.{path.stem}")).values():
            if isinstance(value, type) and hasattr(value, "_fields"):
                looks = value.__name__, value._fields
                assert seen.setdefault(looks, value) is value, looks
    assert len(seen) > 5


# --- what is compiled --------------------------------------------------------------------------


def fit_everything():
    """Fit and ask a little of both kinds of kernels, so that every entry is compiled."""
    X = np.random.RandomState(0).standard_normal((60, 3)) + 3.0 * (np.arange(60) % 2)[:, None]
    for kind in ("full", "tied", "diag", "spherical"):
        model = GaussianMixture(2, covariance_type=kind, random_state=0, tol=0.1)
        model.fit(X).predict_proba(X)


@jit_only
def test_every_variant_follows_the_policy():
    fit_everything()
    used = entries()
    assert {"em_block", "map_block", "assign_block", "seed_block"} <= set(used)
    for name, entry in used.items():
        for (dtype, kind), variant in entry.variants.items():
            assert variant.__name__.startswith(f"{name}_{dtype.name}_{kind.__name__}_")
            assert variant.__name__.endswith(options._DIGEST)
            chosen = variant.targetoptions
            assert chosen["nogil"] is True
            assert chosen["error_model"] == "numpy"
            assert chosen["fastmath"] == options.FASTMATH
            assert not chosen.get("forceinline")
            assert not chosen.get("parallel")


@jit_only
@pytest.mark.skipif(not options.CACHE_WANTED, reason="no cache is wanted")
def test_every_variant_is_cached():
    fit_everything()
    for entry in entries().values():
        for variant in entry.variants.values():
            assert isinstance(variant._cache, options.KernelCache)
            assert variant.stats.cache_path


REPORT = """
    import hashlib, json, sys, warnings
    sys.path[:0] = {path!r}
    import numpy as np
    from numba.core import event
    from fastgmm import GaussianMixture
    from fastgmm._kernels import bounds, em_pass, finite, lloyd, options, pruned, seeding

    warnings.simplefilter("ignore")
    X = np.random.RandomState(0).standard_normal((999, 5)) + 3.0 * (np.arange(999) % 2)[:, None]
    layouts = X, np.asfortranarray(X), X[::-2], X.astype(">f8")
    bits = {{}}

    def digest(name, *arrays):
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        bits[name] = hashlib.sha256(data).hexdigest()

    def infer(kind):
        covariances = {{"full": [np.eye(5)] * 2, "tied": np.eye(5)}}[kind]
        model = GaussianMixture.from_parameters(
            [0.4, 0.6], [[0.0] * 5, [3.0] * 5], covariances, covariance_type=kind)
        digest(kind + " maps", model.predict_proba(X), model.score_samples(X), model.predict(X))

    def fit(kind):
        for init in ("kmeans", "random"):
            for number, rows in enumerate(layouts):
                for weights in (None, np.linspace(0, 2, len(rows))):
                    model = GaussianMixture(
                        2, covariance_type=kind, init_params=init, random_state=0, max_iter=2)
                    model.fit(rows, sample_weight=weights)
                    name = f"{{kind}} {{init}} {{number}} {{weights is None}}"
                    digest(name, model.means_, model.covariances_, model.weights_)

    order = [(step, kind) for kind in ("full", "tied") for step in (fit, infer)]
    with event.install_recorder("numba:compile") as recorder:
        for step, kind in order if {forwards} else order[::-1]:
            step(kind)
    compiled = {{e.data["dispatcher"].py_func.__qualname__ for _, e in recorder.buffer}}
    variants = {{
        variant.__name__: variant
        for module in (em_pass, finite, lloyd, seeding)
        for entry in vars(module).values() if isinstance(entry, options.Entry)
        for variant in entry.variants.values()
    }}
    stats = [variant.stats for variant in variants.values()]
    print(json.dumps({{
        "hits": sum(sum(s.cache_hits.values()) for s in stats),
        "misses": sum(sum(s.cache_misses.values()) for s in stats),
        "signatures": {{name: len(v.signatures) for name, v in variants.items()}},
        "bits": bits,
        "compiled": sorted(compiled),
    }}))
"""


def run_report(folder, forwards=True):
    code = textwrap.dedent(REPORT).format(path=[str(PACKAGE.parent)], forwards=forwards)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A process with an empty cache, the next one, and one that does things the other way round."""
    folder = tmp_path_factory.mktemp("cache")
    return run_report(folder), run_report(folder), run_report(folder, forwards=False)


@jit_only
@pytest.mark.slow
def test_every_variant_has_one_signature(reports):
    cold = reports[0]
    assert len(cold["signatures"]) >= 9
    assert {name: n for name, n in cold["signatures"].items() if n != 1} == {}


@jit_only
@pytest.mark.slow
def test_a_second_process_compiles_nothing(reports):
    cold, *later = reports
    assert cold["misses"] == sum(cold["signatures"].values())
    assert cold["hits"] == 0
    for warm in later:
        assert (warm["hits"], warm["misses"]) == (cold["misses"], 0)


@jit_only
@pytest.mark.slow
def test_no_kernel_compiles_the_text_of_an_error(reports):
    """To assign arrays to slices does, of shapes that differ: 3 s of a first fit."""
    cold, warm, _ = reports
    assert len(cold["compiled"]) > 50
    assert [name for name in cold["compiled"] if "raise" in name or "unicode" in name] == []
    assert warm["compiled"] == []


@jit_only
@pytest.mark.slow
def test_every_process_computes_the_same_bits(reports):
    """Whether it compiles or loads, and whichever entry it happens to load first."""
    cold, warm, backwards = reports
    assert len(cold["bits"]) == 34
    assert warm["bits"] == cold["bits"]
    assert backwards["bits"] == cold["bits"]


@pytest.mark.nojit
def test_the_digest_names_every_source_and_option(tmp_path, monkeypatch):
    folder = tmp_path / "_kernels"
    shutil.copytree(PACKAGE / "_kernels", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(options, "__file__", str(folder / "options.py"))
    digest = options._sources_digest
    assert digest() == options._DIGEST
    seen = {options._DIGEST}
    for path in sorted(folder.glob("*.py")):
        before = path.read_text()
        path.write_text(before + "# changed\n")
        seen.add(digest())
        path.write_text(before)
    assert len(seen) == 1 + len(KERNELS)
    assert digest() == options._DIGEST
    other = 0 if options.numba.config.BOUNDSCHECK else 1
    monkeypatch.setattr(options.numba.config, "BOUNDSCHECK", other)  # an option from outside
    assert digest() not in seen


@pytest.mark.nojit
def test_entries_keep_their_names_and_texts():
    for name, entry in entries().items():
        assert entry.__name__ == name
        assert entry.__doc__
        assert entry.body.__module__.startswith("fastgmm._kernels.")


@jit_only
def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch):
    def refuse(*args):
        raise RuntimeError("no locator available")

    monkeypatch.setattr(options, "KernelCache", refuse)
    dispatcher = options._cached(lambda x: x + 1)
    assert dispatcher(1) == 2


def test_a_compilation_cut_short_is_begun_anew(monkeypatch):
    """Numba keeps what it had of one that Ctrl-C ended, and fails with it from then on."""
    made = []

    def compiled(function):
        made.append(function)
        if len(made) == 1:
            return Mock(side_effect=KeyboardInterrupt)
        return function

    monkeypatch.setattr(options, "_cached", compiled)
    number_of_rows = options.entry(lambda rows, params: len(rows))
    rows = np.zeros((3, 1))
    with pytest.raises(KeyboardInterrupt):
        number_of_rows(rows, None)
    assert number_of_rows(rows, None) == 3
    assert number_of_rows(rows, None) == 3
    assert len(made) == 2
