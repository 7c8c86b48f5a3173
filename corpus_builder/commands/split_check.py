"""What `pdid split` does with a split that is there: the proof of it, and one made by hand taken over."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from catalog.duplicates import count_without_fingerprint, duplicates
from catalog.errors import PdidError, UsageError
from catalog.records import Duplicate
from catalog.removals import removed_pieces
from catalog.splits import show_split
from catalog.store import Answer, Catalog, Clip, open_catalog
from corpus_builder.commands.sql import write_table
from corpus_builder.fingerprint import METHOD
from corpus_builder.leaks import Finding, find_leaks
from corpus_builder.split import catalog_state
from corpus_builder.split_file import read_split_file
from corpus_builder.taxonomy import Taxonomy, fold


def check_split(corpus: Path, taxonomy: Taxonomy, name: str | None, test_only: str | None, as_json: bool) -> int:
    """Run the proof on a written split; 1 where it fails."""
    with open_catalog(corpus) as catalog:
        members = catalog.split_members(name)  # says clearly what there is, where there is none
        info = next(info for info in reversed(catalog.splits()) if name is None or info.name == name)
        chosen = choose_test_only(catalog, taxonomy, test_only)
        if test_only is None:
            chosen = tuple(info.settings.get("test_only", chosen))
        findings = find_leaks(catalog, info.name, chosen)
        clips, pairs = catalog.clips(), duplicates(catalog)
        unheard = count_without_fingerprint(catalog, METHOD)
        taken = removed_pieces(catalog)
    kept = {clip.segment_id for clip in clips}
    down = sum(member.segment_id in taken for member in members)
    gone = sum(member.segment_id not in kept for member in members) - down
    if gone + down == len(members):
        raise PdidError(
            f"none of the {len(members)} clips of split {info.name} is kept any more: make a new one with `pdid split`"
        )
    if down:
        click.echo(
            f"note: split {info.name} is stale: {down} of its {len(members)} clips were taken down; make a new split, "
            "and train anew what was trained on it",
            err=True,
        )
    if gone:
        click.echo(
            f"note: {gone} of its {len(members)} clips are no longer kept since the sources were ingested anew; "
            "make a new split",
            err=True,
        )
    if not (gone or down) and info.settings.get("catalog") not in (None, catalog_state(clips, pairs)):
        click.echo("note: clips, labels or speakers have changed since it was made; the check is of today's", err=True)
    if unheard:
        click.echo(f"note: {unheard} clips have no fingerprint, so that what sound they share is not known", err=True)
    return _verdict(info.name, len(members), findings, as_json)


def take_split(
    corpus: Path,
    taxonomy: Taxonomy,
    name: str | None,
    path: Path,
    test_only: Sequence[str],
    check: bool,
    as_json: bool,
) -> int:
    """Check a split made by hand, after writing it unless `check`; 1 if it leaks."""
    with open_catalog(corpus, write=not check) as catalog:
        clips, pairs = read_clips(catalog, corpus)
        members = read_split_file(path, {clip.segment_id for clip in clips})
        if check:
            called = name or path.name
            show_split(catalog, called, members)
        else:
            made_with = {"from": path.name, "test_only": list(test_only)} | of_taxonomy(taxonomy)
            called = catalog.write_split(
                members, name=name, settings=made_with | {"catalog": catalog_state(clips, pairs)}
            )
        findings = find_leaks(catalog, called, test_only)
    if len(members) < len(clips):
        click.echo(f"note: {len(clips) - len(members)} of {len(clips)} clips are not in {path}", err=True)
    if not check:
        click.echo(f"split {called} is written", err=True)
    return _verdict(called, len(members), findings, as_json)


def _verdict(name: str, n_clips: int, findings: Sequence[Finding], as_json: bool) -> int:
    """Print the proofs with what they found; 1 if one of them found a leak."""
    for found in findings:
        if as_json:
            leaks = [dict(zip(found.columns, row, strict=True)) for row in found.leaks]
            line = {"split": name, "check": found.what, "ok": not leaks, "sql": found.sql, "leaks": leaks}
            click.echo(json.dumps(line, ensure_ascii=False))
            continue
        click.echo(f"-- {found.what}\n{found.sql};")
        click.echo(f"-- {f'{len(found.leaks)} LEAKS' if found.leaks else 'no row: holds'}")
        if found.leaks:
            write_table(Answer(found.columns, iter(found.leaks)))
        click.echo()
    failed = sum(bool(found.leaks) for found in findings)
    verdict = f"{failed} of the checks FAILED" if failed else "no leak"
    click.echo(f"split {name}, {n_clips} clips: {verdict}", err=True)
    return 1 if failed else 0


def choose_test_only(catalog: Catalog, taxonomy: Taxonomy, text: str | None) -> tuple[str, ...]:
    """The accents that go to test whole: those named, else the taxonomy's."""
    if text is None:
        return taxonomy.test_only
    rows = catalog.query("SELECT DISTINCT accent FROM segments WHERE accent IS NOT NULL").rows
    return read_accents(text, taxonomy, sorted(str(row[0]) for row in rows))


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


def read_clips(catalog: Catalog, corpus: Path) -> tuple[list[Clip], list[Duplicate]]:
    """The clips and their near-duplicates. Raises PdidError where there are no clips."""
    clips = catalog.clips()
    if not clips:
        raise PdidError(f"there are no kept clips in {corpus} to divide: `pdid status` says what became of the sources")
    return clips, duplicates(catalog)


def of_taxonomy(taxonomy: Taxonomy) -> dict[str, Any]:
    return {"taxonomy": taxonomy.name, "standard": taxonomy.standard}
