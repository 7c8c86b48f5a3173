"""`pdid split`: the clips divided into train, dev and test, and the proof that nothing leaks."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from catalog.errors import PdidError, UsageError
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.taxonomy import Taxonomy, fold

EXAMPLES = """\b
Examples:
  pdid split                                     written as split-1, then split-2, …
  pdid split --name paper --seed 7
  pdid split --test-only Shirazi,Tajiki --test-share 0.15 --dev-share 0.05
  pdid split --check                             prove that the newest one has no leak
  pdid split --check --name paper --json

A group is all clips that share a recording, a speaker, or a speaker's label in the sources file. It goes to one
side whole, so an accent that comes in few groups may miss its shares; the table says so.
"""

# What must give no row. Each stands on the public views, so that anyone can ask the same with `pdid sql`.
_ON_TWO_SIDES = """SELECT {column} AS {name}, string_agg(DISTINCT splits.split, ', ' ORDER BY splits.split) AS sides
FROM splits JOIN segments USING (segment_id) JOIN sources USING (source_id)
WHERE split_name = {split} AND {column} IS NOT NULL
GROUP BY ALL
HAVING count(DISTINCT splits.split) > 1
ORDER BY 1"""
_TEST_ONLY = """SELECT accent, splits.split, count(*) AS clips
FROM splits JOIN segments USING (segment_id)
WHERE split_name = {split} AND splits.split <> 'test' AND accent IN ({accents})
GROUP BY ALL
ORDER BY ALL"""


@click.command(epilog=EXAMPLES)
@click.option("--name", help="What the split is called.  [default: split-1, split-2, …; with --check the newest]")
@click.option(
    "--test-only",
    metavar="A,B",
    help="Accents that go to test whole, '' for none.  [default: the taxonomy's; with --check the split's own]",
)
@click.option("--test-share", type=float, default=0.2, show_default=True, help="Share of each accent's hours for test.")
@click.option("--dev-share", type=float, default=0.1, show_default=True, help="Share of each accent's hours for dev.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which of the equally good splits.")
@click.option("--check", is_flag=True, help="Write nothing: prove by SQL that a split has no leak; exit 1 if it has.")
@corpus_option
@json_option
@click.pass_context
def split(
    ctx: click.Context,
    name: str | None,
    test_only: str | None,
    test_share: float,
    dev_share: float,
    seed: int,
    check: bool,
    corpus: Path,
    as_json: bool,
) -> None:
    """Divide the kept clips into train, dev and test, no recording and no speaker on two sides.

    Each accent's hours come as near the shares as its groups of recordings and speakers allow; test-only accents
    go to test whole. The same catalog, settings and seed give the same split. A written split never changes; of
    several, `segments.split` shows the newest.
    """
    from corpus_builder.config import load_settings
    from corpus_builder.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    if check:
        ctx.exit(_check(corpus, taxonomy, name, test_only, as_json))
    _write(corpus, taxonomy, name, test_only, (test_share, dev_share, seed), as_json)


def _write(
    corpus: Path,
    taxonomy: Taxonomy,
    name: str | None,
    test_only: str | None,
    shares_and_seed: tuple[float, float, int],
    as_json: bool,
) -> None:
    from catalog.records import SplitMember
    from catalog.store import open_catalog
    from corpus_builder.split import SplitSettings, assign, make_groups, report

    with open_catalog(corpus) as catalog:
        clips = catalog.clips()
        labels = {source.source_id: source.speaker for source in catalog.sources()}
        accents = _accents(catalog.query("SELECT DISTINCT accent FROM sources WHERE accent IS NOT NULL").rows)
    chosen = taxonomy.test_only if test_only is None else read_accents(test_only, taxonomy, accents)
    settings = SplitSettings(*shares_and_seed, test_only=tuple(sorted(chosen)))
    if not clips:
        raise PdidError(f"there are no kept clips in {corpus} to divide: `pdid status` says what became of the sources")
    groups = make_groups(clips, labels)
    sides = assign(groups, settings)
    members = [SplitMember(clip, sides[group.name]) for group in groups for clip in group.segment_ids]
    with open_catalog(corpus, write=True) as catalog:
        written = catalog.write_split(members, name=name, seed=settings.seed, settings=settings.as_json())
    _print(written, report(groups, sides, settings), as_json)
    click.echo(
        f"split {written}: {len(members)} clips in {len(groups)} groups; "
        f"to prove it: pdid split --check --name {written} --corpus {shlex.quote(str(corpus))}",
        err=True,
    )


def _accents(rows: Any) -> list[str]:
    return sorted(str(row[0]) for row in rows)


def read_accents(text: str, taxonomy: Taxonomy, present: Sequence[str]) -> tuple[str, ...]:
    """The accents that a comma-separated list means, each in the taxonomy or among those present in the catalog.

    Raises UsageError for one that is neither, with the nearest known name.
    """
    known = {fold(accent): accent for accent in (*present, *(accent.name for accent in taxonomy.accents))}
    chosen = []
    for label in filter(None, map(str.strip, text.split(","))):
        name = known.get(fold(label)) or taxonomy.canonical(label)
        if fold(name) not in known:
            near = difflib.get_close_matches(fold(label), known, n=1)
            hint = f"did you mean {known[near[0]]!r}?" if near else f"there are {', '.join(sorted(known.values()))}"
            raise UsageError(f"--test-only: no recording has the accent {label!r}, nor has the taxonomy: {hint}")
        chosen.append(known[fold(name)])
    return tuple(dict.fromkeys(chosen))


def _print(name: str, accents: Sequence[Any], as_json: bool) -> None:
    from catalog.store import Answer
    from corpus_builder.commands.sql import write_table
    from corpus_builder.split import SIDES

    if as_json:
        for row in accents:
            hours = {side: {"wanted_h": round(row.wanted[side], 6), "got_h": round(row.got[side], 6)} for side in SIDES}
            line = {"split": name, "accent": row.accent, "hours": round(row.hours, 6), "groups": row.groups}
            click.echo(json.dumps(line | hours | {"note": row.note}, ensure_ascii=False))
        return
    header = ["accent", "hours", "groups", *(cell for side in SIDES for cell in (side, "wanted")), "note"]
    cells = [
        (
            row.accent,
            round(row.hours, 3),
            row.groups,
            *(round(hours, 3) for side in SIDES for hours in (row.got[side], row.wanted[side])),
            row.note,
        )
        for row in accents
    ]
    write_table(Answer(tuple(header), iter(cells)))


def _check(corpus: Path, taxonomy: Taxonomy, name: str | None, test_only: str | None, as_json: bool) -> int:
    """Run the proof on a split; 1 where it fails."""
    from catalog.store import open_catalog
    from corpus_builder.commands.sql import write_table

    with open_catalog(corpus) as catalog:
        members = catalog.split_members(name)  # says clearly what there is, where there is none
        info = next(info for info in reversed(catalog.splits()) if name is None or info.name == name)
        if test_only is None:
            chosen = tuple(info.settings.get("test_only", taxonomy.test_only))
        else:
            rows = catalog.query("SELECT DISTINCT accent FROM sources WHERE accent IS NOT NULL").rows
            chosen = read_accents(test_only, taxonomy, _accents(rows))
        leaks = 0
        for what, query in proofs(info.name, chosen):
            answer = catalog.query(query)
            found = list(answer.rows)
            leaks += bool(found)
            if as_json:
                objects = [dict(zip(answer.columns, row, strict=True)) for row in found]
                line = {"split": info.name, "check": what, "ok": not found, "sql": query, "leaks": objects}
                click.echo(json.dumps(line, ensure_ascii=False))
                continue
            click.echo(f"-- {what}\n{query};\n-- {'no row: holds' if not found else f'{len(found)} LEAKS'}")
            if found:
                write_table(type(answer)(answer.columns, iter(found)))
            click.echo()
        kept = {clip.segment_id for clip in catalog.clips()}
    gone = sum(member.segment_id not in kept for member in members)
    if gone == len(members):
        raise PdidError(
            f"none of the {gone} clips of split {info.name} is kept any more: make a new one with `pdid split`"
        )
    if gone:
        click.echo(
            f"note: {gone} of its {len(members)} clips are no longer kept since the sources were ingested anew; "
            "make a new split",
            err=True,
        )
    verdict = f"{leaks} of the checks FAILED" if leaks else "no leak"
    click.echo(f"split {info.name}, {len(members)} clips: {verdict}", err=True)
    return 1 if leaks else 0


def proofs(name: str, test_only: Sequence[str]) -> list[tuple[str, str]]:
    """What must hold for a split, and the SQL that gives a row for each violation."""
    one = _quoted(name)
    found = [
        (f"no {what} is on two sides", _ON_TWO_SIDES.format(column=column, name=alias, split=one))
        for what, column, alias in (
            ("recording", "segments.source_id", "source_id"),
            ("speaker", "segments.speaker_id", "speaker_id"),
            ("speaker's label", "lower(trim(sources.speaker))", "label"),
        )
    ]
    if test_only:
        accents = ", ".join(map(_quoted, test_only))
        found.append(("test-only accents are in test alone", _TEST_ONLY.format(split=one, accents=accents)))
    return found


def _quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
