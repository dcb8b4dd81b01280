"""Files that a long fit writes now and then, and that it goes on from after it was cut short.

What a fit needs to end with the same bits is its `Course`.  Beside it a file holds what tells that
data and parameters are the same ones: sizes, totals, and digests of some rows.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastgmm

from ._archive import decode, encode, read_archive, write_archive
from ._em import EMResult, Standing
from ._initialise import total_weight
from ._multistart import Course
from ._sources import RowSource, scratch_array
from ._structures import CovarianceStructure, Params, Posterior

FORMAT = "fastgmm checkpoint"
FORMAT_VERSION = 1

# Writing takes one part in so many of the time at most.
_SHARE = 20
# So many rows tell two data sets apart.
_SAMPLED = 256

# Parameters that a fit may go on with changed: they do not count, or for what is still to do.
_FREE = frozenset(
    {
        "max_iter", "n_init", "n_threads", "step_offset", "step_power", "tol", "verbose",
        "verbose_interval", "warm_start",
    }
)  # fmt: skip

Digest = str | None


class Checkpoint:
    """Where, and how often, a long fit writes how far it has come.

    Given to ``fit`` as ``checkpoint``; a path alone means a `Checkpoint` of that path.

    Parameters
    ----------
    path : path-like
        The file, usually with the suffix ``.npz``. It is replaced as a whole or not at all.
    every : float, default=30.0
        The seconds from one write to the next; at least 0. A file is written between two
        iterations: after each of them where they take longer. If writing takes long (the file has
        2 bytes a row where pairs of rows and components are being skipped), it happens less
        often, so that it takes a twentieth of the time at most. 0: after each iteration, however
        long it takes.

    Raises
    ------
    TypeError
        If ``path`` is no path.
    ValueError
        If ``every`` is negative or not finite.

    See Also
    --------
    GaussianMixture.fit : What a file holds, and what it is good for.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from fastgmm import Checkpoint, GaussianMixture
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Checkpoint(pathlib.Path(folder) / "run.npz", every=600)
    ...     model = GaussianMixture(2, tol=0.1, random_state=0).fit(X, checkpoint=run)
    ...     again = GaussianMixture(2, tol=0.1, random_state=0).fit(X, checkpoint=run, resume=True)
    >>> bool(np.all(again.means_ == model.means_))
    True
    """

    def __init__(self, path: str | os.PathLike[str], every: float = 30.0) -> None:
        self.path = Path(os.fspath(path))
        if not (isfinite(every) and every >= 0.0):
            raise ValueError(f"every={every!r}: the seconds between two writes must be 0 or more.")
        self.every = float(every)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every:g})"


@contextmanager
def kept(
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
    resume: bool,
    estimator: Any,
    source: RowSource,
    warm: Standing | None,
) -> Iterator[tuple[Course | None, Callable[[Course], None] | None]]:
    """Keep a fit's file up to date; give the course to go on from, and what is told of its course.

    Raises
    ------
    ValueError
        If the file is damaged, or of another fit.
    FileExistsError
        If there is a file and it must not be lost.
    OSError
        If a file cannot be written; the one before it stays.
    """
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True needs the file to go on from: give checkpoint, too.")
        yield None, None
        return
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    path = checkpoint.path
    about = {"data": _about_rows(source), "parameters": _about_parameters(estimator, warm)}
    course, finished = None, False
    if not resume:
        _check_dispensable(path)
    elif path.exists():
        course, finished = _read(path, about, estimator._structure, source)
    keeper = _Keeper(checkpoint, about, course, finished)
    try:
        yield course, keeper.note
    except BaseException:
        keeper.rescue()
        raise
    keeper.finish()


class _Keeper:
    """Writes how far a fit has come, often enough."""

    def __init__(
        self, checkpoint: Checkpoint, about: dict[str, Any], course: Course | None, finished: bool
    ) -> None:
        self._checkpoint = checkpoint
        self._about = about
        self._latest = self._written = course
        self._finished = finished
        # a new file is written at once: whether that can be done shows before the work
        self._due = -np.inf if course is None else perf_counter() + checkpoint.every

    def note(self, course: Course) -> None:
        """Take note of how far the fit has come."""
        self._latest = course
        if perf_counter() >= self._due:
            self._write(finished=False)

    def rescue(self) -> None:
        """Write what is not in the file yet, now that something ends the fit early."""
        standing = None if self._latest is None else self._latest.standing
        lasting = standing is None or standing.lasting
        if lasting and not self._is_written():
            with suppress(OSError):  # what ended the fit matters more
                self._write(finished=False)

    def finish(self) -> None:
        """Write where the fit ended."""
        if not (self._finished and self._is_written()):
            self._write(finished=True)

    def _is_written(self) -> bool:
        one, two = self._latest, self._written
        if one is None or two is None:
            return one is two
        return (one.run, one.over) == (two.run, two.over) and one.standing is two.standing

    def _write(self, *, finished: bool) -> None:
        began = perf_counter()
        arrays: dict[str, NDArray[Any]] = {}
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "fastgmm": fastgmm.__version__,
            "finished": finished,
            **encode(self._about, "about", arrays)["dict"],
            "course": encode(_plain(self._latest), "fit", arrays),
        }
        path = self._checkpoint.path
        try:
            write_archive(path, header, arrays)
        except OSError as error:
            why = error.strerror or str(error)
            before = "the one before it is as it was; " if self._written is not None else ""
            text = f"The checkpoint cannot be written ({why}); {before}see to that, and fit again"
            text += " with resume=True" if self._written is not None else ""
            raise OSError(error.errno, text, str(path)) from error
        self._written, self._finished = self._latest, finished
        now, every = perf_counter(), self._checkpoint.every
        self._due = now + (max(every, _SHARE * (now - began)) if every > 0.0 else 0.0)


def _plain(value: Any) -> Any:
    """Return a value with named tuples as dictionaries."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    return value


