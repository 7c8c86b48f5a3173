"""`pdid benchmark classifier`: how well the accents can be told apart, and by what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from asr_experiments.commands.options import data_options, read_data, say_left_out

EXAMPLES = """\b
Examples:
  pdid benchmark classifier
  pdid benchmark classifier --dataset digits.csv --model ./whisper-digits
  pdid benchmark classifier --split paper --model base --paper --json

Balanced accuracy is the mean over the accents; guessing gives one over their number. What the classifier has learnt
of accents is what it has over both controls. It is kept, and pdid benchmark on the same clips takes its saliency
from it.
"""

LEARNT_FROM = {
    "scores": "the speech",
    "duration_only": "the clips' length alone",
    "pauses_only": "what lies between the words alone",
}


@click.command(epilog=EXAMPLES, short_help="How well can the accents be told apart, and by what?")
@data_options
@click.option("--paper", is_flag=True, help="Learn from whole padded clips, as the paper does, not from short crops.")
def classifier(**chosen: Any) -> None:
    """Train the accent classifier on the training clips, and test it beside two controls that hear no speech.

    Of the model only the kind of spectrogram it takes is wanted; a mini is not trained for that.
    """
    import torch

    from asr_experiments.classifier import ClassifierSettings
    from asr_experiments.models import obtain_extractor
    from asr_experiments.progress import Display
    from asr_experiments.studies import obtain_classifier, read_scores

    corpus: Path = chosen["corpus"]
    data = read_data(corpus, chosen["split"], chosen["dataset"], chosen["language"], chosen["standard"])
    say_left_out(data)
    extractor = obtain_extractor(chosen["model"], data.utterances, data.standard)
    settings = ClassifierSettings.paper() if chosen["paper"] else ClassifierSettings()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with Display("accent classifier", 1) as display:
        folder = obtain_classifier(corpus, data.utterances, extractor, settings, device, display.watch)
    told = read_scores(folder)
    for warning in told["warnings"]:
        click.echo(f"note: {warning}", err=True)
    if chosen["as_json"]:
        click.echo(json.dumps({"folder": str(folder)} | told, ensure_ascii=False))
    elif "scores" in told:
        click.echo("\n".join(_table(told)))
    click.echo(f"the classifier is in {folder}", err=True)


def _table(told: Mapping[str, Any]) -> list[str]:
    """Accuracies beside those of the controls, then what was taken for what."""
    accents: Sequence[str] = told["accents"]
    rows = [("told from", "accuracy", "balanced", "macro-F1")]
    for key, what in LEARNT_FROM.items():
        own = told[key]
        recalls = [row[i] / sum(row) for i, row in enumerate(own["confusion"]) if sum(row)]
        balanced = sum(recalls) / len(recalls)
        rows.append((what, f"{own['accuracy']:.1%}", f"{balanced:.1%}", f"{own['macro_f1']:.1%}"))
    rows.append(("guessing", "", f"{1 / len(accents):.1%}", ""))
    taken = [("accent", *(f"→ {accent}" for accent in accents), "clips")]
    for accent, row in zip(accents, told["scores"]["confusion"], strict=True):
        taken.append((accent, *map(str, row), str(sum(row))))
    counts = f"{told['n_train']} training clips, {told['n_test']} test clips"
    return [*aligned(rows), "", f"What was taken for what ({counts}):", *aligned(taken)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
