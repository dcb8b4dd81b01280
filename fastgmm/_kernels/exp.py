"""Power of two and logarithm for numbers and for SIMD registers alike.

Numba calls the C library's scalar functions inside loops; these are polynomials, so they vectorise.
Kernels keep log-densities to base 2: reducing the argument of a power of two takes no
multiplication.  Both are accurate to two units in the last place.  So is, in float32, the power of
two that takes part in the work on float32 tiles.

References
----------
.. [1] W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980: the
   two-part reduction by log 2.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .options import JIT_DISABLED, overload_options, strict_device
from .powers import exponent, low_bits_eighths, mantissa, times_low_bits_power
from .simd import (
    LANES,
    Register,
    constants_like,
    divide,
    fma,
    narrowed,
    where_less,
    widened,
)

LN2 = 0.6931471805599453
# ln 2 in two parts; the first has 21 trailing zero bits, so that a small integer times it is exact.
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LOG2_E = 1.4426950408889634
# Adding 1.5*2**52 rounds to an integer and leaves that integer in the lowest bits.
ROUNDER = 6755399441055744.0
# 2**r for |r| <= 1/2: the Taylor series to degree 22, economised to degree 11 (its Chebyshev terms
# above are below 4e-18); the first coefficient is 1.
C1 = float.fromhex("0x1.62e42fefa39efp-1")
C2 = float.fromhex("0x1.ebfbdff82c5aep-3")
C3 = float.fromhex("0x1.c6b08d704a0d1p-5")
C4 = float.fromhex("0x1.3b2ab6fb9f1a3p-7")
C5 = float.fromhex("0x1.5d87fe78a2292p-10")
C6 = float.fromhex("0x1.430913112cb56p-13")
C7 = float.fromhex("0x1.ffcbfc75f302dp-17")
C8 = float.fromhex("0x1.62bfc2c7ae40ep-20")
C9 = float.fromhex("0x1.b524db38fd1f9p-24")
C10 = float.fromhex("0x1.e6228bff026d1p-28")
C11 = float.fromhex("0x1.ea044321bc0aap-32")
# The same for eighths, which are looked up in a register where it has eight lanes: degree 7.
EIGHTHS_ROUNDER = ROUNDER / 8
E1 = float.fromhex("0x1.62e42fefa39efp-1")
E2 = float.fromhex("0x1.ebfbdff82c854p-3")
E3 = float.fromhex("0x1.c6b08d704a259p-5")
E4 = float.fromhex("0x1.3b2ab6edc942ap-7")
E5 = float.fromhex("0x1.5d87fe6d1f9d7p-10")
E6 = float.fromhex("0x1.430e9e039c7c3p-13")
E7 = float.fromhex("0x1.ffd3ab8d3f0e2p-17")
SQRT2 = 1.4142135623730951
# The same for float32: 1.5*2**23, and a series of degree 6 that is off by 2e-9.
FLOAT32_ROUNDER = 12582912.0
B1 = float.fromhex("0x1.62e430p-1")
B2 = float.fromhex("0x1.ebfbe0p-3")
B3 = float.fromhex("0x1.c6aeccp-5")
B4 = float.fromhex("0x1.3b29d8p-7")
B5 = float.fromhex("0x1.5f48c8p-10")
B6 = float.fromhex("0x1.446c7ep-13")

# Of an integer the polynomial is exactly 1, and with these the bits of the exponent are those of 0:
# powers of no more than this come out as exactly 0 by the clamp alone.  Those of up to one more,
# too small to be normal, come out as some number below the smallest that is.
LOWEST = -1023.0
FLOAT32_LOWEST = -127.0

_polynomial = constants_like(ROUNDER, 1.0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11)
_float32_polynomial = constants_like(FLOAT32_ROUNDER, 1.0, B1, B2, B3, B4, B5, B6)


@strict_device
def _exp2_by_table(x: Register) -> Register:
    """Return 2**x for -1022 <= x <= 1023, and for -1023: 0.

    The nearest eighth goes into the exponent and a table of 2**(j/8), what is left into a
    polynomial of degree 7.
    """
    shifted = x + EIGHTHS_ROUNDER
    r = x - (shifted - EIGHTHS_ROUNDER)  # exact
    s = r * r
    odd = fma(fma(s, E6, E4), s, E2)
    even = fma(fma(fma(s, E7, E5), s, E3), s, E1)
    power = low_bits_eighths(shifted)
    return fma(power, fma(odd, r, even) * r, power)


@strict_device
def _exp2_by_polynomial(x: Register) -> Register:
    """Return 2**x for -1022 <= x <= 1023, and for -1023: 0.

    The nearest integer goes into the exponent, what is left into a polynomial of degree 11.
    """
    rounder, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = _polynomial(x)
    shifted = x + rounder
    r = x - (shifted - rounder)  # exact
    # Two interleaved Horner chains, in r**2: half the latency of one.
    s = r * r
    odd = fma(fma(fma(fma(s, c10, c8), s, c6), s, c4), s, c2)
    even = fma(fma(fma(fma(fma(s, c11, c9), s, c7), s, c5), s, c3), s, c1)
    return times_low_bits_power(fma(fma(odd, r, even), r, c0), shifted)


exp2_reduced = _exp2_by_table if LANES == 8 else _exp2_by_polynomial


@strict_device
def exp2_reduced_float32(x: Register) -> Register:
    """Return 2**x of a float32 register for -126 <= x <= 127, and for -127: 0."""
    rounder, c0, c1, c2, c3, c4, c5, c6 = _float32_polynomial(x)
    shifted = x + rounder
    r = x - (shifted - rounder)
    p = fma(fma(fma(fma(fma(r, c6, c5), r, c4), r, c3), r, c2), r, c1)
    return times_low_bits_power(fma(p, r, c0), shifted)


@strict_device
def _exp2_or_0(x: Register, tile: Any) -> Register:
    return exp2_reduced(where_less(LOWEST, x, x, LOWEST))


@strict_device
def _exp2_or_0_float32(x: Register, tile: Any) -> Register:
    return widened(exp2_reduced_float32(narrowed(where_less(FLOAT32_LOWEST, x, x, FLOAT32_LOWEST))))


def exp2_or_0(x: Register, tile: Any) -> Register:
    """Return 2**x of float64 registers for x <= 0; 0 where x is NaN.

    Less than the smallest normal number, or 0, where that is what it should be.

    Of pairs of registers that belong to a float32 tile, with the accuracy of float32.
    """
    narrow = tile.dtype == np.float32
    return _exp2_or_0_float32(x, tile) if narrow else _exp2_or_0(x, tile)


if not JIT_DISABLED:

    @overload(exp2_or_0, jit_options=overload_options(_exp2_or_0))  # type: ignore[untyped-decorator]
    def _choose(x: Any, tile: Any) -> Any:
        chosen: Any = _exp2_or_0_float32 if tile.dtype == types.float32 else _exp2_or_0
        return chosen.py_func


@strict_device
def log_positive(x: Register) -> Register:
    """Return log(x) for a normal, finite x > 0.

    ``log m = 2 artanh((m-1)/(m+1))`` for the mantissa m in [sqrt(1/2), sqrt(2)].
    """
    m, e = mantissa(x), exponent(x)
    e = where_less(SQRT2, m, e + 1.0, e)
    m = where_less(SQRT2, m, m * 0.5, m)
    f = m - 1.0
    t = divide(f, m + 1.0)
    s = t * t
    p = fma(fma(s, 2 / 21, 2 / 19), s, 2 / 17)
    p = fma(fma(fma(p, s, 2 / 15), s, 2 / 13), s, 2 / 11)
    p = fma(fma(fma(fma(p, s, 2 / 9), s, 2 / 7), s, 2 / 5), s, 2 / 3)
    # log m = 2t + t s p = f - t (f - s p): f is exact, the rest a small correction.
    return fma(e, LN2_HIGH, f - (t * (f - s * p) - e * LN2_LOW))