def _check_dispensable(path: Path) -> None:
    """Raise FileExistsError if there is a file of unfinished work, or anything else."""
    if not path.exists():
        return
    try:
        with open(path, "rb") as file:
            header, _ = read_archive(file, FORMAT, FORMAT_VERSION, only_header=True)
    except Exception:
        raise FileExistsError(
            f"{str(path)!r} is no checkpoint of this version of fastgmm, and is not overwritten. "
            "Give another name, or delete it."
        ) from None
    if not header.get("finished"):
        raise FileExistsError(
            f"{str(path)!r} is the checkpoint of a fit that has not ended. Set resume=True to go "
            "on with it; or delete it, or give another name, to begin anew."
        )


def _read(
    path: Path, about: dict[str, Any], structure: CovarianceStructure, source: RowSource
) -> tuple[Course, bool]:
    """Return what a file holds; raise ValueError unless it is of a fit like this one."""
    try:
        with open(path, "rb") as file:
            header, arrays = read_archive(
                file, FORMAT, FORMAT_VERSION, make=lambda n, dtype: scratch_array((n,), dtype)
            )
        there = {name: decode(header[name], arrays) for name in about}
        differences = [text for name in about for text in _differences(there[name], about[name])]
        if not differences:
            course = _course(decode(header["course"], arrays))
            _check_shapes(
                course, structure, (there["parameters"]["n_components"], source.n_features)
            )
            return course, bool(header["finished"])
    except OSError:
        raise
    except Exception as error:
        # damage can surface anywhere in zipfile, json or numpy
        raise ValueError(
            f"Cannot go on from {str(path)!r}: {error}. Delete it, or give another name, to begin "
            "anew."
        ) from error
    raise ValueError(
        f"{str(path)!r} is the checkpoint of another fit: {'; '.join(differences)}. Give what that "
        "fit was given; or delete the file, or give another name, to begin anew."
    )


def _course(plain: dict[str, Any]) -> Course:
    best, standing = plain["best"], plain["standing"]
    if best is not None:
        best = EMResult(**{**best, "params": _params(best["params"])})
    if standing is not None:
        standing = Standing(**{**standing, "params": _params(standing["params"])})
    return Course(**{**plain, "best": best, "standing": standing})


def _params(plain: dict[str, Any]) -> Params:
    posterior = plain["posterior"]
    return Params(**{**plain, "posterior": None if posterior is None else Posterior(**posterior)})


def _check_shapes(course: Course, structure: CovarianceStructure, shape: tuple[int, int]) -> None:
    """Raise ValueError unless kernels may be given these parameters: they trust them."""
    expected = {
        "weights": shape[:1],
        "means": shape,
        "precisions_cholesky": structure.shape(*shape),
    }
    parts = (course.best, course.standing)
    for params in (part.params for part in parts if part is not None):
        for name, wanted in expected.items():
            array = getattr(params, name)
            if array.shape != wanted or array.dtype != np.float64:
                raise ValueError(f"{name} are no numbers of shape {wanted}")


# -- what tells one fit from another ------------------------------------------------------------


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    """Yield a text for each item that differs; None: nothing known of it."""
    for name in sorted(there.keys() | here.keys()):
        one, two = there.get(name), here.get(name)
        if one == two or (name in _DIGESTS and (one is None or two is None)):
            continue
        yield _DIGESTS.get(name, f"{name} is {one!r} there and {two!r} here")


_DIGESTS = {
    "first": "the first rows, or their weights, differ",
    "sampled": "some rows, or their weights, differ",
}


def _about_rows(source: RowSource) -> dict[str, Any]:
    """Return what tells rows apart, at the cost of reading a few of them."""
    first: Digest = None
    sampled: Digest = None
    if source.shares_memory:
        blocks = iter(source.blocks())
        block = next(blocks)
        first = _digest(block.rows, block.weights)
        del blocks  # which ends the reading
    if source.random_access:
        draws = np.random.RandomState(0).randint(0, source.n_counted, _SAMPLED, dtype=np.int64)
        some = source.sample(np.unique(draws))
        weights = np.empty(0) if some.weights is None else some.weights
        sampled = _digest(some.take(np.arange(some.n_rows)), weights)
    return {
        "samples": int(source.n_rows),
        "features": int(source.n_features),
        "dtype": str(source.dtype),
        "sum of weights": float(total_weight(source)),
        "first": first,
        "sampled": sampled,
    }


def _about_parameters(estimator: Any, warm: Standing | None) -> dict[str, Any]:
    """Return the parameters that a fit depends on, arrays as digests."""
    given = {name: v for name, v in estimator.get_params(deep=False).items() if name not in _FREE}
    if isinstance(given["random_state"], np.random.RandomState):
        given["random_state"] = "RandomState"  # which has moved on since
    start = None if warm is None else [_digest(np.asarray(array)) for array in warm.params[:4]]
    return {
        "class": type(estimator).__name__,
        **{name: _comparable(value) for name, value in given.items()},
        "the fit that warm_start goes on from": start,
    }


def _comparable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value, dtype=np.float64)
    return f"array of shape {array.shape}, digest {_digest(array)}"


def _digest(*arrays: NDArray[Any]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
