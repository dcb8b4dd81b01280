"""``partial_fit`` against the oracle's stepwise EM, and its promises as an estimator's method."""

import io
import pickle

import numpy as np
import oracle
import pytest
from datasets import synthetic
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from small_models import ARRAYS, each_type, known, made

from fastgmm import GaussianMixture, load
from fastgmm._stepwise import enough_rows, step_size
from fastgmm._structures import STRUCTURES

K, D, BATCH = 2, 3, 120
STATE = (*ARRAYS, "n_samples_seen_", "n_batches_seen_", "lower_bound_", "lower_bounds_", "n_iter_")


def stream(n_batches=5, offset=0.0, size=BATCH):
    """Batches from two components that overlap a little."""
    rng = np.random.RandomState(0)
    labels = rng.randint(3, size=n_batches * size) == 0
    X = rng.normal(size=(n_batches * size, D)) * [1.0, 2.0, 0.5] + offset
    X[labels] = 1.5 * X[labels][:, ::-1] - 0.5 * offset + [3.0, 0.0, 1.0]
    return np.split(X, n_batches)


def begun(kind, offset=0.0, **params):
    """An estimator whose first batch makes one EM step from known parameters."""
    truth = known(kind)
    start = truth._replace(means=truth.means + offset)
    return GaussianMixture(max_iter=1, **oracle.start_of(start), **params), start


def steps_of(sizes, power=0.6, offset=2.0):
    """The textbook's steps, for batches of at least enough rows; the first one is the start."""
    seen = np.concatenate([[0.0], np.cumsum(sizes)[:-1]])
    t = 1.0 + seen / sizes
    return np.concatenate([[1.0], (t[1:] + offset) ** -power])


def assert_parameters(model, truth, rtol=1e-8):
    ours = oracle.parameters_of(model)
    for name in ("weights", "means", "covariances"):
        one, two = getattr(ours, name), getattr(truth, name)
        assert_allclose(one, two, rtol=rtol, atol=rtol * np.abs(two).max(), err_msg=name)


def assert_same_state(one, other):
    for name in STATE:
        assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert np.asarray(getattr(one, name)).dtype == np.asarray(getattr(other, name)).dtype


# --- the algorithm --------------------------------------------------------------------------------


@pytest.mark.nojit
@each_type
@pytest.mark.parametrize(("power", "offset"), [(0.7, 2.0), (1.0, 0.0), (0.51, 10.0)])
def test_every_batch_is_the_oracles(kind, power, offset):
    model, start = begun(kind, step_power=power, step_offset=offset)
    batches = stream()
    steps = steps_of(np.full(5, BATCH), power, offset)
    assert_allclose(steps[1:], (np.arange(2, 6) + offset) ** -power)
    for batch, truth in zip(batches, oracle.stepwise_em(batches, start, steps), strict=True):
        before = oracle.parameters_of(model) if hasattr(model, "means_") else start
        model.partial_fit(batch)
        assert_parameters(model, truth)
        assert model.lower_bound_ == pytest.approx(oracle.score_samples(batch, before).mean())
    assert (model.n_samples_seen_, model.n_batches_seen_) == (5 * BATCH, 5)


@each_type
def test_batches_of_unlike_sizes_and_weights(kind):
    cuts = [150, 420, 540]
    X = np.concatenate(stream(6))
    batches = np.split(X, cuts)
    weights = np.split(np.random.RandomState(1).uniform(0.1, 2.0, len(X)), cuts)
    model, start = begun(kind)
    steps = steps_of(np.array([w.sum() for w in weights]))
    truths = oracle.stepwise_em(batches, start, steps, sample_weights=weights)
    for batch, w, truth in zip(batches, weights, truths, strict=True):
        assert_parameters(model.partial_fit(batch, sample_weight=w), truth)
    assert model.n_samples_seen_ == pytest.approx(sum(w.sum() for w in weights))


