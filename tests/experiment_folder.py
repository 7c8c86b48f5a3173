"""A small experiment on real clips for the tests of its report: written as the benchmark writes one, with set texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asr_experiments.arms import ARMS, ArmName
from asr_experiments.classifier import ClassifierSettings, save_classifier, train_classifier
from asr_experiments.datasets import Split, Utterance
from asr_experiments.experiment import BenchmarkSettings, Cell, Experiment, make_experiment, save_experiment
from asr_experiments.features import LogMels
from asr_experiments.hearing import group_rates
from asr_experiments.masking import MaskSettings
from asr_experiments.scoring import score
from catalog.experiments import write_run
from catalog.records import RATE, Prediction, Run
from catalog.store import open_catalog
from tests.catalog_rows import WHEN

HOSTILE = "<script>alert(1)</script>\"'&amp;|_%"
PERSIAN = "یزدی"
SAID = "سلام، می‌روم «خانه» با ۲ نفر"
RIGHT = "سلام می‌روم خانه با 2 نفر"
CLASSIFIER = ClassifierSettings(crop_frames=96, epochs=1, channels=(4, 4, 4, 4))

PLACES: tuple[tuple[str, str, Split, str], ...] = (
    ("p225_003", "Tehrani", "train", "a"), ("p226_003", PERSIAN, "train", "b"), ("p227_003", PERSIAN, "train", "c"),
    ("p225_008", "Tehrani", "dev", "a"),
    ("p225_011", "Tehrani", "test", "d"), ("p225_016", "Tehrani", "test", "e"), ("p226_005", PERSIAN, "test", "f"),
    ("p226_008", PERSIAN, "test", "g"), ("p227_005", HOSTILE, "test", "h"),
)  # fmt: skip


def make_utterances(test_data: Path) -> list[Utterance]:
    return [
        Utterance(
            f"{i:016x}", test_data / "clips" / "vctk" / f"{name}.flac", SAID, accent, speaker, speaker, split, 6 * RATE
        )
        for i, (name, accent, split, speaker) in enumerate(PLACES)
    ]


def furnish(corpus: Path, utterances: Sequence[Utterance], **changes: Any) -> Experiment:
    """An experiment's folder; its cells come with `add_cell`."""
    settings = BenchmarkSettings(model="/no/such/whisper", language="fa", standard="Tehrani", classifier=CLASSIFIER)
    experiment = make_experiment(corpus, replace(settings, **changes), "whisper-x 01234567", utterances)
    save_experiment(experiment)
    return experiment


def add_cell(
    experiment: Experiment, arm: ArmName, seed: int, wrong: Mapping[str, int] | None = None, error: str | None = None
) -> None:
    """A cell: `wrong` says how many words a speaker's clips lack at the end, `error` that it failed."""
    heard = {
        u.segment_id: " ".join(RIGHT.split()[: 6 - (wrong or {}).get(u.speaker, 0)]) for u in experiment.of("test")
    }
    scores = score(experiment.of("test"), heard, "fa")
    metrics: dict[str, Any] = {"error": error}
    if error is None:
        metrics = {"groups": group_rates(experiment, scores), "seconds": 90.0, "peak_memory_bytes": 2_500_000_000}
        if arm != "zero-shot":
            masked = 0.25 * (arm != "finetune")
            curve = [
                {"loss": 2.0 - e, "dev_loss": 2.5 - e, "dev_wer": 0.5, "share_masked": masked, "seconds": 9.0}
                for e in (0, 1)
            ]
            metrics |= {"losses": [2.0, 1.5, 1.0], "epochs": curve, "n_updates": 3, "n_trained": 1234}
            metrics |= {"micro_batch": 4, "resumed_from": 1, "left_out": {"too long": 1}, "seconds_training": 30.0}
    config = {"settings": asdict(experiment.settings), "training": {"batch_size": 8, "epochs": 2}, "device": "cpu"}
    run_id = experiment.run_id(Cell(arm, seed))
    run = Run(run_id, experiment.experiment_id, arm, seed, experiment.settings.model, config, metrics, WHEN)
    said = [Prediction(run_id, s.segment_id, s.reference, s.hypothesis, s.errors["normalised"].errors) for s in scores]
    with open_catalog(experiment.corpus, write=True) as catalog:
        write_run(catalog, run, [] if error else said)


def add_classifier(experiment: Experiment) -> None:
    """A hardly trained accent classifier, and the feature extractor that a cell leaves with its model."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(chunk_length=12)
    extractor.save_pretrained(experiment.folder / "cells" / "finetune-0" / "model")
    train = experiment.of("train")
    mels = LogMels([u.path for u in train], extractor, experiment.cache)
    made = train_classifier(mels, [u.accent for u in train], range(len(train)), (), experiment.settings.classifier)
    save_classifier(made, experiment.folder / "classifier")


def whole(corpus: Path, test_data: Path) -> Experiment:
    """Every arm: three seeds, of which saliency has one failed, random one missing, and zero-shot only one."""
    experiment = furnish(corpus, make_utterances(test_data), mask=MaskSettings(binary=0.4))
    add_classifier(experiment)
    add_cell(experiment, "zero-shot", 0, {"d": 2, "e": 3, "f": 4, "g": 4, "h": 6})
    for number, arm in enumerate(ARMS[1:]):
        for seed in (0, 1, 2):
            if arm == "saliency" and seed == 2:
                add_cell(experiment, arm, seed, error=f"the loss is nan in {HOSTILE}")
            elif (arm, seed) != ("random", 2):
                f = 3 if arm == "finetune" else number % 3
                add_cell(experiment, arm, seed, {"d": 1, "e": seed % 2, "f": f, "g": f, "h": 5})
    return experiment
