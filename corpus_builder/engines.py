"""The models at work in a process: each loaded when first needed, and kept for the next source.

What imports torch or scipy is imported here as late: together they take two seconds, in which the first source can be
decoded and searched for music.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from catalog.memory import keep_freed_memory
from corpus_builder.music import MusicDetector
from corpus_builder.plan import Plan
from corpus_builder.protocols import Diarizer, Each, Progress, Separator
from corpus_builder.quality import Dnsmos

if TYPE_CHECKING:
    from corpus_builder.vad import SpeechDetector

T = TypeVar("T")

Shared = Callable[[str, Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""`Each`, told first which of the models the method is of, as a path of attributes: other processes have it, too."""


class Models:
    """The models of a plan, for a process that may use so many threads, and may have others help."""

    def __init__(self, plan: Plan, threads: int, shared: Shared | None = None) -> None:
        self.plan, self.threads, self.shared = plan, threads, shared
        keep_freed_memory()

    def each(self, owner: str) -> Each:
        """How to compute a method of one of the models for many inputs, say of `diarizer.encoder`."""
        return partial(self.shared, owner) if self.shared else map

    def _one_thread(self) -> None:
        """One thread for each operation of torch: small networks lose more by waiting than they win, and on a busy
        machine they can wait for minutes. The big ones raise it while they run (`all_threads`)."""
        import torch

        torch.set_num_threads(1)

    @contextmanager
    def all_threads(self) -> Iterator[None]:
        """Let single operations of torch use all of this process's threads."""
        import torch

        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(1)

    @cached_property
    def music(self) -> MusicDetector:
        return MusicDetector(self.plan.settings.music)

    @cached_property
    def speech(self) -> SpeechDetector:
        from corpus_builder.vad import SpeechDetector

        self._one_thread()
        return SpeechDetector(self.plan.settings.vad)

    @cached_property
    def separator(self) -> Separator:
        from corpus_builder.separate import Demucs

        return Demucs(self.plan.settings.separate, self.plan.demucs, self.each("separator"))

    @cached_property
    def diarizer(self) -> Diarizer:
        self._one_thread()
        if self.plan.engine == "embedded":
            from corpus_builder.diarize.embedded import Embedded

            return Embedded(self.plan.settings.diarize, self.threads, self.each("diarizer.encoder"))
        from corpus_builder.diarize.pyannote import Pyannote

        return Pyannote(self.plan.settings.diarize, self.plan.pyannote, self.each("diarizer"))

    @cached_property
    def dnsmos(self) -> Dnsmos:
        return Dnsmos()

    def load_rest(self) -> None:
        """Load what comes after the search for music and speech, here and now."""
        import corpus_builder.loudness  # noqa: F401  scipy's filters come along

        _ = self.diarizer, self.dnsmos


@contextmanager
def beside(work: Callable[[Progress], T]) -> Iterator[Future[T]]:
    """Do some work in a thread while the block runs, which takes its result from the future.

    Where the block ends by an exception, Ctrl-C included, the work ends when it next calls its argument.
    """
    over = threading.Event()

    def go_on(share: float) -> None:
        if over.is_set():
            raise CancelledError

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(work, go_on)
        except BaseException:
            over.set()
            raise
