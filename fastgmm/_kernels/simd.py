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
from .emitter import INT32, INT64, Emitter
from .emitter import LANES as LANES  # for kernels, which need nothing else from there
from .options import JIT_DISABLED

# A register, or a number where both will do.  To the type checker it is anything.
Register: TypeAlias = Any

F = TypeVar("F", bound=Callable[..., Any])


class Lanes(types.Type):  # type: ignore[misc]
    """Numba type of a register: `LANES` numbers of type float64."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES} x float64)")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Any) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.DoubleType(), LANES))


float64s = Lanes()


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


def _elementwise(emit: Callable[..., Any], *operands: Any) -> Any:
    """Type and emit an operation on registers or numbers: a register if any operand is one."""
    kind = float64s if any(isinstance(t, Lanes) for t in operands) else types.float64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(Emitter(context, builder), *args)

    return kind(*([kind] * len(operands))), codegen


def _register_operator(function: Callable[..., Any], emit: Callable[..., Any]) -> None:
    """Let Numba apply one of Python's operators to registers."""

    @infer_global(function)
    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and any(isinstance(t, Lanes) for t in args):
                return signature(float64s, float64s, float64s)
            return None

    @lower_builtin(function, Lanes, Lanes)  # type: ignore[untyped-decorator]
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(Emitter(context, builder), *args)


def _broadcast(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = context.cast(builder, value, source, types.float64)
    return Emitter(context, builder).splat(number)


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
    return _elementwise(Emitter.fma, x, y, z)


def _divide(x: Register, y: Register) -> Register:
    return np.divide(x, y)


@vector_intrinsic(_divide)
def divide(typingctx: Any, x: Any, y: Any) -> Any:
    """Compute ``x / y`` (IEEE: no exception, division by zero gives infinity or NaN)."""
    return _elementwise(lambda emit, *v: emit.builder.fdiv(*v), x, y)


def _root(x: Register) -> Register:
    return np.sqrt(x)


@vector_intrinsic(_root)
def root(typingctx: Any, x: Any) -> Any:
    """Compute the square root, correctly rounded."""
    return _elementwise(lambda emit, x: emit.call("sqrt", x), x)


def _where_less(x: Register, y: Register, yes: Register, no: Register) -> Register:
    chosen: Any = np.where(np.less(x, y), yes, no)
    return chosen[()]  # of numbers, a number


@vector_intrinsic(_where_less)
def where_less(typingctx: Any, x: Any, y: Any, yes: Any, no: Any) -> Any:
    """Choose ``yes`` where ``x < y``, else ``no`` (also where either is NaN)."""

    def emit_select(emit: Emitter, x: Any, y: Any, yes: Any, no: Any) -> Any:
        return emit.builder.select(emit.builder.fcmp_ordered("<", x, y), yes, no)

    return _elementwise(emit_select, x, y, yes, no)


# --- exponents -----------------------------------------------------------------------------------

MANTISSA_BITS = 52
MANTISSA_MASK = (1 << MANTISSA_BITS) - 1
BIAS = 1023
ONE_BITS = BIAS << MANTISSA_BITS  # the bits of 1.0


def _constant(kind: Any, value: float) -> Any:
    """Make a constant of a type, or one of a vector type with all elements equal."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


def _bits(emit: Emitter, x: Any) -> Any:
    """Reinterpret a number or a register as integers of 64 bits."""
    vector = isinstance(x.type, ir.VectorType)
    return emit.builder.bitcast(x, ir.VectorType(INT64, LANES) if vector else INT64)


def _low_bits_power(t: Register) -> Register:
    shifted = np.asarray(t).view(np.int64) << MANTISSA_BITS
    return (shifted + ONE_BITS).view(np.float64)[()]


@vector_intrinsic(_low_bits_power)
def low_bits_power(typingctx: Any, t: Any) -> Any:
    """Compute ``2**n`` for a number whose lowest bits hold the integer n, -1022 <= n <= 1023."""

    def emit_power(emit: Emitter, t: Any) -> Any:
        bits = _bits(emit, t)
        shifted = emit.builder.shl(bits, _constant(bits.type, MANTISSA_BITS))
        power = emit.builder.add(shifted, _constant(bits.type, ONE_BITS))
        return emit.builder.bitcast(power, t.type)

    return _elementwise(emit_power, t)


def _mantissa(x: Register) -> Register:
    return 2.0 * np.frexp(x)[0]


@vector_intrinsic(_mantissa)
def mantissa(typingctx: Any, x: Any) -> Any:
    """Return the number in [1, 2) that a positive normal ``x`` is a power of two times."""

    def emit_mantissa(emit: Emitter, x: Any) -> Any:
        bits = _bits(emit, x)
        low = emit.builder.and_(bits, _constant(bits.type, MANTISSA_MASK))
        one = emit.builder.or_(low, _constant(bits.type, ONE_BITS))
        return emit.builder.bitcast(one, x.type)

    return _elementwise(emit_mantissa, x)


def _exponent(x: Register) -> Register:
    return np.frexp(x)[1] - 1.0


@vector_intrinsic(_exponent)
def exponent(typingctx: Any, x: Any) -> Any:
    """Return the exponent of a positive normal ``x``: ``x = mantissa(x) * 2**exponent(x)``."""

    def emit_exponent(emit: Emitter, x: Any) -> Any:
        # The biased exponent becomes the low bits of 2**52 + exponent: no integer conversion.
        bits = _bits(emit, x)
        biased = emit.builder.lshr(bits, _constant(bits.type, MANTISSA_BITS))
        large = _constant(bits.type, BIAS + MANTISSA_BITS << MANTISSA_BITS)
        number = emit.builder.bitcast(emit.builder.or_(biased, large), x.type)
        return emit.builder.fsub(number, _constant(x.type, float(2**MANTISSA_BITS + BIAS)))

    return _elementwise(emit_exponent, x)


# --- memory and whole registers ------------------------------------------------------------------


def _splat(number: float) -> Register:
    return np.full(LANES, number, dtype=np.float64)


@vector_intrinsic(_splat)
def splat(typingctx: Any, number: Any) -> Any:
    """Make a register with every lane equal to ``number``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Emitter(context, builder).splat(args[0])

    return float64s(types.float64), codegen


def _load(a: Array, i: int) -> Register:
    return a[i : i + LANES].astype(np.float64)


@vector_intrinsic(_load)
def load(typingctx: Any, a: Any, i: Any) -> Any:
    """Load ``a[i:i+LANES]`` as a register; ``a`` may be float32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        return emit.load(emit.array(sig.args[0], args[0]), args[1])

    return float64s(a, types.intp), codegen


def _store(a: Array, i: int, x: Register) -> None:
    a[i : i + LANES] = x


@vector_intrinsic(_store)
def store(typingctx: Any, a: Any, i: Any, x: Any) -> Any:
    """Store ``a[i:i+LANES] = x``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        emit.store(emit.array(sig.args[0], args[0]), args[1], args[2])
        return context.get_dummy_value()

    return types.void(a, types.intp, float64s), codegen


def _lane_sum(x: Register) -> float:
    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    return x[0]  # type: ignore[no-any-return]


@vector_intrinsic(_lane_sum)
def lane_sum(typingctx: Any, x: Any) -> Any:
    """Add up the lanes, always in the same order: halves are folded onto each other."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            low = emit.shuffle(value, value, range(width))
            high = emit.shuffle(value, value, range(width, 2 * width))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(INT32, 0))

    return types.float64(float64s), codegen


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
