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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalog import interrupts
from catalog.annotations import write_transcripts
from catalog.errors import PdidError
from catalog.fetches import forget_media
from catalog.records import Address, Source, SourceResult, Status
from catalog.speakers import links_are_due
from catalog.store import Catalog, open_catalog
from catalog.texts import unsaid
from corpus_builder.acquire import shelf
from corpus_builder.acquire.addresses import key_of
from corpus_builder.acquire.arrivals import Arrivals
from corpus_builder.acquire.origin import described, failed_fetch, stored_fetch, transcripts_of
from corpus_builder.acquire.records import Choice, Entry, Fetched, FetchSettings
from corpus_builder.clip_files import CLIPS, MEDIA, sweep, tidy
from corpus_builder.plan import Plan
from corpus_builder.sources import SourceRequest
from corpus_builder.speakers import link_speakers
from corpus_builder.survey import Known, Need, Task, read_known, task_of
from corpus_builder.workers import SCRATCH, Job, Pool, processes, work

if TYPE_CHECKING:
    from corpus_builder.engines import Models

POLL_S = 0.2
"""Seconds between looks at what has been downloaded, while processes are at work."""
COMMIT_WAIT_S = 600.0
"""Seconds a finished source waits for whoever holds the catalog: its work may have taken hours."""

LABELS = ("accent", "accent_raw", "speaker", "language", "licence", "title", "channel", "uploaded_at")


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
    refused: bool = False  # it was taken down, and stays out


@dataclass(frozen=True, slots=True)
class Web:
    """How to download, and what becomes of downloads."""

    settings: FetchSettings
    choice: Choice
    keep_media: Literal["always", "failed", "never"] = "always"
    downloads: int = 3  # at a time


WEB = Web(FetchSettings(), Choice())


Watch = Callable[[SourceRequest, str, float], None]
"""Called with a request, the stage its source is in, and the share of that stage that is done."""

MakePool = Callable[[int, Plan, Path], AbstractContextManager[Pool]]
"""Makes a pool for so many sources at a time."""


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


def ingest(
    requests: Sequence[SourceRequest],
    corpus: Path,
    plan: Plan,
    jobs: int,
    watch: Watch,
    web: Web = WEB,
    pool: MakePool = processes,
) -> Iterator[Outcome]:
    """Ingest the requested files and addresses; yields each one's outcome once it is committed.

    With `jobs` over 1 that many processes share the processors, or what `pool` makes does the work. Addresses are
    looked at and downloaded in threads, while others are processed. Stopping the iteration, or an interrupt, leaves
    what is committed. Raises PdidError if the corpus or its catalog can't be used.
    """
    with corpus_lock(corpus):
        shutil.rmtree(corpus / SCRATCH, ignore_errors=True)
        with open_catalog(corpus, write=True) as catalog:
            known = read_known(catalog)
            missing = tidy(corpus, catalog.clip_paths(), known)
            tasks = [task_of(request, corpus, known, plan) for request in requests]
            _relabel(catalog, tasks, known)
        tasks = [
            replace(t, need=Need.CHANGED, from_stage="quality")
            if t.need is Need.NOTHING and t.source_id in missing
            else t
            for t in tasks
        ]
        if jobs > 1:  # the longest first, as far as bytes tell: begun last, it would leave the other workers idle
            tasks.sort(key=lambda task: (task.need not in (Need.NOTHING, Need.REFUSED), -task.size_bytes))
        run = _Run(corpus, plan, jobs, watch, known, web, pool)

        def decide(request: SourceRequest, entry: Entry) -> Task:
            return task_of(request, corpus, known, plan, entry)

        with Arrivals(tasks, corpus / MEDIA, web.settings, web.choice, decide, watch, web.downloads) as arrivals:
            try:
                yield from run(arrivals)
                _link(corpus)
            finally:
                shutil.rmtree(corpus / SCRATCH, ignore_errors=True)


