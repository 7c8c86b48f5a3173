"""`pdid ingest`: media in, clips and catalog rows out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.errors import PdidError, UsageError
from catalog.records import Status
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.config import Settings, load_settings
from corpus_builder.plan import make_plan
from corpus_builder.sources import find_sources
from corpus_builder.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from corpus_builder.ingest import Outcome, Task

EXAMPLES = """\b
Examples:
  pdid ingest interview.mp4 --accent Isfahani
  pdid ingest ~/recordings --corpus tv --separate never
  pdid ingest --sources sources.csv --corpus tv
  pdid ingest --sources sources.csv --corpus tv --dry-run

\b
A sources file is CSV with a header; only `source` must be there:
  source,accent,speaker,language,licence,title
  tape01.mp4,Isfahani,host-7,fa,CC BY 4.0,Morning news
"""


@click.command(epilog=EXAMPLES)
@click.argument("source", nargs=-1)
@click.option(
    "--sources",
    "sources_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV file that lists sources and what is known of them.",
)
@click.option("--accent", help="The accent of all sources that the sources file gives none.")
@corpus_option
@click.option(
    "--separate",
    type=click.Choice(["auto", "always", "never"]),
    help="Take music away: where there is speech over it, everywhere, or nowhere.  [default: auto, or pdid.toml's]",
)
@click.option(
    "--diarizer",
    type=click.Choice(["auto", "embedded", "pyannote"]),
    help="Who finds the speakers; auto takes pyannote where its weights are at hand.  [default: auto, or pdid.toml's]",
)
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Sources worked on at a time.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the work is done: on this machine; ray, on many, is not in this version yet.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
@click.pass_context
def ingest(
    ctx: click.Context,
    source: tuple[str, ...],
    sources_file: Path | None,
    accent: str | None,
    corpus: Path,
    separate: str | None,
    diarizer: str | None,
    jobs: int,
    executor: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn recordings into clips of one speaker each, and catalog rows.

    SOURCE is a media file or a folder, which is searched for media. Files stay where they are. What has been done
    before with the same settings is not done again; what failed is tried again.
    """
    from corpus_builder.ingest import ingest as run  # the catalog; too slow for --help
    from corpus_builder.ingest import survey
    from corpus_builder.progress import Display

    if executor == "ray":
        raise UsageError("--executor ray is not in this version yet: use --jobs N to work on several sources at a time")
    settings = _with(load_settings(corpus), separate, diarizer)
    requests = find_sources(source, load_taxonomy(settings.taxonomy, corpus), sources_file=sources_file, accent=accent)
    plan = make_plan(settings, lambda line: click.echo(line, err=True))
    if dry_run:
        _print_survey(survey(corpus, requests, plan), as_json)
        return
    outcomes: list[Outcome] = []
    with Display(requests) as display:
        for outcome in run(requests, corpus, plan, jobs, display.watch):
            outcomes.append(outcome)
            display.finished(outcome)
            if as_json:
                click.echo(json.dumps(_as_json(outcome), ensure_ascii=False))
    if any(outcome.fresh for outcome in outcomes):
        _compare_sounds(corpus)
    failed = [o for o in outcomes if o.status is Status.FAILED]
    _summarize(outcomes, failed, corpus)
    ctx.exit(1 if failed else 0)


def _compare_sounds(corpus: Path) -> None:
    """Look for near-duplicates of the new clips; what fails here is done at the next `pdid split`."""
    from corpus_builder.near_duplicates import update_duplicates

    try:
        update_duplicates(corpus, lambda line: click.echo(line, err=True))
    except PdidError as error:
        click.echo(f"near-duplicates: not looked for, since {error}; `pdid split` tries again", err=True)


def _with(settings: Settings, separate: str | None, diarizer: str | None) -> Settings:
    """The settings with what the command line says."""
    changes: dict[str, object] = settings.model_dump()
    if separate:
        changes["separate"] = settings.separate.model_dump() | {"mode": separate}
    if diarizer:
        changes["diarize"] = settings.diarize.model_dump() | {"engine": diarizer}
    return Settings.model_validate(changes)


def _print_survey(tasks: list[Task], as_json: bool) -> None:
    from corpus_builder.ingest import Need

    for task in tasks:
        if as_json:
            line = {
                "source": task.request.uri,
                "need": task.need,
                "from_stage": task.from_stage,
                "bytes": task.size_bytes,
            }
            click.echo(json.dumps(line, ensure_ascii=False))
        elif task.need is not Need.NOTHING:
            redo = f", from {task.from_stage} on" if task.from_stage else ""
            click.echo(f"{task.need}{redo}: {task.request.uri}")
    counts = Counter(task.need for task in tasks)
    total = sum(task.size_bytes for task in tasks if task.need is not Need.NOTHING)
    parts = ", ".join(f"{n} {need}" for need, n in counts.items())
    click.echo(f"would ingest {total / 1e9:.2f} GB ({parts}); nothing was done", err=True)


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "source": outcome.request.uri,
        "source_id": outcome.source_id,
        "status": outcome.status,
        "error": outcome.error,
        "fresh": outcome.fresh,
        "clips": outcome.clips,
        "kept_s": round(outcome.kept_s, 2),
        "duration_s": round(outcome.source_s, 2),
    }


def _summarize(outcomes: list[Outcome], failed: list[Outcome], corpus: Path) -> None:
    """Say what became of the run; every failure with its reason."""
    fresh = [o for o in outcomes if o.fresh and o.status is Status.DONE]
    old = len(outcomes) - len(fresh) - len(failed)
    raw, kept = sum(o.source_s for o in fresh), sum(o.kept_s for o in fresh)
    for outcome in failed:
        click.echo(f"failed: {printable(outcome.request.uri)}: {outcome.error}", err=True)
    if not fresh and not failed:
        click.echo(f"nothing to do: all {old} sources are up to date in {corpus}", err=True)
        return
    click.echo(
        f"{len(fresh)} sources done: {raw / 60:.1f} min in, {kept / 60:.1f} min kept in "
        f"{sum(o.clips for o in fresh)} clips; {old} up to date, {len(failed)} failed. "
        f"`pdid status --corpus {corpus}` shows the whole.",
        err=True,
    )


def printable(name: str) -> str:
    """A file's name on one line, with control characters shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
