"""Who computes Dask's graphs: the cluster of the current client, or threads of this process."""

import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

# Keys to futures, results, or calls: tuples of a function and its arguments, keys among them.
Graph = Mapping[Hashable, Any]

_KILLED = (
    "Workers died over these rows, most often for want of memory: a worker needs room for its "
    "share of the rows and for the chunks it is computing. Use more workers or a larger "
    "memory_limit, smaller chunks, or rows in float32; the workers' logs tell more."
)


class Engine:
    """Dask's scheduler, as it is when a fit begins.

    ``n_threads`` is how many tasks it runs at once; ``distant`` tells that this happens elsewhere.
    """

    def __init__(self, n_threads: int) -> None:
        import dask
        import dask.threaded

        client = current_client()
        self.distant = client is not None
        self._options: dict[str, Any] = {}
        if client is None:
            self.n_threads = n_threads
            self._options["num_workers"] = n_threads
            self._get = dask.base.get_scheduler() or dask.threaded.get
        else:
            self.n_threads = max(1, sum(client.nthreads().values()))
            self._get = client.get

    def compute(self, graph: Graph, keys: Iterable[Hashable]) -> list[Any]:
        """Return the results of these keys."""
        from dask.optimization import cull

        keys = list(keys)
        needed, _ = cull(graph, keys)  # older schedulers compute all there is
        try:
            return list(self._get(self._layered(needed), keys, **self._options))
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                error.add_note(_KILLED)
            raise

    def persist(self, graph: Graph, keys: Iterable[Hashable]) -> Graph:
        """Return the graph in which these keys are results that stay where they are computed."""
        keys = list(keys)
        options = {"sync": False} if self.distant else self._options
        return dict(zip(keys, self._get(self._layered(graph), keys, **options), strict=True))

    def _layered(self, graph: Graph) -> Graph:
        """Return the graph as one layer if it travels: Dask would hash all of a bare one."""
        from dask.highlevelgraph import HighLevelGraph

        if not self.distant:
            return graph
        layered: Graph = HighLevelGraph({"fastgmm": graph}, {"fastgmm": set()})
        return layered


def current_client() -> Any:
    """Return the client of a cluster to work on, or None."""
    import dask

    distributed = sys.modules.get("distributed")
    # a default client sets the second, and a user may have set another scheduler
    of_client = dask.config.get("scheduler", None) in (None, "dask.distributed", "distributed")
    if distributed is None or not of_client:
        return None
    try:
        client = distributed.get_client()
    except ValueError:
        return None
    if client.asynchronous:
        raise TypeError(
            "The current Dask client is asynchronous, and fit waits for its results. Use "
            "distributed.Client(address) without asynchronous=True, in a thread of its own."
        )
    return client
