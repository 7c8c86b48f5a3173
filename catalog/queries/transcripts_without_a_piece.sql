-- Texts that no clip shows: nothing is kept where they are, or they reach over their clip's edge or leave speech of it out.
WITH meeting AS (
    SELECT
        transcript_id, kept, reject_reason, segments.text IS NOT NULL AS has_text,
        least(transcripts.end_s, segments.end_s) - greatest(transcripts.start_s, segments.start_s) AS shared_s
    FROM transcripts JOIN segments USING (source_id)
    WHERE transcripts.start_s < segments.end_s AND segments.start_s < transcripts.end_s
),
met AS (
    SELECT
        transcript_id, bool_or(kept AND has_text) AS is_shown, sum(shared_s) FILTER (kept) AS kept_s,
        string_agg(DISTINCT reject_reason, ', ' ORDER BY reject_reason) AS reasons
    FROM meeting
    WHERE shared_s > 0.3
    GROUP BY transcript_id
)
SELECT
    uri, start_s, end_s, origin, text,
    CASE
        WHEN met.transcript_id IS NULL THEN 'the recording has no pieces here'
        WHEN kept_s IS NULL THEN 'nothing is kept here: ' || reasons
        ELSE 'no clip is covered whole'
    END AS why
FROM transcripts
LEFT JOIN sources USING (source_id)
LEFT JOIN met USING (transcript_id)
WHERE is_shown IS NOT TRUE
ORDER BY uri, start_s
