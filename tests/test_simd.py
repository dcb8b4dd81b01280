"""SIMD registers and the tiles written with them, against NumPy, at all alignments and page ends.

Their loads and stores are raw instructions, which no bounds check sees.  So every kernel here works
on arrays of exactly the size it may touch, which lie between zones of a sentinel, and then next to
pages that may not be touched at all.
"""

import ctypes
import mmap
import sys

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from fastgmm._kernels import powers, simd
from fastgmm._kernels.loading import FEW, lanes_of, load_few, load_panel
from fastgmm._kernels.moments import add_moments, cells_size, unpack_moments
from fastgmm._kernels.options import FASTMATH
from fastgmm._kernels.simd import LANES, load, store
from fastgmm._kernels.tile import find_best
from fastgmm._kernels.tiles import ROWS, first_square, front_square, next_square
from fastgmm._kernels.tiny import MOST, tiny_log_densities

pytestmark = pytest.mark.nojit

SENTINEL = 12345.678
ZONE = 64
OFFSETS = (0, 5)
kernel = numba.njit(fastmath=set(FASTMATH), error_model="numpy")


# --- where arrays lie ----------------------------------------------------------------------------


def between_zones(array, shift):
    """Copy an array between sentinels, ``shift`` elements off the alignment of a cache line."""
    around = np.full(array.size + 2 * ZONE + 16, SENTINEL, array.dtype)
    width = array.itemsize
    start = ZONE + (-(around.ctypes.data // width) - ZONE) % (64 // width) + shift
    view = around[start : start + array.size].reshape(array.shape)
    view[...] = array
    zones = around[:start], around[start + array.size :]
    return view, zones


def beside_page(array, at_end):
    """Copy an array to memory that ends, or begins, at a page which may not be touched."""
    page, size = mmap.PAGESIZE, array.nbytes
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    offset = page + room - size if at_end else page
    view = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    view[...] = array
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (base, base + page + room):
        assert protect(guard, page, 0) == 0
    return view, ()


PLACES = [(between_zones, shift) for shift in (0, 1, 3)]
if sys.platform == "linux":
    PLACES += [(beside_page, at_end) for at_end in (False, True)]


class Changed:
    """An argument that the kernel writes to."""

    def __init__(self, array):
        self.array = array


def run(function, *arguments):
    """Call a kernel with its arrays at every kind of place; return those it has changed.

    Results must be the same bits everywhere.
    """
    expected = None
    for place, where in PLACES:
        given, changed, zones = [], [], []
        for argument in arguments:
            if isinstance(argument, Changed):
                view, around = place(argument.array, where)
                changed.append(view)
            elif isinstance(argument, np.ndarray):
                view, around = place(argument, where)
                view.flags.writeable = False
            else:
                view, around = argument, ()
            given.append(view)
            zones += around
        with np.errstate(all="ignore"):  # where nothing is compiled NumPy would warn
            function(*given)
        for zone in zones:
            assert_array_equal(zone, zone.dtype.type(SENTINEL))
        results = [view.copy() for view in changed]
        expected = expected or results
        for got, wanted in zip(results, expected, strict=True):
            assert_array_equal(got, wanted)
    return expected


def empty(*shape, dtype=np.float64):
    """Return an array to be written; NaN shows what was not."""
    return Changed(np.full(shape, np.nan, dtype))


def shifted(array, offset):
    """Return an array flat, after ``offset`` elements that do not belong to it."""
    return np.concatenate([np.full(offset, np.nan, array.dtype), array.ravel()])


# --- registers -----------------------------------------------------------------------------------


@kernel
def operations(a, b, out):
    n = a.size
    for i in range(0, n, LANES):
        x, y = load(a, i), load(b, i)
        store(out, i, x + y)
        store(out, n + i, x - y)
        store(out, 2 * n + i, x * y)
        store(out, 3 * n + i, simd.fma(x, y, 2.0))
        store(out, 4 * n + i, simd.divide(x, y))
        store(out, 5 * n + i, simd.root(y))
        store(out, 6 * n + i, simd.where_less(x, y, x, 7.0))
        store(out, 7 * n + i, 1 - x)
        store(out, 8 * n + i, simd.splat(a[i]))


@kernel
def operations_on_numbers(a, b, out):
    n = a.size
    for i in range(n):
        out[i] = simd.fma(a[i], b[i], 2.0)
        out[n + i] = simd.divide(a[i], b[i])
        out[2 * n + i] = simd.root(b[i])
        out[3 * n + i] = simd.where_less(a[i], b[i], a[i], 7.0)


def operands():
    """Pairs of numbers whose sums and products are exact, and pairs of special ones."""
    rng = np.random.RandomState(0)
    special = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e300])
    a, b = np.meshgrid(special, special)
    plain = rng.randint(-1000, 1000, (2, 8 * LANES)) / 8.0
    a, b = np.concatenate([a.ravel(), plain[0]]), np.concatenate([b.ravel(), plain[1]])
    return a, b


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_operations_are_those_of_ieee(dtype):
    a, b = (np.where(np.abs(x) == 1e300, 1e30, x).astype(dtype) for x in operands())
    [out] = run(operations, a, b, empty(9 * a.size))
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = [
            x + y, x - y, x * y, x * y + 2.0, x / y, np.sqrt(y), np.where(x < y, x, 7.0), 1.0 - x,
            np.repeat(x[::LANES], LANES),
        ]  # fmt: skip
    assert_array_equal(out.reshape(9, -1), expected)


