"""Whatever takes rows takes them from every source, with the bits of the array."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from row_sources import (
    FITTED,
    SOURCES,
    N,
    assert_same,
    batches,
    hdf5,
    not_a_number,
    parquet,
    rows,
    table,
    weights_of,
)  # fmt: skip

from fastgmm import (
    Batches,
    BayesianGaussianMixture,
    GaussianMixture,
    GaussianMixtureOutlierDetector,
    select_model,
)
from fastgmm._passes import ReducePass
from fastgmm._sources import ArraySource, StreamSource, _scratch
from fastgmm._sources._readers import BatchReader
from fastgmm._stats import SufficientStats
from fastgmm._threads import Workers

TYPES = ("full", "tied", "diag", "spherical")
each_source = pytest.mark.parametrize("name", SOURCES)
each_weighted = pytest.mark.parametrize("name", ["parquet", "batches", "pandas", "hdf5"])
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """Small data are kept in memory; here they are not."""
    monkeypatch.setattr(_scratch, "IN_MEMORY", 0)


def weighted(name, X, w, path):
    """Return rows and weights, the latter in four forms."""
    return {
        "parquet": lambda: (parquet(X, path, w), "w"),
        "batches": lambda: (Batches(batches(X, w)), None),
        "pandas": lambda: (table(X, w).to_pandas(), "w"),
        "hdf5": lambda: (hdf5(X, path), w),
    }[name]()


_MADE = {}


def once(make, *args):
    """Return what a function makes of these arguments, made once."""
    key = (make, *args)
    if key not in _MADE:
        _MADE[key] = make(*args)
    return _MADE[key]


def bayesian(X, kind, sample_weight=None, n_threads=2):
    model = BayesianGaussianMixture(
        n_components=3, covariance_type=kind, random_state=0, max_iter=3, n_threads=n_threads
    )
    return model.fit(X, sample_weight=sample_weight)


def bayesian_of_array(kind):
    return bayesian(rows(), kind)


class TestBayesian:
    FITTED = (*FITTED, "mean_precision_", "degrees_of_freedom_", "weight_concentration_")

    def assert_same(self, model, expected):
        for name in self.FITTED:
            assert_array_equal(getattr(model, name), getattr(expected, name), err_msg=name)

    @each_source
    @pytest.mark.parametrize("kind", TYPES)
    def test_the_bits_of_the_array(self, name, kind, tmp_path):
        there = SOURCES[name](rows(), tmp_path)
        self.assert_same(bayesian(there, kind), once(bayesian_of_array, kind))

    @each_source
    def test_answers(self, name, tmp_path):
        X, there = rows(), SOURCES[name](rows(), tmp_path)
        model, expected = bayesian(there, "full"), once(bayesian_of_array, "full")
        assert_array_equal(model.predict_proba(there), expected.predict_proba(X))
        assert_array_equal(model.score_samples(there), expected.score_samples(X))

    @each_weighted
    def test_weights(self, name, tmp_path):
        X, w = rows(), weights_of()
        self.assert_same(
            bayesian(*_second(weighted(name, X, w, tmp_path), "full")), bayesian(X, "full", w)
        )


def _second(pair, value):
    return pair[0], value, pair[1]


def selected(X, sample_weight=None):
    return select_model(
        X, [1, 2], ["diag", "full"], sample_weight=sample_weight, random_state=0, max_iter=3
    )


def selected_of_array():
    return selected(rows())


class TestSelection:
    def assert_same(self, found, expected):
        for one, two in zip(found.table, expected.table, strict=True):
            assert one._replace(seconds=0.0) == two._replace(seconds=0.0)
        assert_same(found.best, expected.best)

    @each_source
    def test_the_bits_of_the_array(self, name, tmp_path):
        self.assert_same(selected(SOURCES[name](rows(), tmp_path)), once(selected_of_array))

    @each_weighted
    @pytest.mark.parametrize("kept", [0, 1 << 26])
    def test_weights(self, name, kept, tmp_path, monkeypatch):
        monkeypatch.setattr(_scratch, "IN_MEMORY", kept)
        X, w = rows(), weights_of()
        self.assert_same(selected(*weighted(name, X, w, tmp_path)), selected(X, w))

    def test_dask(self):
        X = rows()
        found = selected(da.from_array(X, chunks=(8192, -1)), da.from_array(weights_of()))
        self.assert_same(found, selected(X, weights_of()))

    def test_what_can_be_read_once_is_refused(self):
        with pytest.raises(TypeError, match=r"only once.*Batches"):
            selected(batches(rows())())

    def test_a_bad_row_fails_all(self):
        with pytest.raises(ValueError, match=f"row {N - 5}, column 1"):
            selected(Batches(batches(not_a_number(rows()))))


def detector(X, sample_weight=None, **params):
    params = {"contamination": 0.05, **params}
    model = GaussianMixtureOutlierDetector(2, random_state=0, max_iter=3, **params)
    return model.fit(X, sample_weight=sample_weight)


def detector_of_array():
    return detector(rows())


class TestDetector:
    @each_source
    def test_the_bits_of_the_array(self, name, tmp_path):
        X, there = rows(), SOURCES[name](rows(), tmp_path)
        model, expected = detector(there), once(detector_of_array)
        assert model.offset_ == expected.offset_
        assert_array_equal(model.predict(there), expected.predict(X))
        assert_array_equal(model.decision_function(there), expected.decision_function(X))

    @each_weighted
    def test_weights(self, name, tmp_path):
        X, w = rows(), weights_of()
        there, given = weighted(name, X, w, tmp_path)
        model, expected = detector(there, given), detector(X, w)
        assert model.offset_ == expected.offset_
        assert model.offset_ != detector(X).offset_
        labels = GaussianMixtureOutlierDetector(2, random_state=0).fit_predict(
            there, sample_weight=given
        )
        assert_array_equal(
            labels,
            GaussianMixtureOutlierDetector(2, random_state=0).fit_predict(X, sample_weight=w),
        )


def stepped(X, sample_weight=None, parts=(slice(0, 40), slice(40, N)), **params):
    """Fit an array in parts."""
    model = GaussianMixture(2, random_state=0, **params)
    for part in parts:
        w = None if sample_weight is None else sample_weight[part]
        model.partial_fit(X[part], sample_weight=w)
    return model


class TestPartialFit:
    @each_source
    def test_a_source_is_one_batch(self, name, tmp_path):
        X, there = rows(), SOURCES[name](rows(), tmp_path)
        model = GaussianMixture(2, random_state=0).partial_fit(there)
        assert_same(model, stepped(X, parts=[slice(N)]))
        assert_same(model.partial_fit(there), stepped(X, parts=[slice(N), slice(N)]))
        assert (model.n_samples_seen_, model.n_batches_seen_) == (2 * N, 2)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_after_a_few_first_rows(self, dtype):
        X = rows(dtype)
        model = GaussianMixture(2, random_state=0).partial_fit(Batches([X[:40]]))
        assert_array_equal(model.first_rows_, X[:40], strict=True)
        model.partial_fit(Batches(batches(X[40:])))
        assert_same(model, stepped(X))
        assert not hasattr(model, "first_rows_")

    @each_weighted
    def test_weights(self, name, tmp_path):
        X, w = rows(), weights_of()
        model = GaussianMixture(2, random_state=0)
        there, given = weighted(name, X, w, tmp_path)
        for _ in range(2):
            model.partial_fit(there, sample_weight=given)
        assert_same(model, stepped(X, w, parts=[slice(N), slice(N)]))
        assert_allclose(model.n_samples_seen_, 2.0 * w.sum(), rtol=1e-14)

    def test_dask(self):
        X = rows()
        model = GaussianMixture(2, random_state=0)
        for _ in range(2):
            model.partial_fit(da.from_array(X, chunks=(8192, -1)))
        assert_same(model, stepped(X, parts=[slice(N), slice(N)]))

    def test_a_bad_row_changes_nothing(self):
        X = rows()
        model = stepped(X, parts=[slice(N)])
        before = dict(vars(model))
        for few in (40, N):  # among the first rows, too
            model = stepped(X, parts=[slice(few)])
            before = dict(vars(model))
            with pytest.raises(ValueError, match=f"row {N - 5}, column 1"):
                model.partial_fit(Batches(batches(not_a_number(X))))
            assert vars(model) == before

    def test_what_can_be_read_once_is_refused(self):
        with pytest.raises(TypeError, match=r"only once.*Batches"):
            GaussianMixture(2).partial_fit(batches(rows())())


def incremental(X, sample_weight=None, **params):
    params = {"random_state": 0, "incremental_groups": 2, "max_iter": 4, "tol": 0.0, **params}
    return GaussianMixture(2, init_size=5000, **params).fit(X, sample_weight=sample_weight)


def incremental_of_array():
    return incremental(rows())


class TestIncremental:
    @each_source
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_the_bits_of_the_array(self, name, n_threads, tmp_path):
        model = incremental(SOURCES[name](rows(), tmp_path), n_threads=n_threads)
        assert_same(model, once(incremental_of_array))

    @each_weighted
    def test_weights(self, name, tmp_path):
        X, w = rows(), weights_of()
        assert_same(incremental(*weighted(name, X, w, tmp_path)), incremental(X, w))

    def test_every_pass_reads_the_rows_once(self):
        calls = []

        def make():
            calls.append(1)
            return batches(rows())()

        start = once(incremental_of_array)
        given = {
            "weights_init": start.weights_,
            "means_init": start.means_,
            "precisions_init": start.precisions_,
        }
        incremental(Batches(make, n_rows=N), **given)
        # a look at the first batch, a pass each, and the first block for what the fit warns of
        assert len(calls) == 1 + 4 + 1

    def test_what_overflows_in_float32_is_read_again(self, monkeypatch):
        X = rows(np.float32)
        with monkeypatch.context() as patch:
            patch.setattr(SufficientStats, "is_finite", lambda stats: False)
            assert_same(incremental(Batches(batches(X))), incremental(X))

    @pytest.mark.parametrize("n_parts", [1, 2, 3])
    def test_a_part_can_be_read_again(self, n_parts):
        class Sums(ReducePass):
            size = 3

            def worker(self):
                def run(block, statistics):
                    statistics += block.rows.sum(axis=0)

                return run

        X = rows()
        with Workers(2) as workers:
            array = ArraySource(X, workers)
            stream = StreamSource(BatchReader(Batches(batches(X))), workers)
            assert stream.n_blocks == array.n_blocks
            pairs = zip(array.parts(n_parts), stream.parts(n_parts), strict=True)
            for one, two in pairs:
                expected = one.reduce(Sums())
                for _ in range(3):
                    assert_array_equal(two.reduce(Sums()), expected)

    def test_other_rows_in_a_later_pass_are_an_error(self):
        lengths = iter([N, N, N, N - 9000])

        def make():
            return batches(rows()[: next(lengths)])()

        with pytest.raises(ValueError, match="held 20011 rows at first"):
            incremental(Batches(make, n_rows=N))
        lengths = iter([N] * 3 + [N + 1])
        X = np.concatenate([rows(), rows()])
        with pytest.raises(ValueError, match="held 20011 rows at first and more"):
            incremental(Batches(lambda: batches(X[: next(lengths)])(), n_rows=N))

    def test_dask_is_refused(self):
        with pytest.raises(ValueError, match="incremental_groups=1"):
            incremental(da.from_array(rows(), chunks=(8192, -1)))
