"""`pdid benchmark --dry-run`: everything checked before hours are spent, and the time they would take."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asr_experiments.aligning.cell import prepare_taught
from asr_experiments.aligning.small_bert import SmallBertSettings
from asr_experiments.arms import TAUGHT, UNTRAINED, WITHOUT_MAPS
from asr_experiments.benchmark import check_cells, finetune_settings
from asr_experiments.classifier import train_classifier
from asr_experiments.datasets import Utterance
from asr_experiments.experiment import Cell, Experiment
from asr_experiments.features import LogMels
from asr_experiments.finetune import finetune
from asr_experiments.hearing import hear, training_data
from asr_experiments.training_set import n_updates
from catalog.errors import PdidError
from catalog.records import RATE
from catalog.whisper import load_whisper

PROBE_UPDATES = 3
"""Updates that are timed; the first, which warms up, is not counted."""
PROBE_CLIPS = 16


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was checked or estimated."""

    what: str
    value: Any
    note: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.1f}" if isinstance(self.value, float) else str(self.value)
        return f"{self.what:28} {value:>12}  {self.note}".rstrip()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(experiment: Experiment, wanted: Sequence[Cell]) -> Iterator[Line]:
    """Check the data, the model and the disk; time a few updates and transcriptions; say what all would take.

    Nothing is kept but log-mels. Raises PdidError or UsageError for whatever would stop the benchmark later.
    """
    check_cells(experiment, wanted)
    whisper = load_whisper(experiment.settings.model)
    yield Line("experiment", experiment.experiment_id)
    yield Line("model", experiment.model_version, f"{whisper.window_s:g} s at a time, on {whisper.device}")
    yield from _of_data(experiment)
    began = time.monotonic()
    data = training_data(experiment, whisper)  # reads every training clip, and keeps its log-mel
    test = experiment.of("test")
    LogMels([u.path for u in test], whisper.feature_extractor, experiment.cache).prepare()
    yield Line("log-mels, minutes", (time.monotonic() - began) / 60, "done now, kept for the benchmark")
    for reason, clips in (
        ("longer than the model takes", data.too_long),
        ("with too many words", data.too_many_tokens),
        ("without text", data.no_text),
    ):
        if clips:
            yield Line("left out of training", len(clips), reason)
    trained = [cell for cell in wanted if cell.arm != UNTRAINED]
    settings = finetune_settings(experiment, whisper, wanted[0])
    classifier_min = _classifier_minutes(experiment, whisper.feature_extractor) if _needs_maps(wanted) else 0.0
    total = classifier_min
    yield Line("updates of a cell", n_updates(data, settings), f"{settings.batch_size} clips in each")
    yield Line("classifier, minutes", classifier_min)
    for kind in dict.fromkeys(_kind(cell) for cell in wanted):
        cells = [cell for cell in wanted if _kind(cell) == kind]
        n_trained = sum(cell.arm != UNTRAINED for cell in cells)
        train_min, test_min = _cell_minutes(experiment, cells[-1], test)
        yield Line(f"training {kind}, minutes", train_min if n_trained else 0.0)
        yield Line(f"testing {kind}, minutes", test_min)
        total += n_trained * train_min + len(cells) * test_min
    yield Line("cells", len(wanted), f"{len(trained)} of them trained")
    yield Line("all, minutes", total, f"{total / 60:.1f} hours on this machine, nothing else running")
    yield _disk(experiment, whisper.model.num_parameters() * 4, len(trained))


def _kind(cell: Cell) -> str:
    """What a cell costs is the same for all arms that train the whole Whisper."""
    return f"{cell.arm}" if cell.arm in TAUGHT else "a cell"


