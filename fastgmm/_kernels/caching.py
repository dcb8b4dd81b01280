"""Compiled kernels on disk: what is stored of them, and how they are loaded.

Numba stores the code of a function beside its machine code, for others to inline it, and reads all
that it knows of NumPy and Python before it loads one, for others to be compiled.  Nobody inlines an
entry point: without either, the kernels of a first fit load five times as fast.
"""

from typing import Any

from llvmlite import binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.runtime import rtsys


class _MachineCode(CompileResultCacheImpl):  # type: ignore[misc]
    """An entry point as machine code alone."""

    def reduce(self, result: Any) -> Any:
        """Return what is stored of a compiled function."""
        (name, kind, (code, _)), *others, _environments = result._reduce()
        # Numba takes the names of what the code defines from here, and calls no other.
        names = (result.fndesc.llvm_func_name, result.fndesc.llvm_cpython_wrapper_name)
        stubs = "".join(f'define void @"{name}"() {{ ret void }}\n' for name in names)
        defined = llvm.parse_assembly(stubs).as_bitcode()
        # environments of device functions are for what raises or calls Python
        return ((name, kind, (code, defined)), *others, ())


class KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, for which a damaged file or a full disk means "compile", not "fail".

    A truncated file raises ``EOFError`` from deep inside Numba (numba#10434), and a folder that
    turns read-only makes the save fail after a good compilation.
    """

    _impl_class = _MachineCode

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None."""
        try:
            rtsys.initialize(target_context)
            found = None  # if another process is at it
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)
            return found
        except Exception:  # unpickling damaged bytes may raise anything
            try:
                self.flush()
            except OSError:
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store what was compiled, if that can be done."""
        try:
            super().save_overload(sig, data)
        except (OSError, EOFError):
            self.disable()
