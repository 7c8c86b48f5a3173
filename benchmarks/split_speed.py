"""Time of `pdid split` and `pdid split --check` by the number of clips, and how near the wanted hours they come.

    python benchmarks/split_speed.py [CLIPS...]

Makes catalogs of rows without sound (default 1,000, 10,000 and 100,000 clips, five to a group; 100,000 clips are
20,000 groups): ten accents of very different hours, recordings that share speakers, channels and near-duplicates. The
whole command counts, start-up and writing included. Prints one table.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from catalog.duplicates import write_fingerprints
from catalog.records import RATE, Address, Duplicate, Segment, Source, Status
from catalog.resolve import resolve
from catalog.rows import INSERT_ADDRESS, INSERT_SEGMENT, INSERT_SOURCE, address_row, insert, segment_row, source_row
from catalog.store import open_catalog

ACCENTS = ("Yazdi", "Lori", "Shomali", "Jonubi", "Kurdish", "Mashhadi", "Isfahani", "Shirazi", "Tajiki", "Balochi")
WEIGHTS = (24, 40, 109, 11, 10, 15, 22, 12, 9, 8)  # hours of the Persian corpus, times ten


def fill(corpus: Path, n_clips: int) -> None:
    """A catalog of `n_clips` kept clips in a fifth as many groups, written straight into the tables."""
    dice = random.Random(0)
    groups = n_clips // 5
    sources, addresses, segments = [], [], []
    pairs = []
    for number in range(groups):
        parts = dice.choice((1, 1, 1, 2))  # a group of two recordings is joined by one of the four ties
        tie = dice.choice(("speaker", "label", "channel", "sound")) if parts == 2 else ""
        accent = dice.choices(ACCENTS, WEIGHTS)[0]
        here = []
        for part in range(parts):
            source_id = f"{2 * number + part:016x}"
            sources.append(
                Source(
                    source_id,
                    f"/media/{source_id}.wav",
                    sha256=source_id + "0" * 48,
                    accent=accent if dice.random() < 0.9 else dice.choice(ACCENTS[:7]),
                    speaker=f"label {number}" if tie == "label" else None,
                    channel=f"channel {number}" if tie == "channel" else None,
                    n_samples=600 * RATE,
                    sample_rate=48_000,
                    status=Status.DONE,
                )
            )
            addresses.append(Address(f"/media/{source_id}.wav", source_id))
            for n in range(part, 5, parts):
                name = f"{source_id}-{n}"
                speaker = f"P{number}" if tie == "speaker" else f"{source_id}-S{n % 2}"
                start, length = n * 30 * RATE, int(RATE * min(30, 3 + dice.expovariate(1 / 3)))
                path = f"clips/{source_id}/{n}.wav"
                segments.append(Segment(name, source_id, speaker, start, start + length, True, path=path))
                here.append(name)
        if tie == "sound":
            pairs.append(Duplicate(here[0], here[-1], 5.0, 0.9))
    with open_catalog(corpus, write=True) as catalog:
        with catalog.transaction():
            insert(catalog.connection, INSERT_SOURCE, map(source_row, sources))
            insert(catalog.connection, INSERT_ADDRESS, map(address_row, addresses))
            insert(catalog.connection, INSERT_SEGMENT, map(segment_row, segments))
            resolve(catalog.connection, [source.source_id for source in sources])
        write_fingerprints(catalog, "none", {}, pairs)


def timed(*arguments: str) -> tuple[str, str]:
    """Wall and processor seconds, and standard error, of `pdid` with these arguments, which must succeed."""
    pdid = str(Path(sys.executable).with_name("pdid"))
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([pdid, *arguments], check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall:.1f} ({busy:.1f})", done.stderr


def main(sizes: list[int]) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors\n")
    columns = "clips", "groups", "split s (of processors)", "check s (of processors)", "misplaced, mean", "gap, mean"
    print(f"| {' | '.join(columns)} | solver |")
    print("|---|---|---|---|---|---|---|")
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder)
            fill(corpus, n)
            split, _ = timed("split", "--corpus", folder)
            check, said = timed("split", "--check", "--corpus", folder)
            assert "no leak" in said, said
            with open_catalog(corpus) as catalog:
                settings = catalog.splits()[0].settings
        found = settings["assignment"]
        seen = len(ACCENTS) - len(settings["test_only"])
        print(
            f"| {n} | {settings['groups']} | {split} | {check} | {found['misplaced'] / seen:.4f} "
            f"| {found['gap'] / seen:.4f} | {found['solver']} |",
            flush=True,
        )
    print("\nmade from: " + json.dumps(settings["catalog"]))


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1_000, 10_000, 100_000])
