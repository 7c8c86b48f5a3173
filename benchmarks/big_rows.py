"""Recordings with all that the catalog holds of them, made up: for `benchmarks.big_catalog`."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from catalog import rows
from catalog.annotations import write_judgements
from catalog.records import (
    RATE,
    Address,
    Fetch,
    Label,
    LabelOrigin,
    Mark,
    Reject,
    Scope,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    Stage,
    Status,
    Transcript,
)
from catalog.resolve import resolve
from catalog.store import Catalog
from corpus_builder.plan import Plan

ACCENTS = ("Yazdi", "Lori", "Shomali", "Jonubi", "Kurdish", "Mashhadi", "Isfahani", "Shirazi", "Tajiki", "Balochi")
LICENCES = ("CC BY 4.0", "CC0", "broadcast; research use", None)
REASONS = (Reject.SILENCE, Reject.MUSIC, Reject.TOO_SHORT, Reject.OVERLAP, Reject.MUSIC_UNSEPARATED, Reject.NOISY)
WORDS = ["این", "یک", "متن", "است", "که", "کسی", "در", "رادیو", "گفته", "و", "کسی", "دیگر", "آن", "را", "نوشته", "است"]
PIECES, KEPT = 25, 10  # of a recording of three minutes
PROGRAMME = 10  # recordings of one channel, whose speakers are heard in several of them
SECOND_RUN = 10_000  # recordings whose files are there
WHEN = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Said:
    """A recording with all that the catalog holds of it."""

    result: SourceResult
    labels: list[Label]
    transcripts: list[Transcript]
    people: dict[str, str]  # local speaker id -> who that is


def tape(corpus: Path, n: int) -> Path:
    """Where the `n`th recording lies."""
    return corpus / "tape" / f"{n % 100:02d}" / f"{n}.wav"


def sha256_of(dice: random.Random) -> str:
    """What the bytes' hash would be; the source_id is its beginning."""
    return f"{dice.getrandbits(256):064x}"


