-- Rows whose recording is not in the catalog. A sound catalog gives no row.
SELECT 'address' AS row_of, source_id, count(*) AS n FROM base.address GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'stage' AS row_of, source_id, count(*) AS n FROM base.stage GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'mark' AS row_of, source_id, count(*) AS n FROM base.mark GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'voice' AS row_of, source_id, count(*) AS n FROM base.voice GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'segment' AS row_of, source_id, count(*) AS n FROM base.segment GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'label' AS row_of, source_id, count(*) AS n FROM base.label GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'transcript' AS row_of, source_id, count(*) AS n FROM base.transcript GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'label_hold' AS row_of, source_id, count(*) AS n FROM base.label_hold GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
UNION ALL
SELECT 'fetch' AS row_of, source_id, count(*) AS n FROM base.fetch GROUP BY ALL
HAVING source_id NOT IN (SELECT source_id FROM base.source)
ORDER BY row_of, source_id
