-- Speakers, recordings, labels, channels and near-duplicates on more than one side of a split. A sound split gives no row.
WITH members AS (
    SELECT
        split_name, splits.split, segment_id, speaker_id, source_id, lower(trim(sources.speaker)) AS label,
        lower(trim(sources.channel)) AS channel
    FROM splits
    JOIN segments USING (segment_id)
    JOIN sources USING (source_id)
),
shared AS (
    SELECT split_name, 'speaker' AS leak, speaker_id AS id, split FROM members
    UNION ALL SELECT split_name, 'source', source_id, split FROM members
    UNION ALL SELECT split_name, 'label', label, split FROM members
    UNION ALL SELECT split_name, 'channel', channel, split FROM members
    UNION ALL
    SELECT split_name, 'near-duplicates', segment_a || ' ' || segment_b, unnest([a.split, b.split])
    FROM duplicates
    JOIN splits AS a ON a.segment_id = segment_a
    JOIN splits AS b USING (split_name)
    WHERE b.segment_id = segment_b
)
SELECT split_name, leak, id, string_agg(DISTINCT split, ', ' ORDER BY split) AS sides
FROM shared
WHERE id <> ''
GROUP BY split_name, leak, id
HAVING count(DISTINCT split) > 1
ORDER BY split_name, leak, id
