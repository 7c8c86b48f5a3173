-- Tables live in the schema `base`; the public views of the same names, documented in docs/catalog.md,
-- are what queries should use. Times are integer samples at 16 kHz here and seconds in the views.
--
-- There are no foreign keys on purpose: DuckDB checks them against the rows a transaction is about to
-- replace, so a source could not be rewritten whole. Everything of a source is written in one transaction,
-- and the query @orphans shows rows without a source (there are none).
CREATE SCHEMA base;

CREATE TABLE base.migration (
    version INTEGER PRIMARY KEY CHECK (version > 0),
    name VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

CREATE TABLE base.source (
    source_id VARCHAR PRIMARY KEY CHECK (regexp_full_match(source_id, '[0-9a-f]{16}')),
    uri VARCHAR NOT NULL CHECK (uri <> ''),
    sha256 VARCHAR CHECK (regexp_full_match(sha256, '[0-9a-f]{64}') AND starts_with(sha256, source_id)),
    title VARCHAR,
    accent VARCHAR CHECK (accent <> ''),
    speaker VARCHAR CHECK (speaker <> ''),
    language VARCHAR CHECK (language <> ''),
    licence VARCHAR CHECK (licence <> ''),
    channel VARCHAR,
    uploaded_at TIMESTAMP,
    n_samples BIGINT CHECK (n_samples >= 0),
    sample_rate INTEGER CHECK (sample_rate > 0),
    channels INTEGER CHECK (channels > 0),
    codec VARCHAR,
    bandwidth_hz DOUBLE CHECK (bandwidth_hz >= 0 AND isfinite(bandwidth_hz)),
    lost_packets INTEGER NOT NULL CHECK (lost_packets >= 0),
    status VARCHAR NOT NULL CHECK (status IN ('pending', 'done', 'failed')),
    error VARCHAR CHECK (error <> ''),
    extra MAP (VARCHAR, VARCHAR) NOT NULL,
    CHECK ((status = 'failed') = (error IS NOT NULL)),
    CHECK (status <> 'done' OR (sha256 IS NOT NULL AND n_samples IS NOT NULL AND sample_rate IS NOT NULL))
);

CREATE TABLE base.address (
    uri VARCHAR PRIMARY KEY CHECK (uri <> ''),
    source_id VARCHAR NOT NULL,
    size_bytes BIGINT CHECK (size_bytes >= 0),
    mtime_ns BIGINT
);

CREATE TABLE base.stage (
    source_id VARCHAR NOT NULL,
    stage VARCHAR NOT NULL CHECK (
        stage IN ('decode', 'music', 'separate', 'vad', 'diarize', 'segment', 'loudness', 'quality')
    ),
    seconds DOUBLE NOT NULL CHECK (seconds >= 0),
    audio_seconds DOUBLE NOT NULL CHECK (audio_seconds >= 0),
    config_hash VARCHAR NOT NULL CHECK (config_hash <> ''),
    model VARCHAR NOT NULL,
    finished_at TIMESTAMP NOT NULL,
    PRIMARY KEY (source_id, stage)
);

CREATE TABLE base.mark (
    source_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind <> ''),
    start_sample BIGINT NOT NULL CHECK (start_sample >= 0),
    end_sample BIGINT NOT NULL,
    label VARCHAR NOT NULL,
    score DOUBLE CHECK (isfinite(score)),
    CHECK (start_sample < end_sample)
);

CREATE TABLE base.voice (
    speaker_id VARCHAR NOT NULL CHECK (speaker_id <> ''),
    source_id VARCHAR NOT NULL,
    embedding FLOAT[] NOT NULL CHECK (len(embedding) > 0),
    PRIMARY KEY (speaker_id, source_id)
);

