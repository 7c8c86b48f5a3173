"""`pdid benchmark ground`: speech learnt from pictures of what is spoken of, without a word of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from asr_experiments.commands.options import corpus_option, json_option

EXAMPLES = """\b
Examples:
  pdid benchmark ground --pairs digits.csv
  pdid benchmark dataset places ~/corpora/PlacesAudio_400k_distro places.csv
  pdid benchmark ground --pairs places.csv --image-model microsoft/resnet-50 --epochs 90
  pdid benchmark ground --pairs digits.csv --json

The table has the columns image and clip, with paths relative to it, and may have speaker, split (train, dev, test) and
key: pairs of one key show the same thing, and none is a wrong answer for another. Pictures need: pip install
'pdid[ground]'. Stopped and started again, it goes on after the last whole epoch; see docs/ground.md.
"""


@click.command(epilog=EXAMPLES, short_help="Learn speech from pictures; find one by the other.")
@click.option(
    "--pairs",
    "table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="A CSV file with image, clip, and optionally key, speaker, split.",
)
@click.option("--image-model", metavar="NAME|FOLDER", help="A ResNet to begin with.  [default: a small, untrained one]")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True, help="Times the pairs are seen.")
@click.option("--batch-size", type=click.IntRange(2), default=64, show_default=True, help="Pairs in an update.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and changes.")
@corpus_option
@json_option
def ground(
    table: Path, image_model: str | None, epochs: int, batch_size: int, seed: int, corpus: Path, as_json: bool
) -> None:
    """Train a ResDAVEnet on spoken clips and pictures, and measure how well one is found by the other.

    The model goes to runs/grounding-… of the corpus folder; features of each of its layers can be taken from it.
    """
    import torch

    from asr_experiments.grounding.images import find_backbone, pillow
    from asr_experiments.grounding.pairs import read_pairs
    from asr_experiments.grounding.train import GroundingSettings, obtain_grounding, read_scores
    from asr_experiments.progress import Display

    pillow()
    pairs = read_pairs(table)
    for reason, n in pairs.left_out.items():
        click.echo(f"{n} pairs are left out: {reason}", err=True)
    if both := pairs.shared_speakers:
        click.echo(
            f"warning: {len(both)} speakers are heard in training and in test ({', '.join(both[:5])}): what is "
            "measured on them is not about new speakers",
            err=True,
        )
    settings = GroundingSettings(epochs=epochs, batch=batch_size, seed=seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with Display("grounding", 1) as display:
        folder = obtain_grounding(corpus, pairs, find_backbone(image_model), settings, device, display.watch)
    told = read_scores(folder)
    if as_json:
        click.echo(json.dumps({"folder": str(folder)} | told, ensure_ascii=False))
    else:
        _print(told)
    click.echo(f"the model is in {folder}", err=True)


def _print(told: Mapping[str, Any]) -> None:
    click.echo(
        f"{told['n_train']} pairs to learn from; tested on {told['n_clips']} clips and {told['n_images']} pictures, "
        f"chosen {told['held_out']}"
    )
    click.echo(f"{'':24}{'recall@1':>10}{'@5':>8}{'@10':>8}   at random")
    for what, way in (("picture by speech", "image_by_speech"), ("speech by picture", "speech_by_image")):
        shares, chances = told[way]["recall"], told[way]["chance"]
        at = f"{shares['1']:>10.1%}{shares['5']:>8.1%}{shares['10']:>8.1%}"
        click.echo(f"{what:24}{at}   {', '.join(f'{chance:.1%}' for chance in chances.values())}")
    for speaker, share in told["image_by_speech"]["by_speaker"].items():
        click.echo(f"  said by {speaker:14}{share:>10.1%}")
