"""Choosing a model: published choices, rows that single fits repeat, failures that are rows."""

import sys
import tracemalloc
import types
import warnings

import numpy as np
import oracle
import pytest
from datasets import faithful, iris
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from small_models import each_type, small

import fastgmm
import fastgmm._initialise
import fastgmm.selection
from fastgmm import FitWarning, GaussianMixture, ModelSelection, select_model

TYPES = oracle.COVARIANCE_TYPES
TIGHT = {"tol": 1e-6, "max_iter": 1000, "random_state": 0}


@pytest.fixture(scope="module")
def selection():
    return select_model(small(), range(1, 4), random_state=0, tol=1e-2, reg_covar=1e-4)


class TestPublishedChoices:
    def test_iris(self):
        """mclust on iris, its sign changed: among our types VVV with 2 components is best."""
        found = select_model(iris(), range(1, 6), reg_covar=1e-6, **TIGHT)
        row = found.best_row
        assert (row.covariance_type, row.n_components) == ("full", 2)
        assert row.bic == pytest.approx(574.0178, abs=0.01)
        table = {(row.covariance_type, row.n_components): row for row in found.table}
        mclust = {
            "spherical": [1804.0854, 1012.2352, 853.8144],
            "diag": [1522.1202, 857.5515],
            "tied": [829.9782, 688.0972, 632.9647],
            "full": [829.9782, 574.0178, 580.8396],
        }
        for kind, values in mclust.items():
            for k, value in enumerate(values, 1):
                assert table[kind, k].bic == pytest.approx(value, abs=0.02)

    def test_faithful(self):
        """mclust on Old Faithful, its sign changed: EEE with 3 components is best."""
        row = select_model(faithful(), range(1, 7), **TIGHT).best_row
        assert (row.covariance_type, row.n_components) == ("tied", 3)
        # mclust stops at a relative change of 1e-5: ours is at least as good
        assert 2314.316 - 0.03 < row.bic < 2314.316 + 0.01

    @each_type
    def test_what_the_data_were_made_of(self, kind):
        rng = np.random.default_rng(3)
        roots = np.eye(3) + rng.normal(scale=0.6, size=(4, 3, 3))
        matrices = roots @ roots.transpose(0, 2, 1) * np.array([0.3, 1, 2, 0.6])[:, None, None]
        made = GaussianMixture.from_parameters(
            [0.3, 0.3, 0.2, 0.2],
            10.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]]),
            oracle.compact(matrices, kind),
            covariance_type=kind,
        )
        X, _ = made.sample(3000, random_state=1)
        row = select_model(X, range(1, 7), n_init=2, random_state=0).best_row
        assert (row.covariance_type, row.n_components) == (kind, 4)


