"""Verbose output, against what scikit-learn's own class prints."""

import itertools
import re
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

from fastgmm import GaussianMixture, _verbose
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
