-- For catalogs of millions of pieces: what is settled of a piece lies in its own row, so that a question reads the
-- columns it names and joins nothing else.
--
-- catalog/resolve.py settles these columns as it did base.resolved. `split` is the piece's side in the newest split,
-- which is written once, when that is. The flags are a list in DuckDB's own notation: a column of lists can't be
-- updated in place. Speakers are joined still, for linking names all of them anew, and so are downloads; grouped by its
-- key, a join whose columns nobody asks for is left out by DuckDB, which does not look at primary keys for that.
ALTER TABLE base.segment ADD COLUMN accent VARCHAR;
ALTER TABLE base.segment ADD COLUMN accent_origin VARCHAR;
ALTER TABLE base.segment ADD COLUMN language VARCHAR;
ALTER TABLE base.segment ADD COLUMN text VARCHAR;
ALTER TABLE base.segment ADD COLUMN text_origin VARCHAR;
ALTER TABLE base.segment ADD COLUMN text_confidence DOUBLE;
ALTER TABLE base.segment ADD COLUMN text_flags VARCHAR;
ALTER TABLE base.segment ADD COLUMN split VARCHAR;
UPDATE base.segment SET
    accent = settled.accent, accent_origin = settled.accent_origin, language = settled.language, text = settled.text,
    text_origin = settled.text_origin, text_confidence = settled.text_confidence, text_flags = settled.text_flags,
    split = settled.split
FROM (
    SELECT
        segment_id, resolved.accent, resolved.accent_origin, coalesce(text_language, source.language) AS language,
        resolved.text, resolved.text_origin, resolved.text_confidence, resolved.text_flags::VARCHAR AS text_flags,
        member.split
    FROM base.segment
    JOIN base.source USING (source_id)
    LEFT JOIN base.resolved USING (segment_id)
    LEFT JOIN (
        SELECT segment_id, split FROM base.split_member
        WHERE split_name = (SELECT split_name FROM base.split ORDER BY position DESC LIMIT 1)
    ) AS member USING (segment_id)
) AS settled
WHERE segment.segment_id = settled.segment_id;
DROP TABLE base.resolved;

CREATE OR REPLACE VIEW sources AS
SELECT
    source_id, uri, title, accent, speaker, language, licence, channel, uploaded_at,
    n_samples / 16000.0::DOUBLE AS duration_s,
    sample_rate, channels, codec, bandwidth_hz, lost_packets, sha256, status, error, extra,
    newest.site, newest.site_id, newest.channel_id, newest.fetched_at, newest.announced_s, newest.lost_s,
    CASE
        WHEN newest.announced_s > 0
        THEN abs(newest.announced_s - n_samples / 16000.0::DOUBLE) > greatest(2, 0.01::DOUBLE * newest.announced_s)
    END AS length_differs,
    newest.tool AS fetched_with
FROM base.source
LEFT JOIN (
    SELECT
        source_id,
        first(
            struct_pack(
                site := site, site_id := site_id, channel_id := channel_id, fetched_at := fetched_at,
                announced_s := announced_s, lost_s := lost_s, tool := tool
            )
            ORDER BY fetched_at DESC, uri
        ) AS newest
    FROM base.fetch
    GROUP BY source_id
) AS fetched USING (source_id);

CREATE OR REPLACE VIEW segments AS
SELECT
    segment_id, source_id,
    coalesce(link.speaker_id, segment.speaker_id) AS speaker_id,
    segment.speaker_id AS local_speaker_id,
    accent, accent_origin,
    start_sample / 16000.0::DOUBLE AS start_s,
    end_sample / 16000.0::DOUBLE AS end_s,
    (end_sample - start_sample) / 16000.0::DOUBLE AS duration_s,
    path, language, text, text_origin, text_confidence, text_flags::VARCHAR[] AS text_flags,
    kept, reject_reason, gain_db, loudness_lufs, true_peak_dbtp, snr_db, clipped_share,
    dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_ovrl_mix, music_share, separated, split
FROM base.segment
LEFT JOIN (
    SELECT local_id, any_value(speaker_id) AS speaker_id FROM base.link GROUP BY local_id
) AS link ON link.local_id = segment.speaker_id;

CREATE OR REPLACE VIEW speakers AS
WITH heard AS (
    SELECT
        local_id, source_id, count(*) FILTER (kept) AS n_segments, sum(n) FILTER (kept) AS n_samples,
        min(accent) FILTER (kept) AS accent
    FROM (
        SELECT speaker_id AS local_id, source_id, kept, end_sample - start_sample AS n, accent
        FROM base.segment
        WHERE speaker_id IS NOT NULL
        UNION ALL
        SELECT speaker_id, source_id, false, 0, NULL FROM base.voice
    )
    GROUP BY local_id, source_id
)
SELECT
    coalesce(link.speaker_id, heard.local_id) AS speaker_id,
    min(coalesce(heard.accent, source.accent)) AS accent,
    count(DISTINCT heard.source_id) AS n_sources,
    coalesce(sum(heard.n_segments), 0)::BIGINT AS n_segments,
    coalesce(sum(heard.n_samples), 0) / (16000.0::DOUBLE * 3600) AS hours,
    list(heard.local_id ORDER BY heard.local_id) AS local_speaker_ids
FROM heard
JOIN base.source USING (source_id)
LEFT JOIN base.link ON link.local_id = heard.local_id
GROUP BY coalesce(link.speaker_id, heard.local_id);

COMMENT ON VIEW sources IS 'One row per recording; the same bytes at two addresses are one recording.';
COMMENT ON COLUMN sources.source_id IS 'First 16 hex digits of the SHA-256 of the bytes, or of the address where no bytes could be read';
COMMENT ON COLUMN sources.uri IS 'Where the recording was found: a file, or an address';
COMMENT ON COLUMN sources.title IS 'From the sources file, else from the site, else from the media';
COMMENT ON COLUMN sources.accent IS 'The accent''s name in the taxonomy, or the label as written';
COMMENT ON COLUMN sources.speaker IS 'From the sources file: who speaks';
COMMENT ON COLUMN sources.language IS 'From the sources file: the language spoken';
COMMENT ON COLUMN sources.licence IS 'What the recording may be used for: from the sources file, else as the site states it';
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
COMMENT ON COLUMN sources.site IS 'The site it was downloaded from: youtube, aparat, generic…; empty, as all that follows, for local files';
COMMENT ON COLUMN sources.site_id IS 'The site''s id of it';
COMMENT ON COLUMN sources.channel_id IS 'The site''s id of who published it';
COMMENT ON COLUMN sources.fetched_at IS 'When it was downloaded, UTC';
COMMENT ON COLUMN sources.announced_s IS 'Seconds, the length that the site stated, else the file itself';
COMMENT ON COLUMN sources.lost_s IS 'Seconds that are known to be missing: gaps in a live recording, fragments that could not be had';
COMMENT ON COLUMN sources.length_differs IS 'Whether announced and decoded length differ by more than 1 % and 2 s; empty where none was announced';
COMMENT ON COLUMN sources.fetched_with IS 'The tool that downloaded it, with its version';

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