def _relabel(catalog: Catalog, tasks: Sequence[Task], known: Known) -> None:
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

    def __init__(
        self, corpus: Path, plan: Plan, jobs: int, watch: Watch, known: Known, web: Web, pool: MakePool
    ) -> None:
        self.corpus, self.plan, self.jobs, self.known, self.web = corpus, plan, jobs, known, web
        self.tell = watch
        self.pool = pool
        self.done: set[str] = set()  # ids of the sources that this run has committed
        self.fetched: dict[str, Fetched] = {}  # in work, by address

    def watch(self, request: SourceRequest, stage: str, share: float) -> None:
        """Tell how far a source is. Raises KeyboardInterrupt where a library has swallowed it."""
        interrupts.check()
        self.tell(request, stage, share)

    def __call__(self, arrivals: Arrivals) -> Iterator[Outcome]:
        here = self.jobs == 1 and self.pool is processes
        yield from self._here(arrivals) if here else self._in_pool(arrivals)

    def _here(self, arrivals: Arrivals) -> Iterator[Outcome]:
        models = self._models(warm=True) if arrivals.awaits_download() else None
        for task in arrivals:
            job = self._settled(task) or self._prepare(task)
            if isinstance(job, Outcome):
                yield job
                continue
            models = models or self._models()
            yield self._commit(job, work(job, self.corpus, models, partial(self.watch, job.request)))

    def _models(self, warm: bool = False) -> Models:
        """The models, each loaded when it is first needed, or now: best while the first download goes on."""
        from corpus_builder.engines import Models

        models = Models(self.plan, os.cpu_count() or 1)
        if warm:
            _ = models.music, models.speech
            models.load_rest()
        return models

    def _in_pool(self, arrivals: Arrivals) -> Iterator[Outcome]:
        """Several sources at a time; a process that dies costs its source, and the others are tried again alone."""
        waiting: list[Task] = []
        suspects: list[Job] = []
        while waiting or not arrivals.over:
            if not waiting and not arrivals.awaits_download():  # the pool is made while the first one goes on
                task = arrivals.take()
                if task and (outcome := self._settled(task)):
                    yield outcome  # before any process is started
                elif task:
                    waiting.append(task)
                continue
            more = arrivals.at_most
            number = self.jobs
            if more is not None and self.pool is processes:  # a cluster's workers help each other
                number = min(number, len(waiting) + more)
            with self.pool(number, self.plan, self.corpus) as pool:
                while (waiting or pool.running or not arrivals.over) and not suspects:
                    while not pool.full:
                        task = waiting.pop(0) if waiting else arrivals.take(0 if pool.running else None)
                        if not task:
                            break
                        job = self._settled(task) or self._prepare(task)
                        if isinstance(job, Outcome):
                            yield job
                        elif any(job.source.source_id == other.source.source_id for other in pool.running):
                            waiting.insert(0, task)
                            break  # its twin is in work: look again when that is done
                        else:
                            self.watch(job.request, "queued", 0.0)
                            pool.submit(job)
                    for job, result in pool.finished(None if arrivals.over else POLL_S):
                        if result:
                            yield self._commit(job, result)
                        else:
                            suspects.append(job)
                suspects += pool.running
            for job in suspects:
                with self.pool(1, self.plan, self.corpus) as alone:
                    alone.submit(job)
                    ((_, result),) = alone.finished(None)
                why = "the process working on it died, probably for lack of memory"
                yield self._commit(job, result or job.failed(why))
            suspects = []

    def _settled(self, task: Task) -> Outcome | None:
        """The outcome of what needs no work: it is up to date, refused, or can't be fetched."""
        request, source_id = task.request, task.source_id
        if task.need is Need.REFUSED:
            return Outcome(request, source_id or "", Status.FAILED, task.error, fresh=False, refused=True)
        if task.error:
            return self._not_fetched(task, task.error)
        if task.need is not Need.NOTHING:
            return None
        assert source_id
        source = self.known.sources[source_id]
        labelled = _labelled(source, request)
        if task.asked or labelled != source:  # found in a list, or by a shorter address
            with open_catalog(self.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                catalog.update_labels([labelled])
                catalog.write_addresses([Address(task.asked, source_id)] if task.asked else [])
            self.known.sources[source_id] = labelled
        return self._outcome(request, labelled, None, fresh=False)

    def _not_fetched(self, task: Task, error: str) -> Outcome:
        """Note why an address can't be fetched; what was made of an earlier download stays."""
        request = task.request
        address = self.known.addresses.get(request.uri)
        known = self.known.sources.get(address.source_id) if address else None
        if known and known.status is Status.DONE:
            why = f"its download was not kept, and can't be fetched again: {error}"
            return Outcome(request, known.source_id, Status.FAILED, why)
        source = _labelled(Source(key_of(request.uri), request.uri), request)
        also = (Address(task.asked, source.source_id),) if task.asked else ()
        job = Job(request, source, None, Address(request.uri, source.source_id), also)
        result = job.failed(error)
        if task.entry:
            result = replace(result, fetch=failed_fetch(task.entry, source.source_id, task.lost_s))
        return self._commit(job, result)

    def _prepare(self, task: Task) -> Job | Outcome:
        """Find out which source a file is, and what is known of it; no job where its bytes are done already."""
        request = task.request
        address, sha256, error = _identify(request)
        source_id = address.source_id
        removal = self.known.removed.of(sha256=sha256)
        if removal:
            if task.fetched:
                shelf.delete(request.path.parent, request.path.stem)
            return Outcome(request, source_id, Status.FAILED, removal.explained, fresh=False, refused=True)
        if task.fetched:
            self.fetched[request.uri] = task.fetched
        also = (Address(task.asked, source_id),) if task.asked else ()
        mine = (address, *also)
        known = None
        source = Source(source_id, request.uri)
        if source_id in self.done or source_id in self.known.sources:
            try:
                with open_catalog(self.corpus, wait_s=COMMIT_WAIT_S) as catalog:
                    known = catalog.result(source_id)
            except PdidError as unread:
                return Outcome(request, source_id, Status.FAILED, f"what is known of it can't be read: {unread}")
        if known:
            known = replace(known, addresses=_with(known.addresses, mine))
            source = known.source
        if known and source_id in self.done:  # the same bytes as another file of this run
            known = replace(known, source=_labelled(source, request))
            return self._commit(Job(request, known.source, known, address), known, fresh=False)
        if task.fetched:
            source = described(source, task.fetched.fetch)
        source = replace(_labelled(source, request), sha256=sha256)
        job = Job(request, source, known, address, also)
        if error:
            return self._commit(job, job.failed(error))
        done = known is not None and known.source.status is Status.DONE
        hashes = {stage.stage: stage.config_hash for stage in known.stages} if known else {}
        if known and done and not task.from_stage and not self.plan.first_to_do(hashes):
            return self._commit(job, replace(known, source=source), fresh=False)  # another address of its bytes
        return job

    def _commit(self, job: Job, result: SourceResult, fresh: bool = True) -> Outcome:
        """Write a source's result, then delete the clips it no longer names, and its download unless that is kept."""
        source_id, outcome = result.source.source_id, None
        self.watch(job.request, "commit", 0.0)
        fetched = self.fetched.pop(job.request.uri, None)
        if fetched:
            result = replace(result, fetch=stored_fetch(fetched, result.source))
        try:
            with open_catalog(self.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                catalog.write_source(result)
                if fetched and result.source.status is Status.DONE:
                    write_transcripts(catalog, unsaid(catalog, transcripts_of(fetched, result.source)))
        except (PdidError, OSError) as error:
            why = f"its result can't be stored: {error}"
            outcome = Outcome(job.request, source_id, Status.FAILED, why)
        else:
            self.done.add(source_id)
            if job.request.address and job.request.path.name:
                self._put_away(job.request, result.source.status)
        stored = result if outcome is None else job.known
        named = {segment.path for segment in stored.segments if segment.kept} if stored else set()
        with suppress(OSError):  # else the next run deletes them
            sweep(self.corpus, source_id, named, self.plan.settings.previews)
        return outcome or self._outcome(job.request, result.source, result, fresh)

    def _put_away(self, request: SourceRequest, status: Status) -> None:
        """Keep a download whose source is committed, or delete it."""
        folder, key = request.path.parent, request.path.stem
        shelf.clear(folder, key)
        if self.web.keep_media == "always" or (self.web.keep_media == "failed" and status is Status.FAILED):
            return
        with open_catalog(self.corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
            forget_media(catalog, request.uri)
        shelf.delete(folder, key)

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


def _with(addresses: Sequence[Address], new: Sequence[Address]) -> tuple[Address, ...]:
    """Addresses and new ones, which take the place of old ones of the same name."""
    uris = {address.uri for address in new}
    return (*(address for address in addresses if address.uri not in uris), *new)


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
        source_id = key_of(request.uri)
        reason = {
            "FileNotFoundError": "there is no such file",
            "PermissionError": "the file can't be read: permission denied",
        }.get(type(error).__name__, f"the file can't be read: {error.strerror or error}")
        return Address(request.uri, source_id), None, reason
