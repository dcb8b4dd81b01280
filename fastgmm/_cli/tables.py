"""Tables of numbers from and to files, and plain words on bad ones."""

from __future__ import annotations

import csv
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_table_name", "read_table", "write_table"]


CSV_ROWS = 8192  # turned into Python's numbers at a time


def read_table(path: str, columns: str | None = None) -> tuple[NDArray[Any], list[str]]:
    """Read a table of real numbers.

    Parameters
    ----------
    path : str
        A ``.npy`` file (memory-mapped, never read whole), a ``.npz`` file with one array or one
        called ``X``, or a ``.csv`` file with or without a header.
    columns : str, optional
        The columns to take, separated by commas: names, or numbers counted from 0.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The numbers.
    names : list of str
        The names of the columns.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no table of real numbers, or has no such column.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path}: the name must end in {', '.join(READERS)}")
    try:
        return READERS[suffix](path, columns)
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        text = str(error)
        raise ValueError(text if text.startswith(path) else f"{path}: {text}") from error


def _read_npy(path: str, columns: str | None) -> tuple[NDArray[Any], list[str]]:
    return _take(np.lib.format.open_memmap(path, mode="r"), columns)


def _read_npz(path: str, columns: str | None) -> tuple[NDArray[Any], list[str]]:
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


def _take(array: NDArray[Any], columns: str | None) -> tuple[NDArray[Any], list[str]]:
    if array.ndim == 1:  # one feature
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"the array has {array.ndim} dimensions, not 2")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the array holds {array.dtype.name}, not real numbers")
    names = [f"x{j}" for j in range(array.shape[1])]
    index = _column_index(names, columns)
    return (array if columns is None else array[:, index]), [names[j] for j in index]


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
        with _open_csv(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no rows: said below
            X = np.loadtxt(
                file,
                delimiter=",",
                quotechar='"',
                comments=None,
                skiprows=header_lines,
                usecols=index,
                ndmin=2,
            )
    except ValueError:
        _explain(path, names, index, header_lines)
        raise
    if X.size == 0:
        raise ValueError("there are no rows")
    return X, [names[j] for j in index]


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


READERS: dict[str, Callable[[str, str | None], tuple[NDArray[Any], list[str]]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
}


def check_table_name(path: str) -> None:
    """Raise ValueError unless `write_table` can write a file of this name."""
    if Path(path).suffix.lower() not in (".npy", ".csv"):
        raise ValueError(f"{path}: the name must end in .npy or .csv")


def write_table(path: str | None, values: NDArray[Any], heads: list[str]) -> None:
    """Write numbers to a file, or print them.

    Parameters
    ----------
    path : str or None
        A ``.npy`` file, which keeps the type of the numbers, or a ``.csv`` file with a header;
        None: standard output, as in a ``.csv`` file.
    values : ndarray of shape (n_rows,) or (n_rows, n_columns)
        The numbers.
    heads : list of str
        The names of the columns, for the header.
    """
    if path is None:
        _write_csv(sys.stdout, values, heads)
        return
    check_table_name(path)
    if Path(path).suffix.lower() == ".npy":
        with open(path, "wb") as binary:  # np.save would add its own suffix to .NPY
            np.save(binary, values)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        _write_csv(file, values, heads)


def _write_csv(file: TextIO, values: NDArray[Any], heads: list[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heads)
    rows = values.reshape(len(values), -1)
    for start in range(0, len(rows), CSV_ROWS):
        # Python writes the fewest digits that give the same float64 again
        writer.writerows(rows[start : start + CSV_ROWS].tolist())
