"""What a fitted outlier detector answers: scores, labels, explanations, and live data."""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from ._explanation import Explanation
from ._opening import RowsLike
from ._outlier_rules import OF_MIXTURE, Rule, own_component, p_value
from ._passes import MapPass
from ._scorer import Scorer
from .bayesian import BayesianGaussianMixture
from .mixture import GaussianMixture

Mixture: TypeAlias = GaussianMixture | BayesianGaussianMixture


class Detection(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """All that needs a fitted mixture, a rule and a threshold alone."""

    rule: Literal["mixture", "component"]
    false_alarm: float | None
    mixture_: Mixture
    offset_: float
    n_features_in_: int

    def score_samples(self, X: RowsLike) -> NDArray[Any]:
        """Compute the score of each row; the lower, the more abnormal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Log-densities of the mixture, or of the row's own component (``rule='component'``);
            with ``false_alarm``, natural logarithms of p-values.
        """
        check_is_fitted(self)
        return self._scores(self.mixture_, X)

    def decision_function(self, X: RowsLike) -> NDArray[Any]:
        """Compute how far the score of each row lies above the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: RowsLike) -> NDArray[np.int64]:
        """Tell outliers from normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            -1 for outliers, 1 for the others.
        """
        return self._labels(self.score_samples(X))

    def explain(self, X: ArrayLike) -> Explanation:
        """Tell by which features rows are far from the component they most probably belong to.

        Parameters
        ----------
        X : array-like of shape (n_features,) or (n_samples, n_features)
            One row, or several.

        Returns
        -------
        explanation : Explanation
            For each row its component, its Mahalanobis distance from there and what each feature
            contributes, as arrays and as a table to print.

        Notes
        -----
        The contribution of feature j is ``z_j (P z)_j``, where z is the row less the component's
        mean and P the component's precision matrix: the "partial decomposition contribution" of
        [1]_. Contributions add up to the squared distance. With correlated features some may be
        negative: there the feature makes the row less surprising than the others alone would.

        References
        ----------
        .. [1] C. F. Alcala and S. J. Qin, "Analysis and generalization of fault diagnosis methods
           for process monitoring", Journal of Process Control 21(3), 2011.
        """
        rows: Any = X if hasattr(X, "columns") else np.asarray(X)
        if rows.ndim == 1:
            rows = rows[None]
        decision = np.asarray(self.decision_function(rows), dtype=np.float64)
        mixture = self.mixture_
        component = mixture.predict(rows)
        centred = np.asarray(rows, dtype=np.float64) - mixture.means_[component]
        factors = mixture._structure.full(mixture.precisions_cholesky_, *mixture.means_.shape)
        contributions = np.empty_like(centred)
        for k in np.unique(component):
            own, factor = component == k, np.asarray(factors[k], dtype=np.float64)
            contributions[own] = centred[own] * (centred[own] @ factor @ factor.T)
        squares = np.maximum(contributions.sum(axis=1), 0.0)
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(self.n_features_in_)])
        return Explanation(decision, component, np.sqrt(squares), contributions, tuple(names))

    def scorer(self) -> Scorer:
        """Return the decision function for live data: no validation, no threads, no blocks.

        Returns
        -------
        scorer : Scorer
            A callable: a row (n_features,) to a float, or a micro-batch (n_samples, n_features)
            to an array (n_samples,), in float64; negative: outlier. A row with NaN raises
            ValueError.

        Notes
        -----
        The first call compiles or loads a kernel, unless ``fit`` has run in this process.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgmm import GaussianMixtureOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(500, 2))
        >>> score = GaussianMixtureOutlierDetector(contamination=0.01).fit(X).scorer()
        >>> [row for row in ([0.0, 1.0], [9.0, 0.0]) if score(row) < 0.0]
        [[9.0, 0.0]]
        """
        check_is_fitted(self)
        what, function = self._rule(self.mixture_)
        task = MapPass(self.mixture_._kernel_params(), what, np.dtype(np.float64), function)
        return Scorer(task, self.offset_)

    def _scores(self, mixture: Mixture, X: Any, sample_weight: Any = None) -> NDArray[Any]:
        what, function = self._rule(mixture)
        params = mixture._kernel_params()
        return mixture._map(X, what, params, function, sample_weight=sample_weight)

    def _labels(self, scores: NDArray[Any]) -> NDArray[np.int64]:
        return np.where(scores - self.offset_ < 0.0, np.int64(-1), np.int64(1))

    def _rule(self, mixture: Mixture) -> Rule:
        if self.rule == "mixture":
            return OF_MIXTURE
        if self.false_alarm is not None:
            return p_value(mixture._kernel_params().constants, mixture.n_features_in_)
        return own_component(mixture._log_weights())
