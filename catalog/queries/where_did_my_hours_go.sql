-- Where the hours of each accent went: kept, or rejected and why, with the share of the accent's total.
WITH outcomes AS (
    SELECT
        coalesce(accent, '(none)') AS accent,
        coalesce(reject_reason, 'kept') AS outcome,
        sum(duration_s) AS seconds,
        count(*) AS pieces
    FROM segments
    GROUP BY ALL
)
SELECT
    accent,
    outcome,
    round(seconds / 3600, 3) AS hours,
    round(100 * seconds / sum(seconds) OVER (PARTITION BY accent), 1) AS percent,
    pieces
FROM outcomes
ORDER BY accent, seconds DESC, outcome
