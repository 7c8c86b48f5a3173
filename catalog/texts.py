"""Transcripts: what is to be transcribed, what was said already, and what pieces a text can be pinned to.

with open_catalog(corpus) as catalog:
    clips = untranscribed(catalog, "whisper-small 1a2b3c4d", "fa")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from catalog import rows
from catalog.records import Stretch, Transcript
from catalog.store import Catalog, Clip


def untranscribed(catalog: Catalog, model: str, language: str) -> list[Clip]:
    """The kept clips that a model, named with its version, has not transcribed in a language; by source and time.

    A transcript counts for the stretch it was made of: a recording that is cut anew is transcribed anew.
    """
    found = catalog.all(
        f"FROM ({rows.SELECT_KEPT}) AS clip ANTI JOIN ("
        " SELECT source_id, start_sample, end_sample FROM base.transcript"
        " WHERE model = ? AND language = ? AND starts_with(origin, 'model:')"
        ") AS done USING (source_id, start_sample, end_sample) ORDER BY source_id, start_sample, segment_id",
        [model, language],
    )
    return [Clip(*row) for row in found]


def stretches(catalog: Catalog, segment_ids: Sequence[str]) -> dict[str, Stretch]:
    """Where in their recordings pieces lie, kept ones and rejected ones; those that are not there are left out."""
    found = catalog.all(
        "SELECT segment_id, source_id, start_sample, end_sample FROM base.segment"
        " WHERE segment_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(segment_ids)],
    )
    return {row[0]: Stretch(*row[1:]) for row in found}


def unsaid(catalog: Catalog, transcripts: Iterable[Transcript]) -> list[Transcript]:
    """Those transcripts that are not, word for word, the newest ones of their stretch, origin and language already."""
    said = list(transcripts)
    found = catalog.all(
        "SELECT source_id, start_sample, end_sample, origin, language, text, model, confidence, flags"
        " FROM base.transcript WHERE source_id IN (SELECT unnest(?::VARCHAR[]))"
        " ORDER BY created_at, transcript_id",
        [sorted({text.source_id for text in said})],
    )
    newest = {row[:5]: (*row[5:8], tuple(row[8])) for row in found}
    return [
        text
        for text in said
        if newest.get((text.source_id, text.start, text.end, text.origin, text.language))
        != (text.text, text.model, text.confidence, text.flags)
    ]


def with_text(catalog: Catalog, source_ids: Sequence[str]) -> tuple[int, int]:
    """How many kept clips recordings have, and how many of those a text."""
    found = catalog.all(
        "SELECT count(*), count(text) FROM base.segment WHERE kept AND source_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(source_ids)],
    )
    return int(found[0][0]), int(found[0][1])
