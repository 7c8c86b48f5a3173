"""Records to rows and back: the statements, and what DuckDB's types need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import duckdb

from catalog.records import Address, Fetch, Mark, Reject, Removal, Segment, Source, SpeakerVoice, Stage, Status

# Rows go in column by column: unnest takes 100,000 of them in about a second, executemany needs forty.
INSERT_SOURCE = """
INSERT INTO base.source (
    source_id, uri, sha256, title, accent, speaker, language, licence, channel, uploaded_at, n_samples,
    sample_rate, channels, codec, bandwidth_hz, lost_packets, status, error, extra, accent_raw
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]),
    unnest(?::BIGINT[]), unnest(?::INTEGER[]), unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]),
    unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::JSON[])::MAP(VARCHAR, VARCHAR),
    unnest(?::VARCHAR[])
"""
INSERT_ADDRESS = """
INSERT OR REPLACE INTO base.address (uri, source_id, size_bytes, mtime_ns)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])
"""
INSERT_STAGE = """
INSERT INTO base.stage (source_id, stage, seconds, audio_seconds, config_hash, model, finished_at)
SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[])
"""
INSERT_MARK = """
INSERT INTO base.mark (source_id, kind, start_sample, end_sample, label, score)
SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]),
    unnest(?::DOUBLE[])
"""
INSERT_VOICE = """
INSERT INTO base.voice (speaker_id, source_id, embedding)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::FLOAT[][])
"""
INSERT_SEGMENT = """
INSERT INTO base.segment (
    segment_id, source_id, speaker_id, start_sample, end_sample, kept, reject_reason, path, gain_db, loudness_lufs,
    true_peak_dbtp, snr_db, clipped_share, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_ovrl_mix, music_share, separated
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]),
    unnest(?::BOOLEAN[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]),
    unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]),
    unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::BOOLEAN[])
"""
UPDATE_LABELS = """
UPDATE base.source SET
    accent = new.accent, speaker = new.speaker, language = new.language, licence = new.licence, title = new.title,
    channel = new.channel, uploaded_at = new.uploaded_at, extra = new.extra, accent_raw = new.accent_raw,
    accent_at = CASE
        WHEN source.accent IS NOT DISTINCT FROM new.accent AND source.accent_raw IS NOT DISTINCT FROM new.accent_raw
        THEN source.accent_at
        WHEN new.accent IS NOT NULL THEN ?::TIMESTAMP
    END
FROM (
    SELECT
        unnest(?::VARCHAR[]) AS source_id, unnest(?::VARCHAR[]) AS accent, unnest(?::VARCHAR[]) AS speaker,
        unnest(?::VARCHAR[]) AS language, unnest(?::VARCHAR[]) AS licence, unnest(?::VARCHAR[]) AS title,
        unnest(?::VARCHAR[]) AS channel, unnest(?::TIMESTAMP[]) AS uploaded_at,
        unnest(?::JSON[])::MAP(VARCHAR, VARCHAR) AS extra, unnest(?::VARCHAR[]) AS accent_raw
) AS new
WHERE source.source_id = new.source_id
"""
INSERT_FETCH = """
INSERT OR REPLACE INTO base.fetch (
    uri, source_id, site, site_id, asked, title, channel, channel_id, uploaded_at, licence, announced_s, lost_s,
    sha256, size_bytes, media, recorded_s, tool, fetched_at, raw
) SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]), unnest(?::VARCHAR[]),
    unnest(?::DOUBLE[]), unnest(?::DOUBLE[]), unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]),
    unnest(?::DOUBLE[]), unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[]), unnest(?::JSON[])
