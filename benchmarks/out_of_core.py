"""Rows that are not in memory: seconds of a pass and peak memory, as tables in Markdown.

    python -m benchmarks.out_of_core [--what sources cluster large] [--threads 2]
        [--rows 4000000] [--rounds 5] [--sources memory memmap ...] [--workers 1 2 4]
        [--gigabytes 1] [--types float64 float32] [--folder DIR] [--memory-only]

*sources*: the same rows (d=8, float64) in memory, as .npy, Parquet, HDF5, batches and in Dask's
worker processes, all files being in the page cache.  Seconds of a pass, as everywhere; their ratio
to memory's within one round; the peak of anonymous memory in a fit of three iterations, start by
k-means included, watched from outside (of Dask: of all workers, which hold the rows); the bound.
*cluster*: messages of a pass, and what it would cost on 100 workers; see `benchmarks.cluster`.
*large*: a file of so many GB, written a block at a time and fitted memory-mapped, from the page
cache and with the cache dropped before each pass, beside the rate at which the file alone is read.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fastgmm
from benchmarks import cluster
from benchmarks.cases import Case, make_data, make_start
from benchmarks.measure import (
    cores,
    fit_memory,
    interleave,
    markdown,
    pass_seconds,
    watch_memory,
)
from benchmarks.peers import fit_fastgmm

D, K, BLOCK = 8, 8, 1_000_000

# How a fresh process opens what lies in the folder ``data``: X, and a few rows to compile with.
OPENINGS = {
    "memory": "X = np.load(data + '/x.npy'); few = X[:1000].copy()",
    "memmap": "X = np.load(data + '/x.npy', mmap_mode='r'); few = np.array(X[:1000])",
    "parquet": "X = data + '/x.parquet'; few = np.load(data + '/x.npy', mmap_mode='r')[:1000]",
    "hdf5": "import h5py; X = h5py.File(data + '/x.h5')['X']; few = X[:1000]",
    "batches": """
import fastgmm
rows = np.load(data + '/x.npy', mmap_mode='r')
X = fastgmm.Batches(lambda: (rows[i : i + 50_000] for i in range(0, len(rows), 50_000)), len(rows))
few = np.array(rows[:1000])
""",
}

# Fits a file memory-mapped and tells the seconds of passes, the first aside; "cold" drops the
# file from the page cache after each.
_LARGE = """
import json, mmap, os, sys, warnings
import numpy as np
import fastgmm
path, params, cold = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "cold"
warnings.simplefilter("ignore")
X = np.load(path, mmap_mode="r")
descriptor = os.open(path, os.O_RDONLY)

class Passes(fastgmm.History):
    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        super().on_fit_task_end(estimator, context, fitted_estimator=fitted_estimator)
        if cold:
            X._mmap.madvise(mmap.MADV_DONTNEED)  # pages in use stay in the cache
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return False

