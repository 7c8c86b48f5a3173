"""What the catalog holds: each record is a row.

Time is integer samples at 16 kHz (`RATE`); seconds appear only in the SQL views and in messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

RATE = 16_000
"""Samples per second of every time in the catalog, and of every clip."""


class Status(StrEnum):
    """How far a source has come."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Reject(StrEnum):
    """Why a piece of a source is not in the corpus; the closed list behind `segments.reject_reason`."""

    SILENCE = "silence"  # nobody speaks and nothing plays
    MUSIC = "music"  # music without speech
    NOT_SPEECH = "not_speech"  # sound that is neither speech nor music
    MUSIC_UNSEPARATED = "music_unseparated"  # speech over music, and no separation was made
    OVERLAP = "overlap"  # several speakers at once
    UNSURE_SPEAKER = "unsure_speaker"  # the diarizer can't tell who speaks
    TOO_SHORT = "too_short"  # less than the shortest clip between two cuts
    NO_PAUSE = "no_pause"  # longer than the longest clip, with no pause to cut at
    QUIET = "quiet"  # too quiet to be brought to the wanted loudness
    CLIPPED = "clipped"  # the recording is overdriven
    NOISY = "noisy"  # signal-to-noise ratio under the keep rule
    LOW_QUALITY = "low_quality"  # DNSMOS under the keep rule


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch [start, end) of a source, in samples at 16 kHz."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Mark:
    """A stored finding of a stage about a stretch of a source: music, speech, a speaker's turn…

    `label` is the speaker for turns and empty otherwise; `score` is the stage's own (0–1), or None.
    """

    kind: str
    start: int
    end: int
    label: str = ""
    score: float | None = None

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Source:
    """One recording: its bytes, where they came from and what is said of them.

    `source_id` is the first 16 hex digits of the bytes' SHA-256, or of the address's where no
    bytes could be read.
    """

    source_id: str
    uri: str
    sha256: str | None = None
    title: str | None = None
    accent: str | None = None
    speaker: str | None = None
    language: str | None = None
    licence: str | None = None
    channel: str | None = None
    uploaded_at: datetime | None = None
    n_samples: int | None = None  # at 16 kHz, counted while decoding
    sample_rate: int | None = None  # Hz, of the source
    channels: int | None = None
    codec: str | None = None
    bandwidth_hz: float | None = None
    lost_packets: int = 0  # damaged packets the decoder skipped
    status: Status = Status.PENDING
    error: str | None = None
    extra: dict[str, str] = field(default_factory=dict)  # further columns of the sources file, as they are
    accent_raw: str | None = None  # the accent's label as it was written; `accent` is its name in the taxonomy


@dataclass(frozen=True, slots=True)
class Address:
    """A place where a source's bytes were found, with what tells an unchanged file without reading it."""

    uri: str
    source_id: str
    size_bytes: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """That a stage has run on a source, with which settings and model, and what it cost."""

    source_id: str
    stage: str
    seconds: float
    audio_seconds: float
    config_hash: str
    model: str
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class SpeakerVoice:
    """A speaker within one source and the mean voice embedding (unit length; model named in `stages`)."""

    speaker_id: str
    source_id: str
    embedding: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a source, kept (with a clip on disk) or rejected (with a reason)."""

    segment_id: str
    source_id: str
    speaker_id: str | None
    start: int
    end: int
    kept: bool
    reject_reason: Reject | None = None
    path: str | None = None  # of the clip, relative to the corpus folder; kept pieces only
    gain_db: float | None = None  # what the loudness stage added
    loudness_lufs: float | None = None  # of the clip as written
    true_peak_dbtp: float | None = None  # of the clip as written
    snr_db: float | None = None
    clipped_share: float | None = None
    dnsmos_sig: float | None = None
    dnsmos_bak: float | None = None
    dnsmos_ovrl: float | None = None
    dnsmos_ovrl_mix: float | None = None  # before separation; None where nothing was separated
    music_share: float | None = None
    separated: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Where a recording was downloaded from, and how: one row per web address."""

    uri: str  # the canonical address, without credentials
    source_id: str
    site: str  # yt-dlp's extractor key in lower case: youtube, aparat, generic…
    site_id: str | None  # the site's id of it
    asked: str  # the address it was asked by: its own, or a playlist's
    title: str | None
    channel: str | None
    channel_id: str | None
    uploaded_at: datetime | None  # UTC
    licence: str | None  # as the site states it
    announced_s: float | None  # the length that the site stated, else the file itself
    lost_s: float  # known to be missing: gaps in a live recording, fragments
    sha256: str | None
    size_bytes: int | None
    media: str | None  # the file, relative to the corpus folder; None where it is not kept
    recorded_s: float | None  # of a live stream; None for others
    tool: str  # "yt-dlp 2026.10.26"
    fetched_at: datetime
    raw: dict[str, Any]  # the site's metadata


