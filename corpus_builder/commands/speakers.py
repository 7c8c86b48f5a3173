"""`pdid speakers`: who is whom across recordings."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from catalog.errors import UsageError
from corpus_builder.commands.options import corpus_option, json_option

EXAMPLES = """\b
Examples:
  pdid speakers                                             the speakers, the longest first
  pdid speakers merge 3f0c1d2e4b5a6978-S1 9a8b7c6d5e4f3021-S2
  pdid speakers split 3f0c1d2e4b5a6978-S1 77aa01bc23de45f6-S1
  pdid speakers link                                        all voices anew
"""

LISTED = """
SELECT speaker_id, accent, n_sources AS sources, n_segments AS clips, round(60 * hours, 1) AS minutes,
    local_speaker_ids AS voices
FROM speakers
ORDER BY hours DESC, speaker_id
"""


@click.group(invoke_without_command=True, epilog=EXAMPLES)
@corpus_option
@json_option
@click.pass_context
def speakers(ctx: click.Context, corpus: Path, as_json: bool) -> None:
    """List the speakers over all recordings, and correct who is whom.

    `pdid ingest` links the voices it finds by their likeness and by the `speaker` labels of the sources file.
    What merge and split say stays true whatever is ingested, cut or linked anew.
    """
    if ctx.invoked_subcommand is None:
        _list(corpus, as_json)
    elif ctx.get_parameter_source("corpus") is click.core.ParameterSource.COMMANDLINE or as_json:
        raise UsageError(f"write options after the word: pdid speakers {ctx.invoked_subcommand} --corpus FOLDER")


def _list(corpus: Path, as_json: bool) -> None:
    from catalog.store import Answer, open_catalog
    from corpus_builder.commands.sql import write_table

    with open_catalog(corpus) as catalog:
        answer = catalog.query(LISTED)
        found = list(answer.rows)
    if as_json:
        for row in found:
            click.echo(json.dumps(dict(zip(answer.columns, row, strict=True)), ensure_ascii=False))
        return
    rows = [(*row[:-1], ", ".join(voice for voice in row[-1] if voice != row[0])) for row in found]
    write_table(Answer((*answer.columns[:-1], "also heard as"), iter(rows)))


@speakers.command(
    epilog="""\b
Examples:
  pdid speakers link --corpus tv
"""
)
@corpus_option
@json_option
def link(corpus: Path, as_json: bool) -> None:
    """Link all voices anew. `pdid ingest` does it by itself when voices or labels have changed."""
    from catalog.store import open_catalog
    from corpus_builder.ingest import corpus_lock
    from corpus_builder.speakers import link_speakers

    with open_catalog(corpus):
        pass  # a folder without a catalog is told before anything is made in it
    with corpus_lock(corpus), open_catalog(corpus, write=True) as catalog:
        _tell(link_speakers(catalog), as_json)


@speakers.command(
    epilog="""\b
Examples:
  pdid speakers merge 3f0c1d2e4b5a6978-S1 9a8b7c6d5e4f3021-S2
"""
)
@click.argument("speaker", nargs=-1, required=True)
@corpus_option
@json_option
def merge(speaker: tuple[str, ...], corpus: Path, as_json: bool) -> None:
    """Say that the SPEAKERs, two or more, are one person."""
    _say(corpus, True, speaker, as_json)


@speakers.command(
    epilog="""\b
Examples:
  pdid speakers split 3f0c1d2e4b5a6978-S1 77aa01bc23de45f6-S1
                              the second voice is not the person of the first
"""
)
@click.argument("speaker", nargs=-1, required=True)
@corpus_option
@json_option
def split(speaker: tuple[str, ...], corpus: Path, as_json: bool) -> None:
    """Say that the first SPEAKER is somebody else than the others: they leave that person.

    A SPEAKER is a voice in one recording, as `pdid speakers` and `local_speaker_id` show it.
    """
    _say(corpus, False, speaker, as_json)


def _say(corpus: Path, same: bool, named: Sequence[str], as_json: bool) -> None:
    """Write the rules and link anew."""
    from catalog.annotations import write_link_rules
    from catalog.records import LinkRule
    from catalog.speakers import local_speakers
    from catalog.store import open_catalog
    from corpus_builder.ingest import corpus_lock
    from corpus_builder.speakers import link_speakers, rules_of_merge, rules_of_split

    word = "merge" if same else "split"
    if len(set(named)) < 2:
        raise UsageError(f"`pdid speakers {word}` takes two different speakers or more: see `pdid speakers`")
    with open_catalog(corpus) as catalog:
        stretches = {speaker.local_id: speaker.stretch for speaker in local_speakers(catalog)}
    for name in named:
        if name not in stretches:
            raise UsageError(f"there is no speaker {name!r}: `pdid speakers` lists them")
        if stretches[name] is None:
            raise UsageError(f"speaker {name!r} has no stretch of speech of its own, so nothing can be said of it")
    with corpus_lock(corpus), open_catalog(corpus, write=True) as catalog:
        people = link_speakers(catalog)
        pairs = rules_of_merge(named) if same else rules_of_split(people, named[0], named[1:])
        author, now = _author(), datetime.now(UTC)
        rules = []
        for a, b in pairs:
            stretch_a, stretch_b = stretches.get(a), stretches.get(b)
            if stretch_a and stretch_b:
                rules.append(LinkRule(same, stretch_a, stretch_b, author, now))
        write_link_rules(catalog, rules)
        _tell(link_speakers(catalog), as_json)


def _author() -> str:
    """Who says so: the name on this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""


def _tell(linked: dict[str, str], as_json: bool) -> None:
    found: dict[str, Any] = {"voices": len(linked), "speakers": len(set(linked.values()))}
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        click.echo(f"{found['voices']} voices in all recordings, {found['speakers']} speakers")
