"""Accent labels: which pieces are to be judged, and which judgements are new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catalog.records import Label
from catalog.store import Catalog


@dataclass(frozen=True, slots=True)
class ClipToLabel:
    """A kept clip with what is known of it; times in samples at 16 kHz."""

    segment_id: str
    source_id: str
    start: int
    end: int
    path: str  # relative to the corpus folder
    title: str  # the recording's, or its address
    speaker_id: str
    accent: str | None
    accent_origin: str | None
    text: str | None
    text_origin: str | None


def clips_to_label(catalog: Catalog) -> list[ClipToLabel]:
    """All kept clips, by recording and time."""
    found = catalog.each(
        """
        SELECT
            segment_id, source_id, start_sample, end_sample, path, coalesce(title, uri),
            coalesce(link.speaker_id, segment.speaker_id), segment.accent, accent_origin, text, text_origin
        FROM base.segment
        JOIN base.source USING (source_id)
        LEFT JOIN base.link ON link.local_id = segment.speaker_id
        WHERE kept
        ORDER BY source_id, start_sample, segment_id
        """
    )
    return [ClipToLabel(*row) for row in found]


def accents_in_use(catalog: Catalog) -> list[str]:
    """Every accent that some label names, in the alphabet's order."""
    return [row[0] for row in catalog.all("SELECT DISTINCT accent FROM labels ORDER BY accent")]


def unsaid_labels(catalog: Catalog, labels: Iterable[Label]) -> list[Label]:
    """Those labels that are not the newest of their author on their stretch already."""
    said = list(labels)
    newest = {
        row[:6]: row[6:]
        for row in catalog.all(
            "SELECT source_id, scope, start_sample, end_sample, origin, author, raw, accent, confidence FROM base.label"
            " WHERE source_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY created_at, label_id",
            [sorted({label.source_id for label in said})],
        )
    }
    return [
        x
        for x in said
        if newest.get((x.source_id, x.scope.value, x.start, x.end, x.origin.value, x.author))
        != (x.raw, x.accent, x.confidence)
    ]
