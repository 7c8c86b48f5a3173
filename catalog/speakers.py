"""Speakers as they were told apart within each recording, and which of them are linked to one person.

Their ids, SOURCEID-S1, SOURCEID-S2, …, are local: another run of the diarizer may number them anew. What
somebody says of who is whom is anchored to the recording's time (`LinkRule`), and so outlives that.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.annotations import write_links
from catalog.records import RATE, Stretch
from catalog.store import Catalog

# where each local speaker is heard: the diarizer's turns, and the pieces cut from them
HEARD = """
WITH heard AS (
    SELECT source_id, source_id || '-' || label AS local_id, start_sample, end_sample, 'turn' AS kind
    FROM base.mark WHERE kind = 'turn' AND label <> ''
    UNION ALL
    SELECT source_id, speaker_id, start_sample, end_sample, CASE WHEN kept THEN 'clip' ELSE 'piece' END
    FROM base.segment WHERE speaker_id IS NOT NULL
)
"""
LOCAL_SPEAKERS = f"""{HEARD},
spoken AS (
    SELECT
        source_id, local_id,
        greatest(
            coalesce(sum(end_sample - start_sample) FILTER (kind = 'turn'), 0),
            coalesce(sum(end_sample - start_sample) FILTER (kind <> 'turn'), 0)
        ) AS samples,
        max(
            struct_pack(clip := kind = 'clip', n := end_sample - start_sample, a := start_sample, b := end_sample)
        ) AS best
    FROM heard
    GROUP BY source_id, local_id
),
everybody AS (
    SELECT source_id, local_id FROM spoken
    UNION
    SELECT source_id, speaker_id FROM base.voice
)
SELECT
    local_id, source_id, source.speaker, coalesce(stage.model, ''), coalesce(samples, 0) / $rate,
    best.a, best.b, voice.embedding, source.bandwidth_hz
FROM everybody
JOIN base.source USING (source_id)
LEFT JOIN spoken USING (source_id, local_id)
LEFT JOIN base.voice ON voice.source_id = everybody.source_id AND voice.speaker_id = local_id
LEFT JOIN base.stage ON stage.source_id = everybody.source_id AND stage.stage = 'diarize'
ORDER BY local_id
"""
HEARD_IN = f"""{HEARD},
asked AS (
    SELECT
        unnest(range(len($sources))) AS i, unnest($sources::VARCHAR[]) AS source_id, unnest($starts::BIGINT[]) AS a,
        unnest($ends::BIGINT[]) AS b
)
SELECT i, local_id
FROM asked JOIN heard ON heard.source_id = asked.source_id AND start_sample < b AND a < end_sample
GROUP BY i, local_id
QUALIFY row_number() OVER (
    PARTITION BY i ORDER BY sum(least(b, end_sample) - greatest(a, start_sample)) DESC, local_id
) = 1
"""


@dataclass(frozen=True, slots=True)
class LocalSpeaker:
    """A speaker of one recording, with all that linking looks at."""

    local_id: str
    source_id: str
    label: str | None  # who speaks in the recording, from the sources file
    model: str  # of the diarizer: voices of two models can't be compared
    seconds: float  # of speech
    stretch: Stretch | None  # the longest clip, or turn: what stands for the speaker in a rule
    embedding: Sequence[float] | None  # mean voice, unit length
    bandwidth_hz: float | None = None  # of the recording


def local_speakers(catalog: Catalog) -> list[LocalSpeaker]:
    """The speakers of all recordings, by id."""
    return [
        LocalSpeaker(
            r[0],
            r[1],
            r[2],
            r[3],
            r[4],
            None if r[5] is None else Stretch(r[1], r[5], r[6]),
            r[7] and array("f", r[7]),  # of Python's floats, those of some hundred thousand voices fill the memory
            r[8],
        )
        for r in catalog.each(LOCAL_SPEAKERS, {"rate": float(RATE)})
    ]


def heard_in(catalog: Catalog, stretches: Sequence[Stretch]) -> list[str | None]:
    """The local speaker heard most in each stretch, None where nobody is."""
    values: dict[str, object] = {
        "sources": [stretch.source_id for stretch in stretches],
        "starts": [stretch.start for stretch in stretches],
        "ends": [stretch.end for stretch in stretches],
    }
    found = dict(catalog.all(HEARD_IN, values)) if stretches else {}
    return [found.get(i) for i in range(len(stretches))]


def links_are_due(catalog: Catalog) -> bool:
    """Whether some speaker is not linked yet, or a link leads from one that is no more.

    Writing a recording whose voices or speaker label have changed takes its links away.
    """
    return bool(
        catalog.all(
            """
            WITH everybody AS (
                SELECT speaker_id AS local_id FROM base.voice
                UNION
                SELECT speaker_id FROM base.segment WHERE speaker_id IS NOT NULL
            )
            SELECT 1 FROM everybody FULL JOIN base.link USING (local_id)
            WHERE everybody.local_id IS NULL OR link.local_id IS NULL
            LIMIT 1
            """
        )
    )


def replace_links(catalog: Catalog, links: Mapping[str, str]) -> None:
    """Write who is whom; links that are there already as they are cost nothing."""
    if dict(catalog.all("SELECT local_id, speaker_id FROM base.link")) != dict(links):
        write_links(catalog, links)
