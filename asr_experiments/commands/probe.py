"""`pdid benchmark probe`: layer by layer, what a model keeps of accent, speaker, channel and words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr_experiments.commands.classifier import aligned
from asr_experiments.commands.options import data_options, read_data, say_left_out

if TYPE_CHECKING:
    from asr_experiments.datasets import Utterance
    from asr_experiments.probing.features import Layers, WhisperLayers
    from asr_experiments.probing.figures import Figure, ProbeStudy

EXAMPLES = """\b
Examples:
  pdid benchmark probe
  pdid benchmark probe --dataset digits.csv --model ./whisper-digits --language en
  pdid benchmark probe --model tiny --also corpus/runs/whisper-tiny-1a2b3c4d/cells/saliency-0/model
  pdid benchmark probe --split paper --model base --json

What can be read off a layer is still there; that is no proof that the model uses it. Exit status 1 where a probe
misses an attribute that was planted for it to find.
"""


@click.command(epilog=EXAMPLES, short_help="What do the layers keep of accent, speaker, channel and words?")
@data_options
@click.option(
    "--also",
    multiple=True,
    metavar="FOLDER",
    help="Another model: of a cell its `model`, a Whisper, a classifier, a grounding model. May be given again.",
)
@click.pass_context
def probe(ctx: click.Context, /, **chosen: Any) -> None:
    """Read accent, speaker, channel and words off every layer of the model's encoder, in and out of domain.

    Linear probes for the first three, a small CTC reader for the words, each trained on clean speech and tested on
    clean and on noisy speech, over the telephone, and on accents that are not in training. Beside the model stand the
    accent classifier, the same network with random weights, and the log-mels that all of them hear. The figures and a
    page go to runs/probe. --standard plays a part for a mini only.
    """
    import torch

    from asr_experiments.datasets import channels
    from asr_experiments.experiment import write_file
    from asr_experiments.models import obtain
    from asr_experiments.probing.features import LogMelLayers, WhisperLayers, open_layers, random_twin
    from asr_experiments.probing.page import write_page
    from asr_experiments.probing.study import plan, probe_study
    from asr_experiments.progress import Display

    corpus: Path = chosen["corpus"]
    data = read_data(corpus, chosen["split"], chosen["dataset"], chosen["language"], chosen["standard"])
    say_left_out(data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, _ = obtain(chosen["model"], data.utterances, data.standard, data.language, corpus, _say)
    first = open_layers(model, device)
    others = [open_layers(folder, device) for folder in chosen["also"]]
    models: list[Layers] = [first, *others]
    published = None if chosen["dataset"] else channels(corpus)
    plan(data.utterances, models, data.language, channels=published)  # for what it refuses
    with Display("probes", 1) as display:
        if isinstance(first, WhisperLayers):
            models += _beside(corpus, data.utterances, first, device, display.watch)
            models += [random_twin(first), LogMelLayers(first.whisper.feature_extractor)]
        study = probe_study(
            data.utterances,
            models,
            data.language,
            corpus / "runs" / "probe",
            channels=published,
            device=device,
            report=display.watch,
        )
    name = chosen["dataset"].stem if chosen["dataset"] else chosen["split"] or "newest-split"
    page = corpus / "runs" / "probe" / f"{name}.html"
    told = asdict(study)
    write_file(page.with_suffix(".json"), json.dumps(told, ensure_ascii=False, indent=1))
    write_file(page, write_page(study, name))
    if chosen["as_json"]:
        for what in ("figures", "controls", "likeness"):
            for line in told[what]:
                click.echo(json.dumps({"of": what} | line, ensure_ascii=False))
    else:
        click.echo("\n".join(table(study)))
    for note in study.notes:
        click.echo(f"note: {note}", err=True)
    for reason, n in study.left_out.items():
        click.echo(f"{n} clips are left out: {reason}", err=True)
    for failure in study.failures():
        click.echo(f"warning: {failure}", err=True)
    click.echo(f"the figures are in {page}", err=True)
    ctx.exit(1 if any(not one.good for one in study.controls if one.kind == "planted") else 0)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _beside(
    corpus: Path, utterances: Sequence[Utterance], whisper: WhisperLayers, device: str, report: Any
) -> list[Layers]:
    """The accent classifier of the clips, trained where there is none yet; nothing where there is one accent alone."""
    from asr_experiments.classifier import ClassifierSettings, load_classifier
    from asr_experiments.probing.features import ClassifierLayers
    from asr_experiments.studies import obtain_classifier

    if len({u.accent for u in utterances if u.split == "train"}) < 2:
        _say("note: the accent classifier is left out: training has one accent alone")
        return []
    extractor = whisper.whisper.feature_extractor
    folder = obtain_classifier(corpus, utterances, extractor, ClassifierSettings(), device, report)
    return [ClassifierLayers(load_classifier(folder, device), extractor)]


def table(study: ProbeStudy) -> list[str]:
    """A line for each layer: balanced accuracies by task and domain, and character error rates, in per cent."""
    columns = list(dict.fromkeys((one.task, one.domain) for one in study.figures))
    found: dict[tuple[str, str, str, str], Figure] = {
        (one.place.model, one.place.layer, one.task, one.domain): one for one in study.figures
    }
    rows = [("model, layer", *(task for task, _ in columns)), ("", *(domain for _, domain in columns))]
    for model, layers in study.models.items():
        for layer in layers:
            own = [found.get((model, layer, *column)) for column in columns]
            rows.append((f"{model}, {layer}", *("–" if one is None else f"{100 * one.value:.1f}" for one in own)))
    chances = {one.task: one.chance for one in study.figures if one.chance is not None}
    rows.append(("guessing", *(f"{100 * chances[task]:.1f}" if task in chances else "" for task, _ in columns)))
    counts = f"{study.n_train} training clips, {study.n_test} test clips, {study.seconds / 60:.1f} minutes."
    return [*aligned(rows), "", f"Balanced accuracy, of words the character error rate, in per cent. {counts}"]
