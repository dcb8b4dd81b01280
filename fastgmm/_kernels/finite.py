"""The one kernel that looks for NaN, infinities and numbers too large to be squared."""

from typing import Any

from .arrays import Rows
from .options import entry

_STRETCH = 1024


@entry
def first_unfit(X: Rows, params: Any, limit: float) -> int:
    """Return the flat index of the first entry of X (n, d) not below limit in size, or -1.

    NaN counts, and with a limit of infinity so do just NaN and the infinities.

    ``params`` is not read; entry points take rows and parameters.
    """
    flat = X.reshape(X.size)
    for start in range(0, flat.shape[0], _STRETCH):
        stop = min(start + _STRETCH, flat.shape[0])
        suspicious = 0
        for i in range(start, stop):
            suspicious += 0 if abs(flat[i]) < limit else 1  # NaN is below nothing
        if suspicious > 0:
            for i in range(start, stop):
                if not abs(flat[i]) < limit:
                    return i
    return -1
