"""The study of cues on planted changes: is the planted cue the strongest, and is nothing found where nothing is?

    python -m benchmarks.explain CLIPS RESULTS.jsonl [--changes noise,F0,…] [--seeds 0,1,2,3,4] [--speed]

CLIPS has `vctk/` and `librispeech/`, whose file names begin with the speaker. Each run plants one change in pieces of
2.56 s of real speech (`benchmarks/planted_changes.py`), trains a small classifier on three quarters of the speakers to
tell changed pieces, and explains it on the others. A run's figures are a line of RESULTS.jsonl; what is there is not
done again, so the whole may be done in parts. Prints the tables of all that is there. --stretch says instead what cues
the planted stretches have, --speed times occlusion.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr_experiments.classifier import AccentCnn, ClassifierSettings, train_classifier
from asr_experiments.explain.cues import HOP, NAMES, cue_tracks
from asr_experiments.explain.deltas import FEWEST, LEVEL, WINDOW, WINDOWS, random_windows, spread, window_deltas
from asr_experiments.explain.occlusion import occlusion
from asr_experiments.explain.saliency import WAYS
from asr_experiments.explain.study import ExplainSettings, ExplainStudy, explain_study
from asr_experiments.features import Floats
from benchmarks.planted_changes import (
    CHANGED,
    CHANGES,
    EXPECTED,
    PIECE,
    Kind,
    Material,
    change,
    material,
    stretch_of,
)
from benchmarks.sanity import held_out
from benchmarks.sanity import material as spoken

NULLS = 20
MOST = 48  # test pieces of a run
SPEEDS = 12  # further readings of the training clips
CLASSIFIER = ClassifierSettings(
    crop_frames=PIECE // 160, epochs=12, batch=32, learning_rate=1e-3, channels=(8, 16, 32, 64), specaugment=None
)
# with nothing planted there are few pieces, and nothing to learn: the longer, the more by heart
NULL_CLASSIFIER = replace(CLASSIFIER, epochs=4, batch=8, learning_rate=7e-4)


def run(
    clips: list[Floats],
    speakers: list[str],
    kind: Kind,
    seed: int,
    classifier: ClassifierSettings = CLASSIFIER,
    speeds: int = SPEEDS,
) -> tuple[ExplainStudy, Material]:
    """Plant, train on three quarters of the speakers, explain on the others' pieces."""
    others = set(held_out(speakers, seed))
    made_of = material(clips, speakers, kind, seed, set(speakers) - others, speeds)
    train, test = ([i for i, s in enumerate(made_of.speakers) if (s in others) == side] for side in (False, True))
    rng = np.random.default_rng(seed)
    test = sorted(int(i) for i in rng.permutation(test)[:MOST])
    settings = replace(NULL_CLASSIFIER if kind == "nothing" else classifier, seed=seed)
    made = train_classifier(made_of.mels, made_of.labels, train, settings=settings)
    study = explain_study(
        made,
        made_of.mels,
        lambda i: made_of.sounds[i],
        made_of.labels,
        made_of.speakers,
        test,
        ExplainSettings(seed=seed),
    )
    return study, made_of


def figures(study: ExplainStudy, made_of: Material, kind: Kind, seed: int, seconds: float) -> dict[str, Any]:
    """What is kept of a run."""
    told: dict[str, Any] = {"change": kind, "seed": seed, "accuracy": study.accuracy, "seconds": round(seconds)}
    told |= {"pieces": len(study.clips), "agreement": [asdict(one) for one in study.agreement], "ways": {}}
    for way, profile in study.profiles.items():
        strongest = profile.strongest(CHANGED)  # none where no cue has a figure, which is a miss
        told["ways"][way] = {
            "strongest": strongest.cue if strongest else None,
            "effect": strongest.effect if strongest else None,
            "found": hit(way, study, made_of),
            "cells": [asdict(cell) for cell in profile.all],
        }
    return told


