-- Pairs of clips with the same sound in them, the longest first: re-uploads, repeated adverts, one interview on two channels.
SELECT
    round(overlap_s, 1) AS overlap_s,
    round(score, 2) AS score,
    a.source_id = b.source_id AS same_recording,
    segment_a, a.accent AS accent_a, coalesce(first.title, first.uri) AS recording_a, round(a.start_s, 1) AS start_a_s,
    segment_b, b.accent AS accent_b, coalesce(second.title, second.uri) AS recording_b, round(b.start_s, 1) AS start_b_s
FROM duplicates
JOIN segments AS a ON a.segment_id = segment_a
JOIN segments AS b ON b.segment_id = segment_b
JOIN sources AS first ON first.source_id = a.source_id
JOIN sources AS second ON second.source_id = b.source_id
ORDER BY duplicates.overlap_s DESC, segment_a, segment_b
