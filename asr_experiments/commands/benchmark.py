"""`pdid benchmark`: does masking what betrays the accent help? Arms × seeds on a split or a data set."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from asr_experiments.commands.classifier import classifier
from asr_experiments.commands.dataset import dataset
from asr_experiments.commands.explain import explain
from asr_experiments.commands.ground import ground
from asr_experiments.commands.options import data_options, make_settings, read_data, read_seeds, say_left_out, sweep
from asr_experiments.commands.probe import probe
from asr_experiments.commands.report import report
from asr_experiments.commands.sanity import sanity
from catalog.errors import UsageError

if TYPE_CHECKING:
    from asr_experiments.benchmark import Outcome
    from asr_experiments.experiment import Experiment

EXAMPLES = """\b
Examples:
  pdid benchmark --dry-run                              check everything, and say how long it would take
  pdid benchmark --model tiny --language fa             every arm, seeds 0, 1 and 2, on the newest split
  pdid benchmark --arms zero-shot,finetune,specaugment,saliency --seeds 0 --epochs 3
  pdid benchmark --dataset digits.csv --model ./whisper-digits --language en --standard USA
  pdid benchmark --sweep leave-one-out --arms finetune,saliency
  pdid benchmark --paper --model base                   the paper's choices throughout
  pdid benchmark --arms ctc,align --language-model ./bert-fa   a CTC head, taught by a language model

Started twice, two processes share the cells. Stopped and started again, it goes on after the last whole epoch.
"""


@click.group(invoke_without_command=True, epilog=EXAMPLES)
@data_options
@click.option(
    "--arms",
    default="all",
    show_default=True,
    help="Which of the trainings to compare, see docs/benchmark.md; ctc and align (docs/align.md) are not in all.",
)
@click.option("--seeds", default="0,1,2", show_default=True, help="Random seeds; each arm is trained once with each.")
@click.option("--epochs", type=click.IntRange(1), help="Times the data is gone through, twice each.  [default: 10]")
@click.option("--batch-size", type=click.IntRange(1), help="Clips in an update.  [default: the paper's for the size]")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), help="Of AdamW.  [default: the paper's for the size]"
)
@click.option(
    "--context",
    type=click.Choice(["full", "auto"]),
    default="full",
    show_default=True,
    help="What the encoder runs on: its whole window, or the batch's longest clip (faster; both are tested).",
)
@click.option("--lora", is_flag=True, help="Train low-rank matrices in place of all weights.")
@click.option(
    "--gradcam-layer", type=click.IntRange(1, 4), default=4, show_default=True, help="Convolution that is looked at."
)
@click.option("--thresholds", metavar="NAME|A,B,C", help="paper, aggressive, conservative, or three.  [default: paper]")
@click.option(
    "--probabilities", metavar="A,B,C,D", help="Masking chances of the two middle tiers.  [default: 0,0.05,0.7,0.9]"
)
@click.option("--fill", type=click.Choice(["zero", "mean", "floor"]), help="What is masked becomes.  [default: zero]")
@click.option("--draw", type=click.Choice(["pixel", "clip"]), help="Chances are drawn per.  [default: pixel]")
@click.option(
    "--score",
    type=click.Choice(["normalised", "raw"]),
    default="normalised",
    show_default=True,
    help="What the tables count errors on; English normalisation writes spoken digits as one number.",
)
@click.option("--leave-out", metavar="ACCENT", help="Take an accent out of training, and test it as an unseen one.")
@click.option(
    "--encoder",
    type=click.Choice(["whisper", "conformer"]),
    help="Of ctc and align: the model's own, or a new Conformer of its size.  [default: whisper]",
)
@click.option(
    "--language-model",
    metavar="MODEL",
    help="That teaches align, like BERT: a folder or hub id.  [default: a small one made from the transcripts]",
)
@click.option("--align-weights", metavar="A,O", help="Of align's terms beside CTC.  [default: 0.3,0.3]")
@click.option(
    "--transport",
    metavar="E,F,T,W",
    help="Of align: ε, λ of frames, λ of tokens (inf keeps them all), width of the order.  [default: 0.1,0.1,inf,0.2]",
)
@click.option(
    "--sweep",
    "sweep_kind",
    type=click.Choice(["thresholds", "leave-one-out"]),
    help="Several experiments: each set of thresholds, or each training accent left out.",
)
@click.option("--paper", is_flag=True, help="The paper's every choice: full clips, one fixed mask, padding too.")
@click.option("--dry-run", is_flag=True, help="Check everything and estimate the time; train nothing.")
@click.pass_context
def benchmark(ctx: click.Context, /, **chosen: Any) -> None:
    """Fine-tune Whisper on original and masked speech, arm by arm, and compare them on seen and unseen accents.

    Every arm sees the same clips in the same number of updates. Each cell of the matrix is a row of `runs`, each
    hypothesis a row of `predictions`; the report is runs/ID/report.html.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options_of_the_group(ctx)
        return
    from asr_experiments.arms import read_arms
    from asr_experiments.experiment import cells

    wanted = cells(read_arms(chosen["arms"]), read_seeds(chosen["seeds"]))
    if chosen["dry_run"]:
        from asr_experiments.dry_run import estimate

        with TemporaryDirectory(prefix="pdid-") as scratch:
            for experiment in prepare(chosen, Path(scratch)):
                for line in estimate(experiment, wanted):
                    click.echo(json.dumps(line.as_json(), ensure_ascii=False) if chosen["as_json"] else str(line))
        return
    failed = sum([_run(experiment, wanted, chosen["as_json"]) for experiment in prepare(chosen)])
    ctx.exit(1 if failed else 0)


