"""`pdid demo`: the whole road, from media to SQL, with material that comes with pdid."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from catalog.errors import PdidError
from corpus_builder.cli import pdid
from corpus_builder.commands.options import corpus_option

SPLIT = "demo"
BENCHMARK_SPLIT = "benchmark"
UNSEEN = "Caribbean"
BENCHMARK = (
    *("--split", BENCHMARK_SPLIT, "--model", "mini", "--language", "en", "--standard", "American"),
    *("--arms", "zero-shot,finetune,saliency", "--seeds", "0", "--epochs", "4"),
)
NEXT = (
    ("where the rest went, and why", "sql @where_did_my_hours_go"),
    ("who speaks", "sql @speakers"),
    ("prove that nobody is heard both in training and in test", "split --check"),
    (
        "the clearest clip of each accent, to listen to",
        "sql 'SELECT accent, arg_max(path, dnsmos_ovrl) AS clearest FROM segments WHERE kept GROUP BY accent'",
    ),
    ("what else can be asked by name", "sql"),
    ("your own recordings", "ingest FOLDER --accent NAME --corpus my-corpus"),
)


@click.command(
    epilog="""\b
Examples:
  pdid demo
  pdid demo --corpus /tmp/demo-corpus
  pdid demo --benchmark                       and fine-tune a small Whisper on it, with and without masks

A second run finds everything done and changes nothing.
"""
)
@corpus_option
@click.option(
    "--benchmark", is_flag=True, help="Also a small benchmark of it: three arms, about ten minutes on two cores."
)
@click.pass_context
def demo(ctx: click.Context, corpus: Path, benchmark: bool) -> None:
    """Build a small corpus from material that comes with pdid.

    That is the conversation inside the pyannote.audio package, and programmes with two speakers and music that are
    made here, in several English accents and in Persian. They are ingested and split; then come the hours by accent
    and the queries to try next. Needs no network.
    """
    from corpus_builder.demo import write_media  # reads packages; too slow for --help

    click.echo(
        f"A small corpus in {corpus}, from material that comes with pdid; about a minute on two cores.", err=True
    )
    sources = write_media(corpus, lambda line: click.echo(line, err=True))
    where = [] if str(corpus) == "corpus" and "PDID_CORPUS" not in os.environ else ["--corpus", str(corpus)]
    failed = _run("ingest", "--sources", str(sources), *where)
    if not _is_split(corpus, SPLIT):
        failed |= _run("split", "--name", SPLIT, *where)
    failed |= _run("sql", "@hours_by_accent", *where)
    if benchmark:
        failed |= _benchmark(corpus, where)
    click.echo(f"\nThe clips are in {corpus / 'clips'}, all about them in {corpus / 'catalog.duckdb'}. To try next:")
    for what, command in NEXT:
        tail = "" if "--corpus" in command or not where else " " + shlex.join(where)
        click.echo(f"  # {what}\n  {_program()} {command}{tail}")
    ctx.exit(failed)


def _benchmark(corpus: Path, where: list[str]) -> int:
    """The programmes' texts, a split with an accent that training does not hear, and the benchmark's shortest form."""
    from corpus_builder.demo import write_transcripts

    texts = write_transcripts(corpus, lambda line: click.echo(line, err=True))
    if texts is None:
        raise PdidError("there is nothing to benchmark: the demo's programmes need `pip install espeakng-loader`")
    failed = _run("transcribe", "--import", str(texts), *where)
    if not _is_split(corpus, BENCHMARK_SPLIT):
        failed |= _run("split", "--name", BENCHMARK_SPLIT, "--test-only", UNSEEN, *where)
    click.echo("\nThese voices are made by a machine, and few: a rehearsal, which says nothing of people.", err=True)
    return failed | _run("benchmark", *BENCHMARK, *where)


def _run(*arguments: str) -> int:
    """Run a command as the user would, shown as one would type it; its exit status, where it didn't raise."""
    click.echo(f"\n$ {_program()} {shlex.join(arguments)}", err=True)
    sys.stderr.flush()
    code = pdid.main(list(arguments), prog_name="pdid", standalone_mode=False)
    sys.stdout.flush()  # the two streams in order, where both go to one place
    return code if isinstance(code, int) else 0


def _program() -> str:
    """How the user calls pdid here: by its path after `make demo`, which activates nothing."""
    started = Path(sys.argv[0])
    if shutil.which("pdid") or started.name != "pdid":
        return "pdid"
    return shlex.quote(os.path.relpath(started) if started.is_relative_to(Path.cwd()) else str(started))


def _is_split(corpus: Path, name: str) -> bool:
    from catalog.store import open_catalog

    with open_catalog(corpus) as catalog:
        return any(split.name == name for split in catalog.splits())
