"""What is special about the places a classifier listens to: cues there against the whole clip, and how sure that is.

After arXiv 2511.11691: the five windows of 0.15 s with the most relevance; Δ of a cue is its mean in them less its
mean in the clip. Two questions are asked of each class and cue, and a cue counts for a class where both say yes:

- *place*: is Δ other than that of windows put at random in the same clips?
- *class*: is Δ other than that of the other classes' clips? Any network prefers some sounds, loud ones say, whatever
  it was trained on, so the first question alone finds cues where there are none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_experiments.explain.cues import NAMES, Tracks
from asr_experiments.features import Floats
from asr_experiments.significance import holm
from catalog.errors import UsageError

WINDOWS, WINDOW = 5, 15  # of 0.15 s
SHORTEST = WINDOWS * WINDOW  # frames of a clip that holds them
DRAWS = 1000
LEVEL = 0.05
FEWEST = 0.5  # of a class's clips that must have a cue in their windows, else its mean is about other clips

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """A class and a cue. `p_place`, `p_class` answer the two questions, `p` both, after Holm over the class's cues.

    `delta` is in the cue's unit, the mean over speakers of their clips' means; `effect` is that in standard deviations
    of what five random windows of one clip give, `contrast` the same of the difference from the other classes. None
    where less than half of the clips have the cue in their windows, or there is nothing to compare with.
    """

    label: str
    cue: str
    n_clips: int
    n_speakers: int
    delta: float | None
    effect: float | None
    contrast: float | None
    p_place: float | None
    p_class: float | None
    p: float | None

    @property
    def counts(self) -> bool:
        return self.p is not None and self.p <= LEVEL


def top_windows(relevance: Floats) -> tuple[int, ...]:
    """Where the five windows begin, in order, that don't overlap and together have the most of a relevance
    (n_frames,). Among equals the earliest.

    Raises UsageError for a clip that is too short for them.
    """
    n = len(relevance)
    if n < SHORTEST:
        raise UsageError(f"expected {SHORTEST} frames (0.75 s) or more, for five windows of 0.15 s, got {n}")
    sums = np.concatenate([[0.0], np.cumsum(relevance, dtype=np.float64)])
    own = sums[WINDOW:] - sums[:-WINDOW]  # of the window that begins here
    best = np.zeros(n + 1)  # of the windows so far within the first i frames
    ways = []
    for k in range(WINDOWS):
        score = np.full(n + 1, -np.inf)
        score[(k + 1) * WINDOW :] = best[k * WINDOW : n - WINDOW + 1] + own[k * WINDOW :]
        best = np.maximum.accumulate(score)
        # the first end at which the best is reached
        last = np.maximum.accumulate(np.where(score > np.concatenate([[-np.inf], best[:-1]]), np.arange(n + 1), 0))
        ways.append(last)
    starts: list[int] = []
    end = n
    for last in reversed(ways):
        end = int(last[end]) - WINDOW
        starts.append(end)
    return tuple(reversed(starts))


def random_windows(n_frames: int, draws: int, rng: np.random.Generator) -> Ints:
    """Where five windows begin that don't overlap, (draws, 5), every way to lay them equally likely."""
    free = n_frames - SHORTEST + WINDOWS
    chosen = np.sort(np.argsort(rng.random((draws, free)), axis=1)[:, :WINDOWS], axis=1)
    return chosen + np.arange(WINDOWS) * (WINDOW - 1)


