"""Choosing the number of components and the covariance type by an information criterion."""

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state

from ._initialise import shared_clusterings
from ._opening import RowsLike, rows_for_fits
from ._threads import Workers, available_threads
from ._verbose import write_line
from ._warnings import Warned, collected_warnings, warn
from .mixture import GaussianMixture

__all__ = ["Candidate", "ModelSelection", "select_model"]

CovarianceType = Literal["full", "tied", "diag", "spherical"]
Criterion = Literal["bic", "aic", "icl"]
CRITERIA = ("bic", "aic", "icl")

# With so many numbers in the data, fits share out the threads. With fewer they would wait for one
# another in Python; with more, each pass has work for all threads, and memory is that of one fit.
_SIDE_BY_SIDE = range(1 << 14, 1 << 22)


class Candidate(NamedTuple):
    """One row of the table: a model that was tried.

    Attributes
    ----------
    covariance_type : str
        The covariance type.
    n_components : int
        The number of components.
    n_parameters : int or None
        The number of free parameters; None if the fit failed.
    log_likelihood : float
        Sum over the rows of their log-densities; NaN if the fit failed, like the criteria.
    aic, bic, icl : float
        The criteria; the lower the better.
    converged : bool
        Whether EM converged.
    n_iter : int
        The number of EM iterations of the best run.
    seconds : float
        Wall time of fit and criteria.
    error : str or None
        Why the fit failed.
    warnings : tuple of str
        What the fit warned of.
    """

    covariance_type: str
    n_components: int
    n_parameters: int | None = None
    log_likelihood: float = math.nan
    aic: float = math.nan
    bic: float = math.nan
    icl: float = math.nan
    converged: bool = False
    n_iter: int = 0
    seconds: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class ModelSelection:
    """What `select_model` found.

    Attributes
    ----------
    best : GaussianMixture
        The fitted model with the smallest criterion.
    table : tuple of Candidate
        One row for each candidate: covariance type by covariance type, in the order given.
    criterion : {'bic', 'aic', 'icl'}
        What was minimised.
    best_index : int
        The row of the table that ``best`` is.
    random_state : int
        The seed of every fit: ``GaussianMixture(row.n_components,
        covariance_type=row.covariance_type, random_state=random_state, ...)`` repeats a row.
    """

    best: GaussianMixture
    table: tuple[Candidate, ...]
    criterion: Criterion
    best_index: int
    random_state: int

    @property
    def best_row(self) -> Candidate:
        """The row of the table that ``best`` is."""
        return self.table[self.best_index]

    def __repr__(self) -> str:
        failed = sum(row.error is not None for row in self.table)
        return (
            f"<ModelSelection by {self.criterion}: {self.best_row.covariance_type}, "
            f"{self.best_row.n_components} components; {len(self.table)} candidates, "
            f"{failed} failed>"
        )

    def to_frame(self) -> Any:
        """Return the table as a pandas data frame.

        Returns
        -------
        pandas.DataFrame
            One row for each candidate; the columns are the fields of `Candidate`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "ModelSelection.to_frame needs pandas, which is not installed (pip install "
                "pandas); ModelSelection.table does without."
            ) from error
        return pd.DataFrame(self.table, columns=Candidate._fields)

    def plot(self, ax: Any = None) -> Any:
        """Draw the criterion against the number of components, a line for each covariance type.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to; None: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            Where it was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from . import plot

        return plot.selection(self, ax=ax)


