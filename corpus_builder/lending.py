"""Batches of a long source lent to workers of the cluster that have nothing else to do.

A worker computes what its source needs batch by batch (`protocols.Each`). While the board has an idle worker, a batch
goes to that one, through Ray's object store; the rest is computed here. A helper that dies costs its batch's time: that
batch is computed here, too. So it makes no difference to the results who helps, or whether anybody does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

MOST_AHEAD = 64
"""Batches begun, or done, that wait for an earlier one: what bounds the memory that they take."""
_END = object()


class Board:
    """An actor that knows the idle workers: the driver offers them and takes them back, other workers borrow them."""

    def __init__(self) -> None:
        import ray

        self.ray = ray
        self.free: list[Any] = []
        self.calls: dict[Any, Any] = {}  # the worker, by the reference that tells of its call's end

    def offer(self, workers: list[Any]) -> None:
        """Let these workers help until they are recalled."""
        self.free += workers

    def recall(self) -> list[Any]:
        """Take back those that help nobody at the moment; ask again for the others."""
        self._settle()
        home, self.free = self.free, []
        return home

    def help(self, method: str, batch: list[Any]) -> list[Any]:
        """Begin a call of `Worker.help` on an idle worker: the reference of its result, or none where all are busy.

        `batch` holds the input's reference, in a list, so that only the worker fetches it.
        """
        self._settle()
        if not self.free:
            return []
        worker = self.free.pop()
        result, end = worker.help.options(num_returns=2).remote(method, *batch)
        self.calls[end] = worker
        return [result]

    def _settle(self) -> None:
        """Note which calls have ended. After a death, a worker is idle once Ray has started it again."""
        if not self.calls:
            return
        for end in self.ray.wait(list(self.calls), num_returns=len(self.calls), timeout=0, fetch_local=False)[0]:
            worker = self.calls.pop(end)
            try:
                self.ray.get(end)
            except self.ray.exceptions.RayTaskError:
                self.free.append(worker)
            except self.ray.exceptions.RayError:
                self.calls[worker.ready.options(max_task_retries=-1).remote()] = worker
            else:
                self.free.append(worker)


def lent(board: str, owner: str, method: Callable[[T], U], inputs: Iterable[T]) -> Iterator[U]:
    """`protocols.Each` with the help of workers on the board of that name; `owner` is where their models have it."""
    import ray

    name = f"{owner}.{method.__name__}"
    waiting: deque[tuple[Any, Any]] = deque()  # the batch's reference, None for those done here, and the result('s)

    def first() -> U:
        batch, result = waiting.popleft()
        if batch is None:
            return result  # type: ignore[no-any-return]
        try:
            return ray.get(result)  # type: ignore[no-any-return]
        except ray.exceptions.RayError:  # the helper died, or it failed: for its own reason, or for one that shows here
            return method(ray.get(batch))

    def is_done() -> bool:
        batch, result = waiting[0]
        return batch is None or bool(ray.wait([result], timeout=0)[0])

    item: T
    for item, after in pairwise(chain(inputs, [_END])):  # type: ignore[assignment]
        lot = None
        if after is not _END:  # nobody is asked for the last one: it would be waited for
            lot = ray.put(item)
            result = _asked(ray, board, name, lot)
        waiting.append((lot, result[0]) if lot and result else (None, method(item)))
        while waiting and (len(waiting) >= MOST_AHEAD or is_done()):
            yield first()
    while waiting:
        yield first()


def _asked(ray: Any, board: str, name: str, batch: Any) -> list[Any]:
    """The board's answer, which is that nobody is idle where the board itself is lost."""
    try:
        return ray.get(ray.get_actor(board).help.remote(name, [batch]))  # type: ignore[no-any-return]
    except (ray.exceptions.RayError, ValueError):
        return []