CREATE TABLE base.segment (
    segment_id VARCHAR PRIMARY KEY CHECK (segment_id <> ''),
    source_id VARCHAR NOT NULL,
    speaker_id VARCHAR CHECK (speaker_id <> ''),
    start_sample BIGINT NOT NULL CHECK (start_sample >= 0),
    end_sample BIGINT NOT NULL,
    kept BOOLEAN NOT NULL,
    reject_reason VARCHAR CHECK (
        reject_reason IN (
            'silence', 'music', 'not_speech', 'music_unseparated', 'overlap', 'unsure_speaker',
            'too_short', 'no_pause', 'quiet', 'clipped', 'noisy', 'low_quality'
        )
    ),
    path VARCHAR CHECK (path <> '' AND NOT starts_with(path, '/') AND NOT contains(path, '..')),
    gain_db DOUBLE CHECK (isfinite(gain_db)),
    loudness_lufs DOUBLE CHECK (isfinite(loudness_lufs)),
    true_peak_dbtp DOUBLE CHECK (isfinite(true_peak_dbtp)),
    snr_db DOUBLE CHECK (isfinite(snr_db)),
    clipped_share DOUBLE CHECK (clipped_share BETWEEN 0 AND 1),
    dnsmos_sig DOUBLE CHECK (isfinite(dnsmos_sig)),
    dnsmos_bak DOUBLE CHECK (isfinite(dnsmos_bak)),
    dnsmos_ovrl DOUBLE CHECK (isfinite(dnsmos_ovrl)),
    dnsmos_ovrl_mix DOUBLE CHECK (isfinite(dnsmos_ovrl_mix)),
    music_share DOUBLE CHECK (music_share BETWEEN 0 AND 1),
    separated BOOLEAN NOT NULL,
    CHECK (start_sample < end_sample),
    CHECK (kept = (reject_reason IS NULL)),
    CHECK (kept = (path IS NOT NULL)),
    CHECK (NOT kept OR speaker_id IS NOT NULL),
    CHECK (NOT kept OR end_sample - start_sample BETWEEN 3 * 16000 AND 30 * 16000)
);

