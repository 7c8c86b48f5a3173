"""`pdid split`: the clips divided into train, dev and test, and the proof that nothing leaks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from catalog.errors import PdidError, UsageError
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.taxonomy import Taxonomy

if TYPE_CHECKING:
    from corpus_builder.split import Group, SplitSettings

EXAMPLES = """\b
Examples:
  pdid split                                     written as split-1, then split-2, …
  pdid split --name paper --seed 7
  pdid split --test-only Shirazi,Tajiki --test-share 0.15 --dev-share 0.05
  pdid split --check                             prove that the newest one has no leak
  pdid split --check --name paper --json
  pdid split --from by-hand.csv --name ours      write a split made by hand, and check it
  pdid split --from by-hand.csv --check          check it, write nothing

A group is all clips that share a recording, a speaker, a speaker's label or a channel of the sources file, or a
stretch of sound. It goes to one side whole, so an accent that comes in few groups may miss its shares; the table
says so, and what holds the groups together.
"""


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
@click.option(
    "--from",
    "from_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the split from a CSV file with the columns segment_id and split; exit 1 if it leaks.",
)
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
    from_file: Path | None,
    check: bool,
    corpus: Path,
    as_json: bool,
) -> None:
    """Divide the kept clips into train, dev and test, no recording, speaker, channel or sound on two sides.

    Each accent's hours come as near the shares as its groups of recordings and speakers allow; test-only accents
    go to test whole. The same catalog, settings and seed give the same split. A written split never changes; of
    several, `segments.split` shows the newest.
    """
    from catalog.store import open_catalog
    from corpus_builder.commands.split_check import check_split, choose_test_only, take_split
    from corpus_builder.config import load_settings
    from corpus_builder.near_duplicates import update_duplicates
    from corpus_builder.split import SplitSettings
    from corpus_builder.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    if check and from_file is None:
        ctx.exit(check_split(corpus, taxonomy, name, test_only, as_json))
    for option in ("test_share", "dev_share", "seed"):
        if from_file and ctx.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{option.replace('_', '-')} says nothing of a split that is given with --from")
    with open_catalog(corpus) as catalog:
        chosen = choose_test_only(catalog, taxonomy, test_only)
    settings = SplitSettings(test_share, dev_share, seed, test_only=tuple(sorted(chosen)))
    if not check:
        update_duplicates(corpus, lambda line: click.echo(line, err=True))
    if from_file is not None:
        ctx.exit(take_split(corpus, taxonomy, name, from_file, settings.test_only, check, as_json))
    _write(corpus, taxonomy, name, settings, as_json)


def _write(corpus: Path, taxonomy: Taxonomy, name: str | None, settings: SplitSettings, as_json: bool) -> None:
    """Make a split, write it and show it."""
    from catalog.memory import no_search_for_cycles
    from catalog.records import SplitMember
    from catalog.store import open_catalog
    from corpus_builder.assignment import assign
    from corpus_builder.commands.split_check import of_taxonomy, read_clips
    from corpus_builder.split import catalog_state, make_groups, report

    with no_search_for_cycles():
        with open_catalog(corpus) as catalog:
            clips, pairs = read_clips(catalog, corpus)
        groups = make_groups(clips, pairs)
        _refuse_one_group(groups, settings)
        found = assign(groups, settings)
        members = [SplitMember(clip, found.sides[group.name]) for group in groups for clip in group.segment_ids]
        made_with = settings.as_json() | of_taxonomy(taxonomy)
        made_with |= {"groups": len(groups), "assignment": found.as_json(), "catalog": catalog_state(clips, pairs)}
        with open_catalog(corpus, write=True) as catalog:
            written = catalog.write_split(members, name=name, seed=settings.seed, settings=made_with)
    _print(written, report(groups, found.sides, settings), as_json)
    sides = set(found.sides.values())
    for side, share in (("dev", settings.dev_share), ("test", settings.test_share)):
        if share and side not in sides:
            click.echo(f"note: {side} has no clips: the {len(groups)} groups are too few or too large", err=True)
    click.echo(
        f"split {written}: {len(members)} clips in {len(groups)} groups; {found.misplaced:.3f} of an accent's hours "
        f"misplaced, summed over accents, at most {found.gap:.3f} more than must be ({found.solver}); "
        f"to prove it: pdid split --check --name {written} --corpus {shlex.quote(str(corpus))}",
        err=True,
    )


def _refuse_one_group(groups: Sequence[Group], settings: SplitSettings) -> None:
    """Raise PdidError where everything hangs together, so that there is nothing to divide."""
    if len(groups) > 1 or not set(settings.test_only).isdisjoint(groups[0].size):
        return
    what = "more recordings, of other speakers, are needed"
    kinds = {tie.kind for tie in groups[0].ties}
    if "channel" in kinds:
        what = (
            "if it names too much (a platform, a whole station), write what is one (the programme, the uploader) under "
            "`channel` in the sources file and run `pdid ingest --sources` again"
        )
    elif kinds & {"speaker", "speaker's label"}:
        what = "if these are several people, correct `speaker` in the sources file, or use `pdid speakers split`"
    raise PdidError(
        f"all {len(groups[0].segment_ids)} clips are one group, which can't be divided: {groups[0].why()}; "
        f"{what}. Nothing was written"
    )


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
