"""The one kernel that looks for NaN and infinities, strictly."""

from typing import Any

import numpy as np

from .arrays import Rows
from .options import entry

_STRETCH = 1024


@entry
def first_nonfinite(X: Rows, params: Any) -> int:
    """Return the flat index of the first entry of X (n, d) that is not finite, or -1.

    ``params`` is not read; entry points take rows and parameters.
    """
    flat = X.reshape(X.size)
    for start in range(0, flat.shape[0], _STRETCH):
        stop = min(start + _STRETCH, flat.shape[0])
        suspicious = 0
        for i in range(start, stop):
            # x - x is 0 for finite numbers and NaN otherwise
            difference = flat[i] - flat[i]
            suspicious += 1 if difference != 0.0 else 0
        if suspicious > 0:
            for i in range(start, stop):
                if not np.isfinite(flat[i]):
                    return i
    return -1
