"""Pictures: the numbers in them against scipy and the model, and what they leave behind."""

import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import faithful, iris, two_clusters
from numpy.testing import assert_allclose, assert_array_equal
from oracle import Parameters, covariance_matrices
from scipy.stats import multivariate_normal
from small_models import each_type, fitted, known

import fastgmm
from fastgmm import GaussianMixture, History

pytest.importorskip("matplotlib").use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib import rcParams  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from fastgmm import plot  # noqa: E402

WAITING = faithful()[:, 1:]


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def axes():
    return Figure().subplots(2, 3)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """A given `ax` needs no pyplot; what pyplot did open is closed; settings stay."""
    settings = dict(rcParams)
    yield
    plt.close("all")
    assert dict(rcParams) == settings


@pytest.fixture(scope="module")
def waiting():
    return fitted(k=3, X=WAITING)


@pytest.fixture(scope="module")
def eruptions():
    return fitted(k=2, X=faithful())


@pytest.fixture(scope="module")
def watched():
    history = History()
    model = GaussianMixture(2, init_params="random_from_data", tol=1e-5, n_init=2, random_state=0)
    return history, model.set_callbacks(history).fit(faithful())


def matrices_of(model):
    parts = (model.weights_, model.means_, model.covariances_, model.covariance_type)
    return covariance_matrices(Parameters(*parts))


