"""The real run: every arm on strings of spoken digits with accents, and the held-out speaker rotated.

    python benchmarks/digits.py make FOLDER [--digits 6,12]   the strings, and a data set file for each configuration
    python benchmarks/digits.py run FOLDER [--seeds 0,1,2] [--only NAME]    pdid benchmark on each of them

The Free Spoken Digit Dataset has six speakers: two from the USA, two Germans, a Belgian and a Greek. Digits of one
speaker are joined to strings of 6 to 12 (or as `--digits` says), as shared/tools/make_digits.py does. Configuration
`main` trains on the USA, the Belgian and one German, and tests the other German (seen accent), the Greek (unseen
accent) and the official test takes of those it trained on. `hold-SPEAKER` trains on all but that one.
`shared/models/whisper-digits` heard the two US speakers' takes 5 to 49 only.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N = {"train": 170, "dev": 10, "test": 80}
"""Strings per speaker: train from takes 5 to 44, dev from 45 to 49, test from the official test takes 0 to 4."""
TAKES = {"train": (5, 45), "dev": (45, 50), "test": (0, 5)}
MAIN_HELD_OUT = ("lucas", "george")
FOUR = "zero-shot,finetune,specaugment-matched,random,saliency"


def fsdd() -> Path:
    return Path(os.environ["PDID_TEST_DATA"]) / "clips" / "fsdd"


def speakers() -> dict[str, str]:
    """Speaker → accent."""
    with (fsdd() / "speakers.csv").open() as file:
        return {row["speaker"]: row["accent"] for row in csv.DictReader(file)}


def make(folder: Path, digits: tuple[int, int]) -> None:
    """Write the strings as WAV, 16 kHz, and one data set file for each configuration."""
    rows = [row for speaker in speakers() for row in strings(folder, speaker, digits)]
    accented = [speaker for speaker, accent in speakers().items() if accent != "USA"]
    held = {"main": MAIN_HELD_OUT} | {f"hold-{speaker}": (speaker,) for speaker in accented}
    for name, held_out in held.items():
        chosen = [row for row in rows if row["speaker"] not in held_out or row["split"] == "test"]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
        print(folder / f"{name}.csv", len(chosen), "strings", flush=True)


def strings(folder: Path, speaker: str, digits: tuple[int, int]) -> Iterator[dict[str, str]]:
    (folder / "strings").mkdir(parents=True, exist_ok=True)
    for side, (split, n) in enumerate(N.items()):
        rng = np.random.default_rng([sum(speaker.encode()), side])
        for number in range(n):
            spoken = rng.integers(0, 10, rng.integers(digits[0], digits[1] + 1))
            parts = [np.zeros(int(RATE * rng.uniform(0.1, 0.3)), np.float32)]
            for digit in spoken:
                take = rng.integers(*TAKES[split])
                clip, rate = soundfile.read(fsdd() / f"{digit}_{speaker}_{take}.wav", dtype="float32")
                pause = np.zeros(int(RATE * rng.uniform(0.05, 0.25)), np.float32)
                parts += [soxr.resample(clip, rate, RATE).astype(np.float32), pause]
            sound = np.concatenate(parts)
            sound = sound + rng.normal(0, 3e-4, len(sound)).astype(np.float32)
            path = f"strings/{speaker}-{split}-{number:03d}.wav"
            soundfile.write(folder / path, sound / max(1.0, np.abs(sound).max() / 0.95), RATE)
            text = " ".join(WORDS[digit] for digit in spoken)
            accent = speakers()[speaker]
            yield {"clip": path, "text": text, "accent": accent, "speaker": speaker, "split": split}


def run(folder: Path, seeds: str, only: str | None, epochs: int, context: str, arms: str | None) -> None:
    for path in sorted(folder.glob("*.csv"), key=lambda path: path.stem != "main"):
        if only and path.stem != only:
            continue
        began = time.monotonic()
        chosen = arms or ("all" if path.stem == "main" else FOUR)
        command = [
            *(sys.executable, "-c", "from corpus_builder.cli import main; main()", "benchmark"),
            *("--dataset", str(path), "--corpus", str(folder / "corpus"), "--model", "whisper-digits"),
            *("--language", "en", "--standard", "USA", "--score", "raw", "--epochs", str(epochs), "--context", context),
            *("--arms", chosen, "--seeds", seeds),
        ]
        subprocess.run(command, check=True)
        print(f"{path.stem}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--digits", default="6,12")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only")
    parser.add_argument("--arms")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--context", default="full")
    given = parser.parse_args()
    if given.what == "make":
        fewest, most = map(int, given.digits.split(","))
        make(given.folder, (fewest, most))
    else:
        run(given.folder, given.seeds, given.only, given.epochs, given.context, given.arms)
