"""Accents before and after training, and every arm against the reference arms: charts with their figures."""

from __future__ import annotations

from collections.abc import Sequence

from asr_experiments.arms import UNTRAINED
from asr_experiments.report import tables
from asr_experiments.report.rates import REFERENCES, Comparison, Rate
from asr_experiments.report.results import Results
from catalog.charts import Dot, Dots, dots
from catalog.page import Html, Number, Section, bdi, el, figure, fold, join, table


def by_accent(results: Results, rates: Sequence[Rate]) -> Section:
    """Per accent: the untrained model's word error rate, and each arm's."""
    own = {
        (r.arm, r.group.name): r.interval.estimate
        for r in rates
        if r.group.kind == "accent" and (r.form, r.unit) == (results.form, "WER")
    }
    arms = [arm for arm in results.finished if arm != UNTRAINED]
    accents = [group.name for group in results.groups if group.kind == "accent"]
    accents.sort(key=lambda accent: -(own.get((UNTRAINED, accent)) or 0.0))
    rows = []
    for accent in accents:
        before = own.get((UNTRAINED, accent))
        values = [own.get((arm, accent)) for arm in arms]
        rows.append(Dots(accent, [_moved(value, before) for value in values], None if before is None else 100 * before))
    title = "Word error rate by accent, before and after"
    drawn = dots(title, rows, colours(results), mark="zero-shot", unit="% WER", write=_short)
    note = "The upright stroke is the model before training; a dot is an arm after it, the line what it moved."
    cells = [(bdi(accent), *(_percent(own.get((arm, accent))) for arm in results.arms)) for accent in accents]
    below = [fold("Table", table(f"{title}, per cent", ("accent", *results.arms), cells))]
    content = figure(title, drawn, note=note, folds=below)
    return Section("accents", "Accents, before and after", content)


def _moved(value: float | None, before: float | None) -> Dot | None:
    if value is None:
        return None
    ends = (value, value if before is None else before)
    return Dot(100 * value, 100 * min(ends), 100 * max(ends))


def _percent(share: float | None) -> Number:
    return Number(el("span", "missing", class_="missing") if share is None else tables.percent(share))


def colours(results: Results) -> list[tuple[str, str]]:
    """The trained arms with a result and their colours, the same all through the page."""
    arms = [arm for arm in results.arms if arm != UNTRAINED]
    return [(arm, f"c{i % 8}") for i, arm in enumerate(arms) if arm in results.finished]


def differences(results: Results, comparisons: Sequence[Comparison]) -> Section:
    """Every arm against each reference arm: a chart over the groups of accents, and the figures."""
    intro = el(
        "p",
        "Word error rate of an arm less that of the reference: the same clips, speakers and seeds in every draw. Below"
        " 0 the arm is better. P(better) is the share of draws in which it is, and says too much where speakers are"
        " few; p is two-sided and allows for that. Holm's correction is over the accents. MAPSSWE is NIST's"
        " matched-pairs test: Z below 0 is fewer errors; it takes stretches of words as independent, whoever speaks"
        " them.",
    )
    references = [one for one in REFERENCES if any(c.reference == one for c in comparisons)]
    cards = [_against(results, [c for c in comparisons if c.reference == one], one) for one in references]
    if not cards:
        cards = [
            figure(
                "Nothing to compare",
                el("p", f"None of {', '.join(REFERENCES)} has a finished cell beside another arm."),
            )
        ]
    return Section("differences", "Paired differences", join(intro, cards))


def _against(results: Results, own: Sequence[Comparison], reference: str) -> Html:
    arms = list(dict.fromkeys(one.arm for one in own))
    shown = [group for group in results.groups if group.kind in ("standard", "seen", "unseen")] or list(
        results.groups[:1]
    )
    by = {(one.arm, one.group.kind, one.group.name): one for one in own}
    palette = dict(colours(results)) | {UNTRAINED: "c6"}
    series = [(arm, palette[arm]) for arm in arms if arm != UNTRAINED]
    rows = [Dots(g.name, [_difference_dot(by[arm, g.kind, g.name]) for arm, _ in series], 0.0) for g in shown]
    title = f"Against {reference}"
    drawn = (
        dots(title, rows, series, mark=f"{reference} itself", unit="points of WER", write=_signed) if series else None
    )
    heads = ("arm", "on", "points (95 %)", "P(better)", "p", "MAPSSWE: Z (p), seed by seed")
    groups = [
        (one.arm, one.group.name, *_numbers(one)[:3], Number(tables.mapsswe_text(one)))
        for one in own
        if one.group.kind != "accent"
    ]
    accents = [
        (one.arm, bdi(one.group.name), *_numbers(one), Number(tables.mapsswe_text(one)))
        for one in own
        if one.group.kind == "accent"
    ]
    whys = sorted({one.difference.why for one in own if one.difference.why})
    folds = [
        fold("Figures, by group of accents", table(f"Less {reference}, by group", heads, groups)),
        fold("Figures, by accent", table(f"Less {reference}, by accent", (*heads[:5], "p by Holm", heads[5]), accents)),
    ]
    note = f"No interval where: {'; '.join(whys)}." if whys else None
    return figure(title, drawn, note=note, folds=folds)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _signed(value: float) -> str:
    return tables.signed(value, 1).removesuffix(".0")


def _difference_dot(one: Comparison) -> Dot | None:
    told = one.difference
    if told.estimate is None:
        return None
    low, high = (told.estimate if end is None else end for end in (told.low, told.high))
    return Dot(100 * told.estimate, 100 * low, 100 * high)


def _numbers(one: Comparison) -> tuple[Number, ...]:
    return (Number(tables.difference_text(one)), *(Number(text) for text in tables.difference_tests(one)))
