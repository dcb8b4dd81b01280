"""Device functions: compiled into their callers, and nowhere else."""

import re

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastgmm._kernels.inlining import InliningCompiler
from fastgmm._kernels.options import INLINED, JIT_DISABLED, device, strict_device
from fastgmm._kernels.views import viewed

jit_only = pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")


@device
def cube(x):
    return x * x * x


@strict_device
def sum_of_cubes(values):
    total = 0.0
    for x in values:
        total += cube(x)
    return total


@numba.njit
def mean_of_cubes(values):
    return sum_of_cubes(values) / values.shape[0]


@jit_only
def test_what_is_inlined_gets_no_machine_code_of_its_own():
    values = np.arange(7.0)
    assert_allclose(mean_of_cubes(values), (values**3).mean(), rtol=1e-15)
    assert INLINED["pipeline_class"] is InliningCompiler
    (caller,) = mean_of_cubes.overloads.values()
    known = caller.library._codegen._engine.is_symbol_defined
    assert known(caller.fndesc.llvm_func_name)
    for function in (cube, sum_of_cubes):
        (inlined,) = function.overloads.values()
        assert not known(inlined.fndesc.llvm_func_name)
    (code,) = mean_of_cubes.inspect_llvm().values()
    named = re.findall(r"(?:define|call)[^\n]*?@(_ZN(?!08NumbaEnv)[^(]*cube[^(]*)\(", code)
    assert set(named) >= {caller.fndesc.llvm_func_name}
    assert all("mean_of_cubes" in name for name in named)


@numba.njit
def double_and_view(array, dtype):
    view = viewed(array[1:], dtype)
    view *= 2
    return view


@pytest.mark.nojit
@pytest.mark.parametrize("old", [np.float64, np.float32])
@pytest.mark.parametrize("new", [np.float64, np.float32, np.int64, np.int32])
def test_a_view_is_of_the_same_memory(old, new):
    array = np.arange(1.0, 10.0).astype(old)  # 8 numbers are viewed
    expected = array.copy()
    expected[1:].view(new)[:] *= 2
    view = double_and_view(array, np.dtype(new))
    assert view.dtype == new
    assert_array_equal(view, expected[1:].view(new))
    assert_array_equal(array.view(np.uint8), expected.view(np.uint8))


@numba.njit
def whole_numbers(array):
    return viewed(array, np.float64)


@jit_only
def test_a_view_has_the_numbers_that_fit_and_may_not_be_written_to_if_the_array_may_not():
    array = np.arange(5, dtype=np.float32)
    array.flags.writeable = False
    view = whole_numbers(array)
    assert_array_equal(view, array[:4].view(np.float64))
    assert not view.flags.writeable
