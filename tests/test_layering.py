"""Who may import whom: every import statement of the package is on a list here."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastgmm

pytestmark = pytest.mark.nojit

ROOT = Path(fastgmm.__file__).parent
STDLIB = frozenset(sys.stdlib_module_names) | {"__future__"}
NUMPY = frozenset({"numpy"})
SCIPY = NUMPY | {"scipy"}

KERNELS = frozenset(f"fastgmm._kernels.{path.stem}" for path in ROOT.glob("_kernels/*.py"))
PARAMETER_TYPES = frozenset(
    f"fastgmm._kernels.{name}"
    for name in (
        "arrays", "expanded", "expanded_triangular", "kinds", "scaled", "tiny", "triangular",
    )
)  # fmt: skip
NUMERICS = frozenset(
    f"fastgmm.{name}"
    for name in (
        "_posterior_mode",
        "_rules",
        "_sampling",
        "_stats",
        "_structures",
        "_variational",
    )
)
PASSES = frozenset({"fastgmm._passes", "fastgmm._threads", "fastgmm._sources"})
WATCHING = frozenset({"fastgmm._observers"})
LOOPS = frozenset(
    f"fastgmm.{name}"
    for name in ("_em", "_incremental", "_initialise", "_kmeans", "_multistart", "_stepwise")
)
LAYERS = NUMERICS | PASSES | WATCHING | LOOPS | {"fastgmm._regression", "fastgmm._warnings"}
ESTIMATORS = frozenset(
    f"fastgmm.{name}"
    for name in (
        "_base", "_callback_driver", "_callbacks", "_checkpoint", "_conditioning", "_conversion",
        "_criteria", "_history", "_inference", "_opening", "_partial_fit", "_validation",
        "_verbose", "bayesian", "io", "mixture",
    )
)  # fmt: skip
SKLEARN = frozenset({"sklearn"})
PUBLIC_ROOMS = frozenset(
    f"fastgmm.{name}"
    for name in (
        "_checkpoint", "_collector", "_conditioning", "_history", "_sources", "_warmup",
        "_warnings", "bayesian", "io", "mixture", "outliers", "selection",
    )
)  # fmt: skip

# What each module may import, the standard library aside; a folder stands for its files.
MAY_IMPORT = {
    "_kernels": NUMPY | {"numba", "llvmlite"} | KERNELS,
    "_precision": NUMPY,
    "_stats": NUMPY,
    "_structures": SCIPY
    | PARAMETER_TYPES
    | {"fastgmm._kernels.algebra", "fastgmm._precision", "fastgmm._stats", "fastgmm._structures"},
    "_rules": NUMPY | NUMERICS,
    "_posterior_mode": SCIPY | NUMERICS,
    "_sampling": NUMPY | NUMERICS,
    "_variational": SCIPY | NUMERICS,
    "_threads": NUMPY,
    "_passes": NUMPY | KERNELS | {"fastgmm._stats"},
    "_sources": NUMPY | PASSES | {"fastgmm._kernels.finite", "pyarrow", "dask"},
    "_observers": NUMPY,
    "_pruning": NUMPY | KERNELS | PASSES | {"fastgmm._stats", "fastgmm._structures"},
    "_em": NUMPY | NUMERICS | PASSES | WATCHING | {"fastgmm._pruning"},
    "_incremental": NUMPY | NUMERICS | PASSES | WATCHING | {"fastgmm._em", "fastgmm._pruning"},
    "_stepwise": NUMPY | NUMERICS | PASSES | {"fastgmm._em", "fastgmm._pruning"},
    "_kmeans": NUMPY | NUMERICS | PASSES,
    "_initialise": NUMPY | NUMERICS | PASSES | LOOPS,
    "_multistart": NUMPY | NUMERICS | PASSES | WATCHING | LOOPS,
    "_warnings": NUMPY | NUMERICS | PASSES | LOOPS,
    "_collector": frozenset(),
    "_files": frozenset(),
    "_archive": NUMPY | {"fastgmm._files"},
    "_checkpoint": NUMPY | NUMERICS | PASSES | LOOPS | {"fastgmm", "fastgmm._archive"},
    "_base": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "_inference": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "_callback_driver": NUMPY | SKLEARN,
    "_callbacks": NUMPY | SKLEARN | WATCHING | {"fastgmm._callback_driver"},
    "_regression": NUMPY | NUMERICS | PASSES,
    "_conditioning": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "_conversion": NUMPY | SKLEARN,
    "_chi_square": SCIPY,
    "_explanation": NUMPY | {"pandas"},
    "_criteria": NUMPY | LAYERS | ESTIMATORS,
    "_history": NUMPY | {"pandas"},
    # scores are functions of what the row maps give, block by block
    "_outlier_rules": NUMPY | {"fastgmm._chi_square", "fastgmm._passes"},
    # scores of single rows in microseconds leave no time for the way through a source
    "_scorer": NUMPY | {"fastgmm._passes"},
    "_opening": NUMPY | PASSES | {"fastgmm._validation"},
    "_partial_fit": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "_validation": NUMPY | SKLEARN | NUMERICS | PASSES,
    "_matrices": NUMPY | {"fastgmm._structures"},
    "_verbose": WATCHING,
    "bayesian": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "mixture": NUMPY | SKLEARN | LAYERS | ESTIMATORS,
    "_detection": NUMPY
    | SKLEARN
    | {f"fastgmm.{name}" for name in ("_explanation", "_outlier_rules", "_scorer")}
    | {"fastgmm._opening", "fastgmm._passes", "fastgmm.bayesian", "fastgmm.mixture"},
    "outliers": NUMPY
    | SKLEARN
    | {f"fastgmm.{name}" for name in ("_detection", "_explanation", "_outlier_rules", "_scorer")}
    | {"fastgmm._opening", "fastgmm._validation", "fastgmm.bayesian", "fastgmm.mixture"},
    "selection": NUMPY
    | SKLEARN
    | ESTIMATORS
    | LOOPS
    | {"pandas", "fastgmm", "fastgmm.plot", "fastgmm._threads", "fastgmm._warnings"},
    # public names only
    "io": NUMPY
    | {
        "fastgmm",
        "fastgmm._archive",
        "fastgmm._model_checks",
        "fastgmm.bayesian",
        "fastgmm.mixture",
    },
    "_model_checks": NUMPY,
    "_warmup": NUMPY | {"fastgmm._pruning", "fastgmm._structures", "fastgmm.mixture"},
    "_pixels": NUMPY,
    "image": NUMPY | SKLEARN | {"fastgmm", "fastgmm._pixels"},
    "data": NUMPY,
    "plot": SCIPY | {"matplotlib", "fastgmm._matrices", "fastgmm.plot"},
    "_cli": NUMPY
    | {
        "matplotlib",
        "PIL",
        "fastgmm",
        "fastgmm._files",
        "fastgmm._matrices",
        "fastgmm.data",
        "fastgmm.image",
        "fastgmm.plot",
        "fastgmm._cli",
    },
    "__main__": {"fastgmm._cli"},
    "__init__": PUBLIC_ROOMS,
}
OPTIONAL = {
    "matplotlib",
    "PIL",
    "pandas",
    "dask",
    "distributed",
    "pyarrow",
    "h5py",
    "zarr",
    "polars",
    "joblib",
    "threadpoolctl",
}

FILES = sorted(path for path in ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])


def module_of(path):
    return ".".join(("fastgmm", *path.relative_to(ROOT).with_suffix("").parts))


def is_module(name):
    relative = name.split(".")[1:]
    place = ROOT.joinpath(*relative)
    return place.with_suffix(".py").exists() or place.is_dir()


def names_of(node, path):
    """Full names of the modules that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module_of(path).split(".")[: -node.level]
        base = ".".join([*package, *([node.module] if node.module else [])])
    if base.split(".")[0] != "fastgmm":
        return [base]
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else base for name in inner]


