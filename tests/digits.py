"""A small data set of spoken digits for the benchmark, and ways to run it."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr_experiments.checkpoint import save_whisper
from catalog.experiments import predictions, runs
from catalog.records import Prediction, Run
from catalog.store import open_catalog
from tests.media import write_wav
from tests.speech import digit_strings, untrained_whisper

ACCENTS = {
    "jackson": "USA",
    "theo": "USA",
    "nicolas": "Belgian French",
    "yweweler": "German",
    "lucas": "German",
    "george": "Greek",
}
Side = tuple[str, str, int]
"""A side of the split, a speaker, and how many strings."""

SIDES: tuple[Side, ...] = (
    ("train", "jackson", 4),
    ("train", "nicolas", 4),
    ("train", "yweweler", 4),
    ("dev", "jackson", 1),
    ("test", "theo", 2),
    ("test", "lucas", 2),
    ("test", "george", 2),
)
"""No speaker on two sides but for dev; the Greek accent is new in the test."""

N_TEST = 6


def digits_rows(folder: Path, test_data: Path, sides: Sequence[Side] = SIDES) -> list[dict[str, str]]:
    """Write strings of two to four digits as WAV, and return a data set's rows about them."""
    found = []
    (folder / "strings").mkdir(parents=True, exist_ok=True)
    for seed, (split, speaker, n) in enumerate(sides):
        for number, spoken in enumerate(digit_strings(test_data, speaker, n, seed=seed, digits=(2, 4))):
            clip = f"strings/{speaker}-{split}-{number}.wav"
            write_wav(folder / clip, spoken.sound)
            row = {"clip": clip, "text": spoken.text, "accent": ACCENTS[speaker], "speaker": speaker, "split": split}
            found.append(row)
    return found


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Write a data set file and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["clip", "text", "accent", "speaker", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def untrained_folder(folder: Path) -> Path:
    """A very small Whisper with random weights, of 4 s, as a folder that --model takes."""
    return save_whisper(untrained_whisper(), folder)


def arguments(data: Path, corpus: Path, model: Path, arms: str, **changes: Any) -> list[str]:
    """The command line of a small benchmark; `changes` are further options, an underscore for a hyphen."""
    options = {"seeds": "0", "epochs": "2", "batch_size": "8", "context": "auto", "score": "raw"} | changes
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    base = ["--dataset", str(data), "--corpus", str(corpus), "--model", str(model), "--language", "en"]
    return ["benchmark", *base, "--standard", "USA", "--arms", arms, *given]


def one_thread_environment() -> dict[str, str]:
    """For a process that is to compute what this one does, to the bit."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def runs_of(corpus: Path) -> dict[str, Run]:
    """The catalog's runs by arm and seed: `finetune-0`."""
    with open_catalog(corpus) as catalog:
        return {f"{run.arm}-{run.seed}": run for run in runs(catalog)}


def said_by(corpus: Path, run: Run) -> list[Prediction]:
    with open_catalog(corpus) as catalog:
        return predictions(catalog, run.run_id)
