"""How often the 95 % intervals hold the truth: 1,000 simulated test sets with a known difference, one table.

    python -m benchmarks.coverage [SETS] [DRAWS]

Two arms are scored on the same speakers. Even: a speaker has 5 to 60 clips of 8 words, an error rate of the second
arm around 35 % (uniform, ± 15 points), and a difference between the arms around −4 points (uniform, ± 8 points).
Skewed: words from a log-normal distribution (sigma 1), error rates from Beta(1, 5), and the first arm makes 0.6, 0.8,
1.0 or 1.1 times the second's errors. With several seeds, each seed of an arm shifts its rate (sd 1 point). Errors
are binomial. The truth is the difference over all the speakers and seeds there could be.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from asr_experiments import significance
from asr_experiments.significance import Sample

SPEAKERS_AND_SEEDS = [
    *[(n, 1) for n in (2, 3, 5, 10, 20, 50, 100)],
    *[(n, 3) for n in (3, 10, 20, 50)],
    (20, 5),
]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of simulated sets: the truth inside the interval of the difference, and of the second arm's rate; and
    a difference called significant (p < 0.05) where there is none."""

    difference: float
    rate: float
    false_alarms: float
    width: float  # of the difference's interval, mean


def simulate(
    rng: np.random.Generator, n_speakers: int, n_seeds: int, *, skewed: bool, differ: bool
) -> tuple[Sample, Sample, float, float]:
    """One test set: two arms, the true difference of their rates, and the second's true rate."""
    if skewed:
        words = 20 + rng.lognormal(5, 1, n_speakers).astype(np.int64)
        second = rng.beta(1, 5, n_speakers)
        factor = rng.choice([0.6, 0.8, 1.0, 1.1], n_speakers) + (0 if differ else 0.125)
        first, truth, rate = second * factor, (factor_mean(differ) - 1) / 6, 1 / 6
    else:
        words = rng.integers(5, 61, n_speakers) * 8
        second = rng.uniform(0.2, 0.5, n_speakers)
        truth, rate = (-0.04 if differ else 0.0), 0.35
        first = second + truth + rng.uniform(-0.08, 0.08, n_speakers)
    speakers = tuple(map(str, range(n_speakers)))
    arms = []
    for rates in (first, second):
        shifted = rates + rng.normal(0, 0.01 if n_seeds > 1 else 0, (n_seeds, 1))
        arms.append(Sample(speakers, rng.binomial(words, np.clip(shifted, 0, 1)), words))
    return arms[0], arms[1], truth, rate


def factor_mean(differ: bool) -> float:
    """How many errors the skewed first arm makes for one of the second's, on average."""
    return 0.875 if differ else 1.0


def coverage(n_speakers: int, n_seeds: int, sets: int, draws: int, *, skewed: bool = False) -> Coverage:
    """Simulate `sets` test sets with a known difference, and as many without one."""
    rng = np.random.default_rng(0)
    hits = rate_hits = alarms = 0
    width = 0.0
    for number in range(sets):
        first, second, truth, rate = simulate(rng, n_speakers, n_seeds, skewed=skewed, differ=True)
        found = significance.difference(first, second, draws=draws, seed=number)
        alone = significance.interval(second, draws=draws, seed=number)
        hits += holds(found.low, found.high, truth)
        rate_hits += holds(alone.low, alone.high, rate)
        width += (found.high or 0) - (found.low or 0)
        first, second, *_ = simulate(rng, n_speakers, n_seeds, skewed=skewed, differ=False)
        p_value = significance.difference(first, second, draws=draws, seed=number).p_value
        alarms += p_value is not None and p_value < 0.05
    return Coverage(hits / sets, rate_hits / sets, alarms / sets, width / sets)


def holds(low: float | None, high: float | None, truth: float) -> bool:
    """Whether there is an interval and the truth is in it."""
    return low is not None and high is not None and low <= truth <= high


def main() -> None:
    sets, draws = [*map(int, sys.argv[1:]), *(1000, significance.DRAWS)[len(sys.argv) - 1 :]]
    print(f"{sets} sets, {draws} draws each\n")
    print("| test sets | speakers | seeds | difference covered | rate covered | false alarms | width, points | s |")
    print("|---|---|---|---|---|---|---|---|")
    for skewed in (False, True):
        for n_speakers, n_seeds in SPEAKERS_AND_SEEDS:
            start = time.monotonic()
            c = coverage(n_speakers, n_seeds, sets, draws, skewed=skewed)
            print(
                f"| {'skewed' if skewed else 'even'} | {n_speakers} | {n_seeds} | {c.difference:.3f} | {c.rate:.3f}"
                f" | {c.false_alarms:.3f} | {100 * c.width:.1f} | {time.monotonic() - start:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
