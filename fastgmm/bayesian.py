"""BayesianGaussianMixture: the estimator, in the shape of scikit-learn's class of that name."""

from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import BaseMixture
from ._conditioning import Conditioning
from ._conversion import SklearnConversion
from ._initialise import total_scatter, total_weight
from ._multistart import RuleMaker
from ._rules import UpdateRule
from ._sources import RowSource
from ._structures import Params, Posterior, Scatter
from ._validation import check_covariance_prior, check_mean_prior, unbiased_weight
from ._variational import WEIGHT_PRIORS, Priors, VariationalBayes, expected_log_weights
from .mixture import GaussianMixture

Array = NDArray[np.float64]
_GIVE_PRIORS = "give a covariance_prior and a mean_prior"


class BayesianGaussianMixture(SklearnConversion, Conditioning, BaseMixture):
    """Gaussian mixture with prior distributions, fitted by variational inference.

    Components that the data do not call for lose their weight, so ``n_components`` is only the
    most there can be. A drop-in for ``sklearn.mixture.BayesianGaussianMixture``: the same
    parameters, attributes and results (the same ``random_state`` gives the same fit), on compiled
    kernels that use every core and need no memory beyond the data.

    Parameters
    ----------
    n_components : int, default=1
        The largest number of mixture components K.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        What the components' covariances have in common:

        - 'full': each component has its own general covariance matrix,
        - 'tied': all components share one general covariance matrix,
        - 'diag': each component has its own diagonal covariance matrix,
        - 'spherical': each component has its own single variance.
    tol : float, default=1e-3
        The fit stops when the lower bound changes by less. The bound is a sum over rows.
    reg_covar : float, default=1e-6
        Non-negative number added to the diagonals of the components' empirical covariances, in
        squared units of the data.
    max_iter : int, default=100
        The most iterations of a run; 0 keeps the start.
    n_init : int, default=1
        The number of runs from different starts; the one with the largest bound is kept.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How a start is found:

        - 'kmeans': clusters of k-means,
        - 'k-means++': rows chosen by k-means++ as means,
        - 'random': random responsibilities,
        - 'random_from_data': random rows as means.
    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}, \
default='dirichlet_process'
        The prior of the weights: a Dirichlet process, its stick breaking cut off after K sticks,
        or a symmetric Dirichlet distribution.
    weight_concentration_prior : float or None, default=None
        The concentration of that prior, positive: the smaller, the fewer components keep weight.
        None: ``1 / n_components``.
    mean_precision_prior : float or None, default=None
        How many rows the prior of a component's mean counts for, positive. None: 1.
    mean_prior : array-like of shape (n_features,), default=None
        Where the components' means are expected. None: the mean of the rows.
    degrees_of_freedom_prior : float or None, default=None
        How many rows the prior of a component's covariance counts for, more than
        ``n_features - 1``. None: ``n_features``.
    covariance_prior : float or array-like, default=None
        What is expected of a component's covariance, times ``degrees_of_freedom_prior``:
        (n_features, n_features) if 'full' or 'tied', (n_features,) if 'diag', a number if
        'spherical'. None: the unbiased covariance of all rows, its diagonal, or the mean of that.
    random_state : int, RandomState instance or None, default=None
        Seed of the start and of ``sample``; an int gives the same result at each call.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit; then ``n_init`` is ignored.
    verbose : int, default=0
        1 prints the runs and every ``verbose_interval``-th iteration, 2 also times and changes.
    verbose_interval : int, default=10
        The number of iterations between two prints.
    n_threads : int or None, default=None
        The number of threads. None: the cores this process may use (its affinity and control
        group), lowered by the environment variables ``FASTGMM_NUM_THREADS``,
        ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``. The result does not depend on it, to the
        last bit.
    init_size : int or None, default=None
        The most rows a start is found from. Of more rows, a random sample of as many is used.
        None: 2**22. As many as the data has, or more: the start of scikit-learn.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        The expected weights of the components; they sum to 1.
    means_ : ndarray of shape (n_components, n_features)
        The expected means of the components.
    covariances_ : ndarray
        The inverses of the expected precisions: (n_components, n_features, n_features) if 'full',
        (n_features, n_features) if 'tied', (n_components, n_features) if 'diag',
        (n_components,) if 'spherical'.
    precisions_ : ndarray
        The expected precisions, in the same shape.
    precisions_cholesky_ : ndarray
        Upper triangular U with U U^T the precision, or the inverse standard deviation; in the
        same shape.
    weight_concentration_ : tuple of two ndarrays of shape (n_components,), or one
        The posterior of the weights: the parameters a and b of each stick's Beta distribution, or
        the concentrations of the Dirichlet distribution.
    mean_precision_ : ndarray of shape (n_components,)
        How many rows, those of the prior included, stand behind each mean.
    degrees_of_freedom_ : ndarray of shape (n_components,), or float if 'tied'
        The degrees of freedom of the covariances' posterior.
    weight_concentration_prior_, mean_precision_prior_, degrees_of_freedom_prior_ : float
        The priors, given or chosen.
    mean_prior_ : ndarray of shape (n_features,)
        The prior of the means.
    covariance_prior_ : ndarray or float
        The prior of the covariances.
    n_effective_components_ : int
        The number of components whose weight is more than a tenth of an even share, that is of
        ``1 / n_components``.
    converged_ : bool
        Whether the best run converged.
    n_iter_ : int
        The number of iterations of the best run.
    lower_bound_ : float
        The lower bound on the log-evidence of the rows at the end of the best run, without the
        same constant terms that scikit-learn leaves out.
    lower_bounds_ : list of float
        The same for each iteration of the best run.
    n_features_in_ : int
        The number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the features, if ``X`` had names that are all strings.

    Notes
    -----
    The M-step of maximum likelihood counts rows relative to each other; the priors count them
    absolutely. A ``sample_weight`` is therefore a number of rows: all weights times 2 are the rows
    twice, and weigh more against the priors.

    ``marginal``, ``condition`` and ``predict_conditional`` are those of the mixture that ``sample``
    draws from: the `GaussianMixture` of ``weights_``, ``means_`` and ``covariances_``. ``predict``
    also takes into account how uncertain these are, and may favour another component.

    Attributes and arithmetic are float64 for float32 rows, too.
    Results have the same bits for any ``n_threads`` and any memory layout on one machine type.

    References
    ----------
    .. [1] C. M. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006, section 10.2.
    .. [2] D. M. Blei and M. I. Jordan, "Variational inference for Dirichlet process mixtures",
       Bayesian Analysis 1(1), 2006.
    .. [3] H. Attias, "A variational Bayesian framework for graphical models", Advances in Neural
       Information Processing Systems 12, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import BayesianGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(6.0, size=(100, 2))])
    >>> bgm = BayesianGaussianMixture(n_components=6, max_iter=500, random_state=0).fit(X)
    >>> bgm.n_effective_components_
    2
    >>> np.sort(bgm.weights_.round(2))[-2:]
    array([0.33, 0.67])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMixture._parameter_constraints,
        "weight_concentration_prior_type": [StrOptions(set(WEIGHT_PRIORS))],
        "weight_concentration_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_precision_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "mean_prior": [None, "array-like"],
        "degrees_of_freedom_prior": [None, Interval(Real, 0.0, None, closed="neither")],
        "covariance_prior": [None, "array-like", Interval(Real, 0.0, None, closed="neither")],
    }

    weight_concentration_: tuple[Array, Array] | Array
    mean_precision_: Array
    degrees_of_freedom_: Array | float

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: Literal["full", "tied", "diag", "spherical"] = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Literal["kmeans", "k-means++", "random", "random_from_data"] = "kmeans",
        weight_concentration_prior_type: Literal[
            "dirichlet_process", "dirichlet_distribution"
        ] = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_threads: int | None = None,
        init_size: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_threads = n_threads
        self.init_size = init_size

    @property
    def n_effective_components_(self) -> int:
        """The number of components that hold more than a tenth of an even share of the weight."""
        return int(np.count_nonzero(self.weights_ > 0.1 / len(self.weights_)))

    def _rule_maker(self, n_features: int) -> RuleMaker:
        """Check the given priors and return what makes the rule of variational inference."""
        d, structure = n_features, self._structure
        given_mean = given_covariance = None
        if self.mean_prior is not None:
            given_mean = check_mean_prior(self.mean_prior, d)
        freedom = d if self.degrees_of_freedom_prior is None else self.degrees_of_freedom_prior
        if not freedom > d - 1.0:
            raise ValueError(
                "The parameter 'degrees_of_freedom_prior' should be greater than "
                f"{d - 1}, but got {freedom:.3f}."
            )
        if self.covariance_prior is not None:
            given_covariance = check_covariance_prior(self.covariance_prior, structure, d)
        concentration, precision = self.weight_concentration_prior, self.mean_precision_prior

        def make(source: RowSource, scatter: Scatter | None) -> UpdateRule:
            mean, covariance = given_mean, given_covariance
            if mean is None or covariance is None:
                whole = total_scatter(source) if scatter is None else scatter
                mean = whole.mean if mean is None else mean
                if covariance is None:
                    weight = unbiased_weight(whole.weight, _GIVE_PRIORS)
                    covariance = structure.compact(whole.matrix / weight)
            priors = Priors(
                1.0 / self.n_components if concentration is None else float(concentration),
                1.0 if precision is None else float(precision),
                mean,
                float(freedom),
                covariance,
            )
            weight_prior = WEIGHT_PRIORS[self.weight_concentration_prior_type]
            return VariationalBayes(
                structure,
                self.reg_covar,
                scatter,
                source.mean_weight,
                total_weight(source),
                weight_prior,
                priors,
            )

        return make

    def _fitted_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def _attributes_in(self, dtype: np.dtype[Any]) -> Any:
        common = super()._attributes_in(dtype)

        def attributes(params: Params) -> dict[str, Any]:
            assert params.posterior is not None
            concentration, precision, freedom = map(np.array, params.posterior)
            sticks = concentration.ndim > 1
            return {
                **common(params),
                "weight_concentration_": tuple(concentration) if sticks else concentration,
                "mean_precision_": precision,
                "degrees_of_freedom_": freedom[()],
            }

        return attributes

    def _rule_attributes(self, rule: UpdateRule) -> dict[str, Any]:
        assert isinstance(rule, VariationalBayes)
        priors = rule.priors._asdict()
        return {f"{name}_prior_": np.copy(value)[()] for name, value in priors.items()}

    def _params(self) -> Params:
        prior = WEIGHT_PRIORS[self.weight_concentration_prior_type]
        concentration = np.array(self.weight_concentration_, dtype=np.float64)
        if prior.posterior(1.0, np.ones(len(self.means_))).shape != concentration.shape:
            raise ValueError(
                "The fitted weight_concentration_ is not that of "
                f"weight_concentration_prior_type={self.weight_concentration_prior_type!r}, which "
                "was changed after the fit. Fit again, with warm_start=False."
            )
        posterior = Posterior(
            concentration,
            np.asarray(self.mean_precision_, dtype=np.float64),
            np.asarray(self.degrees_of_freedom_, dtype=np.float64),
        )
        return super()._params()._replace(posterior=posterior)

    def _plain_class(self) -> type[GaussianMixture]:
        return GaussianMixture

    def _log_weights(self) -> Array:
        posterior = self._params().posterior
        assert posterior is not None
        prior = WEIGHT_PRIORS[self.weight_concentration_prior_type]
        return expected_log_weights(prior, posterior, self.means_.shape[1])
