"""The exponential and the logarithm of the kernels, against the long doubles of the C library."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastgmm._kernels.exp import exp_nonpositive, log_positive

pytestmark = pytest.mark.nojit

EXTENDED = np.finfo(np.longdouble).nmant > 60


@numba.njit
def exp_all(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = exp_nonpositive(x[i])
    return out


@numba.njit
def log_all(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = log_positive(x[i])
    return out


def units_in_last_place(got, truth):
    """Errors of float64 numbers in units of the last place of the truth."""
    return np.abs((got - truth) / np.spacing(np.abs(truth).astype(np.float64)))


def exponents():
    rng = np.random.RandomState(0)
    steps = np.arange(1, 1022) * np.log(2.0)
    return np.concatenate(
        [
            -(10.0 ** rng.uniform(-17, np.log10(708.0), 2000)),
            -rng.uniform(0, 708, 2000),
            # where the reduced argument is near 0, and where it changes sides
            -steps,
            -np.nextafter(steps, 0),
            -(steps - 0.5 * np.log(2.0)),
        ]
    )


def positives():
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
            2.0 ** np.arange(-1022.0, 1024.0),
            np.nextafter(2.0 ** np.arange(-1021.0, 1024.0), 0),
            [np.finfo(np.float64).tiny, np.finfo(np.float64).max],
        ]
    )


@pytest.mark.skipif(not EXTENDED, reason="long double is no longer than double here")
def test_exp_to_two_units_in_the_last_place():
    x = exponents()
    assert units_in_last_place(exp_all(x), np.exp(x.astype(np.longdouble))).max() <= 2


@pytest.mark.skipif(not EXTENDED, reason="long double is no longer than double here")
def test_log_to_two_units_in_the_last_place():
    x = positives()
    x = x[x != 1.0]
    assert units_in_last_place(log_all(x), np.log(x.astype(np.longdouble))).max() <= 2


def test_exp_at_the_edges():
    edges = np.array([0.0, -0.0, -5e-324, -1e-300, -np.finfo(np.float64).eps / 8])
    assert_array_equal(exp_all(edges), 1.0)


def test_exp_is_exactly_zero_where_it_does_not_matter():
    far = np.array([-708.0, np.nextafter(-708.0, -np.inf), -745.2, -1e4, -1e308, -np.inf])
    assert_array_equal(exp_all(far), 0.0)
    last = np.nextafter(-708.0, 0.0)
    assert exp_all(np.array([last]))[0] == pytest.approx(np.exp(last), rel=1e-15)


def test_exp_of_nan_is_zero():
    # -inf - (-inf), a component without weight in a row out of reach, must not spread
    assert_array_equal(exp_all(np.array([np.nan, -np.nan])), 0.0)


def test_exp_stays_within_zero_and_one_and_rises():
    x = np.sort(exponents())
    values = exp_all(x)
    assert (values >= 0.0).all()
    assert (values <= 1.0).all()
    rise = np.diff(values)
    assert (rise >= -2 * np.spacing(values[1:])).all()


def test_log_of_one_is_exactly_zero():
    assert_array_equal(log_all(np.array([1.0])), 0.0)


def test_log_of_powers_of_two():
    powers = np.arange(-1022.0, 1024.0)
    np.testing.assert_allclose(log_all(2.0**powers), powers * np.log(2.0), rtol=4e-16, atol=0)