CREATE TABLE base.transcript (
    segment_id VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    language VARCHAR CHECK (language <> ''),
    origin VARCHAR NOT NULL CHECK (origin <> ''),
    model VARCHAR,
    confidence DOUBLE CHECK (confidence BETWEEN 0 AND 1),
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE base.split (
    split_name VARCHAR PRIMARY KEY CHECK (split_name <> ''),
    position INTEGER NOT NULL UNIQUE CHECK (position > 0),
    seed BIGINT,
    settings JSON NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE base.split_member (
    split_name VARCHAR NOT NULL,
    segment_id VARCHAR NOT NULL,
    split VARCHAR NOT NULL CHECK (split IN ('train', 'dev', 'test')),
    PRIMARY KEY (split_name, segment_id)
);

CREATE TABLE base.run (
    run_id VARCHAR PRIMARY KEY CHECK (run_id <> ''),
    experiment_id VARCHAR NOT NULL CHECK (experiment_id <> ''),
    arm VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    model VARCHAR NOT NULL,
    config JSON NOT NULL,
    metrics JSON NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE base.prediction (
    run_id VARCHAR NOT NULL,
    segment_id VARCHAR NOT NULL,
    reference VARCHAR NOT NULL,
    hypothesis VARCHAR NOT NULL,
    errors INTEGER NOT NULL CHECK (errors >= 0),
    PRIMARY KEY (run_id, segment_id)
);

CREATE VIEW sources AS
SELECT
    source_id, uri, title, accent, speaker, language, licence, channel, uploaded_at,
    n_samples / 16000.0::DOUBLE AS duration_s,
    sample_rate, channels, codec, bandwidth_hz, lost_packets, sha256, status, error, extra
FROM base.source;

CREATE VIEW segments AS
WITH newest_split AS (
    SELECT segment_id, split
    FROM base.split_member
    WHERE split_name = (SELECT split_name FROM base.split ORDER BY position DESC LIMIT 1)
),
newest_text AS (
    SELECT
        segment_id,
        arg_max(struct_pack(text := text, language := language, origin := origin), created_at) AS newest
    FROM base.transcript
    GROUP BY segment_id
)
SELECT
    segment_id, source_id, speaker_id, source.accent,
    start_sample / 16000.0::DOUBLE AS start_s,
    end_sample / 16000.0::DOUBLE AS end_s,
    (end_sample - start_sample) / 16000.0::DOUBLE AS duration_s,
    path,
    coalesce(newest.language, source.language) AS language,
    newest.text AS text,
    newest.origin AS text_origin,
    kept, reject_reason, gain_db, loudness_lufs, true_peak_dbtp, snr_db, clipped_share,
    dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_ovrl_mix, music_share, separated, split
FROM base.segment
JOIN base.source USING (source_id)
LEFT JOIN newest_text USING (segment_id)
LEFT JOIN newest_split USING (segment_id);

CREATE VIEW speakers AS
WITH heard AS (
    SELECT speaker_id, source_id FROM base.voice
    UNION
    SELECT speaker_id, source_id FROM base.segment WHERE speaker_id IS NOT NULL
),
clips AS (
    SELECT speaker_id, source_id, count(*) AS n_segments, sum(end_sample - start_sample) AS n_samples
    FROM base.segment
    WHERE kept
    GROUP BY speaker_id, source_id
)
SELECT
    speaker_id,
    min(accent) AS accent,
    count(*) AS n_sources,
    coalesce(sum(clips.n_segments), 0)::BIGINT AS n_segments,
    coalesce(sum(clips.n_samples), 0) / (16000.0::DOUBLE * 3600) AS hours
FROM heard
JOIN base.source USING (source_id)
LEFT JOIN clips USING (speaker_id, source_id)
GROUP BY speaker_id;

CREATE VIEW stages AS
SELECT source_id, stage, seconds, audio_seconds, config_hash, model, finished_at FROM base.stage;

CREATE VIEW splits AS
SELECT split_name, segment_id, split, seed, created_at FROM base.split_member JOIN base.split USING (split_name);

CREATE VIEW runs AS
SELECT run_id, experiment_id, arm, seed, model, config, metrics, created_at FROM base.run;

CREATE VIEW predictions AS
SELECT run_id, segment_id, reference, hypothesis, errors FROM base.prediction;

COMMENT ON VIEW sources IS 'One row per recording; the same bytes at two addresses are one recording.';
COMMENT ON COLUMN sources.source_id IS 'First 16 hex digits of the SHA-256 of the bytes, or of the address where no bytes could be read';
COMMENT ON COLUMN sources.uri IS 'Where the recording was found: a file, or an address';
COMMENT ON COLUMN sources.title IS 'From the sources file, else from the media';
COMMENT ON COLUMN sources.accent IS 'The accent''s name in the taxonomy, or the label as written';
COMMENT ON COLUMN sources.speaker IS 'From the sources file: who speaks';
COMMENT ON COLUMN sources.language IS 'From the sources file: the language spoken';
COMMENT ON COLUMN sources.licence IS 'From the sources file: what the recording may be used for';
COMMENT ON COLUMN sources.channel IS 'Who published the recording';
COMMENT ON COLUMN sources.uploaded_at IS 'When it was published, UTC';
COMMENT ON COLUMN sources.duration_s IS 'Seconds of sound that were decoded (samples counted, not the container''s word)';
COMMENT ON COLUMN sources.sample_rate IS 'Hz, of the media';
COMMENT ON COLUMN sources.channels IS 'Channels of the media: 1 mono, 2 stereo, 6 for 5.1';
COMMENT ON COLUMN sources.codec IS 'How the sound is coded in the media, in ffmpeg''s words';
COMMENT ON COLUMN sources.bandwidth_hz IS 'Hz; the highest frequency with sound in it, measured on the media';
COMMENT ON COLUMN sources.lost_packets IS 'Damaged packets that were skipped while decoding';
COMMENT ON COLUMN sources.sha256 IS 'SHA-256 of the bytes, in hex; empty where they could not be read';
COMMENT ON COLUMN sources.status IS 'done, failed (see error) or pending';
COMMENT ON COLUMN sources.error IS 'Why it failed';
COMMENT ON COLUMN sources.extra IS 'Further columns of the sources file, as they are: extra[''name'']';

COMMENT ON VIEW segments IS 'One row per piece of a recording, kept or rejected.';
COMMENT ON COLUMN segments.segment_id IS 'Made from the source, start, end and the settings that made the piece';
COMMENT ON COLUMN segments.source_id IS 'The recording it was cut from';
COMMENT ON COLUMN segments.speaker_id IS 'Who speaks; empty where nobody, or not one person, does';
COMMENT ON COLUMN segments.accent IS 'The recording''s accent';
COMMENT ON COLUMN segments.start_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN segments.end_s IS 'Seconds from the start of the recording';
COMMENT ON COLUMN segments.duration_s IS 'Seconds; 3 to 30 for kept pieces';
COMMENT ON COLUMN segments.path IS 'The clip, relative to the corpus folder: WAV, 16 kHz, mono, 16 bit; kept pieces only';
COMMENT ON COLUMN segments.language IS 'The newest transcript''s language, else the recording''s';
COMMENT ON COLUMN segments.text IS 'The newest transcript, verbatim';
COMMENT ON COLUMN segments.text_origin IS 'Where the transcript comes from';
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

COMMENT ON VIEW speakers IS 'One row per speaker that was told apart.';
COMMENT ON COLUMN speakers.speaker_id IS 'The speaker';
COMMENT ON COLUMN speakers.accent IS 'The accent of the speaker''s recordings; where they differ, the first in the alphabet';
COMMENT ON COLUMN speakers.n_sources IS 'Recordings the speaker is heard in';
COMMENT ON COLUMN speakers.n_segments IS 'Kept pieces';
COMMENT ON COLUMN speakers.hours IS 'Hours of kept pieces';

COMMENT ON VIEW stages IS 'One row per stage that ran on a recording: what it cost, and with which settings.';
COMMENT ON COLUMN stages.source_id IS 'The recording';
COMMENT ON COLUMN stages.stage IS 'decode, music, separate, vad, diarize, segment, loudness or quality';
COMMENT ON COLUMN stages.seconds IS 'Seconds the stage took';
COMMENT ON COLUMN stages.audio_seconds IS 'Seconds of sound it worked on';
COMMENT ON COLUMN stages.config_hash IS 'Hash of the settings and model that made the result; another one redoes the stage';
COMMENT ON COLUMN stages.model IS 'The model, empty for stages without one';
COMMENT ON COLUMN stages.finished_at IS 'When it finished, UTC';

COMMENT ON VIEW splits IS 'One row per piece in a split; a written split never changes.';
COMMENT ON COLUMN splits.split_name IS 'Its name; unnamed ones are split-1, split-2, …';
COMMENT ON COLUMN splits.segment_id IS 'The piece';
COMMENT ON COLUMN splits.split IS 'train, dev or test';
COMMENT ON COLUMN splits.seed IS 'The random seed it was drawn with';
COMMENT ON COLUMN splits.created_at IS 'When it was written, UTC';

COMMENT ON VIEW runs IS 'One row per cell of a benchmark.';
COMMENT ON COLUMN runs.run_id IS 'The run';
COMMENT ON COLUMN runs.experiment_id IS 'The benchmark it belongs to; its report lies in `runs/<experiment_id>/`';
COMMENT ON COLUMN runs.arm IS 'Which of the compared trainings';
COMMENT ON COLUMN runs.seed IS 'The random seed';
COMMENT ON COLUMN runs.model IS 'The model that was trained or asked';
COMMENT ON COLUMN runs.config IS 'All settings, JSON';
COMMENT ON COLUMN runs.metrics IS 'The results, JSON';
COMMENT ON COLUMN runs.created_at IS 'When it was written, UTC';

COMMENT ON VIEW predictions IS 'What a run said to each clip.';
COMMENT ON COLUMN predictions.run_id IS 'The run';
COMMENT ON COLUMN predictions.segment_id IS 'The piece, or the content hash of a clip that comes from a data set';
COMMENT ON COLUMN predictions.reference IS 'The true text';
COMMENT ON COLUMN predictions.hypothesis IS 'What the model heard';
COMMENT ON COLUMN predictions.errors IS 'Wrong words: substituted, left out or added';