def imports_of(path, *, only_at_import=False):
    """(line, module) of every import; those inside functions and for type checkers are later."""
    found = []

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                found.extend((child.lineno, name) for name in names_of(child, path))
            is_later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not (only_at_import and (is_later or is_typing)):
                visit(child)

    visit(ast.parse(path.read_text()))
    return found


def is_allowed(name, allowed):
    """Whether a module, or a package it is in, is on the list."""
    parts = name.split(".")
    if parts[0] in STDLIB:
        return True
    if parts[0] != "fastgmm":
        return parts[0] in allowed
    whole = name in allowed
    packages = tuple(f"fastgmm.{p}" for p in ("_cli", "_sources", "_structures", "data", "plot"))
    return whole or any(name.startswith(f"{p}.") and p in allowed for p in packages)


@each_file
def test_imports_are_on_the_list(path):
    layer = path.relative_to(ROOT).with_suffix("").parts[0]
    assert layer in MAY_IMPORT, f"{layer} has no place in the layers yet"
    allowed = MAY_IMPORT[layer]
    wrong = [(line, name) for line, name in imports_of(path) if not is_allowed(name, allowed)]
    assert wrong == []


def test_every_layer_on_the_list_is_there():
    there = {path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES}
    assert there == set(MAY_IMPORT)


