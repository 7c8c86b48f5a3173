"""The planted-truth study on real clips, speaker-disjoint: does saliency find what it should, and does masking help?

    python benchmarks/sanity.py CLIPS [--seeds 0,1,2] [--learning-rate 2e-4]

CLIPS has `vctk/` and `librispeech/`, whose file names begin with the speaker. Every fourth speaker is held out.
Prints one table, the means over the seeds, and the bounds that are missed by them and by single seeds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr_experiments.cam import Method
from asr_experiments.datasets import read_sound
from asr_experiments.features import Floats
from asr_experiments.sanity import DEFAULT, MethodFigures, SanityStudy, area_under, sanity_study


def material(folder: Path) -> tuple[list[Floats], list[str]]:
    """The clips of a folder of corpora, and their speakers."""
    paths = [path for name in ("vctk", "librispeech") for path in sorted((folder / name).glob("*.flac"))]
    return [read_sound(path) for path in paths], [path.name.replace("-", "_").split("_")[0] for path in paths]


def held_out(speakers: list[str], seed: int) -> list[str]:
    """A quarter of the speakers."""
    names = sorted(set(speakers))
    return [str(name) for name in np.random.default_rng(seed).permutation(names)[: len(names) // 4]]


def rows(study: SanityStudy, seed: int) -> list[str]:
    """The table's lines for one study."""
    found = []
    for method, f in study.methods.items():
        acc = " | ".join(f"{f.accuracy[arm]:.3f}" for arm in ("saliency", "random", "swapped", "binary"))
        curves = " | ".join(
            f"{area_under(a):.2f} / {area_under(b):.2f}"
            for a, b in ((f.deletion, f.deletion_random), (f.insertion, f.insertion_random))
        )
        found.append(
            f"| {seed} | {method} | {study.accuracy:.3f} | {f.pointing:.3f} ({f.pointing_chance:.3f}) | "
            f"{100 * f.share_masked:.1f} % | {acc} | {f.randomised_correlation:.2f} | {curves} | {study.seconds:.0f} |"
        )
    return found


def mean_of(each: list[MethodFigures]) -> MethodFigures:
    """The mean of what the bounds are about."""
    arms = each[0].accuracy
    return replace(
        each[0],
        pointing=float(np.mean([f.pointing for f in each])),
        accuracy={arm: float(np.mean([f.accuracy[arm] for f in each])) for arm in arms},
        randomised_correlation=float(np.mean([f.randomised_correlation for f in each])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--learning-rate", type=float, default=DEFAULT.classifier.learning_rate)
    given = parser.parse_args()
    clips, speakers = material(given.clips)
    lines, missed = [], []
    found: dict[Method, list[MethodFigures]] = {}
    start = time.monotonic()
    for seed in map(int, given.seeds.split(",")):
        classifier = replace(DEFAULT.classifier, learning_rate=given.learning_rate)
        chosen = replace(DEFAULT, seed=seed, classifier=classifier)
        study = sanity_study(clips, speakers, held_out(speakers, seed), chosen)
        lines += rows(study, seed)
        for method, figures in study.methods.items():
            found.setdefault(method, []).append(figures)
        missed += [f"seed {seed}, {m}: {why}" for m, f in study.methods.items() for why in f.failures(study.chance)]
        if seed == int(given.seeds.split(",")[0]):
            print(
                f"{study.n_train} pieces in training, {study.n_test} of {study.n_test_speakers} speakers in test, "
                f"chance {study.chance:.3f}; cue {DEFAULT.level_db:g} dB, learning rate {given.learning_rate:g}\n"
            )
            print(
                "| seed | map | accuracy | pointing (chance) | masked | saliency | random | swapped | binary | "
                "randomised r | deletion / random | insertion / random | s |\n|" + "---|" * 13
            )
        print("\n".join(lines[-len(study.methods) :]), flush=True)
    by_mean = []
    for method, each in found.items():
        mean = mean_of(each)
        acc = ", ".join(f"{arm} {mean.accuracy[arm]:.3f}" for arm in ("saliency", "random", "swapped", "binary"))
        print(
            f"\nmean of {len(each)} seeds, {method}: pointing {mean.pointing:.3f}; accuracy after masking: {acc}; "
            f"randomised r {mean.randomised_correlation:.2f}"
        )
        by_mean += [f"{method}: {why}" for why in mean.failures(study.chance)]
    print(f"\n{time.monotonic() - start:.0f} s in all. Bounds missed by the means: {'; '.join(by_mean) or 'none'}.")
    print(f"By single seeds: {'; '.join(missed) or 'none'}.")


if __name__ == "__main__":
    main()
