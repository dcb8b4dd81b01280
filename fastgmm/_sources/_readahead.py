"""A thread that reads on while others compute."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What an iterator yields, in order, from a thread that keeps one item ready.

    ``start(stopped)`` makes the iterator; it runs in the thread, and ends early when ``stopped()``
    is true.  The thread begins with the ``with`` block and has ended after it.
    """

    def __init__(self, start: Callable[[Callable[[], bool]], Iterator[T]]) -> None:
        self._start = start
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        # a daemon: should a second Ctrl-C cut the waiting for its end short, so be it
        self._thread = threading.Thread(target=self._read, name="fastgmm-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Let the thread end after what it is reading; whoever waits for an item gets none."""
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not (self._ready or self._ended or self._stopped):
                self._changed.wait()
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _read(self) -> None:
        try:
            for item in self._start(lambda: self._stopped):
                self._put(item)
                del item  # one slab less in memory while the next is read
                if self._stopped:
                    break
        except BaseException as error:  # for the thread that asks next
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> None:
        with self._changed:
            while self._ready and not self._stopped:
                self._changed.wait()
            if not self._stopped:
                self._ready.append(item)
                self._changed.notify_all()
