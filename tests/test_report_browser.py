"""The report in a real headless Chromium: it complains of nothing, asks for nothing, and hands and ears suffice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus_builder.report import build
from tests.browser import NO_BROWSER, Browser, find_browser, start_browser

# Luminance and contrast by WCAG 2.2; what a text stands on is the nearest background that is not see-through.
CONTRAST = """
(() => {
  const rgb = (css) => css.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const ground = (node) => {
    for (let e = node; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let n = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const hidden = ["SCRIPT", "STYLE", "title", "desc"].includes(node.tagName) || node.closest(".inside");
    if (!walker.currentNode.data.trim() || hidden) continue;
    const style = getComputedStyle(node);
    const value = ratio(rgb(node instanceof SVGElement ? style.fill : style.color), ground(node));
    n += 1;
    if (value < 4.5) faint.push(`${value.toFixed(2)} ${node.tagName} ${node.textContent.slice(0, 40)}`);
  }
  const probe = document.body.appendChild(document.createElement("span"));
  const named = (name) => { probe.style.color = `var(--${name})`; return rgb(getComputedStyle(probe).color); };
  for (const name of ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "good"]) {
    const inside = ratio(named("on-mark"), named(name)), edge = ratio(named("card"), named(name));
    if (inside < 4.5 || edge < 3) faint.push(`${name}: ${inside.toFixed(2)}, ${edge.toFixed(2)}`);
  }
  probe.remove();
  return {faint, n};
})()
"""
STOPS = """
[...document.querySelectorAll("a[href], button, input, summary, audio, [tabindex]")]
  .filter((e) => e.tabIndex >= 0 && e.checkVisibility() && !e.closest("details:not([open]) > :not(summary)"))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium. There is none to download: Debian's, where it is installed."""
    program = find_browser()
    if program is None:
        pytest.skip(NO_BROWSER)
    with start_browser(program, tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(browser: Browser, told: Path) -> Browser:
    """The browser with the report of `told` just opened."""
    browser.prefer("light")
    browser.size(1280, 900)
    browser.open(told / build.NAME)
    return browser


def test_no_complaint_and_no_request(page: Browser, told: Path) -> None:
    address = (told / build.NAME).absolute().as_uri()
    for _ in range(2):
        page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))")
    assert page.complaints() == []
    assert {request for request in page.requests() if not request.startswith("data:")} == {address}


def test_the_policy_keeps_scripts_and_the_network_out(page: Browser) -> None:
    assert page.run("fetch('https://example.org/').then(() => 'reached', () => 'refused')") == "refused"
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    page.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.hit = 2'; document.body.append(s); }"
    )
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert page.run("window.hit") is None
    assert any("Content Security Policy" in said for said in page.complaints())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    page.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
    found = page.run(CONTRAST)
    assert found["faint"] == []
    assert found["n"] > 500
    dark = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"
    assert dark == (scheme == "dark")


