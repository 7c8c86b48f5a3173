-- Hours, clips and speakers by accent in train, dev and test, for every split.
SELECT
    split_name,
    coalesce(accent, '(none)') AS accent,
    splits.split,
    round(sum(duration_s) / 3600, 3) AS hours,
    count(*) AS clips,
    count(DISTINCT speaker_id) AS speakers
FROM splits
JOIN segments USING (segment_id)
GROUP BY ALL
ORDER BY split_name, accent, splits.split
