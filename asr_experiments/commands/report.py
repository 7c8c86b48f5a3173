"""`pdid benchmark report`: an experiment's report, written again."""

from __future__ import annotations

from pathlib import Path

import click

from asr_experiments.commands.options import corpus_option
from catalog.errors import UsageError

EXAMPLES = """\b
Examples:
  pdid benchmark report whisper-tiny-1a2b3c4d
  pdid benchmark report whisper-tiny-1a2b3c4d --corpus digits/corpus
"""


@click.command(epilog=EXAMPLES, short_help="Write the report of an experiment again.")
@click.argument("experiment_id", metavar="ID")
@corpus_option
def report(experiment_id: str, corpus: Path) -> None:
    """Write the report of experiment ID again, from what the catalog holds now: runs/ID/report.html and its tables.

    `pdid benchmark` writes it when its cells are done; while they run, or after an interruption, this shows how far
    they are.
    """
    from asr_experiments.experiment import SETTINGS_FILE
    from asr_experiments.report.write import write_report

    known = sorted(path.parent.name for path in (corpus / "runs").glob(f"*/{SETTINGS_FILE}"))
    if experiment_id not in known:
        there = f"there is {', '.join(known)}" if known else "there is none: `pdid benchmark` makes one"
        raise UsageError(f"there is no experiment {experiment_id!r} in {corpus}; {there}")
    click.echo(write_report(corpus, experiment_id))
