"""What came out where the held-out speaker was rotated: the experiments `hold-…` of benchmarks/digits.py, in tables.

    python -m benchmarks.rotation CORPUS                    (FOLDER/corpus of benchmarks.digits)

Each of the four accented speakers was kept out of training once. The tables are about the test strings of the speaker
who was held out: a row for each, and all four together, each heard by the models that never heard him. Intervals are
over the four speakers and the seeds, as in the benchmark's report.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from asr_experiments.report.results import Results, read_results
from asr_experiments.scoring import Score
from asr_experiments.significance import Sample, difference, interval, sample

TESTED = ("zero-shot", "finetune", "specaugment-matched", "random", "saliency")


def experiments(corpus: Path) -> dict[str, Results]:
    """Held-out speaker → experiment, for those that trained on all speakers but one."""
    found = {}
    for path in sorted((corpus / "runs").glob("*/experiment.json")):
        results = read_results(corpus, path.parent.name)
        trained = {utterance.speaker for utterance in results.of("train")}
        missing = {utterance.speaker for utterance in results.of("test")} - trained
        if len(missing) == 1:
            found[missing.pop()] = results
    return found


def joined(samples: list[Sample]) -> Sample:
    """Samples of different speakers with the same seeds as one."""
    return Sample(
        tuple(speaker for one in samples for speaker in one.speakers),
        np.concatenate([one.errors for one in samples], axis=1),
        np.concatenate([one.words for one in samples]),
    )


def of_arm(results: Results, arm: str, speaker: str, seeds: list[int]) -> Sample:
    """An arm's errors on one speaker's test strings."""
    scored = results.scored(arm)
    runs: list[list[Score]] = [
        [score for score in scored[seed] if score.speaker == speaker] for seed in (seeds if len(scored) > 1 else [0])
    ]
    return sample(runs, results.form)


def main(corpus: Path) -> None:
    held = experiments(corpus)
    arms = [arm for arm in TESTED if all(results.scored(arm) for results in held.values())]
    seeds = sorted(set.intersection(*(set(r.scored(arm)) for r in held.values() for arm in arms if arm != TESTED[0])))
    print(f"{len(held)} held-out speakers, seeds {', '.join(map(str, seeds))}: word errors in per cent, seeds' means\n")
    print("| held out | accent | heard in training | " + " | ".join(arms) + " |\n|" + "---|" * (len(arms) + 3))
    by_arm: dict[str, list[Sample]] = {arm: [] for arm in arms}
    for speaker, results in held.items():
        accent = next(u.accent for u in results.of("test") if u.speaker == speaker)
        cells = []
        for arm in arms:
            found = of_arm(results, arm, speaker, seeds)
            by_arm[arm].append(found)
            cells.append(f"{100 * (found.rate or 0):.1f}")
        known = "accent" if accent in results.told["trained_on"] else "neither"
        print(f"| {speaker} | {accent} | {known} | " + " | ".join(cells) + " |")
    total = {arm: joined(samples) for arm, samples in by_arm.items()}
    means = []
    for one in map(interval, total.values()):
        bounds = f" ({100 * one.low:.1f}–{100 * one.high:.1f})" if one.low is not None and one.high is not None else ""
        means.append(f"{100 * (one.estimate or 0):.1f}{bounds}")
    print(f"| all {len(held)} | | | " + " | ".join(means) + " |\n")
    print("| difference, points | estimate | 95 % | p | P(better) |\n|---|---|---|---|---|")
    for second, first in combinations(arms, 2):
        gap = difference(total[first], total[second])
        if gap.estimate is None or gap.low is None or gap.high is None:
            print(f"| {first} − {second} | {100 * (gap.estimate or 0):+.1f} | {gap.why} | | |")
            continue
        between = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
        print(
            f"| {first} − {second} | {100 * gap.estimate:+.1f} | {between} | {gap.p_value:.2f} | {gap.p_better:.2f} |"
        )
    minutes = [
        cell.metrics["seconds"] / 60 for r in held.values() for cell in r.cells if cell.arm != TESTED[0] and cell.scores
    ]
    print(f"\n{len(minutes)} trained cells, {np.median(minutes):.1f} minutes each (median), {sum(minutes):.0f} in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
