"""Exponential and logarithm for numbers and for SIMD registers alike.

Numba calls the C library's scalar ``exp`` inside loops; these are polynomials, so they vectorise.
Both are accurate to two units in the last place.  So is, in float32, the exponential that takes
part in the work on float32 tiles.

References
----------
.. [1] W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980: the
   two-part reduction by log 2.
"""

from typing import Any

from numba.extending import overload

from .options import JIT_DISABLED, overload_options, strict_device
from .simd import (
    LANES,
    Register,
    divide,
    exponent,
    float64_pairs,
    fma,
    low_bits_power,
    mantissa,
    narrowed,
    where_less,
    widened,
)

LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has 21 trailing zero bits, so that a small integer times it is exact.
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
# Adding 1.5*2**52 rounds to an integer and leaves that integer in the lowest bits.
ROUNDER = 6755399441055744.0
# exp r for |r| <= ln(2)/2: the Taylor series to degree 17, economised to degree 11 (its Chebyshev
# terms above are below 4e-18); the first two coefficients are 1.
C2 = float.fromhex("0x1.0000000000011p-1")
C3 = float.fromhex("0x1.5555555555562p-3")
C4 = float.fromhex("0x1.555555554f0b8p-5")
C5 = float.fromhex("0x1.111111110db6ap-7")
C6 = float.fromhex("0x1.6c16c18800884p-10")
C7 = float.fromhex("0x1.a01a01b80612dp-13")
C8 = float.fromhex("0x1.a01991a02d3a8p-16")
C9 = float.fromhex("0x1.71dde761afc2ap-19")
C10 = float.fromhex("0x1.28b410d73b7ddp-22")
C11 = float.fromhex("0x1.af786c30b1d9dp-26")
SQRT2 = 1.4142135623730951
# The same for float32: ln 2 with 14 trailing zero bits, 1.5*2**23, and a series of degree 6 that is
# off by 1e-8.
FLOAT32_LN2_HIGH, FLOAT32_LN2_LOW = 0.693359375, -2.12194440e-4
FLOAT32_ROUNDER = 12582912.0
B2 = float.fromhex("0x1.000000p-1")
B3 = float.fromhex("0x1.5554dcp-3")
B4 = float.fromhex("0x1.55551ap-5")
B5 = float.fromhex("0x1.120b6ep-7")
B6 = float.fromhex("0x1.6d110ap-10")

# What is below these comes out as exactly 0, and so does its square, a responsibility.
LOWEST = -354.0
FLOAT32_LOWEST = -87.0


@strict_device
def exp_reduced(x: Register) -> Register:
    """Return exp(x) for -708 <= x <= 709: Cody and Waite's reduction, degree 11."""
    shifted = fma(x, LOG2_E, ROUNDER)
    n = shifted - ROUNDER
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    # Two interleaved Horner chains, in r**2: half the latency of one.
    s = r * r
    odd = fma(fma(fma(fma(s, C11, C9), s, C7), s, C5), s, C3)
    even = fma(fma(fma(fma(s, C10, C8), s, C6), s, C4), s, C2)
    p = fma(fma(odd, r, even), s, r) + 1.0
    return p * low_bits_power(shifted)


@strict_device
def exp_reduced_float32(x: Register) -> Register:
    """Return exp(x) of a float32 register for -87 <= x <= 88."""
    shifted = fma(x, LOG2_E, FLOAT32_ROUNDER)
    n = shifted - FLOAT32_ROUNDER
    r = fma(n, -FLOAT32_LN2_LOW, fma(n, -FLOAT32_LN2_HIGH, x))
    p = fma(fma(fma(fma(r, B6, B5), r, B4), r, B3), r, B2)
    return (fma(p, r * r, r) + 1.0) * low_bits_power(shifted)


@strict_device
def _exp_or_0(x: Register) -> Register:
    return where_less(LOWEST, x, exp_reduced(where_less(LOWEST, x, x, LOWEST)), 0.0)


@strict_device
def _exp_or_0_float32(x: Register) -> Register:
    y = narrowed(x)
    bounded = where_less(FLOAT32_LOWEST, y, y, FLOAT32_LOWEST)
    return widened(where_less(FLOAT32_LOWEST, y, exp_reduced_float32(bounded), 0.0))


def exp_or_0(x: Register) -> Register:
    """Return exp(x) of a float64 register for x <= 0, and 0 where it is tiny.

    Of pairs of registers, which belong to float32 tiles, with the accuracy of float32.
    """
    return _exp_or_0_float32(x) if x.size == 2 * LANES else _exp_or_0(x)


if not JIT_DISABLED:

    @overload(exp_or_0, jit_options=overload_options(_exp_or_0))  # type: ignore[untyped-decorator]
    def _choose(x: Any) -> Any:
        chosen: Any = _exp_or_0_float32 if x == float64_pairs else _exp_or_0
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
