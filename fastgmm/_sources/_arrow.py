"""Rows of Arrow tables and data sets, and of Parquet files, by pyarrow."""

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._base import read_dtype
from ._readers import Batch, check_weight_name, some_of

_HEAD_ROWS = 16
# pyarrow keeps several batches while it makes one, and reads ahead on its own.
_BATCH_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_LEAN = {"batch_readahead": 0, "fragment_readahead": 0}


def import_pyarrow() -> Any:
    """Return pyarrow with its data sets."""
    try:
        import pyarrow
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError(
            'Reading Parquet files needs pyarrow: pip install "fastgmm[arrow]"'
        ) from error
    return pyarrow


class Parquet:
    """Columns of a Parquet file, of several, or of a folder of them.

    ``fit``, ``predict``, ``score_samples`` and ``score`` take it as ``X``, and read it batch by
    batch. The path alone will do where all columns are features.

    Parameters
    ----------
    path : str, Path or list of them
        A file, a folder whose files are read in the order of their names, or several files.
    columns : sequence of str or None, default=None
        The columns that are features, in this order. None: all; in ``predict`` and the like, those
        the model was fitted to.

    Attributes
    ----------
    names : list of str
        The chosen columns.
    shape : tuple of (int, int)
        The numbers of rows and of chosen columns.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    OSError
        If there is no such file.
    ValueError
        If there is no such column, or the folder holds no such file.

    Examples
    --------
    >>> import os, tempfile
    >>> import pyarrow, pyarrow.parquet
    >>> from fastgmm import GaussianMixture, Parquet
    >>> path = os.path.join(tempfile.mkdtemp(), "table.parquet")
    >>> table = pyarrow.table({"id": ["a", "b", "c", "d"], "x": [1.0, 1.2, 7.0, 7.2]})
    >>> pyarrow.parquet.write_table(table, path)
    >>> model = GaussianMixture(2, random_state=0).fit(Parquet(path, columns=["x"]))
    >>> sorted(model.means_[:, 0].round(2).tolist())
    [1.1, 7.1]
    >>> model.predict(path).shape  # the path alone: the model takes the column it knows
    (4,)
    """

    def __init__(
        self, path: str | Path | list[str | Path], columns: Sequence[str] | None = None
    ) -> None:
        pyarrow = import_pyarrow()
        source = [str(one) for one in path] if isinstance(path, list) else str(path)
        for one in [source] if isinstance(source, str) else source:
            if not Path(one).exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), one)
        self.path = path
        self.columns = None if columns is None else list(columns)
        self.dataset = pyarrow.dataset.dataset(source, format="parquet")
        if not self.dataset.files:
            raise ValueError(f"{path} holds no Parquet files.")
        known = self.dataset.schema.names
        for name in self.columns or []:
            if name not in known:
                raise ValueError(f"{path} has no column {name!r}; there are {some_of(known)}.")
        self.names = known if self.columns is None else self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and of chosen columns."""
        return self.dataset.count_rows(), len(self.names)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the rows of the chosen columns in order, as arrays of some rows each."""
        reader = ArrowReader(self.dataset, self.columns, None, files=True)
        return (rows for rows, _ in reader.batches())


class ArrowReader:
    """Rows of a pyarrow table or data set, of which a column may be the weights.

    ``columns`` are the features; None: all but the weights.  ``files`` tells that the data set is
    one of Parquet files, neither filtered nor partitioned, which are then read one by one.
    """

    what = "The Arrow data"
    advice = "Do not change the files meanwhile."

    def __init__(
        self, data: Any, columns: list[str] | None, weight: str | None, *, files: bool = False
    ) -> None:
        self._data = data
        self._files = files
        schema = data.schema
        check_weight_name(weight, schema.names)
        self._weight = weight
        self.weighted = weight is not None
        features = [name for name in columns or schema.names if name != weight]
        self._features = features
        missing = [name for name in features if name not in schema.names]
        if missing:
            raise ValueError(f"X has no column {missing[0]!r}, which the model was fitted to.")
        self.n_features = len(features)
        self._read = [*features, *([weight] if weight is not None else [])]
        types = [schema.field(name).type for name in self._read]
        texts = [
            repr(name) for name, kind in zip(self._read, types, strict=True) if not _is_number(kind)
        ]
        if texts:
            raise ValueError(
                f"X holds columns without numbers: {', '.join(texts)}. Choose other columns, or "
                "encode them."
            )
        kinds = [_numpy_type(kind) for kind in types[: self.n_features]]
        self.dtype = read_dtype(np.result_type(*kinds)) if kinds else np.dtype(np.float64)
        self._step = max(1024, _BATCH_BYTES // (8 * max(1, len(self._read))))
        rows = data.num_rows if hasattr(data, "num_rows") else data.count_rows()
        self.n_rows: int | None = int(rows)

    def head(self) -> Any:
        if hasattr(self._data, "num_rows"):
            return self._data.select(self._features).slice(0, _HEAD_ROWS)
        if not self._files:
            return self._data.head(_HEAD_ROWS, columns=self._features, **_LEAN)
        heads = [np.empty((0, self.n_features), self.dtype)]
        with closing(self.batches()) as batches:
            for rows, _ in batches:
                heads.append(rows[:_HEAD_ROWS])
                if sum(map(len, heads)) >= _HEAD_ROWS:
                    break
        columns = np.concatenate(heads).T.copy()
        return import_pyarrow().table(dict(zip(self._features, columns, strict=True)))

    def batches(self) -> Generator[Batch, None, None]:
        for batch in self._record_batches():
            columns = np.empty((self.n_features, batch.num_rows), self.dtype)
            for j in range(self.n_features):
                columns[j] = _numbers(batch.column(self._read[j]))
            yield columns.T, _numbers(batch.column(self._weight)) if self.weighted else None

    def _record_batches(self) -> Iterator[Any]:
        if hasattr(self._data, "num_rows"):
            yield from self._data.select(self._read).to_batches(max_chunksize=self._step)
            return
        if self._files:
            yield from self._file_batches()
            return
        yield from self._data.to_batches(columns=self._read, batch_size=self._step, **_LEAN)

    def _file_batches(self) -> Iterator[Any]:
        """Yield the batches of one file after the other.

        The scanner of data sets would do, but keeps whole groups of rows: several times the memory.
        """
        from pyarrow.parquet import ParquetFile

        for part in self._data.get_fragments():
            with ParquetFile(
                part.path, filesystem=part.filesystem, buffer_size=_BUFFER_BYTES, pre_buffer=False
            ) as file:
                missing = [name for name in self._read if name not in file.schema_arrow.names]
                if missing:
                    raise ValueError(f"{part.path} has no column {missing[0]!r}.")
                yield from file.iter_batches(batch_size=self._step, columns=self._read)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(test(kind) for test in tests)


def _numpy_type(kind: Any) -> np.dtype[Any]:
    from pyarrow import types

    return np.dtype(np.float64 if types.is_decimal(kind) else kind.to_pandas_dtype())


def _numbers(column: Any) -> NDArray[Any]:
    """Return a column as numbers, NaN for nulls."""
    from pyarrow import types

    if not types.is_floating(column.type):
        column = column.cast("float64", safe=False)  # rounded, as NumPy does
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
