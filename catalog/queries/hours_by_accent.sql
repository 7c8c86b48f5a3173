-- Hours kept, with clips, speakers and recordings, by accent.
SELECT
    coalesce(accent, '(none)') AS accent,
    round(sum(duration_s) / 3600, 3) AS hours,
    count(*) AS clips,
    count(DISTINCT speaker_id) AS speakers,
    count(DISTINCT source_id) AS sources
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY hours DESC, accent
