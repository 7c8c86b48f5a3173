"""How often the 95 % intervals hold the truth: 1,000 simulated test sets with a known difference, one table.

    python benchmarks/coverage.py [SETS] [DRAWS]

Two arms over the same speakers. A speaker has 5 to 60 clips of 8 words on average, an error rate of the first arm drawn from
20–50 %, and a difference between the arms drawn around −4 points (sd 4.6 points); each seed of an arm shifts its rate
(sd 1 point). Errors are binomial. The truth is the difference over all speakers and seeds there could be.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from asr_experiments import significance
from asr_experiments.significance import Sample

RATE, DIFFERENCE = 0.35, -0.04


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of simulated sets: the truth inside the interval of the difference, and of the first arm's rate; and
    a difference of none found significant (p < 0.05) though there is none."""

    difference: float
    rate: float
    false_alarms: float
    width: float  # of the difference's interval, mean


def simulate(rng: np.random.Generator, n_speakers: int, n_seeds: int, difference: float) -> tuple[Sample, Sample]:
    """One test set: two arms whose true rates are RATE + difference and RATE."""
    words = rng.integers(5, 61, n_speakers) * 8
    second = rng.uniform(RATE - 0.15, RATE + 0.15, n_speakers)
    first = second + difference + rng.uniform(-0.08, 0.08, n_speakers)
    speakers = tuple(map(str, range(n_speakers)))
    arms = []
    for rates in (first, second):
        shifted = rates + rng.normal(0, 0.01 if n_seeds > 1 else 0, (n_seeds, 1))
        arms.append(Sample(speakers, rng.binomial(words, np.clip(shifted, 0, 1)), words))
    return arms[0], arms[1]


def coverage(n_speakers: int, n_seeds: int, sets: int, draws: int, seed: int = 0) -> Coverage:
    """Simulate `sets` test sets with the known difference, and as many without one."""
    rng = np.random.default_rng(seed)
    hits = rate_hits = alarms = 0
    width = 0.0
    for number in range(sets):
        first, second = simulate(rng, n_speakers, n_seeds, DIFFERENCE)
        found = significance.difference(first, second, draws=draws, seed=number)
        rate = significance.interval(second, draws=draws, seed=number)
        assert found.low is not None and found.high is not None and rate.low is not None and rate.high is not None
        hits += found.low <= DIFFERENCE <= found.high
        rate_hits += rate.low <= RATE <= rate.high
        width += found.high - found.low
        p_value = significance.difference(*simulate(rng, n_speakers, n_seeds, 0.0), draws=draws, seed=number).p_value
        assert p_value is not None
        alarms += p_value < 0.05
    return Coverage(hits / sets, rate_hits / sets, alarms / sets, width / sets)


def main() -> None:
    sets, draws = [*map(int, sys.argv[1:]), *(1000, 10_000)[len(sys.argv) - 1 :]]
    print(f"{sets} sets, {draws} draws each; shares")
    print("| speakers | seeds | difference covered | rate covered | false alarms | width, points | s |")
    print("|---|---|---|---|---|---|---|")
    for n_speakers, n_seeds in [(2, 1), (3, 1), (5, 1), (10, 1), (20, 1), (50, 1), (100, 1), (10, 3), (20, 3), (50, 3), (20, 5)]:
        start = time.monotonic()
        c = coverage(n_speakers, n_seeds, sets, draws)
        print(
            f"| {n_speakers} | {n_seeds} | {c.difference:.3f} | {c.rate:.3f} | {c.false_alarms:.3f} | {100 * c.width:.1f} |"
            f" {time.monotonic() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
