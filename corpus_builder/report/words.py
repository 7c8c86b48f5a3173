"""Who says so, who speaks, what is said, and whether the split is sound."""

from __future__ import annotations

from collections.abc import Collection

from catalog.charts import Bar, bars
from catalog.named import named_queries
from catalog.page import Html, Number, Section, bdi, el, figure, fold, join, sql, table, tiles, verdict
from catalog.store import Catalog
from corpus_builder.leaks import Finding, find_leaks
from corpus_builder.report.ask import Table, ask, clock, length, number, time_unit

SAID = """
SELECT origin, scope, count(*) AS labels, count(DISTINCT source_id) AS recordings, count(DISTINCT accent) AS accents
FROM labels
GROUP BY ALL
ORDER BY labels DESC, origin, scope
"""
HOLDS = """
SELECT coalesce(accent_origin, 'nobody') AS origin, sum(duration_s) AS seconds, count(*) AS clips
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY seconds DESC
"""
UNKNOWN = """
SELECT accent, sum(duration_s) AS seconds, count(*) AS clips, count(DISTINCT source_id) AS recordings
FROM segments
WHERE kept AND accent IS NOT NULL AND NOT list_contains(?::VARCHAR[], accent)
GROUP BY ALL
ORDER BY seconds DESC, accent
"""
TEXTS = """
SELECT
    coalesce(accent, '(none)') AS accent,
    sum(duration_s) AS seconds,
    coalesce(sum(duration_s) FILTER (text_origin = 'human'), 0) AS human_s,
    coalesce(sum(duration_s) FILTER (text_origin = 'imported'), 0) AS imported_s,
    coalesce(sum(duration_s) FILTER (text_origin = 'subtitle'), 0) AS subtitle_s,
    coalesce(sum(duration_s) FILTER (starts_with(text_origin, 'model:')), 0) AS model_s,
    coalesce(sum(duration_s) FILTER (text_origin IS NULL), 0) AS none_s
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY seconds DESC, accent
"""
FLAGS = """
SELECT flag, count(*) AS clips, sum(duration_s) AS seconds
FROM (SELECT unnest(text_flags) AS flag, duration_s FROM segments WHERE kept)
GROUP BY flag
ORDER BY clips DESC, flag
"""
SPEAKERS = """
SELECT
    count(*) AS speakers,
    count(*) FILTER (n_sources > 1) AS across,
    coalesce(sum(hours) FILTER (n_sources > 1), 0) * 3600 AS across_s,
    coalesce(median(hours), 0) * 3600 AS median_s
FROM speakers
WHERE n_segments > 0
"""
ACROSS = """
SELECT speaker_id, accent, n_sources, n_segments, hours * 60 AS minutes
FROM speakers
WHERE n_segments > 0
ORDER BY n_sources DESC, hours DESC, speaker_id
LIMIT 12
"""
SPLIT = """
SELECT splits.split, count(*) AS clips, sum(duration_s) AS seconds, count(DISTINCT speaker_id) AS speakers,
    count(DISTINCT source_id) AS recordings
FROM splits JOIN segments USING (segment_id)
WHERE split_name = ?
GROUP BY ALL
ORDER BY splits.split DESC
"""
SHOWN = 20
"""Rows of a list that the page shows; the query has them all."""
ORIGINS = (
    ("human", "by people", "good"),
    ("imported", "imported", "c0"),
    ("subtitle", "subtitles", "c3"),
    ("model", "by a model", "c1"),
    ("none", "no text", "c6"),
)


def labels(catalog: Catalog, known: Collection[str]) -> Section:
    """Who says which accent, where the sayings differ, and what the taxonomy doesn't know."""
    said, holds, conflicts = (
        ask(catalog, SAID),
        ask(catalog, HOLDS),
        ask(catalog, named_queries()["label_conflicts"].sql),
    )
    unknown = ask(catalog, UNKNOWN, [sorted(known)])
    size, unit = time_unit(max((row[1] for row in holds.rows), default=0.0))
    title = f"Kept {unit} by who says the accent"
    who = figure(
        title,
        bars(title, [Bar(row[0], [row[1] / size], f"{row[2]:,} clips") for row in holds.rows], [("kept", "c0")])
        if holds.rows
        else el("p", "Nothing is kept yet."),
        folds=[
            fold("All labels", table("By origin and scope", said.columns, said.rows)),
            said.sql("labels"),
            holds.sql("chart"),
        ],
    )
    differ = figure(
        "Labels that differ",
        _clashes(conflicts) if conflicts.rows else verdict(True, "Of no piece, different things are said."),
        folds=[conflicts.sql()],
    )
    strange = [(bdi(row[0]), Number(length(row[1])), row[2], row[3]) for row in unknown.rows[:SHOWN]]
    outside = figure(
        "Outside the taxonomy",
        verdict(True, "Every label is one the taxonomy knows.") if not strange else None,
        table(_shown("Kept as written", unknown), ("label", "kept", "clips", "recordings"), strange)
        if strange
        else None,
        folds=[unknown.sql()],
    )
    intro = el("p", "Every label is somebody's word. The most specific holds, and people's come before a classifier's.")
    return Section("labels", "Accent labels", join(intro, who, differ, outside))


