"""A corpus with all that an export can say: accents, licences, texts, speakers, a split."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from catalog.annotations import write_labels, write_link_rules, write_links, write_transcripts
from catalog.records import Label, LabelOrigin, LinkRule, Scope, SplitMember, Stretch, Transcript
from catalog.store import Clip, open_catalog

WHEN = datetime(2026, 1, 31, 12, 30, 0, 123456, tzinfo=UTC)
PERSIAN = "سلام، می‌روم «خانه» با ۲ نفر"
ENGLISH = 'She said:\t"no, | thanks"\nand left'


def furnish(corpus: Path) -> list[Clip]:
    """Say things of an ingested corpus of three recordings or more; returns its clips.

    The first recording has the licence CC BY 4.0 and a Persian text on every clip, the second CC0 and English
    texts, the others no licence, accent or text. The split puts each of them on a side of its own.
    """
    with open_catalog(corpus, write=True) as catalog:
        sources = sorted(catalog.sources(), key=lambda source: source.source_id)
        first, second = sources[0].source_id, sources[1].source_id
        catalog.update_labels(
            [
                replace(
                    sources[0], accent="Yazdi", accent_raw="یزدی", language="fa", licence="CC BY 4.0", title="گفت‌وگو"
                ),
                replace(sources[1], accent="Lori", accent_raw="Lori", language="en", licence="CC0", extra={"سن": "۴۵"}),
            ]
        )
        clips = catalog.clips()
        said = {first: (PERSIAN, "fa", "human"), second: (ENGLISH, "en", "imported")}
        texts = []
        for clip in clips:
            if clip.source_id in said:
                text, language, origin = said[clip.source_id]
                texts.append(Transcript(clip.source_id, clip.start, clip.end, text, origin, WHEN, language))
        write_transcripts(catalog, texts)
        one = next(clip for clip in clips if clip.source_id == second)
        label = Label(
            second, Scope.SEGMENT, one.start, one.end, "كردی", "Kurdish", LabelOrigin.ANNOTATOR, "سارا", WHEN, 0.75
        )
        write_labels(catalog, [label])
        stretches = [
            Stretch(clip.source_id, clip.start, clip.end)
            for clip in (next(c for c in clips if c.source_id == source_id) for source_id in (first, second))
        ]
        write_link_rules(catalog, [LinkRule(False, stretches[0], stretches[1], "سارا", WHEN)])
        local = {
            piece.speaker_id for source in sources for piece in catalog.segments(source.source_id) if piece.speaker_id
        }
        write_links(catalog, {name: name.replace("-S", "-P") for name in sorted(local)})
        sides = {first: "train", second: "test"}
        catalog.write_split(
            [SplitMember(clip.segment_id, sides.get(clip.source_id, "dev")) for clip in clips], name="one", seed=7
        )
        return catalog.clips()
