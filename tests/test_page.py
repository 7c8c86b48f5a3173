"""The kit of the HTML pages: nothing from outside becomes markup, and a chart draws the figures it was given."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import charts
from catalog.charts import Bar, Box, Line, bars, boxes, histogram, lines, percent, plain
from catalog.page import Html, Number, Section, el, figure, join, page, player, quote, sql, table

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"))


class Read(HTMLParser):
    """Elements and texts as a browser reads them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(TEXT, TEXT)
def test_text_stays_text_and_attributes_attributes(text: str, value: str) -> None:
    read = Read(el("p", text, title=value))
    assert read.tags == [("p", {"title": value})]
    assert read.text == text


@given(st.lists(TEXT, min_size=1, max_size=4), TEXT)
def test_a_table_of_hostile_cells_is_a_table(cells: list[str], caption: str) -> None:
    read = Read(table(caption, [f"c{i}" for i in range(len(cells))], [cells]))
    assert [tag for tag, _ in read.tags].count("td") == len(cells) - 1
    assert {tag for tag, _ in read.tags} <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_what_el_leaves_out_and_how_it_writes_names() -> None:
    assert el("audio", controls=True, hidden=False, src=None, class_="a", aria_label="b") == (
        '<audio controls class="a" aria-label="b"></audio>'
    )
    assert el("br") == "<br>"
    assert join("<", Html("<b>"), [1, None, ("x",)]) == "&lt;<b>1x"
    assert quote("سلام", "fa") == '<p class="quote" dir="auto" lang="fa">سلام</p>'


def test_numbers_stand_to_the_right_with_their_heads() -> None:
    found = table("t", ("who", "n", "how much"), [("a", 1, Number("2 %")), ("b", None, Number("3 %"))])
    assert '<th scope="col" class="n">n</th>' in found
    assert found.count('<td class="n">') == 4
    assert '<th scope="row">a</th>' in found


def test_the_policy_names_every_script_of_the_page() -> None:
    text = page("a < b", [Section("one", "One", figure("f"))], intro=Html(""), foot=Html(""), js=["let a = '<';"])
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert set(re.findall(r"'sha256-([^']+)'", unescape(policy[1]))) == hashes
    assert len(hashes) == 2
    assert "<title>a &lt; b</title>" in text
    assert '<a href="#one">One</a>' in text
    assert 'id="one" aria-labelledby="one-title"' in text


def test_a_player_holds_its_sound() -> None:
    found = Read(player('a "clip"', b"\xff\xfb"))
    assert found.tags[0][1]["src"] == "data:audio/mpeg;base64,//s="
    assert found.tags[0][1]["aria-label"] == 'a "clip"'


def test_sql_is_shown_with_its_values_and_long_ones_are_cut() -> None:
    shown = unescape(sql("\nSELECT 1 < ?\n", ["x" * 1000]))
    assert "<code>SELECT 1 < ?</code>" in shown
    assert "… (1002 characters)" in shown


def rects(svg: str) -> list[tuple[float, float]]:
    """(x, width) of every bar."""
    return [(float(x), float(width)) for x, width in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5).filter(lambda values: sum(values) > 1e-3))
def test_stacked_bars_are_as_long_as_their_values(values: list[float]) -> None:
    series = [(f"s{i}", f"c{i}") for i in range(len(values))]
    drawn = bars("t", [Bar("row", values)], series)
    whole = re.sub(r"<title>.*?</title>", "", drawn)
    found = rects(whole)
    room = charts.WIDTH - charts.GUTTER - 24
    assert all(x >= charts.GUTTER and x + width <= charts.GUTTER + room + 0.2 for x, width in found)
    ends = [x for x, _ in found]
    assert ends == sorted(ends)
    first, *_ = [value for value in values if value / sum(values) > 1e-3]
    assert drawn.count("<li>") == (len(values) if len(values) > 1 else 0)
    assert f"{plain(first)}" in drawn


def test_a_bar_half_as_long_is_half_the_value() -> None:
    (_, long), (_, short) = rects(
        re.sub(r"<title>.*?</title>", "", bars("t", [Bar("a", [8]), Bar("b", [4])], [("s", "c0")]))
    )
    assert (long + 1) / (short + 1) == pytest.approx(2, rel=0.01)


def test_names_in_charts_are_isolated_and_cut() -> None:
    drawn = bars("t", [Bar("<گویش>" + "x" * 40, [1])], [("s", "c0")])
    assert "\u2068&lt;گویش&gt;xxx" in drawn
    assert "…\u2069" in drawn
    assert "<title>&lt;گویش&gt;" + "x" * 40 in drawn
    assert "<گویش>" not in drawn


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.integers(2, 8),
)
def test_ticks_are_round_and_cover_the_values(low: float, span: float, about: int) -> None:
    ticks = charts._ticks(low, low + span, about)
    assert ticks[0] <= low + 1e-6 * span
    assert ticks[-1] >= low + span * (1 - 1e-6)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 2 * about + 3


def test_boxes_histogram_and_lines_say_what_they_show() -> None:
    box = boxes("DNSMOS", [Box("Yazdi", (1, 2, 3, 4, 5), 17)], unit="1 to 5")
    assert 'role="img"' in box
    assert "<desc>Yazdi: median 3 1 to 5, 17 pieces</desc>" in box
    counts = histogram("lengths", [0, 1, 2, 3], [1, 4, 2], unit="s")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" style', counts)]
    assert heights[1] == max(heights)
    assert heights[1] / heights[0] == pytest.approx(4, rel=0.01)
    assert "<title>1 to 2 s: 4</title>" in counts
    line = lines("loss", [Line("a", [(1, 2, 1, 3), (2, 1, 0, 2)])], x_unit="epoch", y_unit="loss")
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)"', line)]
    assert ys[0] < ys[1]  # the larger value stands higher
    assert "<polygon" in line
    assert "a: 1 loss at the end" in line
    assert "no values" in lines("loss", [], x_unit="epoch", y_unit="loss")
    for empty in (bars("t", [], [("s", "c0")]), boxes("t", [], unit="s"), histogram("t", [0, 1], [], unit="s")):
        assert "</svg>" in empty


def test_numbers_are_written_in_few_digits() -> None:
    assert [plain(value) for value in (0, 0.041, 3.5, 12.5, 12.0, 1234.5)] == [
        "0",
        "0.041",
        "3.5",
        "12.5",
        "12",
        "1,234",
    ]
    assert [percent(value) for value in (0, 0.004, 0.5, 1)] == ["0 %", "0.4 %", "50 %", "100 %"]
