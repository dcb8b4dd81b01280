"""Verbose output, against what scikit-learn's own class prints."""

import io
import itertools
import re
import sys
import threading
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

from fastgmm import Batches, GaussianMixture, _verbose
from fastgmm._observers import Iteration
from fastgmm._verbose import VerboseObserver

X = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(120, 2)),
        np.random.default_rng(1).normal(2.0, size=(80, 2)),
    ]
)
# Parameters given in full make every run of scikit-learn's loop the same run. (Without an iteration
# scikit-learn fails on them.)
START = {
    "weights_init": [0.5, 0.5],
    "means_init": [[0.0, 0.5], [1.0, 3.0]],
    "precisions_init": [np.eye(2), np.eye(2)],
}


def drive(observer, bounds, *, n_init=1, converged=True, seconds=0.01, rows=200):
    """Report runs with these bounds, as an EM loop would."""
    for init in range(n_init):
        observer.run_begins(init)
        last = None
        previous = -np.inf
        for number, bound in enumerate(bounds, start=1):
            last = Iteration(
                init=init,
                number=number,
                bound=bound,
                change=bound - previous,
                seconds=seconds,
                rows=rows,
                converged=converged and number == len(bounds),
                params=None,
            )
            previous = bound
            assert observer.iteration_ends(last) is False
        observer.run_ends(init, last, seconds * len(bounds))


def without_times(text):
    return re.sub(r"time lapse \d+\.\d{5}s", "time lapse _s", text)


@pytest.mark.parametrize("verbose", [0, 1, True, 2, 5])
@pytest.mark.parametrize("interval", [1, 3, 10])
@pytest.mark.parametrize(
    "limits",
    [{"tol": 1e-4}, {"tol": 0.0, "max_iter": 11}, {"max_iter": 1}, {"max_iter": 0}],
    ids=["converges", "does not", "one iteration", "none"],
)
@pytest.mark.parametrize("n_init", [1, 2])
def test_texts_are_those_of_scikit_learn(verbose, interval, limits, n_init, capsys):
    start = START if limits.get("max_iter") != 0 else {}
    reference = SklearnMixture(
        2, n_init=n_init, verbose=verbose, verbose_interval=interval, **start, **limits
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(X)
    expected = capsys.readouterr().out

    observer = VerboseObserver(verbose, interval)
    drive(observer, reference.lower_bounds_, n_init=n_init, converged=reference.converged_)
    printed = capsys.readouterr().out
    assert without_times(printed) == without_times(expected)
    assert bool(printed) == bool(verbose)


def test_times_count_from_the_line_before(monkeypatch, capsys):
    """One tick a reading of the clock: a run's start, and once for each line with a time."""
    monkeypatch.setattr(_verbose, "perf_counter", itertools.count().__next__)
    drive(VerboseObserver(2, 2), [1.0, 2.0, 2.5, 2.75, 3.0])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Initialization 0",
        "  Iteration 2\t time lapse 1.00000s\t ll change 1.00000",
        "  Iteration 4\t time lapse 1.00000s\t ll change 0.25000",
        "Initialization converged. time lapse 3.00000s\t lower bound 3.00000.",
    ]


@pytest.mark.parametrize("verbose", [1, 2])
def test_long_iterations_end_with_rows_per_second(verbose, capsys):
    drive(VerboseObserver(verbose, 1), [1.0, 2.0], seconds=1.0, rows=10**7)
    short = without_times(capsys.readouterr().out)
    drive(VerboseObserver(verbose, 1), [1.0, 2.0], seconds=2.5, rows=10**7)
    long = without_times(capsys.readouterr().out)
    assert "rows" not in short
    assert long.count("\t 4000000 rows/s\n") == 2
    assert long.replace("\t 4000000 rows/s", "") == short