@each_type
def test_weights_are_repetitions_and_their_scale_is_nothing(kind):
    batches = stream()
    weights = [np.random.RandomState(i).randint(1, 4, BATCH).astype(float) for i in range(5)]
    weighted, repeated, scaled = (begun(kind)[0] for _ in range(3))
    for batch, w in zip(batches, weights, strict=True):
        weighted.partial_fit(batch, sample_weight=w)
        scaled.partial_fit(batch, sample_weight=1e-20 * w)
        repeated.partial_fit(np.repeat(batch, w.astype(int), axis=0))
    assert_parameters(weighted, oracle.parameters_of(repeated))
    assert_parameters(scaled, oracle.parameters_of(repeated))
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_


@each_type
def test_far_from_the_origin_nothing_changes(kind):
    offset = 2.0**20
    model, start = begun(kind, offset)
    batches = stream(offset=offset)
    truth = oracle.stepwise_em(batches, start, steps_of(np.full(5, BATCH)))[-1]
    for batch in batches:
        model.partial_fit(batch)
    # what the oracle's own differences lose: 2**20 has 20 bits of 53
    assert_parameters(model, truth, 1e-8)
    assert_allclose(model.means_ - offset, truth.means - offset, rtol=1e-7, atol=1e-8)


@each_type
def test_float32_rows(kind):
    model, start = begun(kind)
    batches = [batch.astype(np.float32) for batch in stream()]
    truth = oracle.stepwise_em(batches, start, steps_of(np.full(5, BATCH)))[-1]
    for batch in batches:
        model.partial_fit(batch)
    for name in ARRAYS:
        assert getattr(model, name).dtype == np.float32
    assert_parameters(model, truth, 3e-5)
    assert model.partial_fit(batches[0].astype(np.float64)).means_.dtype == np.float64


@pytest.mark.nojit
@each_type
def test_one_batch_with_a_step_of_1_is_an_em_step(kind):
    X = stream(1)[0]
    model = made(kind, step_offset=0.0).partial_fit(X)
    truth = known(kind)
    assert_parameters(model, oracle.m_step(X, oracle.responsibilities(X, truth), kind))


@pytest.mark.nojit
def test_sizes_of_steps():
    assert step_size(0.0, 50.0, 1.0, 0.7, 2.0) == pytest.approx(3.0**-0.7)
    assert step_size(200.0, 50.0, 1.0, 0.6, 1.0) == pytest.approx(6.0**-0.6)
    assert step_size(0.0, 50.0, 1.0, 1.0, 0.0) == 1.0
    # with a power of 1 and no offset all rows count the same
    assert step_size(300.0, 100.0, 1.0, 1.0, 0.0) == pytest.approx(0.25)
    # small batches: ten of a tenth fade older rows as much as the whole one
    tenth = step_size(5000.0, 10.0, 0.1, 0.7, 2.0)
    assert (1 - tenth) ** 10 == pytest.approx(1 - step_size(5000.0, 100.0, 1.0, 0.7, 2.0))


@pytest.mark.nojit
@each_type
def test_small_batches_make_small_steps(kind):
    batches = stream()
    model, _ = begun(kind)
    model.partial_fit(batches[0])
    before = oracle.parameters_of(model)
    row = batches[1][:1]
    enough = enough_rows(STRUCTURES[kind], K, D)
    share = 1.0 / enough
    step = 1.0 - (1.0 - (1.0 + BATCH * share + 2.0) ** -0.6) ** share
    model.partial_fit(row)
    expected = (1 - step) * before.weights + step * oracle.responsibilities(row, before)[0]
    assert_allclose(model.weights_, expected, rtol=1e-10)


@pytest.mark.nojit
@each_type
def test_a_component_without_rows_stays_where_it_is(kind):
    weights, means, covariances, _ = known(kind)
    far = np.vstack([means, [[1e5, 0.0, 0.0]]])
    if kind != "tied":
        covariances = np.concatenate([covariances, covariances[:1]])
    for weight in (0.0, 0.1):
        model = GaussianMixture.from_parameters(
            [*(weights * (1 - weight)), weight], far, covariances, covariance_type=kind
        )
        model.set_params(step_offset=0.0)
        for batch in stream():
            model.partial_fit(batch)
        assert_allclose(model.means_[2], far[2], rtol=1e-12)
        assert model.weights_[2] < 1e-50
        if kind != "tied":
            assert_allclose(model.covariances_[2], covariances[2], rtol=1e-9)
        # and wakes up when its rows come
        model.partial_fit(far[2] + stream(1)[0])
        assert model.weights_[2] > 0.1