class TestDensity:
    def test_curves_in_one_dimension(self, ax, waiting):
        assert plot.density(waiting, WAITING, ax=ax) is ax
        mixture, *components = ax.lines
        x, y = mixture.get_data()
        assert_allclose(y, np.exp(waiting.score_samples(x[:, None])), rtol=1e-9)
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-4)
        each = waiting.weights_ * np.exp(waiting.component_log_density(x[:, None]))
        assert_allclose([line.get_ydata() for line in components], each.T, rtol=1e-9, atol=1e-300)
        areas = [np.trapezoid(line.get_ydata(), x) for line in components]
        assert_allclose(areas, waiting.weights_, atol=1e-4)

    def test_histogram_is_a_density(self, ax, waiting):
        plot.density(waiting, WAITING, ax=ax, bins=12)
        (patch,) = ax.patches
        values, edges, _ = patch.get_data()
        expected, places = np.histogram(WAITING, 12, density=True)
        assert_allclose(values, expected)
        assert_allclose(edges, places)

    @pytest.mark.parametrize("outlier", [0.0, 1e12])
    def test_number_of_bins_is_bounded(self, ax, waiting, outlier):
        X = np.append(WAITING, [[outlier]], axis=0)
        plot.density(waiting, X, ax=ax)
        assert 16 <= len(ax.patches[0].get_data().values) <= 120

    def test_constant_data(self, ax, waiting):
        plot.density(waiting, np.full((10, 1), 70.0), ax=ax)
        assert len(ax.patches) == 1

    def test_a_narrow_component_is_seen(self, ax):
        model = GaussianMixture.from_parameters(
            [0.5, 0.5], [[0.0], [100.0]], [1e-6, 400.0], covariance_type="spherical"
        )
        plot.density(model, ax=ax)
        x, y = ax.lines[0].get_data()
        assert y.max() == pytest.approx(np.exp(model.score_samples([[0.0]])[0]), rel=1e-3)
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)

    @each_type
    def test_contours(self, ax, kind):
        model = fitted(kind, X=faithful())
        plot.density(model, faithful(), ax=ax)
        (contours,) = [c for c in ax.collections if hasattr(c, "levels")]
        assert len(contours.levels) == 6
        for path, level in zip(contours.get_paths(), contours.levels, strict=True):
            assert_allclose(np.exp(model.score_samples(path.vertices)), level, rtol=0.02)
        X, _ = model.sample(20_000, random_state=1)
        p = np.exp(model.score_samples(X))
        shares = [(p >= level).mean() for level in contours.levels]
        assert_allclose(shares, [0.99, 0.9, 0.75, 0.5, 0.25, 0.1], atol=0.012)

    @each_type
    @pytest.mark.parametrize("features", [[0], [2], [2, 0]])
    def test_marginal(self, ax, kind, features):
        truth = known(kind)
        model = GaussianMixture.from_parameters(*truth[:3], covariance_type=kind)
        plot.density(model, ax=ax, features=features)
        if len(features) == 1:
            points = ax.lines[0].get_xdata()[:, None]
            values = ax.lines[0].get_ydata()
        else:
            contours = ax.collections[0]
            points = contours.get_paths()[2].vertices
            values = np.full(len(points), contours.levels[2])
        index = np.ix_(features, features)
        expected = sum(
            weight * multivariate_normal(mean[features], matrix[index]).pdf(points)
            for weight, mean, matrix in zip(
                truth.weights, truth.means, covariance_matrices(truth), strict=True
            )
        )
        assert_allclose(values, expected, rtol=1e-9 if len(features) == 1 else 0.03)

    def test_options(self, ax, waiting):
        plot.density(waiting, ax=ax, components=False, legend=False)
        assert len(ax.lines) == 1
        assert not ax.patches
        assert ax.get_legend() is None

    def test_many_components_share_a_line_of_the_legend(self, ax):
        means = np.arange(20.0)[:, None]
        model = GaussianMixture.from_parameters(
            np.full(20, 0.05), means, np.ones(20), covariance_type="spherical"
        )
        plot.density(model, ax=ax)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["mixture", "components"]
        looks = {(line.get_color(), str(line._dash_pattern)) for line in ax.lines}
        assert len(looks) == 21

    def test_names(self, ax):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(faithful(), columns=["duration", "waiting"])
        model = fitted(X=frame)
        plot.density(model, frame, ax=ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("duration", "waiting")
        plot.density(model, frame, features="waiting", ax=ax)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("waiting", "density")

    def test_large_data_are_sampled(self, ax, eruptions):
        X, _ = eruptions.sample(8000, random_state=0)
        plot.density(eruptions, X, ax=ax)
        points = ax.collections[0].get_offsets()
        assert len(points) == 5000
        assert "5,000 of 8,000 rows shown" in ax.get_legend().get_texts()[0].get_text()


class TestClusters:
    @each_type
    def test_ellipses(self, ax, kind):
        model = fitted(kind, k=3, X=faithful())
        assert plot.clusters(model, faithful(), ax=ax) is ax
        assert len(ax.patches) == 6
        matrices = matrices_of(model)
        for i, ellipse in enumerate(ax.patches):
            k, sd = divmod(i, 2)
            assert_allclose(ellipse.center, model.means_[k])
            expected = (sd + 1) * np.sqrt(np.linalg.eigvalsh(matrices[k]))
            assert_allclose([ellipse.height / 2, ellipse.width / 2], expected, rtol=1e-9)
            # every point of the outline is as far as its number of standard deviations
            outline = ellipse.get_patch_transform().transform(ellipse.get_path().vertices)
            on_curve = outline[np.isclose(np.linalg.norm(ellipse.get_path().vertices, axis=1), 1)]
            assert_allclose(model.mahalanobis(on_curve)[:, k], sd + 1, rtol=1e-6)

    def test_points_by_label(self, ax, eruptions):
        X = faithful()
        plot.clusters(eruptions, X, ax=ax)
        labels = eruptions.predict(X)
        for k, points in enumerate(ax.collections):
            assert_array_equal(points.get_offsets(), X[labels == k])

    def test_uncertain_points_are_hollow(self, ax, eruptions):
        X = faithful()
        plot.clusters(eruptions, X, ax=ax, certain=0.999)
        largest = eruptions.predict_proba(X).max(axis=1)
        hollow = sum((c.get_facecolor()[:, :3] == 1).all(axis=1).sum() for c in ax.collections)
        assert hollow == (largest < 0.999).sum() > 0
        assert "less than 99.9 % sure" in {t.get_text() for t in ax.get_legend().get_texts()}

    def test_two_of_many_features(self, ax):
        X = iris()
        model = fitted(k=3, X=X)
        plot.clusters(model, X, ax=ax, features=(2, -1))
        labels = model.predict(X)  # by all four
        found = np.concatenate([c.get_offsets() for c in ax.collections])
        expected = np.concatenate([X[labels == k][:, [2, 3]] for k in range(3)])
        assert_array_equal(found, expected)
        variances = np.linalg.eigvalsh(model.covariances_[0][2:, 2:])
        assert_allclose(ax.patches[0].width / 2, np.sqrt(variances[-1]))

    def test_large_data_are_sampled(self, ax):
        pd = pytest.importorskip("pandas")
        X, _ = two_clusters(6000, 2)
        frame = pd.DataFrame(X, columns=["a", "b"])
        model = fitted(X=frame)
        plot.clusters(model, frame, ax=ax)
        drawn = np.concatenate([c.get_offsets() for c in ax.collections])
        assert len(np.unique(drawn, axis=0)) == 5000
        assert ax.get_legend().get_title().get_text() == "5,000 of 6,000 rows shown"

    def test_many_components(self, ax):
        X, _ = two_clusters(300, 2)
        model = GaussianMixture.from_parameters(
            np.full(10, 0.1), X[:10], np.ones(10), covariance_type="spherical"
        )
        plot.clusters(model, X, ax=ax)
        assert len(ax.get_legend().get_texts()) == 4  # points, unsure ones, two ellipses


class TestEM:
    def test_panels(self, axes, watched):
        history, model = watched
        drawn = plot.em(history, faithful(), ax=axes)
        assert all(a is b for a, b in zip(drawn, axes.flat, strict=True))
        runs = {r.init: r for r in history.records}
        best = max(runs.values(), key=lambda record: record.bound)
        assert drawn[0].get_title() == "iteration 1"
        assert drawn[-1].get_title() == f"iteration {model.n_iter_}"
        assert_allclose([e.center for e in drawn[-1].patches[::2]], best.means)
        expected = np.sqrt([np.linalg.eigvalsh(c)[-1] for c in best.covariances])
        assert_allclose([e.width / 2 for e in drawn[-1].patches[::2]], expected)

    def test_curves(self, watched):
        history, _ = watched
        given = [Figure().subplots()]
        (panel,) = plot.em(history, faithful(), given, steps=[3], init=1, features=1)
        record = next(r for r in history.records if (r.init, r.iteration) == (1, 3))
        x, y = panel.lines[0].get_data()
        expected = sum(
            w * multivariate_normal(m[1], c[1, 1]).pdf(x)
            for w, m, c in zip(record.weights, record.means, record.covariances, strict=True)
        )
        assert_allclose(y, expected, rtol=1e-9)
        assert panel.get_xlabel() == "feature 1"

    @each_type
    def test_types_are_told_apart(self, ax, kind):
        """With as many components as features, shapes alone do not tell diag from tied."""
        history = History()
        model = GaussianMixture(2, covariance_type=kind, random_state=0).set_callbacks(history)
        model.fit(faithful())
        (ax,) = plot.em(history, faithful(), [ax], steps=1)
        matrices = matrices_of(model)
        expected = [np.sqrt(np.linalg.eigvalsh(matrix)[-1]) for matrix in matrices]
        assert_allclose([e.width / 2 for e in ax.patches[::2]], expected, rtol=1e-6)

    def test_overlay(self, ax, watched):
        history, _ = watched
        assert plot.em(history, faithful(), ax, steps=4) is ax
        assert len(ax.patches) == 2 * 3 + 2 * 2
        assert ax.get_title().count(",") == 3
        ax.clear()
        plot.em(history, faithful(), ax, steps=4, features=0)
        assert len(ax.lines) == 4 + 2

    @pytest.mark.parametrize(
        ("n", "count", "expected"),
        [
            (1, 6, [1]),
            (3, 6, [1, 2, 3]),
            (100, 3, [1, 10, 100]),
            (6, 6, [1, 2, 3, 4, 5, 6]),
            (9, 1, [9]),
        ],
    )
    def test_choice_of_steps(self, n, count, expected):
        means = np.zeros((1, 1))
        record = SimpleNamespace(
            init=0,
            bound=0.0,
            weights=np.ones(1),
            means=means,
            covariances=np.ones(1),
            covariance_type="spherical",
        )
        history = SimpleNamespace(records=[record] * n)
        drawn = plot.em(history, np.arange(5.0)[:, None], steps=count)
        assert [ax.get_title() for ax in drawn] == [f"iteration {i}" for i in expected]
        assert len(drawn[0].figure.axes) == len(expected)
        assert len(plt.get_fignums()) == 1

    def test_spare_axes_stay_empty(self, axes, watched):
        drawn = plot.em(watched[0], faithful(), ax=axes, steps=[1, 2])
        assert len(drawn) == 2
        assert not axes[1, 2].has_data()

    def test_large_data_are_sampled(self, ax, watched):
        history, model = watched
        X, _ = model.sample(8000, random_state=0)
        plot.em(history, X, [ax], steps=1)
        assert len(ax.collections[0].get_offsets()) == 5000
        assert [text.get_text() for text in ax.texts] == ["5,000 of 8,000 rows shown"]

    def test_names_of_a_frame(self, ax, watched):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(faithful(), columns=["duration", "waiting"])
        plot.em(watched[0], frame, ax, features="waiting")
        assert ax.get_xlabel() == "waiting"

    def test_animation(self, ax, watched, tmp_path):
        image = pytest.importorskip("PIL.Image")
        path = tmp_path / "em.gif"
        plot.animate_em(watched[0], faithful(), path, ax, steps=[1, 2, 5], interval=200, dpi=40)
        with image.open(path) as gif:
            assert (gif.format, gif.n_frames, gif.info["duration"]) == ("GIF", 3, 200)
        assert len(ax.patches) == 4  # of the last frame alone
        assert ax.get_title() == "iteration 5"

    def test_animation_on_a_figure_of_its_own(self, watched, tmp_path):
        path = tmp_path / "em.gif"
        plot.animate_em(watched[0], faithful(), path, features=0, steps=2, dpi=30)
        assert path.stat().st_size > 1000
        assert len(plt.get_fignums()) == 1


Row = namedtuple("Row", "covariance_type n_components icl error")


class TestSelection:
    rows = (
        Row("full", 2, 5.0, None),
        Row("full", 1, 40.0, None),
        Row("full", 3, None, "failed"),
        Row("diag", 1, 60.0, None),
        Row("diag", 2, 20.0, None),
        Row("tied", 1, float("nan"), "failed"),
    )

    def result(self, rows):
        return SimpleNamespace(table=list(rows), criterion="icl", best_row=rows[0])

    def test_lines(self, ax):
        assert plot.selection(self.result(self.rows), ax=ax) is ax
        full, diag, winner = ax.lines
        assert_array_equal(full.get_xydata(), [[1, 35], [2, 0]])
        assert_array_equal(diag.get_xydata(), [[1, 55], [2, 15]])
        assert_array_equal(winner.get_xydata(), [[2, 0]])
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["full", "diag"]
        assert ax.get_ylabel() == "ICL above the smallest"
        assert ax.get_title() == "ICL chose full, K=2 (ICL 5.0)"
        assert all(tick == int(tick) for tick in ax.get_xticks())

    def test_all_failed(self, ax):
        with pytest.raises(ValueError, match="Every candidate failed"):
            plot.selection(self.result(self.rows[2:3]), ax=ax)


CALLS = {
    "density": lambda watched, ax: plot.density(watched[1], faithful(), ax=ax),
    "clusters": lambda watched, ax: plot.clusters(watched[1], faithful(), ax=ax),
    "em": lambda watched, ax: plot.em(watched[0], faithful(), ax=ax),
    "selection": lambda watched, ax: plot.selection(TestSelection().result(TestSelection.rows), ax),
}
each_picture = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_picture
def test_new_figure_only_without_axes(call, watched, ax):
    assert call(watched, ax) is ax
    assert plt.get_fignums() == []
    drawn = call(watched, None)
    assert len(plt.get_fignums()) == 1
    assert np.ravel(drawn)[0].figure is plt.gcf()
    plt.gcf().canvas.draw()


@each_picture
def test_without_matplotlib(call, watched, monkeypatch):
    for name in [*sys.modules]:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "fastgmm\[plot\]"'):
        call(watched, None)


@pytest.mark.parametrize("draw", [plot.density, plot.clusters], ids=["density", "clusters"])
class TestBadInput:
    def refused(self, match, draw, *args, **options):
        with pytest.raises(ValueError, match=match):
            draw(*args, **options)
        assert plt.get_fignums() == []

    def test_not_fitted(self, draw):
        self.refused("not fitted yet", draw, GaussianMixture(), faithful())

    def test_too_many_features(self, draw):
        X = iris()
        self.refused(r"4 features.*features=\(i, j\).*model.marginal", draw, fitted(X=X), X)

    @pytest.mark.parametrize(
        ("features", "match"),
        [
            ((0, 1, 1), "choose one feature or two"),
            ((), "choose one feature or two"),
            ((1, 1), "two different"),
            ((1, -1), "two different"),
            ((0, 2), "the mixture has 2, feature 0, feature 1"),
            ("height", "the mixture has 2, feature 0, feature 1"),
        ],
    )
    def test_features(self, draw, eruptions, features, match):
        self.refused(match, draw, eruptions, faithful(), features=features)

    @pytest.mark.parametrize("X", [faithful()[:, 0], iris(), faithful()[:0]])
    def test_other_shape(self, draw, eruptions, X):
        self.refused(r"Expected X of shape \(n_samples, 2\)", draw, eruptions, X)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, draw, eruptions, value):
        X = faithful()
        X[7, 1] = value
        self.refused("NaN or infinity", draw, eruptions, X)


