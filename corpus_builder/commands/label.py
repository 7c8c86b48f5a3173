"""`pdid label`: accent labels out to Label Studio, and in from it or from a CSV file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from catalog.errors import PdidError, UsageError
from corpus_builder.commands.options import corpus_option, json_option
from corpus_builder.config import load_settings
from corpus_builder.taxonomy import Taxonomy, load_taxonomy

if TYPE_CHECKING:
    from catalog.labels import ClipToLabel
    from catalog.records import Label, Transcript
    from corpus_builder.label_studio import Answer
    from corpus_builder.tables import Row

EXAMPLES = """\b
Examples:
  pdid label export tasks --unlabelled --sample 200
  pdid label import project-7.json
  pdid label import speakers.csv
"""


@click.group(epilog=EXAMPLES)
def label() -> None:
    """Have people judge accents and texts, and take in what they, a classifier or a speaker list say.

    Every label is kept with who said it and when; docs/labels.md says which one holds.
    """


@label.command(
    epilog="""\b
Examples:
  pdid label export tasks
  pdid label export tasks --accent Lori --sample 100
  pdid label export tasks --unlabelled --audio-prefix https://corpus.example.org/
"""
)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--accent", help="Clips of this accent only.")
@click.option("--unlabelled", is_flag=True, help="Clips without an accent only.")
@click.option("--sample", type=click.IntRange(1), help="So many clips, the same ones on every call.")
@click.option(
    "--audio-prefix",
    default="/data/local-files/?d=",
    show_default=True,
    help="What stands before a clip's path in its task: Label Studio's local files, a web server, or nothing.",
)
@corpus_option
@json_option
def export(
    out: Path, accent: str | None, unlabelled: bool, sample: int | None, audio_prefix: str, corpus: Path, as_json: bool
) -> None:
    """Write clips as Label Studio tasks into the folder OUT: tasks.json and config.xml.

    Make a project with the configuration in config.xml and import tasks.json. The clips stay in the corpus: start
    Label Studio with LOCAL_FILES_SERVING_ENABLED=true and LOCAL_FILES_DOCUMENT_ROOT set to the corpus folder.
    """
    from catalog.labels import accents_in_use, clips_to_label
    from catalog.store import open_catalog
    from corpus_builder.label_studio import labelling_config, make_task

    if accent is not None and unlabelled:
        raise UsageError("--accent and --unlabelled have no clip in common: leave one out")
    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    wanted = taxonomy.canonical(accent) if accent is not None else None
    with open_catalog(corpus) as catalog:
        clips = clips_to_label(catalog)
        accents = dict.fromkeys([*(known.name for known in taxonomy.accents), *accents_in_use(catalog)])
    clips = [c for c in clips if (wanted is None or c.accent == wanted) and not (unlabelled and c.accent)]
    if sample is not None:
        clips = _sample(clips, sample)
    if not clips:
        raise UsageError("no clip is like that: `pdid sql @accent_labels` shows the accents there are")
    tasks = json.dumps([make_task(clip, audio_prefix) for clip in clips], ensure_ascii=False, indent=1)
    _write_folder(out, {"tasks.json": tasks + "\n", "config.xml": labelling_config(list(accents))})
    if as_json:
        click.echo(json.dumps({"tasks": len(clips), "out": str(out)}, ensure_ascii=False))
    else:
        click.echo(f"{len(clips)} tasks in {out / 'tasks.json'}, the labelling interface in {out / 'config.xml'}")


def _sample(clips: list[ClipToLabel], n: int) -> list[ClipToLabel]:
    """So many clips, by chance but the same ones each time: those whose ids have the smallest hashes."""
    chosen = sorted(clips, key=lambda clip: hashlib.sha256(clip.segment_id.encode()).digest())[:n]
    return sorted(chosen, key=lambda clip: (clip.source_id, clip.start))


def _write_folder(out: Path, files: dict[str, str]) -> None:
    """Make a folder with these files, whole or not at all. Raises UsageError if something is there already."""
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{str(out)!r} is there already and not an empty folder: name another one")
    beside = out.with_name(f"{out.name}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, text in files.items():
            (beside / name).write_text(text, "utf-8")
        os.replace(beside, out)
    except OSError as error:
        raise PdidError(f"{str(out)!r} can't be written: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@label.command(
    "import",
    epilog="""\b