def test_the_toggle_turns_the_system_s_choice_round(page: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    pressed = "document.querySelector('.theme').getAttribute('aria-pressed')"
    page.prefer("dark")
    assert wait(page, f"{pressed} === 'true'")
    dark = page.run(ground)
    page.run("document.querySelector('.theme').focus()")
    page.press("Enter")
    assert page.run(pressed) == "false"
    light = page.run(ground)
    assert light != dark
    page.press("Enter")
    assert page.run(ground) == dark


def test_tab_reaches_everything_in_the_order_of_the_page(page: Browser) -> None:
    expected = page.run(f"{STOPS}.map((e, i) => {{ e.dataset.stop = i; return e.tagName; }})")
    assert expected.count("AUDIO") == page.run("document.querySelectorAll('audio').length") >= 8
    assert expected.count("BUTTON") == 2  # the toggle, and one of the pieces: the arrows reach the others
    reached: list[int] = []
    for _ in range(20 * len(expected)):
        page.press("Tab")
        at = page.run("document.activeElement.dataset.stop")
        if at is None and len(reached) == len(expected):
            break
        if at is not None and (not reached or reached[-1] != int(at)):
            if len(reached) == len(expected):
                break
            reached.append(int(at))
    assert reached == list(range(len(expected)))


def test_arrows_go_from_piece_to_piece_and_enter_plays(page: Browser, told: Path) -> None:
    first = "document.querySelector('.piece[tabindex=\"0\"]')"
    said = "document.querySelector('.about p').textContent"
    assert page.run(f"{first}.dataset.audio.slice(0, 10)") == "data:audio"
    page.run(f"{first}.focus()")
    shown = page.run(said)
    assert shown.startswith("kept · ")
    assert page.run(f"{first}.getAttribute('aria-label')") == shown
    page.press("Enter")
    assert wait(page, "document.querySelector('audio.clip').currentTime > 0.05")
    starts = [page.run("Number(document.activeElement.dataset.start)")]
    page.press("Home")
    starts.append(page.run("Number(document.activeElement.dataset.start)"))
    page.press("ArrowRight")
    starts.append(page.run("Number(document.activeElement.dataset.start)"))
    assert starts[1] == 0.0
    assert starts[2] > 0.0
    assert page.run("document.querySelectorAll('.piece[tabindex=\"0\"]').length") == 1
    shortest = "(a, b) => (a.dataset.end - a.dataset.start) - (b.dataset.end - b.dataset.start)"
    page.run(f"[...document.querySelectorAll('.piece:not([data-audio])')].sort({shortest})[0].focus()")
    assert "rejected" in page.run(said)
    begin = page.run("Number(document.activeElement.dataset.start)")
    page.press("Enter")
    # the recording plays the piece, the clip falls silent, and it ends with the piece
    assert wait(page, f"document.querySelector('audio.recording').currentTime > {begin}")
    assert page.run("document.querySelector('audio.clip').paused")
    assert wait(page, "document.querySelector('audio.recording').paused")


def wait(page: Browser, condition: str, seconds: float = 20.0) -> bool:
    """Whether a condition comes true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if page.run(condition):
            return True
        time.sleep(0.05)
    return False


def test_every_sound_can_be_played(page: Browser) -> None:
    sounds = "[...document.querySelectorAll('audio[src]')]"
    assert wait(page, f"{sounds}.every((a) => a.readyState >= 1)")
    assert page.run(f"{sounds}.filter((a) => a.error || !(a.duration > 0.3)).length") == 0
    # one at a time
    page.run(f"{sounds}[0].play()")
    page.run(f"{sounds}[1].play()")
    assert wait(page, f"{sounds}.filter((a) => !a.paused).length <= 1")


def test_a_hostile_title_is_shown_as_it_is_written(page: Browser) -> None:
    titles = page.run("[...document.querySelectorAll('bdi')].map((e) => e.textContent)")
    assert any(title.startswith("<script>alert(1)</script>") for title in titles)
    assert page.run("document.querySelectorAll('img, bdi *').length") == 0


def test_persian_begins_at_the_right(page: Browser) -> None:
    sides = page.run("""[...document.querySelectorAll('p.quote[lang=fa]')].map((p) => {
        const range = document.createRange();
        range.selectNodeContents(p);
        const text = range.getBoundingClientRect(), box = p.getBoundingClientRect();
        return [p.textContent, text.left - box.left, box.right - text.right];
    })""")
    persian = [(left, right) for text, left, right in sides if text.startswith("سلام")]
    assert persian
    assert all(right < 2 < left for left, right in persian)


@pytest.mark.parametrize("width", [360, 1280, 2000])
def test_nothing_hangs_over_the_side(page: Browser, width: int) -> None:
    page.size(width, 900)
    page.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_zoom_widens_the_lanes(page: Browser) -> None:
    width = "document.querySelector('.lane-track').offsetWidth"
    before = page.run(width)
    page.run("document.querySelector('.lane-bar input').focus()")
    for _ in range(4):
        page.press("ArrowRight")
    assert page.run(width) == pytest.approx(3 * before, rel=0.01)
    assert page.run("document.documentElement.scrollWidth") <= 1280


def test_it_is_there_without_scripts(browser: Browser, told: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(told / build.NAME)
        tree = json.dumps(browser.send("Accessibility.getFullAXTree"))
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "From recorded to kept" in tree
    assert "Does a filter throw out one accent more?" in tree
