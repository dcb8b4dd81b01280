"""Every Numba option of the package, and the decorators that apply them.

``@device`` marks a function that only kernels call, ``@entry`` one that Python calls, and
``@shared`` a small one of integers that both call.
Entry points are cached on disk.  Numba's cache knows a function by its own file alone: it notices
neither a changed callee in another file nor a changed option.  So each entry point carries a
digest of all kernel sources and options in its ``__qualname__``, which is part of the cache
file's name: what was compiled from other sources is simply never found.
"""

import contextlib
import hashlib
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.extending import register_jitable

from .caching import KernelCache
from .inlining import InliningCompiler

# contract and reassoc make FMAs and vectorised sums possible, nsz and arcp are free riders.
# Never nnan or ninf: -inf is the log of an empty component's weight, and means what it says.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})
# For functions that rely on the order of their operations: exp and log split numbers in two, and
# the search for the component nearest to a far-out row divides before it squares.
STRICT = frozenset({"contract"})

COMMON: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": None,
    "no_cfunc_wrapper": True,  # with which C could call them: nobody does, and it takes its time
}
# Device functions are always inlined. Else each entry's cached object brings its own copy of them,
# optimised in its own way, of which a process uses the first it loads: results would differ in
# their last bits between the process that compiled and those that load.  Wrappers, with which
# Python could call them, would take a seventh of the time to compile.
INLINED: dict[str, Any] = {
    **COMMON,
    "forceinline": True,
    "no_cpython_wrapper": True,
    "pipeline_class": InliningCompiler,
}

JIT_DISABLED = bool(numba.config.DISABLE_JIT)
CACHE_WANTED = os.environ.get("FASTGMM_CACHE", "1") != "0"

F = TypeVar("F", bound=Callable[..., Any])


def _sources_digest() -> str:
    """Name everything that decides what is compiled, and that Numba's own key leaves out."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    digest.update(repr((sorted(FASTMATH), sorted(STRICT), sorted(INLINED.items()))).encode())
    digest.update(repr(numba.config.BOUNDSCHECK).encode())
    return digest.hexdigest()[:12]


_DIGEST = _sources_digest()


def _jit(function: Callable[..., Any], fastmath: frozenset[str], options: dict[str, Any]) -> Any:
    return numba.njit(fastmath=set(fastmath), **options)(function)


def overload_options(dispatcher: Any) -> dict[str, Any]:
    """Return the options of a compiled function, for Numba to compile it as an overload."""
    return {"fastmath": set(dispatcher.targetoptions["fastmath"]), **INLINED}


def device(function: F) -> F:
    """Compile a function that only kernels call; it is cached within its callers.

    To call it from Python ends the process: tests wrap it, or call its ``py_func``.
    """
    return _jit(function, FASTMATH, INLINED)  # type: ignore[no-any-return]


def strict_device(function: F) -> F:
    """Compile like ``device``, but keep the order of operations: it matters here."""
    return _jit(function, STRICT, INLINED)  # type: ignore[no-any-return]


def shared(function: F) -> F:
    """Let kernels call a small function of integers, which stays plain Python elsewhere."""
    return register_jitable(**INLINED)(function)  # type: ignore[no-any-return]


def _cached(function: Callable[..., Any]) -> Any:
    dispatcher = _jit(function, FASTMATH, COMMON)
    if CACHE_WANTED and not JIT_DISABLED:
        # Where no folder is writable, compile anew in each process rather than fail.
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = KernelCache(dispatcher.py_func)
    return dispatcher


class Entry:
    """A kernel that Python calls: one compiled function for each type of its first two arguments.

    They are function objects of their own, made from one body, because two processes that fill an
    empty cache at the same time may mix up the signatures of one function.
    """

    def __init__(self, body: Callable[..., Any]) -> None:
        self.__name__ = body.__name__
        self.__doc__ = body.__doc__
        self.body = body
        self.variants: dict[tuple[np.dtype[Any], type], Any] = {}

    def __call__(self, rows: np.ndarray[Any, Any], params: Any, *args: Any) -> Any:
        key = (rows.dtype, type(params))
        variant = self.variants.get(key)
        if variant is None:
            name = f"{self.__name__}_{key[0].name}_{key[1].__name__}_{_DIGEST}"
            variant = self.variants.setdefault(key, _cached(_renamed(self.body, name)))
        try:
            return variant(rows, params, *args)
        except BaseException:
            # Kernels never raise: Ctrl-C cut a compilation short, and Numba may keep half of it.
            self.variants.pop(key, None)
            raise


def entry(body: Callable[..., Any]) -> Entry:
    """Compile a function that Python calls with rows (n, d) and parameters."""
    return Entry(body)


def _renamed(body: Callable[..., Any], name: str) -> Callable[..., Any]:
    function = types.FunctionType(
        body.__code__, body.__globals__, name, body.__defaults__, body.__closure__
    )
    function.__qualname__ = name
    function.__module__ = body.__module__
    function.__doc__ = body.__doc__
    return function
