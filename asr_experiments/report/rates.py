"""The report's figures: rates with intervals, paired differences with their tests. Shares, not per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from asr_experiments.arms import UNTRAINED
from asr_experiments.report.results import Results
from asr_experiments.scoring import AlignedWord, Errors, Group, Score, align, text_forms, total
from asr_experiments.significance import Difference, Interval, Mapsswe, Sample, difference, holm, interval, mapsswe
from asr_experiments.significance import sample as word_sample

Unit = Literal["WER", "CER"]
UNITS: tuple[Unit, ...] = ("WER", "CER")

REFERENCES = ("zero-shot", "finetune", "specaugment", "specaugment-matched", "random", "ctc")
"""The arms that the others are compared with: no training, no masks, the usual masks, the two controls of the same
area, and the CTC head without a teacher."""

NO_RUN = "missing: no finished run"


@dataclass(frozen=True, slots=True)
class Rate:
    """An arm's error rate on a group in a text form, with its 95 % interval.

    `errors` are summed over the seeds, and so are the reference words they are counted on; None without a run.
    """

    arm: str
    group: Group
    form: str
    unit: Unit
    interval: Interval
    errors: Errors | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm's word error rate less a reference arm's on a group, over the seeds that both have.

    `holm` is the p-value corrected over the accents, for groups of one accent; `mapsswe` has a result for each seed.
    """

    arm: str
    reference: str
    group: Group
    seeds: tuple[int, ...]
    difference: Difference
    holm: float | None
    mapsswe: tuple[Mapsswe, ...]


def sample(runs: Sequence[Sequence[Score]], form: str, unit: Unit) -> Sample:
    """The scores of one arm as a Sample, words or characters counted; see `significance.sample`."""
    words = word_sample(runs, form)
    if unit == "WER":
        return words
    column = {speaker: i for i, speaker in enumerate(words.speakers)}
    errors, characters = np.zeros_like(words.errors), np.zeros_like(words.words)
    for score in runs[0]:
        characters[column[score.speaker]] += score.errors[form].characters
    for seed, scores in enumerate(runs):
        for score in scores:
            errors[seed, column[score.speaker]] += score.errors[form].char_errors
    return Sample(words.speakers, errors, characters)


def rates(results: Results) -> list[Rate]:
    """Every arm's rates on every group, in every text form, of words and of characters."""
    found = []
    for arm in results.arms:
        runs = list(results.scored(arm).values())
        for group in results.groups:
            own = [_of(group, run) for run in runs]
            for form in results.forms:
                for unit in UNITS:
                    if not own:
                        n = group.n_speakers
                        found.append(Rate(arm, group, form, unit, Interval(None, None, None, n, 0, NO_RUN), None))
                        continue
                    errors = total(score.errors[form] for run in own for score in run)
                    found.append(Rate(arm, group, form, unit, interval(sample(own, form, unit)), errors))
    return found


def comparisons(results: Results) -> list[Comparison]:
    """Every arm against each of REFERENCES that has a run, on every group, in the headline's text form."""
    aligned = _alignments(results)
    found = []
    for reference in REFERENCES:
        for arm in results.finished:
            if reference in results.finished and arm != reference:
                found += _compare(results, arm, reference, aligned)
    return found


Alignments = dict[tuple[str, int], dict[str, list[AlignedWord]]]


def _alignments(results: Results) -> Alignments:
    """(arm, seed) -> segment -> the hypothesis beside the reference, in the headline's text form."""
    normalise = text_forms(results.language)[results.form]
    references = {u.segment_id: normalise(u.text) for u in results.of("test")}
    return {
        (arm, seed): {s.segment_id: align(references[s.segment_id], normalise(s.hypothesis)) for s in scores}
        for arm in results.finished
        for seed, scores in results.scored(arm).items()
    }


def _compare(results: Results, arm: str, reference: str, aligned: Alignments) -> list[Comparison]:
    ours, theirs = results.scored(arm), results.scored(reference)
    pairs = _pairs(arm, reference, tuple(ours), tuple(theirs))
    if not pairs:
        return []
    found = []
    for group in results.groups:
        first = [_of(group, ours[seed]) for seed in dict.fromkeys(a for a, _ in pairs)]
        second = [_of(group, theirs[seed]) for seed in dict.fromkeys(b for _, b in pairs)]
        segments = [score.segment_id for score in first[0]]
        tests = tuple(
            mapsswe([aligned[arm, a][s] for s in segments], [aligned[reference, b][s] for s in segments])
            for a, b in pairs
        )
        form = results.form
        seeds = (a if reference == UNTRAINED else b for a, b in pairs)
        told = difference(sample(first, form, "WER"), sample(second, form, "WER"))
        found.append(Comparison(arm, reference, group, tuple(seeds), told, None, tests))
    accents = [i for i, one in enumerate(found) if one.group.kind == "accent"]
    corrected = holm([found[i].difference.p_value for i in accents])
    for i, p in zip(accents, corrected, strict=True):
        found[i] = replace(found[i], holm=p)
    return found


def _pairs(arm: str, reference: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> list[tuple[int, int]]:
    """The seeds that are compared: the same ones, and the untrained model's only one with each."""
    if arm == UNTRAINED:
        return [(ours[0], seed) for seed in theirs]
    if reference == UNTRAINED:
        return [(seed, theirs[0]) for seed in ours]
    return [(seed, seed) for seed in ours if seed in theirs]


def _of(group: Group, scores: Sequence[Score]) -> list[Score]:
    return [score for score in scores if score.accent in group.accents]
