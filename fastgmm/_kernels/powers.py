"""Powers of two: exponents and mantissas of numbers and registers, read off and put into bits.

Numbers have the layout of IEEE 754, and integers are never converted: they stand in the lowest
bits of a number to which a large one was added.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .emitter import DOUBLE, INT32, INT64, Emitter
from .simd import Register, elementwise, vector_intrinsic

MANTISSA_BITS = 52
MANTISSA_MASK = (1 << MANTISSA_BITS) - 1
BIAS = 1023
ONE_BITS = BIAS << MANTISSA_BITS  # the bits of 1.0
FLOAT32_MANTISSA_BITS = 23


def _constant(kind: Any, value: float) -> Any:
    """Make a constant of a type, or one of a vector type with all elements equal."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


def _bits(emit: Emitter, x: Any) -> Any:
    """Reinterpret a number or a register as integers of as many bits."""
    vector = isinstance(x.type, ir.VectorType)
    whole = INT64 if (x.type.element if vector else x.type) == DOUBLE else INT32
    return emit.builder.bitcast(x, ir.VectorType(whole, x.type.count) if vector else whole)


def _times_low_bits_power(x: Register, t: Register) -> Register:
    x, t = np.asarray(x), np.asarray(t)
    whole: Any = np.int32 if t.dtype == np.float32 else np.int64
    size = FLOAT32_MANTISSA_BITS if t.dtype == np.float32 else MANTISSA_BITS
    return (x.view(whole) + (t.view(whole) << size)).view(t.dtype)[()]


@vector_intrinsic(_times_low_bits_power)
def times_low_bits_power(typingctx: Any, x: Any, t: Any) -> Any:
    """Compute ``x 2**n`` where the lowest bits of ``t`` hold the integer n; it must be normal."""

    def emit_power(emit: Emitter, x: Any, t: Any) -> Any:
        n = _bits(emit, t)
        whole = n.type.element if isinstance(n.type, ir.VectorType) else n.type
        size = MANTISSA_BITS if whole == INT64 else FLOAT32_MANTISSA_BITS
        exponent = emit.builder.shl(n, _constant(n.type, size))
        return emit.builder.bitcast(emit.builder.add(_bits(emit, x), exponent), x.type)

    return elementwise(emit_power, x, t)


# 2**(j/8) as integers, less what shifting j to the top of the mantissa adds.
EIGHTHS = [
    int(np.exp2(j / 8).view(np.int64)) - (j << MANTISSA_BITS - 3) for j in np.arange(8).tolist()
]


def _low_bits_eighths(t: Register) -> Register:
    bits = np.asarray(t).view(np.int64)
    return (np.asarray(EIGHTHS)[bits & 7] + (bits << MANTISSA_BITS - 3)).view(np.float64)[()]


@vector_intrinsic(_low_bits_eighths)
def low_bits_eighths(typingctx: Any, t: Any) -> Any:
    """Compute ``2**(m/8)`` for a number whose lowest bits hold the integer m; it must be normal.

    Registers must have eight lanes: the table is one, too.
    """

    def emit_power(emit: Emitter, t: Any) -> Any:
        builder, bits = emit.builder, _bits(emit, t)
        table = ir.Constant(ir.VectorType(INT64, 8), [ir.Constant(INT64, x) for x in EIGHTHS])
        if isinstance(t.type, ir.VectorType):
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(bits.type, [bits.type, bits.type]),
                "llvm.x86.avx512.permvar.di.512",
            )
            entry = builder.call(function, [table, bits])
        else:
            entry = builder.extract_element(table, builder.and_(bits, ir.Constant(INT64, 7)))
        shifted = builder.shl(bits, _constant(bits.type, MANTISSA_BITS - 3))
        return builder.bitcast(builder.add(entry, shifted), t.type)

    return elementwise(emit_power, t)


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

    return elementwise(emit_mantissa, x)


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

    return elementwise(emit_exponent, x)
