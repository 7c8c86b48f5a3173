-- Where recordings were downloaded from, and what was taken down.
CREATE TABLE base.fetch (
    uri VARCHAR PRIMARY KEY CHECK (uri <> ''),
    source_id VARCHAR NOT NULL,
    site VARCHAR NOT NULL CHECK (site <> ''),
    site_id VARCHAR,
    asked VARCHAR NOT NULL,
    title VARCHAR,
    channel VARCHAR,
    channel_id VARCHAR,
    uploaded_at TIMESTAMP,
    licence VARCHAR,
    announced_s DOUBLE CHECK (isfinite(announced_s)),
    lost_s DOUBLE NOT NULL CHECK (lost_s >= 0 AND isfinite(lost_s)),
    sha256 VARCHAR CHECK (regexp_full_match(sha256, '[0-9a-f]{64}')),
    size_bytes BIGINT CHECK (size_bytes >= 0),
    media VARCHAR CHECK (media <> '' AND NOT starts_with(media, '/') AND NOT contains(media, '..')),
    recorded_s DOUBLE CHECK (recorded_s >= 0 AND isfinite(recorded_s)),
    tool VARCHAR NOT NULL CHECK (tool <> ''),
    fetched_at TIMESTAMP NOT NULL,
    raw JSON NOT NULL
);

-- tombstones: by address, by bytes and by the site's id they keep a recording from coming back
CREATE TABLE base.removal (
    uri VARCHAR PRIMARY KEY CHECK (uri <> ''),
    source_id VARCHAR NOT NULL CHECK (regexp_full_match(source_id, '[0-9a-f]{16}')),
    sha256 VARCHAR CHECK (regexp_full_match(sha256, '[0-9a-f]{64}')),
    site VARCHAR,
    site_id VARCHAR,
    reason VARCHAR NOT NULL CHECK (trim(reason) <> ''),
    removed_at TIMESTAMP NOT NULL
);

-- The ids of the pieces that went with them: a split's and an experiment's list of clips doesn't name the recording.
CREATE TABLE base.removed_segment (
    segment_id VARCHAR PRIMARY KEY,
    source_id VARCHAR NOT NULL
);

CREATE OR REPLACE VIEW sources AS
WITH fetched AS (
    SELECT source_id, site, site_id, channel_id, fetched_at, announced_s, lost_s, tool
    FROM base.fetch
    QUALIFY row_number() OVER (PARTITION BY source_id ORDER BY fetched_at DESC, uri) = 1
)
SELECT
    source_id, uri, title, accent, speaker, language, licence, channel, uploaded_at,
    n_samples / 16000.0::DOUBLE AS duration_s,
    sample_rate, channels, codec, bandwidth_hz, lost_packets, sha256, status, error, extra,
    site, site_id, channel_id, fetched_at, announced_s, lost_s,
    CASE
        WHEN announced_s > 0
        THEN abs(announced_s - n_samples / 16000.0::DOUBLE) > greatest(2, 0.01::DOUBLE * announced_s)
    END AS length_differs,
    tool AS fetched_with
FROM base.source
LEFT JOIN fetched USING (source_id);

CREATE OR REPLACE VIEW splits AS
SELECT
    split_name, segment_id, split, seed, created_at,
    split_name IN (SELECT split_name FROM base.split_member JOIN base.removed_segment USING (segment_id)) AS stale
FROM base.split_member JOIN base.split USING (split_name);

CREATE VIEW fetches AS
SELECT
    uri, source_id, site, site_id, asked, title, channel, channel_id, uploaded_at, licence, announced_s, lost_s,
    sha256, size_bytes, media, recorded_s, tool, fetched_at, raw
FROM base.fetch;

CREATE VIEW removals AS
SELECT uri, source_id, sha256, site, site_id, reason, removed_at FROM base.removal;

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

COMMENT ON VIEW splits IS 'One row per piece in a split; a written split never changes.';
COMMENT ON COLUMN splits.split_name IS 'Its name; unnamed ones are split-1, split-2, …';
COMMENT ON COLUMN splits.segment_id IS 'The piece';
COMMENT ON COLUMN splits.split IS 'train, dev or test';
COMMENT ON COLUMN splits.seed IS 'The random seed it was drawn with';
COMMENT ON COLUMN splits.created_at IS 'When it was written, UTC';
COMMENT ON COLUMN splits.stale IS 'Whether a piece of this split, any of them, was taken down: a new split is due';

COMMENT ON VIEW fetches IS 'One row per web address that was downloaded; a recording found at two addresses has two.';
COMMENT ON COLUMN fetches.uri IS 'The address of the recording''s page, as the site gives it';
COMMENT ON COLUMN fetches.source_id IS 'The recording';
COMMENT ON COLUMN fetches.site IS 'youtube, aparat, generic…: yt-dlp''s name of the site';
COMMENT ON COLUMN fetches.site_id IS 'The site''s id of the recording';
COMMENT ON COLUMN fetches.asked IS 'The address it was asked by: its own, or that of a playlist, channel or search';
COMMENT ON COLUMN fetches.title IS 'Its title on the site';
COMMENT ON COLUMN fetches.channel IS 'Who published it, as the site says';
COMMENT ON COLUMN fetches.channel_id IS 'The site''s id of who published it';
COMMENT ON COLUMN fetches.uploaded_at IS 'When it was published, UTC, as the site says';
COMMENT ON COLUMN fetches.licence IS 'The licence, as the site states it';
COMMENT ON COLUMN fetches.announced_s IS 'Seconds, the length that the site stated, else the file itself';
COMMENT ON COLUMN fetches.lost_s IS 'Seconds that are known to be missing: gaps in a live recording, fragments that could not be had';
COMMENT ON COLUMN fetches.sha256 IS 'SHA-256 of the bytes that were downloaded, in hex';
COMMENT ON COLUMN fetches.size_bytes IS 'How many bytes that were';
COMMENT ON COLUMN fetches.media IS 'The file, relative to the corpus folder; empty where it is not kept';
COMMENT ON COLUMN fetches.recorded_s IS 'Seconds recorded of a live stream; empty for others';
COMMENT ON COLUMN fetches.tool IS 'The tool that downloaded it, with its version';
COMMENT ON COLUMN fetches.fetched_at IS 'When it was downloaded, UTC';
COMMENT ON COLUMN fetches.raw IS 'All that the site said of it, JSON';

COMMENT ON VIEW removals IS 'One row per address of a recording that was taken down: what is refused from then on.';
COMMENT ON COLUMN removals.uri IS 'The address';
COMMENT ON COLUMN removals.source_id IS 'The recording that was removed';
COMMENT ON COLUMN removals.sha256 IS 'SHA-256 of its bytes, in hex; empty where they were never seen';
COMMENT ON COLUMN removals.site IS 'The site it was downloaded from; empty for local files';
COMMENT ON COLUMN removals.site_id IS 'The site''s id of it';
COMMENT ON COLUMN removals.reason IS 'Why it was taken down';
COMMENT ON COLUMN removals.removed_at IS 'When it was taken down, UTC';
