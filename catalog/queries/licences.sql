-- Hours kept and recordings by licence: what may be passed on.
SELECT
    coalesce(licence, '(none)') AS licence,
    count(DISTINCT source_id) AS sources,
    round(coalesce(sum(segments.duration_s) FILTER (kept), 0) / 3600, 3) AS hours
FROM sources
LEFT JOIN segments USING (source_id)
GROUP BY ALL
ORDER BY hours DESC, licence
