"""Some features of a mixture alone, or given the others: marginals, conditionals, regression."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._inference import MixtureInference
from ._regression import MomentsMap, Regression, covariance_of, mean_of, regression, variance_of
from ._sources import ArraySource
from ._threads import Workers
from ._validation import check_rows, params_of

if TYPE_CHECKING:
    from .mixture import GaussianMixture

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Features = int | str | ArrayLike

__all__ = ["ConditionalMixtures", "Conditioning"]

_STARTS = ("weights_init", "means_init", "precisions_init")  # shaped by the features


class ConditionalMixtures:
    """Mixtures of the other features, one for each row of given values.

    Made by ``condition`` of a fitted mixture. ``mixtures[i]`` is the i-th one as a fitted
    ``GaussianMixture``; the whole is a sequence of them.

    Attributes
    ----------
    weights : ndarray of shape (n_rows, n_components)
        The weights of the components: their probabilities given the values.
    means : ndarray of shape (n_rows, n_components, n_others)
        The means of the components.
    covariances : ndarray
        The covariances of the components, the same for all rows, in the shape of
        ``covariances_`` of a mixture of ``n_others`` features.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
        The type of the covariances.

    Examples
    --------
    >>> from fastgmm import GaussianMixture
    >>> joint = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0.0, 0.0], [4.0, 2.0]], [[1.0, 0.5], [0.5, 1.0]], covariance_type="tied"
    ... )
    >>> mixtures = joint.condition([0], [[0.0], [2.0], [4.0]])
    >>> mixtures.weights.round(3)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    >>> mixtures.means[:, :, 0]
    array([[0., 0.],
           [1., 1.],
           [2., 2.]])
    >>> mixtures[1].covariances_
    array([[0.75]])
    """

    def __init__(
        self, joint: "Conditioning", others: Index, weights: Array, relation: Regression, rows: Any
    ) -> None:
        self._joint, self._others = joint, others
        self.weights = weights
        self.means = relation.means(rows)
        self.covariances = relation.covariances
        self.covariance_type = joint.covariance_type

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, row: int) -> Any:
        return self._joint._with_features(
            self._others, self.weights[row], self.means[row], self.covariances
        )

    def __repr__(self) -> str:
        m, k, d = self.means.shape
        return f"<{m} mixtures of {k} {self.covariance_type} components, {d} features>"

    def _matrices(self) -> Array:
        return self._joint._structure.full(self.covariances, *self.means.shape[1:])

    def mean(self) -> Array:
        """Return the mean of each mixture.

        Returns
        -------
        mean : ndarray of shape (n_rows, n_others)
            What the others are expected to be; ``predict_conditional`` gives the same.
        """
        return mean_of(self.weights, self.means)

    def variance(self) -> Array:
        """Return the variance of each feature in each mixture.

        Returns
        -------
        variance : ndarray of shape (n_rows, n_others)
            Within the components and between them.
        """
        variances = np.diagonal(self._matrices(), axis1=1, axis2=2)
        return variance_of(self.weights, self.means, self.mean(), variances)

    def covariance(self) -> Array:
        """Return the covariance of each mixture.

        Returns
        -------
        covariance : ndarray of shape (n_rows, n_others, n_others)
            Within the components and between them.
        """
        return covariance_of(self.weights, self.means, self.mean(), self._matrices())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw from each mixture.

        Parameters
        ----------
        n_samples : int, default=1
            How many draws from each.
        random_state : int, RandomState, Generator or None, default=None
            Where the draws come from; None: the ``random_state`` of the joint mixture.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_samples, n_others)
            The draws.
        """
        given = self._joint.random_state if random_state is None else random_state
        rng = given if isinstance(given, np.random.Generator) else check_random_state(given)
        running = np.cumsum(self.weights, axis=1)
        running /= running[:, -1:]
        chances = rng.uniform(size=(len(self), n_samples))
        draws = rng.standard_normal(size=(*chances.shape, self.means.shape[2]))
        labels = (running[:, None] <= chances[..., None]).sum(axis=2)
        for k, factor in enumerate(np.linalg.cholesky(self._matrices())):
            row, draw = np.nonzero(labels == k)
            draws[row, draw] = draws[row, draw] @ factor.T + self.means[row, k]
        return draws


