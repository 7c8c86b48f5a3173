"""What a person sees while a run goes on: one line per source, and on a terminal a bar with an estimate."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from catalog.records import Status
from corpus_builder.ingest import Outcome
from corpus_builder.sources import SourceRequest

# Where in the work on a source a stage begins and ends, roughly; what is measured is the whole.
PART = {
    "decode": (0.0, 0.05),
    "music": (0.05, 0.15),
    "vad": (0.15, 0.35),
    "separate": (0.35, 0.4),
    "diarize": (0.4, 0.7),
    "segment": (0.7, 0.72),
    "loudness": (0.72, 0.72),
    "quality": (0.72, 1.0),
    "commit": (1.0, 1.0),
}


class Display:
    """Progress on standard error: audio-hours per second, what is in work, and the time left."""

    def __init__(self, requests: Sequence[SourceRequest]) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.total = len(requests)  # grows as playlists are looked at
        self.start = time.monotonic()
        self.audio_s, self.done = 0.0, 0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[now]}", markup=False),  # files may be named [bold]
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not sys.stderr.isatty(),
        )
        # weighed by size: the only thing known of a file before it is decoded
        self.weight = {r.uri: _size(r) for r in requests if r.address is None}
        self.task: TaskID = self.bar.add_task("0 h", total=sum(self.weight.values()), now="")
        self.passed = 0.0  # weight of the sources that are done

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def watch(self, request: SourceRequest, stage: str, share: float) -> None:
        """A source is in a stage, `share` of it done. Downloads go on beside the work, and move no bar."""
        now = f"{stage} {share:.0%}  {request.name!r:.40}"
        if stage in ("look", "fetch"):
            self.bar.update(self.task, now=now)
            return
        begin, end = PART.get(stage, (0.0, 0.0))
        within = (begin + share * (end - begin)) * self._weight(request)
        self.bar.update(self.task, completed=self.passed + within, now=now)

    def _weight(self, request: SourceRequest) -> int:
        """A source's share of the work; what a web address leads to is known only once it is there."""
        if request.uri not in self.weight:
            self.weight[request.uri] = _size(request)
            self.bar.update(self.task, total=sum(self.weight.values()))
        return self.weight[request.uri]

    def finished(self, outcome: Outcome) -> None:
        """A source's outcome is committed."""
        self.done += 1
        self.passed += self._weight(outcome.request)
        self.total = max(self.total, self.done)
        self.bar.update(self.task, completed=self.passed)
        if not outcome.fresh:
            return
        self.audio_s += outcome.source_s
        rate = self.audio_s / 3600 / max(1e-9, time.monotonic() - self.start)
        self.bar.update(self.task, description=f"{self.audio_s / 3600:.2f} h, {rate:.4f} audio-hours/s")
        if outcome.status is Status.DONE:
            name = repr(outcome.request.name)
            self.console.print(
                f"[{self.done}/{self.total}] {name}: {outcome.source_s:.0f} s in, "
                f"{outcome.kept_s:.0f} s kept in {outcome.clips} clips",
                markup=False,
                soft_wrap=True,
            )


def _size(request: SourceRequest) -> int:
    try:
        return request.path.stat().st_size + 1
    except OSError:
        return 1
