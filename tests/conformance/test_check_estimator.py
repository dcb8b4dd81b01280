"""scikit-learn's estimator checks: no failure, no expected failure."""

import pytest
from sklearn import mixture
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastgmm import BayesianGaussianMixture, GaussianMixture

CLASSES = (GaussianMixture, BayesianGaussianMixture)
ESTIMATORS = [*(cls() for cls in CLASSES), GaussianMixture(prior="conjugate")]
_checks = parametrize_with_checks(ESTIMATORS)
# Below 1.9 scikit-learn passes a generator, which pytest deprecates.
each_check = pytest.mark.parametrize(_checks.args[0], list(_checks.args[1]), **_checks.kwargs)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastgmm.FitWarning")
@each_check
def test_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_check_of_scikit_learns_class_applies(cls):
    def names(estimator):
        return {check.func.__name__ for _, check in estimator_checks_generator(estimator)}

    # The array API is scikit-learn's own business; our tag says so.
    ours, theirs = names(cls()), names(getattr(mixture, cls.__name__)())
    assert theirs - ours <= {"check_array_api_input"}
    assert any("sample_weight" in name for name in ours)
