"""Where the hours are and where they went: the corpus in numbers, by accent and split, and the funnel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.charts import Bar, bars, percent
from catalog.page import ISOLATE, POP, Html, Number, Section, bdi, el, figure, fold, join, table, tiles
from catalog.store import Catalog
from corpus_builder.report.ask import Table, ask, length, number, share, spoken, time_unit

OVERVIEW = """
SELECT
    count(DISTINCT source_id) AS recordings,
    coalesce(sum(duration_s), 0) AS recorded_s,
    coalesce(sum(duration_s) FILTER (kept), 0) AS kept_s,
    count(*) FILTER (kept) AS clips,
    count(DISTINCT speaker_id) FILTER (kept) AS speakers,
    count(DISTINCT accent) FILTER (kept) AS accents,
    coalesce(sum(duration_s) FILTER (kept AND text IS NOT NULL), 0) AS text_s
FROM segments
"""
STATUS = "SELECT status, count(*) AS recordings FROM sources GROUP BY status ORDER BY status"
FAILED = "SELECT coalesce(title, uri) AS recording, error FROM sources WHERE status = 'failed' ORDER BY uri"
BY_ACCENT = """
SELECT
    coalesce(accent, '(none)') AS accent,
    sum(duration_s) AS kept_s,
    count(*) AS clips,
    count(DISTINCT speaker_id) AS speakers,
    count(DISTINCT source_id) AS recordings,
    coalesce(sum(duration_s) FILTER (split = 'train'), 0) AS train_s,
    coalesce(sum(duration_s) FILTER (split = 'dev'), 0) AS dev_s,
    coalesce(sum(duration_s) FILTER (split = 'test'), 0) AS test_s,
    coalesce(sum(duration_s) FILTER (split IS NULL), 0) AS no_split_s,
    count(DISTINCT speaker_id) FILTER (split = 'train') AS train_speakers,
    count(DISTINCT speaker_id) FILTER (split = 'dev') AS dev_speakers,
    count(DISTINCT speaker_id) FILTER (split = 'test') AS test_speakers
FROM segments
WHERE kept
GROUP BY ALL
ORDER BY kept_s DESC, accent
"""
# The pipeline's steps in order, and the reasons for which each leaves a piece out.
STEPS = """
steps(step, name, reason) AS (VALUES
    (1, 'speech', 'silence'), (1, 'speech', 'music'), (1, 'speech', 'not_speech'),
    (2, 'music', 'music_unseparated'),
    (3, 'speaker', 'overlap'), (3, 'speaker', 'unsure_speaker'),
    (4, 'length', 'too_short'), (4, 'length', 'no_pause'),
    (5, 'quality', 'quiet'), (5, 'quality', 'clipped'), (5, 'quality', 'noisy'), (5, 'quality', 'low_quality')
)"""
FUNNEL = f"""
WITH {STEPS},
pieces AS (
    SELECT coalesce(accent, '(none)') AS accent, step, sum(duration_s) AS seconds
    FROM segments LEFT JOIN steps ON reason = reject_reason
    GROUP BY ALL
),
heard AS (
    SELECT coalesce(accent, '(none)') AS accent, count(DISTINCT source_id) AS recordings FROM segments GROUP BY ALL
)
SELECT
    accent, recordings,
    sum(seconds) AS recorded_s,
    coalesce(sum(seconds) FILTER (step = 1), 0) AS no_speech_s,
    coalesce(sum(seconds) FILTER (step = 2), 0) AS over_music_s,
    coalesce(sum(seconds) FILTER (step = 3), 0) AS speaker_s,
    coalesce(sum(seconds) FILTER (step = 4), 0) AS length_s,
    coalesce(sum(seconds) FILTER (step = 5), 0) AS quality_s,
    coalesce(sum(seconds) FILTER (step IS NULL), 0) AS kept_s
FROM pieces JOIN heard USING (accent)
GROUP BY ALL
ORDER BY recorded_s DESC, accent
"""
REASONS = """
WITH pieces AS (
    SELECT coalesce(accent, '(none)') AS accent, coalesce(reject_reason, 'kept') AS outcome, sum(duration_s) AS seconds
    FROM segments GROUP BY ALL
),
accents AS (SELECT accent, sum(seconds) AS recorded FROM pieces GROUP BY accent),
outcomes AS (SELECT outcome, sum(seconds) AS everywhere FROM pieces GROUP BY outcome),
every AS (SELECT sum(seconds) AS recorded FROM pieces)
SELECT
    outcomes.outcome, accents.accent, coalesce(seconds, 0) AS seconds,
    coalesce(seconds, 0) / accents.recorded AS share,
    (everywhere - coalesce(seconds, 0)) / nullif(every.recorded - accents.recorded, 0) AS others,
    share / nullif(others, 0) AS ratio
