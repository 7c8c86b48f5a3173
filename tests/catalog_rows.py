"""Records for the tests of the catalog."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from catalog.records import (
    RATE,
    Address,
    Fetch,
    Mark,
    Reject,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    Stage,
    Status,
)

SOURCE_ID = "0123456789abcdef"
WHEN = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


def make_source(source_id: str = SOURCE_ID, **changes: object) -> Source:
    source = Source(
        source_id=source_id,
        uri=f"/media/{source_id}.wav",
        sha256=source_id + "0" * 48,
        n_samples=600 * RATE,
        sample_rate=44_100,
        channels=2,
        codec="aac",
        bandwidth_hz=15_500.0,
        status=Status.DONE,
    )
    return replace(source, **changes)  # type: ignore[arg-type]


def kept(number: int, source_id: str = SOURCE_ID, **changes: object) -> Segment:
    segment = Segment(
        segment_id=f"{source_id}-{number}",
        source_id=source_id,
        speaker_id=f"{source_id}-S1",
        start=number * 10 * RATE,
        end=number * 10 * RATE + 5 * RATE,
        kept=True,
        path=f"clips/{source_id}/{number}.wav",
        gain_db=-2.5,
        loudness_lufs=-23.1,
        true_peak_dbtp=-3.0,
    )
    return replace(segment, **changes)  # type: ignore[arg-type]


def rejected(number: int, reason: Reject = Reject.MUSIC) -> Segment:
    start = number * 10 * RATE + 5 * RATE
    return Segment(f"{SOURCE_ID}-r{number}", SOURCE_ID, None, start, start + RATE, False, reason)


def make_result(*segments: Segment, source: Source | None = None) -> SourceResult:
    source = source or make_source()
    return SourceResult(source, (Address(source.uri, source.source_id, 1000, 5),), segments=segments)


def full_result() -> SourceResult:
    source = make_source(
        title="گفت‌وگو، بخش ۱",
        accent="Yazdi",
        speaker="س",
        language="fa",
        licence="CC BY 4.0",
        channel="radio",
        uploaded_at=WHEN,
        lost_packets=3,
        extra={"سن": "۴۵", "note": 'a "quoted", word', "empty": ""},
    )
    return SourceResult(
        source,
        (Address(source.uri, SOURCE_ID, 1000, 1_700_000_000_123_456_789), Address("/b/copy.wav", SOURCE_ID)),
        (
            Stage(SOURCE_ID, "decode", 1.5, 600.0, "aa", "", WHEN),
            Stage(SOURCE_ID, "vad", 0.5, 600.0, "bb", "silero 6", WHEN + timedelta(seconds=2)),
        ),
        (Mark("music", 0, 100, score=0.5), Mark("turn", 50, 900, "S1")),
        (SpeakerVoice(f"{SOURCE_ID}-S1", SOURCE_ID, (0.5, -0.25, 0.125)),),
        (
            kept(0, snr_db=31.5, clipped_share=0.0, dnsmos_sig=3.5, dnsmos_bak=4.0, dnsmos_ovrl=3.25, music_share=0.1),
            rejected(0),
            kept(1, separated=True, dnsmos_ovrl=3.0, dnsmos_ovrl_mix=2.5),
        ),
    )


def make_fetch(source_id: str = SOURCE_ID, **changes: object) -> Fetch:
    fetch = Fetch(
        uri=f"https://tube.example/watch?v={source_id}",
        source_id=source_id,
        site="tube",
        site_id=source_id[:4],
        asked="https://tube.example/playlist?list=1",
        title="گفت‌وگو، بخش ۱",
        channel="radio",
        channel_id="UC1",
        uploaded_at=WHEN - timedelta(days=1),
        licence="Creative Commons Attribution",
        announced_s=600.0,
        lost_s=0.0,
        sha256=source_id + "0" * 48,
        size_bytes=1000,
        media=f"media/{source_id}.m4a",
        recorded_s=None,
        tool="yt-dlp 2026.10.26",
        fetched_at=WHEN,
        raw={"id": source_id[:4], "tags": ["الف", "b"], "formats": [{"abr": 128.5, "url": None}]},
    )
    return replace(fetch, **changes)  # type: ignore[arg-type]


def fetched_result(*segments: Segment, source: Source | None = None, fetch: Fetch | None = None) -> SourceResult:
    """As `make_result`, of a recording from the web."""
    source = source or make_source()
    fetch = fetch or make_fetch(source.source_id)
    return SourceResult(
        replace(source, uri=fetch.uri), (Address(fetch.uri, source.source_id, 1000, 5),), segments=segments, fetch=fetch
    )
