"""What a dataset card and a Croissant file say of an export: facts of the catalog, and no more than that."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from catalog.store import Catalog
from corpus_builder.export.clips import ExportClip

HUB_LICENCES = {
    "apache 2.0": "apache-2.0",
    "cc by": "cc-by-4.0",
    "cc by 2.0": "cc-by-2.0",
    "cc by 3.0": "cc-by-3.0",
    "cc by 4.0": "cc-by-4.0",
    "cc by nc 4.0": "cc-by-nc-4.0",
    "cc by nc nd 4.0": "cc-by-nc-nd-4.0",
    "cc by nc sa 4.0": "cc-by-nc-sa-4.0",
    "cc by nd 4.0": "cc-by-nd-4.0",
    "cc by sa 3.0": "cc-by-sa-3.0",
    "cc by sa 4.0": "cc-by-sa-4.0",
    "cc0": "cc0-1.0",
    "cc0 1.0": "cc0-1.0",
    "mit": "mit",
    "public domain": "pd",
}
"""A licence as people write it (folded) -> the name the Hugging Face hub knows it by."""

FACTS = """
SELECT coalesce(accent, ''), sum(duration_s) FILTER (kept) / 3600, sum(duration_s) / 3600
FROM segments WHERE source_id IN (SELECT unnest(?::VARCHAR[]))
    AND coalesce(reject_reason, '') NOT IN ('silence', 'music', 'not_speech')
GROUP BY ALL ORDER BY ALL
"""
REJECTED = """
SELECT reject_reason, sum(duration_s) / 3600 AS hours
FROM segments WHERE NOT kept AND source_id IN (SELECT unnest(?::VARCHAR[]))
GROUP BY ALL ORDER BY hours DESC, 1
"""
STAGES = """
SELECT stage, list_sort(list(DISTINCT model))
FROM stages WHERE source_id IN (SELECT unnest(?::VARCHAR[]))
GROUP BY ALL
"""
LABELS = """
SELECT origin, count(*) FROM labels WHERE source_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL ORDER BY ALL
"""
SOURCES = """
SELECT sum(duration_s) / 3600, min(uploaded_at), max(uploaded_at)
FROM sources WHERE source_id IN (SELECT unnest(?::VARCHAR[]))
"""


@dataclass(frozen=True, slots=True)
class Part:
    """The clips of one accent on one side."""

    accent: str
    side: str
    clips: int
    hours: float
    speakers: int


@dataclass(frozen=True, slots=True)
class About:
    """What there is to say; hours of sound throughout."""

    name: str
    clips: int
    hours: float
    speakers: int
    sources: int
    raw_hours: float
    parts: tuple[Part, ...]  # by accent and side
    kept_share: dict[str, float]  # by accent: of the speech of its recordings
    rejected: dict[str, float]  # by reason
    licences: dict[str, int]  # clips; '' for none
    languages: dict[str, int]
    text_origins: dict[str, int]  # clips; '' for no text
    label_origins: dict[str, int]  # labels
    stages: dict[str, tuple[str, ...]]  # stage -> the models it ran with
    first_upload: datetime | None
    last_upload: datetime | None

    @property
    def hub_licence(self) -> str | None:
        """The hub's name of the licence, where all clips have one and the same that it knows."""
        names = {hub_licence(licence) for licence in self.licences}
        return names.pop() if len(names) == 1 else None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the stages, and the texts, come from."""
        used = {model for models in self.stages.values() for model in models if model not in ("", "none")}
        texts = {origin.removeprefix("model:") for origin in self.text_origins if origin.startswith("model:")}
        return tuple(sorted(used | texts))


def hub_licence(licence: str) -> str | None:
    """The hub's name of a licence as people write it, or None."""
    plain = " ".join(re.sub(r"[\s_-]+", " ", licence.casefold()).split())
    return HUB_LICENCES.get(plain)


def read_about(catalog: Catalog, clips: Sequence[ExportClip], name: str) -> About:
    """Gather the facts about an export of these clips."""
    ids = [sorted({clip.source_id for clip in clips})]
    together: dict[tuple[str, str], list[ExportClip]] = defaultdict(list)
    for clip in clips:
        together[clip.accent or "", clip.side].append(clip)
    parts = tuple(
        Part(accent, side, len(found), _hours(found), len({clip.speaker_id for clip in found}))
        for (accent, side), found in sorted(together.items())
    )
    raw_hours, first, last = next(iter(catalog.query(SOURCES, ids).rows))
    return About(
        name=name,
        clips=len(clips),
        hours=_hours(clips),
        speakers=len({clip.speaker_id for clip in clips}),
        sources=len(ids[0]),
        raw_hours=raw_hours or 0.0,
        parts=parts,
        kept_share={accent: (kept or 0.0) / total for accent, kept, total in catalog.query(FACTS, ids).rows if total},
        rejected=dict(catalog.query(REJECTED, ids).rows),
        licences=_counts([clip.licence for clip in clips]),
        languages=_counts([clip.language for clip in clips]),
        text_origins=_counts([clip.text_origin for clip in clips]),
        label_origins=dict(catalog.query(LABELS, ids).rows),
        stages={stage: tuple(models) for stage, models in catalog.query(STAGES, ids).rows},
        first_upload=first,
        last_upload=last,
    )


def _hours(clips: Sequence[ExportClip]) -> float:
    return sum(clip.duration_s for clip in clips) / 3600


def _counts(values: Sequence[str | None]) -> dict[str, int]:
    return dict(Counter(value or "" for value in values).most_common())
