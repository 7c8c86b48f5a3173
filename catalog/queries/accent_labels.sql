-- Accent labels as they stand: who says so, of how many recordings and clips, and the hours of clips in which it holds.
-- `pdid status` tells which ones the taxonomy doesn't know.
WITH said AS (
    SELECT accent, origin, count(*) AS labels, count(DISTINCT source_id) AS sources FROM labels GROUP BY ALL
),
held AS (
    SELECT accent, accent_origin AS origin, count(*) AS clips, sum(duration_s) / 3600 AS hours
    FROM segments WHERE kept GROUP BY ALL
)
SELECT
    coalesce(coalesce(said.accent, held.accent), '(none)') AS accent,
    coalesce(said.origin, held.origin) AS origin,
    coalesce(labels, 0) AS labels,
    coalesce(sources, 0) AS sources,
    coalesce(clips, 0) AS clips,
    round(coalesce(hours, 0), 3) AS hours
FROM said FULL JOIN held ON held.accent IS NOT DISTINCT FROM said.accent AND held.origin IS NOT DISTINCT FROM said.origin
ORDER BY hours DESC, accent, origin
