"""Near-duplicates: how time, memory and scratch files grow with the number of clips.

    python -m benchmarks.duplicates_growth CLIPS_FOLDER [REAL=40000] [MADE_UP=2000000]

REAL clips are those of `benchmarks.duplicates`, each played at as many speeds as it takes: that makes as many different
sounds as one wants of few recordings. Then MADE_UP clips of 400 random words, a twentieth of which hold 200 words of
another clip. Each line is a process of its own: from pages of fingerprints, as the catalog gives them, to all pairs.
Prints one table.
"""

from __future__ import annotations

import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import soxr

from benchmarks.duplicates import cut
from catalog.records import RATE
from corpus_builder.fingerprint import Hashes, fingerprint
from corpus_builder.matches import PART
from corpus_builder.near_duplicates import gather, near_duplicates
from corpus_builder.piles import Pile

PAGE, LENGTH = 20_000, 400


def real_words(folder: Path, number: int, out: Path) -> None:
    """Write the words of `number` different clips, in any order, and how many words each has."""
    clips = cut(folder)
    made = [fingerprint(sound) for sound in clips]
    for speed in np.geomspace(0.55, 1.8, number // len(clips) + 1):
        made += [fingerprint(soxr.resample(sound, RATE, round(RATE * speed), quality="LQ")) for sound in clips]
        print(f"  {len(made)} fingerprints", file=sys.stderr, flush=True)
    random.Random(1).shuffle(made)
    np.savez(out, words=np.concatenate(made), lengths=[len(words) for words in made])


def real_pages(file: Path, number: int) -> Iterator[Mapping[str, Hashes]]:
    """Pages of the first clips in the file."""
    with np.load(file) as found:
        words, ends = found["words"], np.cumsum(found["lengths"])
    for first in range(0, number, PAGE):
        numbers = range(first, min(first + PAGE, number))
        yield {f"{n:016x}-0": words[ends[n - 1] if n else 0 : ends[n]] for n in numbers}


def made_up_pages(number: int) -> Iterator[Mapping[str, Hashes]]:
    """Pages of clips of random words; of twenty successive ones the last holds half of the first."""
    rng = np.random.default_rng(0)
    for first in range(0, number, PAGE):
        words = rng.integers(1, 2**32, (min(PAGE, number - first), LENGTH), np.uint32)
        words[19::20, 100:300] = words[: len(words) // 20 * 20 : 20, 150:350]
        yield {f"{n:016x}-0": one for n, one in enumerate(words, first)}


def measure(pages: Iterator[Mapping[str, Hashes]]) -> None:
    """Compare them, and say what it took."""
    start = time.process_time()
    scratch = Path(tempfile.gettempdir())
    with closing(Pile(scratch, np.uint32, PART)) as words:
        pairs, _ = near_duplicates(*gather(pages, words), scratch)
    used = resource.getrusage(resource.RUSAGE_SELF)
    said = {
        "seconds": time.process_time() - start,
        "pairs": pairs,
        "peak": used.ru_maxrss / 2**20,
        "written": used.ru_oublock * 512 / 2**30,
    }
    print(json.dumps(said))


def line(name: str, number: int, *arguments: str) -> None:
    command = [sys.executable, "-m", "benchmarks.duplicates_growth", "--measure", str(number), *arguments]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(
        f"| {number} {name} | {said['seconds']:.2f} | {said['seconds'] / number * 1000:.2f} "
        f"| {said['pairs']} | {said['peak']:.2f} | {said['written']:.1f} |",
        flush=True,
    )


def main(folder: Path, real: int, made_up: int) -> None:
    print(f"{platform.processor() or platform.machine()}\n")
    print("| clips, all with all | processor s | for 1,000 clips | pairs | peak GiB | GiB written |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="pdid-") as scratch:
        file = Path(scratch) / "real.npz"
        if real:
            real_words(folder, real, file)
        for n in (1250, 2500, 5000, 10_000, 20_000, 40_000):
            if n <= real:
                line("real ones", n, str(file))
    for n in (20_000, 200_000, 500_000, 2_000_000):
        if n <= made_up:
            line("made up", n)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        number, *file = sys.argv[2:]
        measure(real_pages(Path(file[0]), int(number)) if file else made_up_pages(int(number)))
    else:
        numbers = [int(text) for text in sys.argv[2:]]
        main(Path(sys.argv[1]), *(numbers + [40_000, 2_000_000][len(numbers) :]))