for command in (classifier, sanity, explain, probe, ground, report, dataset):
    benchmark.add_command(command)


def _refuse_options_of_the_group(ctx: click.Context) -> None:
    """Options before a study's name would be the benchmark's, and without effect."""
    for option in ctx.command.params:
        if ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            name = ctx.invoked_subcommand
            raise UsageError(f"write {option.opts[0]} after `{name}`: pdid benchmark {name} {option.opts[0]} …")


def prepare(chosen: dict[str, Any], scratch: Path | None = None) -> list[Experiment]:
    """The experiments that the command line means, all checked before a model is fetched or trained.

    With a `scratch` folder a mini that is not there yet is stood in for by an untrained one, made there.
    """
    from asr_experiments.datasets import require_splits, shared_speakers
    from asr_experiments.experiment import make_experiment
    from asr_experiments.models import obtain

    corpus: Path = chosen["corpus"]
    data = read_data(corpus, chosen["split"], chosen["dataset"], chosen["language"], chosen["standard"])
    if data.language is None and len(data.languages) > 1:
        raise UsageError(f"the clips are in {', '.join(data.languages)}: say which with --language")
    require_splits(data.utterances, ("train", "test"))
    settings = sweep(make_settings(chosen["model"], data, chosen), chosen["sweep_kind"], data.utterances)
    for one in settings:
        make_experiment(corpus, one, "", data.utterances)  # for what it refuses
    say_left_out(data)
    if both := shared_speakers(data.utterances):
        click.echo(
            f"warning: {len(both)} speakers are heard in training and in test ({', '.join(both[:5])}): what is "
            "measured on them is not about new speakers",
            err=True,
        )
    model, version = obtain(chosen["model"], data.utterances, data.standard, data.language, corpus, _say, scratch)
    return [make_experiment(corpus, replace(one, model=model), version, data.utterances) for one in settings]


def _say(line: str) -> None:
    click.echo(line, err=True)


def _run(experiment: Experiment, wanted: Any, as_json: bool) -> int:
    """Run the cells with progress; returns how many failed."""
    from asr_experiments.benchmark import run_cells
    from asr_experiments.progress import Display
    from asr_experiments.report.write import write_report

    failed = elsewhere = 0
    first = os.environ.get("RANK", "0") == "0"  # of the processes of an `accelerate launch` one speaks
    with Display(experiment.experiment_id, len(wanted), quiet=not first) as display:
        for outcome in run_cells(experiment, wanted, display.watch):
            failed += outcome.error is not None
            elsewhere += outcome.run is None
            display.finished(_line(outcome, experiment.settings.score))
            if as_json and first:
                click.echo(json.dumps(_as_json(experiment, outcome), ensure_ascii=False))
    if first:
        path = write_report(experiment.corpus, experiment.experiment_id)
        others = f", {elsewhere} in work by other processes" if elsewhere else ""
        cells = f"{len(wanted)} cells, {failed} failed{others}"
        click.echo(f"experiment {experiment.experiment_id}: {cells}; report: {path}", err=True)
    return failed


def _line(outcome: Outcome, form: str) -> str:
    if outcome.run is None:
        return f"{outcome.cell.name}: in work by another process"
    if outcome.error:
        return f"{outcome.cell.name}: failed: {outcome.error}"
    rates = [
        f"{group['name']} {group['forms'][form]['wer']:.1%}"
        for group in outcome.run.metrics["groups"]
        if group["kind"] != "accent" and group["forms"][form]["wer"] is not None
    ]
    note = "" if outcome.fresh else " (done before)"
    at_once, training = outcome.run.metrics.get("micro_batch"), outcome.run.config.get("training")
    if at_once and training and at_once < training["batch_size"]:
        note += f" (memory ran short: {at_once} clips at once, the updates are the same)"
    return f"{outcome.cell.name}: word errors {', '.join(rates)}{note}"


def _as_json(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    return {
        "experiment_id": experiment.experiment_id,
        "run_id": experiment.run_id(outcome.cell),
        "arm": outcome.cell.arm,
        "seed": outcome.cell.seed,
        "fresh": outcome.fresh,
        "error": outcome.error,
        "groups": outcome.run.metrics.get("groups") if outcome.run else None,
    }
