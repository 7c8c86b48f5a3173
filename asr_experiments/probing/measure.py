"""One layer, one question: train a probe or a reader on it, and test that in every domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from asr_experiments.classifier import Ints, score
from asr_experiments.datasets import Utterance
from asr_experiments.probing.ctc import read, train_reader
from asr_experiments.probing.figures import Control, Figure, Place, ProbeSettings
from asr_experiments.probing.linear import train_probe
from asr_experiments.probing.sides import IN, Item, Task
from asr_experiments.probing.store import Key, Store
from asr_experiments.scoring import RAW
from asr_experiments.scoring import score as score_texts
from asr_experiments.significance import Sample, interval

PLANTED_SHIFT = 5.0
"""Between the two values of a planted attribute, in standard deviations of the standardised means."""

MILLION = 1_000_000


def linear(
    place: Place, store: Store, clips: Sequence[Utterance], task: Task, settings: ProbeSettings
) -> tuple[list[Figure], Control]:
    """A linear probe's balanced accuracy by domain, over all folds, and the same with the training labels shuffled."""
    number = {name: k for k, name in enumerate(task.classes)}
    truth: dict[str, list[Ints]] = {domain: [] for domain in task.domains}
    said: dict[str, list[Ints]] = {domain: [] for domain in task.domains}
    guessed: list[list[Ints]] = [[] for _ in range(settings.draws)]
    for k, fold in enumerate(task.folds):
        x = store.means(place.depth, _keys(fold.train))
        y = np.array([number[item.label] for item in fold.train])
        groups = [task.groups[item.clip] for item in fold.train]
        probe = train_probe(x, y, len(number), groups, settings.seed)
        tests = {d: store.means(place.depth, _keys(items)) for d, items in fold.tests.items()}
        for domain, tested in tests.items():
            truth[domain].append(np.array([number[item.label] for item in fold.tests[domain]]))
            said[domain].append(probe.predict(tested))
        for draw in range(settings.draws):
            shuffled = np.random.default_rng([settings.seed, k, draw]).permutation(y)
            other = train_probe(x, shuffled, len(number), groups, settings.seed, probe.l2)
            guessed[draw].append(other.predict(tests[IN]))
    figures = []
    for domain in task.domains:
        who = [clips[item.clip].speaker for fold in task.folds for item in fold.tests.get(domain, ())]
        right, taken = np.concatenate(truth[domain]), np.concatenate(said[domain])
        figures.append(_accuracy(place, task, domain, right, taken, who))
    right = np.concatenate(truth[IN])
    values = [score(right, np.concatenate(one), len(number)).balanced_accuracy for one in guessed]
    return figures, _control(place, task.name, "shuffled", values, 1 / len(set(right.tolist())))


def planted(place: Place, store: Store, task: Task, settings: ProbeSettings) -> list[Control]:
    """Whether a probe finds an attribute that was laid into a layer: half the clips, by lot, are moved one way along a
    random direction, half the other; and whether it finds nothing when the training labels are shuffled."""
    fold = task.folds[0]
    train, test = (sorted({(item.clip, item.sound) for item in part if item.sound == "clean"})
                   for part in (fold.train, fold.tests[task.domains[0]]))  # fmt: skip
    x, tested = store.means(place.depth, train), store.means(place.depth, test)
    scale = x.std(0)
    found: dict[str, list[float]] = {"planted": [], "shuffled": []}
    l2: float | None = None  # chosen on the first draw
    for draw in range(settings.draws):
        rng = np.random.default_rng([settings.seed, draw])
        way = rng.standard_normal(x.shape[1])
        way = (PLANTED_SHIFT / np.linalg.norm(way) * way * scale).astype(np.float32)
        y, truth = (rng.permutation(np.arange(len(part)) % 2) for part in (train, test))
        moved = [part + np.outer(labels - 0.5, way) for part, labels in ((x, y), (tested, truth))]
        groups = [str(clip) for clip, _ in train]
        for kind, labels in (("planted", y), ("shuffled", rng.permutation(y))):
            probe = train_probe(moved[0], labels, 2, groups, settings.seed, l2)
            l2 = probe.l2
            found[kind].append(score(truth, probe.predict(moved[1]), 2).balanced_accuracy)
    return [_control(place, "planted attribute", kind, found[kind], 0.5) for kind in ("planted", "shuffled")]


def words(
    place: Place, store: Store, hop: int, clips: Sequence[Utterance], task: Task, settings: ProbeSettings, device: str
) -> tuple[list[Figure], int]:
    """A reader's character error rate by domain, and how many training clips had too few steps for their text."""
    (fold,) = task.folds
    texts = [item.label for item in fold.train]
    made = train_reader(store.frames(place.depth, _keys(fold.train)), texts, hop, settings.reader, device)
    figures = []
    for domain in task.domains:
        items = fold.tests[domain]
        heard = read(made, store.frames(place.depth, _keys(items)))
        own = [replace(clips[item.clip], text=item.label) for item in items]
        scores = score_texts(own, {u.segment_id: text for u, text in zip(own, heard, strict=True)}, None)
        who = [one.speaker for one in scores]
        errors = [one.errors[RAW].char_errors for one in scores]
        figures.append(_figure(place, task.name, domain, who, errors, [len(item.label) for item in items], None))
    return figures, made.too_few


def _keys(items: Sequence[Item]) -> list[Key]:
    return [(item.clip, item.sound) for item in items]


def _control(place: Place, task: str, kind: str, values: Sequence[float], chance: float) -> Control:
    assert kind in ("planted", "shuffled")
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Control(place, task, kind, float(np.mean(values)), error, chance)  # type: ignore[arg-type]


def _accuracy(place: Place, task: Task, domain: str, truth: Ints, said: Ints, who: Sequence[str]) -> Figure:
    """Balanced accuracy: every clip counts by one over its class's number, in millionths, for counts are whole."""
    counts = np.bincount(truth, minlength=len(task.classes))
    weight = np.round(MILLION / counts[truth]).astype(np.int64)
    wrong = _figure(place, task.name, domain, who, weight * (truth != said), weight, 1 / np.count_nonzero(counts))
    low = None if wrong.high is None else max(0.0, 1 - wrong.high)
    return replace(wrong, value=1 - wrong.value, low=low, high=None if wrong.low is None else 1 - wrong.low)


def _figure(
    place: Place,
    task: str,
    domain: str,
    who: Sequence[str],
    errors: Sequence[int] | NDArray[np.int64],
    of: Sequence[int] | NDArray[np.int64],
    chance: float | None,
) -> Figure:
    """Summed errors over what they are of, and the interval over speakers (`who`, of each clip)."""
    speakers = tuple(sorted(set(who)))
    column = [speakers.index(name) for name in who]
    sums = np.zeros((2, len(speakers)), np.int64)
    np.add.at(sums[0], column, errors)
    np.add.at(sums[1], column, of)
    told = interval(Sample(speakers, sums[:1], sums[1]))
    assert told.estimate is not None  # every clip has a class, or characters
    return Figure(place, task, domain, told.estimate, told.low, told.high, chance, len(who), len(speakers))
