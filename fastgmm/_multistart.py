"""Several runs of EM from different starts, of which the best is kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ._em import EMResult, run_em
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


class Resume(NamedTuple):
    """Where an earlier fit ended, to go on from."""

    params: Params
    bound: float


class Outcome(NamedTuple):
    """The best run, and what there is to warn about in the starts."""

    best: EMResult
    n_distinct: list[int]  # of each start: components that hold a row
    rule: UpdateRule


class _LastIteration:
    """Observer that remembers the last iteration for the observers' ``run_ends``."""

    def __init__(self) -> None:
        self.value: Iteration | None = None

    def run_begins(self, init: int) -> None:
        self.value = None

    def iteration_ends(self, iteration: Iteration) -> bool:
        self.value = iteration
        return False

    def run_ends(self, init: int, iteration: Iteration | None, seconds: float) -> None:
        pass


def fit_best_of(
    source: RowSource,
    settings: Settings,
    rng: np.random.RandomState,
    resume: Resume | None,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Run EM ``n_init`` times and return the run with the largest bound.

    A run whose bound is not a number counts as failed: any other run is better.
    """
    structure = settings.structure
    scatter = total_scatter(source) if structure.needs_scatter else None
    rule = settings.make_rule(source, scatter)
    loop = run_em
    if settings.n_groups > 1:
        loop = partial(run_incremental, n_groups=settings.n_groups)
    last = _LastIteration()
    watchers: Sequence[Observer] = (last, *observers) if observers else ()
    best: EMResult | None = None
    n_distinct: list[int] = []
    for run in range(1 if resume is not None else settings.n_init):
        began = time.perf_counter()
        for watcher in watchers:
            watcher.run_begins(run)
        if resume is None:
            params, distinct = starting_params(source, settings, rule, rng)
            n_distinct.append(distinct)
            bound = -np.inf
        else:
            params, bound = resume
        result = loop(
            source,
            structure,
            rule,
            params,
            tol=settings.tol,
            max_iter=settings.max_iter,
            scatter=scatter,
            previous_bound=bound,
            run=run,
            observers=watchers,
        )
        for watcher in watchers:
            watcher.run_ends(run, last.value, time.perf_counter() - began)
        if best is None or settings.max_iter == 0 or _better(result, best):
            best = result
        if any(getattr(watcher, "stopped", False) for watcher in watchers):
            break
    assert best is not None
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
