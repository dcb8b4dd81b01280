"""Outlier detection by the density of a Gaussian mixture, for batches and for live data."""

import copy
import math
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._detection import Detection, Mixture
from ._explanation import Explanation
from ._opening import RowsLike, weights_of
from ._outlier_rules import largest_with_share_below
from ._scorer import Scorer
from .bayesian import BayesianGaussianMixture
from .mixture import GaussianMixture

__all__ = ["Explanation", "GaussianMixtureOutlierDetector", "Scorer"]

DEFAULT_CONTAMINATION = 0.1
THRESHOLDS = ("contamination", "log_density", "false_alarm")
_OF_MIXTURE = (
    "n_components", "covariance_type", "tol", "reg_covar", "max_iter", "n_init", "init_params",
    "random_state", "n_threads",
)  # fmt: skip


class GaussianMixtureOutlierDetector(Detection):
    """Outlier detection by the density of a Gaussian mixture.

    A mixture is fitted to the rows, and rows whose score lies below a threshold are outliers.
    The threshold is set in exactly one of three ways: ``contamination``, ``log_density`` or
    ``false_alarm``.

    Parameters
    ----------
    n_components : int, default=1
        The number of mixture components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        What the components' covariances have in common; see `GaussianMixture`.
    rule : {'mixture', 'component'}, default='mixture'
        What the score of a row is:

        - 'mixture': its log-density under the whole mixture. Small components make all their
          rows suspicious.
        - 'component': its log-density under the component that it most probably belongs to,
          without that component's weight. A row in the middle of a small component is normal.
    contamination : float in (0, 0.5], default=None
        The share of outliers in the training data: the threshold is this quantile of the training
        scores. None: 0.1, unless another way is chosen.
    log_density : float, default=None
        The threshold itself, as a natural logarithm.
    false_alarm : float in (0, 1), default=None
        The probability that a normal row is called an outlier. Needs ``rule='component'``; scores
        are then log p-values: of the squared Mahalanobis distance from the row's own component, by
        the chi-square law with n_features degrees of freedom.
    tol : float, default=1e-3
        EM stops when the mean log-likelihood of a row changes by less.
    reg_covar : float, default=1e-6
        Added to the diagonals of the covariances, in squared units of the data.
    max_iter : int, default=100
        The most EM iterations of a run.
    n_init : int, default=1
        The number of runs from different starts, of which the best is kept.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How a start is found; see `GaussianMixture`.
    random_state : int, RandomState instance or None, default=None
        Seed of the start; an int gives the same result at each call.
    n_threads : int or None, default=None
        The number of threads; see `GaussianMixture`. The result does not depend on it.

    Attributes
    ----------
    mixture_ : GaussianMixture or BayesianGaussianMixture
        The fitted mixture.
    offset_ : float
        The threshold: ``decision_function`` is ``score_samples`` less this.
    n_iter_ : int
        The number of EM iterations of the mixture.
    n_features_in_ : int
        The number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the features, if ``X`` had names that are all strings.

    See Also
    --------
    GaussianMixture : The model, for densities and clusters.

    Notes
    -----
    Rows are outliers if their score is *below* the threshold; a row exactly on it is normal.

    With ``contamination=c`` the threshold is ``-q``, where q is the (1 - c)-quantile, weighted by
    ``sample_weight``, of the negative training scores by the inverted distribution function [1]_.
    It is a training row's own score. The weight of the training rows below it is the largest that
    does not exceed the share c: without weights and ties, c n rounded down. Rows with equal scores
    are on the same side, so that with ties there may be fewer.

    The p-values of ``false_alarm`` are exact for a row from a mixture of one component with known
    parameters. Estimated ones add a little, the less the more rows there are per feature; where
    components overlap, rows change over to the more probable one, and the rate of false alarms
    is only roughly the promised one. Logarithms of p-values are right far beyond the smallest
    number that the p-value itself could be.

    References
    ----------
    .. [1] R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American
       Statistician 50(4), 1996, definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixtureOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> detector = GaussianMixtureOutlierDetector(rule="component", false_alarm=0.001).fit(X)
    >>> detector.predict([[0.0, 1.0], [4.0, -4.0]])
    array([ 1, -1])
    >>> print(detector.explain([4.0, -3.0]))
    row  decision  component  distance  largest contributions to distance²
      0    -6.581          0     5.194  x0 17.33, x1 9.648
    >>> live = detector.scorer()
    >>> live(np.array([0.0, 1.0])) > 0.0
    True
    """

    n_iter_: int

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: GaussianMixture._parameter_constraints[name] for name in _OF_MIXTURE},
        "rule": [StrOptions({"mixture", "component"})],
        "contamination": [Interval(Real, 0.0, 0.5, closed="right"), None],
        "log_density": [Interval(Real, None, None, closed="neither"), None],
        "false_alarm": [Interval(Real, 0.0, 1.0, closed="neither"), None],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Literal["full", "tied", "diag", "spherical"] = "full",
        rule: Literal["mixture", "component"] = "mixture",
        contamination: float | None = None,
        log_density: float | None = None,
        false_alarm: float | None = None,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Literal["kmeans", "k-means++", "random", "random_from_data"] = "kmeans",
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.rule = rule
        self.contamination = contamination
        self.log_density = log_density
        self.false_alarm = false_alarm
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.n_threads = n_threads

    @classmethod
    def from_mixture(
        cls,
        mixture: Mixture,
        X: RowsLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        rule: Literal["mixture", "component"] = "mixture",
        contamination: float | None = None,
        log_density: float | None = None,
        false_alarm: float | None = None,
    ) -> Self:
        """Make a fitted detector from a fitted mixture, for example a loaded one.

        Parameters
        ----------
        mixture : GaussianMixture or BayesianGaussianMixture
            A fitted mixture; the detector keeps a copy. Scores are its ``score_samples``; what
            ``fit`` of the detector fits anew is a `GaussianMixture`.
        X : array-like of shape (n_samples, n_features), default=None
            The rows among which ``contamination`` is the share of outliers. The other thresholds
            need none.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.
        rule, contamination, log_density, false_alarm
            As in the constructor.

        Returns
        -------
        detector : GaussianMixtureOutlierDetector
            A fitted detector.

        Raises
        ------
        TypeError
            If the mixture is none of these.
        ValueError
            If the rule and thresholds do not go together, or X is missing.

        Examples
        --------
        >>> from fastgmm import GaussianMixture, GaussianMixtureOutlierDetector
        >>> gm = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
        >>> detector = GaussianMixtureOutlierDetector.from_mixture(gm, log_density=-4.0)
        >>> detector.predict([[2.0], [3.0]])
        array([ 1, -1])
        """
        if not isinstance(mixture, GaussianMixture | BayesianGaussianMixture):
            raise TypeError(
                "Expected a mixture of fastgmm's, got one of type "
                f"{type(mixture).__qualname__}. Of scikit-learn's, the method from_sklearn of "
                "the class of the same name makes one."
            )
        check_is_fitted(mixture)
        detector = cls(
            **{name: getattr(mixture, name) for name in _OF_MIXTURE},
            rule=rule,
            contamination=contamination,
            log_density=log_density,
            false_alarm=false_alarm,
        )
        detector._validate_params()
        detector._check_thresholds()
        if X is None and log_density is None and false_alarm is None:
            raise ValueError(
                "contamination is a share of rows: give X, or set log_density or false_alarm."
            )
        detector._adopt(copy.deepcopy(mixture), X, sample_weight)
        return detector

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: RowsLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the mixture and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, mostly normal ones.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, in the mixture and in the share of outliers.

        Returns
        -------
        self : GaussianMixtureOutlierDetector
            The fitted detector; whatever goes wrong, it stays as it was.

        Raises
        ------
        ValueError
            If more than one threshold is set; if ``false_alarm`` is, but the rule is not
            'component'; and for whatever `GaussianMixture.fit` rejects.
        """
        self._check_thresholds()
        mixture = GaussianMixture(**{name: getattr(self, name) for name in _OF_MIXTURE})
        self._adopt(mixture.fit(X, sample_weight=sample_weight), X, sample_weight)
        return self

    def fit_predict(
        self, X: RowsLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, and tell the outliers among the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts; see ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            -1 for outliers, 1 for the others.
        """
        fitted: Self = self.fit(X, y, sample_weight)
        return fitted._labels(fitted._scores(fitted.mixture_, X, sample_weight))

    def _check_thresholds(self) -> None:
        """Raise ValueError unless the threshold is set in one way, and that fits the rule."""
        given = [name for name in THRESHOLDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} are set, but there is one threshold: set one of them, and "
                "leave the others None."
            )
        if self.false_alarm is not None and self.rule != "component":
            raise ValueError(
                "false_alarm needs rule='component': the distance from a row's own component has a "
                "known law, the density of a whole mixture has not. Or set contamination."
            )

    def _adopt(self, mixture: Mixture, X: Any, sample_weight: Any) -> None:
        """Take over a fitted mixture with the threshold that belongs to it."""
        offset = self._threshold(mixture, X, sample_weight)
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(mixture, "feature_names_in_"):
            self.feature_names_in_ = mixture.feature_names_in_
        self.mixture_, self.offset_ = mixture, offset
        self.n_features_in_, self.n_iter_ = mixture.n_features_in_, mixture.n_iter_

    def _threshold(self, mixture: Mixture, X: Any, sample_weight: Any) -> float:
        if self.false_alarm is not None:
            return math.log(self.false_alarm)
        if self.log_density is not None:
            return float(self.log_density)
        share = DEFAULT_CONTAMINATION if self.contamination is None else self.contamination
        scores = np.asarray(self._scores(mixture, X, sample_weight))  # Dask's are lazy
        weights = weights_of(mixture, X, sample_weight)
        found = largest_with_share_below(scores, weights, share)
        if found == -np.inf:
            raise ValueError(
                f"More than the share {share:g} of the rows have a density of zero: X is not what "
                "the mixture was fitted to."
            )
        return found
