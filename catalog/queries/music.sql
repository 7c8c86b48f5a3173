-- Music by recording: minutes of pure music, of speech over music that was rejected, and of clips that were separated.
SELECT
    source_id,
    coalesce(title, uri) AS recording,
    round(coalesce(sum(segments.duration_s) FILTER (reject_reason = 'music'), 0) / 60, 1) AS music_min,
    round(coalesce(sum(segments.duration_s) FILTER (reject_reason = 'music_unseparated'), 0) / 60, 1) AS rejected_min,
    round(coalesce(sum(segments.duration_s) FILTER (kept AND separated), 0) / 60, 1) AS separated_min,
    round(avg(dnsmos_ovrl - dnsmos_ovrl_mix) FILTER (kept AND separated), 2) AS dnsmos_gain
FROM segments
JOIN sources USING (source_id)
GROUP BY ALL
HAVING music_min + rejected_min + separated_min > 0
ORDER BY music_min + rejected_min + separated_min DESC, source_id