def test_clusters_need_two_features(waiting, eruptions):
    for model, X in ((waiting, WAITING), (eruptions, faithful())):
        with pytest.raises(ValueError, match=r"needs two features.*density"):
            plot.clusters(model, X, features=0)


@pytest.mark.parametrize("draw", [plot.em, plot.animate_em])
class TestBadHistory:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"init": 2}, "no run 2; the history has runs 0 to 1"),
            ({"steps": 0}, "at least one iteration"),
            ({"steps": []}, "the iterations 1 to"),
            ({"steps": [1, 10_000]}, "the iterations 1 to"),
            ({"features": 2}, "the mixture has 2"),
        ],
    )
    def test_options(self, draw, watched, options, match):
        with pytest.raises(ValueError, match=match):
            draw(watched[0], faithful(), **options)

    def test_empty(self, draw):
        with pytest.raises(ValueError, match=r"empty.*set_callbacks"):
            draw(History(), faithful())

    def test_without_parameters(self, draw):
        history = History(keep_parameters=False)
        GaussianMixture(random_state=0).set_callbacks(history).fit(faithful())
        with pytest.raises(ValueError, match=r"History\(keep_parameters=True\)"):
            draw(history, faithful())

    def test_other_data(self, draw, watched):
        with pytest.raises(ValueError, match="Expected X of shape"):
            draw(watched[0], iris())


