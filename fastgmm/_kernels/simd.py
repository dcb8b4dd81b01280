"""Explicit SIMD for Numba: a register of several float64 as an ordinary Numba value.

Numba has no vector type, and LLVM's own vectoriser stays well behind hand-blocked loops (run-time
alias checks, accumulators through memory, horizontal sums).  This file adds the one missing type,
`Lanes`, and a dozen operations on it, so that a kernel reads like scalar code which works on
``LANES`` numbers at once::

    total = splat(0.0)
    for i in range(0, n, LANES):
        total = fma(load(a, i), load(b, i), total)

Arrays are one-dimensional and C-contiguous.  Loads and stores are unaligned operations of exactly
``LANES`` elements: the caller keeps ``i + LANES <= a.size``; bounds checking cannot see them.
Numbers mix freely with registers (they are broadcast).

A register of float32 holds twice as many.  What comes of float32 tiles is read with ``load_like``
or ``load_as``, as pairs of float64 registers, and parts of the work on it are done in float32 in
between.

Without compilation the same names are plain functions on arrays of ``LANES`` numbers, the twins.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, register_model

from .arrays import Array
from .emitter import DOUBLE, FLOAT, Emitter
from .emitter import LANES as LANES  # for kernels, which need nothing else from there
from .options import JIT_DISABLED, shared

# A register, or a number where both will do.  To the type checker it is anything.
Register: TypeAlias = Any

F = TypeVar("F", bound=Callable[..., Any])


class Lanes(types.Type):  # type: ignore[misc]
    """Numba type of a register, or of a pair of them: ``count`` numbers of type ``number``."""

    def __init__(self, number: Any, count: int) -> None:
        self.number, self.count = number, count
        super().__init__(name=f"Lanes({count} x {number})")

    def emitter(self, context: Any, builder: Any) -> Emitter:
        """Make an emitter for registers like this."""
        return Emitter(context, builder, self.number, self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Any) -> None:
        element = DOUBLE if lanes.number == types.float64 else FLOAT
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


float64s = Lanes(types.float64, LANES)
float64_pairs = Lanes(types.float64, 2 * LANES)
float32s = Lanes(types.float32, 2 * LANES)


def vector_intrinsic(twin: F) -> Callable[[Callable[..., Any]], F]:
    """Make an intrinsic of a typing function ``(typingctx, *types) -> (signature, codegen)``.

    Where nothing is compiled its plain ``twin`` takes its place.
    """

    def decorate(typing_function: Callable[..., Any]) -> F:
        if JIT_DISABLED:
            # Compiled code knows no warnings: infinity and NaN are results like others.
            return np.errstate(all="ignore")(twin)
        return intrinsic(prefer_literal=False)(typing_function)  # type: ignore[no-any-return]

    return decorate


# --- arithmetic on registers ---------------------------------------------------------------------


def elementwise(emit: Callable[..., Any], *operands: Any) -> Any:
    """Type and emit an operation on registers or numbers: a register if any operand is one."""
    kind = next((t for t in operands if isinstance(t, Lanes)), types.float64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(Emitter(context, builder), *args)

    return kind(*([kind] * len(operands))), codegen


def _register_operator(function: Callable[..., Any], emit: Callable[..., Any]) -> None:
    """Let Numba apply one of Python's operators to registers."""

    @infer_global(function)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            kind = next((t for t in args if isinstance(t, Lanes)), None)
            return signature(kind, kind, kind) if kind and len(args) == 2 else None

    @lower_builtin(function, Lanes, Lanes)  # type: ignore[untyped-decorator]
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(Emitter(context, builder), *args)


