"""How sure a difference is: bootstrap by speaker with seeds as an outer level, Holm's correction, MAPSSWE.

Clips of one speaker are wrong together, so speakers are drawn, not clips (Bisani & Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004; Liu & Peng, "Statistical testing on ASR performance
via blockwise bootstrap", Interspeech 2020). All seeds of an arm read the same test clips: a draw takes speakers once
for all seeds, and seeds on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_experiments.scoring import AlignedWord, Score
from catalog.errors import PdidError

DRAWS = 10_000
LEVEL = 0.95
ONE_SPEAKER = "one speaker: how much speakers differ can't be told"
NO_WORDS = "the references have no words"
NO_SPREAD = "every speaker shows the same, so how much speakers differ can't be told"

_CELLS = 1_000_000  # of a block of draws: about 24 MB

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Errors and reference words of an arm on a group of clips, by speaker.

    `errors` has shape (seeds, speakers), `words` (speakers,); the speakers are in one order for all arms.
    """

    speakers: tuple[str, ...]
    errors: Counts
    words: Counts

    @property
    def rate(self) -> float | None:
        """Mean over the seeds of summed errors over summed words; None without words."""
        n = int(self.words.sum())
        return float(self.errors.sum(axis=1).mean() / n) if n else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A word error rate and its interval; `low` and `high` are None where `why` says why there is none."""

    estimate: float | None
    low: float | None
    high: float | None
    n_speakers: int
    n_seeds: int
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The word error rate of one arm less another's on the same clips: below 0, the first arm is better.

    `p_better` is the share of draws in which the first arm is better (a tie counts half), and says too much where
    speakers are few: of two, one is drawn twice in half the draws. `p_value` is two-sided and allows for that.
    """

    estimate: float | None
    low: float | None
    high: float | None
    p_better: float | None
    p_value: float | None
    n_speakers: int
    n_seeds: int
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """Result of the matched-pairs test; `z` and `p_value` are None where `why` says why."""

    n_segments: int
    errors: tuple[int, int]  # in the segments, of the first and the second
    mean: float | None  # errors of the first less the second's, per segment
    std_dev: float | None
    z: float | None
    p_value: float | None  # two-sided, by the normal distribution: rough under some 50 segments
    why: str | None = None


def sample(runs: Sequence[Sequence[Score]], form: str) -> Sample:
    """The scores of one arm, one sequence per seed, all over the same clips, as a Sample in a text form.

    Raises PdidError if the seeds differ in their clips.
    """
    first = {score.segment_id: score for score in runs[0]}
    speakers = tuple(sorted({score.speaker for score in runs[0]}))
    column = {speaker: i for i, speaker in enumerate(speakers)}
    errors = np.zeros((len(runs), len(speakers)), np.int64)
    words = np.zeros(len(speakers), np.int64)
    for score in runs[0]:
        words[column[score.speaker]] += score.errors[form].words
    for seed, scores in enumerate(runs):
        if {score.segment_id for score in scores} != first.keys() or len(scores) != len(first):
            raise PdidError("the runs of an arm were scored on different clips: score them on the same")
        for score in scores:
            errors[seed, column[score.speaker]] += score.errors[form].errors
    return Sample(speakers, errors, words)


