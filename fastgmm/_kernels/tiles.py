"""E-step tiles: squared norms of factor times centred rows.

A register holds one feature of `LANES` rows, or of twice as many in float32.  A tile multiplies
`LANES` factor rows with `REGISTERS` registers of data rows: 24 accumulators stay in registers over
a whole loop, which neither Numba nor LLVM's vectoriser will do.  Arrays are flat; the integer after
one is the offset of its first element.

In float32 rows are centred on means rounded to float32, which makes the differences exact or nearly
so.  What the rounding moved the means by comes back as ``shift = T (rounded mean - mean)``, where
the accumulators begin; in float64 there is no such thing, and ``shift`` is not read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from .arrays import Array
from .emitter import FLOAT, LANES, Emitter
from .options import device, shared
from .simd import vector_intrinsic

REGISTERS = 3  # registers of rows in a tile
ROWS = REGISTERS * LANES


@shared
def tile_width(width: int) -> int:
    """Return how many rows, of numbers of ``width`` bytes, a tile multiplies at a time."""
    return ROWS * 8 // width


def _panel_square(
    factor: Array, fo: int, n: int, z: Array, shift: Array, so: int, height: int = LANES
) -> Array:
    panel = factor[fo : fo + n * height].reshape(n, height)
    triangle = factor[fo + n * height : fo + (n + height) * height].reshape(height, height)
    projected = panel.T @ z[:n] + triangle.T @ z[n:]
    if z.dtype == np.float32:
        projected += shift[so : so + height, None]
    return (projected**2).sum(axis=0)  # type: ignore[no-any-return]


def _first_square(
    factor: Array,
    fo: int,
    n: int,
    x: Array,
    xo: int,
    stride: int,
    mean: Array,
    mo: int,
    z: Array,
    zo: int,
    shift: Array,
    so: int,
    q: Array,
    qo: int,
) -> None:
    rows = tile_width(x.itemsize)
    places = xo + stride * np.arange(n + LANES)[:, None] + np.arange(rows)
    centred = x[places] - mean[mo : mo + n + LANES, None]
    z[zo : zo + n * rows] = centred[:n].ravel()
    q[qo : qo + rows] = _panel_square(factor, fo, n, centred, shift, so)


def _next_square(
    factor: Array, fo: int, n: int, z: Array, zo: int, shift: Array, so: int, q: Array, qo: int
) -> None:
    rows = tile_width(z.itemsize)
    centred = z[zo : zo + (n + LANES) * rows].reshape(-1, rows)
    q[qo : qo + rows] += _panel_square(factor, fo, n, centred, shift, so)


def _emit_square(
    emit: Emitter,
    factor: Any,
    fo: Any,
    n: Any,
    centred: Callable[[Any, bool], list[Any]],
    shift: Any,
    so: Any,
    q: Any,
    qo: Any,
    *,
    accumulate: bool,
    size: int = LANES,
) -> None:
    """Emit the tiles below; ``centred(j, keep)`` gives the registers of feature j."""
    builder = emit.builder
    zero = emit.constant(0.0)
    height, width = range(size), range(REGISTERS)

    def multiply(accumulators: Sequence[Any], j: Any, z: list[Any], first_row: int) -> list[Any]:
        place = builder.add(fo, builder.mul(j, emit.index(size)))
        result = list(accumulators)
        for i in height[first_row:]:
            entry = emit.load_splat(factor, emit.offset(place, i))
            for v in width:
                s = i * REGISTERS + v
                result[s] = emit.fma(entry, z[v], accumulators[s])
        return result

    accumulators = [zero] * (size * REGISTERS)
    if emit.element == FLOAT:
        starts = [emit.load_splat(shift, emit.offset(so, i)) for i in height]
        accumulators = [start for start in starts for _ in width]
    if n is None:
        n = emit.index(0)
    else:
        accumulators = emit.loop(
            n, accumulators, lambda j, values: multiply(values, j, centred(j, True), 0)
        )
    for c in height:  # the panel's own triangle, unrolled
        j = emit.offset(n, c)
        accumulators = multiply(accumulators, j, centred(j, False), c)
    for v in width:
        place = emit.offset(qo, v * emit.lanes)
        total = emit.load(q, place) if accumulate else zero
        for i in height:
            entry = accumulators[i * REGISTERS + v]
            total = emit.fma(entry, entry, total)
        emit.store(q, place, total)


def _stored(emit: Emitter, z: Any, zo: Any) -> Callable[[Any, bool], list[Any]]:
    """Make a function that loads the registers of a feature of centred rows in ``z``."""

    def centred(j: Any, keep: bool) -> list[Any]:
        line = emit.builder.add(zo, emit.builder.mul(j, emit.index(REGISTERS * emit.lanes)))
        return [emit.load(z, emit.offset(line, v * emit.lanes)) for v in range(REGISTERS)]

    return centred


@vector_intrinsic(_first_square)
def first_square(
    typingctx: Any,
    factor: Any,
    fo: Any,
    n: Any,
    x: Any,
    xo: Any,
    stride: Any,
    mean: Any,
    mo: Any,
    z: Any,
    zo: Any,
    shift: Any,
    so: Any,
    q: Any,
    qo: Any,
) -> Any:
    """Write ``q = |panel (x - mean)|**2``; the first n centred features go to ``z``.

    The panel has `LANES` factor rows: n full columns, then its lower triangle.
    """
    k = types.intp
    sig = types.void(factor, k, k, x, k, k, mean, k, z, k, shift, k, q, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder, sig.args[3].dtype)
        factor, x, mean, z, shift, q = (
            emit.array(sig.args[i], args[i]) for i in (0, 3, 6, 8, 10, 12)
        )
        _, fo, n, _, xo, stride, _, mo, _, zo, _, so, _, qo = args
        rows = emit.index(REGISTERS * emit.lanes)

        def centred(j: Any, keep: bool) -> list[Any]:
            centre = emit.load_splat(mean, builder.add(mo, j))
            source = builder.add(xo, builder.mul(j, stride))
            target = builder.add(zo, builder.mul(j, rows))
            values = []
            for v in range(REGISTERS):
                value = emit.load(x, emit.offset(source, v * emit.lanes))
                values.append(emit.sub(value, centre))
                if keep:
                    emit.store(z, emit.offset(target, v * emit.lanes), values[v])
            return values

        _emit_square(emit, factor, fo, n, centred, shift, so, q, qo, accumulate=False)
        return context.get_dummy_value()

    return sig, codegen


@vector_intrinsic(_next_square)
def next_square(
    typingctx: Any,
    factor: Any,
    fo: Any,
    n: Any,
    z: Any,
    zo: Any,
    shift: Any,
    so: Any,
    q: Any,
    qo: Any,
) -> Any:
    """Add ``q += |panel z|**2`` for centred rows ``z``, as `first_square` stored them."""
    k = types.intp
    sig = types.void(factor, k, k, z, k, shift, k, q, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder, sig.args[3].dtype)
        factor, z, shift, q = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5, 7))
        _, fo, n, _, zo, _, so, _, qo = args
        centred = _stored(emit, z, zo)
        _emit_square(emit, factor, fo, n, centred, shift, so, q, qo, accumulate=True)
        return context.get_dummy_value()

    return sig, codegen


def _front_twin(size: int) -> Callable[..., None]:
    def front(
        factor: Array, fo: int, z: Array, zo: int, shift: Array, so: int, q: Array, qo: int
    ) -> None:
        rows = tile_width(z.itemsize)
        centred = z[zo : zo + size * rows].reshape(size, rows)
        q[qo : qo + rows] += _panel_square(factor, fo, 0, centred, shift, so, size)

    return front


def _front_square(size: int) -> Callable[..., None]:
    """Make the tile of a front panel of ``size`` features: only its triangle."""

    @vector_intrinsic(_front_twin(size))
    def front(
        typingctx: Any,
        factor: Any,
        fo: Any,
        z: Any,
        zo: Any,
        shift: Any,
        so: Any,
        q: Any,
        qo: Any,
    ) -> Any:
        k = types.intp
        sig = types.void(factor, k, z, k, shift, k, q, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[2].dtype)
            factor, z, shift, q = (emit.array(sig.args[i], args[i]) for i in (0, 2, 4, 6))
            _, fo, _, zo, _, so, _, qo = args
            centred, place = _stored(emit, z, zo), (shift, so, q, qo)
            _emit_square(emit, factor, fo, None, centred, *place, accumulate=True, size=size)
            return context.get_dummy_value()

        return sig, codegen

    return front


_front_1, _front_2, _front_3 = _front_square(1), _front_square(2), _front_square(3)
_front_4, _front_5, _front_6 = _front_square(4), _front_square(5), _front_square(6)
_front_7, _front_8 = _front_square(7), _front_square(8)


@device
def front_square(
    size: int,
    factor: Array,
    fo: int,
    z: Array,
    zo: int,
    shift: Array,
    so: int,
    q: Array,
    qo: int,
) -> None:
    """Add ``q += |triangle z|**2`` for the front panel: ``size`` features, at most `LANES`."""
    if size == 1:
        _front_1(factor, fo, z, zo, shift, so, q, qo)
    elif size == 2:
        _front_2(factor, fo, z, zo, shift, so, q, qo)
    elif size == 3:
        _front_3(factor, fo, z, zo, shift, so, q, qo)
    elif size == 4:
        _front_4(factor, fo, z, zo, shift, so, q, qo)
    elif size == 5:
        _front_5(factor, fo, z, zo, shift, so, q, qo)
    elif size == 6:
        _front_6(factor, fo, z, zo, shift, so, q, qo)
    elif size == 7:
        _front_7(factor, fo, z, zo, shift, so, q, qo)
    else:
        _front_8(factor, fo, z, zo, shift, so, q, qo)
