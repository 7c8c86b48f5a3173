"""`pdid export`: the corpus in the formats that others read."""

from __future__ import annotations

import json
from pathlib import Path

import click

from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.export import FORMATS

_WIDTH = max(map(len, FORMATS))
EXAMPLES = (
    """\b
Examples:
  pdid export --format audiofolder ~/data/accents
  pdid export --format parquet ~/data/accents --split split-2
  pdid export --format kaldi ~/data/kaldi --licence "CC BY 4.0,CC0"
  pdid export --format metadata ~/data/release --corpus tv

\b
Formats:
"""
    + "\n".join(f"  {name:{_WIDTH}}  {words}" for name, words in FORMATS.items())
    + "\n\nWhat each of them writes is in docs/exports.md."
)


def _names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list; None where the option is not given."""
    if value is None:
        return None
    names = tuple(filter(None, map(str.strip, value.split(","))))
    if not names:
        raise click.BadParameter("name at least one", ctx, parameter)
    return names


@click.command(epilog=EXAMPLES)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "name", type=click.Choice(list(FORMATS)), required=True, help="What to write; see below.")
@click.option(
    "--split", help="Whose train, dev and test the clips are divided by; its clips alone are taken.  [default: newest]"
)
@click.option("--licence", metavar="A,B", callback=_names, help="Only recordings with one of these licences.")
@click.option("--accent", metavar="A,B", callback=_names, help="Only clips with one of these accents.")
@corpus_option
@json_option
def export(
    out: Path,
    name: str,
    split: str | None,
    licence: tuple[str, ...] | None,
    accent: tuple[str, ...] | None,
    corpus: Path,
    as_json: bool,
) -> None:
    """Write the kept clips, or what is known of them, to the folder OUT, which must be new or empty.

    Clips come with their text where there is one, speaker, accent, language and licence. Nothing is there before
    all of it is; the catalog keeps which recordings went into which export.
    """
    from corpus_builder.config import load_settings
    from corpus_builder.export.clips import Choice
    from corpus_builder.export.job import export as run
    from corpus_builder.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    choice = Choice(split, licence, accent)
    row, job = run(corpus, name, out, choice, taxonomy, lambda line: click.echo(f"note: {line}", err=True))
    for side, clips in job.sides():
        hours = sum(clip.duration_s for clip in clips) / 3600
        speakers, written = len({clip.speaker_id for clip in clips}), sum(clip.text is not None for clip in clips)
        if as_json:
            line = {"side": side, "clips": len(clips), "hours": round(hours, 6), "speakers": speakers}
            click.echo(json.dumps({"export_id": row.export_id, "path": row.path} | line | {"with_text": written}))
        else:
            click.echo(f"{side}: {len(clips)} clips, {hours:.3f} h, {speakers} speakers, {written} with text")
    click.echo(f"{name}: {len(job.clips)} clips of {len(row.clips)} recordings are in {row.path}", err=True)
