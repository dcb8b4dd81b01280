"""Stepwise EM: one batch of rows after the other, each seen once.

Statistics are averages over the rows seen so far, in which old rows fade.  An M-step makes
parameters of statistics one to one (up to how a tied covariance is shared out among components,
which no later M-step asks for), so nothing but the parameters is kept between batches: their
statistics about their own means are the weights, zeros, and the covariances without ``reg_covar``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._em import gather
from ._pruning import EMPasses
from ._rules import MaximumLikelihood
from ._sources import RowSource
from ._stats import SufficientStats
from ._structures import CovarianceStructure, Params

Array = NDArray[np.float64]

# Rows that a component needs at least in a batch, in units of those that determine it.
_ROWS_PER_SUPPORT = 10
# A component without any mass stays where it is: its statistics count this little.
_NEXT_TO_NOTHING = 1e-100


class Step(NamedTuple):
    """What one batch led to."""

    params: Params
    bound: float  # mean log-likelihood of the batch's rows before the step
    weight: float  # of the batch's rows


def enough_rows(structure: CovarianceStructure, n_components: int, n_features: int) -> int:
    """Return the rows that a step of full size, or a start, is made from at least."""
    return _ROWS_PER_SUPPORT * n_components * structure.min_support(n_features)


def step_size(seen: float, weight: float, share: float, power: float, offset: float) -> float:
    """Return how much the rows of a batch count, relative to all rows.

    seen, weight : total weights of the rows before this batch and in it.
    share : of a batch with enough rows that this one is, at most 1.

    A batch is number ``t = 1 + seen / weight`` among batches of its size.  Rows in batches with too
    few rows fade those before them as fast as in a batch of enough rows.
    """
    t = 1.0 + seen * share / weight
    return float(1.0 - (1.0 - (t + offset) ** -power) ** share)


def stats_of(structure: CovarianceStructure, params: Params, reg: float) -> SufficientStats:
    """Return the statistics of total weight 1 whose M-step makes these parameters."""
    k, d = params.means.shape
    mass = np.maximum(params.weights, _NEXT_TO_NOTHING)
    second = structure.second_moments(params.covariances, mass, reg, d)
    return SufficientStats(0.0, 1.0, mass, np.zeros((k, d)), second, params.means)


def blend(old: SufficientStats, new: SufficientStats, step: float) -> SufficientStats:
    """Return averages in which the new statistics count ``step`` of 1."""
    kept = max(1.0 - step, _NEXT_TO_NOTHING)
    fresh = new.rebase(old.reference).scale(step / new.weight)
    return old.scale(kept / old.weight) + fresh


def take_step(
    source: RowSource,
    structure: CovarianceStructure,
    params: Params,
    seen: float,
    *,
    share: float,
    reg_covar: float,
    power: float,
    offset: float,
) -> Step:
    """Take a batch in.

    References
    ----------
    .. [1] O. Cappé and E. Moulines, "On-line expectation-maximization algorithm for latent data
       models", J. R. Statist. Soc. B 71(3), 2009.
    .. [2] P. Liang and D. Klein, "Online EM for unsupervised models", NAACL, 2009.
    """
    parts = structure.by_parts()
    # Without a guard: it would draw components that lost all mass to the origin.
    rule = MaximumLikelihood(parts, reg_covar, None, mean_weight=0.0)
    found = gather(source, rule, params, EMPasses(source.n_rows, prune=False))
    step = step_size(seen, found.weight, share, power, offset)
    stats = blend(stats_of(parts, params, reg_covar), found, step)
    return Step(rule.update(stats), found.log_likelihood / found.weight, found.weight)
