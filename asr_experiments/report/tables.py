"""The report's tables as data: long ones for CSV, and ones to read, for LaTeX and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from asr_experiments.report.rates import Comparison, Rate, Unit
from asr_experiments.report.results import CellResult, Results
from asr_experiments.scoring import Group

Value = str | int | float | None

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--", "\u2009": r"\,",
    }
)  # fmt: skip


MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "*": r"\*", "`": r"\`"})


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to read: every cell a text, the first column the rows' names."""

    name: str  # of its file
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


# ---------------------------------------------------------------- to read


def rate_grid(results: Results, rates: Sequence[Rate], form: str, unit: Unit, accents: bool) -> Grid:
    """Arm × group in per cent with 95 % intervals: the groups of accents, or each accent by itself."""
    groups = [group for group in results.groups if (group.kind == "accent") == accents]
    found = {
        (rate.arm, rate.group.kind, rate.group.name): rate for rate in rates if (rate.form, rate.unit) == (form, unit)
    }
    rows = tuple((arm, *(rate_text(found[arm, group.kind, group.name]) for group in groups)) for arm in results.arms)
    of = "accent" if accents else "group"
    name = f"{unit.lower()}-by-{of}" + ("" if form == results.form else f"-{form.replace(', ', '-')}")
    caption = f"{unit} in per cent by arm and {of}, {form} text, with 95 % intervals by bootstrap over speakers"
    return Grid(name, caption, ("arm", *(heading(group) for group in groups)), rows)


def heading(group: Group) -> str:
    """A group's name with its clips and speakers."""
    return f"{group.name} ({n_of(len(group.scores), 'clip')}, {n_of(group.n_speakers, 'speaker')})"


def rate_text(rate: Rate) -> str:
    """44.2 (38.1–50.3), the rate alone where there is no interval, or missing."""
    told = rate.interval
    if told.estimate is None:
        return "missing"
    return percent(told.estimate) + interval_text(told.low, told.high)


def comparison_grid(comparisons: Sequence[Comparison], reference: str, form: str) -> Grid:
    """Every arm less one reference: difference, interval, P(better), p, Holm's p and MAPSSWE."""
    columns = ("arm", "on", "difference, points (95 %)", "P(better)", "p", "p by Holm", "MAPSSWE: Z (p), seed by seed")
    rows = tuple(
        (one.arm, one.group.name, difference_text(one), *difference_tests(one), mapsswe_text(one))
        for one in comparisons
        if one.reference == reference
    )
    caption = f"WER of each arm less that of {reference}, {form} text: below 0 the arm is better"
    return Grid(f"against-{reference}", caption, columns, rows)


def difference_text(one: Comparison) -> str:
    """−1.3 (−3.0 to 0.4), in points of per cent."""
    told = one.difference
    if told.estimate is None:
        return "missing"
    between = "" if told.low is None or told.high is None else f" ({points(told.low)} to {points(told.high)})"
    return points(told.estimate) + between


def difference_tests(one: Comparison) -> tuple[str, str, str]:
    """P(better), p, and Holm's p, which only single accents have."""
    told = one.difference
    return (
        "–" if told.p_better is None else f"{told.p_better:.2f}",
        probability(told.p_value),
        probability(one.holm) if one.group.kind == "accent" else "",
    )


def mapsswe_text(one: Comparison) -> str:
    """−2.1 (0.04), for each seed."""
    return "; ".join(
        "–" if test.z is None or test.p_value is None else f"{signed(test.z, 2)} ({probability(test.p_value)})"
        for test in one.mapsswe
    )


def cell_grid(results: Results) -> Grid:
    """The cells with what they cost, or why they are missing."""
    columns = ("cell", "state", "minutes", "of training", "peak memory, GB", "updates", "parameters trained", "remarks")
    return Grid("cells", "Cells: arm and seed", columns, tuple(_cell_row(cell) for cell in results.matrix()))


def _cell_row(cell: CellResult) -> tuple[str, ...]:
    said = cell.metrics
    memory = said.get("peak_memory_bytes")
    return (
        f"{cell.arm}, seed {cell.seed}",
        "done" if cell.scores else cell.why or "no test clips",
        minutes(said.get("seconds")),
        minutes(said.get("seconds_training")),
        "–" if memory is None else f"{memory / 1e9:.2f}",
        _count(said.get("n_updates")),
        _count(said.get("n_trained")),
        remarks(cell),
    )


def remarks(cell: CellResult) -> str:
    """What of a cell was not as planned: clips left out, batches halved, an interruption."""
    said, config = cell.metrics, cell.run.config if cell.run else {}
    found = [f"{n_of(n, 'clip')} left out: {why}" for why, n in (said.get("left_out") or {}).items()]
    batch = (config.get("training") or {}).get("batch_size")
    if batch and said.get("micro_batch", batch) < batch:
        found.append(f"memory was short: {said['micro_batch']} clips at once, updates unchanged")
    if said.get("resumed_from"):
        found.append(f"went on after epoch {said['resumed_from']}")
    if config.get("device") not in (None, "cpu"):
        found.append(f"on {config['device']}")
    return "; ".join(found)


def share_grid(results: Results) -> Grid:
    """Share of the changed copies' pixels that was masked: per arm and epoch, the mean over the seeds."""
    by_arm = {arm: _shares(results, arm) for arm in results.arms if arm != "zero-shot"}
    n = max((len(shares) for shares in by_arm.values()), default=0)
    rows = tuple(
        (arm, *(percent(share) for share in shares), *("–" for _ in range(n - len(shares))))
        for arm, shares in by_arm.items()
    )
    caption = "Per cent of the valid pixels masked in the changed copies, by epoch, mean over the seeds"
    return Grid("share-masked", caption, ("arm", *(f"epoch {i + 1}" for i in range(n))), rows)