def window_deltas(tracks: Tracks, starts: Ints) -> Doubles:
    """Δ of each cue for windows that begin at `starts` (n, 5): (n, n_cues), windows less whole clip.

    NaN where fewer frames than one window's have the cue, in them or in the clip: too few to say.
    """
    sums, counts = (
        np.concatenate([np.zeros((len(NAMES), 1)), np.cumsum(part, axis=1, dtype=np.float64)], axis=1)
        for part in (np.where(tracks.usable, tracks.values, 0), tracks.usable)
    )
    total, n = (np.sum(part[:, starts + WINDOW] - part[:, starts], axis=2) for part in (sums, counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = total / n - (sums[:, -1] / counts[:, -1])[:, None]
    found[n < WINDOW] = np.nan
    return np.asarray(found.T, np.float64)


@dataclass(frozen=True, slots=True)
class Material:
    """Clips and their Δs: `salient` (n_clips, n_cues), `drawn` (n_clips, draws, n_cues), NaN where there is none."""

    salient: Doubles
    drawn: Doubles
    labels: tuple[str, ...]
    speakers: tuple[str, ...]

    def some(self, chosen: Sequence[int], labels: Sequence[str] | None = None) -> Material:
        """These clips alone; `labels` in place of their own."""
        at = np.asarray(chosen, np.int64)
        own = [self.labels[i] for i in chosen] if labels is None else labels
        return Material(self.salient[at], self.drawn[at], tuple(own), tuple(self.speakers[i] for i in chosen))


def cells(material: Material, classes: Sequence[str], seed: int = 0, *, against_others: bool = True) -> list[Cell]:
    """Every class and cue. Without `against_others` only the places are asked about, and `p` is theirs.

    Places are drawn clip by clip. For the other question classes are drawn: the clips' among each speaker's own where
    speakers have several, and the speakers' where each has one; as many times as places.
    """
    speakers = sorted(set(material.speakers))
    who = np.array([speakers.index(name) for name in material.speakers], np.int64)
    which = np.array([classes.index(label) for label in material.labels], np.int64)
    draws = material.drawn.shape[1]
    scale = spread(material.drawn)
    means = _means(material.salient, who, which, len(classes))
    contrasts = _contrasts(means)
    rng = np.random.default_rng(seed)
    shuffled = np.full((draws if against_others else 0, *contrasts.shape), np.nan)
    for i in range(len(shuffled)):
        shuffled[i] = _contrasts(_means(material.salient, who, _shuffled(who, which, rng), len(classes)))
    found: list[Cell] = []
    for c, label in enumerate(classes):
        own = np.flatnonzero(which == c)
        silent = np.isnan(material.salient[own])
        # the windows of the same clips that the mean is of, and no others
        drawn = _blocked(np.where(silent[:, None], np.nan, material.drawn[own]), who[own])
        here = []
        for k in range(len(NAMES)):
            there = own[~np.isnan(material.salient[own, k])]
            if len(there) < FEWEST * len(own):
                means[c, k] = contrasts[c, k] = np.nan
            place = _p_value(means[c, k], drawn[:, k])
            by_class = _p_value(contrasts[c, k], shuffled[:, c, k]) if against_others else None
            asked = (place, by_class) if against_others else (place,)
            here.append((there, place, by_class, None if None in asked else max(p for p in asked if p is not None)))
        corrected = holm([p for *_, p in here])
        for k, (there, place, by_class, _) in enumerate(here):
            known = scale[k] > 0 and not math.isnan(means[c, k])
            found.append(
                Cell(
                    label,
                    NAMES[k],
                    len(there),
                    len(set(who[there])),
                    _number(means[c, k]),
                    _number(means[c, k] / scale[k]) if known else None,
                    _number(contrasts[c, k] / scale[k]) if known else None,
                    place,
                    by_class,
                    corrected[k],
                )
            )
    return found


def arrangements(labels: Sequence[str], speakers: Sequence[str]) -> float:
    """In how many ways `cells` can hand the classes out: a p-value can't be under one over that."""
    own: dict[str, Counter[str]] = {}
    for label, speaker in zip(labels, speakers, strict=True):
        own.setdefault(speaker, Counter())[label] += 1
    groups = [counts for counts in own.values() if len(counts) > 1]
    groups.append(Counter(next(iter(counts)) for counts in own.values() if len(counts) == 1))
    logs = [math.lgamma(sum(g.values()) + 1) - sum(math.lgamma(n + 1) for n in g.values()) for g in groups]
    return math.exp(min(sum(logs), 700.0))


def _shuffled(who: Ints, which: Ints, rng: np.random.Generator) -> Ints:
    """Classes handed out anew: among the clips of each speaker who has several, and among the speakers who have one."""
    made = which.copy()
    single: list[Ints] = []
    for speaker in np.unique(who):
        own = np.flatnonzero(who == speaker)
        if len(set(which[own])) > 1:
            made[own] = rng.permutation(which[own])
        else:
            single.append(own)
    for own, label in zip(single, rng.permutation([which[own[0]] for own in single]), strict=True):
        made[own] = label
    return made


def _means(deltas: Doubles, who: Ints, which: Ints, n_classes: int) -> Doubles:
    """The mean over a class's speakers of their clips' means, (n_classes, n_cues); NaN where there is none."""
    n_speakers = int(who.max()) + 1
    there = ~np.isnan(deltas)
    cell = which * n_speakers + who
    shape = (n_classes, n_speakers, deltas.shape[1])
    sums, counts = np.zeros((n_classes * n_speakers, shape[2])), np.zeros((n_classes * n_speakers, shape[2]))
    np.add.at(sums, cell, np.where(there, deltas, 0.0))
    np.add.at(counts, cell, there)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = (sums / counts).reshape(shape)
        heard = (counts > 0).reshape(shape)
        return np.asarray(np.where(heard, each, 0.0).sum(1) / heard.sum(1), np.float64)


def _blocked(drawn: Doubles, who: Ints) -> Doubles:
    """The mean over speakers of their clips' means in each draw: (draws, n_cues) of (n_clips, draws, n_cues)."""
    total: Doubles = np.zeros(drawn.shape[1:])
    n: Doubles = np.zeros(drawn.shape[1:])
    for speaker in np.unique(who):
        own = drawn[who == speaker]
        there = ~np.isnan(own)
        counts = there.sum(0)
        total += np.where(counts > 0, np.where(there, own, 0.0).sum(0) / np.maximum(counts, 1), 0.0)
        n += counts > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / n, np.float64)


def _contrasts(means: Doubles) -> Doubles:
    """Each class's mean less the mean of the others', (n_classes, n_cues)."""
    found = np.full_like(means, np.nan)
    for c in range(len(means)):
        others = np.delete(means, c, 0)
        there = ~np.isnan(others)
        n = there.sum(0)
        rest = np.where(there, others, 0.0).sum(0) / np.maximum(n, 1)
        found[c] = np.where(n > 0, means[c] - rest, np.nan)
    return found


def spread(drawn: Doubles) -> Doubles:
    """How far five random windows of one clip stray, (n_cues,): the root of the clips' mean variance."""
    there = ~np.isnan(drawn)
    n = there.sum(1)
    mean = np.where(there, drawn, 0.0).sum(1) / np.maximum(n, 1)
    squares = np.where(there, (drawn - mean[:, None]) ** 2, 0.0).sum(1) / np.maximum(n, 1)
    usable = n > 1
    return np.asarray(np.sqrt(np.where(usable, squares, 0.0).sum(0) / np.maximum(usable.sum(0), 1)), np.float64)


def _p_value(value: float, drawn: Doubles) -> float | None:
    """Two-sided, with the value among the draws (B. Phipson & G. Smyth, "Permutation p-values should never be zero",
    Statistical Applications in Genetics and Molecular Biology 9, 2010)."""
    there = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(there):
        return None
    middle = there.mean()
    # sums in another order differ in the last digits: what is equal must count as equal
    further = np.count_nonzero(np.abs(there - middle) >= abs(value - middle) * (1 - 1e-9))
    return float((1 + further) / (1 + len(there)))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
