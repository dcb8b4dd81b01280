"""GaussianMixture: the estimator, in the shape of scikit-learn's class of that name."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from ._conditioning import Conditioning
from ._conversion import SklearnConversion
from ._criteria import InformationCriteria
from ._incremental import MOST_GROUPS
from ._initialise import total_scatter, total_weight
from ._multistart import RuleMaker
from ._partial_fit import PartialFit
from ._posterior_mode import MEAN_PRECISIONS, PosteriorMode, default_prior
from ._rules import Given, MaximumLikelihood, UpdateRule
from ._sources import RowSource
from ._structures import Params, Scatter
from ._validation import (
    check_covariances,
    check_means,
    check_precisions,
    check_weights,
    unbiased_weight,
)


class GaussianMixture(SklearnConversion, InformationCriteria, Conditioning, PartialFit):
    """Gaussian mixture, fitted by expectation-maximisation.

    A drop-in for ``sklearn.mixture.GaussianMixture``: the same parameters, attributes and
    results (the same ``random_state`` gives the same fit), on compiled kernels that use every
    core and need no memory beyond the data.

    Parameters
    ----------
    n_components : int, default=1
        The number of mixture components K.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        What the components' covariances have in common:

        - 'full': each component has its own general covariance matrix,
        - 'tied': all components share one general covariance matrix,
        - 'diag': each component has its own diagonal covariance matrix,
        - 'spherical': each component has its own single variance.
    tol : float, default=1e-3
        EM stops when the lower bound, the mean log-likelihood of a row, changes by less.
    reg_covar : float, default=1e-6
        Non-negative number added to the diagonals of the covariances, in squared units of the
        data; keeps them positive definite. Not with a ``prior``, which does that.
    max_iter : int, default=100
        The most EM iterations of a run; 0 keeps the start.
    n_init : int, default=1
        The number of runs from different starts; the one with the largest bound is kept.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, default='kmeans'
        How a start is found:

        - 'kmeans': clusters of k-means,
        - 'k-means++': rows chosen by k-means++ as means,
        - 'random': random responsibilities,
        - 'random_from_data': random rows as means.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights; None: from ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means; None: from ``init_params``.
    precisions_init : array-like, default=None
        Initial precisions (inverses of covariances), shaped by ``covariance_type`` like
        ``covariances_``; None: from ``init_params``.
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
        None: all of up to 2**22 rows; of more rows max(2**23 // n_features, 64 * n_components),
        64 MB or so of float64 numbers, so that memory is bounded. As many as the data has, or
        more: the start of scikit-learn.
    step_power : float, default=0.6
        For ``partial_fit``: how fast its steps ``(t + step_offset) ** -step_power`` shrink, in
        (0.5, 1]. Near 0.5 old rows are soon forgotten, with 1 all rows count about the same.
    step_offset : float, default=2.0
        For ``partial_fit``: how many batches the start counts for beyond its own; at least 0.
    incremental_groups : int, default=1
        For ``fit``: into how many groups of consecutive rows, at most 64, a pass over the data is
        split, with an M-step after each. 1 is plain EM. With more, EM needs fewer passes (and
        memory for the statistics of all groups), which pays where reading the rows takes longer
        than computing, or EM converges slowly; rows should be in no particular order. The fit
        ends with plain EM, so ``converged_`` means the same, but it may be another local optimum.
    prior : {'conjugate', 'covariance'} or None, default=None
        What is maximised: None for the likelihood; otherwise the density of the posterior, under
        a prior that keeps components from collapsing onto few rows, or copies of one, in whatever
        units the data are; ``reg_covar`` is not used. See Notes.

        - 'conjugate': a prior of the components' covariances and means,
        - 'covariance': of the covariances alone.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        The weights of the components; they sum to 1.
    means_ : ndarray of shape (n_components, n_features)
        The means of the components.
    covariances_ : ndarray
        The covariances: (n_components, n_features, n_features) if 'full', (n_features,
        n_features) if 'tied', (n_components, n_features) if 'diag', (n_components,) if
        'spherical'.
    precisions_ : ndarray
        The inverses of the covariances, in the same shape.
    precisions_cholesky_ : ndarray
        Upper triangular U with U U^T the precision, or the inverse standard deviation; in the
        same shape.
    converged_ : bool
        Whether the best run converged.
    n_iter_ : int
        The number of iterations of the best run.
    lower_bound_ : float
        The mean log-likelihood of a row before the last M-step of the best run. With a
        ``prior`` its log-density at these parameters, divided by the number of rows, is added.
    lower_bounds_ : list of float
        The same for each iteration of the best run; for incremental passes, a lower bound of the
        mean log-likelihood of a row after the pass.
    n_samples_seen_ : int or float
        The number of rows seen by ``fit`` or, since then, by ``partial_fit``; the sum of their
        weights if there are any.
    n_batches_seen_ : int
        The number of batches ``partial_fit`` has seen since the last ``fit``.
    first_rows_, first_weights_ : ndarray of shape (n, n_features) and (n,)
        While ``partial_fit`` has seen too few rows for a step: these rows and their weights.
    n_features_in_ : int
        The number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the features, if ``X`` had names that are all strings.

    Notes
    -----
    float32 input stays float32 in memory, and the fitted attributes are float32; sums are float64.
    For full covariances whose condition numbers are up to 1e4 or so, part of the arithmetic on
    float32 rows is float32, too: parameters agree with those of the same rows in float64 to 1e-5,
    except where components overlap so much that EM hardly converges.
    Results have the same bits for any ``n_threads`` and any memory layout on one machine type.

    *Priors.* They are Fraley and Raftery's [3]_ (``priorControl`` of the R package mclust), from
    the mean m and the unbiased covariance S of the rows: an inverse Wishart distribution of a
    covariance matrix with ``nu = d + 2`` degrees of freedom and the scale ``L = S / K^(2/d)``,
    or inverse gamma distributions of variances with the diagonal of L ('diag') or ``tr(L) / d``
    ('spherical'); for 'conjugate' also ``N(m, covariance / kappa)`` of a mean, ``kappa = 0.01``.
    With 'full' and 'conjugate' the M-step for a component of the mass N, mean x and scatter W is::

        mean = (N x + kappa m) / (N + kappa)
        covariance = (L + W + N kappa / (N + kappa) (x - m)(x - m)^T) / (nu + N + d + 2)

    The other denominators are ``nu + n + d + 1 + K`` ('tied', where scatters add up over n rows),
    ``nu + N + 3`` ('diag') and ``nu + (N + 1) d + 2`` ('spherical'). Without a prior of the means
    they lack 1, K, 1 and d, and kappa is 0.

    Three departures: mclust gives all features one variance in the scale of 'diag', which depends
    on their units; where the rows lie in a subspace, L is the diagonal of S (mclust has that for
    no more rows than features); and the mode of 'covariance' with 'full', where mclust divides as
    with 'conjugate'. The means of k-means, and what k-means++ chooses, do depend on units.

    The prior counts for rows, so a ``sample_weight`` is a number of rows. ``bic``, ``aic`` and
    ``icl`` take the likelihood at the mode, as in [3]_. ``partial_fit`` knows no prior, and a
    constant column is an error: there is no scale to take. `BayesianGaussianMixture` differs: it
    averages over parameters, and its components may die off.

    References
    ----------
    .. [1] A. Dempster, N. Laird and D. Rubin, "Maximum likelihood from incomplete data via the
       EM algorithm", J. R. Statist. Soc. B 39(1), 1977.
    .. [2] G. McLachlan and D. Peel, "Finite Mixture Models", Wiley, 2000, sections 3.2 and 3.9.
    .. [3] C. Fraley and A. E. Raftery, "Bayesian regularization for normal mixture estimation and
       model-based clustering", Journal of Classification 24, 2007, 155-181.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> X = np.array([[1, 2], [2, 4], [0, 0], [10, 2], [11, 4], [9, 1]])
    >>> gm = GaussianMixture(n_components=2, covariance_type="diag", random_state=0).fit(X)
    >>> gm.means_.round(2)
    array([[10.  ,  2.33],
           [ 1.  ,  2.  ]])
    >>> gm.predict([[0, 0], [12, 3]])
    array([1, 0])

    The likelihood of a component of one row knows no bounds; with a prior it has a covariance.

    >>> gm = GaussianMixture(n_components=3, prior="conjugate", random_state=0).fit(X)
    >>> gm.predict(X)
    array([1, 2, 1, 0, 0, 0])
    >>> gm.covariances_[2].round(2)
    array([[0.94, 0.08],
           [0.08, 0.1 ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **PartialFit._parameter_constraints,
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "step_power": [Interval(Real, 0.5, 1.0, closed="right")],
        "step_offset": [Interval(Real, 0.0, None, closed="left")],
        "incremental_groups": [Interval(Integral, 1, MOST_GROUPS, closed="both")],
        "prior": [StrOptions(set(MEAN_PRECISIONS)), None],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Literal["full", "tied", "diag", "spherical"] = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Literal["kmeans", "k-means++", "random", "random_from_data"] = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_threads: int | None = None,
        init_size: int | None = None,
        step_power: float = 0.6,
        step_offset: float = 2.0,
        incremental_groups: int = 1,
        prior: Literal["conjugate", "covariance"] | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_threads = n_threads
        self.init_size = init_size
        self.step_power = step_power
        self.step_offset = step_offset
        self.incremental_groups = incremental_groups
        self.prior = prior

    def _rule_maker(self, n_features: int) -> RuleMaker:
        """Check the given starts and return what makes the rule of estimation."""
        k, structure = self.n_components, self._structure
        weights = means = factors = None
        if self.weights_init is not None:
            weights = check_weights(self.weights_init, k)
        if self.means_init is not None:
            means = check_means(self.means_init, k, n_features)
        if self.precisions_init is not None:
            factors = check_precisions(self.precisions_init, structure, k, n_features)
        given = Given(weights, means, factors)

        def make(source: RowSource, scatter: Scatter | None) -> UpdateRule:
            return MaximumLikelihood(structure, self.reg_covar, scatter, source.mean_weight, given)

        def make_with_prior(source: RowSource, scatter: Scatter | None) -> UpdateRule:
            whole = total_scatter(source) if scatter is None else scatter
            divisor = unbiased_weight(whole.weight, "set prior=None")
            prior = default_prior(structure, whole, divisor, k, MEAN_PRECISIONS[self.prior or ""])
            weight = total_weight(source)
            return PosteriorMode(structure, scatter, source.mean_weight, weight, k, prior, given)

        return make if self.prior is None else make_with_prior

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: Literal["full", "tied", "diag", "spherical"] = "full",
        **params: Any,
    ) -> Self:
        """Make a fitted model from known parameters.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Non-negative, summing to 1.
        means : array-like of shape (n_components, n_features)
            The means.
        covariances : array-like
            The covariances, shaped by ``covariance_type`` like ``covariances_``.
        covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
            The type of the covariances.
        **params
            Further parameters of the constructor.

        Returns
        -------
        model : GaussianMixture
            A fitted model with ``n_iter_ == 0``.

        Raises
        ------
        ValueError
            If shapes disagree, weights do not sum to 1, or a covariance is not symmetric and
            positive definite.

        Examples
        --------
        >>> from fastgmm import GaussianMixture
        >>> gm = GaussianMixture.from_parameters([0.3, 0.7], [[0.0], [3.0]], [[[1.0]], [[2.0]]])
        >>> round(gm.score([[1.0]]), 6)
        -1.929402
        """
        means_array = np.asarray(means)
        if means_array.ndim != 2 or 0 in means_array.shape:
            raise ValueError(
                "The parameter 'means' should have the shape of (n_components, n_features), but "
                f"got {means_array.shape}"
            )
        k, d = means_array.shape
        given = params.pop("n_components", k)
        if given != k:
            raise ValueError(f"n_components={given}, but means are given for {k} components.")
        model = cls(k, covariance_type=covariance_type, **params)
        model._validate_params()
        matrices, factors = check_covariances(covariances, model._structure, k, d)
        found = Params(check_weights(weights, k), check_means(means, k, d), matrices, factors)
        model._set_fitted(found, np.dtype(np.float64))
        return model

    def _set_fitted(self, params: Params, dtype: np.dtype[Any]) -> None:
        self.__dict__.update(
            self._attributes_in(dtype)(params),
            converged_=False,
            n_iter_=0,
            lower_bound_=-np.inf,
            lower_bounds_=[],
            n_features_in_=params.means.shape[1],
        )
