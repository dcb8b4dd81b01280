"""Readers: how rows come out of what other libraries hold, a batch at a time, in order.

A reader never holds more than a batch.  Each call of ``batches()`` begins anew.  The libraries are
not imported here: their objects bring along all that is needed.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._base import read_dtype

Array = NDArray[np.float64]
Batch = tuple[NDArray[Any], NDArray[Any] | None]

# What a reader asks its library for at once.
BATCH_BYTES = 16 << 20
_HEAD_ROWS = 16

ONE_SHOT = (
    "can be read only once, and fit reads the rows several times. Give a function that makes a "
    "new iterator each time it is called: fastgmm.Batches(lambda: make_batches())"
)


class Reader(Protocol):
    """Rows in batches, again and again."""

    n_rows: int | None  # None: nobody knows before they are counted
    n_features: int
    dtype: np.dtype[Any]  # float32 or float64
    weighted: bool  # whether batches come with weights
    what: str  # the rows, at the beginning of a sentence
    advice: str  # what to do if another pass gives other rows

    def head(self) -> Any:
        """Return the first rows, as scikit-learn's validation takes them."""

    def batches(self) -> Generator[Batch, None, None]:
        """Yield ``(rows, weights or None)`` in order; closing the iterator closes files."""


class SliceReader:
    """Rows of anything with ``shape``, ``dtype`` and slicing: HDF5 data sets, Zarr arrays."""

    weighted = False
    what = "The rows"
    advice = "Do not write to the array meanwhile."

    def __init__(self, array: Any) -> None:
        if len(array.shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(array.shape)}D array instead, of shape "
                f"{tuple(array.shape)}: one row for each sample, one column for each feature."
            )
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "fiub":
            raise ValueError(f"X has dtype {dtype}, which does not hold real numbers.")
        self.n_rows: int | None = int(array.shape[0])
        self.n_features = int(array.shape[1])
        self.dtype = read_dtype(dtype)
        self._array = array
        # Whole chunks: a part of one costs as much to read and unpack as all of it.
        chunks = getattr(array, "chunks", None)
        chunk = int(chunks[0]) if chunks else 1
        per_chunk = max(1, chunk * self.n_features * dtype.itemsize)
        self._step = chunk * max(1, BATCH_BYTES // per_chunk)

    def head(self) -> Any:
        return np.asarray(self._array[:_HEAD_ROWS])

    def batches(self) -> Generator[Batch, None, None]:
        assert self.n_rows is not None
        for start in range(0, self.n_rows, self._step):
            yield np.asarray(self._array[start : min(start + self._step, self.n_rows)]), None


class FrameReader:
    """Rows of a pandas or polars data frame, of which a column may be the weights."""

    what = "The data frame"
    advice = "Do not change it meanwhile."

    def __init__(self, frame: Any, weight: str | None, dtype_of: Callable[[Any], Any]) -> None:
        names = list(frame.columns)
        check_weight_name(weight, names)
        self.weighted = weight is not None
        self.n_rows: int | None = len(frame)
        self.n_features = len(names) - (weight is not None)
        self._frame = frame
        self._weight = weight
        self._step = max(1, BATCH_BYTES // (8 * max(1, len(names))))
        self.dtype = read_dtype(np.dtype(dtype_of(self.head())))

    def head(self) -> Any:
        return self._features(self._part(0, _HEAD_ROWS))

    def batches(self) -> Generator[Batch, None, None]:
        assert self.n_rows is not None
        for start in range(0, self.n_rows, self._step):
            part = self._part(start, start + self._step)
            weights = None
            if self._weight is not None:
                weights = np.asarray(part[self._weight], dtype=np.float64)
            try:
                yield np.asarray(self._features(part), dtype=self.dtype), weights
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Rows from {start} on hold something that is not a number: {error}"
                ) from error

    def _part(self, start: int, stop: int) -> Any:
        frame = self._frame
        return frame.iloc[start:stop] if hasattr(frame, "iloc") else frame[start:stop]

    def _features(self, part: Any) -> Any:
        if self._weight is None:
            return part
        names = [self._weight]
        return part.drop(columns=names) if hasattr(part, "iloc") else part.drop(names)


class Batches:
    """Rows that come in batches, made anew for each pass over them.

    ``fit``, ``predict``, ``score_samples`` and ``score`` take it as ``X``. The batches are never
    in memory together, the next one is made in a thread of its own while the last is computed, and
    the result has the same bits as that of one array with the same rows.

    Parameters
    ----------
    factory : callable or iterable
        Called without arguments for each pass, returns an iterator over the batches: the same rows
        in the same order each time. A re-iterable, such as a list, will do as well.
        A batch is an array-like of shape (m, n_features), where m may differ and may be 0, or a
        tuple ``(X, sample_weight)`` of such and of non-negative weights of shape (m,).
        A batch's memory may be used again for the next one.
    n_rows : int or None, default=None
        The number of rows in all, if known: it saves a pass that counts them.

    Raises
    ------
    TypeError
        If ``factory`` is an iterator or a generator, which could be read only once.

    Notes
    -----
    float32 batches stay float32; all other numbers are read as float64. The first batch decides,
    and a float64 batch after it is then an error.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import Batches, GaussianMixture
    >>> def read():
    ...     for day in range(3):  # a file a day, for instance
    ...         rng = np.random.default_rng(day)
    ...         yield rng.normal(size=(1000, 2)) + 10.0 * rng.integers(2, size=(1000, 1))
    >>> model = GaussianMixture(2, random_state=0).fit(Batches(read))
    >>> np.sort(model.means_[:, 0]).round().astype(int)
    array([ 0, 10])
    """

    def __init__(
        self, factory: Callable[[], Iterable[Any]] | Iterable[Any], n_rows: int | None = None
    ) -> None:
        if hasattr(factory, "__next__"):
            raise TypeError(f"A {type(factory).__name__} {ONE_SHOT}.")
        if not (callable(factory) or hasattr(factory, "__iter__")):
            raise TypeError(
                "Batches needs a function that returns an iterator over batches, not a "
                f"{type(factory).__name__}."
            )
        self.factory = factory
        self.n_rows = n_rows

    def __iter__(self) -> Iterator[Any]:
        made = self.factory() if callable(self.factory) else self.factory
        if not hasattr(made, "__iter__"):
            raise TypeError(
                "The function given to Batches must return an iterator over batches, not a "
                f"{type(made).__name__}."
            )
        return iter(made)


class BatchReader:
    """Rows of `Batches`; the first batch with rows tells what all of them are like."""

    what = "The batches"
    advice = (
        "Batches needs a function that makes a new iterator over the same rows each time it is "
        "called, as in fastgmm.Batches(lambda: make_batches())."
    )

    def __init__(self, source: Batches) -> None:
        self._source = source
        self.n_rows = source.n_rows
        heads: list[NDArray[Any]] = []
        iterator = iter(source)
        for number, given in enumerate(iterator):
            rows, weights = _batch(given, number)
            if not len(rows):
                continue
            if not heads:
                self.n_features = rows.shape[1]
                self.dtype = read_dtype(rows.dtype)
                self.weighted = weights is not None
            self._see_alike(number, rows, weights)
            heads.append(np.array(rows[:_HEAD_ROWS], self.dtype))  # its memory may be used again
            if sum(map(len, heads)) >= _HEAD_ROWS:
                break
        _close(iterator)
        if not heads:
            raise ValueError("The batches hold no rows. " + self.advice)
        self._head = np.concatenate(heads)

    def head(self) -> Any:
        return self._head

    def batches(self) -> Generator[Batch, None, None]:
        iterator = iter(self._source)
        try:
            for number, given in enumerate(iterator):
                rows, weights = _batch(given, number)
                if not len(rows):
                    continue
                self._see_alike(number, rows, weights)
                yield rows, weights
        finally:
            _close(iterator)

    def _see_alike(self, number: int, rows: NDArray[Any], weights: Array | None) -> None:
        """Raise ValueError unless a batch is like the first one."""
        which = f"Batch {number} (counted from 0)"
        if rows.shape[1] != self.n_features:
            raise ValueError(
                f"{which} has {rows.shape[1]} columns, and the first one {self.n_features}."
            )
        if self.dtype == np.float32 and read_dtype(rows.dtype) != np.float32:
            raise ValueError(
                f"{which} holds {rows.dtype} numbers, and the first one float32: make them all "
                "of one type."
            )
        if (weights is not None) != self.weighted:
            how = "without" if self.weighted else "with"
            raise ValueError(f"{which} comes {how} weights, unlike the first one.")


def _batch(given: Any, number: int) -> Batch:
    """Return rows and weights, or raise ValueError."""
    weights = None
    if isinstance(given, tuple) and len(given) == 2:
        given, weights = given[0], np.asarray(given[1], dtype=np.float64)
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise ValueError(f"Batch {number} (counted from 0) is an array with masked entries.")
    rows = np.asarray(given)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ValueError(
            f"Batch {number} (counted from 0) is of shape {rows.shape} and dtype {rows.dtype}; "
            "batches must be two-dimensional arrays of real numbers, or (X, sample_weight)."
        )
    if weights is not None and weights.shape != (len(rows),):
        raise ValueError(
            f"Batch {number} (counted from 0) has {len(rows)} rows and weights of shape "
            f"{weights.shape}: one weight for each row is needed."
        )
    return rows, weights


def _close(iterator: Iterator[Any]) -> None:
    close = getattr(iterator, "close", None)  # a generator's open files
    if close is not None:
        close()


def check_weight_name(weight: str | None, names: list[str]) -> None:
    """Raise ValueError unless the column of weights, if any, is there."""
    if weight is not None and weight not in names:
        raise ValueError(
            f"sample_weight={weight!r} names no column of X; there are {some_of(names)}."
        )


def some_of(names: list[str]) -> str:
    """Return names of columns to show in an error."""
    return ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