def test_operations_on_numbers():
    a, b = operands()
    [out] = run(operations_on_numbers, a, b, empty(4 * a.size))
    with np.errstate(all="ignore"):
        expected = [a * b + 2.0, a / b, np.sqrt(b), np.where(a < b, a, 7.0)]
    assert_array_equal(out.reshape(4, -1), expected)


@kernel
def fused(a, b, c, out):
    store(out, 0, simd.fma(load(a, 0), load(b, 0), load(c, 0)))
    out[LANES] = simd.fma(a[0], b[0], c[0])


def test_fma_rounds_once_or_twice():
    step = 2.0**-30
    a, b, c = (np.full(LANES, x) for x in (1.0 + step, 1.0 - step, -1.0))
    [out] = run(fused, a, b, c, empty(LANES + 1))
    assert np.isin(out, [-(step**2), 0.0]).all()


@kernel
def exponents(x, shifted, out):
    n = x.size
    for i in range(0, n, LANES):
        store(out, i, powers.mantissa(load(x, i)))
        store(out, n + i, powers.exponent(load(x, i)))
        m = powers.mantissa(load(x, i))
        store(out, 2 * n + i, powers.times_low_bits_power(m, load(shifted, i)))
    for i in range(n):
        out[3 * n + i] = powers.mantissa(x[i])
        out[4 * n + i] = powers.exponent(x[i])
        out[5 * n + i] = powers.times_low_bits_power(powers.mantissa(x[i]), shifted[i])


def test_mantissa_exponent_and_powers_of_two():
    rng = np.random.RandomState(0)
    finfo = np.finfo(np.float64)
    e = np.concatenate([rng.randint(-1022, 1024, 8 * LANES - 4), [-1022, 1023, 0, 1]])
    x = np.ldexp(rng.uniform(1.0, 2.0, e.size), e)
    x[:3] = finfo.tiny, finfo.max, 1.0
    [out] = run(exponents, x, e + 1.5 * 2.0**52, empty(6 * x.size))
    half, above = np.frexp(x)
    assert_array_equal(out.reshape(2, 3, -1)[0], [2.0 * half, above - 1, np.ldexp(2.0 * half, e)])
    assert_array_equal(*out.reshape(2, -1))


