-- What was taken down: when, why, and the addresses that are refused since.
SELECT
    source_id, min(removed_at)::DATE AS removed, any_value(reason) AS reason, string_agg(uri, ' ' ORDER BY uri) AS addresses
FROM removals
GROUP BY source_id
ORDER BY removed, source_id