# --- the first rows, and fits ---------------------------------------------------------------------


@each_type
def test_the_first_batch_is_fitted(kind):
    X = synthetic(3000)
    params = {"covariance_type": kind, "random_state": 0, "n_init": 2}
    model = GaussianMixture(3, **params).partial_fit(X)
    expected = GaussianMixture(3, tol=1e-4, **params).fit(X)  # a tenth of the default
    for name in ARRAYS:
        assert_array_equal(getattr(model, name), getattr(expected, name))
    assert (model.n_samples_seen_, model.n_batches_seen_) == (3000, 1)
    assert (expected.n_samples_seen_, expected.n_batches_seen_) == (3000, 0)


@pytest.mark.nojit
@pytest.mark.parametrize("weighted", [False, True])
def test_few_first_rows_are_kept_until_there_are_enough(weighted):
    X = stream(1)[0][:90]
    w = np.random.RandomState(0).uniform(0.5, 1.5, 90) if weighted else None
    model = GaussianMixture(2, random_state=0)
    for end in (30, 60):  # of 80 that are enough
        part = slice(end - 30, end)
        model.partial_fit(X[part], sample_weight=None if w is None else w[part])
        assert_array_equal(model.first_rows_, X[:end])
        expected = GaussianMixture(2, random_state=0)
        expected.partial_fit(X[:end], sample_weight=None if w is None else w[:end])
        assert_array_equal(model.means_, expected.means_)
    model.partial_fit(X[60:], sample_weight=None if w is None else w[60:])
    assert not hasattr(model, "first_rows_")
    assert not hasattr(model, "first_weights_")
    expected = GaussianMixture(2, random_state=0).partial_fit(X, sample_weight=w)
    assert_array_equal(model.covariances_, expected.covariances_)
    assert (model.n_batches_seen_, expected.n_batches_seen_) == (3, 1)


@each_type
def test_it_goes_on_from_a_fit(kind):
    batches = stream(4)
    X = np.concatenate(batches[:3])
    model = GaussianMixture(2, covariance_type=kind, random_state=0, tol=0.1).fit(X)
    fitted = oracle.parameters_of(model)
    step = (1.0 + 3.0 + 2.0) ** -0.6
    r = oracle.responsibilities(batches[3], fitted)
    model.partial_fit(batches[3])
    expected = (1 - step) * fitted.weights + step * r.mean(axis=0)
    assert_allclose(model.weights_, expected, rtol=1e-10)
    assert model.n_samples_seen_ == 4 * BATCH
    again = GaussianMixture(2, covariance_type=kind, random_state=0, tol=0.1).fit(X)
    assert_array_equal(model.fit(X).means_, again.means_)
    assert (model.n_samples_seen_, model.n_batches_seen_) == (3 * BATCH, 0)


@pytest.mark.nojit
def test_fit_forgets_the_first_rows():
    X = stream(1)[0]
    model = GaussianMixture(2, random_state=0).partial_fit(X[:20])
    assert hasattr(model, "first_rows_")
    model.fit(X)
    assert not hasattr(model, "first_rows_")


def test_a_stream_comes_near_the_fit():
    X = np.random.RandomState(0).permutation(synthetic(60_000))
    fit = GaussianMixture(3, random_state=0, tol=1e-6, max_iter=500).fit(X)
    model = GaussianMixture(3, random_state=0, tol=1e-6, max_iter=500)
    for batch in np.array_split(X, 60):
        model.partial_fit(batch)
    assert model.score(X) == pytest.approx(fit.score(X), abs=2e-3)


# --- an estimator's method ------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize("size", [20, BATCH])
def test_a_stream_goes_on_from_a_file_or_a_pickle(size, tmp_path):
    batches = stream(size=size)
    model = GaussianMixture(2, random_state=0)
    for batch in batches[:2]:
        model.partial_fit(batch)
    model.save(tmp_path / "model.npz")
    others = [load(tmp_path / "model.npz"), pickle.loads(pickle.dumps(model))]
    for batch in batches[2:]:
        model.partial_fit(batch)
        for other in others:
            assert_same_state(other.partial_fit(batch), model)


