"""What a user gives as X, and as its weights, becomes a source of rows.

Arrays and what scikit-learn makes arrays of go through its validation whole. Everything else is
recognised by a table of openers, and scikit-learn validates its first rows: names, number of
features, types.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._sources import (
    ArraySource,
    DaskRows,
    DaskSource,
    RowSource,
    StreamSource,
    _scratch,
    is_dask,
)
from ._sources._arrow import ArrowReader, Parquet
from ._sources._dask_engine import current_client
from ._sources._readers import (
    ONE_SHOT,
    Batches,
    BatchReader,
    FrameReader,
    Reader,
    SliceReader,
)
from ._threads import Workers
from ._validation import check_rows, check_sample_weight, largest_fittable

# What may hold rows, as far as types can tell.
RowsLike = ArrayLike | Batches | Parquet | Path


class Wish(NamedTuple):
    """What is to be read of X."""

    weight: str | None  # the column of weights
    features: list[str] | None  # the columns a model was fitted to, in predict and the like


def open_source(
    estimator: Any,
    X: Any,
    workers: Workers,
    sample_weight: Any = None,
    *,
    reset: bool,
    to_fit: bool | None = None,
) -> RowSource:
    """Return the rows of X, validated; with ``reset`` they say what rows of the estimator are like.

    sample_weight : array-like of shape (n,), the name of a column, or None.
    to_fit : whether they are fitted to, and read several times; None: as ``reset`` says.
    """
    to_fit = reset if to_fit is None else to_fit
    if is_dask(X):
        return _open_dask(estimator, X, workers, sample_weight, reset=reset, to_fit=to_fit)
    weight = sample_weight if isinstance(sample_weight, str) else None
    X = _from_path(X)
    reader = _reader(estimator, X, weight, reset=reset)
    if reader is None:
        if weight is not None:
            raise ValueError(
                f"sample_weight={weight!r} names a column, but X, a {type(X).__name__}, has no "
                "named columns. Give the weights as an array."
            )
        rows = check_rows(estimator, X, reset=reset)
        weights = check_sample_weight(sample_weight, len(rows))
        limit = largest_fittable(rows.dtype, len(rows)) if to_fit else np.inf
        return ArraySource(rows, workers, weights, limit)
    check_rows(estimator, reader.head(), reset=reset)
    given = None
    if weight is None and sample_weight is not None:
        given = check_sample_weight(sample_weight, reader.n_rows)
    stream = StreamSource(reader, workers, given)
    if not to_fit:
        return stream
    source = stream.settled()
    source.limit = largest_fittable(source.dtype, source.n_rows)
    return source


def rows_for_fits(estimator: Any, X: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return rows and weights that several fits can take: arrays if few, otherwise as given."""
    if is_dask(X) and current_client():
        X = X.persist()  # on the workers, once for all
    with Workers(1) as workers:
        source = open_source(estimator, X, workers, sample_weight, reset=True)
    if isinstance(source, ArraySource):
        return source.rows, source.weights
    return X, sample_weight


def weights_of(estimator: Any, X: Any, sample_weight: Any) -> NDArray[np.float64] | None:
    """Return the weights of the rows of X, wherever these are, or None."""
    if sample_weight is None and not isinstance(X, Batches):  # which may bring weights along
        return None
    if is_dask(X):
        given = DaskRows(X, sample_weight)
        given.settle()
        return check_sample_weight(given.weights, None)
    with Workers(1) as workers:
        source = open_source(estimator, X, workers, sample_weight, reset=False)
        if isinstance(source, ArraySource):
            return source.weights
        weights = np.concatenate([block.weights for block in source.blocks()])
    return weights if weights.size else None


def _open_dask(
    estimator: Any, X: Any, workers: Workers, sample_weight: Any, *, reset: bool, to_fit: bool
) -> DaskSource:
    given = DaskRows(X, sample_weight)
    check_rows(estimator, given.head, reset=reset)
    given.settle()
    source = DaskSource(given, workers, persist=to_fit)
    if to_fit:
        if source.n_rows < 2:
            check_rows(estimator, given.head[: source.n_rows], reset=reset)  # its text on too few
        source.limit = largest_fittable(source.dtype, source.n_rows)
    return source


