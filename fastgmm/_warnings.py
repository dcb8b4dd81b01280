"""What a fit says about itself without being asked."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from ._em import EMResult
from ._rules import UpdateRule
from ._sources import RowSource

Array = NDArray[np.float64]

# EM does not decrease the likelihood; what rounding does is far below this (relative).
_REAL_DECREASE = 1e-6
_OWN_FRAMES = ("fastgmm", "sklearn")


Warned = list[tuple[str, type[Warning]]]  # texts and categories
_collecting: ContextVar[Warned | None] = ContextVar("collecting", default=None)


class FitWarning(UserWarning):
    """A fit ended with a result that deserves a second look."""


@contextmanager
def collected_warnings() -> Iterator[Warned]:
    """Collect this thread's warnings of this package; filters belong to all threads at once."""
    collected: Warned = []
    token = _collecting.set(collected)
    try:
        yield collected
    finally:
        _collecting.reset(token)


def warn(text: str, category: type[Warning]) -> None:
    """Warn in the name of the code that called this package, through scikit-learn or not."""
    collected = _collecting.get()
    if collected is not None:
        collected.append((text, category))
        return
    level, frame = 1, sys._getframe(0)
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in _OWN_FRAMES:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def diagnose(source: RowSource, rule: UpdateRule, result: EMResult) -> Iterator[str]:
    """Yield one text for each kind of trouble in a finished fit."""
    if result.mass is None:
        return
    structure, reg_covar = rule.structure, rule.reg_covar
    k, d = result.params.means.shape
    support = result.mass / source.mean_weight
    needed = structure.min_support(d)
    poor = np.flatnonzero(support < needed - 1e-6)
    if poor.size and not rule.prunes:
        yield (
            f"{_named('Component', poor)} ended nearly empty: fewer than {needed} rows support "
            f"{'each of them' if poor.size > 1 else 'it'}. Try fewer components, another "
            "random_state or n_init > 1, and look for outliers."
        )
    constant = _constant_columns(source)
    if constant.size:
        yield (
            f"{_named('Column', constant)} {'are' if constant.size > 1 else 'is'} constant: only "
            f"reg_covar keeps the variance there from being zero, and the {rule.bound_name} "
            "depends on it. Drop such columns."
        )
    if reg_covar > 0.0:
        smallest = _smallest_variances(structure.full(result.params.covariances, k, d), constant)
        held = np.setdiff1d(np.flatnonzero(smallest < 2.0 * reg_covar), poor)
        if held.size:
            yield (
                f"{_named('Component', held)} held up by reg_covar={reg_covar:g} alone: the "
                "variance of the data in some direction is smaller than it. Scale the data, lower "
                "reg_covar, or use fewer components."
            )
    bounds = np.asarray(result.bounds)
    drops = bounds[:-1] - bounds[1:]
    if (drops > _REAL_DECREASE * (1.0 + np.abs(bounds[1:]))).any():
        yield (
            f"The {rule.bound_name} decreased during the fit, by up to {drops.max():.3g}: "
            "reg_covar or nearly singular covariances work against it. Scale the data, or use "
            "fewer components."
        )


def _constant_columns(source: RowSource) -> NDArray[np.intp]:
    """Return the columns with one value in all rows that count; stops as soon as none is left."""
    columns: NDArray[np.intp] = np.arange(source.n_features)
    reference = None
    for block in source.blocks():
        rows = block.rows if not block.weights.size else block.rows[block.weights > 0.0]
        if not len(rows):
            continue
        if reference is None:
            reference = rows[0]
        columns = columns[(rows[:, columns] == reference[columns]).all(axis=0)]
        if not columns.size:
            break
    return columns


def _smallest_variances(covariances: Array, constant: NDArray[np.intp]) -> Array:
    """Return each component's smallest variance in any direction but the constant columns."""
    free = np.setdiff1d(np.arange(covariances.shape[-1]), constant)
    if not free.size or not np.isfinite(covariances).all():
        return np.full(len(covariances), np.inf)
    return np.asarray(np.linalg.eigvalsh(covariances[:, free[:, None], free])[:, 0], np.float64)


def _named(what: str, which: NDArray[np.intp]) -> str:
    """Return what they are and their numbers; of many, the first ones."""
    numbers = ", ".join(map(str, which[:10])) + (", ..." if which.size > 10 else "")
    return f"{what}{'s' if which.size > 1 else ''} {numbers}"
