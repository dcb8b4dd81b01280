"""E-step tiles: squared norms of factor times centred rows, and the loading of rows.

A register holds one feature of `LANES` rows.  A tile multiplies `LANES` factor rows with `ROWS`
data rows: 24 accumulators stay in registers over a whole loop, which neither Numba nor LLVM's
vectoriser will do.  Arrays are flat; the integer after one is the offset of its first element.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .arrays import Array, Indices
from .emitter import INT64, LANES, Emitter
from .options import device
from .simd import vector_intrinsic

REGISTERS = 3  # registers of rows in a tile
ROWS = REGISTERS * LANES


# --- loading --------------------------------------------------------------------------------------


def _emit_transposing(
    emit: Emitter,
    source: Any,
    start: Callable[[int], Any],
    count: Any,
    x: Any,
    xo: Any,
    stride: Any,
) -> None:
    """Load ``count`` features of each row from where it starts; store them feature by feature."""
    builder = emit.builder
    lane = ir.Constant(ir.VectorType(INT64, LANES), list(range(LANES)))
    mask = builder.icmp_signed("<", lane, emit.splat(count))
    block = [emit.load_masked(source, start(i), mask) for i in range(LANES)]
    for j, feature in enumerate(_transposed(emit, block)):
        emit.store(x, builder.add(xo, builder.mul(stride, emit.index(j))), feature)


def _load_panel(
    data: Array,
    row: int,
    last: int,
    d: int,
    first: int,
    x: Array,
    xo: int,
    stride: int,
) -> None:
    count = min(LANES, d - first)
    for i in range(LANES):
        start = min(row + i, last) * d + first
        x[xo + i : xo + i + count * stride : stride] = data[start : start + count]


@vector_intrinsic(_load_panel)
def load_panel(
    typingctx: Any,
    data: Any,
    row: Any,
    last: Any,
    d: Any,
    first: Any,
    x: Any,
    xo: Any,
    stride: Any,
) -> Any:
    """Transpose `LANES` rows of features first, first+1, ...: ``x[xo + stride*j + i]``.

    Rows past the ``last`` repeat it. Features past the last are not read, and anything may be
    written in their place.
    """
    k = types.intp
    sig = types.void(data, k, k, k, k, x, k, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, row, last, d, first, _, xo, stride = args
        emit = Emitter(context, builder)
        source, x = emit.array(sig.args[0], args[0]), emit.array(sig.args[5], args[5])

        def start(i: int) -> Any:
            line = emit.offset(row, i)
            line = builder.select(builder.icmp_signed("<", line, last), line, last)
            return builder.add(builder.mul(line, d), first)

        _emit_transposing(emit, source, start, builder.sub(d, first), x, xo, stride)
        return context.get_dummy_value()

    return sig, codegen


def _gather_panel(
    data: Array, index: Indices, io: int, d: int, first: int, x: Array, xo: int, stride: int
) -> None:
    count = min(LANES, d - first)
    for i in range(LANES):
        start = index[io + i] * d + first
        x[xo + i : xo + i + count * stride : stride] = data[start : start + count]


@vector_intrinsic(_gather_panel)
def gather_panel(
    typingctx: Any,
    data: Any,
    index: Any,
    io: Any,
    d: Any,
    first: Any,
    x: Any,
    xo: Any,
    stride: Any,
) -> Any:
    """Transpose like `load_panel`, but the rows numbered ``index[io], index[io+1], ...``."""
    k = types.intp
    sig = types.void(data, index, k, k, k, x, k, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        source, numbers, x = (emit.array(sig.args[i], args[i]) for i in (0, 1, 5))
        _, _, io, d, first, _, xo, stride = args

        def start(i: int) -> Any:
            number = builder.load(builder.gep(numbers, [emit.offset(io, i)], inbounds=False))
            return builder.add(builder.mul(builder.sext(number, INT64), d), first)

        _emit_transposing(emit, source, start, builder.sub(d, first), x, xo, stride)
        return context.get_dummy_value()

    return sig, codegen


def _few_twin(d: int) -> Callable[..., None]:
    def few(data: Array, first: int, x: Array, n: int) -> None:
        x[: d * n] = data[first : first + d * n].reshape(n, d).T.ravel()

    return few


def _few(d: int) -> Callable[..., None]:
    """Make the transposing load of whole rows of d features, without a masked load for each row."""

    @vector_intrinsic(_few_twin(d))
    def few(typingctx: Any, data: Any, first: Any, x: Any, n: Any) -> Any:
        k = types.intp
        sig = types.void(data, k, x, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            source, x = emit.array(sig.args[0], args[0]), emit.array(sig.args[2], args[2])
            _, first, _, n = args

            def body(b: Any, _: Any) -> Any:
                start = builder.add(first, builder.mul(b, emit.index(d)))
                rows = emit.load(source, start, d * LANES)
                for j in range(d):
                    feature = emit.shuffle(rows, rows, range(j, d * LANES, d))
                    emit.store(x, builder.add(builder.mul(n, emit.index(j)), b), feature)
                return []

            emit.loop(n, [], body, step=LANES)
            return context.get_dummy_value()

        return sig, codegen

    return few


FEW = 4
_few_1, _few_2, _few_3, _few_4 = _few(1), _few(2), _few(3), _few(4)


@device
def load_few(data: Array, row: int, d: int, x: Array, n: int) -> None:
    """Transpose n whole rows of at most `FEW` features: ``x[n*j + i]``."""
    if d == 1:
        _few_1(data, row, x, n)
    elif d == 2:
        _few_2(data, row * 2, x, n)
    elif d == 3:
        _few_3(data, row * 3, x, n)
    else:
        _few_4(data, row * 4, x, n)


def _transposed(emit: Emitter, block: list[Any]) -> list[Any]:
    """Transpose a square block of registers: log2(LANES) rounds of two-register shuffles."""
    size = len(block)
    step = size // 2
    while step:
        low = [j if not j & step else size + (j ^ step) for j in range(size)]
        high = [j | step if not j & step else size + j for j in range(size)]
        new = list(block)
        for i in range(size):
            if not i & step:
                new[i] = emit.shuffle(block[i], block[i | step], low)
                new[i | step] = emit.shuffle(block[i], block[i | step], high)
        block, step = new, step // 2
    return block


# --- E-step: squared norms of factor panel times centred rows ------------------------------------


def _panel_square(factor: Array, fo: int, n: int, z: Array, height: int = LANES) -> Array:
    panel = factor[fo : fo + n * height].reshape(n, height)
    triangle = factor[fo + n * height : fo + (n + height) * height].reshape(height, height)
    projected = panel.T @ z[:n] + triangle.T @ z[n:]
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
    q: Array,
    qo: int,
) -> None:
    places = xo + stride * np.arange(n + LANES)[:, None] + np.arange(ROWS)
    centred = x[places] - mean[mo : mo + n + LANES, None]
    z[zo : zo + n * ROWS] = centred[:n].ravel()
    q[qo : qo + ROWS] = _panel_square(factor, fo, n, centred)


def _next_square(factor: Array, fo: int, n: int, z: Array, zo: int, q: Array, qo: int) -> None:
    centred = z[zo : zo + (n + LANES) * ROWS].reshape(-1, ROWS)
    q[qo : qo + ROWS] += _panel_square(factor, fo, n, centred)


def _emit_square(
    emit: Emitter,
    factor: Any,
    fo: Any,
    n: Any,
    centred: Callable[[Any, bool], list[Any]],
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
        place = emit.offset(qo, v * LANES)
        total = emit.load(q, place) if accumulate else zero
        for i in height:
            entry = accumulators[i * REGISTERS + v]
            total = emit.fma(entry, entry, total)
        emit.store(q, place, total)


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
    q: Any,
    qo: Any,
) -> Any:
    """Write ``q = |panel (x - mean)|**2``; the first n centred features go to ``z``.

    The panel has `LANES` factor rows: n full columns, then its lower triangle.
    """
    k = types.intp
    sig = types.void(factor, k, k, x, k, k, mean, k, z, k, q, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        factor, x, mean, z, q = (emit.array(sig.args[i], args[i]) for i in (0, 3, 6, 8, 10))
        _, fo, n, _, xo, stride, _, mo, _, zo, _, qo = args

        def centred(j: Any, keep: bool) -> list[Any]:
            centre = emit.load_splat(mean, builder.add(mo, j))
            source = builder.add(xo, builder.mul(j, stride))
            target = builder.add(zo, builder.mul(j, emit.index(ROWS)))
            values = []
            for v in range(REGISTERS):
                value = emit.load(x, emit.offset(source, v * LANES))
                values.append(emit.sub(value, centre))
                if keep:
                    emit.store(z, emit.offset(target, v * LANES), values[v])
            return values

        _emit_square(emit, factor, fo, n, centred, q, qo, accumulate=False)
        return context.get_dummy_value()

    return sig, codegen


@vector_intrinsic(_next_square)
def next_square(
    typingctx: Any, factor: Any, fo: Any, n: Any, z: Any, zo: Any, q: Any, qo: Any
) -> Any:
    """Add ``q += |panel z|**2`` for centred rows ``z``, as `first_square` stored them."""
    k = types.intp
    sig = types.void(factor, k, k, z, k, q, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        factor, z, q = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5))
        _, fo, n, _, zo, _, qo = args

        def centred(j: Any, keep: bool) -> list[Any]:
            line = builder.add(zo, builder.mul(j, emit.index(ROWS)))
            return [emit.load(z, emit.offset(line, v * LANES)) for v in range(REGISTERS)]

        _emit_square(emit, factor, fo, n, centred, q, qo, accumulate=True)
        return context.get_dummy_value()

    return sig, codegen


def _front_twin(size: int) -> Callable[..., None]:
    def front(factor: Array, fo: int, z: Array, zo: int, q: Array, qo: int) -> None:
        centred = z[zo : zo + size * ROWS].reshape(size, ROWS)
        q[qo : qo + ROWS] += _panel_square(factor, fo, 0, centred, size)

    return front


def _front_square(size: int) -> Callable[..., None]:
    """Make the tile of a front panel of ``size`` features: only its triangle."""

    @vector_intrinsic(_front_twin(size))
    def front(typingctx: Any, factor: Any, fo: Any, z: Any, zo: Any, q: Any, qo: Any) -> Any:
        k = types.intp
        sig = types.void(factor, k, z, k, q, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            factor, z, q = (emit.array(sig.args[i], args[i]) for i in (0, 2, 4))
            _, fo, _, zo, _, qo = args

            def centred(j: Any, keep: bool) -> list[Any]:
                line = builder.add(zo, builder.mul(j, emit.index(ROWS)))
                return [emit.load(z, emit.offset(line, v * LANES)) for v in range(REGISTERS)]

            _emit_square(emit, factor, fo, None, centred, q, qo, accumulate=True, size=size)
            return context.get_dummy_value()

        return sig, codegen

    return front


_front_1, _front_2, _front_3 = _front_square(1), _front_square(2), _front_square(3)
_front_4, _front_5, _front_6 = _front_square(4), _front_square(5), _front_square(6)
_front_7, _front_8 = _front_square(7), _front_square(8)


@device
def front_square(size: int, factor: Array, fo: int, z: Array, zo: int, q: Array, qo: int) -> None:
    """Add ``q += |triangle z|**2`` for the front panel: ``size`` features, at most `LANES`."""
    if size == 1:
        _front_1(factor, fo, z, zo, q, qo)
    elif size == 2:
        _front_2(factor, fo, z, zo, q, qo)
    elif size == 3:
        _front_3(factor, fo, z, zo, q, qo)
    elif size == 4:
        _front_4(factor, fo, z, zo, q, qo)
    elif size == 5:
        _front_5(factor, fo, z, zo, q, qo)
    elif size == 6:
        _front_6(factor, fo, z, zo, q, qo)
    elif size == 7:
        _front_7(factor, fo, z, zo, q, qo)
    else:
        _front_8(factor, fo, z, zo, q, qo)
