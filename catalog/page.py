"""Pages to look at: one HTML file that works offline, by keyboard and screen reader, light and dark, in any script.

    page("A corpus", [Section("hours", "Hours", figure("Hours by accent", bars, sql="SELECT …"))])

Text is escaped by construction: what is not `Html` is text. A page can't reach the network (its content security
policy forbids it) and runs no script but the ones that came with it, which the policy names by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

VOID = frozenset(("br", "hr", "input", "meta", "link", "img"))
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; media-src data:; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)
ISOLATE, POP = "\u2068", "\u2069"
"""Around a name inside other text, where no element can be: its direction is its own (Unicode's FSI and PDI)."""


class Html(str):
    """Markup: a string that is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with its entry in the table of contents."""

    name: str  # the fragment: letters and hyphens
    title: str
    content: Html


def el(tag: str, *children: object, **attributes: object) -> Html:
    """An element. Children are `Html`, text or numbers (escaped), sequences of these, or None, which is nothing.

    An attribute's name loses a trailing underscore, and others become hyphens (`class_`, `aria_label`); True gives
    it no value, None and False leave it out.
    """
    names = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{names}>" if tag in VOID else f"<{tag}{names}>{join(*children)}</{tag}>")


def join(*children: object) -> Html:
    """Children as `el` takes them, one after the other."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(str(child))
        elif isinstance(child, (list, tuple)):
            parts.append(join(*child))
        elif child is not None:
            parts.append(escape(str(child)))
    return Html("".join(parts))


def bdi(text: str | None, otherwise: str = "(none)") -> Html:
    """A name or title from outside, in the direction of its own script."""
    return el("bdi", text) if text else Html(escape(otherwise))


def quote(text: str, lang: str | None = None) -> Html:
    """A passage from outside as a paragraph that begins at its own script's side."""
    return el("p", text, class_="quote", dir="auto", lang=lang)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """An accessible table: a caption, column heads, the first cell of each row its head; numbers to the right.

    A cell is `Html`, text, a number (shown as it is: round it first) or None, an empty cell. It scrolls sideways
    by itself where it is too wide for the page.
    """
    body = [list(row) for row in rows]
    kinds = [any(isinstance(row[i], (int, float, Number)) for row in body) for i in range(len(columns))]
    css = ["n" if number else None for number in kinds]
    head = el("thead", el("tr", [el("th", title, scope="col", class_=css[i]) for i, title in enumerate(columns)]))
    lines = []
    for first, *rest in body:
        cells = [el("td", cell, class_=kind) for cell, kind in zip(rest, css[1:], strict=True)]
        lines.append(el("tr", el("th", first, scope="row", class_=css[0]), cells))
    whole = el("table", el("caption", caption), head, el("tbody", lines))
    return el("div", whole, class_="wide", tabindex=0, role="region", aria_label=caption)


class Number(Html):
    """A number with its unit or sign, set to the right in tables."""

    __slots__ = ()


def fold(summary: str, *content: object, class_: str | None = None) -> Html:
    """Content behind a summary that opens it."""
    return el("details", el("summary", summary), *content, class_=class_)


def sql(statement: str, parameters: Sequence[object] = (), what: str = "") -> Html:
    """The query behind a figure, as it ran; `parameters` are the values of its question marks, `what` it asks for."""
    values = [el("p", "with ? = ", el("code", _short(repr(value))), class_="note") for value in parameters]
    return fold(
        f"SQL: {what}" if what else "SQL", el("pre", el("code", statement.strip()), tabindex=0), *values, class_="sql"
    )


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:280]} … ({len(text)} characters)"


def figure(title: str, *content: object, note: str | None = None, folds: Sequence[Html] = ()) -> Html:
    """A card with a heading, a chart or table, a line on how to read it, and what is folded away beneath."""
    below = el("div", *folds, class_="folds") if folds else None
    return el("div", el("h3", title), el("p", note, class_="note") if note else None, *content, below, class_="card")


def tiles(numbers: Sequence[tuple[str, str]]) -> Html:
    """The few numbers that matter: (what, value) pairs."""
    return el("dl", [el("div", el("dt", what), el("dd", value)) for what, value in numbers], class_="tiles")


def verdict(good: bool, text: str) -> Html:
    """The outcome of a check; the sign says it without the colour."""
    sign = el("span", "✓" if good else "✗", aria_hidden="true")
    return el("p", sign, el("span", text), class_="verdict good" if good else "verdict bad")


def data_uri(sound: bytes, kind: str = "audio/mpeg") -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(sound).decode()}"


def player(label: str, sound: bytes, kind: str = "audio/mpeg", **attributes: object) -> Html:
    """The browser's own player, which the keyboard works; `label` is what a screen reader says."""
    source = data_uri(sound, kind)
    return el("audio", controls=True, preload="metadata", aria_label=label, src=source, **attributes)


def page(
    title: str, sections: Sequence[Section], *, intro: Html, foot: Html, css: Sequence[str] = (), js: Sequence[str] = ()
) -> str:
    """A whole page: heading, contents, sections, foot. `css` and `js` are added to the kit's own.

    The scripts are this program's, never text from outside; `css` likewise.
    """
    kit = files("catalog")
    scripts = [kit.joinpath("page.js").read_text("utf-8"), *js]
    styles = [kit.joinpath("page.css").read_text("utf-8"), *css]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = POLICY.format(scripts=" ".join(f"'sha256-{value}'" for value in hashes))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        [el("style", Html(style)) for style in styles],
    )
    contents = [el("li", el("a", section.title, href=f"#{section.name}")) for section in sections]
    theme = el("button", "Dark", type="button", class_="theme", aria_pressed="false", hidden=True)
    body = el(
        "body",
        el("a", "Skip to the figures", href="#figures", class_="skip"),
        el(
            "div",
            el("header", el("div", el("h1", title, dir="auto"), el("p", intro)), theme, class_="top"),
            el("nav", el("ol", contents), class_="contents", aria_label="Contents"),
            el("main", [_section(section) for section in sections], id="figures", tabindex=-1),
            el("footer", foot),
            class_="layout",
        ),
        [el("script", Html(script)) for script in scripts],
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en', dir='ltr')}\n"


def _section(section: Section) -> Html:
    heading = f"{section.name}-title"
    return el("section", el("h2", section.title, id=heading), section.content, id=section.name, aria_labelledby=heading)
