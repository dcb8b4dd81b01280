"""The chi-square law as far out as anyone may look."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

Array = NDArray[np.float64]
Number = TypeVar("Number", float, Array)

# Below this probability the fraction takes over: SciPy's own underflows at 1e-308, and so far out
# TERMS of the fraction are exact to rounding for any number of degrees of freedom.
_FAR = 1e-100
_TERMS = 6
_LARGEST = 1e300  # whose logarithm stands in for that of infinity


def log_survival(squares: Array, degrees: int) -> Array:
    """Return the log of the probability that a chi-square variable exceeds each value.

    squares : (n,), from 0 to inf; NaN stays NaN.

    Notes
    -----
    Far out, Legendre's continued fraction of the incomplete gamma function is evaluated from its
    end: NIST Digital Library of Mathematical Functions, eq. 8.9.2.
    """
    a, x = 0.5 * degrees, 0.5 * np.maximum(squares, 0.0)
    probability = gammaincc(a, x)
    far = probability < _FAR
    if not np.count_nonzero(far):
        logs: Array = np.log(probability)
        return logs
    if x.size == 1:  # plain floats are many times faster than arrays of one number
        value = x.item()
        return np.full(x.shape, _log_far_out(a, value, min(value, _LARGEST), math.log))
    logs = np.log(np.where(far, 1.0, probability))
    logs[far] = _log_far_out(a, x[far], np.minimum(x[far], _LARGEST), np.log)
    return logs


def _log_far_out(a: float, x: Number, bounded: Number, log: Callable[[Any], Any]) -> Number:
    """Compute the logarithm; where x is infinite, only -x may be, and ``bounded`` is finite."""
    fraction = bounded + (2 * _TERMS + 1 - a)
    for n in range(_TERMS, 0, -1):
        fraction = bounded + (2 * n - 1 - a) - n * (n - a) / fraction
    found: Number = a * log(bounded) - log(fraction) - math.lgamma(a) - x
    return found