def _broadcast(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = context.cast(builder, value, source, target.number)
    return target.emitter(context, builder).splat(number)


if not JIT_DISABLED:
    lower_cast(types.Float, Lanes)(_broadcast)
    lower_cast(types.Integer, Lanes)(_broadcast)
    _register_operator(operator.add, Emitter.add)
    _register_operator(operator.sub, Emitter.sub)
    _register_operator(operator.mul, Emitter.mul)


def _fma(x: Register, y: Register, z: Register) -> Register:
    return x * y + z


@vector_intrinsic(_fma)
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Compute ``x*y + z`` of numbers or registers, with one rounding if the machine can."""
    return elementwise(Emitter.fma, x, y, z)


def _divide(x: Register, y: Register) -> Register:
    return np.divide(x, y)


@vector_intrinsic(_divide)
def divide(typingctx: Any, x: Any, y: Any) -> Any:
    """Compute ``x / y`` (IEEE: no exception, division by zero gives infinity or NaN)."""
    return elementwise(lambda emit, *v: emit.builder.fdiv(*v), x, y)


def _root(x: Register) -> Register:
    return np.sqrt(x)


@vector_intrinsic(_root)
def root(typingctx: Any, x: Any) -> Any:
    """Compute the square root, correctly rounded."""
    return elementwise(lambda emit, x: emit.call("sqrt", x), x)


def _where_less(x: Register, y: Register, yes: Register, no: Register) -> Register:
    chosen: Any = np.where(np.less(x, y), yes, no)
    return chosen[()]  # of numbers, a number


@vector_intrinsic(_where_less)
def where_less(typingctx: Any, x: Any, y: Any, yes: Any, no: Any) -> Any:
    """Choose ``yes`` where ``x < y``, else ``no`` (also where either is NaN)."""

    def emit_select(emit: Emitter, x: Any, y: Any, yes: Any, no: Any) -> Any:
        return emit.builder.select(emit.builder.fcmp_ordered("<", x, y), yes, no)

    return elementwise(emit_select, x, y, yes, no)


# --- memory and whole registers ------------------------------------------------------------------


def _splat(number: float) -> Register:
    return np.full(LANES, number, dtype=np.float64)


@vector_intrinsic(_splat)
def splat(typingctx: Any, number: Any) -> Any:
    """Make a register with every lane equal to ``number``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Emitter(context, builder).splat(args[0])

    return float64s(types.float64), codegen


def _splat_like(number: float, x: Array) -> Register:
    return np.full(LANES * 8 // x.itemsize, number, dtype=np.float64)


@vector_intrinsic(_splat_like)
def splat_like(typingctx: Any, number: Any, x: Any) -> Any:
    """Fill a register like those that `load_like` gives."""
    kind = _kind_like(x)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return kind.emitter(context, builder).splat(args[0])

    return kind(types.float64, x), codegen


def constants_like(*numbers: float) -> Callable[[Register], tuple[Register, ...]]:
    """Make a function that gives constants for work on the registers, or numbers, it is given."""

    @vector_intrinsic(lambda register: numbers)
    def constants(typingctx: Any, register: Any) -> Any:
        vector = isinstance(register, Lanes)
        kind = register if vector else types.float64

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if vector:
                emit = register.emitter(context, builder)
                table = emit.table(numbers)
                places = (emit.index(i * emit.lanes) for i in range(len(numbers)))
                values = [emit.load(table, place) for place in places]
            else:
                values = [ir.Constant(DOUBLE, number) for number in numbers]
            return context.make_tuple(builder, sig.return_type, values)

        return types.UniTuple(kind, len(numbers))(kind), codegen

    return constants


def _load(a: Array, i: int) -> Register:
    return a[i : i + LANES].astype(np.float64)


@vector_intrinsic(_load)
def load(typingctx: Any, a: Any, i: Any) -> Any:
    """Load ``a[i:i+LANES]`` as a register; ``a`` may be float32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        return emit.load(emit.array(sig.args[0], args[0]), args[1])

    return float64s(a, types.intp), codegen


def _own_kind(a: Any) -> Lanes:
    return float64s if a.dtype == types.float64 else float32s


def _splat_own(number: float, x: Array) -> Register:
    return np.full(LANES * 8 // x.itemsize, number, dtype=x.dtype)


@vector_intrinsic(_splat_own)
def splat_own(typingctx: Any, number: Any, x: Any) -> Any:
    """Fill a register like those that `load_own` gives."""
    kind = _own_kind(x)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return kind.emitter(context, builder).splat(
            context.cast(builder, args[0], sig.args[0], kind.number)
        )

    return kind(types.float64, x), codegen


def _load_own(a: Array, i: int) -> Register:
    return a[i : i + LANES * 8 // a.itemsize].copy()


@vector_intrinsic(_load_own)
def load_own(typingctx: Any, a: Any, i: Any) -> Any:
    """Load ``a[i:]`` as a register of its own type: of float32 one of twice as many."""
    kind = _own_kind(a)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = kind.emitter(context, builder)
        return emit.load(emit.array(sig.args[0], args[0]), args[1])

    return kind(a, types.intp), codegen


def _kind_like(x: Any) -> Lanes:
    return float64s if x.dtype == types.float64 else float64_pairs


_TOGETHER_BYTES = 64  # one long register, or two short ones


@shared
def together(x: Array) -> int:
    """Return how many numbers `splat_together` fills.

    A power of two is a long chain of operations, of which the machine sees only the next few
    dozen.  Where registers are short the chains of two run side by side.
    """
    return _TOGETHER_BYTES // int(x.itemsize)


def _splat_together(number: float, x: Array) -> Register:
    return np.full(together(x), number, dtype=np.float64)


@vector_intrinsic(_splat_together)
def splat_together(typingctx: Any, number: Any, x: Any) -> Any:
    """Fill as many float64 as exponentials of a tile like ``x`` are worked out for at a time."""
    kind = Lanes(types.float64, _TOGETHER_BYTES * 8 // x.dtype.bitwidth)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return kind.emitter(context, builder).splat(args[0])

    return kind(types.float64, x), codegen


def _load_as(a: Array, i: int, register: Register) -> Register:
    return a[i : i + register.size].astype(np.float64)


@vector_intrinsic(_load_as)
def load_as(typingctx: Any, a: Any, i: Any, register: Any) -> Any:
    """Load as many numbers ``a[i:]`` as a register has."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = register.emitter(context, builder)
        return emit.load(emit.array(sig.args[0], args[0]), args[1])

    return register(a, types.intp, register), codegen


def _load_like(a: Array, i: int, x: Array) -> Register:
    return a[i : i + LANES * 8 // x.itemsize]


@vector_intrinsic(_load_like)
def load_like(typingctx: Any, a: Any, i: Any, x: Any) -> Any:
    """Load as many float64 numbers ``a[i:]`` as a register of numbers of ``x`` has lanes."""
    kind = _kind_like(x)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = kind.emitter(context, builder)
        return emit.load(emit.array(sig.args[0], args[0]), args[1])

    return kind(a, types.intp, x), codegen


def _converting(twin: Callable[[Any], Any], number: Any) -> Callable[[Any], Any]:
    """Make the conversion of registers to so many numbers of another type."""

    @vector_intrinsic(twin)
    def convert(typingctx: Any, x: Any) -> Any:
        target = Lanes(number, x.count)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return target.emitter(context, builder).converted(args[0])

        return target(x), codegen

    return convert


narrowed = _converting(lambda x: x.astype(np.float32), types.float32)
widened = _converting(lambda x: x.astype(np.float64), types.float64)


def _store(a: Array, i: int, x: Register) -> None:
    a[i : i + (np.size(x) if np.ndim(x) else LANES)] = x


@vector_intrinsic(_store)
def store(typingctx: Any, a: Any, i: Any, x: Any) -> Any:
    """Store ``a[i:i+LANES] = x``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        emit.store(emit.array(sig.args[0], args[0]), args[1], args[2])
        return context.get_dummy_value()

    kind = x if isinstance(x, Lanes) else float64s
    return types.void(a, types.intp, kind), codegen


def _lane_sum(x: Register) -> float:
    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    return x[0]  # type: ignore[no-any-return]


@vector_intrinsic(_lane_sum)
def lane_sum(typingctx: Any, x: Any) -> Any:
    """Add up the lanes, always in the same order: halves are folded onto each other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Emitter(context, builder).folded(args[0], builder.fadd)

    return types.float64(x), codegen


def _lane_max(x: Register) -> float:
    return np.max(x)  # type: ignore[no-any-return]


@vector_intrinsic(_lane_max)
def lane_max(typingctx: Any, x: Any) -> Any:
    """Return the largest lane of a register without NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        return emit.folded(args[0], emit.larger)

    return types.float64(x), codegen


def _use_wide_registers() -> None:
    pass


@vector_intrinsic(_use_wide_registers)
def use_wide_registers(typingctx: Any) -> Any:
    """Let the function being compiled use 512-bit registers in its plain loops, too.

    LLVM prefers 256 bits on most AVX-512 machines; machines without AVX-512 ignore the attribute.
    An inlined function has the attributes of its caller: entries call this, not device functions.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # llvmlite knows only attributes without a value: its set takes the text as it stands.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen
