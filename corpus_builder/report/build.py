"""The report, section by section: what the catalog says first, then the sounds, then one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from catalog.errors import PdidError
from catalog.fetches import fetches
from catalog.page import bdi, el, join, page
from catalog.store import open_catalog
from corpus_builder.report import hours, lanes, listen, scores, words
from corpus_builder.report.sound import Budget, media_at_hand
from corpus_builder.taxonomy import Taxonomy

NAME = "report.html"
SOUND_BYTES = 9_000_000
"""What the sounds may add to the file, as they stand in it; the rest is some hundred kilobytes."""


@dataclass(frozen=True, slots=True)
class Report:
    """A written report."""

    path: Path
    n_bytes: int
    source_id: str | None  # the recording shown as lanes
    sounds_left_out: int  # over the budget


def write_report(corpus: Path, taxonomy: Taxonomy, source_id: str | None, tell: Callable[[str], None]) -> Report:
    """Write report.html in the corpus folder, in place of one that is there.

    The catalog is held only while it is asked, not while sounds are made. Raises UsageError where there is no catalog
    or no such recording, PdidError where the file can't be written.
    """
    tell("asking the catalog")
    with open_catalog(corpus) as catalog:
        media = media_at_hand(corpus, catalog.addresses().values(), fetches(catalog).values())
        first = [hours.overview(catalog), hours.by_accent(catalog), hours.funnel(catalog), scores.scores(catalog)]
        middle = [words.labels(catalog, {accent.name for accent in taxonomy.accents}), words.texts(catalog)]
        middle += [words.speakers(catalog), words.splits(catalog)]
        last = [scores.cost(catalog)]
        shown = lanes.ask_recording(catalog, source_id, media)
        kept, rejected = listen.ask_samples(catalog, media)
    budget = Budget(SOUND_BYTES)
    tell(f"sounds of {len(rejected.rows)} rejected pieces")
    heard_rejected = listen.rejected_samples(rejected, media, budget)
    tell(f"sounds of {len(kept.rows)} kept clips")
    heard_kept = listen.kept_samples(kept, corpus, budget)
    tell("one recording as lanes")
    drawn = lanes.recording(shown, corpus, media, budget)
    name = corpus.resolve().name
    built = datetime.now(UTC)
    left_out = f" {budget.left_out} sounds did not fit." if budget.left_out else ""
    here = files("corpus_builder") / "report"
    text = page(
        f"The corpus {name}",
        [*first, drawn, heard_kept, heard_rejected, *middle, *last],
        intro=join(
            "Everything on this page comes from the catalog, ",
            el("code", "catalog.duckdb"),
            ", and each figure shows its query. Run it with ",
            el("code", "pdid sql"),
            ".",
        ),
        foot=join(
            f"Written by pdid {version('pdid')} on {built:%Y-%m-%d at %H:%M} UTC about ",
            bdi(name),
            ". This file needs no network and asks for none; its sounds are excerpts, at most"
            f" {SOUND_BYTES // 10**6} MB.",
            left_out,
        ),
        css=[(here / "lanes.css").read_text("utf-8")],
        js=[(here / "lanes.js").read_text("utf-8")],
    )
    path = corpus / NAME
    data = text.encode("utf-8", "replace")
    _replace(path, data)
    chosen = str(shown.source.rows[0][0]) if shown else None
    return Report(path, len(data), chosen, budget.left_out)


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        raise PdidError(f"{path} can't be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
