"""The study of cues: what a classifier listens to, in acoustic terms, class by class (after arXiv 2511.11691)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from asr_experiments.classifier import Classifier, predict
from asr_experiments.datasets import Utterance
from asr_experiments.explain.cues import CUES, HOP, cue_tracks, require_opensmile
from asr_experiments.explain.deltas import (
    DRAWS,
    LEVEL,
    SHORTEST,
    WINDOW,
    WINDOWS,
    Cell,
    Material,
    arrangements,
    cells,
    random_windows,
    top_windows,
    window_deltas,
)
from asr_experiments.explain.occlusion import require_captum
from asr_experiments.explain.saliency import WAYS, Way, saliency_maps
from asr_experiments.features import Floats, Mels, Progress
from asr_experiments.sanity import rank_correlation
from catalog.errors import UsageError

TOO_SHORT, UNKNOWN, UNVOICED = "too short for five windows", "of a class the classifier was never shown", "unvoiced"
BLOCK = 16  # clips whose maps are made at a time


@dataclass(frozen=True, slots=True)
class ExplainSettings:
    """How many random windows are drawn for each clip, and with which seed."""

    draws: int = DRAWS
    seed: int = 0


DEFAULT = ExplainSettings()


@dataclass(frozen=True, slots=True)
class Explained:
    """A clip: what it is, what was said of it, and where each way's five windows begin, in frames of 10 ms."""

    clip: int
    label: str
    said: str
    speaker: str
    n_frames: int
    starts: dict[Way, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Profile:
    """What one way of looking found: class × cue for all clips by their own class, and for right and wrong
    predictions apart by the predicted one, where only the places are asked about.

    `likeness` is the correlation, over the cues, of the effects of wrong predictions of a class with those of right
    ones; None where there are too few.
    """

    all: tuple[Cell, ...]
    right: tuple[Cell, ...]
    wrong: tuple[Cell, ...]
    likeness: dict[str, float | None]

    def strongest(self, label: str) -> Cell | None:
        """The cue with the largest effect on a class, of those in all of its clips."""
        own = [cell for cell in self.all if cell.label == label and cell.effect is not None]
        return max(own, key=lambda cell: abs(cell.effect or 0.0), default=None)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two ways are, means over the clips: the share of their windows' frames that both have, what that is
    for windows at random, and the rank correlation of their relevance over the frames."""

    first: Way
    second: Way
    shared: float
    by_chance: float
    correlation: float


@dataclass(frozen=True, slots=True)
class ExplainStudy:
    """The study's figures."""

    classes: tuple[str, ...]
    accuracy: float
    profiles: dict[Way, Profile]
    agreement: tuple[Agreement, ...]
    skipped: dict[str, int]  # why -> clips
    clips: tuple[Explained, ...]
    notes: tuple[str, ...]
    seconds: float
    settings: ExplainSettings = field(repr=False)


def explain_study(
    made: Classifier,
    mels: Mels,
    sound: Callable[[int], Floats],
    labels: Sequence[str],
    speakers: Sequence[str],
    clips: Sequence[int],
    settings: ExplainSettings = DEFAULT,
    ways: Sequence[Way] = WAYS,
    progress: Progress = lambda share: None,
) -> ExplainStudy:
    """Look at `clips` of `mels`; `sound` gives a clip's mono 16 kHz sound (n,), `labels` and `speakers` are all clips'.

    Maps are for the predicted class. Clips of classes the classifier was never shown and clips too short for five
    windows are left out and counted; unvoiced ones are counted, and have no say in cues that need a voice.

    Raises UsageError where openSMILE or captum are not installed, or where the clips left are of fewer than two
    classes.
    """
    begun = time.monotonic()
    require_opensmile()
    require_captum()
    chosen, skipped = _usable(made, mels, labels, clips)
    classes = tuple(name for name in made.accents if any(labels[i] == name for i in chosen))
    said = predict(made, mels, chosen).argmax(1)
    drawn, salient, starts = [], {way: [] for way in ways}, {way: [] for way in ways}  # type: ignore[var-annotated]
    likeness = {pair: [] for pair in combinations(ways, 2)}  # type: ignore[var-annotated]
    voiceless = 0
    for at in range(0, len(chosen), BLOCK):
        block = chosen[at : at + BLOCK]
        maps = {way: saliency_maps(made, mels, block, said[at : at + BLOCK], way) for way in ways}
        for k, clip in enumerate(block):
            n = mels[clip][1]
            tracks = cue_tracks(sound(clip)[: n * HOP], n)
            voiceless += int(tracks.voiced.sum() < WINDOW)
            rng = np.random.default_rng([settings.seed, clip])
            drawn.append(window_deltas(tracks, random_windows(n, settings.draws, rng)))
            over_time = {way: maps[way][k].sum(0) for way in ways}
            for way in ways:
                starts[way].append(top_windows(over_time[way]))
                salient[way].append(window_deltas(tracks, np.array([starts[way][-1]]))[0])
            for first, second in likeness:
                likeness[first, second].append(rank_correlation(over_time[first], over_time[second]))
        progress((at + len(block)) / len(chosen))
    if voiceless:
        skipped[UNVOICED] = voiceless
    truth, names = [labels[i] for i in chosen], [made.accents[i] for i in said]
    owners = tuple(speakers[i] for i in chosen)
    stacked = np.stack(drawn)
    profiles = {
        way: _profile(Material(np.stack(salient[way]), stacked, tuple(truth), owners), names, classes, settings.seed)
        for way in ways
    }
    explained = tuple(
        Explained(clip, truth[i], names[i], owners[i], mels[clip][1], {way: starts[way][i] for way in ways})
        for i, clip in enumerate(chosen)
    )
    return ExplainStudy(
        classes,
        float(np.mean([a == b for a, b in zip(truth, names, strict=True)])),
        profiles,
        tuple(_agreement(first, second, explained, values) for (first, second), values in likeness.items()),
        skipped,
        explained,
        _notes(truth, owners),
        time.monotonic() - begun,
        settings,
    )


def require_classes(utterances: Sequence[Utterance]) -> None:
    """Raises UsageError where a study of these clips can't compare two classes: better now than after a training."""
    trained = {u.accent for u in utterances if u.split == "train"}
    test = [u for u in utterances if u.split == "test"]
    counts = {
        UNKNOWN: sum(u.accent not in trained for u in test),
        TOO_SHORT: sum(u.accent in trained and u.n_samples < SHORTEST * HOP for u in test),
    }
    heard = {u.accent for u in test if u.accent in trained and u.n_samples >= SHORTEST * HOP}
    _two(sorted(heard), len(test), counts)


def _two(heard: Sequence[str], n_clips: int, counts: dict[str, int]) -> None:
    if len(heard) < 2:
        left = "".join(f"; {n} are {why}" for why, n in counts.items() if n)
        raise UsageError(
            f"expected test clips of two classes or more to compare, got {', '.join(heard) or 'none'} from {n_clips}"
            f" test clips{left}: add clips of 0.75 s or more of another class the classifier is trained on"
        )


def _usable(
    made: Classifier, mels: Mels, labels: Sequence[str], clips: Sequence[int]
) -> tuple[list[int], dict[str, int]]:
    """The clips that can be looked at, and how many can't, by the reason. Raises UsageError for too few classes."""
    known = [i for i in clips if labels[i] in made.accents]
    chosen = [i for i in known if mels[i][1] >= SHORTEST]
    counts = {UNKNOWN: len(clips) - len(known), TOO_SHORT: len(known) - len(chosen)}
    _two(sorted({labels[i] for i in chosen}), len(clips), counts)
    return chosen, {why: n for why, n in counts.items() if n}


def _profile(material: Material, said: Sequence[str], classes: Sequence[str], seed: int) -> Profile:
    def apart(right: bool) -> tuple[Cell, ...]:
        own = [i for i, label in enumerate(material.labels) if (label == said[i]) == right]
        if not own:
            return ()
        labels = [said[i] for i in own]
        named = [name for name in dict.fromkeys([*classes, *labels]) if name in labels]
        return tuple(cells(material.some(own, labels), named, seed, against_others=False))

    right, wrong = apart(True), apart(False)
    return Profile(
        tuple(cells(material, classes, seed)), right, wrong, {name: _likeness(right, wrong, name) for name in classes}
    )


def _likeness(right: Sequence[Cell], wrong: Sequence[Cell], label: str) -> float | None:
    effects = [{cell.cue: cell.effect for cell in side if cell.label == label} for side in (right, wrong)]
    pairs = [(a, b) for cue in CUES if (a := effects[0].get(cue.name)) and (b := effects[1].get(cue.name))]
    if len(pairs) < 3:
        return None
    return float(np.corrcoef(np.array(pairs).T)[0, 1])


def _agreement(first: Way, second: Way, clips: Sequence[Explained], correlations: Sequence[float]) -> Agreement:
    shared = [len(_frames(clip.starts[first]) & _frames(clip.starts[second])) / (WINDOWS * WINDOW) for clip in clips]
    chance = [WINDOWS * WINDOW / clip.n_frames for clip in clips]
    return Agreement(first, second, float(np.mean(shared)), float(np.mean(chance)), float(np.mean(correlations)))


def _frames(starts: Sequence[int]) -> set[int]:
    return {frame for start in starts for frame in range(start, start + WINDOW)}


def _notes(labels: Sequence[str], speakers: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know to take the figures for what they are."""
    found = []
    ways = arrangements(labels, speakers)
    if ways * LEVEL / len(CUES) < 1:
        found.append(
            f"there are {ways:.0f} ways to hand the classes out among these speakers, so that no p-value of a class can"
            f" be under {1 / ways:.2g}: more speakers are needed before a cue can count"
        )
    return tuple(found)
