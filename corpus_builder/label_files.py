"""Files of accent labels, from Label Studio or as CSV, become labels and transcripts of the catalog.

A file comes in whole or not at all: what can't be meant is an error with its line or task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from catalog.errors import UsageError
from catalog.records import Label, LabelOrigin, Scope, Stretch, Transcript
from catalog.speakers import LocalSpeaker
from corpus_builder.label_studio import Answer
from corpus_builder.tables import Row, read_csv
from corpus_builder.taxonomy import Taxonomy
from corpus_builder.transcript_files import Places, Recordings, Said, number_in, samples_in

COLUMNS = ("segment_id", "source", "start_s", "end_s", "speaker", "accent", "origin", "author", "confidence")
ORIGINS = (LabelOrigin.ANNOTATOR, LabelOrigin.SPEAKER, LabelOrigin.CLASSIFIER)


@dataclass(frozen=True, slots=True)
class People:
    """The speakers that a file's labels can be about."""

    local: Mapping[str, LocalSpeaker]  # by id
    links: Mapping[str, str]  # local id → person's id


def read_table(path: Path) -> list[Row]:
    """The rows of a CSV file of labels. Raises UsageError, with the line, if it is none."""
    rows = list(read_csv(path, COLUMNS))
    for row in rows:
        if "accent" not in row.cells:
            raise UsageError(f"{path}, line {row.line}: the column `accent` is empty or not there: name the accent")
        if unknown := next((name for name in row.cells if name not in COLUMNS), None):
            raise UsageError(f"{path}: there is a column {unknown!r}: expected {', '.join(COLUMNS)}")
    if not rows:
        raise UsageError(f"{path} has no label in it: write one per line under the header")
    return rows


def from_table(
    path: Path, rows: Sequence[Row], taxonomy: Taxonomy, recordings: Recordings, people: People, created_at: datetime
) -> list[Label]:
    """The labels in the rows of a CSV file. Raises UsageError, with the line, for what can't be meant."""
    places = Places(path, recordings)
    found: list[Label] = []
    for row in rows:
        try:
            found += _labels(path, row, taxonomy, places, people, created_at)
        except UsageError as error:
            raise UsageError(f"{path}, line {row.line}: {error}") from None
    return found


def _labels(
    path: Path, row: Row, taxonomy: Taxonomy, places: Places, people: People, created_at: datetime
) -> list[Label]:
    """One row's label; several where it names a person who is heard in several recordings."""
    cells: Mapping[str, str] = row.cells
    named = [name for name in ("segment_id", "source", "speaker") if name in cells]
    if len(named) != 1 and named != ["source", "speaker"]:
        raise UsageError("expected one of `segment_id`, `source` (with `start_s` and `end_s`) and `speaker`")
    start, end = samples_in(cells, "start_s"), samples_in(cells, "end_s")
    if (start is None) != (end is None):
        raise UsageError("`start_s` and `end_s` go together: write both, or neither for the whole recording")
    if start is not None and named != ["source"]:
        raise UsageError("`start_s` and `end_s` are for a `source`: leave them out, or name the source alone")
    origin = _origin(cells.get("origin"), "speaker" in cells)
    confidence = number_in(cells, "confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        raise UsageError(f"the confidence is {confidence:g}: it goes from 0 to 1")
    if "speaker" in cells:
        about = _voices(cells["speaker"], cells.get("source"), places, people)
    else:
        place = places.of(Said(row.line, "", cells.get("segment_id"), cells.get("source"), start, end), False)
        whole = "source" in cells and start is None
        about = [(Scope.SOURCE, place.source_id, None) if whole else (Scope.SEGMENT, place.source_id, place)]
    raw = cells["accent"]
    accent = taxonomy.canonical(raw)
    author = cells.get("author", path.name)
    found = []
    for scope, source_id, stretch in about:
        start, end = (stretch.start, stretch.end) if stretch else (None, None)
        found.append(Label(source_id, scope, start, end, raw, accent, origin, author, created_at, confidence))
    return found


def _origin(cell: str | None, speaker: bool) -> LabelOrigin:
    if cell is None:
        return LabelOrigin.SPEAKER if speaker else LabelOrigin.ANNOTATOR
    if cell not in ORIGINS:
        hint = "; a recording's own label stands in the sources file" if cell == LabelOrigin.SOURCE else ""
        raise UsageError(f"the origin is {cell!r}: write {', '.join(ORIGINS)}, or leave it out{hint}")
    return LabelOrigin(cell)


def _voices(name: str, source: str | None, places: Places, people: People) -> list[tuple[Scope, str, Stretch | None]]:
    """What a speaker's label is about: the voices of that person, or the recordings that the name is given to.

    With a recording named beside it, a voice of that recording alone.
    """
    within = places.of(Said(0, "", None, source), False).source_id if source else None
    if name in people.local:
        person = people.links.get(name, name)
        ids = [i for i in people.local if people.links.get(i, i) == person] if within is None else [name]
        voices = [people.local[i] for i in ids if within in (None, people.local[i].source_id)]
        found = [(Scope.SPEAKER, voice.source_id, voice.stretch) for voice in voices if voice.stretch]
        if not found:
            raise UsageError(f"speaker {name!r} is not heard in {source or 'any recording'}")
        return list(found)
    labelled = sorted({voice.source_id for voice in people.local.values() if voice.label == name})
    if not labelled:
        raise UsageError(
            f"there is no speaker {name!r}: expected an id from `pdid speakers`, or a name from the sources file"
        )
    return [(Scope.SOURCE, i, None) for i in labelled if within in (None, i)]


def from_answers(
    path: Path, answers: Sequence[Answer], taxonomy: Taxonomy, recordings: Recordings
) -> tuple[list[Label], list[Transcript]]:
    """The labels and transcripts in Label Studio's answers. Raises UsageError, naming the task, for what can't be."""
    places = Places(path, recordings)
    labels, transcripts = [], []
    for answer in answers:
        try:
            place = places.of(Said(0, "", None, answer.source_id, answer.start, answer.end), False)
            piece = recordings.segments.get(answer.segment_id)
            if piece is not None and piece != place:
                raise UsageError(
                    f"segment {answer.segment_id} is not at that time: it has been edited by hand; export it again"
                )
            if answer.accent is not None:
                labels.append(
                    Label(
                        place.source_id, Scope.SEGMENT, place.start, place.end, answer.accent,
                        taxonomy.canonical(answer.accent), LabelOrigin.ANNOTATOR, answer.author, answer.created_at,
                    )
                )  # fmt: skip
            if answer.text is not None:
                transcripts.append(
                    Transcript(
                        place.source_id, place.start, place.end, answer.text, "human", answer.created_at,
                        model=answer.author or None,
                    )
                )  # fmt: skip
        except UsageError as error:
            raise UsageError(f"{answer.where}: {error}") from None
    return labels, transcripts
