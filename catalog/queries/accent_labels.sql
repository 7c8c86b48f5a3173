-- Accent labels as they stand, with recordings and hours; `pdid status` tells which ones the taxonomy doesn't know.
SELECT
    coalesce(accent, '(none)') AS accent,
    count(*) AS sources,
    round(sum(duration_s) / 3600, 3) AS hours,
    list(DISTINCT language ORDER BY language) AS languages
FROM sources
GROUP BY ALL
ORDER BY sources DESC, accent