fastgmm.GaussianMixture(**params).fit(np.array(X[:1000]))
print("ready", flush=True)
sys.stdin.readline()
passes = Passes(keep_parameters=False)
model = fastgmm.GaussianMixture(**params).set_callbacks(passes).fit(X)
found = [record.seconds for record in passes.records[1:]]
print(json.dumps({"passes": found, "bound": float(model.lower_bound_)}), flush=True)
sys.stdin.readline()
"""


def write(folder, X):
    """Write the same rows in every format."""
    np.save(folder / "x.npy", X)
    table = pa.table({f"x{j}": X[:, j] for j in range(X.shape[1])})
    pq.write_table(table, folder / "x.parquet", compression="zstd", use_dictionary=False)
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(16_384, X.shape[1]))


def opened(folder, name):
    """Open the rows in this process."""
    space = {"np": np, "data": str(folder)}
    exec(OPENINGS[name], space)
    return space["X"]


def compare(rows, rounds, threads, sources, workers):
    """Print seconds of a pass, memory and bound from every source."""
    case = Case("full", rows, D, K)
    params = {"n_components": K, "tol": 0.0, "random_state": 0, "max_iter": 3, "n_threads": threads}
    X = make_data(case)
    start = make_start(case, X)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, X)
        del X
        runs = {
            source: partial(
                pass_seconds, partial(run, opened(folder, source), case, start, threads)
            )
            for source in sources
        }
        fit_fastgmm(1, opened(folder, "memory"), case, start, threads)  # compiles
        times = interleave(runs, rounds)
        for source, seconds in times.items():
            ratio = median(a / b for a, b in zip(seconds, times["memory"], strict=True))
            fit = fit_memory("fastgmm", folder, params, OPENINGS[source])
            found.append((source, median(seconds), ratio, fit["megabytes"], fit["bound"]))
        for n_workers in workers:
            lines = f"Dask, {n_workers} worker{'s' * (n_workers > 1)}"
            with cluster.started(n_workers, threads) as client:
                rows_there = cluster.rows_of(client, folder / "x.npy")
                pair = {
                    "memory": runs["memory"],
                    "dask": partial(pass_seconds, partial(run, rows_there, case, start, threads)),
                }
                times = interleave(pair, rounds)
                ratio = median(a / b for a, b in zip(times["dask"], times["memory"], strict=True))
                bound, megabytes = cluster.fit_memory(client, rows_there, params)
            found.append((lines, median(times["dask"]), ratio, megabytes, bound))
    expected = found[0][-1]
    print(f"\n{case.name}, {threads} threads, {rows * D * 8 / 1e6:.0f} MB\n")
    heads = ["rows in", "s a pass", "÷ memory", "MB at most", "bound"]
    lines = [
        [source, f"{seconds:.3f}", f"{ratio:.2f}", f"{megabytes:.0f}", _sameness(bound, expected)]
        for source, seconds, ratio, megabytes, bound in found
    ]
    print(markdown(heads, lines))


def _sameness(bound, expected):
    return "same bits" if bound == expected else f"differs by {abs(bound - expected):.1e}"


def run(X, case, start, threads, iterations):
    """Run a number of EM iterations from a given start."""
    fit_fastgmm(iterations, X, case, start, threads)


def large(sizes, types, folder, threads, memory_only):
    """Print memory and rates of fits to large files, which are written and removed."""
    print(f"\nfull, d={D}, K={K}, {threads} threads: a memory-mapped file\n")
    heads = ["GB", "type", "rows", "MB at most", "start, s", "s a pass, cached", "GB/s"]
    heads += ["s a pass, cold", "GB/s", "file alone, GB/s"]
    lines = []
    for gigabytes in sizes:
        for dtype in types:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                lines.append(_large(Path(name) / "x.npy", gigabytes, dtype, threads, memory_only))
    print(markdown(heads, lines))


def _large(path, gigabytes, dtype, threads, memory_only):
    n_rows = _write_large(path, gigabytes, dtype)
    n_bytes = path.stat().st_size
    params = {"n_components": K, "tol": 0.0, "random_state": 0, "n_threads": threads}
    first = [f"{n_bytes / 1e9:.1f}", dtype, f"{n_rows / 1e6:.0f}M"]
    if memory_only:
        fit = watch_memory(_LARGE, path, json.dumps(params | {"max_iter": 3}), "cached")
        return [*first, f"{fit['megabytes']:.0f}", *["–"] * 6]
    disk = n_bytes / read(path) / 1e9
    cached, cold = (
        watch_memory(_LARGE, path, json.dumps(params | {"max_iter": 4}), how)
        for how in ("cached", "cold")
    )
    peak = max(cached["megabytes"], cold["megabytes"])
    start = cached["seconds"] - sum(cached["passes"]) * 4 / 3
    rates = []
    for fit in (cached, cold):
        seconds = median(fit["passes"])
        rates += [f"{seconds:.2f}", f"{n_bytes / seconds / 1e9:.2f}"]
    return [*first, f"{peak:.0f}", f"{start:.1f}", *rates, f"{disk:.2f}"]


def _write_large(path, gigabytes, dtype):
    """Write four blocks of rows again and again; give the number of rows."""
    parts = [make_data(Case("full", BLOCK, D, K), dtype, seed) for seed in range(4)]
    n_blocks = max(1, round(gigabytes * 1e9 / parts[0].nbytes))
    shape = (n_blocks * BLOCK, D)
    head = {"descr": parts[0].dtype.str, "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for number in range(n_blocks):
            file.write(parts[number % 4].data)
        file.flush()
        os.fsync(file.fileno())  # only what is on the disk can be dropped from the cache
    return shape[0]


def read(path):
    """Time reading a file that the page cache does not hold, as far as that can be had."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = bytearray(16 << 20)
    start = time.perf_counter()
    while os.readv(descriptor, [buffer]):
        pass
    elapsed = time.perf_counter() - start
    os.close(descriptor)
    return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = ["sources", "cluster", "large"]
    parser.add_argument("--what", nargs="+", choices=tables, default=tables)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rows", type=int, default=4_000_000, help="of the table of sources")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sources", nargs="*", choices=OPENINGS, default=list(OPENINGS))
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4], help="of Dask")
    parser.add_argument("--gigabytes", nargs="+", type=float, default=[1.0], help="of files")
    parser.add_argument("--types", nargs="+", default=["float64", "float32"], help="of numbers")
    parser.add_argument("--folder", help="where to write files (default: the temporary folder)")
    parser.add_argument("--memory-only", action="store_true", help="of files, one fit, no timing")
    options = parser.parse_args()
    print(f"fastgmm {fastgmm.__version__}")
    if "sources" in options.what:
        sources = dict.fromkeys(["memory", *options.sources])  # what the others are compared with
        compare(options.rows, options.rounds, options.threads, sources, options.workers)
    if "cluster" in options.what:
        cluster.predict(options.rounds)
    if "large" in options.what:
        sizes, types = options.gigabytes, options.types
        large(sizes, types, options.folder, options.threads, options.memory_only)


if __name__ == "__main__":
    main()
