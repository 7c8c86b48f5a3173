"""`pdid benchmark sanity`: can the saliency be trusted? Cues planted at known places say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from asr_experiments.commands.options import data_options, read_data, say_left_out

EXAMPLES = """\b
Examples:
  pdid benchmark sanity
  pdid benchmark sanity --dataset digits.csv
  pdid benchmark sanity --split paper --json

Exit status 1 where Grad-CAM, which the arm `saliency` masks by, misses one of the bounds.
"""


@click.command(epilog=EXAMPLES, short_help="Can the saliency be trusted? Planted truth says.")
@data_options
@click.pass_context
def sanity(ctx: click.Context, /, **chosen: Any) -> None:
    """Plant faint sounds at known places in the clips, and see whether saliency finds them and masking removes them.

    A classifier learns to tell the planted sounds from the speech of some speakers; the figures are about others:
    how often the map's peak is in the planted box, how well the classifier still does after masking by the map and
    after masking as much elsewhere, and how like the map is to that of a classifier which has learnt nothing. The
    figures go to runs/sanity, and the benchmark's report shows them. --model and --standard play no part.
    """
    from asr_experiments.datasets import read_sound
    from asr_experiments.experiment import write_file
    from asr_experiments.progress import Display
    from asr_experiments.sanity import sanity_study
    from asr_experiments.studies import sanity_figures, sanity_sides

    corpus: Path = chosen["corpus"]
    data = read_data(corpus, chosen["split"], chosen["dataset"], chosen["language"], chosen["standard"])
    say_left_out(data)
    clips, held_out = sanity_sides(data.utterances)
    with Display("planted truth", 1) as display:
        study = sanity_study(
            [read_sound(clip.path) for clip in clips],
            [clip.speaker for clip in clips],
            held_out,
            progress=lambda share: display.watch("planted truth", share),
        )
    folder = corpus / "runs" / "sanity"
    name = chosen["dataset"].stem if chosen["dataset"] else chosen["split"] or "newest-split"
    figures = sanity_figures(study)
    for method, told in figures.items():
        write_file(folder / f"{name}-{method}.json", json.dumps(told, ensure_ascii=False, indent=1))
        if chosen["as_json"]:
            click.echo(json.dumps({"method": method} | told, ensure_ascii=False))
        else:
            _print(method, told)
        for failure in told["failures"]:
            click.echo(f"{method}: not to be trusted here: {failure}", err=True)
    click.echo(f"the figures and curves are in {folder}", err=True)
    ctx.exit(1 if figures["gradcam"]["failures"] else 0)


def _print(method: str, told: Mapping[str, Any]) -> None:
    accuracy = told["accuracy"]
    rows = [
        ("peaks in the planted box", told["pointing"], f"at random {told['pointing_chance']:.1%}"),
        ("classifier, nothing masked", told["accuracy_unmasked"], f"guessing {told['chance']:.1%}"),
        ("masked by saliency", accuracy["saliency"], f"{told['share_masked']:.1%} of the pixels"),
        *((f"masked by {arm}", share, "") for arm, share in accuracy.items() if arm != "saliency"),
    ]
    click.echo(
        f"{method}: {told['n_test']} pieces of {told['n_test_speakers']} speakers, {told['n_train']} to train on"
    )
    for what, share, note in rows:
        click.echo(f"  {what:30} {share:7.1%}  {note}".rstrip())
    click.echo(f"  {'like an untrained one’s map':30} {told['randomised_correlation']:7.2f}  rank correlation")