class Screen(io.StringIO):
    """Standard output that is a terminal, or not."""

    def __init__(self, *, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(_verbose, "perf_counter", lambda: now[0])
    return now


def make_a_pass(observer, clock, seconds, n_blocks, rows=1_000_000, of=None):
    """Report the blocks of a pass, evenly spread."""
    for block in range(n_blocks):
        clock[0] += seconds / n_blocks
        observer.rows_done(rows * (block + 1) // n_blocks, rows if of is None else of)


def between_iterations(observer, clock, seconds, n_blocks=1000, **more):
    """Report a first iteration, and the pass of the second."""
    observer.run_begins(0)
    last = Iteration(0, 1, -3.25, 0.5, seconds, 10**6, False, None)
    observer.iteration_ends(last)
    make_a_pass(observer, clock, seconds, n_blocks, **more)
    observer.run_ends(0, last, seconds)
    observer.close()


def test_long_passes_have_a_line_on_a_terminal(monkeypatch, clock):
    monkeypatch.setattr(sys, "stdout", Screen(terminal=True))
    monkeypatch.setenv("COLUMNS", "120")
    between_iterations(VerboseObserver(1), clock, 5.0)
    first, *pictures, last = re.split(r"\r+", sys.stdout.getvalue())
    assert first == "Initialization 0\n"
    assert last == "Initialization did not converge.\n"
    assert not pictures.pop().strip()  # what wipes the last picture
    assert 14 <= len(pictures) <= 17  # from the first second on, four a second
    assert len({len(picture) for picture in pictures}) == 1
    assert re.fullmatch(
        r"  Iteration 2 \[#{9,10}\.{10,11}\]  (49|50|51)%, 200k rows/s, [23] s left, "
        r"bound -3\.25, change 0\.5 *",
        pictures[6],
    )


def test_a_line_no_wider_than_the_terminal(monkeypatch, clock):
    monkeypatch.setattr(sys, "stdout", Screen(terminal=True))
    monkeypatch.setenv("COLUMNS", "40")
    between_iterations(VerboseObserver(1), clock, 5.0)
    assert max(map(len, re.split(r"[\r\n]", sys.stdout.getvalue()))) == 39


def test_long_passes_have_a_few_lines_elsewhere(monkeypatch, clock, capsys):
    between_iterations(VerboseObserver(1), clock, 45.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization 0"
    assert lines[-1] == "Initialization did not converge."
    assert len(lines) == 6
    assert re.fullmatch(
        r"  Iteration 2: 4[45]%, 22\.2k rows/s, 25 s left, bound -3\.25, change 0\.5", lines[2]
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_short_passes_show_nothing(monkeypatch, clock, terminal):
    monkeypatch.setattr(sys, "stdout", Screen(terminal=terminal))
    observer = VerboseObserver(1)
    observer.run_begins(0)
    for _ in range(200):  # the start's own passes: each begins anew
        make_a_pass(observer, clock, 0.9, 10)
    assert sys.stdout.getvalue() == "Initialization 0\n"
    quiet = VerboseObserver(0)
    make_a_pass(quiet, clock, 900.0, 100)
    assert sys.stdout.getvalue() == "Initialization 0\n"


def test_rows_of_unknown_number(monkeypatch, clock, capsys):
    observer = VerboseObserver(1)
    observer.run_begins(0)
    make_a_pass(observer, clock, 12.0, 100, of=0)
    assert re.search(
        r"\n  Start and iteration 1: 8\d\dk rows, 83\.3k rows/s\n$", capsys.readouterr().out
    )


def test_a_fit_that_goes_on_says_where(clock, capsys):
    observer = VerboseObserver(1)
    observer.goes_on(2, 57)
    observer.run_begins(2)
    make_a_pass(observer, clock, 15.0, 100)
    observer.run_begins(3)
    make_a_pass(observer, clock, 15.0, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Going on with initialization 2, after iteration 57"
    assert lines[2].startswith("  Iteration 58: ")
    assert lines[4].startswith("  Start and iteration 1: ")


def test_times_in_words():
    spoken = [_verbose._duration(seconds) for seconds in (0.2, 99, 100, 3000, 7000, 90_000)]
    assert spoken == ["0 s", "99 s", "1 min 40 s", "50 min 0 s", "1 h 56 min", "25 h 0 min"]


@pytest.mark.parametrize("source", ["array", "stream"])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_passes_say_how_far_they_are(source, n_threads, groups, monkeypatch):
    """Each pass of a fit ends at the last row; of several threads only the caller's speaks."""
    if source == "stream" and groups > 1:
        return
    monkeypatch.setattr("fastgmm._sources._scratch.IN_MEMORY", 0)
    rows = np.random.default_rng(0).normal(size=(100_001, 2))
    told = []

    class Told(VerboseObserver):
        def rows_done(self, rows, of):
            told.append((threading.current_thread(), rows, of))

    monkeypatch.setattr("fastgmm._base.VerboseObserver", Told)
    given = rows if source == "array" else Batches(np.array_split(rows, 30), n_rows=len(rows))
    model = GaussianMixture(
        2, max_iter=3, tol=0.0, init_size=1000, init_params="random", n_threads=n_threads,
        verbose=1, incremental_groups=groups, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(given)
    assert {thread for thread, _, _ in told} == {threading.current_thread()}
    whole = [done for _, done, of in told if of == len(rows)]
    assert whole
    assert max(whole) <= len(rows)
    if n_threads == 1:
        assert whole.count(len(rows)) >= 3


def test_no_standard_output(monkeypatch):
    """Programs without a console have none."""
    monkeypatch.setattr(sys, "stdout", None)
    drive(VerboseObserver(2, 1), [1.0])


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("settings", [{"tol": 1e-4}, {"max_iter": 2}, {"n_init": 2}])
def test_mixture_prints_what_scikit_learn_prints(verbose, settings, capsys):
    printed = []
    for kind in (SklearnMixture, GaussianMixture):
        model = kind(2, verbose=verbose, verbose_interval=2, **START, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X)
        printed.append(without_times(capsys.readouterr().out))
    assert printed[0] == printed[1]
