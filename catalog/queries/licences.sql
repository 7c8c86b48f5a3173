-- Hours kept and recordings by licence: what may be passed on.
WITH clips AS (
    SELECT source_id, sum(duration_s) AS kept_s FROM segments WHERE kept GROUP BY source_id
)
SELECT
    coalesce(licence, '(none)') AS licence,
    count(*) AS sources,
    round(coalesce(sum(kept_s), 0) / 3600, 3) AS hours
FROM sources
LEFT JOIN clips USING (source_id)
GROUP BY ALL
ORDER BY hours DESC, licence