def select_model(
    X: RowsLike,
    n_components: int | Iterable[int] = range(1, 11),
    covariance_types: CovarianceType | Sequence[CovarianceType] = (
        "full",
        "tied",
        "diag",
        "spherical",
    ),
    criterion: Criterion = "bic",
    *,
    sample_weight: ArrayLike | None = None,
    n_init: int = 1,
    random_state: int | np.random.RandomState | None = None,
    n_threads: int | None = None,
    verbose: int = 0,
    **params: Any,
) -> ModelSelection:
    """Fit mixtures of several sizes and covariance types and choose one by a criterion.

    A candidate that cannot be fitted is a row of the table with its reason, and the search goes
    on. All candidates start from the same seed, and those with the same number of components
    from the same clusters, so that a row does not depend on the others.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or a source of such rows
        The rows: anything that ``GaussianMixture.fit`` takes. They are never copied: arrays,
        memory-mapped ones too, are read block by block; other sources of more than 64 MB are read
        again for each candidate.
    n_components : int or iterable of int, default=range(1, 11)
        The numbers of components to try.
    covariance_types : str or sequence of str, default=('full', 'tied', 'diag', 'spherical')
        The covariance types to try.
    criterion : {'bic', 'aic', 'icl'}, default='bic'
        What to minimise:

        - 'bic': finds the number of components as rows become many, for the density,
        - 'aic': prefers larger models, for prediction of new rows,
        - 'icl': prefers components that do not overlap, for clustering.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How often each row counts, as in ``GaussianMixture.fit``.
    n_init : int, default=1
        The number of starts of each candidate, of which the best is kept.
    random_state : int, RandomState instance or None, default=None
        Seed of every fit; None, or a RandomState, draws one (see ``ModelSelection``).
    n_threads : int or None, default=None
        The number of threads; None: the cores this process may use. Candidates for data of 2**14
        to 2**22 numbers in memory are fitted side by side, one thread each; all others one after
        another, each on all threads. The result does not depend on it, to the last bit.
    verbose : int, default=0
        1 prints a line for each candidate.
    **params
        Further parameters of ``GaussianMixture``, such as ``tol``, ``reg_covar`` and ``prior``:
        with that, no candidate fails because a component collapses.

    Returns
    -------
    selection : ModelSelection
        The best model, fitted, and a table of all candidates. Of two equal ones the first in
        the table is best.

    Raises
    ------
    ValueError
        If the input is bad, or no candidate could be fitted.

    Warns
    -----
    ConvergenceWarning, FitWarning
        What the fit of the best model warned of; the table holds the warnings of all.

    See Also
    --------
    GaussianMixture.information_criteria : The criteria of one model.
    BayesianGaussianMixture : Needs no search, only the most components there can be; it has no
        criteria.

    Notes
    -----
    Memory beyond the data is that of one fit, or of as many small ones as there are threads:
    only the best model is kept. To choose by the likelihood of held-out rows instead, give
    ``GaussianMixture`` to scikit-learn's ``GridSearchCV``.

    References
    ----------
    .. [1] C. Fraley and A. Raftery, "Model-based clustering, discriminant analysis, and density
       estimation", J. Amer. Statist. Assoc. 97(458), 2002.
    .. [2] G. McLachlan and D. Peel, "Finite Mixture Models", Wiley, 2000, chapter 6.

    Examples
    --------
    >>> from fastgmm import select_model
    >>> from fastgmm.data import load_faithful
    >>> selection = select_model(load_faithful(), range(1, 5), random_state=0, tol=1e-6)
    >>> selection.best
    GaussianMixture(covariance_type='tied', n_components=3, random_state=0, tol=1e-06)
    >>> round(selection.best_row.bic, 1)
    2314.3
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r} should be one of {', '.join(CRITERIA)}.")
    sizes = list(n_components) if isinstance(n_components, Iterable) else [n_components]
    given: Any = covariance_types
    types: list[Any] = [given]
    if isinstance(given, Iterable) and not isinstance(given, str):
        types = list(given)
    if "covariance_type" in params:
        raise TypeError("Give covariance_types, of one type or of several, not covariance_type.")
    if not sizes or not types:
        raise ValueError("n_components and covariance_types should hold one value at least.")
    seed = _seed(random_state)
    params = {**params, "n_init": n_init, "random_state": seed, "n_threads": n_threads}
    models = [GaussianMixture(k, covariance_type=t, **params) for t in types for k in sizes]
    for model in models:
        model._validate_params()
    rows, weights = rows_for_fits(models[0], X, sample_weight)

    threads = available_threads() if n_threads is None else n_threads
    search = _Search(models, rows, weights, criterion, verbose)
    groups = search.groups()
    few = isinstance(rows, np.ndarray) and rows.size in _SIDE_BY_SIDE
    side_by_side = min(threads, len(groups)) if few else 1
    search.threads = 1 if side_by_side > 1 else threads
    with Workers(side_by_side) as workers:
        workers.run(len(groups), lambda: lambda number: search.fit_group(groups[number]))

    table = search.table()
    best, index = search.best, search.best_index
    if best is None:
        raise ValueError(
            f"None of the {len(table)} candidates could be fitted. The first, "
            f"{_name(table[0])}: {table[0].error}"
        )
    best.n_threads = n_threads
    names = getattr(models[0], "feature_names_in_", None)
    if names is not None:
        best.feature_names_in_ = names
    for text, category in search.best_warned:
        warn(f"The best model, {_name(table[index])}: {text}", category)
    return ModelSelection(best, table, criterion, index, seed)


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _name(row: Candidate) -> str:
    return f"{row.covariance_type} with {row.n_components} component{'s' * (row.n_components > 1)}"


class _Search:
    """Fits candidates, notes a row for each and keeps the best; may be called by many threads."""

    def __init__(
        self,
        models: list[GaussianMixture],
        rows: Any,
        weights: Any,
        criterion: Criterion,
        verbose: int,
    ) -> None:
        self.threads = 1
        self.best: GaussianMixture | None = None
        self.best_index = -1
        self.best_warned: Warned = []
        self._models = models  # never fitted themselves
        self._rows, self._weights = rows, weights
        self._criterion, self._verbose = criterion, verbose
        self._found: dict[int, Candidate] = {}
        self._lowest = math.inf
        self._lock = threading.Lock()

    def groups(self) -> list[list[int]]:
        """Return the candidates' numbers by size, the largest first: it takes longest."""
        by_size: dict[int, list[int]] = {}
        for number, model in enumerate(self._models):
            by_size.setdefault(model.n_components, []).append(number)
        return [by_size[k] for k in sorted(by_size, reverse=True)]

    def fit_group(self, numbers: list[int]) -> None:
        """Fit candidates that start from the same clusters."""
        with shared_clusterings():
            for number in numbers:
                self._fit(number)

    def table(self) -> tuple[Candidate, ...]:
        """Return the rows in the order of the candidates."""
        return tuple(self._found[number] for number in range(len(self._models)))

    def _fit(self, number: int) -> None:
        model = clone(self._models[number]).set_params(n_threads=self.threads)
        row = Candidate(model.covariance_type, model.n_components)
        began = time.perf_counter()
        with collected_warnings() as warned:
            try:
                model.fit(self._rows, sample_weight=self._weights)
                criteria = model.information_criteria(self._rows, self._weights)
                row = row._replace(
                    **criteria._asdict(), converged=model.converged_, n_iter=model.n_iter_
                )
                if not math.isfinite(criteria.log_likelihood):
                    row = row._replace(error="The log-likelihood is not finite.")
            except (ValueError, ArithmeticError, MemoryError) as error:
                row = row._replace(error=str(error) or type(error).__name__)
        texts = tuple(text for text, _ in warned)
        row = row._replace(seconds=time.perf_counter() - began, warnings=texts)
        with self._lock:
            self._found[number] = row
            value = getattr(row, self._criterion)
            # the first of equal ones, whichever thread was faster
            better = value < self._lowest or (value == self._lowest and number < self.best_index)
            if row.error is None and better:
                self._lowest, self.best, self.best_index = value, model, number
                self.best_warned = warned
            if self._verbose:
                done = f"[{len(self._found)}/{len(self._models)}]"
                write_line(f"{done} {_name(row)}: {self._outcome(row)}, {row.seconds:.2f} s")

    def _outcome(self, row: Candidate) -> str:
        if row.error is not None:
            return f"failed ({' '.join(row.error.split())})"
        state = "" if row.converged else ", not converged"
        value = f"{self._criterion.upper()} {getattr(row, self._criterion):.6g}"
        return f"{value}{state}, {row.n_iter} iterations"
