"""Rows that are not in memory: seconds of a pass and peak memory, beside the same rows in memory.

    python -m benchmarks.out_of_core [--rows 2000000] [--rounds 5] [--threads 2]
    python -m benchmarks.out_of_core --gigabytes 8 [--folder DIR] [--threads 2]

The first writes the same rows as .npy, Parquet and HDF5 (d=8, float64) and fits them there, all
files being in the page cache: seconds of a pass, as everywhere; ``÷ memory`` within one round; the
bound, which must be the same to the last bit; and the peak of anonymous memory in a fit of three
iterations, start by k-means included, watched from outside. The second writes a file of so many GB,
a block at a time, and fits it memory-mapped, from a cold page cache if it may drop it.
"""

from __future__ import annotations

import argparse
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
from benchmarks.cases import Case, make_data, make_start
from benchmarks.measure import cores, fit_memory, interleave, pass_seconds
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


def compare(rows, rounds, threads):
    """Print seconds of a pass, memory and bound from every source."""
    case = Case("full", rows, D, K)
    X = make_data(case)
    start = make_start(case, X)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, X)
        del X
        sources = {source: opened(folder, source) for source in OPENINGS}
        bounds = {
            source: float(fit_fastgmm(1, X, case, start, threads)) for source, X in sources.items()
        }
        runs = {
            source: partial(pass_seconds, partial(run, X, case, start, threads))
            for source, X in sources.items()
        }
        times = interleave(runs, rounds)
        print(f"{case.name}, {threads} threads, {rows * D * 8 / 1e6:.0f} MB")
        for source, seconds in times.items():
            ratio = median(a / b for a, b in zip(seconds, times["memory"], strict=True))
            peak = memory(folder, threads, 3, OPENINGS[source])["megabytes"]
            same = "same bound" if bounds[source] == bounds["memory"] else "ANOTHER BOUND"
            print(
                f"{source:8} {median(seconds):8.3f} s a pass, {ratio:5.2f} ÷ memory, "
                f"{peak:6.0f} MB more than before the fit, {same}"
            )


def run(X, case, start, threads, iterations):
    """Run a number of EM iterations from a given start."""
    fit_fastgmm(iterations, X, case, start, threads)


def memory(folder, threads, iterations, opening):
    """Fit in a fresh process."""
    params = {"n_components": K, "tol": 0.0, "random_state": 0, "max_iter": iterations}
    return fit_memory("fastgmm", folder, params | {"n_threads": threads}, opening)


def large(gigabytes, folder, threads):
    """Write a large file and fit it memory-mapped; print memory and rates."""
    n_blocks = max(1, round(gigabytes * 1e9 / (BLOCK * D * 8)))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        folder = Path(name)
        shape = (n_blocks * BLOCK, D)
        file = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float64, shape)
        for number in range(n_blocks):
            case = Case("full", BLOCK, D, K)
            file[number * BLOCK : (number + 1) * BLOCK] = make_data(case, seed=number % 4)
        file.flush()
        n_bytes = file.nbytes
        del file
        disk = n_bytes / read(folder / "x.npy")
        few, more = (memory(folder, threads, n, OPENINGS["memmap"]) for n in (1, 4))
        seconds = (more["seconds"] - few["seconds"]) / 3
        print(
            f"{n_bytes / 1e9:.2f} GB ({shape[0]} x {D}), K={K}, {threads} threads: "
            f"{more['megabytes']:.0f} MB of anonymous memory more than before the fit at most; "
            f"{seconds:.2f} s a pass = {n_bytes / seconds / 1e9:.2f} GB/s; the file alone is read "
            f"at {disk / 1e9:.2f} GB/s; start and first pass {few['seconds']:.1f} s"
        )


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
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--gigabytes", type=float, help="write and fit a file of this size instead")
    parser.add_argument("--folder", help="where to write it (default: the temporary folder)")
    options = parser.parse_args()
    print(f"fastgmm {fastgmm.__version__}")
    if options.gigabytes:
        large(options.gigabytes, options.folder, options.threads)
    else:
        compare(options.rows, options.rounds, options.threads)


if __name__ == "__main__":
    main()
