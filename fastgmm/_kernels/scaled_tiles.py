"""Register tiles of the scale kind: distances without products between features, and moments.

A register holds one feature of `LANES` rows, or of twice as many in float32.  Distances are worked
out for two components and several registers of rows at a time, so that what is loaded of the rows
serves both.  The moments of some features stay in registers while the rows of a tile pass by; at
the end their lanes are added up by a transposing network and they go to *cells* of memory.

The rows lie as ``x[feature][row]``; arrays are flat.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .arrays import Array
from .emitter import LANES, Emitter
from .moments import emit_add_folded
from .options import device, shared
from .simd import vector_intrinsic

# Registers of rows at a time: there are 32 registers with AVX-512, else 16.
REGISTERS = 4 if LANES == 8 else 2
# Sums of moments that are kept in registers.
SUMS = 8


def _log_density_twin(components: int, precise: bool) -> Callable[..., None]:
    def log_density(
        x: Array,
        n: int,
        d: int,
        centres: Array,
        precisions: Array,
        first: int,
        second: int,
        factors: tuple[float, float],
        peaks: tuple[float, float],
        h: Array,
        ho: int,
    ) -> None:
        for c, k in enumerate((first, second)[:components]):
            z = x[: d * n].reshape(d, n) - centres[k * d : (k + 1) * d, None]
            scaled = z * precisions[k * d : (k + 1) * d, None] if precise else z
            value = peaks[c] + factors[c] * (scaled * z).sum(axis=0).astype(np.float64)
            h[ho + c * n : ho + (c + 1) * n] = np.where(value > -np.inf, value, -np.inf)

    return log_density


def _log_density(components: int, precise: bool) -> Callable[..., None]:
    """Make the E-step of one or two components: ``h = peak + factor sum_j p_j (x_j - c_j)**2``.

    Not ``precise``: without the p_j.
    """

    @vector_intrinsic(_log_density_twin(components, precise))
    def log_density(
        typingctx: Any,
        x: Any,
        n: Any,
        d: Any,
        centres: Any,
        precisions: Any,
        first: Any,
        second: Any,
        factors: Any,
        peaks: Any,
        h: Any,
        ho: Any,
    ) -> Any:
        k, pair = types.intp, types.UniTuple(types.float64, 2)
        sig = types.void(x, k, k, centres, precisions, k, k, pair, pair, h, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[0].dtype)
            wide = emit.widened()
            x, centres, precisions, h = (emit.array(sig.args[i], args[i]) for i in (0, 3, 4, 9))
            _, n, d, _, _, *numbers, factors, peaks, _, ho = args
            each = range(components)
            starts = [builder.mul(numbers[c], d) for c in each]
            factor, peak = (
                [wide.splat(builder.extract_value(pair, c)) for c in each]
                for pair in (factors, peaks)
            )
            places = [builder.add(ho, builder.mul(n, emit.index(c))) for c in each]
            never = wide.constant(-np.inf)

            def feature(b: Any, j: Any, squares: list[Any]) -> list[Any]:
                line = builder.add(builder.mul(n, j), b)
                rows = [emit.load(x, emit.offset(line, v * emit.lanes)) for v in range(REGISTERS)]
                new, old = [], iter(squares)
                for start in starts:
                    centre = emit.load_splat(centres, builder.add(start, j))
                    if precise:
                        precision = emit.load_splat(precisions, builder.add(start, j))
                    for row in rows:
                        z = emit.sub(row, centre)
                        scaled = emit.mul(z, precision) if precise else z
                        new.append(emit.fma(scaled, z, next(old)))
                return new

            def body(b: Any, _: Any) -> Any:
                zeros = [emit.constant(0.0)] * (components * REGISTERS)
                found = emit.loop(d, zeros, lambda j, values: feature(b, j, values))
                squares = list(map(wide.converted, found))
                for v in range(REGISTERS):
                    row = emit.offset(b, v * emit.lanes)
                    for c in each:
                        value = wide.fma(squares[c * REGISTERS + v], factor[c], peak[c])
                        # a maximum that lets no NaN through
                        number = builder.fcmp_ordered(">", value, never)
                        value = builder.select(number, value, never)
                        wide.store(h, builder.add(places[c], row), value)
                return []

            emit.loop(n, [], body, step=REGISTERS * emit.lanes)
            return context.get_dummy_value()

        return sig, codegen

    return log_density


log_density_1 = _log_density(1, precise=False)
log_density_2 = _log_density(2, precise=False)
precise_log_density_1 = _log_density(1, precise=True)
precise_log_density_2 = _log_density(2, precise=True)


def _moments_twin(size: int, both: bool) -> Callable[..., None]:
    def moments(
        x: Array, xo: int, n: int, mean: Array, mo: int, h: Array, ho: int, cells: Array, co: int
    ) -> None:
        z = x[xo : xo + size * n].reshape(size, n) - mean[mo : mo + size, None]
        weighted = z * h[ho : ho + n].astype(x.dtype)
        cells[co : co + size] += weighted.sum(axis=1)
        if both:
            cells[co + size : co + 2 * size] += (weighted * z).sum(axis=1)

    return moments


def _moments(size: int, both: bool) -> Callable[..., None]:
    """Make the tile of the first moments of ``size`` features, weighted by h; or of both."""

    @vector_intrinsic(_moments_twin(size, both))
    def moments(
        typingctx: Any,
        x: Any,
        xo: Any,
        n: Any,
        mean: Any,
        mo: Any,
        h: Any,
        ho: Any,
        cells: Any,
        co: Any,
    ) -> Any:
        k = types.intp
        sig = types.void(x, k, k, mean, k, h, k, cells, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[0].dtype)
            wide = emit.widened()
            x, mean, h, cells = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5, 7))
            _, xo, n, _, mo, _, ho, _, co = args
            centre = [emit.load_splat(mean, emit.offset(mo, i)) for i in range(size)]

            def body(b: Any, sums: Any) -> Any:
                weight = emit.converted(wide.load(h, builder.add(ho, b)))
                first, second = list[Any](), list[Any]()
                for i in range(size):
                    line = builder.add(builder.mul(n, emit.index(i)), b)
                    z = emit.sub(emit.load(x, builder.add(xo, line)), centre[i])
                    if both:
                        weighted = emit.mul(weight, z)
                        first.append(emit.add(sums[i], weighted))
                        second.append(emit.fma(weighted, z, sums[size + i]))
                    else:
                        first.append(emit.fma(weight, z, sums[i]))
                return first + second

            zeros = [emit.constant(0.0)] * (size * (1 + both))
            sums = emit.loop(n, zeros, body, step=emit.lanes)
            emit_add_folded(emit, sums, cells, co)
            return context.get_dummy_value()

        return sig, codegen

    return moments


_first_1, _first_2 = _moments(1, both=False), _moments(2, both=False)
_first_4, _first_8 = _moments(4, both=False), _moments(8, both=False)
_both_1, _both_2, _both_4 = _moments(1, both=True), _moments(2, both=True), _moments(4, both=True)


@shared
def _step(left: int, both: bool) -> int:
    """Return how many of the features that are left come next: as many as registers allow."""
    size = SUMS // 2 if both else SUMS
    while size > left:
        size //= 2
    return size


@shared
def cells_size(d: int, both: bool) -> int:
    """Return the numbers in the cells of one component; whole registers of either type."""
    count = 0
    while d > 0:
        d -= _step(d, both)
        count += 2 * SUMS
    return count


@device
def add_moments(
    x: Array,
    n: int,
    means: Array,
    m: int,
    h: Array,
    o: int,
    cells: Array,
    c: int,
    d: int,
    both: bool,
) -> None:
    """Add the moments of one component, weighted by h, to its cells."""
    j = 0
    while j < d:
        size = _step(d - j, both)
        if both:
            if size == 4:
                _both_4(x, j * n, n, means, m + j, h, o, cells, c)
            elif size == 2:
                _both_2(x, j * n, n, means, m + j, h, o, cells, c)
            else:
                _both_1(x, j * n, n, means, m + j, h, o, cells, c)
        elif size == 8:
            _first_8(x, j * n, n, means, m + j, h, o, cells, c)
        elif size == 4:
            _first_4(x, j * n, n, means, m + j, h, o, cells, c)
        elif size == 2:
            _first_2(x, j * n, n, means, m + j, h, o, cells, c)
        else:
            _first_1(x, j * n, n, means, m + j, h, o, cells, c)
        j += size
        c += 2 * SUMS


@device
def unpack_moments(cells: Array, c: int, first: Array, second: Array, d: int) -> None:
    """Add a component's first moments (d,), and second ones if there are any, to arrays.

    second (m,) has a place for each feature, one for the sum over features, or none.
    """
    both, j = second.shape[0] > 0, 0
    while j < d:
        size = _step(d - j, both)
        for i in range(size):
            first[j + i] += cells[c + i]
            if both:
                second[min(j + i, second.shape[0] - 1)] += cells[c + size + i]
        j += size
        c += 2 * SUMS
