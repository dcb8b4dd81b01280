"""M-step tiles: weighted moments of rows, in blocks of features.

A register holds one feature of `LANES` rows, or of twice as many in float32, so nothing is padded
whatever the number of features.
Features are taken in blocks of `BLOCK`: each block with itself (`_diagonal`), which centres and
weights it on the way, and with every block before it (`_cross`).  All sums of such a pair of blocks
stay in registers while the rows of a tile pass by; at the end their lanes are added up by a
transposing network and they go to a *cell* of memory.  Up to `MOST_SINGLE` features one sweep does.

The rows lie as ``x[feature][row]``.  Cells of a component: (0,0), (1,0), (1,1), (2,0), ...; in an
off-diagonal one the products row by row, in a diagonal one the count (first block alone), then for
each feature its first moment and its products with the block's features up to itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .arrays import Array
from .emitter import INT32, LANES, Emitter
from .options import device, shared
from .simd import vector_intrinsic

BLOCK = 4 if LANES == 8 else 3  # 16 sums of 32 registers, or 9 of 16
MOST_SINGLE = BLOCK + 1
# Room for whole registers of either type.
CELL = -(-BLOCK * BLOCK // (2 * LANES)) * 2 * LANES


@shared
def cells_size(d: int) -> int:
    """Return the numbers in the cells of one component."""
    if d <= MOST_SINGLE:
        return (d * (d + 3) // 2 + 2 * LANES) // (2 * LANES) * 2 * LANES
    blocks = (d + BLOCK - 1) // BLOCK
    return blocks * (blocks + 1) // 2 * CELL


def _folded(emit: Emitter, registers: Sequence[Any]) -> list[Any]:
    """Return registers whose lanes are the lane sums of the given ones, one after the other."""
    zero, lanes = emit.constant(0.0), emit.lanes
    folded = []
    for first in range(0, len(registers), lanes):
        group = list(registers[first : first + lanes])
        group += [zero] * (lanes - len(group))
        step = lanes // 2
        while step:
            low = [j if not j & step else lanes + (j ^ step) for j in range(lanes)]
            high = [j | step if not j & step else lanes + j for j in range(lanes)]
            pairs = zip(group[:step], group[step:], strict=True)
            group = [emit.add(emit.shuffle(a, b, low), emit.shuffle(a, b, high)) for a, b in pairs]
            step //= 2
        folded += group
    return folded


def emit_add_folded(emit: Emitter, registers: Sequence[Any], cells: Any, place: Any) -> list[Any]:
    """Add the lane sums of registers to ``cells[place:]``; return them in registers."""
    wide = emit.widened()
    folded = [wide.converted(register) for register in _folded(emit, registers)]
    for i, value in enumerate(folded):
        here = emit.offset(place, i * emit.lanes)
        wide.store(cells, here, wide.add(wide.load(cells, here), value))
    return folded


def _diagonal_twin(size: int, begin: bool, keep: bool) -> Callable[..., float]:
    def diagonal(
        x: Array,
        xo: int,
        n: int,
        mean: Array,
        mo: int,
        h: Array,
        ho: int,
        scale: Array,
        v: Array,
        vo: int,
        cells: Array,
        co: int,
    ) -> float:
        weight = h[ho : ho + n] * scale[:n] if begin else h[ho : ho + n].copy()
        z = x[xo : xo + size * n].reshape(size, n) - mean[mo : mo + size, None]
        if keep:
            h[ho : ho + n] = weight
        weight = weight.astype(x.dtype)
        weighted = z * weight
        sums = [np.sum(weight) if begin else 0.0]
        for i in range(size):
            sums.append(np.sum(weighted[i]))
            sums += [np.sum(weighted[i] * z[j]) for j in range(i + 1)]
        cells[co : co + len(sums)] += sums
        if keep:
            v[vo : vo + size * n] = weighted.ravel()
        return float(sums[0])

    return diagonal


def _diagonal(size: int, begin: bool, keep: bool) -> Callable[..., float]:
    """Make the tile of a block of ``size`` features with itself.

    The block that begins multiplies ``h`` by ``scale`` and returns the mass, the sum of h.  If
    other blocks follow (``keep``), that ``h`` and ``v = h (x - mean)`` are stored for them.
    """

    @vector_intrinsic(_diagonal_twin(size, begin, keep))
    def diagonal(
        typingctx: Any,
        x: Any,
        xo: Any,
        n: Any,
        mean: Any,
        mo: Any,
        h: Any,
        ho: Any,
        scale: Any,
        v: Any,
        vo: Any,
        cells: Any,
        co: Any,
    ) -> Any:
        k = types.intp
        sig = types.float64(x, k, k, mean, k, h, k, scale, v, k, cells, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[0].dtype)
            wide = emit.widened()
            x, mean, h, scale, v, cells = (
                emit.array(sig.args[i], args[i]) for i in (0, 3, 5, 7, 8, 10)
            )
            _, xo, n, _, mo, _, ho, _, _, vo, _, co = args
            centre = [emit.load_splat(mean, emit.offset(mo, i)) for i in range(size)]

            def body(b: Any, sums: Any) -> Any:
                place, old = builder.add(ho, b), iter(sums)
                weight = wide.load(h, place)
                if begin:
                    weight = wide.mul(weight, wide.load(scale, b))
                    if keep:
                        wide.store(h, place, weight)
                weight = emit.converted(weight)
                new = [emit.add(weight, next(old))] if begin else []
                centred = []
                for i in range(size):
                    line = builder.add(builder.mul(n, emit.index(i)), b)
                    z = emit.sub(emit.load(x, builder.add(xo, line)), centre[i])
                    centred.append(z)
                    weighted = emit.mul(z, weight)
                    if keep:
                        emit.store(v, builder.add(vo, line), weighted)
                    new.append(emit.add(weighted, next(old)))
                    new += [emit.fma(weighted, other, next(old)) for other in centred]
                return new

            zero = emit.constant(0.0)
            zeros = [zero] * (begin + size * (size + 3) // 2)
            sums = emit.loop(n, zeros, body, step=emit.lanes)
            folded = emit_add_folded(emit, sums if begin else [zero, *sums], cells, co)
            return builder.extract_element(folded[0], ir.Constant(INT32, 0))

        return sig, codegen

    return diagonal


def _cross_twin(size: int) -> Callable[..., None]:
    def cross(
        x: Array,
        n: int,
        left: int,
        mean: Array,
        mo: int,
        v: Array,
        right: int,
        cells: Array,
        co: int,
    ) -> None:
        a = x[left : left + size * n].reshape(size, n) - mean[mo : mo + size, None]
        b = v[right : right + BLOCK * n].reshape(BLOCK, n)
        cells[co : co + size * BLOCK] += (a @ b.T).ravel()

    return cross


def _cross(size: int) -> Callable[..., None]:
    """Make the tile of ``size`` features with a whole block of earlier ones, weighted in ``v``."""

    @vector_intrinsic(_cross_twin(size))
    def cross(
        typingctx: Any,
        x: Any,
        n: Any,
        left: Any,
        mean: Any,
        mo: Any,
        v: Any,
        right: Any,
        cells: Any,
        co: Any,
    ) -> Any:
        k = types.intp
        sig = types.void(x, k, k, mean, k, v, k, cells, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder, sig.args[0].dtype)
            x, mean, v, cells = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5, 7))
            _, n, left, _, mo, _, right, _, co = args
            centre = [emit.load_splat(mean, emit.offset(mo, i)) for i in range(size)]

            def lines(source: Any, start: Any, count: int, b: Any) -> list[Any]:
                rows = (builder.add(start, builder.mul(n, emit.index(i))) for i in range(count))
                return [emit.load(source, builder.add(row, b)) for row in rows]

            def body(b: Any, sums: Any) -> Any:
                old, others = iter(sums), lines(v, right, BLOCK, b)
                mine = map(emit.sub, lines(x, left, size, b), centre)
                return [emit.fma(z, y, next(old)) for z in mine for y in others]

            zeros = [emit.constant(0.0)] * (size * BLOCK)
            sums = emit.loop(n, zeros, body, step=emit.lanes)
            emit_add_folded(emit, sums, cells, co)
            return context.get_dummy_value()

        return sig, codegen

    return cross


_single_1 = _diagonal(1, begin=True, keep=False)
_single_2 = _diagonal(2, begin=True, keep=False)
_single_3 = _diagonal(3, begin=True, keep=False)
_single_4 = _diagonal(4, begin=True, keep=False)
_single_5 = _diagonal(5, begin=True, keep=False)
_first_block = _diagonal(BLOCK, begin=True, keep=True)
_block_1 = _diagonal(1, begin=False, keep=True)
_block_2 = _diagonal(2, begin=False, keep=True)
_block_3 = _diagonal(3, begin=False, keep=True)
_block_4 = _diagonal(4, begin=False, keep=True)
_cross_1, _cross_2, _cross_3, _cross_4 = _cross(1), _cross(2), _cross(3), _cross(4)


@device
def add_moments(
    active: Array,
    x: Array,
    n: int,
    means: Array,
    h: Array,
    scale: Array,
    v: Array,
    cells: Array,
    d: int,
) -> None:
    """Add the moments of n rows, weighted by ``h scale``, to the active components' cells."""
    size = cells_size(d)
    for p in range(active.shape[0]):
        k = active[p]
        m, o, c = k * d, p * n, k * size
        if d > MOST_SINGLE:
            add_blocks(x, n, means, m, h, o, scale, v, cells, c, d)
        elif d == 1:
            _single_1(x, 0, n, means, m, h, o, scale, v, 0, cells, c)
        elif d == 2:
            _single_2(x, 0, n, means, m, h, o, scale, v, 0, cells, c)
        elif d == 3:
            _single_3(x, 0, n, means, m, h, o, scale, v, 0, cells, c)
        elif d == 4:
            _single_4(x, 0, n, means, m, h, o, scale, v, 0, cells, c)
        elif d == 5:
            _single_5(x, 0, n, means, m, h, o, scale, v, 0, cells, c)


