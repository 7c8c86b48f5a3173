"""How the cells were made: learning curves, shares masked, costs, settings, and the experiments beside this one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from asr_experiments.aligning.loss import AlignSettings
from asr_experiments.arms import ARMS, TAUGHT
from asr_experiments.datasets import SPLITS
from asr_experiments.report import tables
from asr_experiments.report.accents import colours
from asr_experiments.report.results import Results, Sibling
from asr_experiments.report.tables import Grid
from catalog.charts import Line, lines
from catalog.page import Html, Number, Section, bdi, el, figure, join, table
from catalog.records import RATE, Run

POINTS = 40
"""Of a curve over updates: each is the mean of a stretch of them."""

Point = tuple[float, float, float, float]


def learning(results: Results) -> Section:
    """Training loss by update; dev loss and dev word error rate by epoch; shares masked."""
    arms = [arm for arm, _ in colours(results)]
    losses = [Line(arm, _loss_curve(results, arm)) for arm in arms]
    cards = [_curve("Training loss", losses, "updates", "nats per token")]
    for name, title, unit, size in (
        ("dev_loss", "Dev loss", "nats per token", 1.0),
        ("dev_wer", "Dev word error rate", "%", 100.0),
    ):
        curves = [Line(arm, _epoch_curve(results, arm, name, size)) for arm in arms]
        cards.append(_curve(title, curves, "epochs", unit))
    shares = tables.share_grid(results)
    masked = figure(
        "Share masked",
        grid_table(shares),
        note="Of the pixels of a changed copy that are not padding. finetune has the data twice, nothing masked.",
    )
    intro = el("p", "The mean over the seeds; a band spans them from the lowest to the highest.")
    return Section("learning", "Learning curves and masks", join(intro, cards, masked if shares.rows else None))


def _curve(title: str, curves: Sequence[Line], x: str, y: str) -> Html:
    drawn = [line for line in curves if line.points]
    if not drawn:
        return figure(title, el("p", "Not measured."))
    return figure(title, lines(title, curves, x_unit=x, y_unit=y))


def _loss_curve(results: Results, arm: str) -> list[Point]:
    """The loss of stretches of updates: where it is in the middle of each, the mean over seeds, lowest, highest."""
    runs = [cell.metrics["losses"] for cell in results.cells if cell.arm == arm and cell.metrics.get("losses")]
    n = min(map(len, runs), default=0)
    size = max(1, -(-n // POINTS))
    found = []
    for start in range(0, n, size):
        means = [fmean(run[start : start + size]) for run in runs]
        found.append((start + (min(size, n - start) + 1) / 2, fmean(means), min(means), max(means)))
    return found


def _epoch_curve(results: Results, arm: str, name: str, size: float) -> list[Point]:
    runs = [cell.metrics.get("epochs") or [] for cell in results.cells if cell.arm == arm and cell.scores]
    found = []
    for number in range(max(map(len, runs), default=0)):
        values = [size * run[number][name] for run in runs if number < len(run) and run[number].get(name) is not None]
        if values:
            found.append((number + 1.0, fmean(values), min(values), max(values)))
    return found


def grid_table(grid: Grid) -> Html:
    """A table to read, figures to the right."""
    return table(grid.caption, grid.columns, [(row[0], *map(Number, _escaped(row[1:]))) for row in grid.rows])


def _escaped(cells: Sequence[str]) -> list[str]:
    return [str(join(cell)) for cell in cells]


# ---------------------------------------------------------------- cells and settings


def cells(results: Results) -> Section:
    """Every cell with what it cost, or why it is missing."""
    grid = tables.cell_grid(results)
    rows = [
        (row[0], bdi(row[1]) if row[1] == "done" else el("span", bdi(row[1]), class_="missing roomy"), *_costs(row[2:]))
        for row in grid.rows
    ]
    left = [arm for arm in ARMS if arm not in results.arms]
    note = f"Arms that were not begun: {', '.join(left)}." if left else None
    content = figure("Minutes, memory, updates", table(grid.caption, grid.columns, rows), note=note)
    return Section("cells", "Cells and their cost", join(content, _contexts(results)))


def _costs(cells: Sequence[str]) -> list[Html]:
    *numbers, remark = cells
    return [*(Number(join(text)) for text in numbers), el("span", bdi(remark, ""), class_="roomy" if remark else None)]


def _contexts(results: Results) -> Html | None:
    """With `--context auto`: the word error rates with the short window, and with the full one."""
    rows = []
    for arm in results.arms:
        both = [cell.metrics for cell in results.cells if cell.arm == arm and "groups_full" in cell.metrics]
        for i, group in enumerate(both[0]["groups"] if both else ()):
            auto, full = (
                [said[key][i]["forms"][results.form]["wer"] for said in both] for key in ("groups", "groups_full")
            )
            if group["kind"] != "accent" and None not in (*auto, *full):
                change = fmean(full) - fmean(auto)
                figures = (tables.percent(fmean(auto)), tables.percent(fmean(full)), tables.points(change))
                rows.append((f"{arm}, {group['name']}", *map(Number, figures)))
    if not rows:
        return None
    columns = ("arm and group", "auto, % WER", "full, % WER", "full less auto, points")
    note = "Trained and tested with --context auto; tested again with the model's whole window."
    return figure("The encoder's window", table("Mean over the seeds", columns, rows), note=note)


def settings(results: Results) -> Section:
    """What decides the results: settings, data, versions."""
    facts = [
        ("experiment", results.experiment_id),
        ("model", str(results.told.get("model_version", results.settings.get("model")))),
        ("data fingerprint", str(results.told.get("data_fingerprint", "–"))),
        *sorted(results.told.get("environment", {}).items()),
    ]
    asked = results.settings
    runs = [cell.run for cell in results.cells if cell.run]
    training: dict[str, Any] = next((run.config["training"] for run in runs if run.config.get("training")), {})
    used = {name: value for name, value in training.items() if name not in ("seed", "micro_batch")}
    cards = [
        _facts("Model, data and versions", "When the experiment was last begun", facts),
        _facts(
            "Settings",
            "As they were asked for; null is what suits the model",
            flatten({name: value for name, value in asked.items() if not isinstance(value, dict)}),
        ),
        _facts("Training", "As it was done", flatten(used)) if used else None,
        *(
            _facts(title, "As it was asked for", flatten(asked[name]))
            for name, title in (
                ("mask", "Masks"),
                ("cam", "Saliency"),
                ("classifier", "Accent classifier"),
                ("align", "CTC and align"),
            )
            if name in asked and (name != "align" or set(TAUGHT) & set(results.arms))
        ),
    ]
    data = figure("Clips, hours and speakers by accent and side", _data(results))
    return Section("settings", "Settings, data, versions", join(data, el("div", cards, class_="columns")))


def _facts(title: str, caption: str, found: Sequence[tuple[str, str]]) -> Html:
    return figure(title, table(caption, ("what", "value"), [(name, el("code", value)) for name, value in found]))


def _data(results: Results) -> Html:
    rows = []
    for accent in sorted({utterance.accent for utterance in results.utterances}):
        line: list[object] = [bdi(accent)]
        for split in SPLITS:
            own = [u for u in results.of(split) if u.accent == accent]
            hours = sum(u.n_samples for u in own) / RATE / 3600
            line += [len(own), Number(f"{hours:.2f}"), len({u.speaker for u in own})]
        rows.append(line)
    columns = ["accent", *(f"{split} {what}" for split in SPLITS for what in ("clips", "hours", "speakers"))]
    return table("The experiment's clips", columns, rows)


def flatten(told: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and JSON values."""
    found = []
    for name, value in told.items():
        if isinstance(value, dict):
            found += flatten(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", json.dumps(value, ensure_ascii=False)))
    return found


# ---------------------------------------------------------------- beside this one


def siblings(results: Results) -> Section | None:
    """The experiments of the same corpus on the same clips: what differs, and their rates."""
    if not results.siblings:
        return None
    own = Sibling(results.experiment_id, True, results.told, tuple(c.run for c in results.cells if c.run))
    rows = [_sibling(results, one, own) for one in (own, *results.siblings)]
    columns = ("experiment", "what differs", "cells done", "all: WER, %", "unseen accents: WER, %")
    caption = f"Word error rates on {results.form} text, the mean over the seeds"
    return Section("beside", "Experiments on the same clips", figure("Beside this one", table(caption, columns, rows)))


def _sibling(results: Results, one: Sibling, own: Sibling) -> list[object]:
    # what an experiment from before the arms `ctc` and `align` did not say was as it is by default
    usual = {"align": asdict(AlignSettings())}
    mine, theirs = (dict(flatten(usual | each.told["settings"])) for each in (own, one))
    changed = [
        f"{name} {theirs.get(name, 'none')}" for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)
    ]
    if not one.same_sides:
        changed.append("clips on other sides")
    if one.told.get("model_version") != own.told.get("model_version"):
        changed.append(f"model {one.told.get('model_version')}")
    name = el("strong", one.experiment_id)
    if one is not own:
        written = (results.corpus / "runs" / one.experiment_id / "report.html").exists()
        name = el(
            "a" if written else "span",
            one.experiment_id,
            href=f"../{one.experiment_id}/report.html" if written else None,
        )
    done = sum("error" not in run.metrics for run in one.runs)
    differs = "this one" if one is own else "; ".join(changed) or "nothing that is known"
    rates = [_rates(one.runs, kind, results.form) for kind in ("all", "unseen")]
    return [name, bdi(differs), Number(f"{done} of {len(one.runs)}"), *rates]


def _rates(runs: Sequence[Run], kind: str, form: str) -> Html:
    by_arm: dict[str, list[float]] = {}
    for run in runs:
        for group in run.metrics.get("groups") or ():
            rate = group["forms"].get(form, {}).get("wer")
            if group["kind"] == kind and rate is not None:
                by_arm.setdefault(run.arm, []).append(rate)
    order = [*(arm for arm in ARMS if arm in by_arm), *sorted(by_arm.keys() - set(ARMS))]
    return join(*(el("div", f"{arm} {tables.percent(fmean(by_arm[arm]))}") for arm in order))
