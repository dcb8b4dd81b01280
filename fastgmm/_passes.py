"""What is done with one block of rows in a pass: the only users of the kernels' entry points.

A pass is a small picklable object.  ``size`` is the length of the flat statistics it gathers, and
``worker()`` returns a function of one block with scratch of its own, one for each thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._kernels import em_pass, lloyd
from ._kernels.em_pass import COMPONENT_LOG_DENSITIES, LABEL, LOG_DENSITY, PROBABILITIES
from ._kernels.kinds import KernelParams, moments_params, second_size
from ._kernels.lloyd import Centres
from ._stats import flat_size

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

__all__ = [
    "COMPONENT_LOG_DENSITIES",
    "LABEL",
    "LOG_DENSITY",
    "PROBABILITIES",
    "AssignPass",
    "Block",
    "EMPass",
    "LabelledPass",
    "MapPass",
    "MomentsPass",
    "OwnDistancePass",
    "ReducePass",
    "RowMap",
    "ScorePass",
    "SeedPass",
]

NO_WEIGHTS: Array = np.empty(0)
NO_WEIGHTS.flags.writeable = False
NO_LABELS: Labels = np.empty(0, np.int32)
_NO_OUT = np.empty((0, 1))
_NO_LONG_LABELS = np.empty(0, np.int64)


class Block(NamedTuple):
    """Consecutive rows: C-contiguous, read-only, float32 or float64, all finite."""

    rows: NDArray[Any]  # (n, d)
    weights: Array  # (n,), or (0,) when every row counts once
    start: int  # number of the first row
    number: int  # of the block

    @property
    def where(self) -> slice:
        """Return the rows' place among all rows."""
        return slice(self.start, self.start + self.rows.shape[0])


BlockReducer = Callable[[Block, Array], None]


class ReducePass(Protocol):
    """A pass whose result is a sum over blocks."""

    size: int

    def worker(self) -> BlockReducer:
        """Return a function that adds a block to flat statistics."""


class RowMap(Protocol):
    """A pass whose result is one row of numbers for each row."""

    dtype: np.dtype[Any]
    columns: tuple[int, ...]  # (), or (K,)

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        """Return a function that writes a block's results."""


class EMPass:
    """The fused E and M step: log-likelihood, mass, first and second moments."""

    def __init__(self, params: KernelParams) -> None:
        self.params = params
        n_components, d = params.means.shape
        self.size = flat_size(n_components, d, second_size(params))

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))

        def run(block: Block, statistics: Array) -> None:
            em_pass.em_block(block.rows, self.params, block.weights, scratch, statistics)

        return run


class LabelledPass:
    """Moments about centres, where each row belongs to one component (``labels``), or to 0."""

    def __init__(self, centres: Array, labels: Labels, n_second: int) -> None:
        self.centres = Centres(centres)
        self.labels = labels
        n_components, d = centres.shape
        self.size = flat_size(n_components, d, n_second)

    def worker(self) -> BlockReducer:
        def run(block: Block, statistics: Array) -> None:
            labels = self.labels[block.where]
            lloyd.labelled_block(block.rows, self.centres, block.weights, labels, statistics)

        return run


class MomentsPass:
    """Moments about a reference, for responsibilities (n, K) that a function gives by block."""

    def __init__(
        self, reference: Array, n_second: int, responsibilities: Callable[[Block], Array]
    ) -> None:
        self.params = moments_params(reference, n_second)
        self.responsibilities = responsibilities
        n_components, d = reference.shape
        self.size = flat_size(n_components, d, n_second)

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))

        def run(block: Block, statistics: Array) -> None:
            given = self.responsibilities(block).view()
            given.flags.writeable = False
            em_pass.moments_block(block.rows, self.params, given, scratch, statistics)

        return run