class TestTable:
    def test_rows_are_what_single_fits_give(self, selection):
        assert len(selection.table) == 12
        order = [(row.covariance_type, row.n_components) for row in selection.table]
        assert order == [(kind, k) for kind in TYPES for k in (1, 2, 3)]
        for row in selection.table:
            model = GaussianMixture(
                row.n_components,
                covariance_type=row.covariance_type,
                random_state=selection.random_state,
                tol=1e-2,
                reg_covar=1e-4,
            ).fit(small())
            criteria = model.information_criteria(small())._asdict()
            assert {name: getattr(row, name) for name in criteria} == criteria
            assert (row.converged, row.n_iter) == (model.converged_, model.n_iter_)
            assert row.bic == pytest.approx(model.bic(small()), rel=1e-12)
            assert row.seconds > 0
            assert row.error is None

    def test_best_is_a_model_like_any(self, selection):
        model = GaussianMixture(**selection.best.get_params()).fit(small())
        for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
            assert_array_equal(getattr(selection.best, name), getattr(model, name))
        assert selection.best_row.bic == min(row.bic for row in selection.table)
        assert selection.best_row is selection.table[selection.best_index]
        assert selection.best.n_threads is None
        assert not [name for name in vars(selection.best) if "cluster" in name]

    @pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
    def test_criterion(self, criterion):
        found = select_model(small(), range(1, 4), criterion=criterion, random_state=0, tol=0.1)
        values = [getattr(row, criterion) for row in found.table]
        assert found.best_index == np.argmin(values)
        assert found.criterion == criterion

    def test_one_of_each(self):
        found = select_model(small(), 2, "diag", random_state=0)
        assert len(found.table) == 1
        assert repr(found) == "<ModelSelection by bic: diag, 2 components; 1 candidates, 0 failed>"

    def test_frame(self, selection):
        pd = pytest.importorskip("pandas")
        frame = selection.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert tuple(frame.columns) == fastgmm.selection.Candidate._fields
        assert_array_equal(frame["bic"], [row.bic for row in selection.table])
        assert frame["n_components"].dtype == np.int64

    def test_frame_without_pandas(self, selection, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            selection.to_frame()

    def test_plot_is_left_to_the_room_for_pictures(self, selection, monkeypatch):
        room = types.ModuleType("fastgmm.plot")
        room.selection = lambda result, ax=None: (result, ax)
        monkeypatch.setitem(sys.modules, "fastgmm.plot", room)
        monkeypatch.setattr(fastgmm, "plot", room, raising=False)
        assert selection.plot() == (selection, None)
        assert selection.plot(ax=3) == (selection, 3)


class TestRepeats:
    X = np.random.default_rng(0).normal(size=(3000, 6)) + 4 * (np.arange(3000) % 3)[:, None]

    @pytest.mark.parametrize("n_init", [1, 2])
    def test_bits_do_not_depend_on_threads_order_or_company(self, n_init, monkeypatch):
        common = {"random_state": 5, "n_init": n_init, "tol": 1e-2, "sample_weight": None}
        assert self.X.size in fastgmm.selection._SIDE_BY_SIDE
        reference = select_model(self.X, range(1, 4), **common)
        for n_threads in (1, 3):
            again = select_model(self.X, [3, 1, 2], TYPES[::-1], n_threads=n_threads, **common)
            theirs = {row[:2]: row[2:9] for row in again.table}
            assert theirs == {row[:2]: row[2:9] for row in reference.table}
            assert_array_equal(again.best.means_, reference.best.means_)
        del common["sample_weight"]
        for row in reference.table[-3:]:
            model = GaussianMixture(row.n_components, covariance_type="spherical", **common)
            assert row.log_likelihood == model.fit(self.X).information_criteria(self.X)[0]

    def test_clusters_are_found_once_for_all_types(self, monkeypatch):
        sizes = []

        def counted(source, k, rng):
            sizes.append(k)
            return original(source, k, rng)

        original = fastgmm._initialise.kmeans
        monkeypatch.setattr(fastgmm._initialise, "kmeans", counted)
        select_model(self.X, range(1, 5), random_state=0, tol=1.0)
        assert sorted(sizes) == [1, 2, 3, 4]

    def test_seed_is_drawn_and_told(self):
        first = select_model(self.X, 2, "diag", tol=1.0)
        assert first.random_state != select_model(self.X, 2, "diag", tol=1.0).random_state
        again = select_model(self.X, 2, "diag", tol=1.0, random_state=first.random_state)
        assert_array_equal(first.best.means_, again.best.means_)
        drawn = [
            select_model(self.X, 2, "diag", tol=1.0, random_state=np.random.RandomState(1))
            for _ in range(2)
        ]
        assert drawn[0].random_state == drawn[1].random_state

    def test_ties_go_to_the_first(self):
        """With one feature full, diagonal and spherical are the same model."""
        X = self.X[:, :1]
        for order in (["spherical", "diag"], ["diag", "spherical"]):
            found = select_model(X, [1], order, n_threads=3)
            assert found.table[0].bic == found.table[1].bic
            assert found.best_index == 0


class TestData:
    def test_weights(self):
        weights = np.random.default_rng(1).integers(0, 4, 60).astype(float)
        found = select_model(small(), [1, 2], "full", sample_weight=weights, random_state=0)
        for row in found.table:
            model = GaussianMixture(row.n_components, random_state=0)
            model.fit(small(), sample_weight=weights)
            assert row.bic == pytest.approx(model.bic(small(), weights), rel=1e-12)

    def test_float32(self):
        found = select_model(small().astype(np.float32), [1, 2], random_state=0, tol=0.1)
        assert found.best.means_.dtype == np.float32

    def test_names(self):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(small(), columns=["a", "b", "c"])
        found = select_model(frame, [1, 2], "diag", random_state=0)
        assert list(found.best.feature_names_in_) == ["a", "b", "c"]
        assert found.best.predict(frame).shape == (60,)

    def test_lists(self):
        assert select_model(small().tolist(), [1, 2], "diag").best.n_features_in_ == 3

    def test_rows_are_not_copied(self, tmp_path):
        np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(100_000, 40)))
        X = np.load(tmp_path / "rows.npy", mmap_mode="r")
        select_model(X[:2000], [1, 2], tol=1.0)  # whatever is allocated once
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            select_model(X, [1, 2, 3], max_iter=1, n_threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < X.nbytes / 4


class TestFailures:
    def test_a_failure_is_a_row(self):
        X = small()[:, [0, 0, 1]]  # two equal columns: only matrices are singular
        found = select_model(X, [1, 2, 61], reg_covar=0.0, random_state=0, tol=0.1)
        for row in found.table:
            if row.n_components == 61:
                assert "n_samples >= n_components" in row.error
            else:
                assert (row.error is not None) == (row.covariance_type in ("full", "tied"))
            if row.error:
                assert row.n_parameters is None
                assert np.isnan([row.log_likelihood, row.aic, row.bic, row.icl]).all()
                assert not row.converged
        assert "ill-defined" in found.table[0].error
        assert found.best.covariance_type in ("diag", "spherical")
        assert "8 failed" in repr(found)
        if "pandas" in sys.modules:
            assert found.to_frame()["bic"].isna().sum() == 8

    def test_out_of_memory_is_a_row(self, monkeypatch):
        original = GaussianMixture.fit

        def fit(self, *args, **params):
            if self.n_components == 2:
                raise MemoryError
            return original(self, *args, **params)

        monkeypatch.setattr(GaussianMixture, "fit", fit)
        found = select_model(small(), [1, 2], "diag")
        assert [row.error for row in found.table] == [None, "MemoryError"]

    def test_all_fail(self):
        with pytest.raises(ValueError, match=r"None of the 2 candidates.*full with 70 comp.*n_sam"):
            select_model(small(), [70, 80], "full")
        X = small()
        X[41, 1] = np.nan
        with pytest.raises(ValueError, match=r"NaN[\s\S]*row 41, column 1"):
            select_model(X, [1, 2])

    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"criterion": "best"}, "criterion='best' should be one of bic, aic, icl"),
            ({"n_components": []}, "one value at least"),
            ({"covariance_types": ()}, "one value at least"),
            ({"n_components": [2, 0]}, "n_components"),
            ({"covariance_types": None}, "covariance_type"),
            ({"covariance_types": ["full", "round"]}, "covariance_type"),
            ({"tol": -1}, "'tol'"),
            ({"n_init": 0}, "n_init"),
            ({"random_state": -1}, "random_state"),
            ({"n_threads": 0}, "n_threads"),
            ({"sample_weight": [1.0]}, "sample_weight"),
        ],
    )
    def test_bad_parameters_raise_before_any_fit(self, params, match, monkeypatch):
        monkeypatch.setattr(GaussianMixture, "fit", None)
        with pytest.raises(ValueError, match=match):
            select_model(small(), **params)

    def test_unknown_parameter(self):
        with pytest.raises(TypeError, match="colour"):
            select_model(small(), colour="red")
        with pytest.raises(TypeError, match="Give covariance_types"):
            select_model(small(), covariance_type="full")

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_interrupt(self, n_threads, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(GaussianMixture, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            select_model(TestRepeats.X, n_threads=n_threads)


class TestReports:
    def test_warnings_of_the_best_alone(self):
        with pytest.warns(ConvergenceWarning, match="The best model, full with 2") as caught:
            found = select_model(iris(), [2], random_state=0, max_iter=1)
        assert len(caught) == len(found.best_row.warnings) == 1
        assert caught[0].filename == __file__
        assert all("did not converge" in row.warnings[0] for row in found.table)

    def test_silence_where_the_best_is_fine(self):
        X = np.insert(small(), 1, 4.5, axis=1)  # a constant column
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = select_model(X, [1, 2], random_state=0, reg_covar=1e-2)
        assert {warning.category for warning in caught} == {FitWarning}
        assert len(caught) == len(found.best_row.warnings)
        assert all("Column 1 is constant" in "".join(row.warnings) for row in found.table)

    def test_a_fit_afterwards_warns_again(self):
        select_model(small(), 1, "diag")
        with pytest.warns(ConvergenceWarning):
            GaussianMixture(2, max_iter=1, random_state=0).fit(small())

    def test_progress(self, capsys):
        select_model(small(), [1, 2, 61], ["full", "diag"], verbose=1, random_state=0, tol=0.1)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == [f"[{i}/6]" for i in range(1, 7)]
        assert any("full with 2 components: BIC " in line for line in lines)
        assert sum("failed (Expected n_samples" in line for line in lines) == 2
        select_model(small(), 1, "diag")
        assert capsys.readouterr() == ("", "")


def test_the_same_choice_by_grid_search():
    """GaussianMixture in scikit-learn's own search, scored by -BIC on the rows of one split."""
    X = faithful()
    everything = [(np.arange(len(X)), np.arange(len(X)))]
    grid = {"n_components": [1, 2, 3, 4], "covariance_type": list(TYPES)}
    search = GridSearchCV(
        GaussianMixture(**TIGHT),
        grid,
        scoring=lambda model, rows, y=None: -model.bic(rows),
        cv=everything,
    ).fit(X)
    found = select_model(X, [1, 2, 3, 4], **TIGHT)
    assert isinstance(found, ModelSelection)
    assert search.best_params_ == {"n_components": 3, "covariance_type": "tied"}
    assert_allclose(-search.best_score_, found.best_row.bic)
    assert_array_equal(search.best_estimator_.means_, found.best.means_)
