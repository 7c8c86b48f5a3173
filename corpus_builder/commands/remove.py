"""`pdid remove`: takedowns."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from corpus_builder.commands.options import corpus_option, json_option

if TYPE_CHECKING:
    from corpus_builder.takedown import Takedown, Target

EXAMPLES = """\b
Examples:
  pdid remove 3b8302cb45b9fc35 --reason "the speaker asked for it, 2026-03-01"
  pdid remove https://www.youtube.com/watch?v=dQw4w9WgXcQ --reason "the channel took it down" --corpus tv
  pdid remove ~/recordings/talk.wav 77aa --reason "no consent form" --dry-run

Run it again when it was cut off: it finishes. Exports are yours to withdraw: it says which they are.
"""


@click.command(epilog=EXAMPLES)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", required=True, help="Why; it stays in the catalog, with the day.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@corpus_option
@json_option
def remove(sources: tuple[str, ...], reason: str, dry_run: bool, corpus: Path, as_json: bool) -> None:
    """Take recordings out of the corpus for good, with all that was made of them.

    SOURCE is a source_id, a file, a web address, or the beginning of a source_id. Clips, downloaded media,
    transcripts, labels, voices and predictions go, and reports and caches that hold them. A tombstone keeps the
    recording from being ingested or fetched again, by its addresses, its bytes and its id on the site; one that was
    never here can be named too. Splits with its clips are stale from then on. Your own files stay where they lie.
    """
    from catalog.errors import UsageError
    from corpus_builder.takedown import take_down

    if not reason.strip():
        raise UsageError("--reason is empty: say why, for whoever asks later")
    done = take_down(corpus, sources, reason.strip(), datetime.now(UTC), dry_run)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(done, corpus, dry_run), ensure_ascii=False) + "\n")
    else:
        _print(done, corpus, dry_run)


def _as_json(done: Takedown, corpus: Path, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "sources": [
            {
                "source_id": target.source_id,
                "uri": target.uri,
                "title": target.title,
                "was": "ahead" if target.ahead else "gone" if target.before else "there",
            }
            for target in done.targets
        ],
        "addresses": list(done.gone.uris),
        "clips": len(done.gone.clips),
        "predictions": done.gone.predictions,
        "files": [str(path.relative_to(corpus)) for path in done.files],
        "left": list(done.left),
        "splits": list(done.gone.splits),
        "exports": [{"export_id": one.export_id, "format": one.format, "path": one.path} for one in done.gone.exports],
        "experiments": list(done.experiments),
    }


def _print(done: Takedown, corpus: Path, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for target in done.targets:
        click.echo(f"{target.source_id} {target.title or target.uri}: {_what(target, would)}")
    click.echo(f"{would}gone: {len(done.gone.clips)} clips, {done.gone.predictions} predictions")
    for path in done.files:
        click.echo(f"{would}deleted: {path}")
    for uri in done.left:
        click.echo(f"left where it lies, for it is yours: {uri}")
    for name in done.gone.splits:
        click.echo(f"split {name} {'would be' if dry_run else 'is'} stale: make a new one with `pdid split`")
    for export in done.gone.exports:
        click.echo(f"export {export.export_id} contains it: {export.format} in {export.path}")
    for name in done.experiments:
        click.echo(
            f"experiment {name} heard it: `pdid benchmark report {name}` writes the report without it, and the models "
            f"in {corpus / 'runs' / name} stay as they are"
        )


def _what(target: Target, would: str) -> str:
    if target.before:
        return f"{target.before.explained}; what was left of it is {would}gone"
    return f"{would}refused from now on; it is not in the catalog" if target.ahead else f"{would}removed"
