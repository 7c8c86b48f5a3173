"""The study as a page that works offline: layers against accuracy, in and out of domain, and the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from asr_experiments.probing.figures import Control, Figure, ProbeStudy
from asr_experiments.probing.sides import DOMAINS, IN, TASKS, WORDS
from catalog.charts import Line, lines, percent
from catalog.page import Html, Number, Section, bdi, el, figure, fold, join, page, table, tiles, verdict

ABOUT = {
    "accent": "Balanced accuracy of a linear probe on the mean over a clip's frames, in voices it has not heard.",
    "speaker": "Balanced accuracy of a linear probe on the mean over a clip's frames, in clips it has not heard.",
    "channel": "Balanced accuracy of a linear probe on the mean over a clip's frames.",
    WORDS: "Character error rate of a small CTC reader on the frames: lower is better.",
}


def write_page(study: ProbeStudy, data: str) -> str:
    """The whole page; `data` names the clips."""
    asked = [task for task in TASKS if any(figure.task == task for figure in study.figures)]
    sections = [
        _overview(study),
        *(_task(study, task) for task in asked),
        _shift(study, asked),
        *([_likeness(study)] if study.likeness else []),
    ]
    intro = join(
        "Invariant, or only suppressed? What can be read off the layers of ",
        bdi(next(iter(study.models))),
        ", beside other models, random weights and the input itself, on ",
        bdi(data),
        ".",
    )
    foot = join(
        f"Written by pdid {version('pdid')} on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC. This file needs no network"
        " and asks for none."
    )
    return page(f"Probes: {data}", sections, intro=intro, foot=foot)


def _overview(study: ProbeStudy) -> Section:
    failures = study.failures()
    counts = {kind: [c for c in study.controls if c.kind == kind] for kind in ("planted", "shuffled")}
    checks = [
        verdict(
            all(control.good for control in counts[kind]),
            f"{what}: {sum(c.good for c in counts[kind])} of {len(counts[kind])} layers and questions",
        )
        for kind, what in (
            ("planted", "an attribute planted in a layer is read right in 95 % or more"),
            ("shuffled", "shuffled labels give chance"),
        )
    ]
    numbers = tiles(
        [
            ("training clips", f"{study.n_train:,}"),
            ("test clips", f"{study.n_test:,}"),
            ("models", str(len(study.models))),
            ("layers", str(sum(map(len, study.models.values())))),
        ]
    )
    said = [*study.notes, *(f"{n:,} clips are left out: {reason}" for reason, n in study.left_out.items())]
    content = join(
        figure(
            "What was looked at",
            numbers,
            checks,
            el("ul", [el("li", line) for line in failures]) if failures else None,
            el("ul", [el("li", bdi(line)) for line in said]) if said else None,
            note="What a probe reads off a layer is still there. That is no proof that the model uses it.",
        )
    )
    return Section("overview", "What was looked at", content)


def _task(study: ProbeStudy, task: str) -> Section:
    """A chart of all models in domain, one of each model in and out of domain, and the figures."""
    unit = "character error rate" if task == WORDS else "balanced accuracy"

    def chart(title: str, series: Sequence[Line]) -> Html:
        return lines(title, series, x_unit="layer, from the input on", y_unit=unit, write=percent)

    domain = next(d for d in DOMAINS if any((f.task, f.domain) == (task, d) for f in study.figures))
    together = chart(f"{task}: all models, {domain}", [_line(m, study.of(m, task, domain)) for m in study.models])
    apart: list[Html] = []
    for model in study.models:
        own = [_line(d, found) for d in DOMAINS if (found := study.of(model, task, d))]
        drawn = chart(f"{task}: {model}, in and out of domain", own)
        apart.append(drawn if not apart else fold(f"{model}, in and out of domain", drawn))
    content = join(
        figure(f"All models, {domain}", together, note=ABOUT[task]),
        figure("In and out of domain", el("p", bdi(next(iter(study.models)))), apart),
        figure("Figures", table(f"{unit}, %, with 95 % intervals over speakers", *_rows(study, task))),
    )
    return Section(task, task.capitalize(), content)


def _line(name: str, found: Sequence[Figure]) -> Line:
    return Line(
        name,
        [
            (f.place.depth, f.value, f.value if f.low is None else f.low, f.value if f.high is None else f.high)
            for f in found
        ],
    )


def _rows(study: ProbeStudy, task: str) -> tuple[list[str], list[list[object]]]:
    """The head and the lines of a task's table."""
    domains = [d for d in DOMAINS if any((f.task, f.domain) == (task, d) for f in study.figures)]
    counts = {d: next(f for f in study.figures if (f.task, f.domain) == (task, d)) for d in domains}
    shuffled = {c.place: c for c in study.controls if (c.task, c.kind) == (task, "shuffled")}
    head = ["model", "layer", "ms a frame"]
    head += [f"{d} ({one.n:,} clips, {one.n_speakers:,} speakers)" for d, one in counts.items()]
    head += [] if task == WORDS else ["shuffled labels", "chance"]
    rows = []
    for place, by_domain in _places(study, task):
        row: list[object] = [bdi(place.place.model), place.place.layer, _ms(study, place)]
        row += [_told(by_domain[d]) if d in by_domain else Number("–") for d in domains]
        if control := shuffled.get(place.place):
            row += [_share(control), Number(f"{100 * control.chance:.1f}")]
        rows.append(row)
    return head, rows


