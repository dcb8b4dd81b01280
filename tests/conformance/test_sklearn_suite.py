"""scikit-learn's own mixture tests, from the installed scikit-learn, on our classes.

Nothing is copied: the installed test modules are executed with the names in `sklearn.mixture`
standing for fastgmm's classes, and the functions that use public names (or `_n_parameters`, which
others rely on) become tests of this module, with their marks and fixtures.
"""

import importlib.util
from pathlib import Path
from unittest import mock

import pytest
import sklearn.mixture
from sklearn.utils.fixes import parse_version

from fastgmm import BayesianGaussianMixture, GaussianMixture

OURS = {"BayesianGaussianMixture": BayesianGaussianMixture, "GaussianMixture": GaussianMixture}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastgmm.FitWarning"),
]

# Functions that run, by module. The same in scikit-learn 1.7, 1.8 and 1.9.
RUN = {
    "test_mixture": {
        "test_gaussian_mixture_n_iter",
        "test_mixture_n_components_greater_than_n_samples_error",
    },
    "test_gaussian_mixture": {
        "test_gaussian_mixture_attributes",
        "test_check_weights",
        "test_check_means",
        "test_check_precisions",
        "test_gaussian_mixture_estimate_log_prob_resp",
        "test_gaussian_mixture_predict_predict_proba",
        "test_gaussian_mixture_fit_predict",
        "test_gaussian_mixture_fit_predict_n_init",
        "test_gaussian_mixture_fit",
        "test_gaussian_mixture_fit_best_params",
        "test_gaussian_mixture_fit_convergence_warning",
        "test_multiple_init",
        "test_gaussian_mixture_n_parameters",
        "test_bic_1d_1component",
        "test_gaussian_mixture_aic_bic",
        "test_gaussian_mixture_verbose",
        "test_warm_start",
        "test_convergence_detected_with_warm_start",
        "test_score",
        "test_score_samples",
        "test_monotonic_likelihood",
        "test_regularisation",
        "test_fitted_precision_covariance_concistency",
        "test_sample",
        "test_init",
        "test_gaussian_mixture_setting_best_params",
        "test_init_means_not_duplicated",
        "test_means_for_all_inits",
        "test_max_iter_zero",
        "test_gaussian_mixture_precisions_init_diag",
        "test_gaussian_mixture_single_component_stable",
    },
    "test_bayesian_mixture": {
        "test_bayesian_mixture_weights_prior_initialisation",
        "test_bayesian_mixture_mean_prior_initialisation",
        "test_bayesian_mixture_precisions_prior_initialisation",
        "test_bayesian_mixture_check_is_fitted",
        "test_bayesian_mixture_weights",
        "test_monotonic_likelihood",
        "test_check_covariance_precision",
        "test_invariant_translation",
        "test_bayesian_mixture_fit_predict",
        "test_bayesian_mixture_fit_predict_n_init",
        "test_bayesian_mixture_predict_predict_proba",
    },
}

_HELPERS = "tests scikit-learn's private helper functions, not the class"
_PRIVATE_METHODS = "calls the private methods _initialize and _set_parameters"
_ARRAY_API = "array API input is not supported"

# Functions that do not run, by module, with the reason; then those that came with a version.
NOT_RUN = {
    "test_mixture": {},
    "test_gaussian_mixture": {
        "test_suffstat_sk_full": _HELPERS,
        "test_suffstat_sk_tied": _HELPERS,
        "test_suffstat_sk_diag": _HELPERS,
        "test_gaussian_suffstat_sk_spherical": _HELPERS,
        "test_compute_log_det_cholesky": _HELPERS,
        "test_gaussian_mixture_log_probabilities": _HELPERS,
        "test_gaussian_mixture_precisions_init": _PRIVATE_METHODS,
        "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": (
            "counts the calls of a private helper function of scikit-learn"
        ),
    },
    "test_bayesian_mixture": {
        "test_log_dirichlet_norm": _HELPERS,
        "test_log_wishart_norm": _HELPERS,
        "test_compare_covar_type": (
            "calls the private methods _check_parameters and _initialize_parameters"
        ),
    },
}
NOT_RUN_SINCE = {
    "1.8": {
        "test_gaussian_mixture_array_api_compliance": _ARRAY_API,
        "test_gaussian_mixture_raises_where_array_api_not_implemented": _ARRAY_API,
    }
}


def not_run(module_name):
    """Reasons by function name, for the installed scikit-learn."""
    reasons = dict(NOT_RUN[module_name])
    if module_name == "test_gaussian_mixture":
        for version, added in NOT_RUN_SINCE.items():
            if parse_version(sklearn.__version__) >= parse_version(version):
                reasons |= added
    return reasons


def load_with_our_class(module_name):
    """Execute an installed scikit-learn test module with the class swapped."""
    path = Path(sklearn.mixture.__file__).parent / "tests" / f"{module_name}.py"
    spec = importlib.util.spec_from_file_location(f"sklearn.mixture.tests._{module_name}", path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(sklearn.mixture, **OURS):
        spec.loader.exec_module(module)
    assert swapped(vars(module))
    return module


def swapped(names):
    """Whether the classes among these names are ours, and there is one."""
    classes = [names[name] is ours for name, ours in OURS.items() if name in names]
    return bool(classes) and all(classes)


def test_functions(module):
    """Functions of a module that pytest would collect."""
    return {name: f for name, f in vars(module).items() if name.startswith("test_") and callable(f)}


test_functions.__test__ = False


def as_test(module_name, function_name):
    """Name in this module: two of scikit-learn's have a test_monotonic_likelihood."""
    return f"{module_name}_{function_name.removeprefix('test_')}"


MODULES = {name: load_with_our_class(name) for name in RUN}
for _name, _module in MODULES.items():
    for _function_name in RUN[_name] & test_functions(_module).keys():
        globals()[as_test(_name, _function_name)] = getattr(_module, _function_name)


@pytest.mark.parametrize("module_name", RUN)
def test_every_function_is_accounted_for(module_name):
    found = test_functions(MODULES[module_name]).keys()
    known = RUN[module_name] | not_run(module_name).keys()
    assert known - found == set(), "scikit-learn dropped or renamed these; update the tables"
    assert found - known == set(), "new in scikit-learn: decide whether these run"
    for name in RUN[module_name]:
        assert swapped(globals()[as_test(module_name, name)].__globals__)


def test_number_of_functions():
    assert sum(map(len, RUN.values())) == 44
    assert not any(RUN[name] & not_run(name).keys() for name in RUN)
