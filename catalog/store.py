"""The catalog: the one truth about a corpus, in one DuckDB file.

    with open_catalog(corpus, write=True) as catalog:
        dropped = catalog.write_source(result)

DuckDB takes one writing process and locks readers out while it writes, so hold the catalog briefly:
opening costs about 20 ms.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from catalog import rows
from catalog.connection import WAIT_S, connect, first_line
from catalog.errors import PdidError, UsageError
from catalog.records import Address, Mark, Segment, Source, SourceResult, SpeakerVoice, SplitMember
from catalog.resolve import resolve, show_newest_split

T = TypeVar("T")

BATCH = 1000
"""Rows of a query fetched at a time."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A kept segment with what a split needs of its source; times in samples at 16 kHz."""

    segment_id: str
    source_id: str
    speaker_id: str
    accent: str | None
    language: str | None
    start: int
    end: int
    path: str  # relative to the corpus folder
    speaker_label: str | None = None  # from the sources file: who speaks in the recording
    channel: str | None = None  # who published it


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """What a written split was made with."""

    name: str
    seed: int | None
    settings: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's result: column names and an iterator over the rows, to be read while the catalog is open."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def open_catalog(
    corpus: Path, *, write: bool = False, wait_s: float = WAIT_S, memory: str | None = None
) -> Iterator[Catalog]:
    """Open the catalog of a corpus folder; it is closed, and free for others, when the block ends.

    Writing makes the folder and the catalog where there are none. A catalog of an older version is
    migrated, with a copy kept beside it. `memory` ("256MiB") is what DuckDB may use, else it is four fifths
    of the machine's. Raises UsageError if there is nothing to read, PdidError if
    another process holds it for longer than `wait_s` seconds, if a newer pdid wrote it, or if it can't be opened.
    """
    with connect(corpus, write=write, wait_s=wait_s, memory=memory) as connection:
        yield Catalog(connection)


