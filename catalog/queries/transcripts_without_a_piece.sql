-- Texts that no clip shows: nothing is kept where they are, or they reach over their clip's edge or leave speech of it out.
WITH shown AS (
    SELECT DISTINCT transcript_id
    FROM transcripts
    JOIN segments USING (source_id)
    WHERE
        kept
        AND segments.text IS NOT NULL
        AND least(transcripts.end_s, segments.end_s) - greatest(transcripts.start_s, segments.start_s) > 0.3
),
unshown AS (FROM transcripts ANTI JOIN shown USING (transcript_id)),
meeting AS (
    SELECT
        transcript_id, kept, reject_reason,
        least(unshown.end_s, segments.end_s) - greatest(unshown.start_s, segments.start_s) AS shared_s
    FROM unshown
    JOIN segments USING (source_id)
),
met AS (
    SELECT
        transcript_id, sum(shared_s) FILTER (kept) AS kept_s,
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
FROM unshown
LEFT JOIN sources USING (source_id)
LEFT JOIN met USING (transcript_id)
ORDER BY uri, start_s
