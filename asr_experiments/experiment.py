"""What an experiment is: its settings, the data it runs on, its cells, and the folder that holds what it makes.

An experiment is named after everything that decides its results but arms and seeds, so arms and seeds can be added
to it later, and two processes that are given the same command share its cells.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from asr_experiments.aligning.loss import AlignSettings
from asr_experiments.arms import UNTRAINED, ArmName
from asr_experiments.cam import CamSettings
from asr_experiments.classifier import ClassifierSettings
from asr_experiments.datasets import Utterance
from asr_experiments.masking import MaskSettings
from catalog.context import Context
from catalog.errors import PdidError, UsageError

CLIPS_FILE = "clips.csv"
SETTINGS_FILE = "experiment.json"
PACKAGES = ("pdid", "torch", "transformers", "accelerate", "numpy", "jiwer")


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """Everything that decides an experiment's results but its data, arms and seeds. None: what suits the model."""

    model: str
    language: str | None
    standard: str | None = None  # the accent the others are compared with
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    context: Context = "full"
    lora: bool = False
    mask: MaskSettings = field(default_factory=MaskSettings)
    cam: CamSettings = field(default_factory=CamSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    score: Literal["normalised", "raw"] = "normalised"  # the texts that the tables' errors are counted on
    leave_out: str | None = None  # an accent taken out of training and tested as an unseen one
    align: AlignSettings = field(default_factory=AlignSettings)  # of the arms `ctc` and `align`


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: an arm with a seed."""

    arm: ArmName
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.replace('++', '-pp')}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Experiment:
    """Settings and data, and where what they give is kept."""

    corpus: Path
    experiment_id: str
    settings: BenchmarkSettings
    model_version: str
    utterances: tuple[Utterance, ...]
    data_fingerprint: str

    @property
    def folder(self) -> Path:
        return self.corpus / "runs" / self.experiment_id

    @property
    def cache(self) -> Path:
        """Log-mels and saliency maps, which experiments share."""
        return self.corpus / "runs" / "cache"

    def run_id(self, cell: Cell) -> str:
        return f"{self.experiment_id}-{cell.name}"

    def cell_folder(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.name

    def of(self, split: str) -> list[Utterance]:
        return [utterance for utterance in self.utterances if utterance.split == split]

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The accents of the training clips."""
        return tuple(sorted({utterance.accent for utterance in self.of("train")}))


def make_experiment(
    corpus: Path, settings: BenchmarkSettings, model_version: str, utterances: Sequence[Utterance]
) -> Experiment:
    """The experiment of these settings, model and data. Raises UsageError for data that can give no result."""
    chosen = tuple(_leave_out(utterances, settings.leave_out))
    for split in ("train", "test"):
        if not any(utterance.split == split for utterance in chosen):
            raise UsageError(
                f"there is no {split} speech among the {len(chosen)} clips: choose another split or data set"
            )
    accents = {utterance.accent for utterance in chosen}
    if settings.standard is not None and settings.standard not in accents:
        raise UsageError(
            f"--standard: no clip has the accent {settings.standard!r}; there are {', '.join(sorted(accents))}"
        )
    data = fingerprint(chosen)
    deciding = asdict(settings)
    if settings.align == AlignSettings():
        del deciding["align"]  # experiments that were begun before there was such a setting keep their names
    told = json.dumps([deciding, model_version, data], sort_keys=True)
    short = "".join(c if c.isalnum() else "-" for c in Path(settings.model).name).strip("-")[:24]
    name = f"{short or 'model'}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    return Experiment(corpus, name, settings, model_version, chosen, data)


def cells(arms: Iterable[ArmName], seeds: Sequence[int]) -> list[Cell]:
    """The matrix, seed by seed, so that every arm has its first seed early; the untrained model has one cell."""
    arms = list(dict.fromkeys(arms))
    return [
        Cell(arm, seed)
        for number, seed in enumerate(dict.fromkeys(seeds))
        for arm in arms
        if arm != UNTRAINED or not number
    ]


def _leave_out(utterances: Sequence[Utterance], accent: str | None) -> Iterator[Utterance]:
    """The data with all of an accent's clips in test."""
    if accent is not None and not any(u.accent == accent and u.split == "train" for u in utterances):
        raise UsageError(f"--leave-out: no training clip has the accent {accent!r}")
    for utterance in utterances:
        yield replace(utterance, split="test") if utterance.accent == accent else utterance


def fingerprint(utterances: Iterable[Utterance]) -> str:
    """16 hex digits for what the clips are, who says what in them and their sides; the order is nothing."""
    rows = sorted((u.segment_id, u.text, u.accent, u.speaker, u.split) for u in utterances)
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def environment() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {package: version(package) for package in PACKAGES}
    return found | {"python": platform.python_version(), "platform": platform.platform()}


# ---------------------------------------------------------------- on disk


def save_experiment(experiment: Experiment) -> None:
    """Write the settings and the list of clips into the experiment's folder."""
    told = {
        "experiment_id": experiment.experiment_id,
        "settings": asdict(experiment.settings),
        "model_version": experiment.model_version,
        "data_fingerprint": experiment.data_fingerprint,
        "trained_on": experiment.trained_on,
        "environment": environment(),
    }
    out = io.StringIO()
    names = [f.name for f in fields(Utterance)]
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([getattr(utterance, name) for name in names] for utterance in experiment.utterances)
    write_file(experiment.folder / CLIPS_FILE, out.getvalue())
    write_file(experiment.folder / SETTINGS_FILE, json.dumps(told, ensure_ascii=False, indent=1))


def load_clips(folder: Path) -> list[Utterance]:
    """The clips of an experiment, as `save_experiment` wrote them. Raises PdidError where they can't be read."""
    path = folder / CLIPS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            Utterance(**{**row, "path": Path(row["path"]), "n_samples": int(row["n_samples"])})  # type: ignore[arg-type]
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PdidError(f"the experiment's list of clips {path} can't be read: {error}") from None


def load_settings(folder: Path) -> dict[str, Any]:
    """What `save_experiment` said of the experiment. Raises PdidError where there is none."""
    try:
        found = json.loads((folder / SETTINGS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        raise PdidError(f"there is no experiment in {folder}: `pdid benchmark` makes one") from None
    assert isinstance(found, dict)
    return found


def write_file(path: Path, text: str) -> None:
    """Write a text beside its place, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)


@contextmanager
def claim(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a folder for this process; false where another holds it and `wait` is off."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