Examples:
  pdid label import project-7.json        Label Studio's export, JSON or JSON_MIN
  pdid label import labels.csv

\b
A CSV file has a column accent, and what the label is about: segment_id, or source
(with start_s and end_s, or all of it), or speaker; author, origin, confidence if known:
  speaker,accent,author
  host-7,Yazdi,Yazd TV
""",
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@corpus_option
@json_option
def import_(file: Path, corpus: Path, as_json: bool) -> None:
    """Take in accent labels, and corrected texts, from Label Studio or a CSV file.

    All of FILE is taken in or, where something in it can't be meant, nothing. What is known already is not added
    twice.
    """
    from catalog.annotations import write_judgements
    from catalog.labels import unsaid_labels
    from catalog.store import open_catalog
    from catalog.texts import unsaid

    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    labels, transcripts, skipped, gone = _read(file, corpus, taxonomy)
    with open_catalog(corpus, write=True) as catalog:
        new_labels, new_texts = unsaid_labels(catalog, labels), unsaid(catalog, transcripts)
        if new_labels or new_texts:
            write_judgements(catalog, new_labels, new_texts)
    counts = {
        "labels": len(new_labels),
        "transcripts": len(new_texts),
        "known": len(labels) + len(transcripts) - len(new_labels) - len(new_texts),
        "skipped": skipped,
    }
    unknown = sorted({x.accent for x in new_labels if not taxonomy.known(x.accent)})
    if unknown:
        click.echo(f"accents that the taxonomy doesn't know: {', '.join(unknown)}", err=True)
    if gone:
        click.echo(
            f"{gone} tasks are about pieces that were cut anew since: what they say holds for their time", err=True
        )
    if as_json:
        sys.stdout.write(json.dumps(counts) + "\n")
    else:
        by_accent = ", ".join(f"{name} {n}" for name, n in sorted(Counter(x.accent for x in new_labels).items()))
        click.echo(f"{counts['labels']} labels{f' ({by_accent})' if by_accent else ''}, {len(new_texts)} transcripts")
        click.echo(f"{counts['known']} were known already, {skipped} tasks had no answer")


def _read(file: Path, corpus: Path, taxonomy: Taxonomy) -> tuple[list[Label], list[Transcript], int, int]:
    """The labels and transcripts of a file, the tasks without an answer, and those about pieces that are no more."""
    from catalog.annotations import links
    from catalog.speakers import local_speakers
    from catalog.store import open_catalog
    from catalog.texts import stretches
    from corpus_builder.label_files import People, from_answers, from_table, read_table
    from corpus_builder.label_studio import read_answers
    from corpus_builder.transcript_files import Recordings

    answers: list[Answer] = []
    rows: list[Row] = []
    skipped = 0
    if file.suffix.lower() == ".json":
        answers, skipped = read_answers(file)
        named = sorted({answer.segment_id for answer in answers})
    elif file.suffix.lower() in (".csv", ".tsv"):
        rows = read_table(file)
        named = sorted({str(row.cells["segment_id"]) for row in rows if "segment_id" in row.cells})
    else:
        raise UsageError(f"{file}: expected Label Studio's export ending in .json, or a table ending in .csv")
    with open_catalog(corpus) as catalog:
        pieces = stretches(catalog, named)
        recordings = Recordings(
            {source.source_id: source for source in catalog.sources()},
            {uri: address.source_id for uri, address in catalog.addresses().items()},
            pieces,
        )
        people = People({}, {})
        if any("speaker" in row.cells for row in rows):
            people = People({voice.local_id: voice for voice in local_speakers(catalog)}, links(catalog))
    if rows:
        return from_table(file, rows, taxonomy, recordings, people, datetime.now(UTC)), [], 0, 0
    labels, transcripts = from_answers(file, answers, taxonomy, recordings)
    return labels, transcripts, skipped, sum(answer.segment_id not in pieces for answer in answers)
