"""E-step for few features: a component's mean and factor unrolled, rows in the lanes.

Up to `MOST` features nothing needs blocking: the whole product with the factor (its row-wise packed
lower triangle) is one straight piece of code, repeated while the rows of a tile pass by.  They come
in as many registers at a time as leave room for the centred rows: what is loaded of a factor serves
all of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .arrays import Array
from .emitter import FLOAT, LANES, Emitter
from .exp import LOG2_E
from .options import device
from .simd import splat, store, vector_intrinsic

MOST = 8
# Registers of rows at a time: there are 32 with AVX-512, else 16.
REGISTERS = 2 if LANES == 8 else 1


def _log_density_twin(d: int) -> Callable[..., None]:
    def log_density(
        x: Array,
        n: int,
        mean: Array,
        mo: int,
        factor: Array,
        fo: int,
        shift: Array,
        peak: float,
        h: Array,
        ho: int,
    ) -> None:
        z = x[: d * n].reshape(d, n) - mean[mo : mo + d, None]
        lower = np.zeros((d, d), factor.dtype)
        lower[np.tril_indices(d)] = factor[fo : fo + d * (d + 1) // 2]
        projected = lower @ z
        if z.dtype == np.float32:
            projected += shift[mo : mo + d, None]
        square = (projected**2).sum(axis=0).astype(np.float64)
        h[ho : ho + n] = np.where(square < np.inf, peak - 0.5 * LOG2_E * square, -np.inf)

    return log_density


def _log_density(d: int) -> Callable[..., None]:
    """Make the E-step of d features: ``h = peak - log2(e) |T (x - mean)|**2 / 2``."""

    @vector_intrinsic(_log_density_twin(d))
    def log_density(
        typingctx: Any,
        x: Any,
        n: Any,
        mean: Any,
        mo: Any,
        factor: Any,
        fo: Any,
        shift: Any,
        peak: Any,
        h: Any,
        ho: Any,
    ) -> Any:
        k = types.intp
        sig = types.void(x, k, mean, k, factor, k, shift, types.float64, h, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[0].dtype)
            wide = emit.widened()
            x, mean, factor, shift, h = (emit.array(sig.args[i], args[i]) for i in (0, 2, 4, 6, 8))
            _, n, _, mo, _, fo, _, peak, _, ho = args
            centre = [emit.load_splat(mean, emit.offset(mo, i)) for i in range(d)]
            entries = [emit.load_splat(factor, emit.offset(fo, i)) for i in range(d * (d + 1) // 2)]
            start = list[Any]()
            if emit.element == FLOAT:
                start = [emit.load_splat(shift, emit.offset(mo, i)) for i in range(d)]
            peak, minus_half = wide.splat(peak), wide.constant(-0.5 * LOG2_E)
            never = wide.constant(-np.inf)

            def body(b: Any, _: Any) -> Any:
                z, squares = list[list[Any]](), list[Any]()
                entry = iter(entries)
                for i in range(d):
                    place = builder.add(builder.mul(n, emit.index(i)), b)
                    z.append([])
                    for v in range(REGISTERS):
                        value = emit.load(x, emit.offset(place, v * emit.lanes))
                        z[i].append(emit.sub(value, centre[i]))
                    first = next(entry)
                    if start:
                        lines = [emit.fma(first, value, start[i]) for value in z[0]]
                    else:
                        lines = [emit.mul(first, value) for value in z[0]]
                    for feature in z[1:]:
                        factor = next(entry)
                        pairs = zip(feature, lines, strict=True)
                        lines = [emit.fma(factor, value, line) for value, line in pairs]
                    if i:
                        pairs = zip(lines, squares, strict=True)
                        squares = [emit.fma(line, line, square) for line, square in pairs]
                    else:
                        squares = [emit.mul(line, line) for line in lines]
                for v, square in enumerate(map(wide.converted, squares)):
                    place = emit.offset(b, v * emit.lanes)
                    value = wide.fma(square, minus_half, peak)
                    # a maximum that lets no NaN through
                    number = builder.fcmp_ordered(">", value, never)
                    wide.store(h, builder.add(ho, place), builder.select(number, value, never))
                return []

            emit.loop(n, [], body, step=REGISTERS * emit.lanes)
            return context.get_dummy_value()

        return sig, codegen

    return log_density


_log_density_1 = _log_density(1)
_log_density_2 = _log_density(2)
_log_density_3 = _log_density(3)
_log_density_4 = _log_density(4)
_log_density_5 = _log_density(5)
_log_density_6 = _log_density(6)
_log_density_7 = _log_density(7)
_log_density_8 = _log_density(8)


@device
def tiny_log_densities(
    active: Array,
    x: Array,
    n: int,
    means: Array,
    factors: Array,
    consts: Array,
    shifts: Array,
    h: Array,
    d: int,
) -> None:
    """Write ``log2 p_k`` of n rows for all active components to h."""
    size = d * (d + 1) // 2
    for p in range(active.shape[0]):
        k = active[p]
        peak, m, f, o = LOG2_E * consts[k], k * d, k * size, p * n
        if consts[k] == -np.inf:
            for i in range(0, n, LANES):
                store(h, o + i, splat(peak))
            continue
        if d == 1:
            _log_density_1(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 2:
            _log_density_2(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 3:
            _log_density_3(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 4:
            _log_density_4(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 5:
            _log_density_5(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 6:
            _log_density_6(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 7:
            _log_density_7(x, n, means, m, factors, f, shifts, peak, h, o)
        elif d == 8:
            _log_density_8(x, n, means, m, factors, f, shifts, peak, h, o)