@dataclass(frozen=True, slots=True)
class Removal:
    """A tombstone: an address of a recording that was taken down, and what tells the recording elsewhere."""

    uri: str
    source_id: str
    sha256: str | None
    site: str | None
    site_id: str | None
    reason: str
    removed_at: datetime

    @property
    def explained(self) -> str:
        """Why the recording is refused: to stand after its address and a colon."""
        return f"it was taken down on {self.removed_at:%Y-%m-%d} ({self.reason}) and stays out"


@dataclass(frozen=True, slots=True)
class SourceResult:
    """All that ingesting one source found: what the committer writes in one transaction."""

    source: Source
    addresses: tuple[Address, ...]
    stages: tuple[Stage, ...] = ()
    marks: tuple[Mark, ...] = ()
    voices: tuple[SpeakerVoice, ...] = ()
    segments: tuple[Segment, ...] = ()
    fetch: Fetch | None = None  # where it was downloaded from; None leaves what is known of that


@dataclass(frozen=True, slots=True)
class SplitMember:
    """One segment's place in a named split."""

    segment_id: str
    split: str  # train, dev or test


class Scope(StrEnum):
    """What a label is about; the more specific holds."""

    SOURCE = "source"  # all of the recording
    SPEAKER = "speaker"  # whoever speaks in the stretch, wherever that speaker is heard in the recording
    SEGMENT = "segment"  # the stretch


class LabelOrigin(StrEnum):
    """Who says so; of labels of one scope the first holds."""

    ANNOTATOR = "annotator"
    SPEAKER = "speaker metadata"
    SOURCE = "source metadata"
    CLASSIFIER = "classifier"


@dataclass(frozen=True, slots=True)
class Label:
    """What somebody says of an accent, anchored to the recording's time so that it outlives a segmentation.

    A source's label from its metadata is no such row: it lies in the source (`accent`, `accent_raw`).
    """

    source_id: str
    scope: Scope
    start: int | None  # None for all of the recording
    end: int | None
    raw: str  # as written
    accent: str  # its name in the taxonomy, or as written
    origin: LabelOrigin
    author: str  # the annotator's name, the classifier's with its version, or the file's
    created_at: datetime
    confidence: float | None = None  # 0 to 1


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in a stretch of a recording, verbatim, and where that text comes from."""

    source_id: str
    start: int
    end: int
    text: str  # verbatim; empty where nothing is said
    origin: str  # human, imported, subtitle or model:NAME
    created_at: datetime
    language: str | None = None
    model: str | None = None  # name and version; the file's name for imported text, who wrote it for human text
    confidence: float | None = None  # 0 to 1
    flags: tuple[str, ...] = ()  # loop, language


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open stretch of a recording, in samples at 16 kHz."""

    source_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LinkRule:
    """That the speakers of two stretches are, or are not, one person: somebody's word, above any measurement."""

    same: bool
    a: Stretch
    b: Stretch
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two kept segments with the same sound in them; segment_a < segment_b."""

    segment_a: str
    segment_b: str
    overlap_s: float
    score: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Export:
    """A written export: what was asked for, and how many clips of each source are in it."""

    export_id: str
    format: str
    path: str
    settings: dict[str, Any]
    created_at: datetime
    clips: dict[str, int]  # by source id


@dataclass(frozen=True, slots=True)
class Run:
    """One cell of a benchmark: an arm with a seed, its full settings and its results."""

    run_id: str
    experiment_id: str
    arm: str
    seed: int
    model: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run heard in a clip. `segment_id` is the clip's content hash where it comes from a data set."""

    run_id: str
    segment_id: str
    reference: str
    hypothesis: str
    errors: int  # words substituted, left out or added
