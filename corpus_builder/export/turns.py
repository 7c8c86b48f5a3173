"""The pieces of whole recordings, for the formats that show who speaks when."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from catalog.store import open_catalog
from corpus_builder.export.job import Job, write_lines

PIECES = """
SELECT source_id, start_s, end_s, speaker_id, accent, text, reject_reason
FROM segments WHERE source_id IN (SELECT unnest(?::VARCHAR[]))
ORDER BY source_id, start_s
"""
SOURCES = """
SELECT source_id, uri, coalesce(title, ''), duration_s
FROM sources WHERE source_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY source_id
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording, in seconds; `reject_reason` is None where it is a clip."""

    source_id: str
    start_s: float
    end_s: float
    speaker_id: str | None
    accent: str | None
    text: str | None
    reject_reason: str | None


def recordings(job: Job) -> Iterator[tuple[str, list[Piece]]]:
    """Every recording with a chosen clip, and all of its pieces, kept and rejected, in order of time."""
    with open_catalog(job.corpus) as catalog:
        rows = list(catalog.query(PIECES, [_ids(job)]).rows)
    for source_id, found in groupby((Piece(*row) for row in rows), key=lambda piece: piece.source_id):
        yield source_id, list(found)


def turns(pieces: list[Piece]) -> list[Piece]:
    """Who speaks when: pieces with a speaker, those of one speaker that touch made one."""
    found: list[Piece] = []
    for piece in pieces:
        if piece.speaker_id is None:
            continue
        last = found[-1] if found else None
        if last and last.speaker_id == piece.speaker_id and piece.start_s - last.end_s < 1e-6:
            found[-1] = replace(last, end_s=piece.end_s)
        else:
            found.append(piece)
    return found


def write_sources(job: Job, out: Path) -> None:
    """Write sources.csv: which recording each file is about."""
    with open_catalog(job.corpus) as catalog:
        rows = list(catalog.query(SOURCES, [_ids(job)]).rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source_id", "uri", "title", "duration_s"])
    table.writerows(rows)
    write_lines(out / "sources.csv", text.getvalue().splitlines())


def _ids(job: Job) -> list[str]:
    return sorted({clip.source_id for clip in job.clips})