class SeedPass:
    """Sums of square distances to the nearest seed, if each candidate became the next seed.

    With ``block_sums`` (one number for each block) the only candidate becomes a seed: the
    distances in ``closest`` are updated, and each block's sum is noted.
    """

    def __init__(self, candidates: Array, closest: Array, block_sums: Array | None = None) -> None:
        self.candidates = Centres(candidates)
        self.closest = closest
        self.block_sums = block_sums
        self.size = len(candidates)

    def worker(self) -> BlockReducer:
        scratch = np.empty(lloyd.scratch_size(self.candidates.means.shape[1]))

        def run(block: Block, statistics: Array) -> None:
            closest = self.closest[block.where]
            update = self.block_sums is not None
            lloyd.seed_block(
                block.rows,
                self.candidates,
                block.weights,
                closest,
                update,
                scratch,
                statistics,
            )
            if self.block_sums is not None:
                self.block_sums[block.number] = statistics[0]

        return run


class AssignPass:
    """One Lloyd step: nearest centres and sums ``[changed, mass K, first K*d]``."""

    def __init__(self, centres: Array, labels: Labels) -> None:
        self.centres = Centres(centres)
        self.labels = labels
        k, d = centres.shape
        self.size = 1 + k * (1 + d)

    def worker(self) -> BlockReducer:
        scratch = np.empty(lloyd.scratch_size(self.centres.means.shape[1]))

        def run(block: Block, statistics: Array) -> None:
            labels = self.labels[block.where]
            lloyd.assign_block(block.rows, self.centres, block.weights, labels, scratch, statistics)

        return run


class ScorePass:
    """Weighted sums over rows of functions of what ``map_block`` gives, and the weight.

    Without functions: the sum of its only column.
    """

    def __init__(
        self, params: KernelParams, what: int, functions: Sequence[Callable[[Array], Array]] = ()
    ) -> None:
        self.params = params
        self.what = what
        self.functions = functions or (_only_column,)
        self.size = len(self.functions) + 1

    def worker(self) -> BlockReducer:
        scratch = np.empty(em_pass.scratch_size(self.params))
        columns = 1 if self.what == LOG_DENSITY else len(self.params.means)

        def run(block: Block, statistics: Array) -> None:
            out = np.empty((len(block.rows), columns))
            em_pass.map_block(block.rows, self.params, self.what, scratch, out, _NO_LONG_LABELS)
            counted = block.weights > 0.0  # 0 * -inf is NaN
            for place, function in enumerate(self.functions):
                values = function(out)
                if block.weights.size:
                    statistics[place] += (block.weights[counted] * values[counted]).sum()
                else:
                    statistics[place] += values.sum()
            statistics[-1] += block.weights.sum() if block.weights.size else len(out)

        return run


def _only_column(values: Array) -> Array:
    return values[:, 0]


class OwnDistancePass:
    """Square distances of rows to the centres of their own clusters."""

    dtype = np.dtype(np.float64)
    columns: tuple[int, ...] = ()

    def __init__(self, centres: Array, labels: Labels) -> None:
        self.centres = Centres(centres)
        self.labels = labels

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        def run(block: Block, out: NDArray[Any]) -> None:
            labels = self.labels[block.where]
            lloyd.square_distances_block(block.rows, self.centres, labels, out)

        return run


class MapPass:
    """Rows to log-densities, labels, probabilities or the components' log-densities."""

    def __init__(self, params: KernelParams, what: int, dtype: np.dtype[Any]) -> None:
        self.params = params
        self.what = what
        self.dtype = np.dtype(np.int64) if what == LABEL else dtype
        wide = what in (PROBABILITIES, COMPONENT_LOG_DENSITIES)
        self.columns: tuple[int, ...] = (len(params.means),) if wide else ()

    def worker(self) -> Callable[[Block, NDArray[Any]], None]:
        scratch = np.empty(em_pass.scratch_size(self.params))

        def run(block: Block, out: NDArray[Any]) -> None:
            if self.what == LABEL:
                em_pass.map_block(block.rows, self.params, LABEL, scratch, _NO_OUT, out)
                return
            wide = out.reshape(len(out), -1)
            target = wide if wide.dtype == np.float64 else np.empty(wide.shape)
            em_pass.map_block(block.rows, self.params, self.what, scratch, target, _NO_LONG_LABELS)
            if target is not wide:
                with np.errstate(over="ignore"):  # -inf is what such a log-density is in float32
                    wide[...] = target

        return run