class Conditioning(MixtureInference):
    """Mixin: mixtures of some features, alone or given values of the others."""

    def marginal(self, features: Features) -> "GaussianMixture":
        """Return the mixture of some features alone.

        Parameters
        ----------
        features : int, str, or array-like of them
            Which features, in the order wanted: numbers from 0, or names if the mixture was
            fitted to a data frame, or a mask of bools.

        Returns
        -------
        model : GaussianMixture
            A fitted mixture of the same covariance type, with the weights of this one.

        References
        ----------
        .. [1] C. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006, eq. 2.98.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> joint = GaussianMixture.from_parameters(
        ...     [1.0], [[1.0, 2.0, 3.0]], [[0.1, 0.2, 0.3]], covariance_type="diag"
        ... )
        >>> joint.marginal([2, 0]).means_
        array([[3., 1.]])
        """
        check_is_fitted(self)
        index = self._feature_index(features)
        params = params_of(self)
        covariances = self._structure.of_features(params.covariances, index)
        return self._with_features(index, params.weights, params.means[:, index], covariances)

    def condition(self, features: Features, values: ArrayLike) -> Any:
        """Return the mixture of the other features given values of some.

        Parameters
        ----------
        features : int, str, or array-like of them
            The given features: numbers from 0, names, or a mask of bools.
        values : scalar, array-like of shape (n_given,) or (n_rows, n_given)
            Their values, in the order of ``features``. Many rows at once take
            ``8 * n_rows * n_components * (n_others + 1)`` bytes; where only means and spreads are
            wanted, ``predict_conditional`` takes none of that.

        Returns
        -------
        conditional : GaussianMixture or ConditionalMixtures
            One fitted mixture of the same covariance type for one vector of values; for rows of
            values, an object that holds a mixture for each.

        References
        ----------
        .. [1] C. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006,
           eq. 2.81-2.82.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> joint = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0.0, 0.0], [4.0, 2.0]], [[1.0, 0.5], [0.5, 1.0]],
        ...     covariance_type="tied",
        ... )
        >>> conditional = joint.condition(0, 2.0)
        >>> conditional.weights_, conditional.means_, conditional.covariances_
        (array([0.5, 0.5]), array([[1.], [1.]]), array([[0.75]]))
        """
        check_is_fitted(self)
        given, others = self._divided(features)
        one = not hasattr(values, "columns") and np.ndim(values) <= 1
        rows: Any = np.reshape(values, (1, -1)) if one else values
        if one and rows.shape[1] != len(given):
            raise ValueError(
                f"values holds {rows.shape[1]} numbers for {len(given)} given features. For many "
                "rows of values, give an array of shape (n_rows, n_given)."
            )
        marginal = self._marginal_like(given, rows)
        weights = np.asarray(marginal.predict_proba(rows), dtype=np.float64)
        rows = np.asarray(check_rows(marginal, rows, reset=False), dtype=np.float64)
        mixtures = ConditionalMixtures(self, others, weights, self._relation(given, others), rows)
        return mixtures[0] if one else mixtures

    @overload
    def predict_conditional(
        self,
        X: ArrayLike,
        features: Features,
        *,
        return_std: Literal[False] = False,
        return_cov: Literal[False] = False,
    ) -> Array: ...

    @overload
    def predict_conditional(
        self, X: ArrayLike, features: Features, *, return_std: bool = ..., return_cov: bool = ...
    ) -> Any: ...

    def predict_conditional(
        self,
        X: ArrayLike,
        features: Features,
        *,
        return_std: bool = False,
        return_cov: bool = False,
    ) -> Any:
        """Predict the other features from some: regression by the joint density.

        Rows are taken block by block, on every core; memory beyond the result does not grow
        with them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_given)
            Values of the given features, in the order of ``features``.
        features : int, str, or array-like of them
            The given features: numbers from 0, names, or a mask of bools.
        return_std : bool, default=False
            Whether to return standard deviations, too.
        return_cov : bool, default=False
            Whether to return covariances, too.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_others)
            The expectation of the other features, in their own order, given each row of X.
        std : ndarray of shape (n_samples, n_others)
            Their standard deviations given X; only with ``return_std``.
        cov : ndarray of shape (n_samples, n_others, n_others)
            Their covariances given X; only with ``return_cov``.

        References
        ----------
        .. [1] Z. Ghahramani and M. Jordan, "Supervised learning from incomplete data via an EM
           approach", NIPS 6, 1994.
        .. [2] C. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006,
           eq. 2.81-2.82.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> joint = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0.0, 0.0], [4.0, 6.0]], [[1.0, 0.5], [0.5, 1.0]],
        ...     covariance_type="tied",
        ... )
        >>> mean, std = joint.predict_conditional([[0.0], [2.0]], [0], return_std=True)
        >>> mean[:, 0].round(2), std[:, 0].round(2)
        (array([0., 3.]), array([0.87, 2.18]))
        """
        check_is_fitted(self)
        if return_std and return_cov:
            raise ValueError("Ask for return_std or return_cov; the latter holds the former.")
        what = "std" if return_std else "cov" if return_cov else "mean"
        given, others = self._divided(features)
        marginal = self._marginal_like(given, X)
        rows = check_rows(marginal, X, reset=False)
        relation = self._relation(given, others)
        matrices = self._structure.full(relation.covariances, *relation.others.shape)
        task = MomentsMap(marginal._kernel_params(), relation, matrices, what)
        with Workers(self.n_threads) as workers:
            moments: Array = self._reported(ArraySource(rows, workers).map_rows, task)
        mean = moments[:, 0]
        if what == "mean":
            return mean
        return mean, moments[:, 1] if return_std else moments[:, 1:]

    def _plain_class(self) -> Any:
        """Return the class of mixtures that need nothing but weights, means and covariances."""
        return type(self)

    def _relation(self, given: Index, others: Index) -> Regression:
        params = params_of(self)
        return regression(self._structure, params.means, params.covariances, given, others)

    def _marginal_like(self, index: Index, rows: Any) -> "GaussianMixture":
        """Return the marginal, with the features' names only if the rows have names to compare."""
        model = self.marginal(index)
        if not hasattr(rows, "columns"):
            model.__dict__.pop("feature_names_in_", None)
        return model

    def _with_features(
        self, index: Index, weights: Array, means: Array, covariances: Array
    ) -> "GaussianMixture":
        """Return a fitted mixture of some of the features, with this one's parameters."""
        kind = self._plain_class()
        own = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name in kind._get_param_names() and name not in _STARTS
        }
        given = weights / weights.sum(), means, covariances
        model: GaussianMixture = kind.from_parameters(*given, **own)
        if hasattr(self, "feature_names_in_"):
            model.feature_names_in_ = self.feature_names_in_[index]
        return model

    def _divided(self, features: Features) -> tuple[Index, Index]:
        """Return the numbers of the given features, and of the others."""
        given = self._feature_index(features)
        others = np.setdiff1d(np.arange(self.n_features_in_), given)
        if not len(others):
            raise ValueError(
                f"All {self.n_features_in_} features are given: there is none left to predict."
            )
        return given, others

    def _feature_index(self, features: Features) -> Index:
        """Return the numbers of features given by numbers, names or a mask."""
        d = self.n_features_in_
        wanted = np.atleast_1d(np.asarray(features))
        if wanted.size and all(isinstance(name, str) for name in wanted.flat):
            known = getattr(self, "feature_names_in_", None)
            if known is None:
                raise ValueError(
                    f"features={features!r}, but the mixture was fitted without names of features: "
                    "give numbers from 0, or fit it to a data frame."
                )
            places = {name: place for place, name in enumerate(known)}
            missing = [str(name) for name in wanted.flat if name not in places]
            if missing:
                raise ValueError(f"There is no feature {missing[0]!r}; there are {list(known)}.")
            wanted = np.array([places[name] for name in wanted.flat])
        elif wanted.dtype == np.bool_ and wanted.shape == (d,):
            wanted = np.flatnonzero(wanted)
        numbers = wanted.dtype.kind in "iu" and wanted.ndim == 1 and wanted.size > 0
        if not numbers or (wanted < -d).any() or (wanted >= d).any():
            raise ValueError(
                f"features={features!r} should be one or more numbers from 0 to {d - 1}, names, "
                f"or a mask of {d} bools."
            )
        index: Index = wanted.astype(np.intp) % d
        if len(np.unique(index)) < len(index):
            raise ValueError(f"features={features!r} holds a feature twice.")
        return index