class Catalog:
    """Reads and writes records. Get one from `open_catalog`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    # Writing. Each method is one transaction: all of it, or nothing.

    def write_source(self, result: SourceResult) -> list[str]:
        """Put in everything about one source, in place of everything that was there of it.

        `result.addresses` are all its addresses; an address that led to another source leads to this
        one now, and a source that failed or never began is forgotten when no address leads to it. Where it was
        downloaded from takes the place of what was known of that address; a result without it leaves that as it is.
        Returns the clip paths the catalog no longer names, so that their files can be deleted. Raises PdidError if it
        was taken down, by its bytes or an address, or if a row breaks a rule of the schema; nothing is written then.
        """
        source_id = result.source.source_id
        uris = [rows.plain(address.uri) for address in result.addresses]
        with self.transaction():
            for tombstone in self.all(rows.SELECT_REFUSED, [source_id, result.source.sha256, uris]):
                raise PdidError(f"{result.source.uri!r}: {rows.to_removal(tombstone).explained}")
            before = self.all("SELECT accent, accent_raw, accent_at FROM base.source WHERE source_id = ?", [source_id])
            paths = "SELECT path FROM base.segment WHERE source_id = ? AND kept"
            old = self._strings(paths, [source_id]) if before else []  # a source that is new costs no search
            lost = self._strings(
                "SELECT source_id FROM base.source WHERE status <> 'done' AND source_id <> ? AND source_id IN"
                " (SELECT source_id FROM base.address WHERE list_contains(?::VARCHAR[], uri))",
                [source_id, uris],
            )
            self._unlink([result.source], not before or _voices(self.voices(source_id)) != _voices(result.voices))
            if before:
                self._delete_source(source_id)
            rows.insert(self.connection, rows.INSERT_SOURCE, [rows.source_row(result.source)])
            self._date_label(source_id, before)
            self._write_addresses(result.addresses)
            self.connection.execute(
                "UPDATE base.fetch SET source_id = ? WHERE source_id <> ? AND list_contains(?::VARCHAR[], uri)",
                [source_id, source_id, uris],
            )
            if result.fetch:
                rows.insert(self.connection, rows.INSERT_FETCH, [rows.fetch_row(result.fetch, source_id)])
            rows.insert(self.connection, rows.INSERT_STAGE, map(rows.stage_row, result.stages))
            rows.insert(self.connection, rows.INSERT_MARK, (rows.mark_row(source_id, mark) for mark in result.marks))
            rows.insert(self.connection, rows.INSERT_VOICE, map(rows.voice_row, result.voices))
            rows.insert(self.connection, rows.INSERT_SEGMENT, map(rows.segment_row, result.segments))
            resolve(self.connection, [source_id])
            for other in lost:
                if not self._strings("SELECT uri FROM base.address WHERE source_id = ?", [other]):
                    self._delete_source(other)
                    self.connection.execute("DELETE FROM base.fetch WHERE source_id = ?", [other])
        kept = {segment.path for segment in result.segments}
        return sorted(set(old) - kept)

    def write_addresses(self, addresses: Iterable[Address]) -> None:
        """Add addresses of sources that are there, or correct their size and time of change."""
        with self.transaction():
            self._write_addresses(addresses)

    def update_labels(self, sources: Iterable[Source]) -> None:
        """Set the labels (accent, speaker, language, licence, title, channel, uploaded_at, extra) of sources
        that are there to those of the given records; nothing else of them changes."""
        changed = list(sources)
        with self.transaction():
            self._unlink(changed)
            rows.insert(self.connection, rows.UPDATE_LABELS, map(rows.label_row, changed), datetime.now(UTC))
            resolve(self.connection, [source.source_id for source in changed])

    def write_split(
        self,
        members: Iterable[SplitMember],
        *,
        name: str | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> str:
        """Write a split once and for all; returns its name, `split-1`, `split-2`, … where none is given.

        Raises UsageError if the name is taken or no name at all, PdidError if a member is no kept segment.
        """
        chosen = list(members)
        if name is not None and not re.fullmatch(r"[^\s@,]+", name):
            raise UsageError(f"{name!r} can't name a split: use letters, digits, - and _")
        with self.transaction():
            taken = self._strings("SELECT split_name FROM base.split")
            if name in taken:
                raise UsageError(f"there is a split {name!r} already, and a written split never changes: choose a name")
            if name is None:
                numbers = [int(found[1]) for old in taken if (found := re.fullmatch(r"split-(\d+)", old))]
                name = f"split-{max(numbers, default=0) + 1}"
            self.connection.execute(
                "INSERT INTO base.split (split_name, position, seed, settings, created_at)"
                " SELECT ?, coalesce(max(position), 0) + 1, ?, ?, ? FROM base.split",
                [name, seed, json.dumps(dict(settings or {}), ensure_ascii=False), rows.plain(datetime.now(UTC))],
            )
            rows.insert(
                self.connection,
                rows.INSERT_SPLIT_MEMBER,
                ((member.segment_id, member.split) for member in chosen),
                name,
            )
            strangers = self._strings(
                "SELECT segment_id FROM base.split_member WHERE split_name = ? AND segment_id NOT IN"
                " (SELECT segment_id FROM base.segment WHERE kept) ORDER BY segment_id LIMIT 1",
                [name],
            )
            if strangers:
                raise PdidError(f"segment {strangers[0]} is not a kept segment of this catalog: it can't be in a split")
            show_newest_split(self.connection)
        return name

    # Reading.

    def sources(self, source_ids: Sequence[str] | None = None) -> list[Source]:
        """All sources, or those with the given ids, by address."""
        wanted = None if source_ids is None else list(source_ids)
        return [rows.to_source(row) for row in self.all(rows.SELECT_SOURCE, [wanted, wanted])]

    def addresses(self) -> dict[str, Address]:
        """Every known address by its uri."""
        found = self.all("SELECT uri, source_id, size_bytes, mtime_ns FROM base.address ORDER BY uri")
        return {row[0]: Address(*row) for row in found}

    def stages(self) -> dict[str, dict[str, str]]:
        """The stages that ran on each source, with the hash of their settings; sources that agree share one answer."""
        found = self.all(
            "SELECT list(source_id), stages, hashes FROM ("
            " SELECT source_id, list(stage ORDER BY stage) AS stages, list(config_hash ORDER BY stage) AS hashes"
            " FROM base.stage GROUP BY source_id"
            ") GROUP BY stages, hashes"
        )
        by_source: dict[str, dict[str, str]] = {}
        for source_ids, stages, hashes in found:
            one = dict(zip(stages, hashes, strict=True))
            by_source.update((source_id, one) for source_id in source_ids)
        return by_source

    def marks(self, source_id: str) -> list[Mark]:
        """The stored findings about a source, in order of time."""
        return [Mark(*row[1:]) for row in self.all(rows.SELECT_MARK, [[source_id]])]

    def voices(self, source_id: str) -> list[SpeakerVoice]:
        """The voices of a source's speakers."""
        return [rows.to_voice(row) for row in self.all(rows.SELECT_VOICE, [[source_id]])]

    def segments(self, source_id: str) -> list[Segment]:
        """The pieces of a source, kept and rejected, in order of time."""
        return [rows.to_segment(row) for row in self.all(rows.SELECT_SEGMENT, [[source_id]])]

    def clips(self) -> list[Clip]:
        """All kept segments, by source and time."""
        held: dict[Any, Any] = {}  # what many clips have in common is in memory once

        def once(value: Any) -> Any:
            return held.setdefault(value, value)

        return [
            Clip(r[0], once(r[1]), once(r[2]), once(r[3]), once(r[4]), r[5], r[6], r[7], once(r[8]), once(r[9]))
            for r in self.each(rows.SELECT_KEPT)
        ]

    def clip_paths(self) -> set[str]:
        """The path of every clip, relative to the corpus folder."""
        return set(self._strings("SELECT path FROM base.segment WHERE kept"))

    def result(self, source_id: str) -> SourceResult | None:
        """Everything about one source as it was written, or None if there is no such source.

        Of several addresses it was downloaded from, `fetch` is the newest.
        """
        return next(self.results([source_id]), None)

    def results(self, source_ids: Sequence[str]) -> Iterator[SourceResult]:
        """As `result`, of those of these sources that are there, in the order given."""
        for start in range(0, len(source_ids), BATCH):
            ids = list(source_ids[start : start + BATCH])
            sources = {source.source_id: source for source in self.sources(ids)}
            addresses = self._by_source(rows.SELECT_ADDRESS, ids, 1)
            stages = self._by_source(rows.SELECT_STAGE, ids, 0)
            marks = self._by_source(rows.SELECT_MARK, ids, 0)
            voices = self._by_source(rows.SELECT_VOICE, ids, 1)
            segments = self._by_source(rows.SELECT_SEGMENT, ids, 1)
            fetches = self._by_source(rows.SELECT_FETCH, ids, 1)
            for one in ids:
                if one in sources:
                    yield SourceResult(
                        source=sources[one],
                        addresses=tuple(Address(*row) for row in addresses[one]),
                        stages=tuple(map(rows.to_stage, stages[one])),
                        marks=tuple(Mark(*row[1:]) for row in marks[one]),
                        voices=tuple(map(rows.to_voice, voices[one])),
                        segments=tuple(map(rows.to_segment, segments[one])),
                        fetch=next(map(rows.to_fetch, fetches[one]), None),
                    )

    def splits(self) -> list[SplitInfo]:
        """The splits, oldest first."""
        found = self.all("SELECT split_name, seed, settings, created_at FROM base.split ORDER BY position")
        return [SplitInfo(row[0], row[1], json.loads(row[2]), row[3].replace(tzinfo=UTC)) for row in found]

    def split_members(self, name: str | None = None) -> list[SplitMember]:
        """The members of a split, or of the newest. Raises UsageError if there is none of that name."""
        names = [split.name for split in self.splits()]
        if not names:
            raise UsageError("there is no split yet: make one with `pdid split`")
        if name is not None and name not in names:
            raise UsageError(f"there is no split {name!r}; there are {', '.join(names)}")
        found = self.all(
            "SELECT segment_id, split FROM base.split_member WHERE split_name = ? ORDER BY segment_id",
            [name if name is not None else names[-1]],
        )
        return [SplitMember(*row) for row in found]

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Answer:
        """Run SQL. What it may do is settled by how the catalog was opened: read-only unless for writing.

        Raises UsageError with DuckDB's message where the SQL is wrong or does what it may not.
        """
        with _explained("the query failed", UsageError):
            self._interruptible(lambda: self.connection.execute(sql, list(parameters)))
        columns = tuple(str(column[0]) for column in self.connection.description or ())
        return Answer(columns, self._batches())

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        while self.connection.description:
            with _explained("the query failed", UsageError):
                batch = self._interruptible(lambda: self.connection.fetchmany(BATCH))
            if not batch:
                return
            yield from batch

    def _interruptible(self, call: Callable[[], T]) -> T:
        """Call DuckDB from another thread: in this one it could keep Ctrl-C waiting for minutes."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call)
            try:
                return future.result()
            except KeyboardInterrupt:
                self.connection.interrupt()
                raise

    def _write_addresses(self, addresses: Iterable[Address]) -> None:
        rows.insert(self.connection, rows.INSERT_ADDRESS, map(rows.address_row, addresses))

    def _date_label(self, source_id: str, before: Sequence[tuple[Any, ...]]) -> None:
        """Note when the source's accent was said: as before where it is the same as before."""
        now = self.all("SELECT accent, accent_raw FROM base.source WHERE source_id = ?", [source_id])[0]
        said = before[0][2] if before and before[0][:2] == now else rows.plain(datetime.now(UTC)) if now[0] else None
        self.connection.execute("UPDATE base.source SET accent_at = ? WHERE source_id = ?", [said, source_id])

    def _unlink(self, sources: Sequence[Source], other_voices: bool = False) -> None:
        """Forget who the speakers of these recordings are elsewhere, if it is said anew who speaks in them.

        Called before the change; `catalog.speakers.links_are_due` finds what is missing then.
        """
        if not sources:
            return
        self.connection.execute(
            "DELETE FROM base.link WHERE substr(local_id, 1, 17) IN ("  # SOURCEID-S1, with 16 digits in front
            " SELECT new.source_id || '-'"
            " FROM (SELECT unnest(?::VARCHAR[]) AS source_id, unnest(?::VARCHAR[]) AS speaker) AS new"
            " LEFT JOIN base.source USING (source_id) WHERE ? OR source.speaker IS DISTINCT FROM new.speaker)",
            [[s.source_id for s in sources], [rows.plain(s.speaker) for s in sources], other_voices],
        )

    def _delete_source(self, source_id: str) -> None:
        for statement in (
            "DELETE FROM base.address WHERE source_id = ?",
            "DELETE FROM base.stage WHERE source_id = ?",
            "DELETE FROM base.mark WHERE source_id = ?",
            "DELETE FROM base.voice WHERE source_id = ?",
            "DELETE FROM base.label_hold WHERE source_id = ?",
            "DELETE FROM base.segment WHERE source_id = ?",
            "DELETE FROM base.source WHERE source_id = ?",
        ):
            self.connection.execute(statement, [source_id])

    def all(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query of this package's own."""
        values = parameters if isinstance(parameters, dict) else list(parameters)
        with _explained("the catalog can't be read", PdidError):
            return self.connection.execute(sql, values).fetchall()

    def each(self, sql: str, parameters: dict[str, object] | None = None) -> Iterator[tuple[Any, ...]]:
        """As `all`, some rows at a time: for answers that are too long to be in memory twice."""
        with _explained("the catalog can't be read", PdidError):
            self.connection.execute(sql, parameters)
            while batch := self.connection.fetchmany(BATCH):
                yield from batch

    def _by_source(self, sql: str, source_ids: Sequence[str], column: int) -> defaultdict[str, list[tuple[Any, ...]]]:
        """A query's rows of some sources, by the source, which stands in a column."""
        found: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self.all(sql, [list(source_ids)]):
            found[row[column]].append(row)
        return found

    def _strings(self, sql: str, parameters: Sequence[object] = ()) -> list[str]:
        return [str(row[0]) for row in self.all(sql, parameters)]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements or none: whatever ends it early, Ctrl-C included, undoes it."""
        with _explained("the catalog can't be written", PdidError):
            self.connection.execute("BEGIN")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a failed COMMIT has undone it already
                    self.connection.execute("ROLLBACK")
                raise


def _voices(voices: Iterable[SpeakerVoice]) -> dict[str, array[float]]:
    """Voices by speaker, as precisely as the catalog holds them."""
    return {voice.speaker_id: array("f", voice.embedding) for voice in voices}


@contextmanager
def _explained(what: str, kind: type[PdidError]) -> Iterator[None]:
    """DuckDB's errors as ours, in DuckDB's words; an interrupted query as KeyboardInterrupt."""
    try:
        yield
    except duckdb.Error as error:
        words = str(error).strip() if kind is UsageError else first_line(error)
        raise kind(f"{what}: {words}") from None
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from None
        raise
