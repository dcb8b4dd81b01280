"""A compiler for functions that are always inlined: their own code is only kept, not optimised.

Numba optimises the code of every compiled function, and turns it into machine code, together with
a copy of all that it calls.  That machine code of a function that others inline never runs, and its
code is optimised once more, as a whole, where it ends up.  Doing so only there takes half the time.
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, PassManager
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering


class _NoEnvironment:
    """In place of a code generator: environments are for functions that Python calls."""

    @staticmethod
    def set_env(env_name: str, env: Any) -> None:
        """Do nothing: there is no machine code that could look for it."""


class _KeptLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function, with that of those it calls, for other libraries to link."""

    @property
    def codegen(self) -> Any:
        return _NoEnvironment

    def _optimize_final_module(self) -> None:
        """Leave it to the library that links this one."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, as for any function without machine code."""
        self._ensure_finalized()
        return 0


@register_pass(mutates_CFG=False, analysis_only=False)
class _KeepCode(LoweringPass):  # type: ignore[misc]
    """Choose the library that lowering adds code to."""

    _name = "keep_code"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = _KeptLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return True


class InliningCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler, for functions that are always inlined."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, with one more."""
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes = PassManager(usual.pipeline_name)
        for kind, what_for in usual.passes:
            if kind is NativeLowering:
                passes.add_pass(_KeepCode, "keep code for inlining")
            passes.add_pass(kind, what_for)
        passes.finalize()
        return [passes]
