"""Who says so, who speaks, what is said, and whether the split is sound."""

from __future__ import annotations

from collections.abc import Collection

from catalog.charts import Bar, bars
from catalog.named import named_queries
from catalog.page import Html, Section, bdi, el, figure, fold, join, table, tiles, verdict
from catalog.store import Catalog
from corpus_builder.report.ask import Table, ask, length, number, time_unit

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
CONFLICTS = """
SELECT
    coalesce(title, source_id) AS recording,
    scope,
    start_s,
    list_sort(list(DISTINCT concat(labels.accent, ' (', origin, ')'))).array_to_string(', ') AS said
FROM labels JOIN sources USING (source_id)
GROUP BY source_id, title, scope, start_s, end_s
HAVING count(DISTINCT labels.accent) > 1
ORDER BY recording, start_s
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
    coalesce(max(hours), 0) * 3600 AS longest_s,
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
SELECT split_name, seed, splits.split AS side, count(*) AS clips, sum(duration_s) AS seconds,
    count(DISTINCT speaker_id) AS speakers, count(DISTINCT source_id) AS recordings
FROM splits JOIN segments USING (segment_id)
WHERE created_at = (SELECT max(created_at) FROM splits)
GROUP BY ALL
ORDER BY list_position(['train', 'dev', 'test'], side)
"""
TWINS = """
SELECT a.split_name, segment_a, a.split AS side_a, segment_b, b.split AS side_b, overlap_s
FROM duplicates
JOIN splits AS a ON a.segment_id = segment_a
JOIN splits AS b ON b.segment_id = segment_b AND b.split_name = a.split_name
WHERE a.split <> b.split
ORDER BY ALL
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
    said, holds, conflicts = ask(catalog, SAID), ask(catalog, HOLDS), ask(catalog, CONFLICTS)
    unknown = ask(catalog, UNKNOWN, [sorted(known)])
    size, unit = time_unit(max((row[1] for row in holds.rows), default=0.0))
    title = f"Kept {unit} by who says the accent"
    who = figure(
        title,
        bars(title, [Bar(row[0], [row[1] / size], f"{row[2]:,} clips") for row in holds.rows], [("kept", "c0")])
        if holds.rows
        else el("p", "Nothing is kept yet."),
        folds=[fold("Labels", table("All labels", said.columns, said.rows), said.sql()), holds.sql()],
    )
    columns = ("recording", "of the", "from s", "said")
    clash = [(bdi(name), scope, number(start), bdi(text)) for name, scope, start, text in conflicts.rows[:SHOWN]]
    differ = figure(
        "Labels that differ",
        verdict(not clash, "No two labels of one thing differ." if not clash else f"{len(conflicts.rows)} differ"),
        table(_shown("What is said of one thing", conflicts), columns, clash) if clash else None,
        folds=[conflicts.sql()],
    )  # fmt: skip
    strange = [(bdi(row[0]), length(row[1]), row[2], row[3]) for row in unknown.rows[:SHOWN]]
    outside = figure(
        "Outside the taxonomy",
        verdict(True, "Every label is one the taxonomy knows.") if not strange else None,
        table(_shown("Kept as written", unknown), ("label", "kept", "clips", "recordings"), strange)
        if strange
        else None,
        folds=[unknown.sql()],
    )
    intro = el("p", "Every label is somebody's word. The most specific holds, and people's come before a classifier's.")
    return Section("labels", "Accent labels", join(intro, who, el("div", differ, outside, class_="pair")))


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
        table("Clips by flag", ("flag", "clips", "length"), [(bdi(f), n, length(s)) for f, n, s in flags.rows])
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
        ("longest speaker", length(found["longest_s"])),
    ]
    rows = [
        (bdi(s), bdi(accent), sources, clips, number(minutes)) for s, accent, sources, clips, minutes in across.rows
    ]
    columns = ("speaker", "accent", "recordings", "clips", "minutes")
    listed = figure(
        "Heard in the most recordings",
        table("The first dozen", columns, rows) if rows else el("p", "Nobody yet."),
        folds=[across.sql(), fold("SQL of the numbers above", *_code(counts))],
    )
    return Section("speakers", "Speakers across recordings", join(tiles(numbers), listed))


def splits(catalog: Catalog) -> Section:
    """The newest split and the proof that nothing leaks."""
    asked = ask(catalog, SPLIT)
    if not asked.rows:
        none = el("p", "There is no split yet: ", el("code", "pdid split"), " makes one.")
        return Section("splits", "Splits", join(none, el("div", asked.sql(), class_="folds")))
    leaks, twins = ask(catalog, named_queries()["split_leaks"].sql), ask(catalog, TWINS)
    rows = asked.objects()
    name, seed = rows[0]["split_name"], rows[0]["seed"]
    columns = ("side", "clips", "length", "speakers", "recordings")
    cells = [(r["side"], r["clips"], length(r["seconds"]), r["speakers"], r["recordings"]) for r in rows]
    drawn = "made by hand" if seed is None else f"seed {seed}"
    return Section(
        "splits",
        "Splits",
        join(
            figure(f"The newest split: {name}", table(f"{name}, {drawn}", columns, cells), folds=[asked.sql()]),
            figure("Does it leak?", *_check(leaks, "speaker or recording"), *_check(twins, "pair of near-duplicates"),
                   note="Asked of every split there is.", folds=[leaks.sql(), twins.sql()]),
        ),
    )  # fmt: skip


def _check(asked: Table, what: str) -> list[Html | None]:
    n = len(asked.rows)
    said = verdict(not n, f"No {what} is on two sides." if not n else f"{n} times a {what} is on two sides.")
    rows = [tuple(cell if isinstance(cell, (int, float)) else bdi(str(cell)) for cell in row) for row in asked.rows]
    return [said, table(_shown("What leaks", asked), asked.columns, rows[:SHOWN]) if n else None]


def _shown(caption: str, asked: Table) -> str:
    return caption if len(asked.rows) <= SHOWN else f"{caption}: the first {SHOWN} of {len(asked.rows)}"


def _code(asked: Table) -> list[Html]:
    return [el("pre", el("code", asked.statement), tabindex=0)]
