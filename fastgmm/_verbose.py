"""The ``verbose`` parameter: scikit-learn's texts on standard output, and news of long passes."""

import shutil
import sys
from time import perf_counter

from ._observers import Iteration

__all__ = ["PassProgress", "VerboseObserver", "write_line"]

# Speed is news only where one has to wait for it.
_LONG_ITERATION = 1.0  # seconds
# Seconds between two pictures of a pass: on a terminal, where one takes the place of the other,
# and elsewhere.
_REFRESH, _NEXT_LINE = 0.25, 10.0
_BAR = 20  # characters
# What passes are for until an iteration has ended: nobody tells when a start is found.
_FIRST_PASS = "Start and iteration 1"


class VerboseObserver:
    """Write the progress of a fit in scikit-learn's words.

    Parameters
    ----------
    verbose : int
        0: nothing; 1: runs and iterations; 2 or more: also times, changes and bounds.
    verbose_interval : int
        Every how many iterations a line is written.

    Notes
    -----
    As in scikit-learn, the time of an iteration line is the time since the line before it, and that
    of a run includes its initialisation. Lines of iterations that took longer than a second end
    with the rows per second of that iteration. What is shown of passes under way: `PassProgress`.
    """

    def __init__(self, verbose: int, verbose_interval: int = 10) -> None:
        self._verbose = int(verbose)
        self._interval = verbose_interval
        self._pass = PassProgress()
        self._first_pass = _FIRST_PASS
        self._run_start = self._line_start = perf_counter()

    def goes_on(self, init: int, n_iter: int) -> None:
        """Announce that an earlier fit is gone on with, after so many iterations of a run."""
        after = f", after iteration {n_iter}" if n_iter else ""
        self._write(f"Going on with initialization {init}{after}")
        if n_iter:
            self._first_pass = f"Iteration {n_iter + 1}"

    def run_begins(self, init: int) -> None:
        """Announce a run."""
        self._run_start = self._line_start = perf_counter()
        self._write(f"Initialization {init}")
        self._pass.begins(self._first_pass)
        self._first_pass = _FIRST_PASS

    def iteration_ends(self, iteration: Iteration) -> bool:
        """Write every `verbose_interval`-th iteration; never asks to stop."""
        if iteration.number % self._interval == 0:
            line = f"  Iteration {iteration.number}"
            if self._verbose >= 2:
                now = perf_counter()
                lapse, self._line_start = now - self._line_start, now
                line += f"\t time lapse {lapse:.5f}s\t ll change {iteration.change:.5f}"
            if iteration.seconds > _LONG_ITERATION:
                line += f"\t {iteration.rows / iteration.seconds:.0f} rows/s"
            self._write(line)
        found = f"bound {iteration.bound:.6g}, change {iteration.change:.2g}"
        self._pass.begins(f"Iteration {iteration.number + 1}", found)
        return False

    def run_ends(self, init: int, iteration: Iteration | None, seconds: float) -> None:
        """Say how a run ended; a run without iterations ends silently."""
        self._pass.ends()
        if iteration is None:
            return
        line = f"Initialization {'converged' if iteration.converged else 'did not converge'}."
        if self._verbose >= 2:
            lapse = perf_counter() - self._run_start
            line += f" time lapse {lapse:.5f}s\t lower bound {iteration.bound:.5f}."
        self._write(line)

    def rows_done(self, rows: int, of: int) -> None:
        """Take note that the pass under way has come to this row, of so many (0: unknown)."""
        if self._verbose > 0:
            self._pass.rows_done(rows, of)

    def close(self) -> None:
        """Leave nothing behind that the next line would be written over."""
        self._pass.ends()

    def _write(self, line: str) -> None:
        if self._verbose > 0:
            self._pass.ends()
            write_line(line)


class PassProgress:
    """How far a long pass has come: one changing line on a terminal, elsewhere a line at times.

    A pass of less than a second shows nothing, and costs a reading of the clock for each block.
    """

    def __init__(self) -> None:
        self._what = self._before = ""
        self._started: float | None = None  # the time of the first rows
        self._first = self._rows = 0
        self._next = 0.0  # the time of the next picture
        self._width = 0  # of what stands on the terminal's line

    def begins(self, what: str, before: str = "") -> None:
        """Take note of what the next pass is for, and what the one before it found."""
        self._what, self._before, self._started = what, before, None

    def rows_done(self, rows: int, of: int) -> None:
        """Take note of the rows done in the pass, of so many (0: unknown); show them if due."""
        now = perf_counter()
        if self._started is None or rows <= self._rows:  # another pass
            self._started, self._first = now, rows
            self._next = now + (_LONG_ITERATION if _on_terminal() else _NEXT_LINE)
        self._rows = rows
        if now >= self._next and rows > self._first:
            self._show(rows, of, (rows - self._first) / (now - self._started))

    def ends(self) -> None:
        """Wipe the terminal's line."""
        if self._width:
            _write_now("\r" + " " * self._width + "\r")
            self._width = 0

    def _show(self, rows: int, of: int, speed: float) -> None:
        parts = [f"{_short(speed)} rows/s", *([self._before] if self._before else [])]
        share = f"{_short(rows)} rows"
        if of:
            share = f"{rows / of:4.0%}"
            parts.insert(1, f"{_duration((of - rows) / speed)} left")
        if not _on_terminal():
            self._next = perf_counter() + _NEXT_LINE
            write_line(f"  {self._what}: {', '.join([share.strip(), *parts])}")
            return
        self._next = perf_counter() + _REFRESH
        bar = ""
        if of:
            bar = f"[{'#' * (_BAR * rows // of):.<{_BAR}}] "
        line = f"  {self._what} {bar}{', '.join([share, *parts])}"
        line = line[: shutil.get_terminal_size().columns - 1]
        _write_now("\r" + line.ljust(self._width))
        self._width = len(line)


def _short(number: float) -> str:
    """Return a number in three digits or so."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _on_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # it is closed
        return False


def _write_now(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()


def write_line(line: str) -> None:
    """Write to standard output: like print, look it up each time and bear its absence."""
    if sys.stdout is not None:
        sys.stdout.write(line + "\n")