FROM accents CROSS JOIN outcomes CROSS JOIN every
LEFT JOIN pieces ON pieces.accent = accents.accent AND pieces.outcome = outcomes.outcome
ORDER BY everywhere DESC, outcomes.outcome, accents.recorded DESC, accents.accent
"""
LOSSES = (
    ("no_speech_s", "no speech", "c6", "silence, music alone, other sound"),
    ("over_music_s", "speech over music", "c1", "the music was not taken away"),
    ("speaker_s", "not one sure speaker", "c3", "several at once, or nobody knows who"),
    ("length_s", "too short or long", "c0", "too short, or no pause to cut at"),
    ("quality_s", "under the keep rule", "c7", "too quiet, overdriven, noisy, low DNSMOS"),
)
RATIO, POINTS = 1.25, 0.02
"""From where a filter is marked: the four-fifths rule turned round (29 CFR 1607.4 D), and two points of a hundred."""


def overview(catalog: Catalog) -> Section:
    """The corpus in a line of numbers, and what failed."""
    asked, status, failed = ask(catalog, OVERVIEW), ask(catalog, STATUS), ask(catalog, FAILED)
    found = asked.objects()[0]
    recorded = found["recorded_s"] or 0.0
    numbers = [
        ("recorded", length(recorded)),
        ("kept", length(found["kept_s"])),
        ("of what was recorded", percent(found["kept_s"] / recorded) if recorded else "–"),
        ("clips", f"{found['clips']:,}"),
        ("recordings", f"{found['recordings']:,}"),
        ("speakers", f"{found['speakers']:,}"),
        ("accents", f"{found['accents']:,}"),
        ("of kept has a text", percent(found["text_s"] / found["kept_s"]) if found["kept_s"] else "–"),
    ]
    unfinished = None
    if failed.rows:
        rows = [(bdi(name), bdi(error)) for name, error in failed.rows]
        unfinished = figure(
            f"{len(rows)} recordings failed",
            table("The next `pdid ingest` tries them again", ("recording", "why"), rows),
            folds=[failed.sql()],
        )
    counts = ", ".join(f"{count} {state}" for state, count in status.rows) or "no recordings yet"
    said = el("p", f"Recordings: {counts}.", class_="note")
    folds = el("div", asked.sql("the numbers"), status.sql("the recordings"), class_="folds")
    return Section("overview", "In numbers", join(tiles(numbers), unfinished, said, folds))


def by_accent(catalog: Catalog) -> Section:
    """Hours by accent and split, with the speakers in each."""
    asked = ask(catalog, BY_ACCENT)
    rows = asked.objects()
    size, unit = time_unit(max((row["kept_s"] for row in rows), default=0.0))
    parts = [("train", "c0"), ("dev", "c1"), ("test", "c2"), ("no_split", "c6")]
    parts = [part for part in parts if any(row[f"{part[0]}_s"] for row in rows)]
    names = [("in no split" if what == "no_split" else what, colour) for what, colour in parts]
    drawn = [
        Bar(row["accent"], [row[f"{what}_s"] / size for what, _ in parts], _speakers(row, [what for what, _ in parts]))
        for row in rows
    ]
    title = f"Kept {unit} by accent and split"
    cells = [
        (
            bdi(row["accent"]), number(row["kept_s"] / size), row["clips"], row["speakers"], row["recordings"],
            *(number(row[f"{side}_s"] / size) for side in ("train", "dev", "test")),
            *(row[f"{side}_speakers"] for side in ("train", "dev", "test")),
        )
        for row in rows
    ]  # fmt: skip
    columns = (
        "accent", unit, "clips", "speakers", "recordings", f"train {unit}", f"dev {unit}", f"test {unit}",
        "train speakers", "dev speakers", "test speakers",
    )  # fmt: skip
    content = figure(
        title,
        bars(title, drawn, names, unit=f" {unit}") if rows else el("p", "Nothing is kept yet."),
        note="After each bar its speakers, in brackets those of each side in the same order."
        if sum(what != "no_split" for what, _ in parts) > 1
        else None,
        folds=[fold("Table", table(title, columns, cells)), asked.sql()],
    )
    intro = el("p", "What is in the corpus, and on which side of the newest split it lies.")
    return Section("hours", "Hours by accent and split", join(intro, content))


def _speakers(row: dict[str, Any], parts: Sequence[str]) -> str:
    """The speakers of an accent, and in brackets those in train, dev and test."""
    sides = [str(row[f"{side}_speakers"]) for side in parts if side != "no_split"]
    return _count(row["speakers"], "speaker") + (f" ({' · '.join(sides)})" if len(sides) > 1 else "")


def funnel(catalog: Catalog) -> Section:
    """From what was recorded to what is kept, step by step, for each accent; and who loses more than the others."""
    steps, reasons = ask(catalog, FUNNEL), ask(catalog, REASONS)
    rows = steps.objects()
    intro = el(
        "p",
        "Every recording is cut into pieces, and each piece is kept or rejected for one reason. ",
        el("strong", _finding(reasons)),
    )
    return Section(
        "funnel", "From recorded to kept", join(intro, _steps(rows, steps), _shares(rows, steps), _reasons(reasons))
    )


def _steps(rows: Sequence[dict[str, Any]], asked: Table) -> Html:
    """What is left after each step, all accents together."""
    total = sum(row["recorded_s"] for row in rows)
    left, drawn = total, []
    size, unit = time_unit(total)
    names = ("speech in it", "free of music", "one sure speaker", "3 to 30 s, at pauses", "passes the keep rule")
    drawn.append(Bar("recorded", [total / size], "100 %" if total else ""))
    for (column, *_), name in zip(LOSSES, names, strict=True):
        left -= sum(row[column] for row in rows)
        drawn.append(Bar(name, [left / size], f"{100 * left / total:.0f} %" if total else ""))
    title = f"What is left after each step, in {unit}"
    cells = [(bar.name, number(bar.values[0]), bar.remark) for bar in drawn]
    return figure(
        title,
        bars(title, drawn, [("left", "c2")], unit=f" {unit}"),
        folds=[fold("Table", table(title, ("step", unit, "of all"), cells)), asked.sql()],
    )


def _shares(rows: Sequence[dict[str, Any]], asked: Table) -> Html:
    """Each accent's recorded time as a whole, by what became of it."""
    series = [("kept", "good")] + [(name, colour) for _, name, colour, _ in LOSSES]
    drawn = [
        Bar(
            row["accent"],
            [row[column] / row["recorded_s"] for column in ("kept_s", *(loss[0] for loss in LOSSES))],
            f"{length(row['recorded_s'])}, {_count(row['recordings'], 'recording')}",
        )
        for row in rows
    ]
    title = "What became of each accent's recorded time"
    cells = [(bdi(bar.name), *map(share, bar.values), bar.remark) for bar in drawn]
    columns = ("accent", *(name for name, _ in series), "recorded")
    meanings = "; ".join(f"{name}: {meaning}" for _, name, _, meaning in LOSSES)
    meanings = meanings[0].upper() + meanings[1:]
    return figure(
        title,
        bars(title, drawn, series, write=percent, top=1.0),
        note=f"{meanings}.",
        folds=[fold("Table", table(title, columns, cells)), asked.sql()],
    )


