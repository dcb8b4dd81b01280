"""The same rows in everything that may hold rows, and fits to them."""

import warnings

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import zarr
from numpy.testing import assert_array_equal

from fastgmm import Batches, GaussianMixture

N, D = 20_011, 3  # more than two blocks, the last one not full
NAMES = [f"c{j}" for j in range(D)]
FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bound_", "n_iter_")


def rows(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) + 5.0 * rng.integers(2, size=(N, 1))
    return X.astype(dtype)


def weights_of():
    weights = np.random.default_rng(1).uniform(0.0, 3.0, N)
    weights[::7] = 0.0
    return weights


def table(X, w=None):
    columns = dict(zip(NAMES, X.T.copy(), strict=True))
    return pa.table(columns if w is None else {"w": w, **columns})


def batches(X, w=None, sizes=(997, 0, 1, 5000)):
    def make():
        start, number = 0, 0
        while start < len(X):
            part = slice(start, start + sizes[number % len(sizes)])
            start, number = part.stop, number + 1
            yield X[part] if w is None else (X[part], w[part])

    return make


def reused(X):
    """Batches that all lie in the same memory."""
    memory = np.empty((1000, X.shape[1]), X.dtype)
    for start in range(0, len(X), 1000):
        part = memory[: len(X) - start]
        part[...] = X[start : start + 1000]
        yield part


def npy(X, path):
    np.save(path / "x.npy", X)
    return path / "x.npy"


def hdf5(X, path, **options):
    with h5py.File(path / "x.h5", "w") as file:
        file.create_dataset("X", data=X, **options)
    return h5py.File(path / "x.h5", "r")["X"]


def parquet(X, path, w=None):
    pq.write_table(table(X, w), path / "x.parquet", row_group_size=3001)
    return path / "x.parquet"


def folder(X, path):
    (path / "f").mkdir()
    for number, (a, b) in enumerate(((0, 9000), (9000, 9001), (9001, N))):
        pq.write_table(table(X[a:b]), path / "f" / f"{number}.parquet")
    return str(path / "f")


class Sliced:
    """The least that an array on disk has."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, key):
        assert isinstance(key, slice)
        assert key.stop - key.start if key.start else key.stop <= len(self._X)
        return self._X[key]


SOURCES = {
    "memmap": lambda X, path: np.load(npy(X, path), mmap_mode="r"),
    "path of npy": npy,
    "hdf5": lambda X, path: hdf5(X, path, chunks=(777, 2), compression="gzip"),
    "hdf5 in one piece": hdf5,
    "zarr": lambda X, path: zarr.create_array(store=path / "x.zarr", data=X, chunks=(1111, D)),
    "sliced": lambda X, path: Sliced(X),
    "arrow table": lambda X, path: pa.concat_tables([table(X[:5]), table(X[5:])]),
    "arrow data set": lambda X, path: pyarrow.dataset.dataset(parquet(X, path)),
    "parquet": parquet,
    "parquet folder": folder,
    "pandas": lambda X, path: pd.DataFrame(X[:, :2], columns=NAMES[:2]).assign(c2=X[:, 2]),
    "polars": lambda X, path: pl.DataFrame(X, schema=NAMES),
    "batches": lambda X, path: Batches(batches(X)),
    "batches in one memory": lambda X, path: Batches(lambda: reused(X)),
    "batches of known length": lambda X, path: Batches(list(batches(X)()), n_rows=len(X)),
}  # fmt: skip


def fit(X, sample_weight=None, **params):
    params = {"n_components": 2, "random_state": 0, "max_iter": 3, "n_threads": 1, **params}
    model = GaussianMixture(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        return model.fit(X, sample_weight=sample_weight)


def assert_same(model, expected):
    for name in FITTED:
        assert_array_equal(getattr(model, name), getattr(expected, name))
        assert getattr(model, name).dtype == getattr(expected, name).dtype if name[-2] != "r" else 1


_ARRAYS = {}


def of_array(dtype=np.float64, **params):
    """Return the fit to the array, made once."""
    key = (dtype, *sorted(params.items()))
    if key not in _ARRAYS:
        _ARRAYS[key] = fit(rows(dtype), **params)
    return _ARRAYS[key]


# the start from all rows, which are then at hand; from a sample, and rows that are read again
STARTS = ({}, {"init_size": 5000})


def not_a_number(X, row=N - 5, column=1, value=np.nan):
    X = X.copy()
    X[row, column] = value
    return X
