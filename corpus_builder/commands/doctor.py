"""`pdid doctor`: what this machine has and lacks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from corpus_builder.commands.options import corpus_option, json_option

MARKS = {"ok": click.style("ok     ", fg="green"), "note": "note   ", "missing": click.style("MISSING", fg="red")}


@click.command(
    epilog="""\b
Examples:
  pdid doctor
  pdid doctor --corpus /data/persian
  pdid doctor --json

Exits with 1 where something is missing that pdid can't do without.
"""
)
@corpus_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, corpus: Path, as_json: bool) -> None:
    """Check this machine: versions, ffmpeg, models and where each would come from, disk, GPU, JavaScript runtime."""
    from corpus_builder.doctor import examine  # asks the packages; too slow for --help

    missing = 0
    for check in examine(corpus):
        missing += check.state == "missing"
        if as_json:
            click.echo(json.dumps(asdict(check), ensure_ascii=False))
        else:
            click.echo(f"{MARKS[check.state]} {check.name:<16} {check.found}")
            if check.mend:
                click.echo(f"{'':7} {'':<16} → {check.mend}")
    if missing:
        click.echo(f"pdid: {missing} essential thing{'s' * (missing > 1)} missing; the arrows say what to do", err=True)
        ctx.exit(1)
