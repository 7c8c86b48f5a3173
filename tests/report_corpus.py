"""A corpus whose report has everything: hostile and Persian names, texts, labels that differ, a leak, a failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from catalog.annotations import write_labels, write_transcripts
from catalog.records import Label, LabelOrigin, Scope, Source, SplitMember, Status, Transcript
from catalog.store import open_catalog
from corpus_builder.report import build
from corpus_builder.taxonomy import load_taxonomy
from tests.catalog_rows import WHEN, make_result

HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'"&amp; </style></title>"""
PERSIAN = "گفت‌وگو با مهمان، بخش ۱ (radio)"
TEXT = "سلام! این یک آزمایش است."


def write(corpus: Path, source_id: str | None = None) -> build.Report:
    return build.write_report(corpus, load_taxonomy("persian"), source_id, lambda line: None)


def tell_everything(corpus: Path) -> None:
    """Say all that of an ingested corpus, in its catalog, and write its report."""
    with open_catalog(corpus, write=True) as catalog:
        sources = catalog.sources()
        names = (("Yazdi", HOSTILE), ("Kurdish", PERSIAN), ("Yazdi", 'a "quoted" & <b>bold</b> title'))
        changed = [
            replace(source, accent=accent, accent_raw=accent, title=title)
            for source, (accent, title) in zip(sources, names, strict=True)
        ]
        catalog.update_labels(changed)
        clips = catalog.clips()
        write_transcripts(
            catalog,
            [
                Transcript(c.source_id, c.start, c.end, TEXT if i % 2 else HOSTILE, "imported", WHEN, "fa")
                for i, c in enumerate(clips)
            ],
        )
        annotator = LabelOrigin.ANNOTATOR
        write_labels(
            catalog,
            [Label(changed[0].source_id, Scope.SOURCE, None, None, "x", "Martian", annotator, HOSTILE, WHEN)],
        )
        failed = Source("f" * 16, f"/no/{HOSTILE}.wav", status=Status.FAILED, error=f"not media: {HOSTILE}")
        catalog.write_source(make_result(source=failed))
        # by hand, and wrong: one recording on two sides
        sides = ["train" if i % 2 else "test" for i in range(len(clips))]
        catalog.write_split(
            [SplitMember(clip.segment_id, side) for clip, side in zip(clips, sides, strict=True)], name="bad"
        )
    write(corpus)
