"""Rows in the order of their likely components: what the passes that skip pairs begin with."""

import numpy as np

from .arrays import Indices, Labels
from .options import device


@device
def sort_rows(labels: Labels, starts: Indices, order: Indices) -> None:
    """Write the numbers of the rows by label to order, and where each label starts.

    labels : IN (n,), below L; starts : OUT (L + 1,); order : OUT (n,).
    """
    n_labels = starts.shape[0] - 1
    starts[:] = 0
    for i in range(labels.shape[0]):
        starts[np.intp(labels[i]) + 1] += 1
    for k in range(n_labels):
        starts[k + 1] += starts[k]
    for i in range(labels.shape[0]):
        label = np.intp(labels[i])
        order[starts[label]] = i
        starts[label] += 1
    for k in range(n_labels, 0, -1):
        starts[k] = starts[k - 1]
    starts[0] = 0
