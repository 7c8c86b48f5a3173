"""The run: which sources need work, the work itself in one or several processes, and one committer.

A source is committed in one transaction, after its clips are on disk; a run that is cut off leaves
finished sources finished and, at most, files that the next run takes away.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from catalog.errors import PdidError
from catalog.records import Address, Source, SourceResult, Stage, Status
from catalog.speakers import links_are_due
from catalog.store import Catalog, open_catalog
from corpus_builder.plan import Plan
from corpus_builder.sources import SourceRequest
from corpus_builder.speakers import link_speakers
from corpus_builder.workers import SCRATCH, Job, processes, work, work_in_process

CLIPS = "clips"
COMMIT_WAIT_S = 600.0
"""Seconds a finished source waits for whoever holds the catalog: its work may have taken hours."""

LABELS = ("accent", "accent_raw", "speaker", "language", "licence", "title", "channel", "uploaded_at")


class Need(StrEnum):
    """Why a source is or is not worked on."""

    NEW = "new"
    CHANGED = "settings changed"
    RETRY = "failed before"
    NOTHING = "up to date"


@dataclass(frozen=True, slots=True)
class Task:
    """A requested file, and what there is to do about it."""

    request: SourceRequest
    need: Need
    source_id: str | None = None  # where the catalog knows the file, by its name, size and time of change
    size_bytes: int = 0
    from_stage: str | None = None  # the first stage to redo


@dataclass(slots=True)
class Outcome:
    """What became of one requested file."""

    request: SourceRequest
    source_id: str
    status: Status
    error: str | None = None
    fresh: bool = True  # worked on in this run
    clips: int = 0
    kept_s: float = 0.0
    source_s: float = 0.0


@dataclass(slots=True)
class _Known:
    """What the catalog had when the run began."""

    addresses: dict[str, Address] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    stages: dict[str, list[Stage]] = field(default_factory=dict)
    clips: set[str] = field(default_factory=set)


Watch = Callable[[SourceRequest, str, float], None]
"""Called with a request, the stage its source is in, and the share of that stage that is done."""


@contextmanager
def corpus_lock(corpus: Path) -> Iterator[None]:
    """Hold the corpus folder for this run alone. Raises PdidError if another run holds it."""
    try:
        (corpus / CLIPS).mkdir(parents=True, exist_ok=True)
        handle = os.open(corpus / CLIPS, os.O_RDONLY)
    except OSError as error:
        raise PdidError(f"the corpus folder {str(corpus)!r} can't be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PdidError(
                f"another `pdid ingest` is working on {str(corpus)!r}: wait for it to end, or stop it"
            ) from None
        yield
    finally:
        os.close(handle)


def survey(corpus: Path, requests: Sequence[SourceRequest], plan: Plan) -> list[Task]:
    """What there is to do for each request, without reading any audio. The catalog may not exist yet."""
    known = _Known()
    if (corpus / "catalog.duckdb").exists():
        with open_catalog(corpus) as catalog:
            known = _read(catalog)
    return [_task(request, corpus, known, plan) for request in requests]


def _read(catalog: Catalog) -> _Known:
    sources = {source.source_id: source for source in catalog.sources()}
    return _Known(catalog.addresses(), sources, catalog.stages(), catalog.clip_paths())


def _task(request: SourceRequest, corpus: Path, known: _Known, plan: Plan) -> Task:
    try:
        status = request.path.stat()
    except OSError:
        return Task(request, Need.RETRY if request.uri in known.addresses else Need.NEW)
    address = known.addresses.get(request.uri)
    size = status.st_size
    if not address or (address.size_bytes, address.mtime_ns) != (size, status.st_mtime_ns):
        return Task(request, Need.NEW, None, size)
    source = known.sources[address.source_id]
    if source.status is not Status.DONE:
        return Task(request, Need.RETRY, source.source_id, size)
    stage = plan.first_to_do({s.stage: s for s in known.stages.get(source.source_id, ())})
    if stage:
        return Task(request, Need.CHANGED, source.source_id, size, stage)
    return Task(request, Need.NOTHING, source.source_id, size)


def ingest(requests: Sequence[SourceRequest], corpus: Path, plan: Plan, jobs: int, watch: Watch) -> Iterator[Outcome]:
    """Ingest the requested files; yields each one's outcome once it is committed.

    With `jobs` over 1 that many processes share the processors. Stopping the iteration, or an
    interrupt, leaves what is committed. Raises PdidError if the corpus or its catalog can't be used.
    """
    with corpus_lock(corpus):
        shutil.rmtree(corpus / SCRATCH, ignore_errors=True)
        with open_catalog(corpus, write=True) as catalog:
            known = _read(catalog)
            missing = _tidy(corpus, known)
            tasks = [_task(request, corpus, known, plan) for request in requests]
            _relabel(catalog, tasks, known)
        tasks = [
            replace(t, need=Need.CHANGED, from_stage="quality")
            if t.need is Need.NOTHING and t.source_id in missing
            else t
            for t in tasks
        ]
        run = _Run(corpus, plan, jobs, watch, known)
        try:
            yield from run(tasks)
            _link(corpus)
        finally:
            shutil.rmtree(corpus / SCRATCH, ignore_errors=True)


def _tidy(corpus: Path, known: _Known) -> set[str]:
    """Delete clip files that no row names, as a killed run leaves them; the sources of clips that are gone."""
    there: set[str] = set()
    for entry in list(os.scandir(corpus / CLIPS)):
        if entry.is_dir(follow_symlinks=False):
            there |= _sweep(corpus, entry.name, known.clips)
        else:
            os.unlink(entry.path)
    return {name.split("/")[1] for name in known.clips - there}


def _sweep(corpus: Path, source_id: str, wanted: Container[str | None], previews: bool = True) -> set[str]:
    """Delete a source's clip files that are not wanted, and their previews unless they are; return what is left."""
    folder = corpus / CLIPS / source_id
    there: set[str] = set()
    for file in list(folder.iterdir()) if folder.is_dir() else ():
        name = f"{CLIPS}/{source_id}/{file.name}"
        if name in wanted:
            there.add(name)
        elif file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif not (previews and file.suffix == ".mp3" and name.removesuffix(".mp3") + ".wav" in wanted):
            file.unlink()
    with suppress(OSError):
        folder.rmdir()  # only if it is empty
    return there


