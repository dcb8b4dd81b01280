"""How time, memory and the machine's own speed are measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

PAUSE = 0.3  # seconds


def seconds(function, *args):
    """Time one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def pass_seconds(fit, *args):
    """Time one EM pass, free of whatever a fit does once: (11 iterations - 1) / 10."""
    return (seconds(fit, 11, *args) - seconds(fit, 1, *args)) / 10


def interleave(functions, rounds):
    """Call each function once a round, each round starting with another one; list the results.

    A shared machine drifts within minutes: only figures of one round may be compared.  Before each
    call comes a pause: pools of BLAS and OpenMP threads spin for a while after their last work.
    """
    results = {name: [] for name in functions}
    names = list(functions)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(PAUSE)
            results[name].append(functions[name]())
    return results


def matrix_product_rate(threads, size=3000):
    """Flops a second of the machine's own float64 matrix product."""
    a, b = np.random.default_rng(0).normal(size=(2, size, size))
    with threadpool_limits(threads, user_api="blas"):
        return 2 * size**3 / seconds(np.matmul, a, b)


def run_python(code, *args, env=None):
    """Run code in a fresh process; give what it printed, decoded from JSON."""
    command = [sys.executable, "-c", code, *map(str, args)]
    env = (env or os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout)


# The child says when the data are in memory, waits, fits, and says when it is done.
_CHILD = """
import json, sys, warnings
import numpy as np
module, name, data, params = *sys.argv[1:4], json.loads(sys.argv[4])
exec(sys.argv[5])
warnings.simplefilter("ignore")
Mixture = getattr(__import__(module, fromlist=[name]), name)
Mixture(**params | {"max_iter": 2}).fit(few)
print("ready", flush=True)
sys.stdin.readline()
model = Mixture(**params).fit(X)
print(json.dumps({"n_iter": int(model.n_iter_), "bound": float(model.lower_bound_)}), flush=True)
sys.stdin.readline()
"""


_LOADED = "X = np.load(data); few = X[: 20 * params['n_components']].copy()"


def fit_memory(module, data, params, opening=_LOADED, name="GaussianMixture"):
    """Fit in a fresh, warmed-up process; give its peak anonymous memory above that before, in MB.

    opening : code that makes of ``data`` the rows X, and a ``few`` to compile with.

    Linux only: the parent reads RssAnon of the child, so that no lock of the child hides a peak.
    """
    return watch_memory(_CHILD, module, name, data, json.dumps(params), opening)


def watch_memory(code, *args):
    """Run code in a fresh process and watch its anonymous memory; give the peak above the start.

    The code prints "ready", waits for a line, does what is watched, prints its answer as a JSON
    object, and waits for another line.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as child:
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the measured process failed")
        before = peak = _anonymous_bytes(child.pid)
        child.stdin.write("go\n")
        child.stdin.flush()
        answer = []
        reader = threading.Thread(target=lambda: answer.append(child.stdout.readline()))
        start = time.perf_counter()
        reader.start()
        while reader.is_alive():
            peak = max(peak, _anonymous_bytes(child.pid))
            time.sleep(0.001)
        elapsed = time.perf_counter() - start
        child.stdin.write("end\n")
    return {"megabytes": (peak - before) / 1e6, "seconds": elapsed, **json.loads(answer[0])}


def peak_during(pids, function, *args):
    """Call a function; give the peak of the anonymous memory of processes above that before, MB."""
    done = threading.Event()
    before = peak = sum(map(_anonymous_bytes, pids))

    def watch():
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, sum(map(_anonymous_bytes, pids)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function(*args)
    finally:
        done.set()
        watcher.join()
    return (peak - before) / 1e6


def markdown(heads, rows):
    """Give a table in Markdown."""
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _anonymous_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("this system does not tell the anonymous memory of a process")


def cores():
    """Give the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
