-- Recordings that failed, and why. The next `pdid ingest` tries them again.
SELECT source_id, uri, error FROM sources WHERE status = 'failed' ORDER BY uri
