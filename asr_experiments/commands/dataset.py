"""`pdid benchmark dataset`: a local copy of a published corpus as a data set file."""

from __future__ import annotations

from pathlib import Path

import click

from catalog.errors import UsageError

EXAMPLES = """\b
Examples:
  pdid benchmark dataset librispeech ~/corpora/LibriSpeech libri.csv
  pdid benchmark dataset common-voice ~/corpora/cv-corpus-20/fa cv-fa.csv --accent standard
  pdid benchmark dataset edacc ~/corpora/edacc_v1.0 edacc.csv
  pdid benchmark dataset crema-d ~/corpora/CREMA-D emotions.csv
  pdid benchmark --dataset libri.csv --model tiny --language en

KIND is librispeech, edacc, commonaccent, common-voice, pdid, or crema-d or tess, where the accent is an emotion; or
places, Places Audio Captions, which makes a table of pairs for pdid benchmark ground --pairs. Nothing is downloaded;
docs/datasets.md says how each must lie in its folder. Files can be joined: the header once, then the rows of each.
"""


@click.command(epilog=EXAMPLES, short_help="A local copy of a published corpus as a data set file.")
@click.argument("kind", metavar="KIND")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.csv", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--accent", metavar="NAME", help="Label of speech without an accent of its own.  [default: left out]")
def dataset(kind: str, folder: Path, target: Path, accent: str | None) -> None:
    """Write the clips of a published corpus in FOLDER as a data set file, for --dataset."""
    if kind == "places":
        from asr_experiments.grounding.places import write_places

        if accent is not None:
            raise UsageError("--accent: Places Audio Captions become pairs, which have no accent; leave it out")
        click.echo(f"{target}: {write_places(folder, target)} pairs", err=True)
        return
    from asr_experiments.loaders import write_dataset

    count = write_dataset(kind, folder, target, accent)
    click.echo(f"{target}: {count} clips", err=True)