def _clashes(conflicts: Table) -> Html:
    """What is said of the same pieces, pieces of one recording together."""
    together: dict[tuple[str, str | None, tuple[str, ...]], list[float]] = {}
    for row in conflicts.objects():
        together.setdefault((row["source_id"], row["accent"], tuple(row["labels"])), []).append(row["start_s"])
    lines = [
        (source, len(starts), clock(min(starts)), bdi(accent), [el("div", bdi(label)) for label in said])
        for (source, accent, said), starts in list(together.items())[:SHOWN]
    ]
    counted = f"Of {len(conflicts.rows):,} pieces, different things are said."
    caption = "By recording" if len(together) <= SHOWN else f"By recording: the first {SHOWN} of {len(together)}"
    columns = ("recording", "pieces", "first at", "what holds", "what is said")
    return join(verdict(False, counted), table(caption, columns, lines))


def texts(catalog: Catalog) -> Section:
    """How much of what is kept has a text, where it comes from, and what speaks against it."""
    asked, flags = ask(catalog, TEXTS), ask(catalog, FLAGS)
    rows = asked.objects()
    size, unit = time_unit(max((row["seconds"] for row in rows), default=0.0))
    parts = [part for part in ORIGINS if any(row[f"{part[0]}_s"] for row in rows)]
    title = f"Kept {unit} by the origin of the text"
    drawn = [Bar(row["accent"], [row[f"{key}_s"] / size for key, _, _ in parts]) for row in rows]
    cells = [(bdi(bar.name), *(number(value) for value in bar.values)) for bar in drawn]
    coverage = figure(
        title,
        bars(title, drawn, [(what, colour) for _, what, colour in parts]) if rows else el("p", "Nothing is kept yet."),
        folds=[fold("Table", table(title, ("accent", *(what for _, what, _ in parts)), cells)), asked.sql()],
    )
    flagged = figure(
        "Flagged texts",
        table("Clips by flag", ("flag", "clips", "length"), [(bdi(f), n, Number(length(s))) for f, n, s in flags.rows])
        if flags.rows
        else verdict(True, "No text of a kept clip is flagged."),
        folds=[flags.sql()],
    )
    return Section("texts", "Texts", join(coverage, flagged))


def speakers(catalog: Catalog) -> Section:
    """Speakers, and those heard in more than one recording."""
    counts, across = ask(catalog, SPEAKERS), ask(catalog, ACROSS)
    found = counts.objects()[0]
    numbers = [
        ("speakers with kept clips", f"{found['speakers']:,}"),
        ("in more than one recording", f"{found['across']:,}"),
        ("kept of those", length(found["across_s"])),
        ("median speaker", length(found["median_s"])),
    ]
    rows = [
        (bdi(s), bdi(accent), sources, clips, number(minutes)) for s, accent, sources, clips, minutes in across.rows
    ]
    columns = ("speaker", "accent", "recordings", "clips", "minutes")
    listed = figure(
        "Heard in the most recordings",
        table("The first dozen", columns, rows) if rows else el("p", "Nobody yet."),
        folds=[across.sql("the table"), counts.sql("the numbers above")],
    )
    return Section("speakers", "Speakers across recordings", join(tiles(numbers), listed))


def splits(catalog: Catalog) -> Section:
    """The newest split and the proof that nothing leaks."""
    written = catalog.splits()
    if not written:
        return Section("splits", "Splits", el("p", "There is no split yet: ", el("code", "pdid split"), " makes one."))
    newest = written[-1]
    asked = ask(catalog, SPLIT, [newest.name])
    findings = find_leaks(catalog, newest.name, list(newest.settings.get("test_only", ())))
    columns = ("side", "clips", "length", "speakers", "recordings")
    cells = [
        (r["split"], r["clips"], Number(length(r["seconds"])), r["speakers"], r["recordings"]) for r in asked.objects()
    ]
    drawn = "made by hand" if newest.seed is None else f"drawn with seed {newest.seed}"
    caption = f"{newest.name}, {drawn} on {newest.created_at:%Y-%m-%d}; {len(written)} in all"
    return Section(
        "splits",
        "Splits",
        join(
            figure(f"The newest split: {newest.name}", table(caption, columns, cells), folds=[asked.sql()]),
            figure(
                "Does it leak?",
                [_proof(finding) for finding in findings],
                note="The same proof as pdid split --check: each query must give no row.",
                folds=[sql(finding.sql, what=finding.what) for finding in findings],
            ),
        ),
    )


def _proof(finding: Finding) -> Html:
    n = len(finding.leaks)
    said = verdict(not n, f"{finding.what[0].upper()}{finding.what[1:]}" + (f": not so, {n:,} times" if n else ""))
    rows = [[cell if isinstance(cell, (int, float)) else bdi(str(cell)) for cell in row] for row in finding.leaks]
    return join(said, table(f"The first {min(n, SHOWN)} of {n}", finding.columns, rows[:SHOWN]) if n else None)


def _shown(caption: str, asked: Table) -> str:
    return caption if len(asked.rows) <= SHOWN else f"{caption}: the first {SHOWN} of {len(asked.rows)}"
