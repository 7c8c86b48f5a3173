"""What a person sees while cells run: a bar for the cell in work, a line for each that is done."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """Progress on standard error."""

    def __init__(self, title: str, total: int, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.total, self.done = total, 0
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not sys.stderr.isatty(),
        )
        self.whole = self.bar.add_task(title, total=total)
        self.part = self.bar.add_task("", total=1.0)
        self.what = ""

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def watch(self, what: str, share: float) -> None:
        """`what` is being done, `share` of it is."""
        if what != self.what:
            self.what = what
            self.bar.reset(self.part, description=what)
        self.bar.update(self.part, completed=share)

    def finished(self, line: str) -> None:
        """One of the cells is done."""
        self.done += 1
        self.bar.update(self.whole, completed=self.done)
        self.console.print(f"[{self.done}/{self.total}] {line}", markup=False, soft_wrap=True)
