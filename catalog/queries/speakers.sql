-- Speakers with their accent, recordings, clips and minutes, the longest first.
SELECT speaker_id, accent, n_sources AS sources, n_segments AS clips, round(60 * hours, 1) AS minutes
FROM speakers
ORDER BY hours DESC, speaker_id
