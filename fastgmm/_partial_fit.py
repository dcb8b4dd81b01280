"""``partial_fit``: a mixture estimator that takes in one batch of rows after the other."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from ._base import BaseMixture
from ._initialise import total_weight
from ._multistart import fit_best_of
from ._opening import RowsLike, open_source
from ._sources import ArraySource, RowSource, UnfitRow, scratch_array
from ._stepwise import Step, enough_rows, take_step
from ._structures import IllDefinedCovariance
from ._threads import Workers
from ._validation import ill_defined_message, largest_fittable, params_of, unfit_message

Array = NDArray[np.float64]

# The steps of a whole stream add up to a few EM iterations: a start halfway up would stay there.
_FIRST_TOL = 0.1


def _takes_batches(estimator: Any) -> bool:
    """Whether an estimator's statistics may fade, or raise AttributeError."""
    if estimator.prior is not None:
        raise AttributeError(
            f"partial_fit is maximum likelihood, but prior={estimator.prior!r}: a prior counts "
            "rows, and those of earlier batches fade. Set prior=None, or fit a sample of the rows."
        )
    return True


class PartialFit(BaseMixture):
    """Stepwise EM for estimators of maximum likelihood."""

    reg_covar: float
    prior: str | None
    step_power: float
    step_offset: float
    n_samples_seen_: float
    n_batches_seen_: int
    first_rows_: NDArray[Any]
    first_weights_: Array

    @available_if(_takes_batches)  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: RowsLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Take in one batch of rows, by a step of stepwise EM.

        For rows that come in a stream, or that are to be read only once: each call makes one
        E-step over its rows and moves the statistics of all rows by
        ``s <- (1 - step) s + step s_batch``, with ``step = (t + step_offset) ** -step_power`` and
        t the number of this batch among batches of its size, ``1 + seen / batch``. The result is
        an approximation of what ``fit`` finds, and depends on the order of the rows; they should
        come shuffled. Whatever goes wrong, the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of such rows
            The rows of the batch, in anything that ``fit`` takes; in the first one at least
            ``n_components``. All of a source is one batch, and one step: for a step after each of
            its batches, call ``partial_fit`` with one at a time.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How often each row counts, as in ``fit``.

        Returns
        -------
        self : GaussianMixture
            The estimator, fitted to the rows so far.

        Raises
        ------
        ValueError
            If X or the weights hold NaN, infinities or the wrong shape; if the first batch has
            fewer rows than components; if ``n_components``, ``covariance_type`` or the number of
            features is not that of the rows before; if a covariance is not positive definite.
        AttributeError
            If the estimator has a ``prior``.

        Notes
        -----
        *The first rows.* The first batch is fitted as ``fit`` would (start, ``max_iter`` and
        ``n_init`` included), but to a tenth of ``tol``: later steps are few. While fewer rows have
        come than ten times those that determine all components (10 K (d + 1) for full covariances,
        20 K for 'tied', 'diag' and 'spherical'), they are kept in ``first_rows_`` and fitted anew
        with each batch, in which the order of the components may change. A step from fewer rows
        would be wild. No later batch makes up for a bad start: ``n_init=10`` costs no more than ten
        fits of the first batch, which should be no small one.

        *Small batches.* Later batches with fewer rows than that take a smaller step: m batches of
        1/m of that size fade older rows as much as one batch of it.

        *After a fit.* ``partial_fit`` goes on from what ``fit`` found, whose rows count as seen;
        from parameters out of ``from_parameters`` as if no row had been seen. ``fit`` starts anew.

        A component that gets no rows keeps its mean and covariance, and its weight fades. Neither
        callbacks nor ``verbose`` hear of batches, and no warnings are given about the fit.
        ``lower_bound_`` is the mean log-likelihood of the last batch before its step: an honest
        estimate for new rows, whose course tells how the stream is going.

        References
        ----------
        .. [1] O. Cappé and E. Moulines, "On-line expectation-maximization algorithm for latent
           data models", J. R. Statist. Soc. B 71(3), 2009.
        .. [2] P. Liang and D. Klein, "Online EM for unsupervised models", NAACL, 2009.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgmm import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> model = GaussianMixture(2, random_state=0)
        >>> for _ in range(20):
        ...     labels = rng.random(500) < 0.3
        ...     batch = rng.normal(size=(500, 1)) + 6.0 * labels[:, None]
        ...     model = model.partial_fit(batch)
        >>> int(model.n_samples_seen_)
        10000
        >>> np.sort(model.means_.ravel()).round().astype(int)
        array([0, 6])
        """
        return self._as_a_whole(type(self)._partial_fit, X, sample_weight)

    def _partial_fit(self, X: Any, sample_weight: Any) -> dict[str, Any]:
        """Return the attributes after a batch."""
        goes_on = hasattr(self, "means_")
        if goes_on:
            self._check_same_model()
        kept: dict[str, Any] = {}
        with Workers(self.n_threads) as workers:
            source = open_source(self, X, workers, sample_weight, reset=not goes_on, to_fit=True)
            dtype = np.result_type(source.dtype, self.means_.dtype) if goes_on else source.dtype
            try:
                if goes_on and not hasattr(self, "first_rows_"):
                    step = self._next_step(source)
                else:
                    step, kept = self._first_step(source, workers)
                source.check_finite()
            except UnfitRow as error:
                raise ValueError(unfit_message(error, self)) from None
            except IllDefinedCovariance:
                raise ValueError(ill_defined_message(source.dtype)) from None
        n_batches = getattr(self, "n_batches_seen_", 0) + 1
        bound = dtype.type(step.bound)
        return {
            **self._attributes_in(dtype)(step.params),
            **kept,
            "converged_": False,
            "n_iter_": n_batches,
            "lower_bound_": bound,
            "lower_bounds_": [bound],
            "n_samples_seen_": getattr(self, "n_samples_seen_", 0) + total_weight(source),
            "n_batches_seen_": n_batches,
        }

    def _first_step(self, source: RowSource, workers: Workers) -> tuple[Step, dict[str, Any]]:
        """Return the fit to all rows so far, and the rows where they are too few to go on from."""
        if hasattr(self, "first_rows_"):
            source = self._with_first_rows(source, workers)
        if source.n_counted < self.n_components:
            raise ValueError(
                "The first batch of partial_fit needs a row for each component, but got "
                f"n_samples = {source.n_counted} rows of non-zero weight for n_components = "
                f"{self.n_components}. Pass a larger first batch."
            )
        d = source.n_features
        settings = self._settings(d)
        settings = replace(settings, tol=_FIRST_TOL * settings.tol)
        outcome = fit_best_of(source, settings, check_random_state(self.random_state))
        best = outcome.best
        step = Step(best.params, best.bound, total_weight(source))
        if source.n_counted >= enough_rows(self._structure, self.n_components, d):
            return step, {}
        held = source.gather()
        weights = np.ones(held.n_rows) if held.weights is None else np.array(held.weights)
        return step, {"first_rows_": np.array(held.rows), "first_weights_": weights}

    def _with_first_rows(self, source: RowSource, workers: Workers) -> ArraySource:
        """Return the rows kept so far and those of a batch behind them."""
        first = len(self.first_rows_)
        shape = (first + source.n_rows, source.n_features)
        rows = scratch_array(shape, np.result_type(self.first_rows_.dtype, source.dtype))
        weights = np.ones(len(rows))
        rows[:first], weights[:first] = self.first_rows_, self.first_weights_
        for block in source.blocks():
            rows[first:][block.where] = block.rows
            if block.weights.size:
                weights[first:][block.where] = block.weights
        weights.flags.writeable = False
        every = None if (weights == 1.0).all() else weights
        limit = largest_fittable(rows.dtype, len(rows))
        return ArraySource(rows, workers, every, limit)

    def _next_step(self, source: RowSource) -> Step:
        enough = enough_rows(self._structure, self.n_components, source.n_features)
        return take_step(
            source,
            self._structure,
            params_of(self),
            float(getattr(self, "n_samples_seen_", 0)),
            share=min(1.0, source.n_counted / enough),
            reg_covar=self.reg_covar,
            power=self.step_power,
            offset=self.step_offset,
        )

    def _check_same_model(self) -> None:
        shape = (self.n_components, self.means_.shape[1])
        if self.means_.shape != shape or self.covariances_.shape != self._structure.shape(*shape):
            raise ValueError(
                f"partial_fit cannot go on from means of shape {self.means_.shape} and covariances "
                f"of shape {self.covariances_.shape} to {shape[0]} components of "
                f"covariance_type={self.covariance_type!r}. Set the parameters back, or call fit "
                "to start anew."
            )