def interval(arm: Sample, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The arm's word error rate with its 95 % interval by bootstrap over speakers, and over seeds where several."""
    n_seeds, n_speakers = arm.errors.shape
    estimate, why = arm.rate, _why_not(arm)
    if estimate is None or why:
        return Interval(estimate, None, None, n_speakers, n_seeds, why)
    margin, _ = _margin(_draw([arm], draws, seed)[0], estimate, arm)
    if margin == 0:
        return Interval(estimate, None, None, n_speakers, n_seeds, NO_SPREAD)
    return Interval(estimate, max(0.0, estimate - margin), estimate + margin, n_speakers, n_seeds)


def difference(first: Sample, second: Sample, *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """The first arm's word error rate less the second's: paired, the same speakers and seeds in every draw.

    An arm with one run (zero-shot has no seeds) is compared with each of the other's. Raises PdidError if the arms
    were scored on different speakers or words, or on numbers of seeds that can't be paired.
    """
    if first.speakers != second.speakers or not np.array_equal(first.words, second.words):
        raise PdidError("two arms were scored on different clips, so they can't be compared in pairs")
    sizes = {len(first.errors), len(second.errors)}
    if len(sizes - {1}) > 1:
        raise PdidError(f"two arms have {len(first.errors)} and {len(second.errors)} seeds: run the missing ones")
    n_seeds, n_speakers = max(sizes), len(first.speakers)
    why = _why_not(first)
    if first.rate is None or second.rate is None:
        return Difference(None, None, None, None, None, n_speakers, n_seeds, why)
    estimate = first.rate - second.rate
    if why:
        return Difference(estimate, None, None, None, None, n_speakers, n_seeds, why)
    a, b = _draw([first, second], draws, seed)
    drawn = a - b
    margin, p_value = _margin(drawn, estimate, first)
    if margin == 0 and estimate != 0:
        return Difference(estimate, None, None, None, None, n_speakers, n_seeds, NO_SPREAD)
    better = float((drawn < 0).mean() + (drawn == 0).mean() / 2)
    return Difference(estimate, estimate - margin, estimate + margin, better, p_value, n_speakers, n_seeds)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for being several, one for each accent: S. Holm, "A simple sequentially rejective multiple
    test procedure", Scandinavian Journal of Statistics 6, 1979. None stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[i] = highest
    return corrected


def mapsswe(first: Sequence[Sequence[AlignedWord]], second: Sequence[Sequence[AlignedWord]]) -> Mapsswe:
    """Matched-pairs sentence-segment word-error test of two systems' alignments with the same references.

    Sentences are cut into segments at stretches of two words that both have right; d is the difference of their
    errors per segment, and Z = mean(d) / (s/√n). L. Gillick & S. Cox, "Some statistical issues in the comparison of
    speech recognition algorithms", ICASSP 1989; as NIST's SCTK has it (`sc_stats -t mapsswe`). Above 0 the first
    makes more errors. Raises PdidError if the references differ.
    """
    if len(first) != len(second):
        raise PdidError(f"MAPSSWE pairs sentences, and there are {len(first)} and {len(second)}")
    pairs = [pair for a, b in zip(first, second, strict=True) for pair in segments(a, b)]
    errors = np.array(pairs, np.int64).reshape(-1, 2)
    n, sums = len(errors), (int(errors[:, 0].sum()), int(errors[:, 1].sum()))
    d = errors[:, 0] - errors[:, 1]
    if n < 2:
        mean = float(d.mean()) if n else None
        return Mapsswe(n, sums, mean, None, None, None, f"{n} segments with an error: two are needed at least")
    mean, std_dev = float(d.mean()), float(d.std(ddof=1))
    if std_dev == 0.0:
        if mean == 0.0:
            return Mapsswe(n, sums, mean, std_dev, 0.0, 1.0)
        return Mapsswe(n, sums, mean, std_dev, None, None, "the difference is the same in every segment")
    z = mean / (std_dev / math.sqrt(n))
    return Mapsswe(n, sums, mean, std_dev, z, math.erfc(abs(z) / math.sqrt(2)))


def segments(first: Sequence[AlignedWord], second: Sequence[AlignedWord], bound: int = 2) -> Iterator[tuple[int, int]]:
    """Errors of two systems in each segment of a sentence, segments without an error left out.

    A segment ends where `bound` reference words in a row are right in both, with nothing inserted between.
    Raises PdidError if the references differ.
    """
    a, b = _by_reference(first), _by_reference(second)
    if a.words != b.words:
        raise PdidError("MAPSSWE needs both systems' alignments with the same reference")
    errors, right = [0, 0], 0
    for i in range(len(a.words) + 1):
        last = i == len(a.words)
        here = (a.inserted[i] + (not last and a.wrong[i]), b.inserted[i] + (not last and b.wrong[i]))
        if any(here):
            errors[0] += here[0]
            errors[1] += here[1]
            # a right word after an insertion is the first of a new stretch
            right = 0 if last or a.wrong[i] or b.wrong[i] else 1
        else:
            right += 1
        if any(errors) and (last or right >= bound):
            yield errors[0], errors[1]
            errors = [0, 0]


@dataclass(frozen=True, slots=True)
class _Aligned:
    words: tuple[str | None, ...]
    wrong: tuple[bool, ...]
    inserted: tuple[int, ...]  # before each word, and after the last


def _by_reference(alignment: Sequence[AlignedWord]) -> _Aligned:
    words: list[str | None] = []
    wrong: list[bool] = []
    inserted = [0]
    for word in alignment:
        if word.kind == "inserted":
            inserted[-1] += 1
        else:
            words.append(word.reference)
            wrong.append(word.kind != "correct")
            inserted.append(0)
    return _Aligned(tuple(words), tuple(wrong), tuple(inserted))


def _why_not(arm: Sample) -> str | None:
    if not arm.words.sum():
        return NO_WORDS
    return ONE_SPEAKER if np.count_nonzero(arm.words) < 2 else None


def _draw(arms: Sequence[Sample], draws: int, seed: int) -> list[Floats]:
    """Each arm's rate in every draw, shape (draws,): the same speakers and seeds for all arms.

    With n seeds, n − 1 are drawn, since n would understate how much they differ by 1 − 1/n, a third of the variance
    with three (Rao & Wu, "Resampling inference with complex survey data", JASA 83, 1988).
    """
    rng = np.random.default_rng(seed)
    n_speakers = len(arms[0].speakers)
    n_seeds = max(len(arm.errors) for arm in arms)
    found: list[list[Floats]] = [[] for _ in arms]
    done = 0
    while done < draws:
        block = min(draws - done, max(1, _CELLS // n_speakers))
        done += block
        cells = rng.integers(n_speakers, size=(block, n_speakers)) + n_speakers * np.arange(block)[:, None]
        times = np.bincount(cells.ravel(), minlength=block * n_speakers).reshape(block, n_speakers).astype(np.float64)
        kept = rng.multinomial(max(1, n_seeds - 1), np.full(n_seeds, 1 / n_seeds), size=block) / max(1, n_seeds - 1)
        words = times @ arms[0].words.astype(np.float64)
        usable = words > 0  # a draw of nothing but speakers without words has no rate
        for arm, values in zip(arms, found, strict=True):
            rates = (times @ arm.errors.T.astype(np.float64))[usable] / words[usable, None]
            values.append((np.broadcast_to(rates, (len(rates), n_seeds)) * kept[usable]).sum(axis=1))
    return [np.concatenate(values) for values in found]


def _margin(drawn: Floats, estimate: float, arm: Sample) -> tuple[float, float]:
    """Half the width of the 95 % interval, and the two-sided p of an estimate of 0, from the draws' spread.

    Student's t times the draws' standard deviation times √(n/(n − 1)) for n speakers (T. Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69, 2015). The 2.5th and 97.5th percentiles of the
    draws are too near each other with few speakers: of two, they held a known truth half the time.
    """
    from scipy.special import stdtr, stdtrit

    n = int(np.count_nonzero(arm.words))
    error = float(drawn.std()) * math.sqrt(n / (n - 1))
    if error < 1e-12:  # rounding
        return 0.0, float(estimate == 0)
    return -float(stdtrit(n - 1, (1 - LEVEL) / 2)) * error, 2 * float(stdtr(n - 1, -abs(estimate) / error))