def hit(way: str, study: ExplainStudy, made_of: Material) -> float | None:
    """The share of the salient frames that lie in the planted stretch, in changed pieces that were told to be."""
    shares = []
    for clip in study.clips:
        place = made_of.places[clip.clip]
        if place and clip.said == CHANGED:
            frames = [f for start in clip.starts[way] for f in range(start, start + WINDOW)]  # type: ignore[index]
            shares.append(np.mean([place[0] <= frame < place[1] for frame in frames]))
    return float(np.mean(shares)) if shares else None


def by_the_stretch(clips: list[Floats], kind: Kind) -> dict[str, float]:
    """The effect of each cue with the planted stretch itself for windows and no classifier: the mean over the pieces
    that have the cue there, half of them at least."""
    rng = np.random.default_rng(0)
    own, drawn = [], []
    for piece in (clip[k : k + PIECE] for clip in clips for k in range(0, len(clip) - PIECE + 1, PIECE)):
        start = stretch_of(piece, rng)
        tracks = cue_tracks(change(piece, kind, start, rng), PIECE // HOP)
        own.append(window_deltas(tracks, start // HOP + WINDOW * np.arange(WINDOWS)[None])[0])
        drawn.append(window_deltas(tracks, random_windows(PIECE // HOP, 200, rng)))
    scale, there = spread(np.stack(drawn)), ~np.isnan(own)
    means = np.where(there, own, 0).sum(0) / np.maximum(there.sum(0), 1) / scale
    return {name: float(means[k]) for k, name in enumerate(NAMES) if there[:, k].mean() >= FEWEST}


def strongest_by_the_stretch(clips: list[Floats]) -> str:
    lines = ["| change | strongest effects where the windows are the stretch |", "|---|---|"]
    for kind in CHANGES:
        found = by_the_stretch(clips, kind)
        order = sorted(found, key=lambda cue: -abs(found[cue]))[:5]
        lines.append(f"| {kind} | {', '.join(f'{cue} {found[cue]:+.1f}' for cue in order)} |")
    return "\n".join(lines)


def tables(runs: list[dict[str, Any]]) -> str:
    """What the runs say, in Markdown."""
    lines = [
        "| change | saliency | runs | accuracy | windows in the stretch | planted cue strongest | counts | strongest |",
        "|" + "---|" * 8,
    ]
    for kind in CHANGES:
        own = [one for one in runs if one["change"] == kind]
        for way in WAYS if own else ():
            of = [one["ways"][way] for one in own]
            best = [right(kind, one["strongest"], one["effect"]) for one in of]
            counting = [any(right(kind, c["cue"], c["effect"]) and counts(c) for c in one["cells"]) for one in of]
            seen = ", ".join(f"{one['strongest']} {one['effect']:+.1f}" if one["strongest"] else "none" for one in of)
            found = [one["found"] for one in of if one["found"] is not None]
            accuracy = np.mean([one["accuracy"] for one in own])
            lines.append(
                f"| {kind} | {way} | {len(own)} | {accuracy:.2f} | {np.mean(found):.0%} |"
                f" {sum(best)} of {len(own)} | {sum(counting)} of {len(own)} | {seen} |"
            )
    planted = [one for one in runs if one["change"] != "nothing"]
    for way in WAYS if planted else ():
        hits = [right(r["change"], r["ways"][way]["strongest"], r["ways"][way]["effect"]) for r in planted]
        lines.append(f"| all | {way} | {len(hits)} | | | {sum(hits)} of {len(hits)} ({np.mean(hits):.0%}) | | |")
    nulls = [one for one in runs if one["change"] == "nothing"]
    if nulls:
        accuracy = np.mean([one["accuracy"] for one in nulls])
        lines += [
            f"\nNothing planted, {len(nulls)} runs, accuracy {accuracy:.2f}; shares of the tests at p ≤ {LEVEL}:\n",
            "| saliency | place alone | class alone | runs with a cue that counts | most often |",
            "|" + "---|" * 5,
        ]
    for way in WAYS if nulls else ():
        cells = [cell for one in nulls for cell in one["ways"][way]["cells"]]
        place, by_class = (
            np.mean([c[name] <= LEVEL for c in cells if c[name] is not None]) for name in ("p_place", "p_class")
        )
        those = [
            {c["cue"] for c in one["ways"][way]["cells"] if c["p"] is not None and c["p"] <= LEVEL} for one in nulls
        ]
        named = [cue for cues in those for cue in cues]
        most = max(set(named), key=named.count) if named else "—"
        lines.append(
            f"| {way} | {place:.1%} | {by_class:.1%} | {sum(map(bool, those))} of {len(nulls)} |"
            f" {most} {named.count(most)} |"
        )
    lines += ["\n| agreement | windows shared | at random | rank correlation |", "|---|---|---|---|"]
    for k, one in enumerate(runs[0]["agreement"]):
        for name, some in (("planted", planted), ("nothing", nulls)):
            if some:
                mean = {
                    key: np.mean([r["agreement"][k][key] for r in some])
                    for key in ("shared", "by_chance", "correlation")
                }
                lines.append(
                    f"| {one['first']}, {one['second']}, {name} | {mean['shared']:.0%} | {mean['by_chance']:.0%} |"
                    f" {mean['correlation']:+.2f} |"
                )
    return "\n".join([*lines, f"\n{sum(one['seconds'] for one in runs) / 60:.0f} minutes of one core in all."])


def right(kind: Kind, cue: str | None, effect: float | None) -> bool:
    """Whether a cue is one that the change moves, and moved the way it does."""
    return cue is not None and effect is not None and EXPECTED[kind].get(cue, 0) * effect > 0


def counts(cell: dict[str, Any]) -> bool:
    return cell["label"] == CHANGED and cell["p"] is not None and cell["p"] <= LEVEL


def speed() -> str:
    """Occlusion of a window of 2.88 s, one copy at a time and in batches, on one thread; seconds of the processor."""
    torch.manual_seed(0)
    lines = ["| network | copies at once | s a window | times as fast | largest difference |", "|" + "---|" * 5]
    x, classes = torch.randn(1, 80, 288) * 0.5, torch.tensor([0])
    for name, channels in (("ordinary", (32, 64, 128, 256)), ("small", CLASSIFIER.channels)):
        net = AccentCnn(80, 288, 5, channels=channels).eval()
        occlusion(net, x[:, :, :32].repeat(1, 1, 9), classes)  # the first is slower
        first: tuple[float, torch.Tensor] | None = None
        for batch in (1, 8, 32, 128):
            begun = time.process_time()
            found = occlusion(net, x, classes, batch=batch)
            seconds = time.process_time() - begun
            first = first or (seconds, found)
            off = float((found - first[1]).abs().max() / first[1].abs().max())
            lines.append(f"| {name} | {batch} | {seconds:.2f} | {first[0] / seconds:.2f} | {off:.0e} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--changes", default=",".join([*CHANGES, "nothing"]))
    parser.add_argument("--seeds", help="of each change; by default 5, and 20 of nothing")
    parser.add_argument("--stretch", action="store_true", help="the cues of the planted stretches, no classifier")
    parser.add_argument("--speed", action="store_true", help="what batches gain occlusion")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.speed:
        print(speed())
        return
    clips, speakers = spoken(given.clips)
    if given.stretch:
        print(strongest_by_the_stretch(clips))
        return
    done = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    for kind in given.changes.split(","):
        count = NULLS if kind == "nothing" else 5
        for seed in map(int, given.seeds.split(",")) if given.seeds else range(count):
            if any(one["change"] == kind and one["seed"] == seed for one in done):
                continue
            begun = time.process_time()
            study, made_of = run(clips, speakers, kind, seed)
            told = figures(study, made_of, kind, seed, time.process_time() - begun)
            done.append(told)
            with given.results.open("a") as file:
                file.write(json.dumps(told) + "\n")
    done.sort(key=lambda one: (one["change"], one["seed"]))
    print(tables(done))


if __name__ == "__main__":
    main()
