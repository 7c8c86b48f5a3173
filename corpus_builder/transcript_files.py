"""Transcripts in files: CSV, JSON Lines, SubRip and WebVTT become transcripts, anchored to the recording's time.

A file comes in whole or not at all: what can't be meant is an error with its line, and nothing is written.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from catalog.errors import UsageError
from catalog.records import RATE, Source, Status, Stretch, Transcript
from corpus_builder.scripts import contradicts, language_code
from corpus_builder.sources import address_of
from corpus_builder.subtitles import ENDINGS, name_and_language, read_subtitles
from corpus_builder.tables import Row, read_csv, read_jsonl

COLUMNS = ("segment_id", "source", "start_s", "end_s", "text", "language", "confidence", "origin")
TABLES = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_jsonl, ".ndjson": read_jsonl}
OVER_S = 1.0
"""Seconds that a text may reach over the end of its recording, as hand-timed and rounded ones do; it is cut there."""


@dataclass(frozen=True, slots=True)
class Said:
    """A text of a file before it is known which recording it is about."""

    line: int
    text: str
    segment_id: str | None = None
    source: str | None = None  # as written: a path, an address or an id
    start: int | None = None  # samples at 16 kHz; None for the whole recording
    end: int | None = None
    language: str | None = None
    confidence: float | None = None
    origin: str = "imported"


@dataclass(frozen=True, slots=True)
class Recordings:
    """What of the catalog a file's texts can be about."""

    sources: Mapping[str, Source]  # by id
    addresses: Mapping[str, str]  # uri → source id
    segments: Mapping[str, Stretch]  # by id; those that the file names


def read_transcripts(path: Path, source: str | None = None) -> list[Said]:
    """The texts of a file; `source` is the recording that a subtitle file is about, if its name does not say so.

    Raises UsageError, with the line, for what is no such file, an empty text, or cells that can't be meant.
    """
    ending = path.suffix.lower()
    if ending in ENDINGS:
        language = name_and_language(path)[1]
        return [
            Said(cue.line, cue.text, None, source or path.stem, cue.start, cue.end, language, None, "subtitle")
            for cue in read_subtitles(path)
        ]
    if ending not in TABLES:
        raise UsageError(f"{path}: expected a file ending in {', '.join((*TABLES, *ENDINGS))}")
    if source is not None:
        raise UsageError(f"--source is for subtitles: in {path} the column `source` names the recordings")
    found = []
    for row in TABLES[ending](path, COLUMNS):
        try:
            found.append(_said(row))
        except UsageError as error:
            raise UsageError(f"{path}, line {row.line}: {error}") from None
    if not found:
        raise UsageError(f"{path} has no transcript in it: write one per line under the header")
    return found


def to_transcripts(
    path: Path, texts: Sequence[Said], recordings: Recordings, created_at: datetime, language: str | None = None
) -> list[Transcript]:
    """Pin the texts of a file to recordings. `language` is that of all that say none.

    Raises UsageError, with the line, for an unknown segment or recording, times outside it, and a text that is not
    in the script of its language. Of subtitles that is asked of the whole file: a cue in another script, as a name
    may be, is flagged `language`.
    """
    subtitles = path.suffix.lower() in ENDINGS
    places = Places(path, recordings)
    found = []
    for said in texts:
        try:
            stretch = places.of(said, subtitles)
            source = recordings.sources[stretch.source_id]
            spoken = (language if subtitles else None) or said.language or language or source.language
            code = language_code(spoken) if spoken else None
            script = contradicts(said.text, code) if code else None
            if script and not subtitles:
                raise UsageError(
                    f"the text is in {script} letters, which {code} is not written in: "
                    "correct it, or give the row's language in a column `language`"
                )
        except UsageError as error:
            raise UsageError(f"{path}, line {said.line}: {error}") from None
        flags = ("language",) if script else ()
        found.append(
            Transcript(
                stretch.source_id, stretch.start, stretch.end, said.text, said.origin, created_at, code, path.name,
                said.confidence, flags,
            )
        )  # fmt: skip
    if subtitles:
        _check_whole(path, found)
    return found


def named_segments(texts: Iterable[Said]) -> list[str]:
    """The segment ids that texts name."""
    return sorted({said.segment_id for said in texts if said.segment_id})


