"""Scores for live data: a row or a few at a time, without what the checks of an estimator cost."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._passes import NO_WEIGHTS, Block, MapPass

Array = NDArray[np.float64]


class _Workspace(threading.local):
    """A worker with scratch of its own, made anew for each thread that asks."""

    def __init__(self, task: MapPass) -> None:
        self.run: Callable[[Block, NDArray[Any]], None] = task.worker()


class Scorer:
    """The decision function of a fitted detector, for live data.

    Made by `GaussianMixtureOutlierDetector.scorer`. Several threads may call one scorer: each
    gets scratch of its own. It keeps the parameters it was made with, whatever becomes of the
    detector, and is not pickled: pickle the detector.
    """

    def __init__(self, task: MapPass, offset: float) -> None:
        self._n_features = int(task.params.means.shape[1])
        self._workspace = _Workspace(task)
        self._offset = offset

    def __call__(self, rows: ArrayLike) -> float | Array:
        """Return how far scores lie above the threshold; negative: outlier.

        Parameters
        ----------
        rows : array-like of shape (n_features,) or (n_samples, n_features)
            One row, or a micro-batch; fastest as float64. It is not divided into blocks.

        Returns
        -------
        decision : float or ndarray of shape (n_samples,), float64
            A float for one row.

        Raises
        ------
        ValueError
            If the shape is wrong, or a number is NaN or infinite.
        """
        # A copy of a few numbers costs no more than asking whether they are contiguous, aligned
        # and of the right type, which compiled code insists on.
        try:
            block = np.array(rows, dtype=np.float64, order="C")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected a row of {self._n_features} numbers, or a batch of such rows: {error}"
            ) from None
        if block.ndim not in (1, 2) or block.shape[-1] != self._n_features:
            raise ValueError(
                f"Expected a row of {self._n_features} features, or a batch of such rows, but got "
                f"an array of shape {block.shape}."
            )
        flat = block.reshape(-1)
        if not math.isfinite(flat.dot(flat)):  # so are NaN, infinity, and squares that overflow
            self._check_finite(flat)
        batch = block.reshape(-1, self._n_features)
        out = np.empty(len(batch))
        if len(batch) > 0:
            batch.flags.writeable = False
            self._workspace.run(Block(batch, NO_WEIGHTS, 0, 0), out)
        if block.ndim == 1:
            return out.item() - self._offset
        out -= self._offset
        return out

    def _check_finite(self, flat: Array) -> None:
        unfit = np.flatnonzero(~np.isfinite(flat))
        if unfit.size > 0:
            row, column = divmod(int(unfit[0]), self._n_features)
            what = "NaN" if np.isnan(flat[unfit[0]]) else "infinity"
            raise ValueError(
                f"Input contains {what}: the first is in row {row}, column {column} (counted from "
                "0). Such rows have no score: drop them, or impute their values."
            )
