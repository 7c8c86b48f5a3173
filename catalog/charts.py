"""Small charts as inline SVG: stacked bars, boxes, histograms, lines with intervals.

Each is one image to a screen reader, with a title and a description; give the figures as a table beside it
(`page.table`), which is the text alternative. Colours are classes of the page's style sheet, so a chart follows
light and dark. Values are plain numbers in one unit; `Axis` says how they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from catalog.page import ISOLATE, POP, Html, el

WIDTH = 760
GUTTER = 160  # for the rows' names
ROW, BAR = 34, 22
LETTER = 7.2  # about the width of a letter at 13 px


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a bar chart: its name, one value for each series, and a remark set after the bar."""

    name: str
    values: Sequence[float]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A row of a box chart: quantiles 5, 25, 50, 75 and 95 %, and how many values they stand for."""

    name: str
    quantiles: tuple[float, float, float, float, float]
    n: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line with an interval: points are (x, y, low, high), in order of x."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Dot:
    """A value and the ends of its interval, the value itself where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Dots:
    """A row of a dot chart: its name, a dot or None (nothing known) for each series, and a value to compare with."""

    name: str
    values: Sequence[Dot | None]
    mark: float | None = None


def plain(value: float) -> str:
    """A number in few digits: 1,200, 12.5, 3.5, 0.04."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.2g}"


def percent(value: float) -> str:
    """A share as per cent: under one with a digit after the point."""
    return f"{100 * value:.0f} %" if value >= 0.1 or value == 0 else f"{100 * value:.1f} %"


def legend(series: Sequence[tuple[str, str]]) -> Html:
    """The names of series beside their colours; a series is (name, colour), a colour `c0` to `c7` or `good`."""
    entries = [el("li", el("i", style=f"background:var(--{colour})"), text) for text, colour in series]
    return el("ul", entries, class_="legend")


def bars(
    title: str,
    rows: Sequence[Bar],
    series: Sequence[tuple[str, str]],
    *,
    write: Callable[[float], str] = plain,
    top: float | None = None,
    unit: str = "",
) -> Html:
    """Horizontal bars, stacked where there are several series (name, colour); `top` is the axis' end, else a round
    number over the longest. The legend comes with it where there are several."""
    longest = max((sum(row.values) for row in rows), default=0.0)
    remark = max((len(row.remark) for row in rows), default=0) * LETTER
    room = WIDTH - GUTTER - (remark + 14 if remark else 24)
    ticks = _ticks(0.0, top or longest or 1.0, 5)
    end = top or max(ticks[-1], longest)
    height = ROW * len(rows) + 34
    drawn = [_grid(ticks, end, room, height - 30, write)]
    for i, row in enumerate(rows):
        y = i * ROW + (ROW - BAR) / 2
        drawn.append(_row_name(row.name, i))
        at = float(GUTTER)
        for (what, colour), value in zip(series, row.values, strict=True):
            width = value / end * room
            if width <= 0:
                continue
            says = f"{ISOLATE}{row.name}{POP}, {what}: {write(value)}{unit}"
            gap = 1 if width > 3 else 0
            drawn.append(
                el("rect", el("title", says), x=_n(at), y=_n(y), width=_n(width - gap), height=BAR, rx=2,
                   style=f"fill:var(--{colour})")
            )  # fmt: skip
            text = write(value)
            if len(series) > 1 and width > len(text) * LETTER + 8:
                drawn.append(_text(text, at + width / 2, y + BAR / 2 + 4, "inside", "middle"))
            at += width
        if row.remark:
            drawn.append(_text(row.remark, at + 8, y + BAR / 2 + 4.5, "quiet"))
    told = "; ".join(
        f"{row.name}: " + ", ".join(f"{what} {write(v)}{unit}" for (what, _), v in zip(series, row.values, strict=True))
        for row in rows[:12]
    )
    image = _svg(title, told, WIDTH, height, drawn)
    return Html(f"{legend(series)}{image}") if len(series) > 1 else image


def boxes(title: str, rows: Sequence[Box], *, unit: str, write: Callable[[float], str] = plain) -> Html:
    """Distributions by row, in `unit`: the box holds the middle half, the line in it is the median, the whiskers end
    at the 5th and 95th percentile. The axis begins where the values do."""
    width, gutter = 440, 130
    low = min((row.quantiles[0] for row in rows), default=0.0)
    high = max((row.quantiles[4] for row in rows), default=1.0)
    ticks = _ticks(low, high if high > low else low + 1, 4)
    start, end = min(ticks[0], low), max(ticks[-1], high)
    room, height = width - gutter - 22, 28 * len(rows) + 28

    def x(value: float) -> float:
        return gutter + 4 + (value - start) / (end - start) * room

    drawn = [_ruler(ticks, x, height - 24, write)]
    for i, row in enumerate(rows):
        y = i * 28 + 14
        q5, q25, q50, q75, q95 = map(x, row.quantiles)
        names = ("5 %", "25 %", "median", "75 %", "95 %")
        says = ", ".join(f"{what} {write(value)}" for what, value in zip(names, row.quantiles, strict=True))
        drawn += [
            _row_name(row.name, i, gutter, 28),
            el(
                "g",
                el("title", f"{ISOLATE}{row.name}{POP}: {says} {unit}; {row.n} pieces"),
                el("line", x1=_n(q5), x2=_n(q95), y1=y, y2=y, class_="edge"),
                el("rect", x=_n(q25), y=y - 7, width=_n(max(1.5, q75 - q25)), height=14, rx=3, style="fill:var(--c0)"),
                el("line", x1=_n(q50), x2=_n(q50), y1=y - 10, y2=y + 10, class_="median"),
            ),
        ]
    told = "; ".join(f"{row.name}: median {write(row.quantiles[2])} {unit}, {row.n} pieces" for row in rows[:12])
    return _svg(title, told, width, height, drawn, "chart small")


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], *, unit: str) -> Html:
    """How many values lie in each bin; `edges` has one more than `counts`, evenly spaced."""
    width, height, gutter = 440, 190, 44
    room, depth = width - gutter - 16, height - 40
    ticks = _ticks(0, max(counts, default=0) or 1, 3)
    top = max(ticks[-1], *counts) if counts else ticks[-1]
    step = room / max(1, len(counts))
    drawn = []
    for tick in ticks:
        y = 8 + depth * (1 - tick / top)
        drawn += [el("line", x1=gutter, x2=width - 16, y1=_n(y), y2=_n(y), class_="rule")]
        drawn += [_text(plain(tick), gutter - 6, y + 4, "quiet", "end")]
    for i, count in enumerate(counts):
        size = depth * count / top
        says = f"{plain(edges[i])} to {plain(edges[i + 1])} {unit}: {count}"
        drawn.append(
            el("rect", el("title", says), x=_n(gutter + i * step), y=_n(8 + depth - size), width=_n(max(1, step - 1)),
               height=_n(size), style="fill:var(--c0)")
        )  # fmt: skip
    for tick in _ticks(edges[0], edges[-1], 4) if counts else []:
        if edges[0] <= tick <= edges[-1]:
            at = gutter + (tick - edges[0]) / (edges[-1] - edges[0]) * room
            drawn.append(_text(plain(tick), at, height - 16, "quiet", "middle"))
    drawn.append(_text(unit, width - 4, height - 2, "quiet", "end"))
    told = f"{sum(counts)} values from {plain(edges[0])} to {plain(edges[-1])} {unit}" if counts else "no values"
    return _svg(title, told, width, height, drawn, "chart small")


def dots(
    title: str,
    rows: Sequence[Dots],
    series: Sequence[tuple[str, str]],
    *,
    mark: str = "",
    write: Callable[[float], str] = plain,
    unit: str = "",
) -> Html:
    """Values of several series (name, colour) by row, each on a line of its own with its interval; the legend comes
    with it. `mark` says what the upright stroke across a row stands for. The axis begins where the values do."""
    known = [dot for row in rows for dot in row.values if dot]
    marks = [row.mark for row in rows if row.mark is not None]
    if not known and not marks:
        return _svg(title, "no values", WIDTH, 40, [_text("no values", 10, 24, "quiet")])
    ticks = _ticks(min([*marks, *(d.low for d in known)]), max([*marks, *(d.high for d in known)]), 6)
    start, end = ticks[0], ticks[-1]
    step = 13
    depth = max(ROW, step * len(series) + 12)
    height, room = depth * len(rows) + 40, WIDTH - GUTTER - 30

    def x(value: float) -> float:
        return GUTTER + (value - start) / (end - start) * room

    drawn = [_ruler(ticks, x, height - 36, write), _text(unit, WIDTH - 4, height - 4, "quiet", "end")]
    for i, row in enumerate(rows):
        top = i * depth
        if i:
            drawn.append(el("line", x1=0, x2=WIDTH, y1=top, y2=top, class_="rule"))
        drawn.append(_row_name(row.name, i, row=depth))
        if row.mark is not None:
            says = el("title", f"{ISOLATE}{row.name}{POP}, {mark}: {write(row.mark)} {unit}")
            at = _n(x(row.mark))
            drawn.append(el("line", says, x1=at, x2=at, y1=top + 4, y2=top + depth - 4, class_="median"))
        for j, ((what, colour), dot) in enumerate(zip(series, row.values, strict=True)):
            if dot is None:
                continue
            y = _n(top + depth / 2 + (j - (len(series) - 1) / 2) * step)
            interval = f" ({write(dot.low)} to {write(dot.high)})" if dot.low < dot.high else ""
            drawn.append(
                el(
                    "g",
                    el("title", f"{ISOLATE}{row.name}{POP}, {what}: {write(dot.value)}{interval} {unit}"),
                    el("line", x1=_n(x(dot.low)), x2=_n(x(dot.high)), y1=y, y2=y, stroke_width=3, opacity=0.55),
                    el("circle", cx=_n(x(dot.value)), cy=y, r=4.5),
                    style=f"stroke:var(--{colour});fill:var(--{colour})",
                )
            )
    told = "; ".join(
        f"{row.name}: "
        + ", ".join(
            f"{what} {write(dot.value) if dot else 'missing'}"
            for (what, _), dot in zip(series, row.values, strict=True)
        )
        for row in rows[:12]
    )
    image = _svg(title, f"{told} {unit}", WIDTH, height, drawn)
    stroke = el("li", el("i", class_="stroke"), mark) if mark and marks else None
    keys = [el("li", el("i", style=f"background:var(--{colour})"), text) for text, colour in series]
    return Html(f"{el('ul', stroke, keys, class_='legend') if stroke or len(series) > 1 else ''}{image}")


def lines(
    title: str, series: Sequence[Line], *, x_unit: str, y_unit: str, write: Callable[[float], str] = plain
) -> Html:
    """Lines with their intervals as bands, a mark at each point; the legend comes with it."""
    points = [point for line in series for point in line.points]
    if not points:
        return _svg(title, "no values", WIDTH, 40, [_text("no values", 10, 24, "quiet")])
    xs = [point[0] for point in points]
    height, gutter = 300, 64
    room, depth = WIDTH - gutter - 20, height - 52
    left, right = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    ticks = _ticks(min(point[2] for point in points), max(point[3] for point in points), 5)
    low, high = ticks[0], ticks[-1]

    def at(x: float, y: float) -> str:
        return f"{_n(gutter + (x - left) / (right - left) * room)},{_n(12 + depth * (1 - (y - low) / (high - low)))}"

    drawn = []
    for tick in ticks:
        y = 12 + depth * (1 - (tick - low) / (high - low))
        drawn.append(el("line", x1=gutter, x2=WIDTH - 20, y1=_n(y), y2=_n(y), class_="rule"))
        drawn.append(_text(write(tick), gutter - 8, y + 4, "quiet", "end"))
    for tick in sorted(set(xs)) if len(set(xs)) <= 8 else _ticks(left, right, 6):
        if left <= tick <= right:
            drawn.append(
                _text(plain(tick), gutter + (tick - left) / (right - left) * room, height - 22, "quiet", "middle")
            )
    drawn.append(_text(x_unit, WIDTH - 4, height - 4, "quiet", "end"))
    drawn.append(_text(y_unit, 4, height - 4, "quiet"))
    colours = [(line.name, f"c{i % 8}") for i, line in enumerate(series)]
    for line, (_, colour) in zip(series, colours, strict=True):
        band = [at(x, hi) for x, _, _, hi in line.points] + [at(x, lo) for x, _, lo, _ in reversed(line.points)]
        drawn.append(el("polygon", points=" ".join(band), style=f"fill:var(--{colour});opacity:.16"))
        path = " ".join(at(x, y) for x, y, _, _ in line.points)
        drawn.append(el("polyline", points=path, style=f"fill:none;stroke:var(--{colour});stroke-width:2"))
        for x, y, lo, hi in line.points:
            cx, cy = at(x, y).split(",")
            says = f"{line.name}, {plain(x)} {x_unit}: {write(y)} ({write(lo)} to {write(hi)}) {y_unit}"
            drawn.append(el("circle", el("title", says), cx=cx, cy=cy, r=3.5, style=f"fill:var(--{colour})"))
    told = "; ".join(f"{line.name}: {write(line.points[-1][1])} {y_unit} at the end" for line in series if line.points)
    return Html(f"{legend(colours)}{_svg(title, told, WIDTH, height, drawn)}")


def _svg(title: str, desc: str, width: int, height: int, content: Sequence[Html], css: str = "chart") -> Html:
    image = el(
        "svg",
        el("title", title),
        el("desc", desc),
        content,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{title}. {desc}",
        class_=css,
    )
    return el("div", image, class_="wide")


def _grid(ticks: Sequence[float], end: float, room: float, height: float, write: Callable[[float], str]) -> Html:
    return _ruler([tick for tick in ticks if tick <= end], lambda value: GUTTER + value / end * room, height, write)


def _ruler(ticks: Sequence[float], x: Callable[[float], float], height: float, write: Callable[[float], str]) -> Html:
    drawn = []
    for tick in ticks:
        drawn.append(el("line", x1=_n(x(tick)), x2=_n(x(tick)), y1=0, y2=_n(height), class_="rule"))
        drawn.append(_text(write(tick), x(tick), height + 16, "quiet", "middle"))
    return el("g", drawn)


def _row_name(text: str, i: int, gutter: int = GUTTER, row: int = ROW) -> Html:
    """A row's name at its left, cut where it is too long, whole when pointed at."""
    fits = int((gutter - 12) / LETTER)
    short = text if len(text) <= fits else f"{text[: fits - 1]}…"
    y = i * row + row / 2 + 4.5
    label = f"{ISOLATE}{short}{POP}"
    return el("text", el("title", text), label, x=gutter - 10, y=_n(y), text_anchor="end")


def _text(text: str, x: float, y: float, css: str | None = None, anchor: str | None = None) -> Html:
    return el("text", text, x=_n(x), y=_n(y), class_=css, text_anchor=anchor)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about so many."""
    span = high - low if high > low else abs(high) or 1.0
    rough = span / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
