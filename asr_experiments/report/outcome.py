"""The report's answer: the experiment in short, rates by arm and group beside the paper's, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr_experiments.arms import UNTRAINED
from asr_experiments.published import CAVEATS, PAPER, TABLES, PublishedTable
from asr_experiments.report import tables
from asr_experiments.report.rates import UNITS, Comparison, Rate, Unit
from asr_experiments.report.results import Results
from asr_experiments.scoring import NORMALISED, RAW, Group
from catalog.page import Html, Number, Section, bdi, el, figure, fold, join, table, tiles, verdict
from catalog.records import RATE

FEW_SPEAKERS = 10
HEADLINES = (
    ("finetune", "zero-shot"),
    ("saliency", "finetune"),
    ("saliency", "specaugment"),
    ("saliency", "specaugment-matched"),
    ("saliency", "random"),
    ("align", "ctc"),
)
"""The questions the experiment was made for."""

SUPERSCRIPTS = "¹²³⁴⁵⁶⁷⁸⁹"
FORMS = {
    RAW: "as written, only spaces made single",
    NORMALISED: "normalised in both reference and hypothesis",
    "normalised, joined": "normalised, with the zero-width non-joiner taken out rather than made a space",
}


def overview(results: Results, comparisons: Sequence[Comparison]) -> Section:
    """What was run, and the main differences in a sentence each."""
    test = results.of("test")
    speakers = {u.speaker for u in test}
    seconds = sum(u.n_samples for u in test) / RATE
    matrix = results.matrix()
    done = sum(bool(cell.scores) for cell in matrix)
    spent = sum(cell.metrics.get("seconds", 0.0) for cell in results.cells)
    numbers = [
        ("arms", f"{len(results.arms)}"),
        ("seeds", f"{len(results.seeds)}"),
        ("cells done", f"{done} of {len(matrix)}"),
        ("minutes in all", f"{spent / 60:,.0f}" if spent >= 600 else f"{spent / 60:.1f}"),
        ("test clips", f"{len(test):,}"),
        ("of test speech", f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"),
        ("test speakers", f"{len(speakers):,}"),
        ("accents tested", f"{len({u.accent for u in test}):,}"),
    ]
    not_done = [
        el("li", f"{cell.arm}, seed {cell.seed}: ", bdi(cell.why or "no test clips"))
        for cell in matrix
        if not cell.scores
    ]
    lost = figure("Cells without a result", el("ul", not_done)) if not_done else None
    form = el("p", "Figures count errors on ", el("strong", f"{results.form} text"), f" ({FORMS[results.form]}).")
    shown = figure("What training did, and what the masks did", _answers(answers(comparisons)))
    return Section("overview", "In short", join(form, tiles(numbers), lost, shown, _how_far(results, len(speakers))))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the experiment says to one question on one group; `better` is None where no difference is shown."""

    question: str
    text: str
    better: bool | None = None


def answers(comparisons: Sequence[Comparison]) -> list[Answer]:
    """An answer to each of HEADLINES for each group of accents."""
    return [
        _answer(one)
        for arm, reference in HEADLINES
        for one in comparisons
        if (one.arm, one.reference) == (arm, reference) and one.group.kind != "accent"
    ]


def _answer(one: Comparison) -> Answer:
    told = one.difference
    question, said = f"{one.arm} against {one.reference}", f"{one.group.name}: {tables.difference_text(one)}"
    if told.p_value is None or told.estimate is None:
        return Answer(question, f"{said}; how sure that is can't be told ({told.why})")
    sure = f"p {_equals(told.p_value)}, P(better) {told.p_better:.2f}"
    if told.p_value >= 0.05:
        return Answer(question, f"{said}, no difference shown ({sure})")
    better = told.estimate < 0
    return Answer(question, f"{said}, {'better' if better else 'worse'} ({sure})", better)


def _answers(found: Sequence[Answer]) -> Html:
    if not found:
        return el(
            "p",
            "Nothing to compare: that takes finished cells of finetune, saliency or align, and of an arm to compare it"
            " with.",
        )
    note = "Word error rate of the first arm less the second's, in points of per cent, paired by speaker and seed."
    parts: list[Html] = [el("p", note, class_="note")]
    for question in dict.fromkeys(one.question for one in found):
        parts.append(el("h4", question))
        own = [one for one in found if one.question == question]
        parts += [el("p", one.text) if one.better is None else verdict(one.better, one.text) for one in own]
    return el("div", parts, class_="answers")


def _equals(p: float) -> str:
    text = tables.probability(p)
    return text if text.startswith("<") else f"= {text}"


def _how_far(results: Results, n_speakers: int) -> Html | None:
    """What the data can't carry."""
    train = {u.speaker for u in results.of("train")}
    heard = sorted({u.speaker for u in results.of("test")} & train)
    found = []
    if n_speakers < FEW_SPEAKERS:
        found.append(
            f"The test has {tables.n_of(n_speakers, 'speaker')}. Intervals by speaker are wide with so few, and say"
            " little of speakers of the same accents who are not here."
        )
    single = sorted(group.name for group in results.groups if group.kind == "accent" and group.n_speakers == 1)
    if single:
        found.append(
            f"One speaker each: {', '.join(single)}. What is theirs and what is the accent's can't be told apart there."
        )
    if heard:
        found.append(
            f"{tables.n_of(len(heard), 'speaker')} of the test {'is' if len(heard) == 1 else 'are'} heard in training"
            f" too ({', '.join(heard[:6])}{' …' if len(heard) > 6 else ''}): what is measured on them is not about new"
            " speakers."
        )
    if len(results.seeds) < 3:
        found.append(f"With {tables.n_of(len(results.seeds), 'seed')} the spread between trainings is hardly known.")
    return figure("How far this carries", el("ul", [el("li", text) for text in found])) if found else None