def _is_large(X: Any) -> bool:
    return int(X.shape[0]) * int(X.shape[1]) * 8 > _scratch.IN_MEMORY


def _from_path(X: Any) -> Any:
    """Return what is at a path; anything else as it is."""
    if not isinstance(X, str | Path):
        return X
    path = Path(X)
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r")
    if path.suffix.lower() in (".parquet", ".pq") or path.is_dir():
        return Parquet(path)
    raise ValueError(
        f"X={str(X)!r} is not a path to a .npy file, a .parquet file or a folder of such. Open "
        "other files first: an HDF5 data set, a Zarr array or a data frame can be given as X."
    )


def _reader(estimator: Any, X: Any, weight: str | None, *, reset: bool) -> Reader | None:
    """Return the reader of X, or None for arrays and what becomes one."""
    if hasattr(X, "__next__") or type(X).__name__ == "RecordBatchReader":
        raise TypeError(f"X is a {type(X).__name__}, which {ONE_SHOT}.")
    names = None if reset else getattr(estimator, "feature_names_in_", None)
    wish = Wish(weight, None if names is None else list(names))
    for recognises, read in OPENERS:
        if recognises(X, wish):
            return read(X, wish)
    return None


def _library(X: Any) -> str:
    return type(X).__module__.partition(".")[0]


def _is_arrow(X: Any, wish: Wish) -> bool:
    return _library(X) == "pyarrow" and hasattr(X, "schema") and hasattr(X, "to_batches")


def _read_arrow(X: Any, wish: Wish) -> Reader:
    return ArrowReader(X, None, wish.weight)


def _is_record_batch(X: Any, wish: Wish) -> bool:
    return _library(X) == "pyarrow" and type(X).__name__ == "RecordBatch"


def _read_record_batch(X: Any, wish: Wish) -> Reader:
    return ArrowReader(sys.modules["pyarrow"].Table.from_batches([X]), None, wish.weight)


def _read_parquet(X: Parquet, wish: Wish) -> Reader:
    # A file may hold more than features: a model takes the columns it knows.
    return ArrowReader(X.dataset, X.columns or wish.features, wish.weight, files=True)


def _is_frame(X: Any, wish: Wish) -> bool:
    """Tell whether X is a data frame that becoming an array would copy whole."""
    if _library(X) not in ("pandas", "polars") or len(getattr(X, "shape", ())) != 2:
        return False
    return wish.weight is not None or (_is_large(X) and not _is_view(X))


def _is_view(X: Any) -> bool:
    """Tell whether a pandas frame shares its memory with the array it becomes."""
    if not hasattr(X, "iloc"):
        return False
    head = X.iloc[:1]
    return bool(np.shares_memory(head.to_numpy(), head.to_numpy()))


def _read_frame(X: Any, wish: Wish) -> Reader:
    return FrameReader(X, wish.weight, _frame_dtype)


def _frame_dtype(head: Any) -> np.dtype[Any]:
    return np.asarray(head).dtype


def _is_sliced(X: Any, wish: Wish) -> bool:
    """Tell whether X is an array that lies elsewhere."""
    if _library(X) in ("numpy", "scipy"):  # scikit-learn's text on sparse matrices is better
        return False
    if not all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    in_memory = any(hasattr(X, name) for name in ("__array__", "__array_interface__", "__dlpack__"))
    return _library(X) in ("h5py", "zarr") or not in_memory


OPENERS: tuple[tuple[Callable[[Any, Wish], bool], Callable[[Any, Wish], Reader]], ...] = (
    (lambda X, wish: isinstance(X, Batches), lambda X, wish: BatchReader(X)),
    (lambda X, wish: isinstance(X, Parquet), _read_parquet),
    (_is_record_batch, _read_record_batch),
    (_is_arrow, _read_arrow),
    (_is_frame, _read_frame),
    (_is_sliced, lambda X, wish: SliceReader(X)),
)