@pytest.mark.nojit
def test_files_with_impossible_first_rows_are_refused(tmp_path):
    model = GaussianMixture(2, random_state=0).partial_fit(stream(size=20)[0])
    for name, wrong in (
        ("first_rows_", np.ones((20, 2))),
        ("first_rows_", np.full((20, 3), np.nan)),
        ("first_weights_", np.ones(3)),
        ("n_samples_seen_", -1),
        ("n_batches_seen_", 1.5),
    ):
        broken = pickle.loads(pickle.dumps(model))
        setattr(broken, name, wrong)
        with pytest.raises(ValueError, match=name):
            broken.save(tmp_path / "model.npz")


def test_same_bits_for_any_number_of_threads_and_layout():
    X = synthetic(40_001)
    models = []
    for n_threads, rows in ((1, X), (2, np.asfortranarray(X)), (5, X)):
        model = GaussianMixture(3, random_state=0, n_threads=n_threads)
        models.append(model.partial_fit(rows[:20_000]).partial_fit(rows[20_000:]))
    for model in models[1:]:
        assert_same_state(model, models[0])


@pytest.mark.nojit
def test_what_goes_wrong_leaves_the_estimator_as_it_was():
    good = stream(2)
    bad = good[1].copy()
    bad[7, 1] = np.nan
    for size in (20, BATCH):  # while the first rows are kept, and afterwards
        model = GaussianMixture(2, random_state=0).partial_fit(good[0][:size])
        before = dict(vars(model))
        with pytest.raises(ValueError, match="row 7, column 1"):
            model.partial_fit(bad)
        with pytest.raises(ValueError, match="features"):
            model.partial_fit(good[1][:, :2])
        with pytest.raises(ValueError, match="sample_weight"):
            model.partial_fit(good[1], sample_weight=[1.0])
        with pytest.raises(ValueError, match="0 sample"):
            model.partial_fit(good[1][:0])
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is value for name, value in before.items())


@pytest.mark.nojit
def test_clear_errors():
    X = stream(1)[0]
    with pytest.raises(ValueError, match="Pass a larger first batch"):
        GaussianMixture(5).partial_fit(X[:4])
    with pytest.raises(ValueError, match="n_samples = 1 rows of non-zero weight"):
        GaussianMixture(2).partial_fit(X[:3], sample_weight=[0.0, 1.0, 0.0])
    model = GaussianMixture(2, random_state=0).partial_fit(X)
    with pytest.raises(ValueError, match="cannot go on from means of shape"):
        clone_with(model, n_components=3).partial_fit(X)
    with pytest.raises(ValueError, match="covariance_type='tied'"):
        clone_with(model, covariance_type="tied").partial_fit(X)


def clone_with(model, **params):
    return pickle.loads(pickle.dumps(model)).set_params(**params)


@pytest.mark.nojit
@pytest.mark.parametrize(
    "wrong", [{"step_power": 0.5}, {"step_power": 1.1}, {"step_offset": -1.0}, {"step_offset": "a"}]
)
def test_bad_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GaussianMixture(2, **wrong).partial_fit(stream(1)[0])


@pytest.mark.nojit
def test_one_row_and_names_of_features():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(stream(1)[0], columns=list("abc"))
    model = GaussianMixture(2, random_state=0).partial_fit(frame)
    assert list(model.partial_fit(frame[:1]).feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame[["b", "a", "c"]])
    assert model.n_samples_seen_ == BATCH + 1


@pytest.mark.nojit
def test_it_is_scikit_learns_way():
    model = GaussianMixture(2, random_state=0)
    with config_context(enable_metadata_routing=True):
        model.set_partial_fit_request(sample_weight=True)
    assert not hasattr(clone(model.partial_fit(stream(1)[0])), "means_")
    assert pickle.load(io.BytesIO(pickle.dumps(model))).n_batches_seen_ == 1
