-- Hours, clips and speakers by accent in train, dev and test, for every split.
WITH newest AS (SELECT max_by(split_name, position) AS split_name FROM base.split),
members AS (
    -- the pieces show their side in the newest split; in the others it is looked up
    SELECT newest.split_name, accent, split, duration_s, speaker_id FROM segments, newest WHERE split IS NOT NULL
    UNION ALL
    SELECT splits.split_name, accent, splits.split, duration_s, speaker_id
    FROM splits
    JOIN segments USING (segment_id)
    WHERE splits.split_name <> (SELECT split_name FROM newest)
)
SELECT
    split_name,
    coalesce(accent, '(none)') AS accent,
    split,
    round(sum(duration_s) / 3600, 3) AS hours,
    count(*) AS clips,
    count(DISTINCT speaker_id) AS speakers
FROM members
GROUP BY ALL
ORDER BY split_name, accent, split
