"""Tables of numbers from files that may be larger than memory, and plain words on bad ones."""

from __future__ import annotations

import csv
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fastgmm import Parquet

__all__ = ["Table", "pieces", "read_table", "take_columns", "take_rows"]

PIECE = 1 << 22  # numbers that are read or made at a time

Table = NDArray[Any] | Parquet


def read_table(path: str, columns: str | None = None) -> tuple[Table, list[str]]:
    """Read a table of real numbers.

    Parameters
    ----------
    path : str
        A ``.npy`` file (memory-mapped, never read whole), a ``.npz`` file with one array or one
        called ``X`` (read whole), a ``.csv`` file with or without a header (never in memory whole:
        its numbers go to a temporary file, which is memory-mapped, so that the text is read once),
        or a ``.parquet`` file or a folder of such (never read whole).
    columns : str, optional
        The columns to take, separated by commas: names, or numbers counted from 0.

    Returns
    -------
    X : ndarray or Parquet, of shape (n_samples, n_features)
        The numbers.
    names : list of str
        The names of the columns.

    Raises
    ------
    OSError
        If the file cannot be read, or the disk has no room for a temporary one.
    ValueError
        If it is no table of real numbers, or has no such column.
    """
    suffix = ".parquet" if Path(path).is_dir() else Path(path).suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path}: the name must end in {', '.join(READERS)}, or be a folder")
    try:
        return READERS[suffix](path, columns)
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        text = str(error)
        raise ValueError(text if text.startswith(path) else f"{path}: {text}") from error


def _read_npy(path: str, columns: str | None) -> tuple[Table, list[str]]:
    return _take(np.lib.format.open_memmap(path, mode="r"), columns)


def _read_npz(path: str, columns: str | None) -> tuple[Table, list[str]]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        if "X.npy" in members:
            members = ["X.npy"]
        if len(members) != 1:
            names = ", ".join(name.removesuffix(".npy") for name in members)
            raise ValueError(f"needs exactly one array, or one called X; found: {names or 'none'}")
        with archive.open(members[0]) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
    return _take(array, columns)


def _take(array: NDArray[Any], columns: str | None) -> tuple[Table, list[str]]:
    if array.ndim == 1:  # one feature
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"the array has {array.ndim} dimensions, not 2")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the array holds {array.dtype.name}, not real numbers")
    names = [f"x{j}" for j in range(array.shape[1])]
    index = _column_index(names, columns)
    return take_columns(array, index), [names[j] for j in index]


def _read_csv(path: str, columns: str | None) -> tuple[NDArray[Any], list[str]]:
    with _open_csv(path) as file:
        reader = csv.reader(file)
        first = next((row for row in reader if row), [])
        header_lines = reader.line_num
    if not first:
        raise ValueError("the file is empty")
    names = [name.strip() for name in first]
    if any(map(_is_number, first)):  # a row of data
        header_lines = 0
        names = [f"x{j}" for j in range(len(first))]
    index = _column_index(names, columns)
    try:
        X = _mapped(_csv_pieces(path, index, header_lines))
    except ValueError:
        _explain(path, names, index, header_lines)
        raise
    if X.size == 0:
        raise ValueError("there are no rows")
    return X, [names[j] for j in index]


def _csv_pieces(path: str, index: list[int], header_lines: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of columns, some at a time; the last piece has none."""
    n_rows = max(1, PIECE // len(index))
    with _open_csv(path) as file:
        piece = np.empty((n_rows, 0))
        while len(piece) == n_rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no rows are left
                piece = np.loadtxt(
                    file,
                    delimiter=",",
                    quotechar='"',
                    comments=None,
                    skiprows=header_lines,
                    usecols=index,
                    max_rows=n_rows,
                    ndmin=2,
                )
            header_lines = 0
            yield piece


def _open_csv(path: str) -> TextIO:
    return open(path, newline="", encoding="utf-8-sig")


def _explain(path: str, names: list[str], index: list[int], header_lines: int) -> None:
    """Raise ValueError for the first field that is no number."""
    with _open_csv(path) as file:
        reader = csv.reader(file)
        for row in reader:
            if not row or reader.line_num <= header_lines:
                continue
            for j in index:
                value = row[j].strip() if j < len(row) else ""
                if not _is_number(value):
                    holds = f"holds text, {value[:40]!r}," if value else "has no value"
                    line = reader.line_num
                    raise ValueError(f"column {names[j]!r} {holds} in line {line}; see --columns")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: str, columns: str | None) -> tuple[Table, list[str]]:
    table = Parquet(path)
    if columns is not None:
        index = _column_index(table.names, columns)
        table = Parquet(path, [table.names[j] for j in index])
    return table, table.names


def _column_index(names: list[str], columns: str | None) -> list[int]:
    if columns is None:
        return list(range(len(names)))
    index = []
    for wanted in (column.strip() for column in columns.split(",")):
        if wanted in names:
            index.append(names.index(wanted))
        elif wanted.isdecimal() and int(wanted) < len(names):
            index.append(int(wanted))
        else:
            known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise ValueError(f"there is no column {wanted!r}; there are {known}")
    return index


READERS: dict[str, Callable[[str, str | None], tuple[Table, list[str]]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def take_columns(X: Table, index: list[int]) -> Table:
    """Return columns by their numbers, in this order."""
    if isinstance(X, Parquet):
        return Parquet(X.path, [X.names[j] for j in index])
    if index == list(range(index[0], index[-1] + 1)):
        return X[:, index[0] : index[-1] + 1]
    if not isinstance(X, np.memmap):
        return X[:, index]
    return _mapped(piece[:, index] for piece in pieces(X))  # never in memory whole


def take_rows(X: Table, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows by their numbers, which increase."""
    if not isinstance(X, Parquet):
        return X[rows]
    taken, start = [np.empty((0, len(X.names)))], 0
    for piece in pieces(X):
        first, last = np.searchsorted(rows, [start, start + len(piece)])
        taken.append(piece[rows[first:last] - start])
        start += len(piece)
    return np.concatenate(taken)


def pieces(X: Table, width: int = 1) -> Iterator[NDArray[Any]]:
    """Yield the rows in order, some at a time.

    width : numbers that will be made of each row.
    """
    n_columns = len(X.names) if isinstance(X, Parquet) else X.shape[1]
    step = max(1, PIECE // max(1, n_columns, width))
    for batch in X if isinstance(X, Parquet) else [X]:
        for start in range(0, len(batch), step):
            yield batch[start : start + step]


def _mapped(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Return the rows of all parts as the map of a temporary file, which ends with the array."""
    n_rows = 0
    with tempfile.TemporaryFile(prefix="fastgmm-") as file:
        for part in parts:
            try:
                file.write(np.ascontiguousarray(part).data)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"There is no room for a temporary file of the numbers in "
                    f"{tempfile.gettempdir()} ({error.strerror}). Set the environment variable "
                    "TMPDIR to a folder with more room.",
                ) from None
            n_rows += len(part)
        if n_rows == 0:
            return np.empty((0, 1))
        file.flush()
        return np.memmap(file, part.dtype, "r", shape=(n_rows, part.shape[1]))
