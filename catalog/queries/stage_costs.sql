-- What each stage cost: hours of sound, minutes it took, and minutes per hour of sound.
SELECT
    stage,
    model,
    count(*) AS sources,
    round(sum(audio_seconds) / 3600, 3) AS audio_hours,
    round(sum(seconds) / 60, 2) AS minutes,
    round(60 * sum(seconds) / nullif(sum(audio_seconds), 0), 3) AS minutes_per_hour
FROM stages
GROUP BY ALL
ORDER BY minutes DESC, stage, model
