"""What the layers keep of accent, speaker, channel and words: the probes on strings of spoken digits.

    python benchmarks/probe.py DATASET [--model whisper-digits] [--also FOLDER …] [--only-also] [--page FILE.html]

DATASET is one that `benchmarks/digits.py make` writes (`hold-george.csv` leaves an accent to test the unseen on).
--also names further models: a cell's `model` folder, a classifier's folder, a grounding model's. Random weights and
log-mels come with it; with --only-also those named are probed alone, on the same clips. Prints one table, a line for
each layer; then the controls, CKA with the first model, and how long it took in processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from asr_experiments.datasets import read_dataset
from asr_experiments.probing.features import Layers, LogMelLayers, WhisperLayers, open_layers, random_twin
from asr_experiments.probing.figures import ProbeStudy
from asr_experiments.probing.page import write_page
from asr_experiments.probing.sides import DOMAINS, TASKS
from asr_experiments.probing.study import probe_study


def lines(study: ProbeStudy) -> list[str]:
    """The table: balanced accuracy of every question in every domain, and character error rates, in per cent."""
    columns = [
        (task, domain) for task in TASKS for domain in DOMAINS if any((f.task, f.domain) == (task, domain)
                                                                      for f in study.figures)
    ]  # fmt: skip
    made = ["| model | layer | ms | " + " | ".join(f"{task}, {domain}" for task, domain in columns) + " |"]
    made.append("|" + "---|" * (3 + len(columns)))
    found = {(f.place, f.task, f.domain): f for f in study.figures}
    for place in dict.fromkeys(f.place for f in study.figures):
        cells = [f"{100 * found[place, *column].value:.1f}" for column in columns]
        ms = study.frame_ms[place.model][place.depth]
        made.append(f"| {place.model} | {place.layer} | {ms} | " + " | ".join(cells) + " |")
    chance = {f.task: f"{100 * f.chance:.1f}" for f in study.figures if f.chance is not None}
    made.append("| guessing | | | " + " | ".join(chance.get(task, "") for task, _ in columns) + " |")
    return made


def checks(study: ProbeStudy) -> list[str]:
    """The controls, by kind and question: the mean over the layers, and the layer farthest from what it should be."""
    made = []
    for kind, task in dict.fromkeys((c.kind, c.task) for c in study.controls):
        own = [c for c in study.controls if (c.kind, c.task) == (kind, task)]
        worst = max(own, key=lambda c: (1 if c.kind == "planted" else c.chance) - c.value
                    if c.kind == "planted" else abs(c.value - c.chance))  # fmt: skip
        made.append(
            f"{kind}, {task}: mean {np.mean([c.value for c in own]):.1%} of {len(own)} layers, chance "
            f"{own[0].chance:.1%}, worst {worst.value:.1%} ± {worst.error:.1%} ({worst.place.model}, "
            f"{worst.place.layer}), {sum(not c.good for c in own)} missed"
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="whisper-digits")
    parser.add_argument("--also", action="append", default=[])
    parser.add_argument("--only-also", action="store_true", help="probe those of --also alone, on the same clips")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    first = open_layers(given.model, "cpu")
    assert isinstance(first, WhisperLayers)
    models: list[Layers] = [first, *(open_layers(folder, "cpu") for folder in given.also)]
    models += [random_twin(first), LogMelLayers(first.whisper.feature_extractor)]
    if given.only_also:
        models = models[1:-2]
    clips = [clip for clip in read_dataset(given.dataset) if clip.n_samples <= first.longest]
    begun, said = time.process_time(), [""]

    def report(what: str, share: float) -> None:
        if what != said[0]:
            said[0] = what
            print(f"{time.process_time() - begun:6.0f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        study = probe_study(clips, models, "en", Path(scratch), report=report)
    print(f"\n{study.n_train} training and {study.n_test} test clips; {dict(study.left_out)}", *study.notes, sep="\n")
    print("", *lines(study), "", *checks(study), "", sep="\n")
    for one in study.likeness:
        rows = [" ".join(f"{value:5.2f}" for value in row) for row in one.values]
        print(f"CKA, {one.first} (rows) and {one.second}:", *rows, sep="\n")
    print(
        f"\n{(time.process_time() - begun) / 60:.1f} minutes of processor time, {study.seconds / 60:.1f} by the clock"
    )
    if given.page:
        given.page.write_text(write_page(study, given.dataset.stem), "utf-8")


if __name__ == "__main__":
    main()
