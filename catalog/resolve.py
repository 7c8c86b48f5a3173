"""What the labels and transcripts of a recording say of each of its pieces.

Labels and transcripts are anchored to the recording's time; pieces come and go with the settings. Which of
them hold for a piece is settled here, once, whenever one or the other changes, and lies in the piece's row.

Accent: the most specific scope holds (piece, speaker, recording); in one scope annotator, speaker metadata,
source metadata, classifier, in this order; then the surer one, then the newer. What somebody said earlier of the
same piece, in the same scope, no longer counts.
Text: one language's, the recording's before others; human, imported, subtitle, model, in this order; then what nothing
speaks against, the surer, the newer. A piece shows the texts of one origin that lie in it, joined, if they cover its
speech (COVERED) and none of that origin reaches over its edge (SLACK) into speech that they leave out. Newer texts take
the place of older ones of their origin, unless they cover the piece less well than an older one by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from catalog.records import RATE

HALF = 0.5
"""Labels of stretches hold for a piece of which they cover this share; a text of which a newer one covers this
share is out of date."""

SLACK = 4800
"""Samples (0.3 s) that a text may reach over a piece's edges, or fall short of its speech: cut points move a
little from one segmentation to the next, and subtitles are timed by hand."""

COVERED = 0.9
"""Share of a piece's speech that its text must cover: else words are missing from it."""

BLOCK = 30 * RATE
"""Samples of the blocks of a recording in which texts, speech and pieces meet."""

LABEL_HOLDS = """
INSERT INTO base.label_hold
WITH piece AS (
    SELECT segment_id, source_id, speaker_id, start_sample, end_sample
    FROM base.segment WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))
),
-- what the same author said of the same stretch before no longer counts, nor twice
said AS (
    SELECT * FROM base.label WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))
    QUALIFY row_number() OVER (
        PARTITION BY source_id, scope, start_sample, end_sample, origin, author ORDER BY created_at DESC, label_id
    ) = 1
),
meeting AS (
    SELECT
        segment_id, speaker_id, said.*, piece.end_sample - piece.start_sample AS length,
        least(said.end_sample, piece.end_sample) - greatest(said.start_sample, piece.start_sample) AS shared
    FROM said JOIN piece
        ON said.source_id = piece.source_id
        AND said.start_sample < piece.end_sample AND piece.start_sample < said.end_sample
),
-- the speaker a label is about is the one heard most in the stretch it was given to
heard AS (
    SELECT label_id, speaker_id FROM meeting WHERE scope = 'speaker' AND speaker_id IS NOT NULL
    GROUP BY label_id, speaker_id
    QUALIFY row_number() OVER (PARTITION BY label_id ORDER BY sum(shared) DESC, speaker_id) = 1
),
-- pieces may have been joined since: several labels that say the same cover one together
covering AS (
    SELECT segment_id, source_id, label_id, created_at, author, origin FROM meeting WHERE scope = 'segment'
    QUALIFY sum(shared) OVER (PARTITION BY segment_id, origin, author, accent) >= $half * length
),
holds AS (
    SELECT segment_id, source_id, label_id, created_at, author, origin, 1 AS rank FROM covering
    UNION ALL
    SELECT segment_id, piece.source_id, label_id, created_at, author, origin, 2
    FROM said JOIN heard USING (label_id) JOIN piece
        ON said.source_id = piece.source_id AND heard.speaker_id = piece.speaker_id
    UNION ALL
    SELECT segment_id, piece.source_id, label_id, created_at, author, origin, 3
    FROM said JOIN piece ON said.source_id = piece.source_id
    WHERE scope = 'source'
)
SELECT segment_id, source_id, label_id FROM holds
QUALIFY row_number() OVER (PARTITION BY segment_id, rank, origin, author ORDER BY created_at DESC, label_id) = 1
"""

ACCENTS = """
WITH holds AS (
    SELECT segment_id, label_id, scope, accent, origin, confidence, created_at
    FROM base.label_hold JOIN base.label USING (label_id)
    WHERE label_hold.source_id IN (SELECT unnest($ids::VARCHAR[]))
    UNION ALL
    SELECT segment_id, '', 'source', source.accent, 'source metadata', NULL, accent_at
    FROM base.segment JOIN base.source USING (source_id)
    WHERE source_id IN (SELECT unnest($ids::VARCHAR[])) AND source.accent IS NOT NULL
)
SELECT segment_id, accent, origin
FROM holds
QUALIFY row_number() OVER (
    PARTITION BY segment_id
    ORDER BY
        list_position(['segment', 'speaker', 'source'], scope),
        list_position(['annotator', 'speaker metadata', 'source metadata', 'classifier'], origin),
        confidence DESC NULLS LAST, created_at DESC, label_id
) = 1
"""

