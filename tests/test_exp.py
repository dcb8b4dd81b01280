"""The power of two and the logarithm of the kernels, against the long doubles of the C library."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastgmm._kernels.exp import _exp2_by_polynomial, exp2_or_0, exp2_reduced, log_positive
from fastgmm._kernels.simd import LANES, load, load_like, store

pytestmark = pytest.mark.nojit

EXTENDED = np.finfo(np.longdouble).nmant > 60
needs_extended = pytest.mark.skipif(
    not EXTENDED, reason="long double is no longer than double here"
)


@numba.njit
def exp_numbers(x, out):
    for i in range(x.size):
        out[i] = exp2_reduced(x[i])


@numba.njit
def exp_registers(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, exp2_reduced(load(x, i)))


@numba.njit
def polynomial_registers(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, _exp2_by_polynomial(load(x, i)))


@numba.njit
def log_numbers(x, out):
    for i in range(x.size):
        out[i] = log_positive(x[i])


@numba.njit
def log_registers(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, log_positive(load(x, i)))


def mapped(function):
    """Make an array function of one of the above; registers are filled up with ones."""

    def whole(x):
        padded = np.ones(-(-x.size // LANES) * LANES)
        padded[: x.size] = x
        out = np.full_like(padded, np.nan)
        function(padded, out)
        return out[: x.size]

    return whole


exps = pytest.mark.parametrize(
    "exp",
    [mapped(exp_numbers), mapped(exp_registers), mapped(polynomial_registers)],
    ids=["numbers", "registers", "without table"],
)
logs = pytest.mark.parametrize(
    "log", [mapped(log_numbers), mapped(log_registers)], ids=["numbers", "registers"]
)


def units_in_last_place(got, truth):
    """Errors of float64 numbers in units of the last place of the truth."""
    return np.abs((got - truth) / np.spacing(np.abs(truth).astype(np.float64)))


def exponents():
    """Numbers in [-1022, 1023]."""
    rng = np.random.RandomState(0)
    steps = np.arange(1.0, 1022.0)
    tiny = 10.0 ** rng.uniform(-17, np.log10(1021.0), 2000)
    return np.concatenate(
        [
            tiny,
            -tiny,
            rng.uniform(-1022, 1023, 4000),
            # where the reduced argument is near 0, and where it changes sides
            steps,
            -steps,
            -np.nextafter(steps, 0),
            -(steps - 0.5),
            np.nextafter(-(steps - 0.5), 0),
            [-1022.0, np.nextafter(-1022.0, 0.0), 1023.0, 0.0, -0.0],
        ]
    )


def positives():
    """Normal, finite numbers above 0."""
    rng = np.random.RandomState(1)
    near_one = 1.0 + np.concatenate([10.0 ** rng.uniform(-16, -1, 500)] * 2) * (
        [1] * 500 + [-1] * 500
    )
    root = np.sqrt(0.5)
    edges = np.array([root, np.nextafter(root, 0), np.nextafter(root, 1), 2 * root])
    return np.concatenate(
        [
            np.exp(rng.uniform(-708, 709, 2000)),
            rng.uniform(0.5, 16.0, 2000),
            near_one,
            edges,
            np.nextafter(edges, 2.0),
            2.0 ** np.arange(-1022.0, 1024.0),
            np.nextafter(2.0 ** np.arange(-1021.0, 1024.0), 0),
            [np.finfo(np.float64).tiny, np.finfo(np.float64).max],
        ]
    )


@needs_extended
@exps
def test_exp_to_two_units_in_the_last_place(exp):
    x = exponents()
    assert units_in_last_place(exp(x), np.exp2(x.astype(np.longdouble))).max() <= 2


@needs_extended
@logs
def test_log_to_two_units_in_the_last_place(log):
    x = positives()
    x = x[x != 1.0]
    assert units_in_last_place(log(x), np.log(x.astype(np.longdouble))).max() <= 2


@exps
def test_exp_at_the_edges(exp):
    edges = np.array([0.0, -0.0, -5e-324, 5e-324, -1e-300, -np.finfo(np.float64).eps / 8])
    assert_array_equal(exp(edges), 1.0)


@exps
def test_exp_stays_within_zero_and_one_and_rises(exp):
    x = np.unique(exponents())
    values = exp(x)
    assert (values > 0.0).all()
    assert (values[x <= 0.0] <= 1.0).all()
    rise = np.diff(values)
    assert (rise >= -2 * np.spacing(values[1:])).all()


@logs
def test_log_of_one_is_exactly_zero(log):
    assert_array_equal(log(np.array([1.0])), 0.0)


@logs
def test_log_of_powers_of_two(log):
    powers = np.arange(-1022.0, 1024.0)
    np.testing.assert_allclose(log(2.0**powers), powers * np.log(2.0), rtol=4e-16, atol=0)


@pytest.mark.parametrize(
    ("numbers", "registers", "arguments"),
    [(exp_numbers, exp_registers, exponents), (log_numbers, log_registers, positives)],
    ids=["exp", "log"],
)
def test_numbers_and_registers_give_the_same_bits(numbers, registers, arguments):
    x = arguments()
    assert_array_equal(mapped(numbers)(x), mapped(registers)(x))


@numba.njit
def exp_in_float32(x, tile, out):
    for i in range(0, x.size, 2 * LANES):
        store(out, i, exp2_or_0(load_like(x, i, tile), tile))


def test_exp_for_float32_tiles():
    unit = np.finfo(np.float32).eps
    x = np.append(-np.logspace(-9, np.log10(125.9), 2**14 - 4), [0.0, -126.0, -1e300, -np.inf])
    out = np.full_like(x, np.nan)
    exp_in_float32(x, np.empty(1, np.float32), out)
    exact = np.exp2(x)
    # two units in the last place, and what rounding x changes
    assert (
        np.abs(out - exact)
        <= unit * exact * (1.0 + 0.5 * np.log(2.0) * np.abs(np.maximum(x, -126.0)))
    ).all()
    assert_array_equal(out[-4:], [1.0, 2.0**-126, 0.0, 0.0])


@numba.njit
def exp_in_float64(x, tile, out):
    for i in range(0, x.size, LANES):
        store(out, i, exp2_or_0(load(x, i), tile))


@pytest.mark.parametrize(
    ("compute", "dtype"),
    [(exp_in_float64, np.float64), (exp_in_float32, np.float32)],
)
def test_powers_too_small_to_be_normal_are_next_to_nothing(compute, dtype):
    tiny = float(np.finfo(dtype).tiny)
    least = np.log2(tiny)
    inside = np.nextafter(dtype(least - 1.0), dtype(0.0))
    between = np.append(inside, np.linspace(least - 1.0, least, 64)[1:-1])
    none = [least - 1.0, least - 1.5, 10.0 * least, -1e300, -np.inf, np.nan]
    x = np.concatenate([between, none, np.zeros(-(len(between) + len(none)) % 16)])
    out = np.full_like(x, np.nan)
    compute(x, np.empty(1, dtype), out)
    assert ((out[: len(between)] >= 0.0) & (out[: len(between)] <= tiny)).all()
    assert_array_equal(out[len(between) : len(between) + len(none)], 0.0)
