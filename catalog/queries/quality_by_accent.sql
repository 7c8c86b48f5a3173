-- Quality of what is kept and of what is rejected, by accent: DNSMOS, SNR, bandwidth, the share of hours kept.
SELECT
    coalesce(segments.accent, '(none)') AS accent,
    round(100 * coalesce(sum(segments.duration_s) FILTER (kept), 0) / sum(segments.duration_s), 1) AS percent_kept,
    round(avg(dnsmos_ovrl) FILTER (kept), 2) AS dnsmos_kept,
    round(avg(dnsmos_ovrl) FILTER (NOT kept), 2) AS dnsmos_rejected,
    round(median(snr_db) FILTER (kept), 1) AS snr_db_kept,
    round(median(snr_db) FILTER (NOT kept), 1) AS snr_db_rejected,
    round(median(bandwidth_hz)) AS bandwidth_hz
FROM segments
JOIN sources USING (source_id)
GROUP BY ALL
ORDER BY accent