TEXTS = """
WITH piece AS (
    SELECT segment_id, source_id, start_sample AS first, end_sample AS last
    FROM base.segment WHERE kept AND source_id IN (SELECT unnest($ids::VARCHAR[]))
),
written AS (
    SELECT * REPLACE (coalesce(language, '') AS language)
    FROM base.transcript WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))
),
-- what overlaps is found block by block of 30 s: an hour has many texts, a block has few
piece_block AS (SELECT *, unnest(range(first // $block, (last - 1) // $block + 1)) AS block FROM piece),
speech_block AS (
    SELECT
        source_id, start_sample AS first, end_sample AS last,
        unnest(range(start_sample // $block, (end_sample - 1) // $block + 1)) AS block
    FROM base.mark WHERE kind = 'speech' AND source_id IN (SELECT DISTINCT source_id FROM written)
),
written_block AS (
    SELECT
        transcript_id, source_id, start_sample, end_sample,
        unnest(range(start_sample // $block, (end_sample - 1) // $block + 1)) AS block
    FROM written
),
-- subtitles stay on the screen after the last word: a text reaches as far as the speech in it
voiced AS (
    SELECT transcript_id, min(first) AS first, max(last) AS last
    FROM written_block JOIN speech_block USING (source_id, block)
    WHERE start_sample < last AND first < end_sample
    GROUP BY transcript_id
),
said AS (
    SELECT
        written.*, greatest(start_sample, coalesce(voiced.first, 0)) AS a,
        least(end_sample, coalesce(voiced.last, end_sample)) AS b
    FROM written LEFT JOIN voiced USING (transcript_id)
),
said_block AS (SELECT *, unnest(range(a // $block, (b - 1) // $block + 1)) AS block FROM said),
meeting AS (
    SELECT
        segment_id, said_block.* EXCLUDE (source_id, start_sample, end_sample, block),
        a >= first - $slack AND b <= last + $slack AS inside,
        least(b, last) - greatest(a, first) AS shared
    FROM said_block JOIN piece_block USING (source_id, block)
    WHERE a < last AND first < b AND greatest(a, first) // $block = block
),
candidate AS (SELECT * FROM meeting WHERE inside AND 2 * shared >= b - a),
crossing AS (SELECT DISTINCT segment_id, origin, language FROM meeting WHERE NOT inside AND shared > $slack),
outdated AS (
    SELECT DISTINCT segment_id, origin, language, old.transcript_id
    FROM candidate AS old JOIN candidate AS newer USING (segment_id, origin, language)
    WHERE newer.created_at > old.created_at
        AND least(newer.b, old.b) - greatest(newer.a, old.a) >= $half * least(newer.b - newer.a, old.b - old.a)
),
-- the newest texts of one origin together; where they take older ones' place, each of all of them by itself as well
member AS (
    SELECT *, '' AS alone FROM candidate ANTI JOIN outdated USING (segment_id, transcript_id)
    UNION ALL
    SELECT *, transcript_id FROM candidate SEMI JOIN outdated USING (segment_id, origin, language)
),
whole AS (
    SELECT
        segment_id, origin, language, alone, min(confidence) AS confidence, max(created_at) AS created_at,
        coalesce(string_agg(text, ' ' ORDER BY a, b, transcript_id) FILTER (text <> ''), '') AS text,
        list_sort(list_distinct(flatten(list(flags)))) AS flags
    FROM member
    GROUP BY segment_id, origin, language, alone
),
-- the stretches that they cover, without what the ones before cover already
span AS (
    SELECT
        segment_id, origin, language, alone, b + $slack AS b,
        greatest(a - $slack, coalesce(max(b + $slack) OVER (
            PARTITION BY segment_id, origin, language, alone ORDER BY a, b, transcript_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0)) AS a
    FROM member
),
-- speech in each piece, found when it was ingested; all of it where nothing is known
spoken AS (
    SELECT
        segment_id, greatest(speech_block.first, piece_block.first) AS a,
        least(speech_block.last, piece_block.last) AS b
    FROM piece_block JOIN speech_block USING (source_id, block)
    WHERE speech_block.first < piece_block.last AND piece_block.first < speech_block.last
        AND greatest(speech_block.first, piece_block.first) // $block = block
        AND segment_id IN (SELECT segment_id FROM member)
    UNION ALL
    SELECT segment_id, first, last FROM piece
    WHERE source_id NOT IN (SELECT source_id FROM speech_block) AND segment_id IN (SELECT segment_id FROM member)
),
covered AS (
    SELECT
        segment_id, origin, language, alone,
        sum(greatest(0, least(span.b, spoken.b) - greatest(span.a, spoken.a))) AS n
    FROM span JOIN spoken USING (segment_id)
    GROUP BY segment_id, origin, language, alone
),
complete AS (
    SELECT whole.*
    FROM whole
    LEFT JOIN covered USING (segment_id, origin, language, alone)
    LEFT JOIN (SELECT segment_id, sum(b - a) AS n FROM spoken GROUP BY segment_id) AS speech USING (segment_id)
    LEFT JOIN crossing USING (segment_id, origin, language)
    WHERE speech.n IS NULL
        OR covered.n >= $covered * speech.n AND (crossing.segment_id IS NULL OR speech.n - covered.n <= $slack)
    QUALIFY row_number() OVER (PARTITION BY segment_id, origin, language ORDER BY created_at DESC, alone) = 1
)
SELECT segment_id, text, nullif(complete.language, '') AS language, origin, confidence, flags
FROM complete JOIN piece USING (segment_id) JOIN base.source USING (source_id)
QUALIFY row_number() OVER (
    PARTITION BY segment_id
    ORDER BY
        -- a translation is no transcript
        CASE
            WHEN complete.language = '' OR NOT regexp_matches(source.language, '^[a-zA-Z]{2,3}(-|$)') THEN false
            WHEN source.language IS NOT NULL THEN complete.language <> lower(split_part(source.language, '-', 1))
            ELSE false
        END,
        list_position(['human', 'imported', 'subtitle', 'model'], split_part(origin, ':', 1)),
        len(flags), confidence DESC NULLS LAST, created_at DESC, origin, complete.language
) = 1
"""

