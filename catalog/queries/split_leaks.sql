-- Speakers, recordings, labels, channels and near-duplicates on more than one side of a split. A sound split gives no row.
WITH newest AS (SELECT max_by(split_name, position) AS split_name FROM base.split),
heard AS (
    -- the pieces show their side in the newest split; in the others it is looked up
    SELECT (SELECT split_name FROM newest) AS split_name, split, local_speaker_id, source_id
    FROM segments
    WHERE split IS NOT NULL
    GROUP BY split, local_speaker_id, source_id
    UNION ALL
    SELECT split_name, splits.split, local_speaker_id, source_id
    FROM splits
    JOIN segments USING (segment_id)
    WHERE split_name <> (SELECT split_name FROM newest)
    GROUP BY split_name, splits.split, local_speaker_id, source_id
),
members AS (
    SELECT
        split_name, split, source_id, coalesce(link.speaker_id, local_speaker_id) AS speaker_id,
        lower(trim(source.speaker)) AS label, lower(trim(source.channel)) AS channel
    FROM heard
    JOIN base.source USING (source_id)
    LEFT JOIN base.link ON link.local_id = local_speaker_id
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
SELECT
    split_name, leak, id,
    concat_ws(
        ', ', if(bool_or(split = 'dev'), 'dev', NULL), if(bool_or(split = 'test'), 'test', NULL),
        if(bool_or(split = 'train'), 'train', NULL)
    ) AS sides
FROM shared
WHERE id <> ''
GROUP BY split_name, leak, id
HAVING min(split) <> max(split)
ORDER BY split_name, leak, id
