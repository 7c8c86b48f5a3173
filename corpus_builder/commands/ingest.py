"""`pdid ingest`: media in, clips and catalog rows out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from catalog.errors import PdidError, UsageError
from catalog.records import Status
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.commands.web_options import web_of, web_options
from corpus_builder.config import Settings, load_settings
from corpus_builder.plan import make_plan
from corpus_builder.sources import find_sources
from corpus_builder.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from corpus_builder.ingest import MakePool, Outcome
    from corpus_builder.survey import Task

ALL = 1 << 20
"""Sources at a time: as many as there is room for."""

EXAMPLES = """\b
Examples:
  pdid ingest interview.mp4 --accent Isfahani
  pdid ingest ~/recordings --corpus tv --separate never
  pdid ingest --sources sources.csv --corpus tv
  pdid ingest --sources sources.csv --corpus tv --dry-run
  pdid ingest https://www.aparat.com/v/uid --accent Gilaki
  pdid ingest https://www.youtube.com/@channel --since 2026-01-01 --match لهجه --dry-run
  pdid ingest https://example.org/live.m3u8 --record 60
  pdid ingest --sources sources.csv --corpus /nfs/tv --executor ray --ray-address 10.0.0.1:6379

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
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    help="Sources worked on at a time.  [default: 1; with ray one for each processor of the cluster]",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the work is done: on this machine, or by Ray on a cluster of machines.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    help="A running Ray cluster; without one, Ray is started on this machine for the run.",
)
@web_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def ingest(
    source: tuple[str, ...],
    sources_file: Path | None,
    accent: str | None,
    corpus: Path,
    separate: str | None,
    diarizer: str | None,
    jobs: int | None,
    executor: str,
    ray_address: str | None,
    dry_run: bool,
    as_json: bool,
    **of_the_web: Any,
) -> None:
    """Turn recordings into clips of one speaker each, and catalog rows.

    SOURCE is a media file, a folder, which is searched for media, or a web address: a recording, a playlist, a
    channel, a live stream. Files stay where they are; what is downloaded lies in media/ in the corpus folder. What has
    been done before with the same settings is not done again; what failed is tried again.
    """
    from corpus_builder.cluster import actors
    from corpus_builder.ingest import ingest as run  # the catalog; too slow for --help
    from corpus_builder.progress import Display
    from corpus_builder.survey import survey
    from corpus_builder.workers import processes

    given = click.get_current_context().get_parameter_source("ray_address")
    if executor == "local" and given is ParameterSource.COMMANDLINE:
        raise UsageError("--ray-address goes with --executor ray: add it, or leave the address out")
    settings = _with(load_settings(corpus), separate, diarizer)
    requests = find_sources(source, load_taxonomy(settings.taxonomy, corpus), sources_file=sources_file, accent=accent)
    plan = make_plan(settings, lambda line: click.echo(line, err=True))
    web = web_of(settings.fetch, of_the_web)
    if dry_run:
        from corpus_builder.acquire.listing import listed

        _print_survey(listed(survey(corpus, requests, plan), corpus, plan, web.settings, web.choice), as_json)
        return
    pool: MakePool = processes
    if executor == "ray":
        pool = partial(actors, address=ray_address, fit=jobs is None)
    jobs = jobs or (1 if executor == "local" else ALL)
    outcomes: list[Outcome] = []
    with Display(requests) as display:
        for outcome in run(requests, corpus, plan, jobs, display.watch, web, pool):
            outcomes.append(outcome)
            display.finished(outcome)
            if as_json:
                click.echo(json.dumps(_as_json(outcome), ensure_ascii=False))
    if any(outcome.fresh for outcome in outcomes):
        _compare_sounds(corpus)
    failed = [o for o in outcomes if o.status is Status.FAILED and not o.refused]
    _summarize(outcomes, failed, corpus)
    click.get_current_context().exit(1 if failed else 0)


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


def _print_survey(tasks: Iterable[Task], as_json: bool) -> None:
    """A line for each source, as it is found, and the sum."""
    from corpus_builder.survey import Need

    counts: Counter[Need] = Counter()
    failed, to_process, to_fetch_s, unknown = 0, 0, 0.0, 0
    for task in tasks:
        entry, idle = task.entry, task.need in (Need.NOTHING, Need.REFUSED)
        counts[task.need] += not task.error or idle
        failed += bool(task.error) and not idle
        if as_json:
            click.echo(json.dumps(_survey_line(task), ensure_ascii=False))
        elif task.error:
            what = task.need if idle else "can't be fetched"
            click.echo(f"{what}: {printable(task.request.uri)}: {task.error}")
        elif task.need is not Need.NOTHING:
            redo = f", from {task.from_stage} on" if task.from_stage else ""
            about = f"  {_minutes(entry.duration_s)}  {printable(entry.title or '')}" if entry else ""
            click.echo(f"{task.need}{redo}: {printable(task.request.uri)}{about}")
        if not idle and not task.error:
            to_process += task.size_bytes
            if entry and not task.size_bytes:
                to_fetch_s += entry.duration_s or 0.0
                unknown += entry.duration_s is None
    parts = ", ".join(f"{n} {need}" for need, n in counts.items() if n)
    web = f", and fetch {to_fetch_s / 3600:.1f} hours" if to_fetch_s or unknown else ""
    web += f" and {unknown} of unknown length" if unknown else ""
    bad = f"; {failed} can't be fetched" if failed else ""
    click.echo(f"would ingest {to_process / 1e9:.2f} GB{web} ({parts}){bad}; nothing was done", err=True)


def _minutes(seconds: float | None) -> str:
    return "length unknown" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _survey_line(task: Task) -> dict[str, object]:
    entry = task.entry
    line: dict[str, object] = {
        "source": task.request.uri,
        "need": task.need,
        "from_stage": task.from_stage,
        "bytes": task.size_bytes,
    }
    if entry:
        uploaded = entry.uploaded_at.isoformat() if entry.uploaded_at else None
        line |= {
            "title": entry.title,
            "duration_s": entry.duration_s,
            "channel": entry.channel,
            "uploaded_at": uploaded,
        }
    return line | ({"error": task.error} if task.error else {})


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
    refused = [o for o in outcomes if o.refused]
    old = len(outcomes) - len(fresh) - len(failed) - len(refused)
    raw, kept = sum(o.source_s for o in fresh), sum(o.kept_s for o in fresh)
    for outcome in refused:
        click.echo(f"left out: {printable(outcome.request.uri)}: {outcome.error}", err=True)
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
