"""The work on one source, here or in a process of its own; whatever goes wrong is in its result, as a sentence."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import PdidError
from catalog.records import Address, Source, SourceResult, Status
from corpus_builder.plan import Plan
from corpus_builder.sources import SourceRequest

if TYPE_CHECKING:
    from corpus_builder.pipeline import Models

SCRATCH = ".scratch"


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


def work(job: Job, corpus: Path, models: Models, tell: Callable[[str, float], None]) -> SourceResult:
    """Process one source, its scratch files gone afterwards; any failure is in the result, as a sentence."""
    from corpus_builder.pipeline import process

    scratch = corpus / SCRATCH / job.source.source_id
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
    except OSError as error:
        return job.failed(f"{error.strerror or error} (while in stage {stage!r}, in {str(corpus)!r})")
    except MemoryError:
        return job.failed(f"out of memory in stage {stage!r}: close other programs, or use fewer --jobs")
    except Exception as error:  # a fault of ours or of a library costs this source, never the run
        return job.failed(f"unexpected {type(error).__name__} in stage {stage!r}: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def processes(number: int, plan: Plan, corpus: Path) -> Iterator[ProcessPoolExecutor]:
    """`number` processes for `work_in_process`, sharing the processors.

    When the block ends by an exception, Ctrl-C included, they end at once; so they do when this process dies.
    """
    threads = max(1, (os.cpu_count() or 1) // number)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, _start_process, (plan, corpus, threads))
    try:
        # Ctrl-C reaches every process of the terminal; here it is the parent's to handle. Started
        # by this first call, the processes inherit that it is blocked.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pool.submit(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        yield pool
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
    from corpus_builder.pipeline import Models

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
