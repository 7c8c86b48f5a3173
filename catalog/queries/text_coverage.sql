-- Hours kept, and how many of them have a text, by accent and by where the text comes from.
SELECT
    coalesce(accent, '(none)') AS accent,
    coalesce(text_origin, '(no text)') AS text_origin,
    round(sum(duration_s) / 3600, 3) AS hours,
    count(*) AS clips,
    count(*) FILTER (len(text_flags) > 0) AS flagged,
    round(avg(text_confidence), 3) AS confidence
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY accent, hours DESC, text_origin
