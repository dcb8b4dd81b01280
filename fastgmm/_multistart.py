"""Several runs of EM from different starts, of which the best is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._em import EMResult, Standing, run_em
from ._incremental import run_incremental
from ._initialise import INITIALISATIONS, sample_rows, total_scatter
from ._observers import Iteration, Observer
from ._rules import UpdateRule
from ._sources import RowSource
from ._structures import CovarianceStructure, Params, Scatter

# What makes the update rule for the rows of a fit, given their scatter if it is known already.
RuleMaker = Callable[[RowSource, Scatter | None], UpdateRule]


@dataclass(frozen=True)
class Settings:
    """What governs a fit, validated."""

    n_components: int
    structure: CovarianceStructure
    make_rule: RuleMaker
    tol: float
    max_iter: int
    n_init: int
    init_params: str
    init_size: int | None
    n_groups: int = 1  # of rows, between which an iteration makes M-steps


class Course(NamedTuple):
    """How far a fit has come: all it needs to go on to the same end."""

    run: int  # under way, or the next one
    best: EMResult | None  # of the runs before
    n_distinct: Sequence[int]  # as in the outcome
    draws: dict[str, Any]  # state of the random numbers
    standing: Standing | None = None  # of the run; None: its start is still to be found
    over: bool = False  # an observer wanted this run to be the last


class Outcome(NamedTuple):
    """The best run, and what there is to warn about in the starts."""

    best: EMResult
    n_distinct: list[int]  # of each start: components that hold a row
    rule: UpdateRule


class _Follower:
    """Observer that remembers the last iteration, and passes on how far the fit has come."""

    def __init__(self, note: Callable[[Course], None] | None) -> None:
        self.last: Iteration | None = None
        self._note = note
        self._course: Course | None = None

    def now(self, course: Course) -> None:
        """Take note of where a run begins."""
        self._course = course
        if self._note is not None:
            self._note(course)

    def over(self) -> None:
        """Take note that an observer wanted no more."""
        if self._course is not None:
            self.now(self._course._replace(over=True))

    def run_begins(self, init: int) -> None:
        self.last = None

    def iteration_ends(self, iteration: Iteration) -> bool:
        self.last = iteration
        if self._course is not None:
            self.now(self._course._replace(standing=iteration.standing))
        return False

    def run_ends(self, init: int, iteration: Iteration | None, seconds: float) -> None:
        pass


def fit_best_of(
    source: RowSource,
    settings: Settings,
    rng: np.random.RandomState,
    warm: Standing | None = None,
    observers: Sequence[Observer] = (),
    *,
    course: Course | None = None,
    note: Callable[[Course], None] | None = None,
) -> Outcome:
    """Run EM ``n_init`` times and return the run with the largest bound.

    A run whose bound is not a number counts as failed: any other run is better.

    warm : where an earlier fit ended, for a single run to begin there.
    course : how far this fit had come before.
    note : told how far it has come: before and after a start is found, and by each iteration.
    """
    structure = settings.structure
    scatter = total_scatter(source) if structure.needs_scatter else None
    rule = settings.make_rule(source, scatter)
    loop = run_em
    if settings.n_groups > 1:
        loop = partial(run_incremental, n_groups=settings.n_groups)
    follower = _Follower(note)

    def draws() -> dict[str, Any]:  # which takes a while
        return {} if note is None else dict(rng.get_state(legacy=False))

    watchers: Sequence[Observer] = (follower, *observers) if observers or note else ()
    if course is None:
        course = Course(0, None, (), {}, warm)
    else:
        rng.set_state(course.draws)
    best, n_distinct, over = course.best, list(course.n_distinct), course.over
    n_runs = 1 if warm is not None else settings.n_init
    for run in range(course.run, max(course.run + 1, n_runs)):
        began = time.perf_counter()
        for watcher in watchers:
            watcher.run_begins(run)
        standing = course.standing if run == course.run else None
        if standing is None:
            follower.now(Course(run, best, n_distinct, draws()))
            params, distinct = starting_params(source, settings, rule, rng)
            n_distinct = [*n_distinct, distinct]
            standing = Standing(params)
        follower.now(Course(run, best, n_distinct, draws(), standing, over))
        result = loop(
            source,
            structure,
            rule,
            standing,
            tol=settings.tol,
            max_iter=len(standing.bounds) if over else settings.max_iter,
            scatter=scatter,
            run=run,
            observers=watchers,
        )
        for watcher in watchers:
            watcher.run_ends(run, follower.last, time.perf_counter() - began)
        if best is None or settings.max_iter == 0 or _better(result, best):
            best = result
        over |= any(getattr(watcher, "stopped", False) for watcher in watchers)
        if over:
            break
    assert best is not None
    if over or not (result.converged or result.n_iter >= settings.max_iter):
        follower.over()
    return Outcome(best, n_distinct, rule)


def _better(result: EMResult, best: EMResult) -> bool:
    if np.isnan(best.bound):
        return not np.isnan(result.bound)
    return result.bound > best.bound or best.bound == -np.inf


def starting_params(
    source: RowSource,
    settings: Settings,
    rule: UpdateRule,
    rng: np.random.RandomState,
) -> tuple[Params, int]:
    """Return the parameters one run starts from, and how many components hold a row."""
    known = rule.known_start()
    if known is not None:
        return known, settings.n_components
    rows = sample_rows(source, settings.init_size, settings.n_components, rng)
    initialise = INITIALISATIONS[settings.init_params]
    own = rule
    if rows is not source and rule.scatter is not None:
        own = rule.with_scatter(total_scatter(rows))
    start = initialise(rows, settings.n_components, own, rng)
    return rule.start(start.moments, start.weight), start.n_distinct
