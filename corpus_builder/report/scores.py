"""How good the sound is, by accent, and what it cost to find out."""

from __future__ import annotations

from catalog.charts import Bar, Box, bars, boxes
from catalog.named import named_queries
from catalog.page import Section, bdi, el, figure, fold, join, table
from catalog.store import Catalog
from corpus_builder.report.ask import ask, number

SCORES = """
WITH scored AS (
    SELECT
        coalesce(segments.accent, '(none)') AS accent, dnsmos_ovrl, snr_db, bandwidth_hz / 1000 AS bandwidth_khz,
        segments.duration_s
    FROM segments JOIN sources USING (source_id)
    WHERE loudness_lufs IS NOT NULL
),
by_score AS (UNPIVOT scored ON dnsmos_ovrl, snr_db, bandwidth_khz, duration_s INTO NAME score VALUE value)
SELECT score, accent, count(*) AS n, quantile_cont(value, [0.05, 0.25, 0.5, 0.75, 0.95]) AS quantiles
FROM by_score
GROUP BY ALL
ORDER BY score, accent
"""
KINDS = (
    ("dnsmos_ovrl", "DNSMOS P.835 overall", "1 to 5", "How good it sounds to a network taught by people's votes"),
    ("snr_db", "Signal-to-noise ratio", "dB", "Speech over the background, as recorded"),
    ("bandwidth_khz", "Bandwidth of the recording", "kHz", "Where its sound ends; 3.4 is a telephone"),
    ("duration_s", "Length", "s", "Lengths that differ give the accent away to a classifier"),
)  # fmt: skip


def scores(catalog: Catalog) -> Section:
    """Distributions by accent of the pieces that came as far as the keep rule."""
    asked = ask(catalog, SCORES)
    rows = sorted(asked.objects(), key=lambda row: (-row["n"], row["accent"]))
    panels = []
    for kind, title, unit, meaning in KINDS:
        drawn = [Box(r["accent"], tuple(r["quantiles"]), r["n"]) for r in rows if r["score"] == kind]
        cells = [(bdi(box.name), box.n, *(number(value, 2) for value in box.quantiles)) for box in drawn]
        columns = ("accent", "pieces", "5 %", "25 %", "median", "75 %", "95 %")
        chart = boxes(title, drawn, unit=unit) if drawn else el("p", "Nothing was measured.")
        panels.append(
            figure(f"{title}, {unit}", chart, note=f"{meaning}.", folds=[fold("Table", table(title, columns, cells))])
        )
    intro = el(
        "p",
        "All pieces that were measured, kept or not: the keep rule has not cut these distributions. The box holds the"
        " middle half, its line is the median; the whiskers end at the 5th and the 95th percentile.",
    )
    return Section(
        "scores",
        "Scores by accent",
        join(intro, el("div", panels, class_="pair"), el("div", asked.sql(), class_="folds")),
    )


def cost(catalog: Catalog) -> Section:
    """What each stage cost."""
    asked = ask(catalog, named_queries()["stage_costs"].sql)
    rows = asked.objects()
    title = "Minutes of computing by stage"
    drawn = [Bar(row["stage"], [float(row["minutes"])]) for row in rows]
    cells = [tuple(number(v, 2) if isinstance(v, float) else v for v in row) for row in asked.rows]
    content = figure(
        title,
        bars(title, drawn, [("minutes", "c3")], unit=" minutes") if rows else el("p", "Nothing has run yet."),
        folds=[fold("Table", table(title, asked.columns, cells)), asked.sql()],
    )
    return Section("cost", "What it cost", content)
