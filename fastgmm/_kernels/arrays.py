"""The arrays that kernels work on, all C-contiguous."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]  # (n, d), float32 or float64, read-only
Array = NDArray[np.float64]
Labels = NDArray[Any]  # (n,) int32 in k-means, int64 in results
Indices = NDArray[np.int32]  # numbers of rows