@kernel
def float32_operations(a, b, tile, out):
    n = a.size
    for i in range(0, n, 2 * LANES):
        pair = simd.load_like(a, i, tile)
        x, y = simd.narrowed(pair), simd.narrowed(simd.load_like(b, i, tile))
        store(out, i, x + y)
        store(out, n + i, simd.widened(x - y))
        store(out, 2 * n + i, x * y)
        store(out, 3 * n + i, simd.fma(x, y, 2.0))
        store(out, 4 * n + i, simd.where_less(x, y, x, 7.0))
        shifted = simd.where_less(x, x, x, 12582912.0) + 5.0
        store(out, 5 * n + i, powers.times_low_bits_power(simd.where_less(x, x, x, 3.0), shifted))
        store(out, 6 * n + i, pair - simd.splat_like(1.0, tile))
        store(tile, 0, x)
        store(out, 7 * n + i, simd.load_own(tile, 0) + simd.splat_own(0.1, tile))


def test_registers_of_float32_and_pairs_of_float64():
    rng = np.random.RandomState(0)
    a, b = rng.randint(-1000, 1000, (2, 4 * LANES)) / 8.0
    tile = empty(2 * LANES, dtype=np.float32)
    *_, out = run(float32_operations, a, b, tile, empty(8 * a.size))
    expected = [a + b, a - b, a * b, a * b + 2.0, np.where(a < b, a, 7.0), 0 * a + 96.0, a - 1.0]
    expected.append(a.astype(np.float32) + np.float32(0.1))
    assert_array_equal(out.reshape(8, -1), expected)


@kernel
def lane_sums(a, out):
    for i in range(out.size):
        out[i] = simd.lane_sum(load(a, i * LANES))


