"""What an export is made of: the kept clips, read once from the catalog's public views."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.errors import PdidError, UsageError
from catalog.store import Catalog
from corpus_builder.taxonomy import Taxonomy

UNSPLIT = "unsplit"
"""The side of every clip where the corpus has no split."""

SIDES = ("train", "dev", "test", UNSPLIT)

CLIPS = """
SELECT
    segment_id, segments.source_id, speaker_id, segments.accent, segments.language, sources.licence, text, text_origin,
    coalesce(list_aggregate(text_flags, 'string_agg', ', '), ''), start_s, end_s, segments.duration_s, path,
    coalesce(chosen.split, 'unsplit')
FROM segments
JOIN sources USING (source_id)
LEFT JOIN (SELECT segment_id, split FROM splits WHERE split_name = ?) AS chosen USING (segment_id)
WHERE kept
ORDER BY segments.source_id, start_s, segment_id
"""


@dataclass(frozen=True, slots=True)
class ExportClip:
    """A kept clip with all that an export says of it; seconds, as in the public views."""

    segment_id: str
    source_id: str
    speaker_id: str
    accent: str | None
    language: str | None
    licence: str | None
    text: str | None  # verbatim; None where nobody has written it down
    text_origin: str | None
    text_flags: str  # what speaks against the text, comma-separated
    start_s: float  # in the recording
    end_s: float
    duration_s: float
    path: str  # relative to the corpus folder
    side: str  # one of SIDES

    @property
    def line(self) -> str:
        """The text on one line, spaces single; empty where there is none."""
        return " ".join((self.text or "").split())


COLUMNS: dict[str, tuple[str, str]] = {
    "segment_id": ("string", "The clip"),
    "source_id": ("string", "The recording it was cut from"),
    "speaker_id": ("string", "Who speaks, the same in all recordings"),
    "accent": ("string", "The accent"),
    "language": ("string", "The language of the text, else of the recording"),
    "text": ("string", "What is said, verbatim"),
    "text_origin": ("string", "Where the text comes from: human, imported, subtitle or model:NAME"),
    "text_flags": ("string", "What speaks against a model's text: loop, language"),
    "licence": ("string", "What the recording may be used for"),
    "start_s": ("float64", "Seconds from the start of the recording"),
    "end_s": ("float64", "Seconds from the start of the recording"),
    "duration_s": ("float64", "Seconds"),
}
"""What the formats with free columns say of a clip: column -> type and meaning."""


def record(clip: ExportClip) -> dict[str, Any]:
    """A clip as a row of COLUMNS; None where something is unknown."""
    return {name: getattr(clip, name) for name in COLUMNS}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which clips; None for all."""

    split: str | None = None
    licences: tuple[str, ...] | None = None
    accents: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The clips of an export, by recording and time, and the split their sides come from."""

    clips: tuple[ExportClip, ...]
    split: str | None


def choose(catalog: Catalog, choice: Choice, taxonomy: Taxonomy, *, sided: bool, tell: Callable[[str], None]) -> Chosen:
    """Read the clips that are to be exported.

    Sides come from the named split, else from the newest, and clips in none of them are left out; a format that
    is not `sided` takes every clip unless a split is named. `tell` hears what is left out, and of clips without
    a licence. Raises UsageError for a split, licence or accent that nothing has, PdidError if no clip is left.
    """
    names = [info.name for info in catalog.splits()]
    if choice.split is not None:
        catalog.split_members(choice.split)  # says clearly what there is
    split = choice.split or (names[-1] if names else None)
    held: dict[Any, Any] = {}  # what many clips have in common is in memory once
    clips = [
        ExportClip(row[0], *(held.setdefault(said, said) for said in row[1:6]), *row[6:])
        for row in catalog.query(CLIPS, [split]).rows
    ]
    if not clips:
        raise PdidError("there are no kept clips to export: `pdid status` says what became of the sources")
    if split is not None and (sided or choice.split):
        clips = _left(clips, lambda clip: clip.side != UNSPLIT, f"{{}} clips are in no side of split {split}", tell)
    if choice.accents is not None:
        accents = _accents(choice.accents, taxonomy, {clip.accent for clip in clips if clip.accent})
        clips = [clip for clip in clips if clip.accent in accents]
    if choice.licences is not None:
        clips = _left(clips, lambda clip: clip.licence is not None, "{} clips have no licence", tell)
        known = {_plain(clip.licence): clip.licence for clip in clips if clip.licence}
        for licence in choice.licences:
            if _plain(licence) not in known:
                raise UsageError(
                    f"--licence: no recording has the licence {licence!r}: {_hint(_plain(licence), known)}"
                )
        wanted = set(map(_plain, choice.licences))
        clips = [clip for clip in clips if _plain(clip.licence or "") in wanted]
    elif bare := sum(clip.licence is None for clip in clips):
        tell(
            f"{bare} of {len(clips)} clips have no licence: say what their recordings may be used for "
            "before you publish"
        )
    if not clips:
        raise PdidError("no clip is left to export: the split, accents and licences asked for have none in common")
    return Chosen(tuple(clips), split)


def _left(
    clips: Sequence[ExportClip], stays: Callable[[ExportClip], bool], why: str, tell: Callable[[str], None]
) -> list[ExportClip]:
    """The clips that stay; how many do not is told."""
    left = [clip for clip in clips if stays(clip)]
    if len(left) < len(clips):
        tell(f"{why.format(len(clips) - len(left))}: left out")
    return left


def _accents(labels: Iterable[str], taxonomy: Taxonomy, present: set[str]) -> set[str]:
    known = {_plain(name): name for name in present}
    found = set()
    for label in labels:
        name = known.get(_plain(label)) or known.get(_plain(taxonomy.canonical(label)))
        if name is None:
            raise UsageError(f"--accent: no clip has the accent {label!r}: {_hint(_plain(label), known)}")
        found.add(name)
    return found


def _hint(label: str, known: dict[str, str]) -> str:
    near = difflib.get_close_matches(label, known, n=1)
    if near:
        return f"did you mean {known[near[0]]!r}?"
    return f"there are {', '.join(sorted(known.values()))}" if known else "there are none"


def _plain(label: str | None) -> str:
    """A label as labels are compared: letter case and runs of spaces play no part."""
    return " ".join((label or "").casefold().split())
