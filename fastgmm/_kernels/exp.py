"""Exponential and logarithm that vectorise: Numba would call the C library once a number.

Both are accurate to about one unit in the last place (tested against mpmath-grade references).

References
----------
.. [1] W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980: the
   two-part reduction by log 2.
.. [2] P. T. P. Tang, "Table-driven implementation of the logarithm function in IEEE
   floating-point arithmetic", ACM TOMS 16(4), 1990: log(1+f) through s = f/(2+f).
"""

import struct
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .options import JIT_DISABLED, strict_device

LOG2_E = 1.4426950408889634
# log 2 in two parts: the upper one has enough trailing zeros for exact products with exponents.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
# Adding 1.5 * 2**52 rounds to an integer and leaves it in the low bits of the result.
ROUND_MAGIC = 6755399441055744.0
# Below this exp() would be subnormal, which is slow and worth nothing here: it counts as 0.
EXP_UNDERFLOW = -708.0
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
MANTISSA_MASK = 0x000FFFFFFFFFFFFF

if JIT_DISABLED:

    def float_to_bits(x: float) -> int:
        """Reinterpret a float64 as an int64."""
        return int(struct.unpack("<q", struct.pack("<d", x))[0])

    def bits_to_float(bits: int) -> float:
        """Reinterpret an int64 as a float64."""
        wrapped = int(bits) & 0xFFFFFFFFFFFFFFFF
        return np.float64(struct.unpack("<d", struct.pack("<Q", wrapped))[0])

else:

    @intrinsic  # type: ignore[untyped-decorator]
    def float_to_bits(typingctx: Any, x: Any) -> Any:
        """Reinterpret a float64 as an int64."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], ir.IntType(64))

        return types.int64(types.float64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def bits_to_float(typingctx: Any, bits: Any) -> Any:
        """Reinterpret an int64 as a float64."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], ir.DoubleType())

        return types.float64(types.int64), codegen


@strict_device
def exp_nonpositive(x: float) -> float:
    """Return exp(x) for x <= 0; exactly 0 below -708, and for -inf."""
    clamped = x if x > EXP_UNDERFLOW else EXP_UNDERFLOW
    shifted = clamped * LOG2_E + ROUND_MAGIC
    n = shifted - ROUND_MAGIC
    r = (clamped - n * LN2_HIGH) - n * LN2_LOW
    # Taylor series of degree 13 on |r| <= log(2)/2, where its remainder is below 2**-57.
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = (p * r) * r + r + 1.0
    # The integer n sits in the low bits of ``shifted``; move it into the exponent of p.
    scaled = bits_to_float(float_to_bits(p) + (float_to_bits(shifted) << 52))
    return scaled if x > EXP_UNDERFLOW else 0.0


@strict_device
def log_positive(x: float) -> float:
    """Return log(x) for a normal, finite x > 0."""
    # Split x = 2**k * m with sqrt(1/2) <= m < sqrt(2).
    bits = float_to_bits(x)
    k = (bits - SQRT_HALF_BITS) >> 52
    m = bits_to_float(bits - (k << 52))
    exponent = float(k)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    # 2 artanh(s) = 2 s + s z (2/3 + 2/5 z + ...), minimax coefficients.
    series = 1.479819860511658591e-01
    series = series * z + 1.531383769920937332e-01
    series = series * z + 1.818357216161805012e-01
    series = series * z + 2.222219843214978396e-01
    series = series * z + 2.857142874366239149e-01
    series = series * z + 3.999999999940941908e-01
    series = series * z + 6.666666666666735130e-01
    half_square = 0.5 * f * f
    correction = s * (half_square + z * series) + exponent * LN2_LOW
    return exponent * LN2_HIGH - ((half_square - correction) - f)
