"""Accent classifiers that are trained once for their data and settings, tested beside their controls, and kept.

The benchmark takes its saliency from them, and `pdid benchmark classifier` shows how good they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr_experiments.classifier import ClassifierSettings, save_classifier, train_classifier
from asr_experiments.controls import split_warnings, study_classifier
from asr_experiments.datasets import Utterance
from asr_experiments.experiment import claim, write_file
from asr_experiments.features import LogMels, settings_hash
from asr_experiments.sanity import SHARES, SanityStudy

CLASSIFIER_FILE = "classifier.json"
SCORES_FILE = "scores.json"

SANITY_CLIPS = 150
"""Clips of each side that the planted-truth study takes at most; more make it slower, not surer."""

EXPLAIN_CLIPS = 60
"""Test clips of each class that the study of cues looks at, at most: an occlusion is a hundred predictions a crop."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""


# ---------------------------------------------------------------- the accent classifier


def obtain_classifier(
    corpus: Path,
    utterances: Sequence[Utterance],
    extractor: Any,
    settings: ClassifierSettings,
    device: str,
    report: Report,
) -> Path:
    """The folder of the accent classifier of some clips: runs/classifier-…, made the first time it is asked for.

    It is named after the clips, their accents, speakers and sides, the settings and the features (`extractor` is a
    WhisperFeatureExtractor), so experiments that have these in common share it. `scores.json` in it says how well
    it and its controls tell the accents of test clips, those of accents it was never shown left out. Raises
    UsageError with fewer than two accents to train on, PdidError where a clip can't be read or the training breaks
    down.
    """
    folder = corpus / "runs" / f"classifier-{_name(utterances, extractor, settings)}"
    with claim(folder, wait=True):
        if (folder / CLASSIFIER_FILE).exists():
            return folder
        mels = LogMels([u.path for u in utterances], extractor, corpus / "runs" / "cache")
        mels.prepare(lambda share: report("log-mels", share))
        labels = [u.accent for u in utterances]
        speakers, sources = [u.speaker for u in utterances], [u.source for u in utterances]
        train, dev, test = ([i for i, u in enumerate(utterances) if u.split == side] for side in _SIDES)

        def progress(share: float) -> None:
            report("accent classifier", share)

        if {labels[i] for i in test} & {labels[i] for i in train}:
            n_samples = [u.n_samples for u in utterances]
            study = study_classifier(
                mels, n_samples, labels, speakers, sources, train, dev, test, settings, device, progress
            )
            made = study.made
            told: dict[str, Any] = {
                "scores": asdict(study.scores),
                "duration_only": asdict(study.duration_only),
                "pauses_only": asdict(study.pauses_only),
                "warnings": study.warnings,
            }
        else:
            made = train_classifier(mels, labels, train, dev, settings, device, progress)
            told = {"warnings": split_warnings(labels, speakers, sources, train, test)}
        n_test = sum(labels[i] in made.accents for i in test)
        counts = {"accents": made.accents, "n_train": len(train), "n_test": n_test}
        write_file(folder / SCORES_FILE, json.dumps(counts | told, ensure_ascii=False, indent=1))
        save_classifier(made, folder)
    return folder


_SIDES = ("train", "dev", "test")


def _name(utterances: Sequence[Utterance], extractor: Any, settings: ClassifierSettings) -> str:
    rows = sorted((u.segment_id, u.accent, u.speaker, u.source, u.split) for u in utterances)
    told = json.dumps([rows, asdict(settings), settings_hash(extractor)], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def copy_classifier(folder: Path, target: Path) -> None:
    """Copy a classifier's folder, so that an experiment's own stays what it was; one that is there stays."""
    if (target / CLASSIFIER_FILE).exists():
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)


def read_scores(folder: Path) -> dict[str, Any]:
    """What `obtain_classifier` wrote of how well the classifier does."""
    found = json.loads((folder / SCORES_FILE).read_text("utf-8"))
    assert isinstance(found, dict)
    return found


# ---------------------------------------------------------------- planted truth


def sanity_sides(utterances: Sequence[Utterance], seed: int = 0) -> tuple[list[Utterance], list[str]]:
    """Clips for the planted-truth study, and the speakers of them that it is tested on.

    Those are the speakers who are heard in test alone; where there is none, a third of all, drawn with `seed`. Of each
    side up to SANITY_CLIPS clips are drawn, a speaker's turn by turn.
    """
    everyone = sorted({u.speaker for u in utterances})
    held_out = set(everyone) - {u.speaker for u in utterances if u.split != "test"}
    rng = random.Random(seed)
    if not held_out or held_out == set(everyone):
        held_out = set(rng.sample(everyone, len(everyone) // 3 or 1))
    chosen: list[Utterance] = []
    for side in (False, True):
        chosen += by_turns([u for u in utterances if (u.speaker in held_out) == side], SANITY_CLIPS, rng)
    return chosen, sorted(held_out)


def by_turns(utterances: Sequence[Utterance], most: int, rng: random.Random) -> list[Utterance]:
    """Up to `most` of some clips, drawn a speaker's turn by turn, so that nobody's many crowd out another's few."""
    own = [
        rng.sample(clips, len(clips))
        for speaker in sorted({u.speaker for u in utterances})
        for clips in [sorted((u for u in utterances if u.speaker == speaker), key=lambda u: u.segment_id)]
    ]
    turns = [clips[turn] for turn in range(max(map(len, own), default=0)) for clips in own if turn < len(clips)]
    return turns[:most]


def sanity_figures(study: SanityStudy) -> dict[str, dict[str, Any]]:
    """The study's figures, by kind of map, as they are written to runs/sanity; the curves are over `shares`."""
    about = {
        "chance": study.chance,
        "accuracy_unmasked": study.accuracy,
        "n_train": study.n_train,
        "n_test": study.n_test,
        "n_test_speakers": study.n_test_speakers,
    }
    return {
        method: {"failures": figures.failures(study.chance)}
        | about
        | asdict(figures)
        | {"shares": SHARES, "seconds": study.seconds, "settings": asdict(study.settings)}
        for method, figures in study.methods.items()
    }


# ---------------------------------------------------------------- acoustic cues


def explain_clips(utterances: Sequence[Utterance], seed: int = 0) -> list[Utterance]:
    """Test clips for the study of cues: of each class up to EXPLAIN_CLIPS, a speaker's turn by turn, by `seed`."""
    rng = random.Random(seed)
    test = [u for u in utterances if u.split == "test"]
    return [
        clip
        for label in sorted({u.accent for u in test})
        for clip in by_turns([u for u in test if u.accent == label], EXPLAIN_CLIPS, rng)
    ]
