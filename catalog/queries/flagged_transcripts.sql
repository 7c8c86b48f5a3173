-- Texts with something against them: a model that repeated itself (loop), another language or script (language).
SELECT uri, start_s, end_s, flags, origin, model, round(confidence, 3) AS confidence, transcripts.language, text
FROM transcripts JOIN sources USING (source_id)
WHERE len(flags) > 0
ORDER BY uri, start_s, created_at
