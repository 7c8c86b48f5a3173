"""`pdid report`: the corpus on one page, to look at and to listen to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from corpus_builder.commands.options import corpus_option, json_option

EXAMPLES = """\b
Examples:
  pdid report                                    writes corpus/report.html
  pdid report --corpus tv --source 3b8302cb45b9fc35
  pdid report --json
"""


@click.command(epilog=EXAMPLES)
@click.option("--source", "source_id", metavar="ID", help="The recording to draw as lanes.  [default: the liveliest]")
@corpus_option
@json_option
def report(source_id: str | None, corpus: Path, as_json: bool) -> None:
    """Write report.html in the corpus folder: one file that works offline, to look at and to listen to.

    Hours by accent and split, where the hours went and whether a filter throws out one accent more, scores, one
    recording as lanes, samples of what is kept and of what is rejected, labels, texts, speakers, splits, cost. Each
    figure shows its SQL. Recordings that are no longer where they were are not heard; nothing else changes.
    """
    from corpus_builder.config import load_settings
    from corpus_builder.report.build import write_report
    from corpus_builder.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    done = write_report(corpus, taxonomy, source_id, lambda line: click.echo(f"report: {line}", err=True))
    if done.sounds_left_out:
        click.echo(f"report: {done.sounds_left_out} sounds left out, over the file's budget", err=True)
    if as_json:
        found = {
            "report": str(done.path),
            "bytes": done.n_bytes,
            "source_id": done.source_id,
            "sounds_left_out": done.sounds_left_out,
        }
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        click.echo(f"{done.path} ({done.n_bytes / 1e6:.1f} MB): open it in a browser")
