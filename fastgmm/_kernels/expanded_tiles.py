"""Register tiles of the expanded kind: products of coefficients with features, and moments.

Both are plain matrix products: each pair of a row and a component costs one multiply-add for each
feature.  Rows come in panels of `PANEL`, feature by feature: ``x[panel][feature][row]``.  So all
that a tile of registers reads lies at fixed distances from one place, and takes no registers for
addresses.

Arrays are flat.  A register holds `LANES` rows.  The first feature is 1: what it contributes to a
density is where the sum begins, its moment is the mass.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .arrays import Array, Labels
from .emitter import LANES, Emitter
from .moments import emit_add_folded
from .options import device, shared
from .simd import fma, load, splat, store, vector_intrinsic

# Rows whose log-densities are summed in registers at a time, with those of `_ABREAST` components.
# Twelve sums keep the multipliers busy, and leave room where there are 16 registers.
PANEL = 24
_REGISTERS = PANEL // LANES
_ABREAST = 12 // _REGISTERS
# Features whose moments with two components are summed in registers at a time.
_MOST = 6


def _log_density_twin(components: int) -> Callable[..., None]:
    def log_density(
        x: Array, xo: int, count: int, coefficients: Array, columns: int, active: Array, p: int,
        h: Array, ho: int, n: int,
    ) -> None:  # fmt: skip
        features = x[xo : xo + count * PANEL].reshape(count, PANEL).copy()
        features[0] = 1.0
        for c in range(components):
            start = active[p + c] * columns
            value = coefficients[start : start + count] @ features
            finite = np.abs(value) < np.inf
            h[ho + c * n : ho + c * n + PANEL] = np.where(finite, value, -np.inf)

    return log_density


def _log_density(components: int) -> Callable[..., None]:
    """Make the E-step of a panel and some components: ``h = sum_j a_j x_j``; -inf if not finite.

    xo : where the panel begins; count : how many of the coefficients (K, columns) there are for
    this sum; p : the first of the components in ``active``; ho, n : where its log-densities go,
    and how far those of the next one are from there.
    """

    @vector_intrinsic(_log_density_twin(components))
    def log_density(
        typingctx: Any, x: Any, xo: Any, count: Any, coefficients: Any, columns: Any, active: Any,
        p: Any, h: Any, ho: Any, n: Any,
    ) -> Any:  # fmt: skip
        k = types.intp
        sig = types.void(x, k, k, coefficients, k, active, k, h, k, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            x, slopes, active, h = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5, 7))
            _, xo, count, _, columns, _, p, _, ho, n = args
            starts = []
            for c in range(components):
                number = builder.load(builder.gep(active, [emit.offset(p, c)]))
                starts.append(builder.mul(number, columns))

            def feature(j: Any, sums: list[Any]) -> list[Any]:
                line = builder.add(xo, builder.mul(j, emit.index(PANEL)))
                each = [emit.load_splat(slopes, builder.add(start, j)) for start in starts]
                new, old = [], iter(sums)
                for v in range(_REGISTERS):
                    row = emit.load(x, emit.offset(line, v * LANES))
                    new += [emit.fma(slope, row, next(old)) for slope in each]
                return new

            constants = [emit.load_splat(slopes, start) for start in starts]
            values = iter(emit.loop(count, constants * _REGISTERS, feature, first=1))
            infinite, never = emit.constant(np.inf), emit.constant(-np.inf)
            for v in range(_REGISTERS):
                for c in range(components):
                    value = next(values)
                    finite = builder.fcmp_ordered("<", emit.call("fabs", value), infinite)
                    place = builder.add(ho, builder.mul(n, emit.index(c)))
                    value = builder.select(finite, value, never)
                    emit.store(h, emit.offset(place, v * LANES), value)
            return context.get_dummy_value()

        return sig, codegen

    return log_density


_log_densities = _log_density(_ABREAST)
_log_density_2, _log_density_1 = _log_density(2), _log_density(1)


@device
def log_densities(
    x: Array, b: int, count: int, coefficients: Array, active: Array, h: Array
) -> None:
    """Write the log-densities of b rows of ``count`` features in the active components to h."""
    for i in range(0, b, PANEL):
        p, xo = 0, i * count
        while p + _ABREAST <= active.shape[0]:
            _log_densities(x, xo, count, coefficients, count, active, p, h, p * b + i, b)
            p += _ABREAST
        while _ABREAST > 2 and p + 2 <= active.shape[0]:
            _log_density_2(x, xo, count, coefficients, count, active, p, h, p * b + i, b)
            p += 2
        if p < active.shape[0]:
            _log_density_1(x, xo, count, coefficients, count, active, p, h, p * b + i, b)


@device
def whitened_squares(
    x: Array, b: int, columns: int, whitening: Array, numbers: Labels, z: Array
) -> None:
    """Write the square length of each whitened row of panels x to their last feature.

    What is not finite comes out as -inf: its square is infinite all the same.

    whitening : (d, 1 + d), a lower triangular factor behind a column of zeros; numbers : 0, 1, ...,
    d - 1; z : WORK (d PANEL,).
    """
    d, count = whitening.shape
    entries = whitening.reshape(d * count)
    for i in range(0, b, PANEL):
        xo, p = i * columns, 0
        while p + _ABREAST <= d:
            o, needed = p * PANEL, 1 + p + _ABREAST
            _log_densities(x, xo, needed, entries, count, numbers, p, z, o, PANEL)
            p += _ABREAST
        while p < d:
            _log_density_1(x, xo, 2 + p, entries, count, numbers, p, z, p * PANEL, PANEL)
            p += 1
        place = xo + (columns - 1) * PANEL
        for r in range(0, PANEL, LANES):
            total = splat(0.0)
            for j in range(d):
                y = load(z, j * PANEL + r)
                total = fma(y, y, total)
            store(x, place + r, total)


def _products_twin(d: int) -> Callable[..., float]:
    def products(x: Array, n: int, origin: Array, out: Array) -> float:
        rows, columns = np.tril_indices(d)
        z = x[: d * n].reshape(d, n) - origin[:, None]
        count = 1 + d + len(rows)
        panels = out[: n * count].reshape(n // PANEL, count, PANEL)
        panels[:, 1 : 1 + d] = z.reshape(d, -1, PANEL).swapaxes(0, 1)
        panels[:, 1 + d :] = (z[rows] * z[columns]).reshape(len(rows), -1, PANEL).swapaxes(0, 1)
        return float((z * z).max())

    return products


def _products(d: int) -> Callable[..., float]:
    """Make the panels of n rows of d features, less an origin, with the products of all pairs.

    The largest of these is returned.
    """
    count = 1 + d + d * (d + 1) // 2

    @vector_intrinsic(_products_twin(d))
    def products(typingctx: Any, x: Any, n: Any, origin: Any, out: Any) -> Any:
        sig = types.float64(x, types.intp, origin, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            x, origin, out = (emit.array(sig.args[i], args[i]) for i in (0, 2, 3))
            n = args[1]

            def panel(i: Any, largest: list[Any]) -> list[Any]:
                start = builder.mul(i, emit.index(count))

                def register(r: Any, largest: list[Any]) -> list[Any]:
                    top = largest[0]
                    place = emit.offset(builder.add(start, r), PANEL)
                    z: list[Any] = []
                    for j in range(d):
                        row = builder.add(builder.mul(n, emit.index(j)), builder.add(i, r))
                        centre = emit.load_splat(origin, emit.index(j))
                        z.append(emit.sub(emit.load(x, row), centre))
                        emit.store(out, emit.offset(place, j * PANEL), z[j])
                    done = d
                    for j in range(d):
                        for c in range(j + 1):
                            product = emit.mul(z[j], z[c])
                            emit.store(out, emit.offset(place, done * PANEL), product)
                            done += 1
                        top = emit.larger(top, product)
                    return [top]

                return emit.loop(emit.index(PANEL), largest, register, step=LANES)

            (top,) = emit.loop(n, [emit.constant(0.0)], panel, step=PANEL)
            return emit.folded(top, emit.larger)

        return sig, codegen

    return products


_products_1, _products_2, _products_3, _products_4 = map(_products, (1, 2, 3, 4))
_products_5, _products_6, _products_7, _products_8 = map(_products, (5, 6, 7, 8))


@device
def write_products(x: Array, b: int, d: int, origin: Array, out: Array) -> float:
    """Write the panels of a tile x (d b,) with the products of all pairs; return the largest."""
    if d == 1:
        return _products_1(x, b, origin, out)
    if d == 2:
        return _products_2(x, b, origin, out)
    if d == 3:
        return _products_3(x, b, origin, out)
    if d == 4:
        return _products_4(x, b, origin, out)
    if d == 5:
        return _products_5(x, b, origin, out)
    if d == 6:
        return _products_6(x, b, origin, out)
    if d == 7:
        return _products_7(x, b, origin, out)
    return _products_8(x, b, origin, out)


def _moments_twin(components: int, size: int) -> Callable[..., None]:
    def moments(
        x: Array, xo: int, stride: int, n: int, h: Array, ho: int, cells: Array, one: int,
        other: int,
    ) -> None:  # fmt: skip
        for c, place in zip(range(components), (one, other), strict=False):
            for i in range(0, n, PANEL):
                start = xo + i // PANEL * stride
                features = x[start : start + size * PANEL].reshape(size, PANEL)
                weights = h[ho + c * n + i : ho + c * n + i + PANEL]
                cells[place : place + size] += features @ weights

    return moments


def _moments(components: int, size: int) -> Callable[..., None]:
    """Make the moments of ``size`` features of n rows in one or two components, weighted by h.

    xo, stride : where they begin in the first panel, and how far it is to the next panel; one,
    other : where the moments go.
    """

    @vector_intrinsic(_moments_twin(components, size))
    def moments(
        typingctx: Any, x: Any, xo: Any, stride: Any, n: Any, h: Any, ho: Any, cells: Any,
        one: Any, other: Any,
    ) -> Any:  # fmt: skip
        k = types.intp
        sig = types.void(x, k, k, k, h, k, cells, k, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            x, h, cells = (emit.array(sig.args[i], args[i]) for i in (0, 4, 6))
            _, xo, stride, n, _, ho, _, *places = args

            def panel(i: Any, sums: list[Any]) -> list[Any]:
                start = builder.add(xo, builder.mul(builder.udiv(i, emit.index(PANEL)), stride))
                for v in range(_REGISTERS):
                    row, old = emit.offset(builder.add(ho, i), v * LANES), iter(sums)
                    weights = [emit.load(h, row)]
                    if components == 2:
                        weights.append(emit.load(h, builder.add(row, n)))
                    sums = []
                    for f in range(size):
                        feature = emit.load(x, emit.offset(start, f * PANEL + v * LANES))
                        sums += [emit.fma(feature, weight, next(old)) for weight in weights]
                return sums

            zeros = [emit.constant(0.0)] * (size * components)
            sums = emit.loop(n, zeros, panel, step=PANEL)
            for c in range(components):
                emit_add_folded(emit, sums[c::components], cells, places[c])
            return context.get_dummy_value()

        return sig, codegen

    return moments


_one_3, _one_6, _two_3, _two_6 = _moments(1, 3), _moments(1, 6), _moments(2, 3), _moments(2, 6)


@shared
def summed(count: int) -> int:
    """Return for how many features `add_moments` writes moments, of which ``count`` are asked."""
    return (count + 2) // 3 * 3


@device
def add_moments(
    x: Array, b: int, columns: int, count: int, active: Array, h: Array, cells: Array, size: int
) -> None:
    """Add the moments of the first ``count`` features of panels to the active components' cells.

    size : how far the cells of one component are from those of the next.  A few features of all
    rows stay in a near cache while all components pass by.  What fills up the last of them is
    whatever comes after the panel: few sizes of tiles are soon compiled.
    """
    stride = columns * PANEL
    for first in range(0, count, _MOST):
        xo, p, whole = first * PANEL, 0, count - first > 3
        while p + 1 < active.shape[0]:
            o, one, other = p * b, active[p] * size + first, active[p + 1] * size + first
            if whole:
                _two_6(x, xo, stride, b, h, o, cells, one, other)
            else:
                _two_3(x, xo, stride, b, h, o, cells, one, other)
            p += 2
        if p < active.shape[0]:
            o, one = p * b, active[p] * size + first
            if whole:
                _one_6(x, xo, stride, b, h, o, cells, one, one)
            else:
                _one_3(x, xo, stride, b, h, o, cells, one, one)
