-- Who says what of a recording: accents, texts, speakers across recordings, near-duplicates, exports.
--
-- What people say is anchored to the recording's own time, so it outlives a segmentation. What follows from it for
-- each piece of today's segmentation lies in base.resolved, which catalog/resolve.py makes anew, by recording, in the
-- transaction that changes anything it follows from.
ALTER TABLE base.source ADD COLUMN accent_raw VARCHAR;
ALTER TABLE base.source ADD COLUMN accent_at TIMESTAMP;
UPDATE base.source SET
    accent_raw = accent,
    accent_at = (SELECT min(finished_at) FROM base.stage WHERE stage.source_id = source.source_id)
WHERE accent IS NOT NULL;

CREATE TABLE base.label (
    label_id VARCHAR PRIMARY KEY CHECK (label_id <> ''),
    source_id VARCHAR NOT NULL,
    scope VARCHAR NOT NULL CHECK (scope IN ('source', 'speaker', 'segment')),
    start_sample BIGINT CHECK (start_sample >= 0),
    end_sample BIGINT,
    raw VARCHAR NOT NULL CHECK (raw <> ''),
    accent VARCHAR NOT NULL CHECK (accent <> ''),
    origin VARCHAR NOT NULL CHECK (origin IN ('source metadata', 'speaker metadata', 'annotator', 'classifier')),
    author VARCHAR NOT NULL,
    confidence DOUBLE CHECK (confidence BETWEEN 0 AND 1),
    created_at TIMESTAMP NOT NULL,
    CHECK ((scope = 'source') = (start_sample IS NULL)),
    CHECK ((start_sample IS NULL) = (end_sample IS NULL)),
    CHECK (start_sample < end_sample)
);

DROP TABLE base.transcript;
CREATE TABLE base.transcript (
    transcript_id VARCHAR PRIMARY KEY CHECK (transcript_id <> ''),
    source_id VARCHAR NOT NULL,
    start_sample BIGINT NOT NULL CHECK (start_sample >= 0),
    end_sample BIGINT NOT NULL,
    text VARCHAR NOT NULL,
    language VARCHAR CHECK (language <> ''),
    origin VARCHAR NOT NULL CHECK (origin IN ('human', 'imported', 'subtitle') OR starts_with(origin, 'model:')),
    model VARCHAR,
    confidence DOUBLE CHECK (confidence BETWEEN 0 AND 1),
    flags VARCHAR[] NOT NULL,
    created_at TIMESTAMP NOT NULL,
    CHECK (start_sample < end_sample)
);

-- which labels hold for which pieces, the less specific and the less trusted ones too
CREATE TABLE base.label_hold (
    segment_id VARCHAR NOT NULL,
    source_id VARCHAR NOT NULL,
    label_id VARCHAR NOT NULL,
    PRIMARY KEY (segment_id, label_id)
);

CREATE TABLE base.resolved (
    segment_id VARCHAR PRIMARY KEY,
    source_id VARCHAR NOT NULL,
    accent VARCHAR,
    accent_origin VARCHAR,
    text VARCHAR,
    text_language VARCHAR,
    text_origin VARCHAR,
    text_confidence DOUBLE,
    text_flags VARCHAR[]
);
INSERT INTO base.resolved
SELECT
    segment_id, source_id, source.accent, CASE WHEN source.accent IS NOT NULL THEN 'source metadata' END,
    NULL, NULL, NULL, NULL, NULL
FROM base.segment JOIN base.source USING (source_id);

CREATE TABLE base.link (
    local_id VARCHAR PRIMARY KEY CHECK (local_id <> ''),
    speaker_id VARCHAR NOT NULL CHECK (speaker_id <> '')
);

CREATE TABLE base.link_rule (
    rule_id VARCHAR PRIMARY KEY CHECK (rule_id <> ''),
    kind VARCHAR NOT NULL CHECK (kind IN ('same', 'different')),
    source_a VARCHAR NOT NULL,
    start_a BIGINT NOT NULL CHECK (start_a >= 0),
    end_a BIGINT NOT NULL,
    source_b VARCHAR NOT NULL,
    start_b BIGINT NOT NULL CHECK (start_b >= 0),
    end_b BIGINT NOT NULL,
    author VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    CHECK (start_a < end_a),
    CHECK (start_b < end_b)
);

