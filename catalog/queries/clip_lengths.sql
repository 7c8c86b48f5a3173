-- How long the clips are, by accent: shortest, quartiles, longest and mean in seconds.
-- Lengths that differ between accents give the accent away to a classifier.
SELECT
    coalesce(accent, '(none)') AS accent,
    count(*) AS clips,
    round(min(duration_s), 2) AS min_s,
    round(quantile_cont(duration_s, 0.25), 2) AS q25_s,
    round(median(duration_s), 2) AS median_s,
    round(quantile_cont(duration_s, 0.75), 2) AS q75_s,
    round(max(duration_s), 2) AS max_s,
    round(avg(duration_s), 2) AS mean_s
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY accent
