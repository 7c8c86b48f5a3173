"""A metadata-only release: everything of a corpus but its sound and its voices, as files of JSON lines.

A line is a record of `catalog.records` with its field names; times are samples at 16 kHz. Files of local media are
named without the folders they lie in, so a release says nothing of the machine it was made on. Voice
embeddings are left out: they identify people, and nothing but linking speakers anew needs them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from catalog.errors import UsageError
from catalog.records import Label, LinkRule, Mark, Segment, Source, SplitMember, Stage, Transcript
from catalog.store import SplitInfo
from corpus_builder.config import Settings

VERSION = 1
"""The version of the release's files; one that is newer is refused."""

ABOUT = "release.json"
TAXONOMY = "taxonomy.toml"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording's bytes were found: a web address, or a file's name and the folders that tell it apart."""

    address: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ReleasedSource:
    """A recording and how it was processed; `source.uri` is the first place's address."""

    source: Source
    places: list[Place]
    stages: list[Stage]  # none where the release has some of its pieces only


@dataclass(frozen=True, slots=True)
class ReleasedSegment:
    """A piece; `clip_sha256` is of the kept clip's file, `speaker` the speaker over all recordings."""

    segment: Segment
    speaker: str | None = None
    clip_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ReleasedMark:
    """A finding of a stage about a stretch of a recording: speech, music, what was separated…"""

    source_id: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class ReleasedMember:
    """A clip's side in a split."""

    split_name: str
    member: SplitMember


@dataclass(frozen=True, slots=True)
class Release:
    """Everything a release says."""

    about: ReleaseInfo
    sources: list[ReleasedSource]
    segments: list[ReleasedSegment]
    marks: list[ReleasedMark]
    labels: list[Label]
    transcripts: list[Transcript]
    rules: list[LinkRule]
    splits: list[SplitInfo]
    members: list[ReleasedMember]


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """What release.json says: who wrote the release, and the settings of the corpus.

    `settings_hold` is whether every stage of every recording was made with these settings, as their hashes prove.
    """

    version: int
    pdid: str
    created_at: datetime
    settings: dict[str, Any] = field(default_factory=dict)
    settings_hold: bool = False


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """A file of the release and the record that a line of it holds."""

    file: str
    adapter: TypeAdapter[T]

    def lines(self, records: Iterable[T]) -> Iterator[str]:
        """The records as lines of JSON."""
        for record in records:
            values = self.adapter.dump_python(record, mode="json", exclude_defaults=False)
            yield json.dumps(values, ensure_ascii=False)

    def read(self, folder: Path) -> list[T]:
        """The file's records. Raises UsageError naming the line and what is wrong with it."""
        path = folder / self.file
        found = []
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line.strip():
                try:
                    found.append(self.adapter.validate_json(line))
                except ValidationError as error:
                    first = error.errors()[0]
                    place = ".".join(map(str, first["loc"])) or "the line"
                    raise UsageError(f"{path}, line {number}: {place}: {first['msg']}") from None
        return found


SOURCES = Table("sources.jsonl", TypeAdapter(ReleasedSource))
SEGMENTS = Table("segments.jsonl", TypeAdapter(ReleasedSegment))
MARKS = Table("marks.jsonl", TypeAdapter(ReleasedMark))
LABELS = Table("labels.jsonl", TypeAdapter(Label))
TRANSCRIPTS = Table("transcripts.jsonl", TypeAdapter(Transcript))
RULES = Table("speaker_rules.jsonl", TypeAdapter(LinkRule))
SPLITS = Table("splits.jsonl", TypeAdapter(SplitInfo))
MEMBERS = Table("split_members.jsonl", TypeAdapter(ReleasedMember))
TABLES = (SOURCES, SEGMENTS, MARKS, LABELS, TRANSCRIPTS, RULES, SPLITS, MEMBERS)


def read_release(folder: Path) -> Release:
    """Read a release from its folder.

    Raises UsageError, naming file and line, where it is none, where a newer pdid wrote it, or where it was edited
    into something that can't be meant.
    """
    if not (folder / ABOUT).is_file():
        raise UsageError(f"{str(folder)!r} is no metadata release: there is no {ABOUT} in it")
    try:
        about = TypeAdapter(ReleaseInfo).validate_json(_text(folder / ABOUT))
        Settings.model_validate(about.settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{folder / ABOUT}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if about.version > VERSION:
        raise UsageError(
            f"{str(folder)!r} is of version {about.version}, written by pdid {about.pdid}: update pdid to read it"
        )
    release = Release(
        about,
        SOURCES.read(folder),
        SEGMENTS.read(folder),
        MARKS.read(folder),
        LABELS.read(folder),
        TRANSCRIPTS.read(folder),
        RULES.read(folder),
        SPLITS.read(folder),
        MEMBERS.read(folder),
    )
    _check(release, folder)
    return release


def _check(release: Release, folder: Path) -> None:
    """What the files must say together. The ids become names of files: nothing but plain names passes."""
    sources: dict[str, Source] = {}
    for number, row in enumerate(release.sources, 1):
        source = row.source
        where = f"{folder / SOURCES.file}, record {number}"
        if not re.fullmatch(r"[0-9a-f]{16}", source.source_id) or not source.sha256 or source.n_samples is None:
            raise UsageError(f"{where}: a recording needs a source_id of 16 hex digits, its sha256 and n_samples")
        if sources.setdefault(source.source_id, source) is not source:
            raise UsageError(f"{where}: {source.source_id} is there twice")
    pieces = set()
    for number, piece in enumerate(release.segments, 1):
        segment = piece.segment
        where = f"{folder / SEGMENTS.file}, record {number}"
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", segment.segment_id):
            raise UsageError(f"{where}: {segment.segment_id!r} can't be a segment_id")
        if segment.source_id not in sources:
            raise UsageError(f"{where}: its recording {segment.source_id} is not in {SOURCES.file}")
        if segment.segment_id in pieces:
            raise UsageError(f"{where}: {segment.segment_id} is there twice")
        if not 0 <= segment.start < segment.end <= (sources[segment.source_id].n_samples or 0):
            raise UsageError(f"{where}: {segment.start} to {segment.end} is no stretch of its recording")
        if segment.kept and segment.gain_db is None:
            raise UsageError(f"{where}: a kept piece needs its gain_db")
        pieces.add(segment.segment_id)
    names = {split.name for split in release.splits}
    for number, row_ in enumerate(release.members, 1):
        if row_.split_name not in names or row_.member.segment_id not in pieces:
            where = f"{folder / MEMBERS.file}, record {number}"
            raise UsageError(f"{where}: there is no split {row_.split_name!r} or no piece {row_.member.segment_id}")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1})") from None