def test_too_few_axes(axes, watched):
    with pytest.raises(ValueError, match="3 iterations need as many axes; 2 were given"):
        plot.em(watched[0], faithful(), ax=axes[0, :2], steps=3)


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_interval(watched, interval):
    with pytest.raises(ValueError, match="positive number of milliseconds"):
        plot.animate_em(watched[0], faithful(), interval=interval)


def test_attribute_of_the_package():
    assert fastgmm.plot is plot
    with pytest.raises(AttributeError, match="no attribute 'plots'"):
        _ = fastgmm.plots


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda X, gm: plot.density(X), "Expected a fitted mixture first"),
        (lambda X, gm: plot.clusters(X, gm), "Expected a fitted mixture first"),
        (lambda X, gm: plot.clusters(SimpleNamespace(mixture_=gm), X), "give its mixture_"),
        (lambda X, gm: plot.em(gm, X), "Expected the History of a fit"),
        (lambda X, gm: plot.selection(gm), "Expected what select_model returned"),
        (lambda X, gm: plot.density(gm, X, ax="ax"), "one matplotlib Axes, got str"),
        (lambda X, gm: plot.clusters(gm, X, ax=Figure()), "one matplotlib Axes, got Figure"),
    ],
)
def test_what_is_no_mixture_or_no_axes(draw, match):
    with pytest.raises(TypeError, match=match):
        draw(faithful(), fitted(X=faithful()))
    assert plt.get_fignums() == []
