"""Moments of listed pairs: features in the lanes, one row after the other.

Rows lie as ``lines[row][feature]``, filled up to whole registers.  A pair takes one multiply-add
for each register of its row's features, whose sums stay in registers while the list of a component
passes by.
"""

from collections.abc import Callable
from typing import Any

from numba import types

from .arrays import Array, Indices
from .emitter import INT64, LANES, Emitter
from .expanded_tiles import PANEL
from .loading import transposed
from .options import device
from .simd import vector_intrinsic
from .tile import padded

# Registers of features at a time, with two sums each: there are no fewer than 16 registers.
_MOST = 6


def _transpose_block(x: Array, xo: int, out: Array, oo: int, stride: int) -> None:
    for f in range(LANES):
        for i in range(LANES):
            out[oo + i * stride + f] = x[xo + f * PANEL + i]


@vector_intrinsic(_transpose_block)
def transpose_block(typingctx: Any, x: Any, xo: Any, out: Any, oo: Any, stride: Any) -> Any:
    """Transpose a square block of a panel: ``out[oo + i stride + f] = x[xo + f PANEL + i]``."""
    k = types.intp
    sig = types.void(x, k, out, k, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        x, out = emit.array(sig.args[0], args[0]), emit.array(sig.args[2], args[2])
        _, xo, _, oo, stride = args
        block = [emit.load(x, emit.offset(xo, f * PANEL)) for f in range(LANES)]
        for i, line in enumerate(transposed(emit, block)):
            emit.store(out, builder.add(oo, builder.mul(stride, emit.index(i))), line)
        return context.get_dummy_value()

    return sig, codegen


@device
def write_lines(x: Array, b: int, columns: int, count: int, lines: Array) -> None:
    """Write the first ``count`` features of panels x of b rows row by row.

    What fills up a row is whatever comes after the panel.
    """
    width = padded(count)
    for i in range(0, b, PANEL):
        for r in range(0, PANEL, LANES):
            for f in range(0, count, LANES):
                place = i * columns + f * PANEL + r
                transpose_block(x, place, lines, (i + r) * width + f, width)


def _moments_twin(registers: int) -> Callable[..., None]:
    def moments(
        lines: Array, first: int, width: int, rows: Indices, o: int, count: int, h: Array,
        scale: Array, cells: Array, place: int,
    ) -> None:  # fmt: skip
        size = registers * LANES
        for e in range(o, o + count):
            start = rows[e] * width + first
            cells[place : place + size] += h[e] * scale[rows[e]] * lines[start : start + size]

    return moments


def _moments(registers: int) -> Callable[..., None]:
    """Make the moments of some registers of features in one component.

    Two rows at a time have sums of their own: of one, each would wait for the last.

    o, count : where its list begins, in rows and h alike, and how many rows it has; an odd one is
    followed by a row of density 0.
    """

    @vector_intrinsic(_moments_twin(registers))
    def moments(
        typingctx: Any, lines: Any, first: Any, width: Any, rows: Any, o: Any, count: Any, h: Any,
        scale: Any, cells: Any, place: Any,
    ) -> Any:  # fmt: skip
        k = types.intp
        sig = types.void(lines, k, k, rows, k, k, h, scale, cells, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            lines, rows, h, scale, cells = (
                emit.array(sig.args[i], args[i]) for i in (0, 3, 6, 7, 8)
            )
            _, first, width, _, o, count, _, _, _, place = args

            def two_rows(e: Any, sums: list[Any]) -> list[Any]:
                for i in range(2):
                    here = emit.offset(builder.add(o, e), i)
                    row = builder.zext(builder.load(builder.gep(rows, [here])), INT64)
                    density = builder.load(builder.gep(h, [here]))
                    weight = builder.fmul(density, builder.load(builder.gep(scale, [row])))
                    weight = emit.splat(weight)
                    start = builder.add(builder.mul(row, width), first)
                    for j in range(registers):
                        feature = emit.load(lines, emit.offset(start, j * LANES))
                        own = i * registers + j
                        sums[own] = emit.fma(feature, weight, sums[own])
                return sums

            begin = [emit.constant(0.0)] * (2 * registers)
            sums = emit.loop(count, begin, two_rows, step=2)
            for i in range(registers):
                at = emit.offset(place, i * LANES)
                total = emit.add(sums[i], sums[registers + i])
                emit.store(cells, at, emit.add(emit.load(cells, at), total))
            return context.get_dummy_value()

        return sig, codegen

    return moments


_moments_1, _moments_2, _moments_3 = map(_moments, (1, 2, 3))
_moments_4, _moments_5, _moments_6 = map(_moments, (4, 5, 6))


@device
def add_listed_moments(
    lines: Array, width: int, rows: Indices, o: int, count: int, h: Array, scale: Array,
    cells: Array, place: int,
) -> None:  # fmt: skip
    """Add the moments of a component's list, weighted by h scale, to its cells."""
    first = 0
    while first < width:
        left = (width - first) // LANES
        parts = (left + _MOST - 1) // _MOST
        size, at = (left + parts - 1) // parts, place + first
        if size == 1:
            _moments_1(lines, first, width, rows, o, count, h, scale, cells, at)
        elif size == 2:
            _moments_2(lines, first, width, rows, o, count, h, scale, cells, at)
        elif size == 3:
            _moments_3(lines, first, width, rows, o, count, h, scale, cells, at)
        elif size == 4:
            _moments_4(lines, first, width, rows, o, count, h, scale, cells, at)
        elif size == 5:
            _moments_5(lines, first, width, rows, o, count, h, scale, cells, at)
        else:
            _moments_6(lines, first, width, rows, o, count, h, scale, cells, at)
        first += size * LANES
