"""The work on one source, here or in a process of its own; whatever goes wrong is in its result, as a sentence."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from catalog.errors import PdidError
from catalog.records import Address, Source, SourceResult, Status
from corpus_builder.plan import Plan
from corpus_builder.sources import SourceRequest

if TYPE_CHECKING:
    from corpus_builder.engines import Models

SCRATCH = ".scratch"
FILLS_SCRATCH = ("decode", "separate")
"""Stages that write scratch files; the others write clips, or nothing."""
OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc")


@dataclass(frozen=True, slots=True)
class Job:
    """A source to work on: all that a process needs to know."""

    request: SourceRequest
    source: Source
    known: SourceResult | None  # what the catalog has of it
    address: Address
    also: tuple[Address, ...] = ()  # other addresses it was asked by

    def failed(self, error: str) -> SourceResult:
        """A result that says why there is none."""
        return SourceResult(replace(self.source, status=Status.FAILED, error=error), self.addresses)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self.known.addresses if self.known else (self.address, *self.also)


class Pool(Protocol):
    """Where several sources are worked on at a time: processes of this machine, or actors of a cluster."""

    @property
    def running(self) -> Collection[Job]:
        """Jobs that are submitted and not finished."""

    @property
    def full(self) -> bool:
        """Whether there is enough to do for now."""

    def submit(self, job: Job) -> None:
        """Take a job on."""

    def finished(self, wait_s: float | None) -> list[tuple[Job, SourceResult | None]]:
        """Jobs that have ended, waiting up to `wait_s` seconds for one; there may be none.

        A job has no result where the pool broke down under it, with all others that are running: leave it then.
        """


class NoRoom(Exception):
    """This machine has too little memory or disk for a source, in one sentence; another one may have enough."""


def work(job: Job, corpus: Path, models: Models, tell: Callable[[str, float], None]) -> SourceResult:
    """Process one source, its scratch files gone afterwards; any failure is in the result, as a sentence."""
    try:
        return attempt(job, corpus, models, tell, corpus / SCRATCH)
    except NoRoom as error:
        return job.failed(str(error))


def attempt(
    job: Job, corpus: Path, models: Models, tell: Callable[[str, float], None], scratch_in: Path
) -> SourceResult:
    """`work`, with the scratch files in a folder of one's choice. Raises NoRoom."""
    from corpus_builder.pipeline import process

    scratch = scratch_in / job.source.source_id
    stage = "decode"

    def note(name: str, share: float) -> None:
        nonlocal stage
        stage = name
        tell(name, share)

    try:
        scratch.mkdir(parents=True, exist_ok=True)
        result = process(job.source, job.request.path, job.known, corpus, scratch, models, note)
        return replace(result, addresses=job.addresses)
    except PdidError as error:
        return job.failed(str(error))
    except Exception as error:  # a fault of ours or of a library costs this source, never the run
        if _is_of_memory(error):
            why = f"out of memory in stage {stage!r}: close other programs, or use fewer --jobs"
            raise NoRoom(why) from None
        if not isinstance(error, OSError):
            return job.failed(f"unexpected {type(error).__name__} in stage {stage!r}: {error}")
        folder = scratch_in if stage in FILLS_SCRATCH else corpus
        why = f"{error.strerror or error} (while in stage {stage!r}, in {str(folder)!r})"
        if folder is scratch_in and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(why) from None
        return job.failed(why)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_of_memory(error: Exception) -> bool:
    """Whether it is for lack of memory: torch and onnxruntime have errors of their own for that."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY)


class Processes:
    """A `Pool` of processes; when one dies, all are lost."""

    def __init__(self, pool: ProcessPoolExecutor, number: int) -> None:
        self.pool, self.at_once = pool, 2 * number
        self.futures: dict[Future[SourceResult], Job] = {}

    @property
    def running(self) -> Collection[Job]:
        return self.futures.values()

    @property
    def full(self) -> bool:
        return len(self.futures) >= self.at_once

    def submit(self, job: Job) -> None:
        """As `Pool`'s; where a process has just died, the job is one more that has no result."""
        try:
            with _interrupts_blocked():
                future = self.pool.submit(work_in_process, job)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self.futures[future] = job

    def finished(self, wait_s: float | None) -> list[tuple[Job, SourceResult | None]]:
        done, _ = wait(self.futures, wait_s, FIRST_COMPLETED)
        return [(self.futures.pop(future), _result(future)) for future in done]


def _result(future: Future[SourceResult]) -> SourceResult | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return None


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """For starting processes, each of which inherits it; they start as jobs are submitted, one by one.

    Ctrl-C reaches every process of the terminal; here it is the parent's to handle.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def processes(number: int, plan: Plan, corpus: Path) -> Iterator[Processes]:
    """`number` processes for `work_in_process`, sharing the processors.

    When the block ends by an exception, Ctrl-C included, they end at once; so they do when this process dies.
    """
    threads = max(1, (os.cpu_count() or 1) // number)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, _start_process, (plan, corpus, threads))
    try:
        with _interrupts_blocked():
            pool.submit(os.getpid)  # the first process starts now
        yield Processes(pool, number)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown()


_process_models: Models
_process_corpus: Path


def _start_process(plan: Plan, corpus: Path, threads: int) -> None:
    """Load what a process needs once."""
    from corpus_builder.engines import Models

    global _process_models, _process_corpus
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _process_models, _process_corpus = Models(plan, threads), corpus


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, killed perhaps: it must not write into a later run's corpus."""
    parent = multiprocessing.parent_process()
    assert parent
    wait_for([parent.sentinel])
    os._exit(1)


def work_in_process(job: Job) -> SourceResult:
    """`work` in a process of `processes`."""
    return work(job, _process_corpus, _process_models, lambda stage, share: None)