@device
def add_blocks(
    x: Array,
    n: int,
    means: Array,
    m: int,
    h: Array,
    o: int,
    scale: Array,
    v: Array,
    cells: Array,
    c: int,
    d: int,
) -> None:
    """Add the moments of one component, for more than `MOST_SINGLE` features."""
    mass = _first_block(x, 0, n, means, m, h, o, scale, v, 0, cells, c)
    if mass == 0.0:  # all the rest would be exact zeros
        return
    for i in range(BLOCK, d, BLOCK):
        size, left = min(BLOCK, d - i), i * n
        c += i // BLOCK * CELL
        diagonal = c + i // BLOCK * CELL
        if size == 4:
            _block_4(x, left, n, means, m + i, h, o, scale, v, left, cells, diagonal)
            for j in range(i // BLOCK):
                _cross_4(x, n, left, means, m + i, v, j * BLOCK * n, cells, c + j * CELL)
        elif size == 3:
            _block_3(x, left, n, means, m + i, h, o, scale, v, left, cells, diagonal)
            for j in range(i // BLOCK):
                _cross_3(x, n, left, means, m + i, v, j * BLOCK * n, cells, c + j * CELL)
        elif size == 2:
            _block_2(x, left, n, means, m + i, h, o, scale, v, left, cells, diagonal)
            for j in range(i // BLOCK):
                _cross_2(x, n, left, means, m + i, v, j * BLOCK * n, cells, c + j * CELL)
        else:
            _block_1(x, left, n, means, m + i, h, o, scale, v, left, cells, diagonal)
            for j in range(i // BLOCK):
                _cross_1(x, n, left, means, m + i, v, j * BLOCK * n, cells, c + j * CELL)


@device
def unpack_moments(cells: Array, c: int, first: Array, second: Array, d: int) -> float:
    """Add a component's first moments and packed lower triangle to arrays; return its mass."""
    block = d if d <= MOST_SINGLE else BLOCK
    out = 0
    for i in range(d):
        row, line = i // block, i % block
        base = c + row * (row + 1) // 2 * CELL
        for j in range(row * block):
            second[out] += cells[base + j // block * CELL + line * block + j % block]
            out += 1
        base += row * CELL + 1 + line * (line + 3) // 2
        first[i] += cells[base]
        for j in range(line + 1):
            second[out] += cells[base + 1 + j]
            out += 1
    return cells[c]  # type: ignore[no-any-return]