def said_of(n: int, corpus: Path, plan: Plan) -> Said:
    """The `n`th recording; the same one each time."""
    dice = random.Random(n)
    sha256 = sha256_of(dice)
    source_id = sha256[:16]
    file = tape(corpus, n)
    address = Address(str(file), source_id)
    if n < SECOND_RUN and (there := _stat(file)):
        address = Address(str(file), source_id, there.st_size, there.st_mtime_ns)
    programme = n // PROGRAMME
    failed = n % 500 == 499 and n >= SECOND_RUN
    source = Source(
        source_id,
        address.uri,
        sha256=sha256,
        title=f"گفت‌وگو {n}",
        accent=ACCENTS[programme % 10] if dice.random() < 0.9 else None,
        speaker=f"person {programme}" if dice.random() < 0.2 else None,
        language="fa",
        licence=LICENCES[programme % 4],
        channel=f"channel {programme}" if dice.random() < 0.7 else None,
        uploaded_at=WHEN - timedelta(days=dice.randrange(3000)),
        n_samples=None if failed else 180 * RATE,
        sample_rate=44_100,
        channels=2,
        codec="aac",
        bandwidth_hz=dice.uniform(4000, 16_000),
        status=Status.FAILED if failed else Status.DONE,
        error="the file holds no sound" if failed else None,
        extra={"row": str(n)},
        accent_raw=ACCENTS[programme % 10],
    )
    if failed:
        return Said(SourceResult(source, (address,)), [], [], {})
    speakers = [f"{source_id}-S{k}" for k in (1, 2)]
    segments, marks, texts = [], [], []
    for k in range(PIECES):
        start = k * 7 * RATE
        stop = start + int(dice.uniform(3, 7) * RATE)
        name = f"{dice.getrandbits(64):016x}"
        kept = (k * KEPT) % PIECES < KEPT
        who = None if not kept and k % 3 else speakers[k % 7 < 3]
        measured = {"snr_db": dice.gauss(20, 5), "clipped_share": 0.0}
        if kept:
            measured |= {
                "gain_db": dice.gauss(3, 2),
                "loudness_lufs": -23 + dice.uniform(-0.3, 0.3),
                "true_peak_dbtp": -3 + dice.gauss(0, 0.5),
                "dnsmos_sig": dice.uniform(2, 4),
                "dnsmos_bak": dice.uniform(2, 4),
                "dnsmos_ovrl": dice.uniform(2, 4),
            }
        segments.append(
            Segment(
                name,
                source_id,
                who,
                start,
                stop,
                kept,
                None if kept else dice.choice(REASONS),
                f"clips/{source_id}/{name}.wav" if kept else None,
                music_share=0.1 * (k % 5),
                separated=k % 10 == 0,
                **measured,
            )
        )
        if k % 2:
            marks.append(Mark("speech", start, stop))
            marks.append(Mark("turn", start, stop, f"S{1 + (k % 7 < 3)}"))
        if kept and dice.random() < 0.3:
            text = " ".join(dice.choices(WORDS, k=12))
            model = "whisper-small"
            flags = ("loop",) if dice.random() < 0.02 else ()
            texts.append(
                Transcript(source_id, start, stop, text, f"model:{model}", WHEN, "fa", f"{model} 1", 0.8, flags)
            )
    marks.append(Mark("music", 0, 20 * RATE, score=0.9))
    stages = [Stage(source_id, name, 0.5, 180.0, plan.hash[name], plan.model[name], WHEN) for name in plan.hash]
    noise = np.random.default_rng(n).normal(size=(2, 256)).astype(np.float32)
    voices = [SpeakerVoice(who, source_id, tuple(vector.tolist())) for who, vector in zip(speakers, noise, strict=True)]
    labels = []
    if n % 20 == 0:
        accent = ACCENTS[(programme + (n % 400 == 0)) % 10]  # one in twenty disagrees
        one = segments[dice.randrange(PIECES)]
        labels = [
            Label(source_id, Scope.SOURCE, None, None, accent, accent, LabelOrigin.CLASSIFIER, "model 1", WHEN, 0.7),
            Label(source_id, Scope.SEGMENT, one.start, one.end, accent, accent, LabelOrigin.ANNOTATOR, "Maryam", WHEN),
        ]
    fetch = None
    if n % 2:
        fetch = Fetch(
            f"https://tube.example/watch?v={n}", source_id, "tube", str(n), f"https://tube.example/c/{programme}",
            source.title, source.channel, None, source.uploaded_at, None, 180.0, 0.0, sha256, 1000, None, None,
            "yt-dlp 2026.10.26", WHEN,
            {"id": n, "tags": WORDS, "formats": [{"abr": k, "ext": "m4a"} for k in range(20)]},
        )  # fmt: skip
    people = {local: f"P{programme}-{(n + k) % 6}" for k, local in enumerate(speakers)}
    result = SourceResult(source, (address,), tuple(stages), tuple(marks), tuple(voices), tuple(segments), fetch)
    return Said(result, labels, texts, people)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def bulk_write(catalog: Catalog, said: list[Said]) -> int:
    """Write recordings that the catalog doesn't have, and what is said of them; returns how many rows that were."""
    found = [one.result for one in said]
    tables = {
        rows.INSERT_SOURCE: [rows.source_row(r.source) for r in found],
        rows.INSERT_ADDRESS: [rows.address_row(a) for r in found for a in r.addresses],
        rows.INSERT_STAGE: [rows.stage_row(s) for r in found for s in r.stages],
        rows.INSERT_MARK: [rows.mark_row(r.source.source_id, m) for r in found for m in r.marks],
        rows.INSERT_VOICE: [rows.voice_row(v) for r in found for v in r.voices],
        rows.INSERT_FETCH: [rows.fetch_row(r.fetch, r.source.source_id) for r in found if r.fetch],
        rows.INSERT_SEGMENT: [rows.segment_row(s) for r in found for s in r.segments],
    }
    with catalog.transaction():
        for statement, values in tables.items():
            rows.insert(catalog.connection, statement, values)
        # of the others something is said, and they are settled with that
        resolve(catalog.connection, [r.result.source.source_id for r in said if not (r.labels or r.transcripts)])
    texts = [text for one in said for text in one.transcripts]
    labels = [label for one in said for label in one.labels]
    write_judgements(catalog, labels, texts)
    return sum(map(len, tables.values())) + len(texts) + len(labels)
