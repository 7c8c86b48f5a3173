"""`pdid rebuild`: a corpus recreated from a metadata-only release."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from corpus_builder.commands.options import corpus_option, json_option

if TYPE_CHECKING:
    from corpus_builder.rebuild import Rebuilt

EXAMPLES = """\b
Examples:
  pdid rebuild ~/data/release --corpus tv --media ~/recordings
  pdid rebuild release --corpus tv --media /mnt/tapes --json

Run it again when more of the media is at hand: what is done is passed over.
"""


@click.command(epilog=EXAMPLES)
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--media",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder with the recordings, under whatever names.  [default: the release's own folder]",
)
@corpus_option
@json_option
@click.pass_context
def rebuild(ctx: click.Context, release: Path, media: Path | None, corpus: Path, as_json: bool) -> None:
    """Recreate the corpus that RELEASE describes, as `pdid export --format metadata` wrote it.

    Recordings are recognised by their bytes (SHA-256); those of web addresses are downloaded if they are not under
    --media. The same clips are cut out of them, with the recorded gain,
    and labels, texts, speakers and splits are as they were, with the same ids. What can't be recreated is listed.
    """
    from rich.console import Console
    from rich.progress import track

    from corpus_builder.export.release import read_release
    from corpus_builder.rebuild import rebuild as run

    read = read_release(release)
    console = Console(stderr=True)
    outcomes: list[Rebuilt] = []
    steps = run(read, release, corpus, media or release, lambda line: click.echo(f"note: {line}", err=True))
    bar = track(
        steps,
        description="rebuilding",
        total=len(read.sources),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    for outcome in bar:
        outcomes.append(outcome)
        if as_json:
            click.echo(json.dumps(_as_json(outcome), ensure_ascii=False))
        _tell(outcome)
    clips, lost = sum(o.clips for o in outcomes), sum(len(o.missing) for o in outcomes)
    differing, absent = sum(o.differing for o in outcomes), sum(not o.there and o.found is None for o in outcomes)
    click.echo(
        f"{len(outcomes) - absent} of {len(outcomes)} recordings and {clips} of {clips + lost} clips are in {corpus}"
        + (f"; {differing} clips are not sample for sample those of the release" if differing else ""),
        err=True,
    )
    ctx.exit(1 if lost or absent else 0)


def _tell(outcome: Rebuilt) -> None:
    """Name what is missing of a recording, with the reason."""
    for why, n in Counter(why for _, why in outcome.missing).items():
        click.echo(f"missing: {n} clips of {outcome.address!r} ({outcome.source_id}): {why}", err=True)


def _as_json(outcome: Rebuilt) -> dict[str, object]:
    return {
        "source_id": outcome.source_id,
        "address": outcome.address,
        "found": str(outcome.found) if outcome.found else None,
        "there_before": outcome.there,
        "clips": outcome.clips,
        "differing": outcome.differing,
        "missing": [{"segment_id": segment_id, "why": why} for segment_id, why in outcome.missing],
    }
