-- Pieces whose labels disagree: what is said of them, by whom, and which accent holds. The most specific label holds.
WITH said AS MATERIALIZED (
    SELECT label_hold.segment_id, label.accent, scope, origin, author, confidence
    FROM base.label_hold JOIN base.label USING (label_id)
    UNION ALL
    SELECT segment_id, source.accent, 'source', 'source metadata', '', NULL
    FROM base.segment JOIN base.source USING (source_id)
    WHERE source.accent IS NOT NULL AND source_id IN (SELECT source_id FROM base.label)
),
clash AS (
    SELECT segment_id FROM said GROUP BY segment_id HAVING min(accent) <> max(accent)
),
disputed AS (
    SELECT
        segment_id,
        list(
            accent || ' (' || scope || ', ' || origin || if(author = '', '', ', ' || author)
            || if(confidence IS NULL, '', ', ' || round(confidence, 2)) || ')'
            ORDER BY
                list_position(['segment', 'speaker', 'source'], scope),
                list_position(['annotator', 'speaker metadata', 'source metadata', 'classifier'], origin), author
        ) AS labels
    FROM said
    SEMI JOIN clash USING (segment_id)
    GROUP BY segment_id
)
SELECT
    segment_id, segments.source_id, start_s, end_s, segments.kept, segments.accent, segments.accent_origin, labels
FROM disputed
JOIN segments USING (segment_id)
ORDER BY segments.source_id, start_s