NEWEST_SPLIT = """
SELECT segment_id, split FROM base.split_member
WHERE split_name = (SELECT split_name FROM base.split ORDER BY position DESC LIMIT 1)
"""

# pieces are found again by their place in the table: their ids would have all of it searched
SETTLE = f"""
UPDATE base.segment SET
    accent = settled.accent, accent_origin = settled.accent_origin, language = settled.language, text = settled.text,
    text_origin = settled.text_origin, text_confidence = settled.confidence, text_flags = settled.flags,
    split = settled.split
FROM (
    SELECT
        segment.rowid AS place, accents.accent, accents.origin AS accent_origin,
        coalesce(texts.language, source.language) AS language, texts.text, texts.origin AS text_origin,
        texts.confidence, texts.flags::VARCHAR AS flags, member.split
    FROM base.segment
    JOIN base.source USING (source_id)
    LEFT JOIN ({ACCENTS}) AS accents USING (segment_id)
    LEFT JOIN ({TEXTS}) AS texts USING (segment_id)
    LEFT JOIN ({NEWEST_SPLIT}) AS member USING (segment_id)
    WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))
) AS settled
WHERE segment.rowid = settled.place
"""

SHOW_SPLIT = f"""
UPDATE base.segment SET split = new.split
FROM (
    SELECT segment.rowid AS place, member.split
    FROM base.segment LEFT JOIN ({NEWEST_SPLIT}) AS member USING (segment_id)
    WHERE segment.split IS DISTINCT FROM member.split
) AS new
WHERE segment.rowid = new.place
"""


def resolve(connection: duckdb.DuckDBPyConnection, source_ids: Sequence[str]) -> None:
    """Settle accent, text and side of every piece of these recordings anew, within the caller's transaction."""
    if not source_ids:
        return
    ids: dict[str, object] = {"ids": list(source_ids)}
    connection.execute("DELETE FROM base.label_hold WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))", ids)
    connection.execute(LABEL_HOLDS, ids | {"half": HALF})
    connection.execute(SETTLE, ids | {"half": HALF, "slack": SLACK, "covered": COVERED, "block": BLOCK})


def show_newest_split(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the side that every piece shows to the newest split's, within the transaction that wrote it."""
    connection.execute(SHOW_SPLIT)
