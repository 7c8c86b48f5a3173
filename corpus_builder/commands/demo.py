"""`pdid demo`: the whole road, from media to SQL, with material that comes with pdid."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from corpus_builder.cli import pdid
from corpus_builder.commands.options import corpus_option

SPLIT = "demo"
NEXT = (
    ("where the rest went, by reason and accent", "sql @where_did_my_hours_go"),
    ("who speaks", "sql @speakers"),
    ("how the split divides the hours", "sql @hours_by_split"),
    (
        "the clearest clips of each accent",
        "sql 'SELECT accent, path, dnsmos_ovrl FROM segments WHERE kept ORDER BY dnsmos_ovrl DESC LIMIT 5'",
    ),
    ("all there is to ask by name", "sql"),
)


@click.command(
    epilog="""\b
Examples:
  pdid demo
  pdid demo --corpus /tmp/demo-corpus

A second run finds everything done and changes nothing.
"""
)
@corpus_option
@click.pass_context
def demo(ctx: click.Context, corpus: Path) -> None:
    """Build a small corpus from material that comes with pdid.

    That is the conversation inside the pyannote.audio package, and programmes with two speakers and music that are
    made here, in several English accents and in Persian. They are ingested and split; then come the hours by accent
    and the queries to try next. Needs no network.
    """
    from corpus_builder.demo import write_media  # reads packages; too slow for --help

    sources = write_media(corpus, lambda line: click.echo(line, err=True))
    where = [] if str(corpus) == "corpus" else ["--corpus", str(corpus)]
    failed = _run("ingest", "--sources", str(sources), *where)
    if not _is_split(corpus):
        failed |= _run("split", "--name", SPLIT, *where)
    failed |= _run("sql", "@hours_by_accent", *where)
    click.echo("\nTo try next:")
    tail = " " + shlex.join(where) if where else ""
    for what, command in NEXT:
        click.echo(f"  # {what}\n  pdid {command}{tail}")
    ctx.exit(failed)


def _run(*arguments: str) -> int:
    """Run a command as the user would, shown as one would type it; its exit status, where it didn't raise."""
    click.echo(f"\n$ pdid {shlex.join(arguments)}", err=True)
    code = pdid.main(list(arguments), prog_name="pdid", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _is_split(corpus: Path) -> bool:
    from catalog.store import open_catalog

    with open_catalog(corpus) as catalog:
        return any(split.name == SPLIT for split in catalog.splits())