def _uneven(row: dict[str, Any]) -> bool:
    """Whether a reason takes markedly more of an accent than of the others."""
    others = row["others"]
    if row["outcome"] == "kept" or others is None or row["share"] - others < POINTS:
        return False
    return bool(others == 0 or row["ratio"] >= RATIO)


def _finding(asked: Table) -> str:
    """The answer in one sentence: does a filter throw out one accent more?"""
    rows = asked.objects()
    if len({row["accent"] for row in rows}) < 2:
        return "With one accent there is nothing to compare."
    worst = sorted((row for row in rows if _uneven(row)), key=lambda row: row["others"] - row["share"])
    if not worst:
        return (
            f"No reason takes {RATIO} times as much of one accent as of the others, and {100 * POINTS:.0f} points more."
        )
    one = worst[0]
    more = f" {len(worst) - 1} more are marked below." if len(worst) > 1 else ""
    return (
        f"Most uneven: “{spoken(one['outcome'])}” takes {percent(one['share'])} of {ISOLATE}{one['accent']}{POP}, and"
        f" {percent(one['others'])} of the other accents.{more}"
    )


def _reasons(asked: Table) -> Html:
    """Reason by accent: the share of the accent's recorded time, and how many times the others' that is."""
    rows = asked.objects()
    accents = list(dict.fromkeys(row["accent"] for row in rows))
    cells: dict[str, list[object]] = {}
    for row in rows:
        ratio = row["ratio"] if row["share"] >= 0.0005 else None
        times = (
            "" if ratio is None else f" ×{ratio:.1f}" if ratio < 10 else f" ×{ratio:.0f}" if ratio < 100 else " ×>99"
        )
        text = f"{100 * row['share']:.1f} %{times}"
        cell = Number(el("span", f"▲ {text}", class_="more")) if _uneven(row) else Number(text)
        cells.setdefault(row["outcome"], []).append(cell)
    title = "Does a filter throw out one accent more?"
    return figure(
        title,
        table(
            "Share of each accent's recorded time, and how many times the other accents' share that is",
            ("outcome", *map(bdi, accents)),
            [(spoken(outcome), *line) for outcome, line in cells.items()],
        ),
        note=f"▲ marks what takes at least {RATIO} times as much of the accent as of all others together (the"
        f" four-fifths rule turned round) and at least {100 * POINTS:.0f} points more. With few recordings of an"
        " accent, that may be the recordings and not the accent.",
        folds=[asked.sql()],
    )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
