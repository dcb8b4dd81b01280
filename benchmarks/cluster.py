"""Dask on one machine, the messages of a pass, and what it would cost on 100 workers.

A pass is one task for each chunk of rows, and one for each eight of their results.  What is
measured here: the sizes of both messages, pickled; seconds of a row in one thread; of a task that
has next to no rows, all that Dask does for it included; of the client's part of an iteration; and
the rate at which arrays go to a worker and back.  A pass of 100 workers is then predicted as if
nothing of that overlapped: the chunks of one thread, one after the other; every task; the
parameters sent to each worker in turn; eight statistics for each level of their tree, and M-step.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import time
import warnings
from statistics import median

import dask.array as da
import numpy as np
from dask import delayed
from distributed import Client, LocalCluster

from benchmarks.cases import Case, make_data, make_start
from benchmarks.measure import markdown, peak_during
from fastgmm import GaussianMixture, History
from fastgmm._passes import EMPass  # what travels is no public matter

CHUNK_ROWS = 1 << 19  # 64 blocks of the grid of an array: the same sums
WORKERS, THREADS, ROWS, CHUNK_BYTES, MERGED = 100, 2, 1e9, 128e6, 8
CASES = ((8, 8), (64, 32), (256, 128))  # components, features


@contextlib.contextmanager
def started(n_workers, threads):
    """Start a cluster of processes that have so many threads together, or one each."""
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=max(1, threads // n_workers),
            dashboard_address=":0",
            silence_logs=50,
        ) as made,
        Client(made) as client,
    ):
        yield client


def _load(path, start, stop):
    return np.array(np.load(path, mmap_mode="r")[start:stop])


def rows_of(client, path):
    """Give the rows of a .npy file as a Dask array, in the memory of the workers."""
    whole = np.load(path, mmap_mode="r")
    n, d = whole.shape
    load = delayed(_load)
    parts = [
        da.from_delayed(
            load(str(path), a, min(a + CHUNK_ROWS, n)), (min(CHUNK_ROWS, n - a), d), whole.dtype
        )
        for a in range(0, n, CHUNK_ROWS)
    ]
    return client.persist(da.concatenate(parts))


def fit_memory(client, X, params):
    """Fit; give the bound and the peak of anonymous memory of all workers above that before, in MB.

    The rows themselves are counted: they lie in the workers.
    """
    pids = list(client.run(os.getpid).values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: meant so
        model = GaussianMixture(**params)
        megabytes = peak_during(pids, model.fit, X) + X.nbytes / 1e6
    return float(model.lower_bound_), megabytes


def messages(k, d):
    """Give the pickled bytes of the parameters that go out and of the statistics that come back."""
    task = EMPass(_model(k, d)._kernel_params())
    return len(pickle.dumps(task)), len(pickle.dumps(np.zeros(task.size)))


def _model(k, d):
    covariances = np.tile(np.eye(d), (k, 1, 1))
    return GaussianMixture.from_parameters(np.full(k, 1 / k), np.zeros((k, d)), covariances)


def row_and_client_seconds(k, d):
    """Give the seconds of one row in one thread, and of an iteration without any.

    Wide components overlap: no pair of row and component is skipped, also where rows are few.
    """
    few, many = k, max(4 * k, int(2e9 / (k * d * d)))
    case = Case("full", many, d, k)
    X = make_data(case)
    start = make_start(case, X)
    small, large = (_pass(X[:n], case, start, reg_covar=1e3) for n in (few, many))
    row = (large - small) / (many - few)
    return row, max(0.0, small - few * row)


def _pass(X, case, start, reg_covar=1e-6, iterations=5):
    """Time an iteration in one thread; the first one, which may compile, does not count."""
    passes = History(keep_parameters=False)
    model = GaussianMixture(
        case.k,
        tol=0.0,
        reg_covar=reg_covar,
        max_iter=1 + iterations,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions("full"),
        n_threads=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: meant so
        model.set_callbacks(passes).fit(X)
    return median(record.seconds for record in passes.records[1:])


def task_seconds(n_chunks=128):
    """Give the seconds of a task with next to no rows."""
    case = Case("full", 4 * n_chunks, 2, 1)
    X = make_data(case)
    tasks = n_chunks * (1 + 1 / MERGED + 1 / MERGED**2)
    return _pass(da.from_array(X, chunks=(4, -1)), case, make_start(case, X)) / tasks


def transfer_rate(client, n_bytes=32 << 20, rounds=5):
    """Give the bytes a second of an array that goes to a worker and comes back."""
    array = np.random.default_rng(0).random(n_bytes // 8)
    times = []
    for number in range(rounds):
        start = time.perf_counter()
        there = client.scatter(array + number, hash=False)
        client.submit(np.negative, there, pure=False).result()
        times.append(time.perf_counter() - start)
    return 2 * n_bytes / median(times)


def predict(rounds):
    """Print sizes of messages, and predicted seconds of a pass."""
    with started(2, 2) as client:
        overhead = median(task_seconds() for _ in range(rounds))
        rate = transfer_rate(client)
    print(
        f"\nMeasured here: {1e3 * overhead:.2f} ms a task, {rate / 1e6:.0f} MB/s to a worker and "
        f"back. Predicted: {WORKERS} workers with {THREADS} threads each, {ROWS:.0e} rows, chunks "
        f"of {CHUNK_BYTES / 1e6:.0f} MB; seconds of a pass.\n"
    )
    heads = ["K", "d", "message out", "and back", "µs a row", "chunks"]
    heads += ["compute", "tasks", "messages", "M-step", "a pass", "of it compute"]
    lines = []
    for k, d in CASES:
        out, back = messages(k, d)
        row, mstep = row_and_client_seconds(k, d)
        chunk_rows = CHUNK_BYTES / (8 * d)
        chunks = math.ceil(ROWS / chunk_rows)
        levels = math.ceil(math.log(chunks, MERGED))
        compute = math.ceil(chunks / (WORKERS * THREADS)) * chunk_rows * row
        tasks = chunks * (1 + 1 / MERGED + 1 / MERGED**2) * overhead
        sent = (WORKERS * out + MERGED * levels * back) / rate
        total = compute + tasks + sent + mstep
        lines.append(
            [k, d, f"{out / 1e6:.3g} MB", f"{back / 1e6:.3g} MB", f"{1e6 * row:.3g}", chunks]
            + [f"{x:.3g}" for x in (compute, tasks, sent, mstep, total)]
            + [f"{compute / total:.0%}"]
        )
    print(markdown(heads, lines))