@each_file
def test_optional_libraries_wait_for_their_function(path):
    early = {name.split(".")[0] for _, name in imports_of(path, only_at_import=True)}
    assert not early & OPTIONAL


@each_file
def test_scikit_learns_algorithms_are_never_used(path):
    early = [name for _, name in imports_of(path, only_at_import=True)]
    algorithms = ("sklearn.mixture", "sklearn.cluster")
    assert not [name for name in early if name.startswith(algorithms)]
    # converting a model needs the class, and nothing else does
    later = [name for _, name in imports_of(path) if name.startswith(algorithms)]
    assert later in ([], ["sklearn.mixture"])
    assert not later or "def to_sklearn" in path.read_text()


@each_file
def test_only_the_command_line_and_verbose_output_print(path):
    if path.relative_to(ROOT).parts[0] in ("__main__.py", "_cli", "_verbose.py"):
        return
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint", "input")
    ]
    assert calls == []


@each_file
def test_nothing_asks_which_covariance_type_it_is(path):
    types = {"full", "tied", "diag", "spherical"}

    def mentions(*nodes):
        return any(
            isinstance(inner, ast.Constant) and inner.value in types
            for node in nodes
            for inner in ast.walk(node)
        )

    compared = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Compare) and mentions(node.left, *node.comparators))
        or (isinstance(node, ast.match_case) and mentions(node.pattern))
    ]
    assert compared == []


def in_a_new_process(code):
    path = os.pathsep.join([str(ROOT.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    return done.stdout.split()


def test_importing_loads_nothing_that_may_not_be_needed():
    code = """
        import sys
        import sklearn.base, sklearn.utils.validation  # which loads pandas where there is one
        before = set(sys.modules)
        import fastgmm
        print(*sorted(set(sys.modules) - before))
    """
    loaded = set(in_a_new_process(code))
    assert "fastgmm.mixture" in loaded
    unwanted = {*OPTIONAL, "sklearn.mixture", "sklearn.cluster", "fastgmm.plot"}
    assert sorted(loaded & unwanted) == []


@pytest.mark.parametrize("before", ["enable", "disable"])
def test_importing_leaves_the_garbage_collector_as_it_was(before):
    code = f"""
        import gc
        gc.{before}()
        collections = gc.get_stats()[2]["collections"]
        import fastgmm
        print(gc.isenabled(), gc.get_stats()[2]["collections"] - collections)
    """
    enabled, full_collections = in_a_new_process(code)
    assert enabled == str(before == "enable")
    assert int(full_collections) <= 1  # one may become due once it is enabled again
