-- Clips that are not at -23 LUFS within 0.5, or pass -1 dBTP. A quieter clip at -1 dBTP is right: its peak is the limit.
SELECT segment_id, path, round(loudness_lufs, 2) AS loudness_lufs, round(true_peak_dbtp, 2) AS true_peak_dbtp
FROM segments
WHERE
    kept
    AND (
        loudness_lufs IS NULL
        OR loudness_lufs > -22.5
        OR (loudness_lufs < -23.5 AND (true_peak_dbtp IS NULL OR true_peak_dbtp < -1.5))
        OR true_peak_dbtp > -1
    )
ORDER BY segment_id
