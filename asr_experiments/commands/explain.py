"""`pdid benchmark explain`: what the classifier listens to, in acoustic terms."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr_experiments.commands.options import data_options, read_data, say_left_out

if TYPE_CHECKING:
    from asr_experiments.explain.study import ExplainStudy

EXAMPLES = """\b
Examples:
  pdid benchmark explain
  pdid benchmark explain --dataset emotions.csv --model ./whisper-digits
  pdid benchmark explain --split paper --model base --json

Needs openSMILE (for research only) and captum: pip install 'pdid[explain]'. docs/explain.md says how to read it.
"""


@click.command(epilog=EXAMPLES, short_help="What does the classifier listen to, in acoustic terms?")
@data_options
@click.option("--paper", is_flag=True, help="Look at the classifier of whole padded clips, the paper's, not of crops.")
def explain(**chosen: Any) -> None:
    """Ask the classifier where it listens, and measure what is special about those places.

    The classifier is the one of pdid benchmark classifier, and any label will do for an accent: emotions, say. By
    Grad-CAM, layer-wise relevance and occlusion the five windows of 0.15 s are found that matter most in each test
    clip; loudness, pitch, jitter, shimmer, harmonicity, spectral slopes, formants and speaking rate in them are
    compared with the whole clip, with windows at random, and with other classes. The figures go to runs/explain, with
    a page to look at and listen to.
    """
    import torch

    from asr_experiments.classifier import ClassifierSettings, load_classifier
    from asr_experiments.datasets import read_sound, require_splits
    from asr_experiments.experiment import write_file
    from asr_experiments.explain.cues import require_opensmile
    from asr_experiments.explain.occlusion import require_captum
    from asr_experiments.explain.page import explain_page
    from asr_experiments.explain.study import explain_study, require_classes
    from asr_experiments.features import LogMels
    from asr_experiments.models import obtain_extractor
    from asr_experiments.progress import Display
    from asr_experiments.studies import explain_clips, obtain_classifier

    corpus: Path = chosen["corpus"]
    require_opensmile()
    require_captum()
    data = read_data(corpus, chosen["split"], chosen["dataset"], chosen["language"], chosen["standard"])
    require_splits(data.utterances, ("train", "test"))
    require_classes(data.utterances)
    say_left_out(data)
    extractor = obtain_extractor(chosen["model"], data.utterances, data.standard)
    settings = ClassifierSettings.paper() if chosen["paper"] else ClassifierSettings()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = explain_clips(data.utterances)
    mels = LogMels([clip.path for clip in clips], extractor, corpus / "runs" / "cache")
    with Display("what it listens to", 1) as display:
        made = load_classifier(
            obtain_classifier(corpus, data.utterances, extractor, settings, device, display.watch), device
        )
        study = explain_study(
            made,
            mels,
            lambda i: read_sound(clips[i].path),
            [clip.accent for clip in clips],
            [clip.speaker for clip in clips],
            range(len(clips)),
            progress=lambda share: display.watch("acoustic cues", share),
        )
    folder = corpus / "runs" / "explain"
    name = chosen["dataset"].stem if chosen["dataset"] else chosen["split"] or "newest-split"
    write_file(folder / f"{name}.json", json.dumps(asdict(study), ensure_ascii=False, indent=1))
    write_file(folder / f"{name}.html", explain_page(name, study, made, mels, clips))
    for note in study.notes:
        click.echo(f"note: {note}", err=True)
    for why, n in study.skipped.items():
        click.echo(f"{n} of {len(clips)} test clips are {why}", err=True)
    _print(study, as_json=chosen["as_json"])
    click.echo(f"the page is {folder / name}.html", err=True)


def _print(study: ExplainStudy, *, as_json: bool) -> None:
    """Every cell as JSON, or the cues that count for each class, the strongest first."""
    for way, profile in study.profiles.items():
        if as_json:
            for cell in profile.all:
                click.echo(json.dumps({"saliency": way} | asdict(cell), ensure_ascii=False))
            continue
        click.echo(f"{way}: {len(study.clips)} test clips, {study.accuracy:.1%} told right")
        for label in study.classes:
            counting = [cell for cell in profile.all if cell.label == label and cell.counts]
            counting.sort(key=lambda cell: -abs(cell.effect or 0))
            told = ", ".join(f"{cell.cue} {cell.effect:+.2f} (p {cell.p:.3f})" for cell in counting)
            click.echo(f"  {label}: {told or 'no cue counts'}")
