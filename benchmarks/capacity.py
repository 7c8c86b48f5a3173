"""A capacity plan: what a corpus of so many hours takes, from measurements, and a simulation of many workers.

    python -m benchmarks.capacity CORPUS [--core-price P] [--gpu-price P --gpu-speed F] [--minutes M]

CORPUS was ingested with workers of one thread each (`pdid ingest --jobs 2` on two processors, or `--executor ray`), so
that its stages' seconds are those of one processor. P is what a core, or a GPU, costs an hour; F says how many times as
fast as a core the GPU does what it can do (separation, and pyannote's speakers). Without prices no cost is printed. M
is the length of a recording. What does not grow with the workers is simulated: one process commits every recording, and
the time for that, and for what comes once at the end, grows with the catalog as docs/benchmarks.md has measured it.
"""

from __future__ import annotations

import argparse
import heapq
import random
from pathlib import Path

from catalog.store import open_catalog

DAY_H = 24
COMMIT_S = (0.05, 0.46)  # seconds for a recording: in an empty catalog, and in one of 5 million pieces
FULL = 5_000_000
PIECES_H, CLIPS_H, VOICES = 500, 200, 2  # pieces and clips an hour of sound, voices a recording, as in big_catalog
LINK_S = 3.3 / 20_000**2  # once at the end: seconds of a core for each pair of voices
CATALOG_B, CLIP_BS = 413, 32_000  # bytes a piece, and bytes a second of kept sound
KEPT = 0.6  # share of the sound that becomes clips
SIZES = (200, 2_000, 20_000, 200_000)  # hours: once, 10, 100 and 1,000 times what PDID began with
TEAMS = (2, 16, 64, 256, 1024)


def stage_costs(corpus: Path) -> dict[str, float]:
    """Seconds of a processor for a second of source, by stage."""
    with open_catalog(corpus) as catalog:
        rows = catalog.all("SELECT stage, sum(seconds) FROM base.stage GROUP BY stage ORDER BY sum(seconds) DESC")
        ((samples,),) = catalog.all("SELECT sum(n_samples) FROM base.source WHERE status = 'done'")
    return {stage: seconds / (samples / 16_000) for stage, seconds in rows}


def on_gpu(corpus: Path) -> tuple[str, ...]:
    """The stages that a GPU takes over: the embedded engine stays on the processors."""
    with open_catalog(corpus) as catalog:
        engines = catalog.all("SELECT DISTINCT model FROM base.stage WHERE stage = 'diarize'")
    return ("separate", "diarize") if any("pyannote" in model for (model,) in engines) else ("separate",)


def commit_s(pieces: float) -> float:
    """Seconds to commit one recording to a catalog of so many pieces."""
    return COMMIT_S[0] + (COMMIT_S[1] - COMMIT_S[0]) * pieces / FULL


def simulate(hours: float, minutes: float, cost: float, workers: int, seed: int = 0) -> float:
    """Hours until the last recording is committed: workers take the next as they become free, one process commits.

    Recordings have lengths of a log-normal distribution around `minutes` (half of them within 0.5 to 2 times); a worker
    needs `cost` seconds for a second of sound.
    """
    dice = random.Random(seed)
    n = max(1, round(hours * 60 / minutes))
    free = [0.0] * min(workers, n)
    committer = 0.0
    for done in range(n):
        begun = heapq.heappop(free)
        ended = begun + 60 * minutes * dice.lognormvariate(-0.5, 1.0) * cost
        heapq.heappush(free, ended)
        committer = max(committer, ended) + commit_s(done * minutes / 60 * PIECES_H)
    return committer / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--core-price", type=float)
    parser.add_argument("--gpu-price", type=float)
    parser.add_argument("--gpu-speed", type=float)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    costs = stage_costs(given.corpus)
    cost = sum(costs.values())
    print("| stage | seconds of a core for an hour of sound | share |\n|---|---|---|")
    for stage, each in costs.items():
        print(f"| {stage} | {3600 * each:.1f} | {each / cost:.0%} |")
    print(f"\n{DAY_H / cost:.0f} hours of sound a core-day", end="")
    if given.core_price is not None:
        print(f"; 1,000 hours: {1000 * cost * given.core_price:.2f} at {given.core_price} a core-hour", end="")
    if given.gpu_price is not None and given.gpu_speed:
        there = on_gpu(given.corpus)
        fast = sum(each for stage, each in costs.items() if stage in there) / given.gpu_speed
        rest = sum(each for stage, each in costs.items() if stage not in there)
        print(f"; {DAY_H / fast:.0f} a GPU-day, with {rest / fast:.1f} cores beside it", end="")
        print(f": {1000 * (fast * given.gpu_price + rest * (given.core_price or 0)):.2f}", end="")
    print("\n")
    print(f"Recordings of {given.minutes:g} minutes; hours until all is committed, by the number of workers:\n")
    print("| hours of sound | " + " | ".join(map(str, TEAMS)) + " | linking, h | catalog, GB | clips, GB |")
    print("|---|" + "---|" * (len(TEAMS) + 3))
    for hours in SIZES:
        walls = [simulate(hours, given.minutes, cost, team) for team in TEAMS]
        voices = hours * 60 / given.minutes * VOICES
        rest = (
            f"{LINK_S * voices**2 / 3600:.2f}",
            f"{hours * PIECES_H * CATALOG_B / 1e9:.2f}",
            f"{hours * 3600 * KEPT * CLIP_BS / 1e9:.0f}",
        )
        print(f"| {hours} | " + " | ".join(f"{wall:.1f}" for wall in walls) + " | " + " | ".join(rest) + " |")


if __name__ == "__main__":
    main()
