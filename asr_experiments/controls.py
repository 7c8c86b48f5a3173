"""What tells accents apart without their speech (METHOD §2): the length of the clips, and what lies between the words.

A classifier of accents has shown something only by as much as it beats these two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr_experiments.classifier import (
    DEFAULT,
    Classifier,
    ClassifierSettings,
    Scores,
    evaluate,
    score,
    shared_groups,
    train_classifier,
)
from asr_experiments.features import Floats, Mels, Progress, Shape
from catalog.errors import UsageError

QUIET = 25.0 / 40.0  # 25 dB under the speech; one unit of Whisper's log-mel is 40 dB
QUIETEST = 0.1  # of the frames are taken to be pauses in any case
PAUSE_FRAMES = 96  # the crop of pauses


@dataclass(frozen=True, slots=True)
class ClassifierStudy:
    """A trained classifier, how well it does, and how well its two controls do, all on the same test clips."""

    made: Classifier
    scores: Scores
    duration_only: Scores
    pauses_only: Scores
    n_train: int
    n_test: int
    warnings: tuple[str, ...]  # what makes the scores doubtful: a speaker on both sides, an accent without test clips…

    @property
    def chance(self) -> float:
        """The balanced accuracy of guessing."""
        return 1 / len(self.made.accents)


def pause_frames(features: Floats, n_valid: int) -> NDArray[np.bool_]:
    """Which of a clip's valid frames hold no speech, (n_valid,): 25 dB or more under its loud ones (the 95th
    percentile of the mean mel power), and at least the quietest tenth."""
    power = np.log10(np.mean(10.0 ** (4.0 * features[:, :n_valid]), axis=0)) / 4.0  # in the features' unit
    found: NDArray[np.bool_] = power <= max(
        float(np.percentile(power, 95)) - QUIET, float(np.quantile(power, QUIETEST, method="higher"))
    )
    return found


@dataclass(frozen=True, slots=True)
class Pauses:
    """Log-mels of which only the frames without speech are left, strung together."""

    mels: Mels

    @property
    def shape(self) -> Shape:
        return self.mels.shape

    def __len__(self) -> int:
        return len(self.mels)

    def __getitem__(self, index: int) -> tuple[Floats, int]:
        features, n_valid = self.mels[index]
        kept = features[:, :n_valid][:, pause_frames(features, n_valid)]
        out = np.repeat(features[:, -1:], self.shape.n_frames, axis=1)
        out[:, : kept.shape[1]] = kept
        return out, kept.shape[1]


def duration_scores(
    durations: Sequence[float], labels: Sequence[str], train: Sequence[int], test: Sequence[int]
) -> Scores:
    """How well the length alone tells the accents: each class's density of log duration on the training clips (a
    Gaussian kernel of Silverman's width), the classes equally likely. `durations` of all clips in any unit, over 0."""
    accents = sorted({labels[i] for i in train})
    x = np.log(np.asarray(durations, float))
    known = [i for i in test if labels[i] in accents]
    density = np.zeros((len(known), len(accents)))
    for k, accent in enumerate(accents):
        own = x[[i for i in train if labels[i] == accent]]
        spread = min(own.std(), float(np.subtract(*np.percentile(own, [75, 25]))) / 1.34) or own.std()
        width = max(0.9 * spread * len(own) ** -0.2, 0.02)  # Silverman 1986, eq. 3.31; 2 % of the length at least
        density[:, k] = np.exp(-0.5 * ((x[known][:, None] - own) / width) ** 2).mean(1) / width
    return score([accents.index(labels[i]) for i in known], density.argmax(1), len(accents))


def split_warnings(
    labels: Sequence[str],
    speakers: Sequence[str | None],
    sources: Sequence[str | None],
    train: Sequence[int],
    test: Sequence[int],
) -> tuple[str, ...]:
    """What makes a test of the classifier doubtful, a sentence each. All sequences are over all clips."""
    found = []
    for what, groups in (("speaker", speakers), ("source", sources)):
        shared = shared_groups([groups[i] for i in train], [groups[i] for i in test])
        if shared:
            names = ", ".join(shared[:5]) + (" …" if len(shared) > 5 else "")
            found.append(f"{len(shared)} {what}(s) in both training and test: {names}; the scores are too good")
    for accent in sorted({labels[i] for i in train}):
        n = len({speakers[i] or str(i) for i in train if labels[i] == accent})
        if n < 2:
            found.append(f"{accent}: one speaker in training; the classifier may know the voice, not the accent")
    untested = sorted({labels[i] for i in train} - {labels[i] for i in test})
    if untested:
        found.append(f"no test clips of {', '.join(untested)}")
    unknown = sorted({labels[i] for i in test} - {labels[i] for i in train})
    if unknown:
        found.append(f"left out, for the classifier was never shown them: {', '.join(unknown)}")
    return tuple(found)


def study_classifier(
    mels: Mels,
    n_samples: Sequence[int],
    labels: Sequence[str],
    speakers: Sequence[str | None],
    sources: Sequence[str | None],
    train: Sequence[int],
    dev: Sequence[int],
    test: Sequence[int],
    settings: ClassifierSettings = DEFAULT,
    device: str = "cpu",
    progress: Progress = lambda share: None,
) -> ClassifierStudy:
    """Train the classifier and its controls, and score all three on `test`.

    All sequences are over all clips of `mels` (`n_samples`: lengths at 16 kHz); `train`, `dev` and `test` are
    indices. Raises UsageError with fewer than two accents to train on or no test clip of a known accent.
    """
    if not {labels[i] for i in test} & {labels[i] for i in train}:
        raise UsageError("the classifier can't be tested: no test clip has an accent of the training clips")

    def part(low: float, high: float) -> Callable[[float], None]:
        return lambda share: progress(low + share * (high - low))

    made = train_classifier(mels, labels, train, dev, settings, device, part(0.0, 0.7))
    alone = replace(settings, crop_frames=min(PAUSE_FRAMES, settings.crop_frames or PAUSE_FRAMES))
    pauses = Pauses(mels)
    control = train_classifier(pauses, labels, train, dev, alone, device, part(0.7, 1.0))
    return ClassifierStudy(
        made,
        evaluate(made, mels, labels, test),
        duration_scores(n_samples, labels, train, test),
        evaluate(control, pauses, labels, test),
        len(train),
        len(test),
        split_warnings(labels, speakers, sources, train, test),
    )
