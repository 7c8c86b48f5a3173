"""What the labels and transcripts of a recording say of each of its pieces.

Labels and transcripts are anchored to the recording's time; pieces come and go with the settings. Which of
them hold for a piece is settled here, once, whenever one or the other changes, and lies in `base.resolved`.

Accent: the most specific scope holds (piece, speaker, recording); in one scope annotator, speaker metadata,
source metadata, classifier, in this order; then the surer one, then the newer.
Text: human, imported, subtitle, model, in this order; then what nothing speaks against, the surer, the newer.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

HALF = 0.5
"""A label of a stretch holds for a piece that it covers by this share, and that covers it by this share."""

SLACK = 4800
"""Samples (0.3 s) that a text may reach over a piece's edges, or fall short of its speech: cut points move a
little from one segmentation to the next, and subtitles are timed by hand."""

COVERED = 0.9
"""Share of a piece's speech that its text must cover: else words are missing from it."""

ACCENTS = """
WITH said AS (
    SELECT label_id, source_id, scope, start_sample, end_sample, accent, origin, confidence, created_at
    FROM base.label WHERE list_contains($ids, source_id)
    UNION ALL
    SELECT '', source_id, 'source', NULL, NULL, accent, 'source metadata', NULL, accent_at
    FROM base.source WHERE list_contains($ids, source_id) AND accent IS NOT NULL
),
piece AS (
    SELECT segment_id, source_id, speaker_id, start_sample, end_sample
    FROM base.segment WHERE list_contains($ids, source_id)
),
-- the speaker a label is about is the one heard most in the stretch it was given to
speaker AS (
    SELECT label_id, arg_max(speaker_id, heard) AS speaker_id
    FROM (
        SELECT
            label_id, speaker_id,
            sum(least(said.end_sample, piece.end_sample) - greatest(said.start_sample, piece.start_sample)) AS heard
        FROM said JOIN piece
            ON said.source_id = piece.source_id
            AND said.start_sample < piece.end_sample AND piece.start_sample < said.end_sample
        WHERE scope = 'speaker' AND speaker_id IS NOT NULL
        GROUP BY label_id, speaker_id
    )
    GROUP BY label_id
),
holds AS (
    SELECT segment_id, 1 AS rank, said.* FROM said JOIN piece
        ON said.source_id = piece.source_id
        AND said.start_sample < piece.end_sample AND piece.start_sample < said.end_sample
    WHERE scope = 'segment'
        AND least(said.end_sample, piece.end_sample) - greatest(said.start_sample, piece.start_sample)
        >= $half * greatest(said.end_sample - said.start_sample, piece.end_sample - piece.start_sample)
    UNION ALL
    SELECT segment_id, 2, said.* FROM said JOIN speaker USING (label_id) JOIN piece
        ON said.source_id = piece.source_id AND speaker.speaker_id = piece.speaker_id
    UNION ALL
    SELECT segment_id, 3, said.* FROM said JOIN piece ON said.source_id = piece.source_id WHERE scope = 'source'
)
SELECT segment_id, accent, origin
FROM holds
QUALIFY row_number() OVER (
    PARTITION BY segment_id
    ORDER BY
        rank, list_position(['annotator', 'speaker metadata', 'source metadata', 'classifier'], origin),
        confidence DESC NULLS LAST, created_at DESC, label_id
) = 1
"""

TEXTS = """
WITH piece AS (
    SELECT segment_id, source_id, start_sample, end_sample
    FROM base.segment WHERE kept AND list_contains($ids, source_id)
),
every AS (SELECT * FROM base.transcript WHERE list_contains($ids, source_id)),
-- a newer text of the same origin takes an older one's place
said AS (
    SELECT * FROM every AS old WHERE NOT EXISTS (
        FROM every AS newer
        WHERE newer.source_id = old.source_id AND newer.origin = old.origin AND newer.created_at > old.created_at
            AND least(newer.end_sample, old.end_sample) - greatest(newer.start_sample, old.start_sample)
            >= $half * (old.end_sample - old.start_sample)
    )
),
touching AS (
    SELECT
        segment_id, piece.start_sample AS piece_start, piece.end_sample AS piece_end, said.*,
        said.start_sample >= piece.start_sample - $slack AND said.end_sample <= piece.end_sample + $slack AS inside
    FROM said JOIN piece
        ON said.source_id = piece.source_id
        AND least(said.end_sample, piece.end_sample) - greatest(said.start_sample, piece.start_sample)
        > least($slack, said.end_sample - said.start_sample - 1)
),
whole AS (
    SELECT
        segment_id, any_value(source_id) AS source_id, origin, any_value(piece_start) AS piece_start,
        any_value(piece_end) AS piece_end,
        string_agg(text, ' ' ORDER BY start_sample, transcript_id) FILTER (text <> '') AS text,
        min(language) AS language, min(confidence) AS confidence, max(created_at) AS created_at,
        list_sort(list_distinct(flatten(list(flags)))) AS flags,
        list(struct_pack(a := start_sample - $slack, b := end_sample + $slack) ORDER BY start_sample) AS spans
    FROM touching
    GROUP BY segment_id, origin
    HAVING bool_and(inside)
),
-- speech in each piece, found when it was ingested; all of it where nothing is known
speech AS (
    SELECT
        segment_id, greatest(mark.start_sample, piece.start_sample) AS a, least(mark.end_sample, piece.end_sample) AS b
    FROM piece JOIN base.mark
        ON mark.source_id = piece.source_id AND mark.kind = 'speech'
        AND mark.start_sample < piece.end_sample AND piece.start_sample < mark.end_sample
    UNION ALL
    SELECT segment_id, start_sample, end_sample FROM piece
    WHERE source_id NOT IN (SELECT source_id FROM base.mark WHERE kind = 'speech')
),
covered AS (
    SELECT
        segment_id, origin, sum(b - a) AS spoken,
        sum(list_sum(list_transform(spans, lambda s: greatest(0, least(s.b, b) - greatest(s.a, a))))) AS written
    FROM whole JOIN speech USING (segment_id)
    GROUP BY segment_id, origin
)
SELECT segment_id, coalesce(text, '') AS text, language, origin, confidence, flags
FROM whole LEFT JOIN covered USING (segment_id, origin)
WHERE spoken IS NULL OR written >= $covered * spoken
QUALIFY row_number() OVER (
    PARTITION BY segment_id
    ORDER BY
        list_position(['human', 'imported', 'subtitle', 'model'], split_part(origin, ':', 1)),
        len(flags), confidence DESC NULLS LAST, created_at DESC, origin
) = 1
"""


def resolve(connection: duckdb.DuckDBPyConnection, source_ids: Sequence[str]) -> None:
    """Settle accent and text of every piece of these recordings anew, within the caller's transaction."""
    if not source_ids:
        return
    values: dict[str, object] = {"ids": list(source_ids), "half": HALF}
    connection.execute("DELETE FROM base.resolved WHERE list_contains($ids, source_id)", {"ids": list(source_ids)})
    connection.execute(
        f"""INSERT INTO base.resolved
        SELECT
            segment_id, source_id, accents.accent, accents.origin, texts.text, texts.language, texts.origin,
            texts.confidence, texts.flags
        FROM base.segment
        LEFT JOIN ({ACCENTS}) AS accents USING (segment_id)
        LEFT JOIN ({TEXTS}) AS texts USING (segment_id)
        WHERE list_contains($ids, source_id)""",
        {**values, "slack": SLACK, "covered": COVERED},
    )
