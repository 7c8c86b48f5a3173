"""What there is to do: each request against what the catalog has of it, without reading any sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from catalog.fetches import fetches
from catalog.records import Address, Fetch, Source, Status
from catalog.removals import Tombstones, tombstoned
from catalog.store import Catalog, open_catalog
from corpus_builder.acquire.records import Entry, Fetched
from corpus_builder.plan import Plan
from corpus_builder.sources import SourceRequest


class Need(StrEnum):
    """Why a source is or is not worked on."""

    NEW = "new"
    CHANGED = "settings changed"
    RETRY = "failed before"
    NOTHING = "up to date"
    REFUSED = "taken down"


@dataclass(frozen=True, slots=True)
class Task:
    """A requested recording, and what there is to do about it."""

    request: SourceRequest
    need: Need
    source_id: str | None = None  # where the catalog knows it: a file by its name, size and time of change
    size_bytes: int = 0
    from_stage: str | None = None  # the first stage to redo
    entry: Entry | None = None  # what a web address was found to lead to, once it was looked at
    asked: str | None = None  # the address it was asked by, where that is another one of its own
    fetched: Fetched | None = None  # its download, once there
    error: str | None = None  # why it is refused, or can't be fetched
    lost_s: float | None = None  # seconds of it that are known to be missing


@dataclass(slots=True)
class Known:
    """What the catalog had when the run began."""

    addresses: dict[str, Address] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)  # source id -> stage -> hash of its settings
    media: dict[str, Fetch] = field(default_factory=dict)  # the downloads that are kept, by source id
    removed: Tombstones = field(default_factory=lambda: Tombstones({}, {}, {}))


def read_known(catalog: Catalog) -> Known:
    """What the catalog has."""
    return Known(
        addresses=catalog.addresses(),
        sources={source.source_id: source for source in catalog.sources()},
        stages=catalog.stages(),
        media={fetch.source_id: fetch for fetch in fetches(catalog).values() if fetch.media},
        removed=tombstoned(catalog),
    )


def known_of(corpus: Path) -> Known:
    """What the catalog of a corpus has, which may not exist yet."""
    if not (corpus / "catalog.duckdb").exists():
        return Known()
    with open_catalog(corpus) as catalog:
        return read_known(catalog)


def survey(corpus: Path, requests: Sequence[SourceRequest], plan: Plan) -> list[Task]:
    """What there is to do for each request. The catalog may not exist yet."""
    known = known_of(corpus)
    return [task_of(request, corpus, known, plan) for request in requests]


def task_of(request: SourceRequest, corpus: Path, known: Known, plan: Plan, entry: Entry | None = None) -> Task:
    """What there is to do about a file, or a web address: there, `request.path` becomes the download, if it is kept.

    `entry` is what the address was found to lead to.
    """
    site = {"site": entry.site, "site_id": entry.site_id} if entry else {}
    removal = known.removed.of(uri=request.uri, **site)
    if removal:
        return Task(request, Need.REFUSED, error=removal.explained)
    address = known.addresses.get(request.uri)
    if request.address is not None:
        return _task_of_address(request, address, corpus, known, plan)
    try:
        status = request.path.stat()
    except OSError:
        return Task(request, Need.RETRY if address else Need.NEW)
    size = status.st_size
    if not address or (address.size_bytes, address.mtime_ns) != (size, status.st_mtime_ns):
        return Task(request, Need.NEW, None, size)
    return _task_of_known(request, known.sources[address.source_id], known, plan, size)


def _task_of_known(request: SourceRequest, source: Source, known: Known, plan: Plan, size: int) -> Task:
    if source.status is not Status.DONE:
        return Task(request, Need.RETRY, source.source_id, size)
    stage = plan.first_to_do(known.stages.get(source.source_id, {}))
    if stage:
        return Task(request, Need.CHANGED, source.source_id, size, stage)
    return Task(request, Need.NOTHING, source.source_id, size)


def _task_of_address(request: SourceRequest, address: Address | None, corpus: Path, known: Known, plan: Plan) -> Task:
    if not address:
        return Task(request, Need.NEW)
    path, size = kept_media(corpus, known, address.source_id)
    return _task_of_known(replace(request, path=path), known.sources[address.source_id], known, plan, size)


def kept_media(corpus: Path, known: Known, source_id: str) -> tuple[Path, int]:
    """The download of a recording and its bytes, or an empty path and 0 where it is not kept whole."""
    fetch = known.media.get(source_id)
    path = corpus / fetch.media if fetch and fetch.media else Path()
    try:
        size = path.stat().st_size if fetch else 0
    except OSError:
        size = 0
    return (path, size) if fetch and size and size == fetch.size_bytes else (Path(), 0)
