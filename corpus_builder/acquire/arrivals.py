"""Downloading while others are processed: threads look at addresses and fetch what is wanted, a little ahead."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from corpus_builder.acquire import shelf
from corpus_builder.acquire.addresses import key_of
from corpus_builder.acquire.records import Choice, Entry, Fetched, FetchError, FetchSettings, NotWanted
from corpus_builder.sources import SourceRequest
from corpus_builder.survey import Need, Task

AHEAD = 8
"""Downloads that may wait for processing, over those under way: more would only fill the disk, and fewer leave the
link idle while a long recording is processed, or the processors while a short one is."""
ALONE_S = 20.0
"""How long the first download has the link to itself, at most: the sooner there is something to work on, the better.
Several that share a slow link are finished together, late, and looking at addresses takes the first bytes of each."""

Decide = Callable[[SourceRequest, Entry], Task]
Watch = Callable[[SourceRequest, str, float], None]


class Arrivals:
    """Tasks as they become ready to be worked on: files at once, web addresses when they are downloaded.

    Iterate over it, or `take`. Everything that goes wrong with an address is in its task, as a sentence.
    `close` it: the threads stop at the next block of bytes.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        media: Path,
        settings: FetchSettings,
        choice: Choice,
        decide: Decide,
        watch: Watch,
        threads: int,
    ) -> None:
        self.media, self.settings, self.choice, self.decide, self.watch = media, settings, choice, decide, watch
        self.change = threading.Condition()
        self.ready: deque[Task] = deque()
        self.looks: deque[SourceRequest] = deque()
        self.fetches: deque[Task] = deque()
        self.busy = 0  # threads with a look or a fetch in hand
        self.here = 0  # downloads, begun or finished, that nobody has taken
        self.most = AHEAD + threads
        self.alone_until: float | None = None  # while the first download has the link to itself
        self.stopped = False
        self.seen: set[str] = set()
        for task in tasks:
            if task.request.address and _is_to_be_fetched(task):
                fetched = shelf.take(media, key_of(task.request.uri))
                if fetched:  # by a run that was cut off
                    self.ready.append(_with_download(task, fetched))
                    self.here += 1
                else:
                    self.looks.append(task.request)
            else:
                self.seen.add(task.request.uri)
                self.ready.append(task)
        if self.looks:
            media.mkdir(parents=True, exist_ok=True)
        for _ in range(threads if self.looks else 0):
            threading.Thread(target=self._work, daemon=True).start()

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop: what is being fetched stays where it is, and goes on from there in the next run."""
        with self.change:
            self.stopped = True
            self.change.notify_all()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        with self.change:
            return not self.ready and self._idle

    @property
    def at_most(self) -> int | None:
        """How many more tasks will come; None while that is not known."""
        with self.change:
            return None if self.looks or self.busy else len(self.ready) + len(self.fetches)

    def awaits_download(self) -> bool:
        """Wait until something is ready, being downloaded, or nothing will come; whether it is a download."""
        with self.change:
            self.change.wait_for(lambda: self.ready or self.here or self._idle)
            return bool(self.here) and not self.ready

    def take(self, wait_s: float | None = None) -> Task | None:
        """The next task; None if none comes within `wait_s` seconds, or none will come."""
        with self.change:
            self.change.wait_for(lambda: self.ready or self._idle, wait_s)
            if not self.ready:
                return None
            task = self.ready.popleft()
            if task.fetched:
                self.here -= 1
                self.change.notify_all()
            return task

    def __iter__(self) -> Iterator[Task]:
        while task := self.take():
            yield task

    @property
    def _idle(self) -> bool:
        return self.stopped or not (self.looks or self.fetches or self.busy)

    def _work(self) -> None:
        while True:
            with self.change:
                while not (self._idle or self._may_look or self._may_fetch):
                    self.change.wait(None if self.alone_until is None else ALONE_S)
                if self._idle:
                    return
                if self._may_fetch:
                    todo: Task | SourceRequest = self.fetches.popleft()
                    self.here += 1
                    if self.alone_until is None:
                        self.alone_until = time.monotonic() + ALONE_S
                else:
                    todo = self.looks.popleft()
                self.busy += 1
            found = self._fetched(todo) if isinstance(todo, Task) else self._looked_at(todo)
            with self.change:
                self.busy -= 1
                if isinstance(todo, Task):
                    self.alone_until = -math.inf
                if isinstance(todo, Task) and not any(task.fetched for task in found):
                    self.here -= 1
                for task in found:
                    (self.fetches if _is_to_be_fetched(task) else self.ready).append(task)
                self.change.notify_all()

    @property
    def _free(self) -> bool:
        """Whether the link may be used by any thread: the first download doesn't have it to itself."""
        return self.alone_until is None or time.monotonic() >= self.alone_until

    @property
    def _may_look(self) -> bool:
        return bool(self.looks) and self._free

    @property
    def _may_fetch(self) -> bool:
        return bool(self.fetches) and self.here < self.most and self._free

    def _looked_at(self, request: SourceRequest) -> list[Task]:
        """What an address leads to."""
        from corpus_builder.acquire.web import look  # yt-dlp takes a moment to import

        assert request.address
        self.watch(request, "look", 0.0)
        try:
            entries = look(request.address, self.choice, self.settings)
        except FetchError as error:
            return [Task(request, Need.NEW, error=error.why, lost_s=error.lost_s)]
        except Exception as error:  # a fault of ours or of a library costs this address, never the run
            return [Task(request, Need.NEW, error=f"unexpected {type(error).__name__} while looking at it: {error}")]
        tasks = []
        for entry in entries:
            with self.change:
                new = entry.uri not in self.seen
                self.seen.add(entry.uri)
            if new:
                asked = None if entry.listed or entry.uri == request.uri else request.uri
                task = self.decide(replace(request, uri=entry.uri, title=request.title or entry.title), entry)
                tasks.append(replace(task, entry=entry, asked=asked))
        return tasks

    def _fetched(self, task: Task) -> list[Task]:
        """The task with its download, or with the reason why there is none; nothing for what turns out not wanted."""
        from corpus_builder.acquire.web import fetch

        assert task.entry
        key = key_of(task.entry.uri)

        def tell(so_far: int, of: int | None) -> None:
            if self.stopped:
                raise FetchError(task.request.uri, "stopped")
            self.watch(task.request, "fetch", min(1.0, so_far / of) if of else 0.0)

        try:
            fetched = shelf.take(self.media, key)
            if not fetched:
                fetched = fetch(task.entry, self.media, self.settings, tell)
                shelf.put(self.media, key, fetched)
        except NotWanted:
            return []
        except FetchError as error:
            return [replace(task, error=error.why, lost_s=error.lost_s)]
        except OSError as error:
            return [replace(task, error=f"its download can't be stored: {error.strerror or error}")]
        except Exception as error:  # as above
            return [replace(task, error=f"unexpected {type(error).__name__} while fetching it: {error}")]
        return [_with_download(task, fetched)]


def _with_download(task: Task, fetched: Fetched) -> Task:
    request = replace(task.request, path=fetched.path)
    return replace(task, request=request, fetched=fetched, size_bytes=fetched.path.stat().st_size)


def _is_to_be_fetched(task: Task) -> bool:
    return not (task.error or task.fetched or task.size_bytes or task.need in (Need.NOTHING, Need.REFUSED))
