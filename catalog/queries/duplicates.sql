-- Files with the same bytes: recordings that were found at more than one address.
SELECT source_id, count(*) AS addresses, list(uri ORDER BY uri) AS uris
FROM base.address
GROUP BY source_id
HAVING count(*) > 1
ORDER BY source_id
