-- The twenty longest recordings, with the share that is kept.
WITH clips AS (
    SELECT source_id, sum(duration_s) AS kept_s FROM segments WHERE kept GROUP BY source_id
)
SELECT
    source_id,
    coalesce(title, uri) AS recording,
    accent,
    round(duration_s / 60, 1) AS minutes,
    round(100 * coalesce(kept_s, 0) / duration_s, 1) AS percent_kept
FROM sources
LEFT JOIN clips USING (source_id)
WHERE duration_s > 0
ORDER BY duration_s DESC, source_id
LIMIT 20