CREATE TABLE base.fingerprint (
    segment_id VARCHAR PRIMARY KEY,
    method VARCHAR NOT NULL CHECK (method <> ''),
    hashes UINTEGER[] NOT NULL
);

CREATE TABLE base.duplicate (
    segment_a VARCHAR NOT NULL,
    segment_b VARCHAR NOT NULL,
    overlap_s DOUBLE NOT NULL CHECK (overlap_s > 0),
    score DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1),
    PRIMARY KEY (segment_a, segment_b),
    CHECK (segment_a < segment_b)
);

CREATE TABLE base.export (
    export_id VARCHAR PRIMARY KEY CHECK (export_id <> ''),
    format VARCHAR NOT NULL CHECK (format <> ''),
    path VARCHAR NOT NULL CHECK (path <> ''),
    settings JSON NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE base.export_source (
    export_id VARCHAR NOT NULL,
    source_id VARCHAR NOT NULL,
    n_clips INTEGER NOT NULL CHECK (n_clips > 0),
    PRIMARY KEY (export_id, source_id)
);

CREATE OR REPLACE VIEW segments AS
WITH newest_split AS (
    SELECT segment_id, split
    FROM base.split_member
    WHERE split_name = (SELECT split_name FROM base.split ORDER BY position DESC LIMIT 1)
)
SELECT
    segment_id, segment.source_id,
    coalesce(link.speaker_id, segment.speaker_id) AS speaker_id,
    segment.speaker_id AS local_speaker_id,
    resolved.accent, resolved.accent_origin,
    start_sample / 16000.0::DOUBLE AS start_s,
    end_sample / 16000.0::DOUBLE AS end_s,
    (end_sample - start_sample) / 16000.0::DOUBLE AS duration_s,
    path,
    coalesce(resolved.text_language, source.language) AS language,
    resolved.text, resolved.text_origin, resolved.text_confidence, resolved.text_flags,
    kept, reject_reason, gain_db, loudness_lufs, true_peak_dbtp, snr_db, clipped_share,
    dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_ovrl_mix, music_share, separated, split
FROM base.segment
JOIN base.source USING (source_id)
LEFT JOIN base.resolved USING (segment_id)
LEFT JOIN base.link ON link.local_id = segment.speaker_id
LEFT JOIN newest_split USING (segment_id);

CREATE OR REPLACE VIEW speakers AS
WITH heard AS (
    SELECT speaker_id AS local_id, source_id FROM base.voice
    UNION
    SELECT speaker_id, source_id FROM base.segment WHERE speaker_id IS NOT NULL
),
clips AS (
    SELECT
        speaker_id AS local_id, segment.source_id, count(*) AS n_segments,
        sum(end_sample - start_sample) AS n_samples, min(resolved.accent) AS accent
    FROM base.segment
    LEFT JOIN base.resolved USING (segment_id)
    WHERE kept
    GROUP BY speaker_id, segment.source_id
)
SELECT
    coalesce(link.speaker_id, heard.local_id) AS speaker_id,
    min(coalesce(clips.accent, source.accent)) AS accent,
    count(DISTINCT heard.source_id) AS n_sources,
    coalesce(sum(clips.n_segments), 0)::BIGINT AS n_segments,
    coalesce(sum(clips.n_samples), 0) / (16000.0::DOUBLE * 3600) AS hours,
    list(heard.local_id ORDER BY heard.local_id) AS local_speaker_ids
FROM heard
JOIN base.source USING (source_id)
LEFT JOIN clips ON clips.local_id = heard.local_id AND clips.source_id = heard.source_id
LEFT JOIN base.link ON link.local_id = heard.local_id
GROUP BY coalesce(link.speaker_id, heard.local_id);

CREATE VIEW labels AS
SELECT
    label_id, source_id, scope, start_sample / 16000.0::DOUBLE AS start_s, end_sample / 16000.0::DOUBLE AS end_s,
    raw, accent, origin, author, confidence, created_at
FROM base.label
UNION ALL
SELECT source_id, source_id, 'source', NULL, NULL, coalesce(accent_raw, accent), accent, 'source metadata', '', NULL, accent_at
FROM base.source
WHERE accent IS NOT NULL;

CREATE VIEW transcripts AS
SELECT
    transcript_id, source_id, start_sample / 16000.0::DOUBLE AS start_s, end_sample / 16000.0::DOUBLE AS end_s,
    text, language, origin, model, confidence, flags, created_at
FROM base.transcript;

CREATE VIEW duplicates AS SELECT segment_a, segment_b, overlap_s, score FROM base.duplicate;

CREATE VIEW marks AS
SELECT
    source_id, kind, start_sample / 16000.0::DOUBLE AS start_s, end_sample / 16000.0::DOUBLE AS end_s,
    nullif(label, '') AS label, score
FROM base.mark;

CREATE VIEW exports AS
SELECT export_id, format, path, source_id, n_clips, settings, created_at
FROM base.export JOIN base.export_source USING (export_id);

COMMENT ON VIEW segments IS 'One row per piece of a recording, kept or rejected.';
COMMENT ON COLUMN segments.segment_id IS 'Made from the source, start, end and the settings that made the piece';
COMMENT ON COLUMN segments.source_id IS 'The recording it was cut from';
COMMENT ON COLUMN segments.speaker_id IS 'Who speaks, the same in all recordings; empty where nobody, or not one person, does';
COMMENT ON COLUMN segments.local_speaker_id IS 'Who speaks, as told apart within the recording';
COMMENT ON COLUMN segments.accent IS 'The accent by the most specific label: of the piece, of its speaker, of the recording';
COMMENT ON COLUMN segments.accent_origin IS 'Who says so: annotator, speaker metadata, source metadata or classifier';
COMMENT ON COLUMN segments.start_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN segments.end_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN segments.duration_s IS 'Seconds; 3 to 30 for kept pieces';
COMMENT ON COLUMN segments.path IS 'The clip, relative to the corpus folder: WAV, 16 kHz, mono, 16 bit; kept pieces only';
COMMENT ON COLUMN segments.language IS 'The transcript''s language, else the recording''s';
COMMENT ON COLUMN segments.text IS 'The best transcript, verbatim: by people, else imported, from subtitles, by a model';
COMMENT ON COLUMN segments.text_origin IS 'Where it comes from: human, imported, subtitle or model:NAME';
COMMENT ON COLUMN segments.text_confidence IS 'How sure its origin is of it, 0 to 1';
COMMENT ON COLUMN segments.text_flags IS 'What speaks against it: loop, language';
COMMENT ON COLUMN segments.kept IS 'Whether the piece is in the corpus';
COMMENT ON COLUMN segments.reject_reason IS 'Why it is not: a closed list, see below; empty for kept pieces';
COMMENT ON COLUMN segments.gain_db IS 'dB added to reach the wanted loudness';
COMMENT ON COLUMN segments.loudness_lufs IS 'LUFS; integrated loudness of the clip as written (ITU-R BS.1770-4)';
COMMENT ON COLUMN segments.true_peak_dbtp IS 'dBTP; true peak of the clip as written';
COMMENT ON COLUMN segments.snr_db IS 'dB; signal-to-noise ratio; empty where it can''t be measured';
COMMENT ON COLUMN segments.clipped_share IS 'Share of the samples at full scale, 0 to 1';
COMMENT ON COLUMN segments.dnsmos_sig IS 'DNSMOS P.835 score of the speech, 1 to 5';
COMMENT ON COLUMN segments.dnsmos_bak IS 'DNSMOS P.835 score of the background, 1 to 5';
COMMENT ON COLUMN segments.dnsmos_ovrl IS 'DNSMOS P.835 overall score, 1 to 5';
COMMENT ON COLUMN segments.dnsmos_ovrl_mix IS 'The overall score before separation; empty where nothing was separated';
COMMENT ON COLUMN segments.music_share IS 'Share of the piece with music in it at the source, 0 to 1';
COMMENT ON COLUMN segments.separated IS 'Whether the voice was separated from the music';
COMMENT ON COLUMN segments.split IS 'train, dev or test in the newest split';

COMMENT ON VIEW speakers IS 'One row per speaker, over all recordings.';
COMMENT ON COLUMN speakers.speaker_id IS 'The speaker: named after the first of its voices';
COMMENT ON COLUMN speakers.accent IS 'The accent of the speaker''s clips; where they differ, the first in the alphabet';
COMMENT ON COLUMN speakers.n_sources IS 'Recordings the speaker is heard in';
COMMENT ON COLUMN speakers.n_segments IS 'Kept pieces';
COMMENT ON COLUMN speakers.hours IS 'Hours of kept pieces';
COMMENT ON COLUMN speakers.local_speaker_ids IS 'The speaker as told apart within each recording';

COMMENT ON VIEW labels IS 'One row per thing said of an accent.';
COMMENT ON COLUMN labels.label_id IS 'The label';
COMMENT ON COLUMN labels.source_id IS 'The recording it is about';
COMMENT ON COLUMN labels.scope IS 'What it is about: source (all of it), speaker (whoever speaks in the stretch) or segment (the stretch)';
COMMENT ON COLUMN labels.start_s IS 'Seconds from the start of the recording; empty for all of it';
COMMENT ON COLUMN labels.end_s IS 'Seconds from the start of the recording; empty for all of it';
COMMENT ON COLUMN labels.raw IS 'The label as it was written';
COMMENT ON COLUMN labels.accent IS 'The accent''s name in the taxonomy, or the label as written';
COMMENT ON COLUMN labels.origin IS 'Who says so: annotator, speaker metadata, source metadata or classifier';
COMMENT ON COLUMN labels.author IS 'The annotator''s name, the classifier''s, or the file''s';
COMMENT ON COLUMN labels.confidence IS 'How sure, 0 to 1; empty where nothing is said';
COMMENT ON COLUMN labels.created_at IS 'When it was said, UTC';

COMMENT ON VIEW transcripts IS 'One row per text of a stretch of a recording; none is ever overwritten.';
COMMENT ON COLUMN transcripts.transcript_id IS 'The transcript';
COMMENT ON COLUMN transcripts.source_id IS 'The recording';
COMMENT ON COLUMN transcripts.start_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN transcripts.end_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN transcripts.text IS 'What is said, verbatim; empty where nothing is';
COMMENT ON COLUMN transcripts.language IS 'The language of the text';
COMMENT ON COLUMN transcripts.origin IS 'human, imported, subtitle or model:NAME';
COMMENT ON COLUMN transcripts.model IS 'The model with its version; the file''s name for imported text, the annotator''s for corrected text';
COMMENT ON COLUMN transcripts.confidence IS 'How sure, 0 to 1; empty where nothing is said';
COMMENT ON COLUMN transcripts.flags IS 'What speaks against it: loop (the model repeated itself), language (another one was heard)';
COMMENT ON COLUMN transcripts.created_at IS 'When it was written, UTC';

COMMENT ON VIEW duplicates IS 'One row per pair of kept pieces with the same sound in them.';
COMMENT ON COLUMN duplicates.segment_a IS 'A piece';
COMMENT ON COLUMN duplicates.segment_b IS 'Another';
COMMENT ON COLUMN duplicates.overlap_s IS 'Seconds of sound they share';
COMMENT ON COLUMN duplicates.score IS 'How alike that sound is, 0 to 1';

COMMENT ON VIEW marks IS 'One row per finding of a stage about a stretch of a recording.';
COMMENT ON COLUMN marks.source_id IS 'The recording';
COMMENT ON COLUMN marks.kind IS 'music, music_alone, speech, separated, turn, overlap or unsure (who speaks)';
COMMENT ON COLUMN marks.start_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN marks.end_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN marks.label IS 'Of a turn: the speaker, as told apart within the recording; else empty';
COMMENT ON COLUMN marks.score IS 'The stage''s own score, 0 to 1, where it gives one';

COMMENT ON VIEW exports IS 'One row per recording in each export.';
COMMENT ON COLUMN exports.export_id IS 'The export';
COMMENT ON COLUMN exports.format IS 'audiofolder, parquet, nemo, lhotse, kaldi, webdataset, rttm, audacity or metadata';
COMMENT ON COLUMN exports.path IS 'Where it was written';
COMMENT ON COLUMN exports.source_id IS 'A recording with clips in it';
COMMENT ON COLUMN exports.n_clips IS 'How many';
COMMENT ON COLUMN exports.settings IS 'What was asked for, JSON';
COMMENT ON COLUMN exports.created_at IS 'When it was written, UTC';