"""
INSERT_SPLIT_MEMBER = """
INSERT INTO base.split_member (split_name, segment_id, split)
SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])
"""


def insert(
    connection: duckdb.DuckDBPyConnection, statement: str, rows: Iterable[Sequence[object]], *first: object
) -> None:
    """Run one of the statements above with many rows at once; nothing happens for none.

    `first` are single values for the placeholders before the columns'.
    """
    columns = [[plain(value) for value in column] for column in zip(*rows, strict=True)]
    if columns:
        connection.execute(statement, [*map(plain, first), *columns])


def plain(value: Any) -> Any:
    """What DuckDB takes: no numpy scalars, no enums, UTC without a zone, and NULL for what can't be measured."""
    kind = type(value)
    if value is None or kind is int or kind is bool or (kind is str and value.isascii()):
        return value  # most values, and an import may have millions
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):  # a broken file name may hold bytes that are no text
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return [part if isinstance(part, str) else float(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def source_row(source: Source) -> tuple[object, ...]:
    return (
        source.source_id, source.uri, source.sha256, source.title, source.accent, source.speaker, source.language,
        source.licence, source.channel, source.uploaded_at, source.n_samples, source.sample_rate, source.channels,
        source.codec, source.bandwidth_hz, source.lost_packets, source.status, source.error, source.extra,
        source.accent_raw,
    )  # fmt: skip


def label_row(source: Source) -> tuple[object, ...]:
    return (
        source.source_id, source.accent, source.speaker, source.language, source.licence, source.title,
        source.channel, source.uploaded_at, source.extra, source.accent_raw,
    )  # fmt: skip


def address_row(address: Address) -> tuple[object, ...]:
    return (address.uri, address.source_id, address.size_bytes, address.mtime_ns)


def stage_row(stage: Stage) -> tuple[object, ...]:
    return (
        stage.source_id, stage.stage, stage.seconds, stage.audio_seconds, stage.config_hash, stage.model,
        stage.finished_at,
    )  # fmt: skip


def mark_row(source_id: str, mark: Mark) -> tuple[object, ...]:
    return (source_id, mark.kind, mark.start, mark.end, mark.label, mark.score)


def voice_row(voice: SpeakerVoice) -> tuple[object, ...]:
    return (voice.speaker_id, voice.source_id, voice.embedding)


def segment_row(segment: Segment) -> tuple[object, ...]:
    return (
        segment.segment_id, segment.source_id, segment.speaker_id, segment.start, segment.end, segment.kept,
        segment.reject_reason, segment.path, segment.gain_db, segment.loudness_lufs, segment.true_peak_dbtp,
        segment.snr_db, segment.clipped_share, segment.dnsmos_sig, segment.dnsmos_bak, segment.dnsmos_ovrl,
        segment.dnsmos_ovrl_mix, segment.music_share, segment.separated,
    )  # fmt: skip


def fetch_row(fetch: Fetch, source_id: str) -> tuple[object, ...]:
    return (
        fetch.uri, source_id, fetch.site, fetch.site_id, fetch.asked, fetch.title, fetch.channel, fetch.channel_id,
        fetch.uploaded_at, fetch.licence, fetch.announced_s, fetch.lost_s, fetch.sha256, fetch.size_bytes, fetch.media,
        fetch.recorded_s, fetch.tool, fetch.fetched_at, json.dumps(_json(fetch.raw), ensure_ascii=False),
    )  # fmt: skip


def _json(value: Any) -> Any:
    """A site's metadata as JSON that DuckDB takes: it may hold broken text, NaN, dates and what else."""
    if isinstance(value, dict):
        return {plain(str(key)): _json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    value = plain(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


OF_SOURCES = "WHERE source_id IN (SELECT unnest(?::VARCHAR[]))"
SELECT_SOURCE = """
SELECT source_id, uri, sha256, title, accent, speaker, language, licence, channel, uploaded_at, n_samples,
    sample_rate, channels, codec, bandwidth_hz, lost_packets, status, error, extra, accent_raw
FROM base.source
WHERE ?::VARCHAR[] IS NULL OR source_id IN (SELECT unnest(?::VARCHAR[]))
ORDER BY uri, source_id
"""
SELECT_ADDRESS = f"""
SELECT uri, source_id, size_bytes, mtime_ns
FROM base.address
{OF_SOURCES}
ORDER BY uri
"""
SELECT_STAGE = f"""
SELECT source_id, stage, seconds, audio_seconds, config_hash, model, finished_at
FROM base.stage
{OF_SOURCES}
ORDER BY source_id, finished_at, stage
"""
SELECT_MARK = f"""
SELECT source_id, kind, start_sample, end_sample, label, score
FROM base.mark
{OF_SOURCES}
ORDER BY source_id, start_sample, end_sample, kind, label
"""
SELECT_VOICE = f"""
SELECT speaker_id, source_id, embedding
FROM base.voice
{OF_SOURCES}
ORDER BY source_id, speaker_id
"""
SELECT_SEGMENT = f"""
SELECT segment_id, source_id, speaker_id, start_sample, end_sample, kept, reject_reason, path, gain_db, loudness_lufs,
    true_peak_dbtp, snr_db, clipped_share, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, dnsmos_ovrl_mix, music_share, separated
FROM base.segment
{OF_SOURCES}
ORDER BY source_id, start_sample, end_sample, segment_id
"""
SELECT_FETCH = f"""
SELECT
    uri, source_id, site, site_id, asked, title, channel, channel_id, uploaded_at, licence, announced_s, lost_s,
    sha256, size_bytes, media, recorded_s, tool, fetched_at, raw
FROM base.fetch
{OF_SOURCES}
QUALIFY row_number() OVER (PARTITION BY source_id ORDER BY fetched_at DESC, uri) = 1
"""
SELECT_REFUSED = """
SELECT uri, source_id, sha256, site, site_id, reason, removed_at
FROM base.removal
WHERE source_id = ? OR sha256 = ? OR list_contains(?::VARCHAR[], uri)
LIMIT 1
"""
SELECT_KEPT = """
SELECT
    segment_id, source_id, coalesce(link.speaker_id, segment.speaker_id) AS speaker_id, segment.accent,
    source.language, start_sample, end_sample, path, source.speaker, source.channel
FROM base.segment
JOIN base.source USING (source_id)
LEFT JOIN base.link ON link.local_id = segment.speaker_id
WHERE kept
ORDER BY source_id, start_sample, segment_id
"""


def to_source(row: Sequence[Any]) -> Source:
    values = [
        *row[:9],
        moment(row[9]) if row[9] else None,
        *row[10:16],
        Status(row[16]),
        row[17],
        dict(row[18]),
        row[19],
    ]
    return Source(*values)


def to_stage(row: Sequence[Any]) -> Stage:
    values = [*row[:6], moment(row[6])]
    return Stage(*values)


def to_voice(row: Sequence[Any]) -> SpeakerVoice:
    return SpeakerVoice(row[0], row[1], tuple(row[2]))


def to_segment(row: Sequence[Any]) -> Segment:
    values = [*row[:6], Reject(row[6]) if row[6] else None, *row[7:]]
    return Segment(*values)


def to_fetch(row: Sequence[Any]) -> Fetch:
    values = [*row[:8], moment(row[8]) if row[8] else None, *row[9:17], moment(row[17]), json.loads(row[18])]
    return Fetch(*values)


def to_removal(row: Sequence[Any]) -> Removal:
    values = [*row[:6], moment(row[6])]
    return Removal(*values)


def moment(value: datetime) -> datetime:
    """A moment of the catalog, which are UTC without a zone, as an aware one."""
    return value.replace(tzinfo=UTC)
