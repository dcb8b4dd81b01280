"""Register tiles of the expanded kind: products of coefficients with features, and moments.

Both are plain matrix products.  What is loaded of the rows serves several components, and each
pair of a row and a component costs one multiply-add for each feature.

Features lie as ``x[feature][row]``; arrays are flat.  A register holds `LANES` rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .arrays import Array
from .emitter import LANES, Emitter
from .moments import emit_add_folded
from .options import device
from .simd import vector_intrinsic

# Components times registers of rows whose sums are kept: there are 32 registers with AVX-512.
_SUMS = 16 if LANES == 8 else 8
# Features whose moments with two components are kept in registers.
_MOST = 5


def _log_density_twin(components: int) -> Callable[..., None]:
    def log_density(
        x: Array,
        n: int,
        count: int,
        coefficients: Array,
        starts: tuple[int, ...],
        h: Array,
        ho: int,
    ) -> None:
        features = x[: count * n].reshape(count, n)
        for c in range(components):
            constant, *slopes = coefficients[starts[c] : starts[c] + count + 1]
            value = constant + np.asarray(slopes) @ features
            h[ho + c * n : ho + (c + 1) * n] = np.where(value > -np.inf, value, -np.inf)

    return log_density


def _log_density(components: int) -> Callable[..., None]:
    """Make the E-step of some components: ``h = a_0 + sum_j a_j x_j``, NaN as -inf."""
    registers = min(4, _SUMS // components)

    @vector_intrinsic(_log_density_twin(components))
    def log_density(
        typingctx: Any,
        x: Any,
        n: Any,
        count: Any,
        coefficients: Any,
        starts: Any,
        h: Any,
        ho: Any,
    ) -> Any:
        k = types.intp
        sig = types.void(x, k, k, coefficients, types.UniTuple(k, components), h, k)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            x, coefficients, h = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5))
            _, n, count, _, starts, _, ho = args
            each = [builder.extract_value(starts, c) for c in range(components)]
            never = emit.constant(-np.inf)

            def body(b: Any, _: Any) -> Any:
                def feature(j: Any, sums: list[Any]) -> list[Any]:
                    line = builder.add(builder.mul(n, j), b)
                    rows = [
                        emit.load(x, emit.offset(line, v * emit.lanes)) for v in range(registers)
                    ]
                    new, old = [], iter(sums)
                    for start in each:
                        slope = emit.load_splat(coefficients, emit.offset(builder.add(start, j), 1))
                        new += [emit.fma(slope, row, next(old)) for row in rows]
                    return new

                constants = [emit.load_splat(coefficients, start) for start in each]
                begin = [constant for constant in constants for _ in range(registers)]
                values = iter(emit.loop(count, begin, feature))
                for c in range(components):
                    place = builder.add(builder.add(ho, builder.mul(n, emit.index(c))), b)
                    for v in range(registers):
                        value = next(values)
                        # a maximum that lets no NaN through
                        number = builder.fcmp_ordered(">", value, never)
                        value = builder.select(number, value, never)
                        emit.store(h, emit.offset(place, v * emit.lanes), value)
                return []

            emit.loop(n, [], body, step=registers * emit.lanes)
            return context.get_dummy_value()

        return sig, codegen

    return log_density


log_density_1, log_density_2, log_density_4 = _log_density(1), _log_density(2), _log_density(4)


def _moments_twin(components: int, size: int) -> Callable[..., None]:
    def moments(
        x: Array, xo: int, n: int, h: Array, ho: int, cells: Array, places: tuple[int, ...]
    ) -> None:
        features = x[xo : xo + size * n].reshape(size, n)
        for c in range(components):
            weights = h[ho + c * n : ho + (c + 1) * n]
            cells[places[c] : places[c] + size] += features @ weights

    return moments


def _moments(components: int, size: int) -> Callable[..., None]:
    """Make the tile of ``size`` features with the weights h of one or two components."""

    @vector_intrinsic(_moments_twin(components, size))
    def moments(
        typingctx: Any, x: Any, xo: Any, n: Any, h: Any, ho: Any, cells: Any, places: Any
    ) -> Any:
        k = types.intp
        sig = types.void(x, k, k, h, k, cells, types.UniTuple(k, components))

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit = Emitter(context, builder)
            x, h, cells = (emit.array(sig.args[i], args[i]) for i in (0, 3, 5))
            _, xo, n, _, ho, _, places = args

            def lines(source: Any, start: Any, count: int, b: Any) -> list[Any]:
                rows = (builder.add(start, builder.mul(n, emit.index(i))) for i in range(count))
                return [emit.load(source, builder.add(row, b)) for row in rows]

            def body(b: Any, sums: list[Any]) -> Any:
                old, weights = iter(sums), lines(h, ho, components, b)
                features = lines(x, xo, size, b)
                return [emit.fma(z, weight, next(old)) for weight in weights for z in features]

            zeros = [emit.constant(0.0)] * (size * components)
            sums = emit.loop(n, zeros, body, step=emit.lanes)
            for c in range(components):
                here = builder.extract_value(places, c)
                emit_add_folded(emit, sums[c * size : (c + 1) * size], cells, here)
            return context.get_dummy_value()

        return sig, codegen

    return moments


_one_1, _one_2, _one_3 = _moments(1, 1), _moments(1, 2), _moments(1, 3)
_one_4, _one_5 = _moments(1, 4), _moments(1, 5)
_two_1, _two_2, _two_3 = _moments(2, 1), _moments(2, 2), _moments(2, 3)
_two_4, _two_5 = _moments(2, 4), _moments(2, 5)


@device
def add_moments_of_one(
    x: Array, n: int, count: int, h: Array, ho: int, cells: Array, place: int
) -> None:
    """Add the moments of ``count`` features, weighted by h, to a component's cells."""
    left = count
    while left > 0:
        steps = (left + _MOST - 1) // _MOST
        size, j = (left + steps - 1) // steps, count - left
        places = (place + j,)
        if size == 1:
            _one_1(x, j * n, n, h, ho, cells, places)
        elif size == 2:
            _one_2(x, j * n, n, h, ho, cells, places)
        elif size == 3:
            _one_3(x, j * n, n, h, ho, cells, places)
        elif size == 4:
            _one_4(x, j * n, n, h, ho, cells, places)
        else:
            _one_5(x, j * n, n, h, ho, cells, places)
        left -= size


@device
def add_moments_of_two(
    x: Array, n: int, count: int, h: Array, ho: int, cells: Array, place: int, other: int
) -> None:
    """Do so for two components whose weights lie one after the other."""
    left = count
    while left > 0:
        steps = (left + _MOST - 1) // _MOST
        size, j = (left + steps - 1) // steps, count - left
        places = (place + j, other + j)
        if size == 1:
            _two_1(x, j * n, n, h, ho, cells, places)
        elif size == 2:
            _two_2(x, j * n, n, h, ho, cells, places)
        elif size == 3:
            _two_3(x, j * n, n, h, ho, cells, places)
        elif size == 4:
            _two_4(x, j * n, n, h, ho, cells, places)
        else:
            _two_5(x, j * n, n, h, ho, cells, places)
        left -= size