# ---------------------------------------------------------------- rates


def error_rates(results: Results, rates: Sequence[Rate]) -> Section:
    """Arm × group and arm × accent, in the headline's text form first; the others and the kinds of error folded."""
    intro = el(
        "p",
        "Summed errors over summed reference words or characters, in per cent, the mean over the seeds. Beneath each"
        " its 95 % interval: bootstrap, whole speakers drawn, seeds as the outer level.",
    )
    cards = []
    for unit in UNITS:
        cards.append(_rate_card(results, rates, results.form, unit))
    others = [
        fold(f"{unit} on {form} text", _rate_tables(results, rates, form, unit))
        for form in results.forms
        if form != results.form
        for unit in UNITS
    ]
    below = el("div", *others, fold("Substitutions, deletions, insertions", _kinds(results, rates)), class_="folds")
    more = figure("The same on other text, and the kinds of error", below)
    return Section("rates", "Error rates", join(intro, cards, more))


def _rate_card(results: Results, rates: Sequence[Rate], form: str, unit: Unit) -> Html:
    what = "Word" if unit == "WER" else "Character"
    return figure(f"{what} error rate by arm, {form} text", _rate_tables(results, rates, form, unit))


def _rate_tables(results: Results, rates: Sequence[Rate], form: str, unit: Unit) -> Html:
    found = {(r.arm, r.group.kind, r.group.name): r for r in rates if (r.form, r.unit) == (form, unit)}
    whys: list[str] = []
    parts = []
    for accents in (False, True):
        groups = [group for group in results.groups if (group.kind == "accent") == accents]
        lines = [
            (_arm(results, arm), *(_rate_cell(found[arm, group.kind, group.name], whys) for group in groups))
            for arm in results.arms
        ]
        caption = f"{unit} in per cent, by {'accent' if accents else 'group of accents'}"
        parts.append(table(caption, ("arm", *map(_head, groups)), lines))
    notes = [f"{SUPERSCRIPTS[i]} no interval: {why}." for i, why in enumerate(whys)]
    return join(parts, el("p", " ".join(notes), class_="note") if notes else None)


def _arm(results: Results, arm: str) -> Html:
    """An arm's name, with its seeds where some are lacking."""
    done, wanted = len(results.scored(arm)), 1 if arm == UNTRAINED else len(results.seeds)
    return el("span", arm, el("small", f" {done} of {wanted} seeds") if 0 < done < wanted else None)


def _head(group: Group) -> Html:
    sizes = (tables.n_of(len(group.scores), "clip"), tables.n_of(group.n_speakers, "speaker"))
    return join(bdi(group.name), *(el("small", size) for size in sizes))


def _rate_cell(rate: Rate, whys: list[str]) -> Number:
    told = rate.interval
    if told.estimate is None:
        return Number(el("span", "missing", class_="missing"))
    if told.low is None or told.high is None:
        why = told.why or ""
        if why not in whys:
            whys.append(why)
        return Number(join(tables.percent(told.estimate), el("small", SUPERSCRIPTS[whys.index(why) % 9])))
    between = f"{tables.percent(told.low)}–{tables.percent(told.high)}"
    return Number(join(tables.percent(told.estimate), el("small", between)))


def _kinds(results: Results, rates: Sequence[Rate]) -> Html:
    rows = []
    for rate in rates:
        if (rate.form, rate.unit) == (results.form, "WER") and rate.errors and rate.errors.words:
            n = rate.errors.words
            parts = (rate.errors.substitutions, rate.errors.deletions, rate.errors.insertions)
            rows.append(
                (join(rate.arm, ", ", bdi(rate.group.name)), *(Number(tables.percent(part / n)) for part in parts))
            )
    caption = f"Per cent of the reference words, {results.form} text; Whisper's loops show as insertions"
    return table(caption, ("arm and group", "substituted", "left out", "added"), rows)


# ---------------------------------------------------------------- the paper's


def published(results: Results, rates: Sequence[Rate]) -> Section:
    """The paper's tables with ours in the same cells, and how to read them."""
    language = (results.language or "").lower().split("-")[0]
    near = [one for one in TABLES if one.language == language]
    cards = [figure(one.title, _published(results, rates, one)) for one in near or TABLES[:1]]
    far = [fold(one.title, _published(results, rates, one)) for one in TABLES if one not in (near or TABLES[:1])]
    caveats = el("ul", [el("li", text) for text in CAVEATS])
    read = figure("Read them with care", caveats, folds=far)
    intro = el(
        "p",
        f"WER / CER in per cent as {PAPER} prints them. Beneath, where this experiment has the arm and a like group of"
        " accents, its own: other data, another model, another table.",
    )
    return Section("paper", "Beside the paper", join(intro, cards, read))


def _published(results: Results, rates: Sequence[Rate], one: PublishedTable) -> Html:
    own: dict[tuple[str, str, str], float | None] = {
        (r.arm, r.group.kind, r.unit): r.interval.estimate for r in rates if r.form == results.form
    }
    rows = []
    for row in one.rows:
        cells: list[object] = [join(row.model, el("small", f"here: {row.arm}") if row.arm in results.arms else None)]
        for (wer, cer), kind in zip(row.rates, one.groups, strict=True):
            ours = [own.get((row.arm or "", kind, unit)) for unit in UNITS]
            here = " / ".join(tables.percent(rate) for rate in ours if rate is not None)
            cells.append(Number(join(f"{wer:.1f} / {cer:.1f}", el("small", f"here {here}") if here else None)))
        rows.append(cells)
    columns = [
        "model",
        *(join(name, el("small", f"here: {kind}")) for name, kind in zip(one.columns, one.groups, strict=True)),
    ]
    return table(one.source, columns, rows)
