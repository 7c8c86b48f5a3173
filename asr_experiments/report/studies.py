"""The studies beside the matrix: how well the accent classifier does, and whether its saliency can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr_experiments.report import tables
from asr_experiments.report.results import Results
from asr_experiments.report.training import flatten
from catalog.charts import Line, lines
from catalog.page import Html, Number, Section, bdi, el, figure, join, table, verdict

if TYPE_CHECKING:
    from asr_experiments.sanity import MethodFigures

SCORES_FILE = "scores.json"
"""In the experiment's `classifier/`: `accents`; `scores`, `duration_only` and `pauses_only`, each with `accuracy`,
`macro_f1` and `confusion` (rows are the truth); `n_train`, `n_test`; `warnings`, a sentence each."""

CONTROLS = (
    ("scores", "the classifier"),
    ("duration_only", "the clips' length alone"),
    ("pauses_only", "what lies between the words alone"),
)


def classifier(results: Results) -> Section:
    """Accuracy and macro-F1 beside the two controls, and what was taken for what."""
    told = _read(results.folder / "classifier" / SCORES_FILE)
    if told is None:
        trained = (results.folder / "classifier" / "classifier.json").exists()
        why = "it was trained but not tested" if trained else "no arm that needs it was run"
        content = figure("Accuracy", el("p", f"Not measured: {why}. `pdid benchmark classifier` measures it."))
        return Section("classifier", "The accent classifier", content)
    accents = list(told.get("accents", ()))
    rows = []
    for key, what in CONTROLS:
        if own := told.get(key):
            rows.append((what, *(_rate(own, name) for name in ("accuracy", "macro_f1")), _balanced(own)))
    if accents:
        chance = Number(tables.percent(1 / len(accents)))
        rows.append(("chance, with every accent as likely", Number("–"), Number("–"), chance))
    counts = ", ".join(
        f"{told[key]:,} clips {what}" for key, what in (("n_train", "in training"), ("n_test", "tested")) if key in told
    )
    warnings = el("ul", [el("li", bdi(text)) for text in told.get("warnings", ())]) if told.get("warnings") else None
    columns = ("told from", "accuracy, %", "macro-F1, %", "balanced accuracy, %")
    scored = figure("How well accents are told apart", table(counts or "Scores", columns, rows), warnings)
    confusion = (told.get("scores") or {}).get("confusion")
    matrix = figure("What is taken for what", _confusion(accents, confusion)) if accents and confusion else None
    intro = el("p", "It has learnt something of accents only by as much as it beats the two controls.")
    return Section("classifier", "The accent classifier", join(intro, scored, matrix))


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
    """What the planted-truth studies of this corpus gave."""
    folder = results.corpus / "runs" / "sanity"
    found = [(path, told) for path in sorted(folder.glob("*.json")) if (told := _read(path)) is not None]
    intro = el(
        "p",
        "Nobody knows where an accent is, so faint cues were planted at known places in real clips: saliency must find"
        " them, masking by it must take them away, and it must come from what the classifier has learnt.",
    )
    cards = [_study(path.stem, told) for path, told in found]
    if not cards:
        cards = [figure("Planted truth", el("p", "Not measured. `pdid benchmark sanity` measures it."))]
    return Section("sanity", "Can the saliency be trusted?", join(intro, cards))


def _study(name: str, told: dict[str, Any]) -> Html:
    from asr_experiments.sanity import MethodFigures

    try:
        methods = {method: MethodFigures(**figures) for method, figures in told["methods"].items()}
        return _planted(name, told, methods)
    except (KeyError, TypeError, AttributeError):  # of another version: as it is
        rows = [(key, el("code", value)) for key, value in flatten(told)]
        return figure(name, table("Figures", ("what", "value"), rows))


def _planted(name: str, told: dict[str, Any], methods: Mapping[str, MethodFigures]) -> Html:
    from asr_experiments.sanity import SHARES

    rows: list[Sequence[object]] = [
        ("peaks in the planted box, one cell beside it allowed", *_each(methods, lambda m: m.pointing)),
        ("the same without that margin", *_each(methods, lambda m: m.pointing_exact)),
        ("peaks at random, with the margin", *_each(methods, lambda m: m.pointing_chance)),
        ("accuracy, nothing masked", *(_share(told["accuracy"]) for _ in methods)),
    ]
    for arm in dict.fromkeys(arm for m in methods.values() for arm in m.accuracy):
        rows.append((f"accuracy, masked by {arm}", *(_share(own.accuracy.get(arm)) for own in methods.values())))
    rows += [
        ("accuracy of guessing", *(_share(told["chance"]) for _ in methods)),
        ("pixels masked", *_each(methods, lambda m: m.share_masked)),
        ("correlation with a randomised classifier's map", *_each(methods, lambda m: m.randomised_correlation)),
    ]
    checks = []
    for method, own in methods.items():
        missed = own.failures(told["chance"])
        checks.append(verdict(not missed, f"{method}: {'; '.join(missed) if missed else 'every bound is met'}"))
    pieces = (
        f"{told['n_train']:,} pieces in training, {told['n_test']:,} of {told['n_test_speakers']} other speakers tested"
    )
    curves = []
    for what, title in (("deletion", "Taking pixels out"), ("insertion", "Putting pixels back")):
        series = []
        for method, own in methods.items():
            for key, by in ((what, "by saliency"), (f"{what}_random", "by the map moved elsewhere")):
                drawn = [(100 * x, y, y, y) for x, y in zip(SHARES, getattr(own, key), strict=True)]
                series.append(Line(f"{method}, {by}", drawn))
        curves.append(
            figure(title, lines(title, series, x_unit="% of the pixels", y_unit="probability of the true cue"))
        )
    shown = figure(f"Planted truth: {name}", checks, table(pieces, ("of 1", *methods), rows))
    return join(shown, curves)


def _each(methods: Mapping[str, MethodFigures], of: Callable[[MethodFigures], float | None]) -> list[Number]:
    return [_share(of(own)) for own in methods.values()]


def _share(value: float | None) -> Number:
    return Number("–" if value is None else f"{value:.2f}")


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
