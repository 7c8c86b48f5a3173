"""How long `pdid export` takes for 10,000 clips, by format: one table.

    python benchmarks/export_speed.py [CLIPS]

The corpus is synthetic: 100 recordings, clips of noise of 4 s each (the mean of the real ones is about 5 s), every
second one with a text. Wall seconds of the whole command, in a process of its own, start-up included; MB as written.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from catalog.annotations import write_transcripts
from catalog.records import RATE, Address, Segment, Source, SourceResult, SplitMember, Status, Transcript
from catalog.store import open_catalog
from corpus_builder.audio import write_clip
from corpus_builder.export import FORMATS

SECONDS, SOURCES = 4, 100
ACCENTS = ("Yazdi", "Lori", "Isfahani", "Shomali")
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def make_corpus(corpus: Path, n: int) -> None:
    """A catalog of `n` clips of noise, their files, half of the texts and a split."""
    noise = np.random.default_rng(0).normal(0, 0.05, SECONDS * RATE + n).astype(np.float32)
    size = SECONDS * RATE
    with open_catalog(corpus, write=True) as catalog:
        members, texts = [], []
        for number in range(SOURCES):
            source_id = f"{number:016x}"
            segments = []
            for k in range(number, n, SOURCES):
                path = f"clips/{source_id}/{k:016x}.wav"
                write_clip(corpus / path, noise[k : k + size])
                start = len(segments) * size
                segments.append(
                    Segment(
                        f"{k:016x}", source_id, f"{source_id}-S1", start, start + size, True, path=path, gain_db=0.0
                    )
                )
                members.append(SplitMember(f"{k:016x}", ("train", "train", "dev", "test")[number % 4]))
                if k % 2:
                    texts.append(
                        Transcript(source_id, start, start + size, f"گفت‌وگوی شمارهٔ {k}", "imported", WHEN, "fa")
                    )
            source = Source(
                source_id, f"/media/{number}.wav", source_id + "0" * 48, accent=ACCENTS[number % 4],
                licence="CC BY 4.0", language="fa", n_samples=len(segments) * size, sample_rate=16_000, channels=1,
                status=Status.DONE,
            )  # fmt: skip
            catalog.write_source(SourceResult(source, (Address(source.uri, source_id),), segments=tuple(segments)))
        write_transcripts(catalog, texts)
        catalog.write_split(members)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        corpus, out = Path(folder) / "corpus", Path(folder) / "out"
        make_corpus(corpus, n)
        print(f"{n} clips of {SECONDS} s ({n * SECONDS / 3600:.1f} h, {n * SECONDS * RATE * 2 / 1e6:.0f} MB)\n")
        print(f"| {'format':11} |    s |   MB |\n|{'-' * 13}|-----:|-----:|")
        for name in FORMATS:
            start = time.perf_counter()
            command = [sys.executable, "-c", "from corpus_builder.cli import main; main()", "export", "--format", name]
            subprocess.run([*command, str(out), "--corpus", str(corpus)], check=True, capture_output=True)
            seconds = time.perf_counter() - start
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            print(f"| {name:11} | {seconds:4.1f} | {size / 1e6:4.0f} |", flush=True)
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
