"""What users of Dask give as rows and weights, as Dask arrays with the same chunks of rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._base import check_any_weight, check_weights_of_rows, read_dtype
from ._dask_engine import current_client
from ._readers import check_weight_name


def is_dask(X: Any) -> bool:
    """Tell whether X is a Dask collection, without importing Dask."""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr")


class DaskRows:
    """A Dask array or data frame as chunks of whole rows.

    Parameters
    ----------
    X : dask.array.Array or dask.dataframe.DataFrame
        The rows. The lengths of chunks need not be known.
    sample_weight : dask collection or array-like of shape (n,), or str, or None
        The weights, or the name of a column.
    """

    def __init__(self, X: Any, sample_weight: Any = None) -> None:
        column = sample_weight if isinstance(sample_weight, str) else None
        if not isinstance(getattr(X, "ndim", None), int):  # a Delayed has every attribute
            raise TypeError(
                f"X is a {type(X).__name__} of Dask, which holds no rows and columns. Give a Dask "
                "array or data frame; see dask.array.from_delayed and Bag.to_dataframe."
            )
        if X.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D array instead: one row for each sample, one "
                "column for each feature."
            )
        self.head: Any
        if hasattr(X, "columns"):
            check_weight_name(column, [str(name) for name in X.columns])
            if column is not None:
                sample_weight = X[column]
                X = X[[name for name in X.columns if name != column]]
            self.head = X._meta_nonempty
            self._rows = None
            dtype = np.asarray(self.head).dtype
        else:
            if column is not None:
                raise ValueError(
                    f"sample_weight={column!r} names a column, but X, a Dask array, has no named "
                    "columns. Give the weights as a 1-D Dask array with the row chunks of X."
                )
            if not isinstance(X._meta, np.ndarray):
                raise TypeError(
                    f"The chunks of X are of type {type(X._meta).__name__}, and must be NumPy "
                    "arrays: X.map_blocks(numpy.asarray) makes such of many others."
                )
            dtype = X.dtype
            self.head = np.zeros((2, X.shape[1]), dtype)
        self.n_features = int(X.shape[1])
        self.dtype = read_dtype(dtype)
        self._collection, self._sample_weight = X, sample_weight

    def settle(self) -> None:
        """Make ``rows`` and ``weights`` of what was given; the head has been validated."""
        X = self._collection
        if hasattr(X, "columns"):
            X = X.astype(self.dtype).to_dask_array()
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        self.rows: Any = X
        self.weights: Any = self._weights()

    def lengths(self) -> list[int | None]:
        """Return the chunks' numbers of rows, None where they are not known."""
        return [None if np.isnan(length) else int(length) for length in self.rows.chunks[0]]

    def starts(self) -> list[int | None]:
        """Return the numbers of the chunks' first rows, None where they are not known."""
        starts: list[int | None] = [0]
        for length in self.lengths():
            known = None if starts[-1] is None or length is None else starts[-1] + length
            starts.append(known)
        return starts[:-1]

    def _weights(self) -> Any:
        """Return the weights as a Dask array with the row chunks of X, or None."""
        given = self._sample_weight
        if given is None:
            return None
        if not is_dask(given):
            return self._cut(np.asarray(given, dtype=np.float64))
        if hasattr(given, "to_dask_array"):
            given = given.astype(np.float64).to_dask_array()
        if given.ndim != 1:
            raise ValueError(f"sample_weight has {given.ndim} dimensions, and must have 1.")
        lengths, own = self.rows.chunks[0], given.chunks[0]
        if not np.isnan([*lengths, *own]).any():
            if sum(own) != sum(lengths):
                raise ValueError(_mismatch((sum(own),), sum(lengths)))
            return given.rechunk((lengths,))
        if len(own) != len(lengths):
            raise ValueError(
                f"sample_weight has {len(own)} chunks, and X has {len(lengths)} whose lengths are "
                "not known: give weights with the row chunks of X."
            )
        return given

    def _cut(self, weights: NDArray[np.float64]) -> Any:
        """Return weights in memory in the chunks of X, whose lengths are found if need be."""
        import dask.array as da

        if np.isnan(self.rows.chunks[0]).any():
            # a copy either way: what is found changes the array, and this one is the user's
            self.rows = self.rows.persist() if current_client() else self.rows.copy()
            self.rows.compute_chunk_sizes()
        n_rows = self.rows.shape[0]
        if weights.shape != (n_rows,):
            raise ValueError(_mismatch(weights.shape, n_rows))
        check_weights_of_rows(weights)
        check_any_weight(bool(weights.any()))
        return da.from_array(weights, chunks=(self.rows.chunks[0],))


def _mismatch(shape: tuple[int, ...], n_rows: int) -> str:
    return f"sample_weight.shape == {shape}, but X has {n_rows} rows: one weight for each row of X."