def test_lane_sum():
    whole = np.random.RandomState(0).randint(-1000, 1000, (5, LANES)).astype(np.float64)
    assert_array_equal(run(lane_sums, whole.ravel(), empty(5))[0], whole.sum(axis=1))
    # floating point sums depend on their order: halves are folded onto each other
    opposite = np.ones(LANES)
    opposite[[0, LANES // 2]] = 1e300, -1e300
    assert_array_equal(run(lane_sums, opposite, empty(1))[0], LANES - 2.0)


# --- loading of rows -----------------------------------------------------------------------------


@kernel
def panels(data, row, last, d, x, stride):
    lanes = lanes_of(x.itemsize)
    for i in range(0, stride, lanes):
        for j in range(0, d, lanes):
            load_panel(data, row + i, last, d, j, x, j * stride + i, stride)


# of the rows, and of the tile
loads = pytest.mark.parametrize(
    ("dtype", "tile"),
    [(np.float64, np.float64), (np.float32, np.float64), (np.float32, np.float32)],
)


@loads
@pytest.mark.parametrize("n", [1, LANES - 1, 2 * LANES, 2 * LANES + 3])
@pytest.mark.parametrize("d", [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 5])
def test_load_panel_transposes_and_repeats_the_last_row(d, n, dtype, tile):
    X = np.random.RandomState(d + n).standard_normal((n, d)).astype(dtype)
    lanes = lanes_of(np.dtype(tile).itemsize)
    width, features = 2 * LANES, -(-d // lanes) * lanes
    for row in {0, n // 2}:
        [x] = run(panels, X.ravel(), row, n - 1, d, empty(features * width, dtype=tile), width)
        rows = np.minimum(row + np.arange(width), n - 1)
        assert_array_equal(x.reshape(features, width)[:d], X[rows].T)


@kernel
def few(data, row, d, x, n):
    load_few(data, row, d, x, n)


@loads
@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("d", range(1, FEW + 1))
def test_load_few_transposes(d, row, dtype, tile):
    n = 4 * LANES
    X = np.random.RandomState(d).standard_normal((row + n, d)).astype(dtype)
    [x] = run(few, X.ravel(), row, d, empty(d * n, dtype=tile), n)
    assert_array_equal(x.reshape(d, n), X[row:].T)


# --- E-step --------------------------------------------------------------------------------------


RTOL = {np.float64: 1e-13, np.float32: 5e-6}
each_type = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def rows_of(dtype):
    """The rows of a tile of this type."""
    return ROWS * 8 // np.dtype(dtype).itemsize


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def panel(n, height, seed, dtype):
    """The last rows (height, n + height) of a lower triangular factor, and as they are packed."""
    T = np.tril(normal(np.random.RandomState(seed), dtype, height, n + height), n)
    return T, T.T.ravel()


def shifts(size, dtype):
    """Return what is added to products in float32; in float64 there is no such thing."""
    drawn = normal(np.random.RandomState(size), dtype, size)
    return drawn if dtype == np.float32 else 0.0 * drawn


@kernel
def first(factor, fo, n, x, xo, stride, mean, mo, z, zo, shift, so, q, qo):
    first_square(factor, fo, n, x, xo, stride, mean, mo, z, zo, shift, so, q, qo)


@each_type
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("further", [0, 3])
@pytest.mark.parametrize("n", [0, 1, 3, LANES, 2 * LANES + 1])
def test_first_square(n, further, offset, dtype):
    rng, rows = np.random.RandomState(n), rows_of(dtype)
    T, packed = panel(n, LANES, n, dtype)
    x, mean = normal(rng, dtype, n + LANES, rows + further), normal(rng, dtype, n + LANES)
    needed, shift = x.ravel()[: (n + LANES - 1) * (rows + further) + rows], shifts(LANES, dtype)
    z, q = run(
        first,
        shifted(packed, offset), offset, n,
        shifted(needed, offset), offset, rows + further,
        shifted(mean, offset), offset,
        empty(offset + n * rows, dtype=dtype), offset,
        shifted(shift, offset), offset,
        empty(offset + rows), offset,
    )  # fmt: skip
    centred = x[:, :rows] - mean[:, None]
    assert_array_equal(z, shifted(centred[:n], offset))
    square = ((T @ centred.astype(np.float64) + shift[:, None]) ** 2).sum(axis=0)
    assert_allclose(q, shifted(square, offset), rtol=RTOL[dtype], equal_nan=True)


@kernel
def following(factor, fo, n, z, zo, shift, so, q, qo):
    next_square(factor, fo, n, z, zo, shift, so, q, qo)


@kernel
def front(size, factor, fo, z, zo, shift, so, q, qo):
    front_square(size, factor, fo, z, zo, shift, so, q, qo)


def square_and_start(T, offset):
    """Return centred rows, sums to add to, and what they become."""
    rng, rows, dtype = np.random.RandomState(T.size), rows_of(T.dtype), T.dtype.type
    z, q, shift = (
        normal(rng, dtype, T.shape[1], rows),
        rng.uniform(size=rows),
        shifts(len(T), dtype),
    )
    expected = q + ((T.astype(np.float64) @ z + shift[:, None]) ** 2).sum(axis=0)
    begun = Changed(shifted(q, offset))
    return shifted(z, offset), shifted(shift, offset), begun, shifted(expected, offset)


@each_type
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("n", [0, 1, LANES, 2 * LANES + 1])
def test_next_square(n, offset, dtype):
    T, packed = panel(n, LANES, n, dtype)
    z, shift, q, expected = square_and_start(T, offset)
    packed = shifted(packed, offset)
    [q] = run(following, packed, offset, n, z, offset, shift, offset, q, offset)
    assert_allclose(q, expected, rtol=RTOL[dtype], equal_nan=True)


@each_type
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("size", range(1, LANES + 1))
def test_front_square(size, offset, dtype):
    T, packed = panel(0, size, size, dtype)
    z, shift, q, expected = square_and_start(T, offset)
    packed = shifted(packed, offset)
    [q] = run(front, size, packed, offset, z, offset, shift, offset, q, offset)
    assert_allclose(q, expected, rtol=RTOL[dtype], equal_nan=True)


@kernel
def tiny(active, x, n, means, factors, consts, shifts, h, best, d):
    tiny_log_densities(active, x, n, means, factors, consts, shifts, h, d)
    find_best(h, best)


@each_type
@pytest.mark.parametrize("d", range(1, MOST + 1))
def test_tiny_log_densities(d, dtype):
    n, n_components, dead = 4 * LANES, 4, 2
    rng = np.random.RandomState(d)
    X, means = normal(rng, dtype, n, d), rng.standard_normal((n_components, d))
    centres = means.astype(np.float32).astype(np.float64) if dtype == np.float32 else means
    factors = np.tril(rng.standard_normal((n_components, d, d)), -1)
    factors[:, range(d), range(d)] = rng.uniform(0.5, 2.0, (n_components, d))
    weights = rng.dirichlet(np.ones(n_components))
    expected = [
        np.log(w) + multivariate_normal(mean, np.linalg.inv(T.T @ T)).logpdf(X)
        for w, mean, T in zip(weights, means, factors, strict=True)
    ]
    consts = np.log(weights) - 0.5 * d * np.log(2.0 * np.pi)
    consts += np.log(factors[:, range(d), range(d)]).sum(axis=1)
    consts[dead], expected[dead] = -np.inf, np.full(n, -np.inf)
    X[1] = 1e200 if dtype == np.float64 else 1e30  # squares overflow
    moved = ((factors @ (centres - means)[:, :, None])[:, :, 0]).astype(dtype)
    packed = factors[:, *np.tril_indices(d)].astype(dtype)
    for logs in expected:
        logs[1] = -np.inf
    tolerance = 1e-11 if dtype == np.float64 else 5e-6
    h, best = run(
        tiny, np.arange(n_components), X.T.ravel(), n, centres.astype(dtype).ravel(),
        packed.ravel(), consts, moved.ravel() if dtype == np.float32 else np.empty(0),
        empty(n_components * n), empty(n), d,
    )  # fmt: skip
    assert_allclose(
        np.log(2.0) * h.reshape(n_components, n), expected, rtol=tolerance, atol=tolerance
    )
    assert_array_equal(best, h.reshape(n_components, n).max(axis=0))


# --- M-step --------------------------------------------------------------------------------------


@kernel
def moments(active, x, n, means, h, scale, v, cells, counts, first, second):
    n_components, d = first.shape
    for i in range(cells.size):
        cells[i] = 0.0
    for i in range(0, scale.size, n):
        tile, weights = x[i * d : (i + n) * d], h[i * n_components : (i + n) * n_components]
        add_moments(active, tile, n, means, weights, scale[i : i + n], v, cells, d)
    for k in range(n_components):
        counts[k] = unpack_moments(cells, k * cells_size(d), first[k], second[k], d)


@each_type
@pytest.mark.parametrize("n", [2 * LANES, 6 * LANES])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 17])
def test_moments(d, n, dtype):
    n_components, tiles = 3, 2
    rng = np.random.RandomState(d)
    x, means = normal(rng, dtype, tiles, d, n), normal(rng, dtype, n_components, d)
    h, scale = rng.uniform(size=(tiles, n_components, n)), rng.uniform(size=(tiles, 1, n))
    h[:, 1] = 0.0  # a component without mass
    first, second = rng.uniform(size=(n_components, d)), rng.uniform(size=(n_components, d, d))
    lower = np.tril_indices(d)
    *_, counts, got_first, got_second = run(
        moments, np.arange(n_components), x.ravel(), n, means.ravel(), Changed(h.ravel()),
        scale.ravel(), empty(d * n, dtype=dtype), empty(n_components * cells_size(d)),
        empty(n_components), Changed(first), Changed(second[:, *lower]),
    )  # fmt: skip
    weights = h * scale
    z = (x[:, None] - means[:, :, None]).astype(np.float64)
    first += np.einsum("tkr,tkjr->kj", weights, z)
    second += np.einsum("tkr,tkir,tkjr->kij", weights, z, z)
    rtol, atol = (1e-12, 1e-13) if dtype == np.float64 else (1e-6, 1e-6 * n)
    assert_allclose(counts, weights.sum(axis=(0, 2)), rtol=rtol)
    assert_allclose(got_first, first, rtol=rtol, atol=atol)
    assert_allclose(got_second, second[:, *lower], rtol=rtol, atol=atol)
