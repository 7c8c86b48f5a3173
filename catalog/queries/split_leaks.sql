-- Speakers and recordings that are on more than one side of a split. A sound split gives no row.
SELECT split_name, 'speaker' AS leak, speaker_id AS id, string_agg(DISTINCT splits.split, ', ' ORDER BY splits.split) AS sides
FROM splits
JOIN segments USING (segment_id)
WHERE speaker_id IS NOT NULL
GROUP BY split_name, speaker_id
HAVING count(DISTINCT splits.split) > 1
UNION ALL
SELECT split_name, 'source' AS leak, source_id AS id, string_agg(DISTINCT splits.split, ', ' ORDER BY splits.split) AS sides
FROM splits
JOIN segments USING (segment_id)
GROUP BY split_name, source_id
HAVING count(DISTINCT splits.split) > 1
ORDER BY split_name, leak, id
