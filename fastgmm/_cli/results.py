"""Tables of results, written piece by piece, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_table_name", "replaced", "text_of", "write_table"]

CSV_ROWS = 8192  # turned into Python's numbers at a time


def check_table_name(path: str) -> None:
    """Raise ValueError unless `write_table` can write a file of this name."""
    if Path(path).suffix.lower() not in (".npy", ".csv"):
        raise ValueError(f"{path}: the name must end in .npy or .csv")


def write_table(
    path: str | None, pieces: Iterable[NDArray[Any]], heads: list[str], n_rows: int
) -> None:
    """Write numbers to a file, or print them, one piece after the other.

    Parameters
    ----------
    path : str or None
        A ``.npy`` file, which keeps the type of the numbers, or a ``.csv`` file with a header;
        None: standard output, as in a ``.csv`` file. A file appears, or is replaced, when all of
        it is written.
    pieces : iterable of ndarray of shape (m,) or (m, n_columns)
        The numbers, some rows at a time.
    heads : list of str
        The names of the columns, for the header.
    n_rows : int
        The number of rows in all.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the pieces have another number of rows.
    """
    if path is None:
        _write_csv(sys.stdout, pieces, heads)
        return
    check_table_name(path)
    with replaced(path) as file:
        if Path(path).suffix.lower() == ".npy":
            written = _write_npy(file, pieces, n_rows)
        else:
            with text_of(file) as text:
                written = _write_csv(text, pieces, heads)
        if written != n_rows:
            raise ValueError(
                f"there were {n_rows} rows at first, and {written} when they were read: do not "
                "change the file meanwhile"
            )


@contextlib.contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` in the end; if anything goes wrong, it is gone.

    What is no file, such as a pipe, is written to as it is.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except OSError as error:
        # whoever asked for a file knows nothing of another one
        raise OSError(error.errno, error.strerror, path) if error.strerror else error from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def text_of(file: BinaryIO) -> Iterator[TextIO]:
    """Give a file as one for text."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    yield text
    text.detach()  # flushed, and left open


def _write_npy(file: BinaryIO, pieces: Iterable[NDArray[Any]], n_rows: int) -> int:
    """Write what numpy.save would; return the number of rows."""
    rest = iter(pieces)
    first = next(rest)
    head = np.lib.format.header_data_from_array_1_0(first)
    shape = (n_rows, *first.shape[1:])
    np.lib.format.write_array_header_1_0(file, {**head, "fortran_order": False, "shape": shape})
    written = 0
    for piece in itertools.chain([first], rest):
        file.write(np.ascontiguousarray(piece).data)
        written += len(piece)
    return written


def _write_csv(file: TextIO, pieces: Iterable[NDArray[Any]], heads: list[str]) -> int:
    """Write a header and rows; return the number of rows."""
    writer = csv.writer(file, lineterminator="\n")
    written = 0
    for piece in pieces:
        if written == 0:  # bad rows are found before anything is printed
            writer.writerow(heads)
        rows = piece.reshape(len(piece), -1)
        for start in range(0, len(rows), CSV_ROWS):
            # Python writes the fewest digits that give the same float64 again
            writer.writerows(rows[start : start + CSV_ROWS].tolist())
        written += len(rows)
    return written
