"""What makes a row an outlier: scores as functions of what the row maps give, and a threshold."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._chi_square import log_survival
from ._passes import COMPONENT_LOG_DENSITIES, LOG_DENSITY

Array = NDArray[np.float64]


class Rule(NamedTuple):
    """A score: what the kernels compute of a block, and what one number a row is made of that."""

    what: int
    function: Callable[[Array], Array] | None


class _OwnComponent:
    """Scores of rows within the components they most probably belong to.

    From joint log-densities ``log w_k N_k(x)`` (n, K) it takes the largest of each row, less that
    component's ``shift``: the log-weight leaves the density of the component; all constants leave
    -distance²/2, of which with ``degrees`` of freedom a log p-value is made.
    """

    def __init__(self, shifts: Array, degrees: int | None) -> None:
        # a component without weight is nobody's own; -inf less -inf would be NaN
        self.shifts = np.where(shifts > -np.inf, shifts, 0.0)
        self.degrees = degrees

    def __call__(self, joint: Array) -> Array:
        own = joint.argmax(axis=1)
        # ``take`` of flat numbers costs a single row half of what an index of two arrays does
        places = own if len(own) == 1 else own + joint.shape[1] * np.arange(len(own))
        scores: Array = joint.reshape(-1).take(places) - self.shifts.take(own)
        return scores if self.degrees is None else log_survival(-2.0 * scores, self.degrees)


OF_MIXTURE = Rule(LOG_DENSITY, None)


def own_component(log_weights: Array) -> Rule:
    """Return the score that is the log-density within a row's own component."""
    return Rule(COMPONENT_LOG_DENSITIES, _OwnComponent(log_weights, None))


def p_value(constants: Array, degrees: int) -> Rule:
    """Return the score that is the log p-value of the distance from a row's own component.

    constants : (K,) log-weights and normalisers: all of a joint log-density but the distance.
    """
    return Rule(COMPONENT_LOG_DENSITIES, _OwnComponent(constants, degrees))


def largest_with_share_below(
    scores: NDArray[np.floating], weights: Array | None, share: float
) -> float:
    """Return the largest score below which at most this share of the weight lies."""
    order = np.argsort(scores)
    below = np.cumsum(np.ones(len(scores)) if weights is None else weights[order])
    # 0.1 + 0.2 > 0.3: rounding of the share, or of sums, must not cost a row
    allowed = share * below[-1] * (1.0 + 1e-12)
    return float(scores[order[np.searchsorted(below, allowed, side="right")]])
