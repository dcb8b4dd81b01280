"""Lists of the pairs of a tile that count: what is left to do once most log-densities are tiny.

Each component has a list of the rows for which its responsibility matters.  Exponentials, and
whatever comes after them, are worked out for these alone, packed one after the other.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .arrays import Array, Indices
from .emitter import INT32, INT64, Emitter
from .exp import exp2_or_0
from .options import device
from .simd import (
    LANES,
    Register,
    divide,
    load,
    splat_together,
    store,
    together,
    vector_intrinsic,
)
from .tile import NEVER

# Lanes whose places in a register are looked up at a time: the table has 2**4 lines.
_TOGETHER = 4
_PLACES = [[i for i in range(_TOGETHER) if mask >> i & 1] for mask in range(1 << _TOGETHER)]


def _list_rows(h: Array, ho: int, best: Array, n: int, gap: float, rows: Indices, ro: int) -> int:
    chosen = np.flatnonzero(h[ho : ho + n] - best[:n] >= gap)
    rows[ro : ro + len(chosen)] = chosen
    return len(chosen)


@vector_intrinsic(_list_rows)
def list_rows(
    typingctx: Any, h: Any, ho: Any, best: Any, n: Any, gap: Any, rows: Any, ro: Any
) -> Any:
    """List the rows i of n with ``h[i] - best[i] >= gap`` from ``rows[ro]`` on; return how many.

    There is no branch: which rows count cannot be guessed.
    """
    k = types.intp
    sig = k(h, k, best, k, types.float64, rows, k)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = Emitter(context, builder)
        h, best, rows = (emit.array(sig.args[i], args[i]) for i in (0, 2, 5))
        _, ho, _, n, gap, _, ro = args
        gap = emit.splat(gap)
        places = ir.VectorType(INT32, _TOGETHER)
        lines = [ir.Constant(places, (line + [0] * _TOGETHER)[:_TOGETHER]) for line in _PLACES]
        table = cgutils.global_constant(
            builder.module, "places", ir.Constant(ir.ArrayType(places, len(lines)), lines)
        )

        def body(i: Any, carried: list[Any]) -> list[Any]:
            (end,) = carried
            value = emit.sub(emit.load(h, builder.add(ho, i)), emit.load(best, i))
            counting = builder.fcmp_ordered(">=", value, gap)
            bits = builder.zext(builder.bitcast(counting, ir.IntType(emit.lanes)), INT64)
            for first in range(0, emit.lanes, _TOGETHER):
                mask = builder.and_(
                    builder.lshr(bits, emit.index(first)), emit.index(len(lines) - 1)
                )
                line = builder.load(builder.gep(table, [emit.index(0), mask]), align=4)
                begin = builder.trunc(emit.offset(i, first), INT32)
                undefined = ir.Constant(places, ir.Undefined)
                begin = builder.insert_element(undefined, begin, ir.Constant(INT32, 0))
                begin = emit.shuffle(begin, undefined, [0] * _TOGETHER)
                out = builder.bitcast(builder.gep(rows, [end]), places.as_pointer())
                builder.store(builder.add(line, begin), out, align=4)
                end = builder.add(end, emit.call("ctpop", mask))
            return [end]

        (end,) = emit.loop(n, [ro], body, step=emit.lanes)
        return builder.sub(end, ro)

    return sig, codegen


@device
def list_pairs(
    h: Array, best: Array, gaps: Array, active: Array, rows: Indices, counts: Indices
) -> int:
    """List the rows (n, b) of each active component, and how many (n,); return how many in all.

    gaps : (K,), by how much less than the best a log2-density counts.  Where a row has no best
    component the answer is the number of all pairs.
    """
    b, total = best.shape[0], 0
    for i in range(b):
        if not best[i] > NEVER:
            return int(h.shape[0])
    for p in range(active.shape[0]):
        count = list_rows(h, p * b, best, b, gaps[active[p]], rows, p * b)
        counts[p] = count
        total += count
    return int(total)


def _gather_below(
    h: Array, o: int, best: Array, rows: Indices, start: int, register: Register
) -> Register:
    chosen = rows[start : start + register.size]
    return h[o + chosen] - best[chosen]


@vector_intrinsic(_gather_below)
def gather_below(
    typingctx: Any, h: Any, o: Any, best: Any, rows: Any, start: Any, register: Any
) -> Any:
    """Load ``h[o + i] - best[i]`` for as many i, from ``rows[start]`` on, as a register has."""
    k = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = register.emitter(context, builder)
        h, best, rows = (emit.array(sig.args[i], args[i]) for i in (0, 2, 3))
        _, o, _, _, start, _ = args
        above = below = ir.Constant(emit.vector, ir.Undefined)
        for lane in range(emit.lanes):
            place = builder.gep(rows, [emit.offset(start, lane)])
            row, where = builder.zext(builder.load(place), INT64), ir.Constant(INT32, lane)
            value = builder.load(builder.gep(h, [builder.add(o, row)]))
            above = builder.insert_element(above, value, where)
            value = builder.load(builder.gep(best, [row]))
            below = builder.insert_element(below, value, where)
        return emit.sub(above, below)

    return register(h, k, best, rows, k, register), codegen


def _add_lanes(total: Array, rows: Indices, start: int, values: Register, count: int) -> Register:
    kept = values * (np.arange(values.size) < count)
    np.add.at(total, rows[start : start + values.size], kept)
    return kept


@vector_intrinsic(_add_lanes)
def add_lanes(typingctx: Any, total: Any, rows: Any, start: Any, values: Any, count: Any) -> Any:
    """Add ``count`` lanes of a register to ``total[rows[start:]]``; return it, 0 in the others."""
    k = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit = values.emitter(context, builder)
        total, rows = (emit.array(sig.args[i], args[i]) for i in (0, 1))
        _, _, start, register, count = args
        # ones, then zeros: of masks LLVM makes too much
        lanes = emit.index(emit.lanes)
        whole = builder.icmp_signed("<", lanes, count)
        factors = emit.table([1.0, 0.0])
        first = builder.sub(lanes, builder.select(whole, lanes, count))
        register = emit.mul(register, emit.load(factors, first))
        for lane in range(emit.lanes):
            place = builder.gep(rows, [emit.offset(start, lane)])
            row = builder.zext(builder.load(place), INT64)
            place = builder.gep(total, [row])
            value = builder.extract_element(register, ir.Constant(INT32, lane))
            builder.store(builder.fadd(builder.load(place), value), place)
        return register

    return values(total, rows, k, values, k), codegen


@device
def exponentiate_listed(
    h: Array, best: Array, rows: Indices, counts: Indices, weights: Array, scale: Array,
    total: Array, x: Array,
) -> None:  # fmt: skip
    """Do with listed pairs what `exponentiate` does with all; their densities are packed in h.

    Each list is filled up with pairs of density 0 to a multiple of what `together` tells, of which
    the rows of the tile must be one, too.
    """
    b, step, zero = best.shape[0], together(x), splat_together(0.0, x)
    total[:] = 0.0
    for p in range(h.shape[0] // b):
        start, stop = p * b, p * b + counts[p]
        for e in range(stop, start + (stop - start + step - 1) // step * step):
            # what fills up the last register: a row whose density is not yet written over
            rows[e] = rows[stop - 1]
        for e in range(start, stop, step):
            value = exp2_or_0(gather_below(h, start, best, rows, e, zero), x)
            store(h, e, add_lanes(total, rows, e, value, stop - e))
    for i in range(0, b, LANES):
        store(scale, i, divide(load(weights, i), load(total, i)))