def _places(study: ProbeStudy, task: str) -> Iterator[tuple[Figure, dict[str, Figure]]]:
    """For every layer one of its figures, and all of them by domain."""
    for model in study.models:
        by_domain = {d: {f.place.depth: f for f in study.of(model, task, d)} for d in DOMAINS}
        for depth in range(len(study.models[model])):
            own = {d: found[depth] for d, found in by_domain.items() if depth in found}
            if own:
                yield next(iter(own.values())), own


def _ms(study: ProbeStudy, one: Figure) -> int:
    return study.frame_ms[one.place.model][one.place.depth]


def _told(one: Figure) -> Number:
    between = "" if one.low is None or one.high is None else f" ({100 * one.low:.1f}–{100 * one.high:.1f})"
    return Number(f"{100 * one.value:.1f}{between}")


def _share(one: Control) -> Number:
    return Number(f"{100 * one.value:.1f} ± {100 * one.error:.1f}")


def _shift(study: ProbeStudy, asked: Sequence[str]) -> Section:
    """What each layer loses: points of accuracy lost, points of character errors gained."""
    cards = []
    for task in asked:
        out = [d for d in DOMAINS if d != IN and any((f.task, f.domain) == (task, d) for f in study.figures)]
        rows = []
        for one, by_domain in _places(study, task):
            if IN not in by_domain:
                continue
            sign = 1 if task == WORDS else -1
            lost = [
                Number(f"{100 * sign * (by_domain[d].value - by_domain[IN].value):+.1f}") if d in by_domain else None
                for d in out
            ]
            rows.append([bdi(one.place.model), one.place.layer, *lost])
        if rows and out:
            what = "character errors gained" if task == WORDS else "accuracy lost"
            cards.append(figure(task.capitalize(), table(f"Points of {what}", ["model", "layer", *out], rows)))
    intro = el("p", "A probe learns from clean speech in domain; here is what it loses elsewhere. More is worse.")
    return Section("shift", "What is lost under shift", join(intro, cards))


def _likeness(study: ProbeStudy) -> Section:
    """CKA of the first model's layers with everybody's."""
    cards = []
    for one in study.likeness:
        first, second = study.models[one.first], study.models[one.second]
        rows = [[name, *(Number(f"{v:.2f}") for v in row)] for name, row in zip(first, one.values, strict=True)]
        caption = f"rows: {one.first}; columns: {one.second}"
        cards.append(figure(f"{one.first} and {one.second}", table(caption, ["layer", *second], rows)))
    intro = el(
        "p",
        "Linear CKA (arXiv 1905.00414), debiased, on windows of 0.16 s of clean test clips: 1 is alike but for"
        " rotation and scale, 0 is unrelated.",
    )
    return Section("likeness", "How alike the layers are", join(intro, cards))
