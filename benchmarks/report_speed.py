"""Wall time of `pdid report` and the size of its file: `python benchmarks/report_speed.py [SEGMENTS...]`.

The corpora are made up: recordings of half an hour in ten accents, two thirds of the pieces kept, each with a text, a
label by an annotator for every third recording, a split. All share one recording's sound and one clip's, on disk.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from catalog.annotations import write_labels, write_transcripts
from catalog.records import (
    RATE,
    Address,
    Label,
    LabelOrigin,
    Mark,
    Reject,
    Scope,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    SplitMember,
    Stage,
    Status,
    Transcript,
)  # fmt: skip
from catalog.store import open_catalog
from corpus_builder.audio import write_clip
from corpus_builder.report.build import write_report
from corpus_builder.taxonomy import load_taxonomy

SEGMENTS = (1_000, 10_000)
PER_SOURCE = 150
PIECE = 12 * RATE
STAGES = ("decode", "music", "vad", "separate", "diarize", "segment", "loudness", "quality")


def make_corpus(corpus: Path, n: int, random: np.random.Generator) -> None:
    """Write a corpus of about `n` segments."""
    noise = random.normal(0, 0.05, PER_SOURCE * PIECE).astype(np.float32)
    media, clip = corpus / "media" / "one.wav", corpus / "media" / "clip.wav"
    write_clip(media, noise)
    write_clip(clip, noise[:PIECE])
    accents = [accent.name for accent in load_taxonomy("persian").accents]
    when = datetime.now(UTC)
    results = []
    for i in range(n // PER_SOURCE):
        source_id = f"{random.integers(1 << 62):016x}"
        uri = corpus / "media" / f"{i}.wav"
        os.link(media, uri)
        segments = []
        for j in range(PER_SOURCE):
            reason = None if random.random() < 0.66 else list(Reject)[random.integers(len(Reject))]
            path = f"clips/{source_id}/{j}.wav" if reason is None else None
            if path:
                (corpus / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(clip, corpus / path)
            segments.append(
                Segment(
                    f"{source_id}-{j}", source_id, f"{source_id}-S{1 + j % 3}", j * PIECE, (j + 1) * PIECE,
                    reason is None, reason, path, random.normal(), random.normal(-23, 0.2), -3.0, random.normal(30, 8),
                    0.0, 3.0, 3.5, random.normal(3, 0.3), None, 0.0, False,
                )
            )  # fmt: skip
        source = Source(
            source_id, str(uri), source_id + "0" * 48, title=f"برنامهٔ {i}", accent=accents[i % len(accents)],
            language="fa", n_samples=PER_SOURCE * PIECE, sample_rate=RATE, channels=1, bandwidth_hz=7900.0,
            status=Status.DONE,
        )  # fmt: skip
        marks = [Mark("speech", s.start + RATE, s.end - RATE) for s in segments]
        marks += [Mark("turn", s.start + RATE, s.end - RATE, f"S{1 + j % 3}") for j, s in enumerate(segments)]
        results.append(
            SourceResult(
                source,
                (Address(str(uri), source_id, uri.stat().st_size),),
                tuple(Stage(source_id, stage, 10.0, 1800.0, "a", "", when) for stage in STAGES),
                tuple(marks),
                tuple(SpeakerVoice(f"{source_id}-S{k}", source_id, (1.0, 0.0)) for k in (1, 2, 3)),
                tuple(segments),
            )
        )
    with open_catalog(corpus, write=True) as catalog:
        for result in results:
            catalog.write_source(result)
        clips = catalog.clips()
        write_transcripts(
            catalog, [Transcript(c.source_id, c.start, c.end, "سلام، خوش آمدید", "imported", when, "fa") for c in clips]
        )
        said = Label("", Scope.SOURCE, None, None, "Lori", "Lori", LabelOrigin.ANNOTATOR, "a", when)
        write_labels(catalog, [replace(said, source_id=result.source.source_id) for result in results[::3]])
        sides = {result.source.source_id: ("train", "dev", "test")[i % 3] for i, result in enumerate(results)}
        catalog.write_split([SplitMember(c.segment_id, sides[c.source_id]) for c in clips], seed=0)


def main(sizes: list[int]) -> None:
    taxonomy = load_taxonomy("persian")
    print(
        "| segments | kept | report, wall s | processor s | asking the catalog, wall s | file, MB | sounds left out |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in sizes or SEGMENTS:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus"
            make_corpus(corpus, n, np.random.default_rng(0))
            told: list[float] = []
            start, cpu = time.perf_counter(), time.process_time()
            done = write_report(corpus, taxonomy, None, lambda line, told=told: told.append(time.perf_counter()))
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            with open_catalog(corpus) as catalog:
                ((every, kept),) = catalog.query("SELECT count(*), count(*) FILTER (kept) FROM segments").rows
            print(
                f"| {every} | {kept} | {seconds:.1f} | {cpu:.1f} | {told[1] - told[0]:.1f} | {done.n_bytes / 1e6:.1f} |"
                f" {done.sounds_left_out} |"
            )


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
