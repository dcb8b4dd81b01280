"""The ``verbose`` parameter: scikit-learn's texts on standard output."""

import sys
from time import perf_counter

from ._observers import Iteration

__all__ = ["VerboseObserver", "write_line"]

# Speed is news only where one has to wait for it.
_LONG_ITERATION = 1.0  # seconds


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
    with the rows per second of that iteration.
    """

    def __init__(self, verbose: int, verbose_interval: int = 10) -> None:
        self._verbose = int(verbose)
        self._interval = verbose_interval
        self._run_start = self._line_start = perf_counter()

    def run_begins(self, init: int) -> None:
        """Announce a run."""
        self._run_start = self._line_start = perf_counter()
        self._write(f"Initialization {init}")

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
        return False

    def run_ends(self, init: int, iteration: Iteration | None, seconds: float) -> None:
        """Say how a run ended; a run without iterations ends silently."""
        if iteration is None:
            return
        line = f"Initialization {'converged' if iteration.converged else 'did not converge'}."
        if self._verbose >= 2:
            lapse = perf_counter() - self._run_start
            line += f" time lapse {lapse:.5f}s\t lower bound {iteration.bound:.5f}."
        self._write(line)

    def _write(self, line: str) -> None:
        if self._verbose > 0:
            write_line(line)


def write_line(line: str) -> None:
    """Write to standard output: like print, look it up each time and bear its absence."""
    if sys.stdout is not None:
        sys.stdout.write(line + "\n")