def _said(row: Row) -> Said:
    cells = row.cells
    text = cells.get("text")
    if not isinstance(text, str):
        raise UsageError("the text is empty: write what is said, or leave the line out")
    segment, source = cells.get("segment_id"), cells.get("source")
    start, end = samples_in(cells, "start_s"), samples_in(cells, "end_s")
    if (segment is None) == (source is None):
        raise UsageError("expected either `segment_id`, or `source` with `start_s` and `end_s`")
    if segment is not None and (start, end) != (None, None):
        raise UsageError("a segment has its times already: leave out `start_s` and `end_s`, or name the `source`")
    if (start is None) != (end is None):
        raise UsageError("`start_s` and `end_s` go together: write both, or neither for the whole recording")
    origin = str(cells.get("origin", "imported"))
    if origin not in ("human", "imported", "subtitle") and not re.fullmatch(r"model:\S.*", origin):
        raise UsageError(f"{origin!r} is no origin: write human, imported, subtitle or model:NAME")
    confidence = number_in(cells, "confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        raise UsageError(f"the confidence is {confidence:g}: it goes from 0 to 1")
    language = cells.get("language")
    return Said(
        row.line, text, None if segment is None else str(segment), None if source is None else str(source), start, end,
        None if language is None else str(language), confidence, origin,
    )  # fmt: skip


def samples_in(cells: Mapping[str, Any], name: str) -> int | None:
    """A cell in seconds as samples at 16 kHz, None where it is empty. Raises UsageError if it is no number."""
    seconds = number_in(cells, name)
    return None if seconds is None else round(seconds * RATE)


def number_in(cells: Mapping[str, Any], name: str) -> float | None:
    """A cell as a finite number, None where it is empty. Raises UsageError if it is none."""
    cell = cells.get(name)
    if cell is None:
        return None
    try:
        number = float(cell) if isinstance(cell, str | int | float) and not isinstance(cell, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"`{name}` is {cell!r}: write a number such as 12.5")
    return number


class Places:
    """Finds the recording, and the stretch of it, that a text is about."""

    def __init__(self, path: Path, recordings: Recordings) -> None:
        self.folder = path.absolute().parent
        self.known = recordings
        self.by_name: dict[str, set[str]] = {}
        for uri, source_id in recordings.addresses.items():
            self.by_name.setdefault(os.path.splitext(os.path.basename(uri))[0], set()).add(source_id)
        self.found: dict[tuple[str, bool], Source] = {}

    def of(self, said: Said, subtitles: bool) -> Stretch:
        """The stretch. Raises UsageError where there is none."""
        if said.segment_id is not None:
            stretch = self.known.segments.get(said.segment_id)
            if stretch is None:
                raise UsageError(
                    f"there is no segment {said.segment_id!r} in the catalog: name the recording and the times, "
                    "which stay when it is segmented anew"
                )
            return stretch
        assert said.source is not None
        key = (said.source, subtitles)
        if key not in self.found:
            self.found[key] = self._ingested(said.source, self._source_id(said.source, subtitles))
        source = self.found[key]
        assert source.n_samples is not None
        start, end = (0, source.n_samples) if said.start is None or said.end is None else (said.start, said.end)
        if not 0 <= start < min(end, source.n_samples) or end > source.n_samples + OVER_S * RATE:
            raise UsageError(
                f"{start / RATE:g} to {end / RATE:g} s is not within the recording, which is "
                f"{source.n_samples / RATE:.2f} s long" + ("" if start < end else ": it ends before it begins")
            )
        return Stretch(source.source_id, start, min(end, source.n_samples))

    def _source_id(self, name: str, subtitles: bool) -> str:
        """The id of a recording by path (relative to the file), address, id or, for subtitles, the name it shares."""
        for uri in (address_of(self.folder / name), name):
            if uri in self.known.addresses:
                return self.known.addresses[uri]
        if name in self.known.sources:
            return name
        for stem in dict.fromkeys((name, name_and_language(Path(f"{name}.srt"))[0])) if subtitles else ():
            address = address_of(self.folder / stem)
            beside = {known for uri, known in self.known.addresses.items() if os.path.splitext(uri)[0] == address}
            found = beside or self.by_name.get(stem, set())
            if len(found) > 1:
                raise UsageError(f"{len(found)} recordings are called {stem!r}: say which one with --source")
            if found:
                return found.copy().pop()
        how = "name the recording with --source" if subtitles else "`pdid ingest` it first, or correct the path"
        raise UsageError(f"there is no recording {name!r} in the catalog: {how}")

    def _ingested(self, name: str, source_id: str) -> Source:
        source = self.known.sources[source_id]
        if source.status is not Status.DONE:
            why = f"failed ({source.error})" if source.status is Status.FAILED else "is not ingested yet"
            raise UsageError(f"the recording {name!r} {why}: its length is not known, so nothing can be pinned to it")
        return source


def _check_whole(path: Path, found: Sequence[Transcript]) -> None:
    code = next((text.language for text in found if text.language), None)
    script = contradicts(" ".join(text.text for text in found), code) if code else None
    if script:
        raise UsageError(
            f"{path}: the subtitles are in {script} letters, which {code} is not written in: "
            "take the file of the recording's language, or say which one it is with --language"
        )