def _cell_minutes(experiment: Experiment, cell: Cell, test: Sequence[Utterance]) -> tuple[float, float]:
    """What a cell will take to train and to test, from a few updates and transcriptions."""
    whisper = load_whisper(experiment.settings.model)
    with TemporaryDirectory(prefix="pdid-") as scratch:  # the small BERT's place; a hardly trained one is as fast
        own = replace(experiment, corpus=Path(scratch))
        taught = prepare_taught(own, whisper, cell, lambda what, share: None, SmallBertSettings(updates=1))
    data, settings = training_data(experiment, whisper, taught), finetune_settings(experiment, whisper, cell)
    few = sorted(data.tokens, key=lambda i: data.n_valid[i])[len(data.tokens) // 2 :][: settings.batch_size * 2]
    probe = replace(data, tokens={i: data.tokens[i] for i in few}, n_valid={i: data.n_valid[i] for i in few})
    update_s = 0.0
    if cell.arm != UNTRAINED:
        ticks = [time.monotonic()]

        class Enough(Exception):
            pass

        def hook(step: int, total: int, loss: float) -> None:
            ticks.append(time.monotonic())
            if step > PROBE_UPDATES:
                raise Enough

        loss_of = taught.loss_of if taught else None
        with suppress(Enough):
            finetune(whisper, probe, replace(settings, epochs=PROBE_UPDATES + 1), loss_of=loss_of, hook=hook)
        update_s = (ticks[-1] - ticks[1]) / max(1, len(ticks) - 2)
    if taught:
        taught.network.eval()
    else:
        whisper = load_whisper(experiment.settings.model)  # one that says no more than it did before
    some = test[:: -(-len(test) // PROBE_CLIPS)]
    began = time.monotonic()
    hear(experiment, whisper, some, experiment.settings.context, taught=taught)
    test_min = (time.monotonic() - began) / len(some) * len(test) / 60
    test_min *= 1 if experiment.settings.context == "full" else 2  # tested on the full window too
    return update_s * n_updates(data, settings) / 60, test_min


def _needs_maps(wanted: Sequence[Cell]) -> bool:
    return any(cell.arm not in WITHOUT_MAPS for cell in wanted)


def _of_data(experiment: Experiment) -> Iterator[Line]:
    for split in ("train", "dev", "test"):
        clips = experiment.of(split)
        accents = ", ".join(f"{accent} {n}" for accent, n in sorted(Counter(u.accent for u in clips).items()))
        yield Line(f"{split} clips", len(clips), f"{_hours(clips):.2f} h; {accents}")
    speakers: dict[str, set[str]] = {}
    for utterance in experiment.of("test"):
        speakers.setdefault(utterance.accent, set()).add(utterance.speaker)
    for accent, heard in sorted(speakers.items()):
        if len(heard) == 1:
            yield Line("one test speaker", accent, "its rates will have no interval")


def _hours(clips: Sequence[Utterance]) -> float:
    return sum(u.n_samples for u in clips) / RATE / 3600


def _classifier_minutes(experiment: Experiment, extractor: Any) -> float:
    """What the accent classifier will take, from one epoch on a few clips of each accent."""
    train = experiment.of("train")
    by_accent: dict[str, list[Utterance]] = {}
    for utterance in train:
        by_accent.setdefault(utterance.accent, []).append(utterance)
    few = [u for clips in by_accent.values() for u in clips[:PROBE_CLIPS]]
    mels = LogMels([u.path for u in few], extractor, experiment.cache)
    settings = replace(experiment.settings.classifier, epochs=1)
    began = time.monotonic()
    train_classifier(mels, [u.accent for u in few], range(len(few)), (), settings)
    per_clip = (time.monotonic() - began) / len(few)
    return per_clip * len(train) * experiment.settings.classifier.epochs / 60


def _disk(experiment: Experiment, model_bytes: int, trained: int) -> Line:
    """What the cells will need of the disk. Raises PdidError if it has less."""
    needed = model_bytes * (trained + 3)  # each cell's model, and one checkpoint with its optimizer
    folder = experiment.corpus
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PdidError(
            f"the benchmark needs {needed / 1e9:.1f} GB in {experiment.corpus}, which has {free / 1e9:.1f} GB free: "
            "make room, or take fewer arms or seeds"
        )
    return Line("disk, GB", needed / 1e9, f"{free / 1e9:.0f} GB are free")