def _relabel(catalog: Catalog, tasks: Sequence[Task], known: _Known) -> None:
    """Bring the labels of known sources to what is said of them now."""
    changed = {}
    for task in tasks:
        if task.source_id:
            source = known.sources[task.source_id]
            labelled = _labelled(source, task.request)
            if labelled != source:
                changed[task.source_id] = known.sources[task.source_id] = labelled
    catalog.update_labels(changed.values())


def _labelled(source: Source, request: SourceRequest) -> Source:
    """The source with the labels of a request, where that says something."""
    said = {name: getattr(request, name) for name in LABELS if getattr(request, name) is not None}
    return replace(source, **said, extra={**source.extra, **request.extra})


def _link(corpus: Path) -> None:
    """Link the speakers of all recordings, where this run or one that was cut off has changed any."""
    with open_catalog(corpus, wait_s=COMMIT_WAIT_S) as catalog:
        due = links_are_due(catalog)
    if due:
        with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
            link_speakers(catalog)


class _Run:
    """The state of one run: sources in work, and the committer."""

    def __init__(self, corpus: Path, plan: Plan, jobs: int, watch: Watch, known: _Known) -> None:
        self.corpus, self.plan, self.jobs, self.watch, self.known = corpus, plan, jobs, watch, known
        self.done: dict[str, SourceResult] = {}  # of this run, by source id

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if task.need is Need.NOTHING:
                assert task.source_id
                yield self._outcome(task.request, self.known.sources[task.source_id], None, fresh=False)
        todo = [task for task in tasks if task.need is not Need.NOTHING]
        if not todo:
            return
        yield from self._here(todo) if self.jobs == 1 else self._in_processes(todo)

    def _here(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        from corpus_builder.pipeline import Models  # imports torch

        models = Models(self.plan, os.cpu_count() or 1)
        for task in tasks:
            job = self._prepare(task)
            if isinstance(job, Outcome):
                yield job
            else:
                yield self._commit(job, work(job, self.corpus, models, partial(self.watch, job.request)))

    def _in_processes(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Several sources at a time; a process that dies costs its source, and the others are tried again alone."""
        waiting = list(tasks)
        suspects: list[Job] = []
        while waiting:
            with processes(min(self.jobs, len(waiting)), self.plan, self.corpus) as pool:
                running: dict[Future[SourceResult], Job] = {}
                while (waiting or running) and not suspects:
                    while waiting and len(running) < 2 * self.jobs:
                        job = self._prepare(waiting[0])
                        if isinstance(job, Outcome):
                            yield job
                        elif any(job.source.source_id == other.source.source_id for other in running.values()):
                            break  # its twin is in work: look again when that is done
                        else:
                            self.watch(job.request, "queued", 0.0)
                            running[pool.submit(work_in_process, job)] = job
                        waiting.pop(0)
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        job = running.pop(future)
                        try:
                            result = future.result()
                        except BrokenProcessPool:
                            suspects.append(job)
                        else:
                            yield self._commit(job, result)
                suspects += running.values()
            for job in suspects:
                with processes(1, self.plan, self.corpus) as alone:
                    try:
                        result = alone.submit(work_in_process, job).result()
                    except BrokenProcessPool:
                        result = job.failed("the process working on it died, probably for lack of memory")
                yield self._commit(job, result)
            suspects = []

    def _prepare(self, task: Task) -> Job | Outcome:
        """Find out which source a file is, and what is known of it; no job where its bytes are done already."""
        request = task.request
        address, sha256, error = _identify(request)
        source_id = address.source_id
        if source_id in self.done:  # the same bytes as another file of this run
            result = self.done[source_id]
            others = tuple(a for a in result.addresses if a.uri != address.uri)
            result = replace(result, source=_labelled(result.source, request), addresses=(*others, address))
            return self._commit(Job(request, result.source, result, address), result, fresh=False)
        known = None
        source = Source(source_id, request.uri)
        if source_id in self.known.sources:
            try:
                with open_catalog(self.corpus, wait_s=COMMIT_WAIT_S) as catalog:
                    known = catalog.result(source_id)
            except PdidError as unread:
                return Outcome(request, source_id, Status.FAILED, f"what is known of it can't be read: {unread}")
        if known:
            others = tuple(a for a in known.addresses if a.uri != address.uri)
            known = replace(known, addresses=(*others, address))
            source = known.source
        source = replace(_labelled(source, request), sha256=sha256)
        job = Job(request, source, known, address)
        if error:
            return self._commit(job, job.failed(error))
        done = known is not None and known.source.status is Status.DONE
        if known and done and not task.from_stage and not self.plan.first_to_do({s.stage: s for s in known.stages}):
            return self._commit(job, replace(known, source=source), fresh=False)  # another address of its bytes
        return job

    def _commit(self, job: Job, result: SourceResult, fresh: bool = True) -> Outcome:
        """Write a source's result, then delete the clips it no longer names."""
        source_id, outcome = result.source.source_id, None
        self.watch(job.request, "commit", 0.0)
        try:
            with open_catalog(self.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                catalog.write_source(result)
        except (PdidError, OSError) as error:
            why = f"its result can't be stored: {error}"
            outcome = Outcome(job.request, source_id, Status.FAILED, why)
        else:
            self.done[source_id] = result
        stored = result if outcome is None else job.known
        named = {segment.path for segment in stored.segments if segment.kept} if stored else set()
        with suppress(OSError):  # else the next run deletes them
            _sweep(self.corpus, source_id, named, self.plan.settings.previews)
        return outcome or self._outcome(job.request, result.source, result, fresh)

    def _outcome(self, request: SourceRequest, source: Source, result: SourceResult | None, fresh: bool) -> Outcome:
        kept = [s for s in result.segments if s.kept] if result else []
        return Outcome(
            request,
            source.source_id,
            source.status,
            source.error,
            fresh,
            len(kept),
            sum(s.end - s.start for s in kept) / 16_000,
            (source.n_samples or 0) / 16_000,
        )


def _identify(request: SourceRequest) -> tuple[Address, str | None, str | None]:
    """A file's address, its SHA-256, and why it can't be read (then the id comes from the address)."""
    try:
        if not stat.S_ISREG(request.path.stat().st_mode):  # opening a pipe could wait for ever
            raise OSError(errno.EINVAL, "it is no ordinary file")
        with request.path.open("rb") as file:
            status = os.fstat(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Address(request.uri, sha256[:16], status.st_size, status.st_mtime_ns), sha256, None
    except OSError as error:
        source_id = hashlib.sha256(request.uri.encode()).hexdigest()[:16]
        reason = {
            "FileNotFoundError": "there is no such file",
            "PermissionError": "the file can't be read: permission denied",
        }.get(type(error).__name__, f"the file can't be read: {error.strerror or error}")
        return Address(request.uri, source_id), None, reason
