"""Loading of rows: transposed, so that a register holds one feature of several rows.

Arrays are flat.  The type of the tile decides: float32 rows may go to tiles of either type.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from .arrays import Array, Indices
from .emitter import INT64, LANES, Emitter
from .options import device, shared
from .simd import vector_intrinsic


@shared
def lanes_of(width: int) -> int:
    """Return the lanes of a register of numbers of ``width`` bytes."""
    return LANES * 8 // width


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
    lane = ir.Constant(ir.VectorType(INT64, emit.lanes), list(range(emit.lanes)))
    mask = builder.icmp_signed("<", lane, emit.splat(count))
    block = [emit.load_masked(source, start(i), mask) for i in range(emit.lanes)]
    for j, feature in enumerate(transposed(emit, block)):
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
    lanes = lanes_of(x.itemsize)
    count = min(lanes, d - first)
    for i in range(lanes):
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
    """Transpose a square block of features first, first+1, ...: ``x[xo + stride*j + i]``.

    Rows past the ``last`` repeat it. Features past the last are not read, and anything may be
    written in their place.
    """
    k = types.intp
    sig = types.void(data, k, k, k, k, x, k, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, row, last, d, first, _, xo, stride = args
        emit = Emitter(context, builder, sig.args[5].dtype)
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
    lanes = lanes_of(x.itemsize)
    count = min(lanes, d - first)
    for i in range(lanes):
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
        emit = Emitter(context, builder, sig.args[5].dtype)
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
            emit = Emitter(context, builder, sig.args[2].dtype)
            source, x = emit.array(sig.args[0], args[0]), emit.array(sig.args[2], args[2])
            _, first, _, n = args

            def body(b: Any, _: Any) -> Any:
                start = builder.add(first, builder.mul(b, emit.index(d)))
                rows = emit.load(source, start, d)
                for j in range(d):
                    feature = emit.shuffle(rows, rows, range(j, d * emit.lanes, d))
                    emit.store(x, builder.add(builder.mul(n, emit.index(j)), b), feature)
                return []

            emit.loop(n, [], body, step=emit.lanes)
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


def transposed(emit: Emitter, block: list[Any]) -> list[Any]:
    """Transpose a square block of registers: log2(size) rounds of two-register shuffles."""
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


_ASKED_FOR = 1 << 14  # bytes


def _prefetch_rows(data: Array, index: Indices, start: int, stop: int, d: int) -> None:
    pass


@vector_intrinsic(_prefetch_rows)
def prefetch_rows(typingctx: Any, data: Any, index: Any, start: Any, stop: Any, d: Any) -> Any:
    """Ask for the rows of d features that ``index[start:stop]`` numbers.

    Rows that lie here and there are not what a processor would guess: without this a tile waits for
    each of them.  No more are asked for at once than the nearest cache has room for.
    """
    k = types.intp
    width = data.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        source, numbers = (emit.array(sig.args[i], args[i]) for i in (0, 1))
        _, _, start, stop, d = args
        most = builder.sdiv(emit.index(_ASKED_FOR // width), d)
        rows = builder.sub(stop, start)
        rows = builder.select(builder.icmp_signed("<", rows, most), rows, most)

        def ask_for(i: Any, _: Any) -> Any:
            number = builder.load(builder.gep(numbers, [builder.add(start, i)]))
            place = builder.mul(builder.sext(number, INT64), d)

            def ask(j: Any, _: Any) -> Any:
                emit.prefetch(source, builder.add(place, j))
                return []

            emit.loop(d, [], ask, step=64 // width, unrolled=False)
            emit.prefetch(source, builder.add(place, emit.offset(d, -1)))
            return []

        emit.loop(rows, [], ask_for, unrolled=False)
        return context.get_dummy_value()

    return types.void(data, index, k, k, k), codegen


def _prefetch_stretch(data: Array, start: int, stop: int) -> None:
    pass


@vector_intrinsic(_prefetch_stretch)
def prefetch_stretch(typingctx: Any, data: Any, start: Any, stop: Any) -> Any:
    """Ask for ``data[start:stop]``."""
    width = data.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        source, (_, start, stop) = emit.array(sig.args[0], args[0]), args

        def ask(i: Any, _: Any) -> Any:
            emit.prefetch(source, builder.add(start, i))
            return []

        emit.loop(builder.sub(stop, start), [], ask, step=64 // width, unrolled=False)
        return context.get_dummy_value()

    return types.void(data, types.intp, types.intp), codegen


@device
def gather_rows(data: Array, index: Indices, n: int, d: int, x: Array, stride: int) -> None:
    """Transpose n rows, a multiple of the lanes, numbered by ``index``: ``x[stride*j + i]``."""
    lanes = lanes_of(x.itemsize)
    for i in range(0, n, lanes):
        for j in range(0, d, lanes):
            gather_panel(data, index, i, d, j, x, j * stride + i, stride)