def _shares(results: Results, arm: str) -> list[float]:
    curves = [cell.metrics.get("epochs") or [] for cell in results.cells if cell.arm == arm and cell.scores]
    n = min((len(curve) for curve in curves), default=0)
    return [sum(curve[i]["share_masked"] for curve in curves) / len(curves) for i in range(n)]


# ---------------------------------------------------------------- as they are written


def latex(grid: Grid) -> str:
    """A `tabular` with its caption in a comment; needs the package booktabs."""
    align = "l" + "r" * (len(grid.columns) - 1)
    lines = [" & ".join(cell.translate(LATEX) for cell in row) + r" \\" for row in grid.rows]
    head = " & ".join(column.translate(LATEX) for column in grid.columns) + r" \\"
    top = [f"% {grid.caption}", rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{tabular}", ""])


def markdown(grid: Grid) -> str:
    """A table of pipes under its caption."""
    lines = ["| " + " | ".join(cell.translate(MARKDOWN) for cell in row) + " |" for row in (grid.columns, *grid.rows)]
    rule = "|" + "---|" * len(grid.columns)
    return "\n".join([f"{grid.caption}:", "", lines[0], rule, *lines[1:], ""])


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    """CSV with a header; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def rates_csv(rates: Sequence[Rate]) -> str:
    """Rates as shares, one line for each arm, group, text form and unit; errors are summed over the seeds."""
    columns = (
        "arm", "group_kind", "group", "accents", "text", "unit", "rate", "low", "high", "no_interval", "n_clips",
        "n_speakers", "n_seeds", "substitutions", "deletions", "insertions", "words", "char_errors", "characters",
    )  # fmt: skip
    rows: list[Sequence[Value]] = []
    for rate in rates:
        told, errors = rate.interval, rate.errors
        counts: tuple[Value, ...] = (None,) * 6
        if errors:
            counts = (errors.substitutions, errors.deletions, errors.insertions, errors.words)
            counts += (errors.char_errors, errors.characters)
        rows.append(
            (
                rate.arm, rate.group.kind, rate.group.name, "; ".join(rate.group.accents), rate.form, rate.unit,
                told.estimate, told.low, told.high, told.why, len(rate.group.scores), told.n_speakers, told.n_seeds,
                *counts,
            )
        )  # fmt: skip
    return csv_text(columns, rows)


def comparisons_csv(comparisons: Sequence[Comparison]) -> str:
    """Differences as shares, one line for each arm, reference and group."""
    columns = (
        "arm", "reference", "group_kind", "group", "difference", "low", "high", "p_better", "p_value", "p_holm",
        "no_interval", "n_speakers", "seeds",
    )  # fmt: skip
    return csv_text(
        columns,
        [
            (
                one.arm, one.reference, one.group.kind, one.group.name, one.difference.estimate, one.difference.low,
                one.difference.high, one.difference.p_better, one.difference.p_value, one.holm, one.difference.why,
                one.difference.n_speakers, "; ".join(map(str, one.seeds)),
            )
            for one in comparisons
        ],
    )  # fmt: skip


def mapsswe_csv(comparisons: Sequence[Comparison]) -> str:
    """MAPSSWE, one line for each arm, reference, group and seed; `mean` is errors of the arm less the reference's."""
    columns = (
        "arm", "reference", "group_kind", "group", "seed", "n_segments", "errors", "reference_errors", "mean",
        "std_dev", "z", "p_value", "no_test",
    )  # fmt: skip
    return csv_text(
        columns,
        [
            (
                one.arm, one.reference, one.group.kind, one.group.name, seed, test.n_segments, *test.errors, test.mean,
                test.std_dev, test.z, test.p_value, test.why,
            )
            for one in comparisons
            for seed, test in zip(one.seeds, one.mapsswe, strict=True)
        ],
    )  # fmt: skip


def curves_csv(results: Results) -> str:
    """Learning curves: one line for each cell and epoch."""
    names = ("loss", "dev_loss", "dev_wer", "share_masked", "seconds")
    return csv_text(
        ("arm", "seed", "epoch", *names),
        [
            (cell.arm, cell.seed, number + 1, *(row.get(name) for name in names))
            for cell in results.matrix()
            for number, row in enumerate(cell.metrics.get("epochs") or [])
        ],
    )


def cells_csv(results: Results) -> str:
    """Cells with what they cost; the state of one that failed or is missing says why."""
    names = (
        "seconds",
        "seconds_training",
        "peak_memory_bytes",
        "n_updates",
        "n_trained",
        "micro_batch",
        "resumed_from",
    )
    return csv_text(
        ("arm", "seed", "state", *names, "device"),
        [
            (
                cell.arm,
                cell.seed,
                "done" if cell.scores else cell.why,
                *(cell.metrics.get(name) for name in names),
                cell.run.config.get("device") if cell.run else None,
            )
            for cell in results.matrix()
        ],
    )


# ---------------------------------------------------------------- figures as text


def percent(share: float) -> str:
    """A share in per cent, one digit after the point."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of shares in points of per cent, with its sign."""
    return signed(100 * share, 1)


def signed(value: float, digits: int) -> str:
    """A number with its sign; −0.0 is 0.0."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) < 0 else f"+{text}" if float(text) > 0 else text.removeprefix("-")


def interval_text(low: float | None, high: float | None) -> str:
    """An interval of rates in brackets; nothing where there is none."""
    return "" if low is None or high is None else f" ({percent(low)}–{percent(high)})"


def probability(p: float | None) -> str:
    """A p-value: 0.04, 0.003, < 0.001."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f}"


def n_of(n: int, what: str) -> str:
    """1 clip, 2 clips."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _count(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"
