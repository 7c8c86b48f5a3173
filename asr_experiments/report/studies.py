"""The studies beside the matrix: how well the accent classifier does, and whether its saliency can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr_experiments.report import tables
from asr_experiments.report.results import Results
from catalog.charts import Line, lines
from catalog.page import Html, Number, Section, bdi, el, figure, join, table, verdict

CONTROLS = (
    ("scores", "the classifier"),
    ("duration_only", "the clips' length alone"),
    ("pauses_only", "what lies between the words alone"),
)


def classifier(results: Results) -> Section:
    """Accuracy and macro-F1 beside the two controls, and what was taken for what; `studies.obtain_classifier` measures
    it, and scores.json beside the classifier keeps it."""
    told = _read(results.folder / "classifier" / "scores.json")
    if told is None or "scores" not in told:
        trained = told is not None or (results.folder / "classifier" / "classifier.json").exists()
        why = "there is no test clip of an accent it was shown" if trained else "no arm that needs it was begun"
        content = figure("Accuracy", el("p", f"Not measured: {why}."), _warnings(told or {}))
        return Section("classifier", "The accent classifier", content)
    accents = list(told["accents"])
    rows: list[Sequence[object]] = [
        (what, *(_rate(own, name) for name in ("accuracy", "macro_f1")), _balanced(own))
        for key, what in CONTROLS
        if (own := told.get(key))
    ]
    chance = Number(tables.percent(1 / len(accents)))
    rows.append(("chance, with every accent as likely", Number("–"), Number("–"), chance))
    counts = f"{told['n_train']:,} clips in training, {told['n_test']:,} clips tested"
    columns = ("told from", "accuracy, %", "macro-F1, %", "balanced accuracy, %")
    scored = figure("How well accents are told apart", table(counts, columns, rows), _warnings(told))
    matrix = figure("What is taken for what", _confusion(accents, told["scores"]["confusion"]))
    intro = el("p", "It has learnt something of accents only by as much as it beats the two controls.")
    return Section("classifier", "The accent classifier", join(intro, scored, matrix))


def _warnings(told: Mapping[str, Any]) -> Html | None:
    found = told.get("warnings")
    return el("ul", [el("li", bdi(text)) for text in found]) if found else None


def _rate(own: Mapping[str, Any], name: str) -> Number:
    value = own.get(name)
    return Number("–" if value is None else tables.percent(float(value)))


def _balanced(own: Mapping[str, Any]) -> Number:
    """The mean recall of the accents that have clips."""
    recalls = [row[i] / sum(row) for i, row in enumerate(own.get("confusion") or ()) if sum(row)]
    return Number(tables.percent(sum(recalls) / len(recalls)) if recalls else "–")


def _confusion(accents: Sequence[str], confusion: Sequence[Sequence[int]]) -> Html:
    rows = []
    for accent, row in zip(accents, confusion, strict=True):
        n = sum(row)
        cells = [
            Number(join(count, el("i", style=f"width:{100 * count / n if n else 0:.0f}%", class_="share")))
            for count in row
        ]
        rows.append((bdi(accent), *cells, n))
    heads = ("truth", *(join("said ", bdi(accent)) for accent in accents), "clips")
    return table("Clips; a bar is the share of the row", heads, rows)


# ---------------------------------------------------------------- planted truth


def sanity(results: Results) -> Section:
    """What the planted-truth studies of this corpus gave: runs/sanity/DATA-METHOD.json, as `sanity_figures` has it."""
    folder = results.corpus / "runs" / "sanity"
    by_data: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem):
        data, _, method = path.stem.rpartition("-")
        if told := _read(path):
            by_data.setdefault(data, {})[method] = told
    intro = el(
        "p",
        "Nobody knows where an accent is, so faint cues were planted at known places in real clips: saliency must find"
        " them, masking by it must take them away, and it must come from what the classifier has learnt.",
    )
    cards = [_study(data, methods) for data, methods in by_data.items()]
    if not cards:
        cards = [figure("Planted truth", el("p", "Not measured. `pdid benchmark sanity` measures it."))]
    return Section("sanity", "Can the saliency be trusted?", join(intro, cards))


def _study(data: str, methods: Mapping[str, Mapping[str, Any]]) -> Html:
    """A study's figures, a column for each kind of map, and its curves."""
    title = f"Planted truth: {data}"
    masked = dict.fromkeys(arm for told in methods.values() for arm in told.get("accuracy", ()))
    wanted: list[tuple[str, Sequence[str]]] = [
        ("peaks in the planted box, one cell beside it allowed", ["pointing"]),
        ("the same without that margin", ["pointing_exact"]),
        ("peaks at random, with the margin", ["pointing_chance"]),
        ("accuracy, nothing masked", ["accuracy_unmasked"]),
        *((f"accuracy, masked by {arm}", ["accuracy", arm]) for arm in masked),
        ("accuracy of guessing", ["chance"]),
        ("pixels masked", ["share_masked"]),
        ("correlation with a randomised classifier's map", ["randomised_correlation"]),
    ]
    rows = [(what, *(_figure(told, names) for told in methods.values())) for what, names in wanted]
    checks = []
    for method, told in methods.items():
        missed = told.get("failures", ())
        checks.append(verdict(not missed, f"{method}: {'; '.join(missed) if missed else 'every bound is met'}"))
    first = next(iter(methods.values()))
    counts = [f"{first[key]:,} {what}" for key, what in COUNTS if isinstance(first.get(key), int)]
    return join(
        figure(title, checks, table(", ".join(counts) or "Figures", ("share of 1", *methods), rows)),
        _curves("Taking pixels out", "deletion", methods),
        _curves("Putting pixels back", "insertion", methods),
    )


COUNTS = (
    ("n_train", "pieces of speech in training"),
    ("n_test", "tested"),
    ("n_test_speakers", "speakers tested, none of them in training"),
)


def _figure(told: Mapping[str, Any], names: Sequence[str]) -> Number:
    value: Any = told
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return Number(f"{value:.2f}" if isinstance(value, (int, float)) else "–")


def _curves(title: str, what: str, methods: Mapping[str, Mapping[str, Any]]) -> Html | None:
    series = []
    for method, told in methods.items():
        for key, by in ((what, "by saliency"), (f"{what}_random", "by the map moved elsewhere")):
            points = [(100 * x, y, y, y) for x, y in zip(told.get("shares", ()), told.get(key, ()), strict=False)]
            if points:
                series.append(Line(f"{method}, {by}", points))
    if not series:
        return None
    return figure(title, lines(title, series, x_unit="% of the pixels", y_unit="probability of the true cue"))


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
