"""`pdid report`: the page says what the catalog says, and nobody who named a recording can do anything with it."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from catalog.named import named_queries
from catalog.records import RATE, Reject, Source, Status
from catalog.sound import encode_mp3
from catalog.store import Answer, Catalog, open_catalog
from corpus_builder.audio import Decoder, Samples
from corpus_builder.report import build, sound
from corpus_builder.report.lanes import choose_window
from tests.catalog_rows import kept as kept_row
from tests.catalog_rows import make_result, make_source
from tests.catalog_rows import rejected as rejected_row
from tests.media import Pdid
from tests.report_corpus import HOSTILE, PERSIAN, TEXT, write


def text_of(corpus: Path) -> str:
    return (corpus / build.NAME).read_text("utf-8")


class Page(HTMLParser):
    """What a browser would make of a page, with the faults that it would forgive."""

    VOID = frozenset(("meta", "link", "br", "input", "img", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def parsed(told: Path) -> Page:
    return Page(text_of(told))


def test_the_command_writes_the_page_and_says_where(pdid: Pdid, corpus: Path) -> None:
    run = pdid("report", "--corpus", corpus, "--json")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    assert found["report"] == str(corpus / "report.html")
    assert found["bytes"] == (corpus / "report.html").stat().st_size < 10_000_000
    assert found["sounds_left_out"] == 0
    with open_catalog(corpus) as catalog:
        assert found["source_id"] in {source.source_id for source in catalog.sources()}
    assert not list(corpus.glob(".*.part"))


def test_wrong_use_is_told_and_leaves_the_old_page(pdid: Pdid, corpus: Path) -> None:
    (corpus / "report.html").write_text("old")
    run = pdid("report", "--corpus", corpus, "--source", "nosuch")
    assert run.code == 2
    assert "there is no recording 'nosuch'" in run.err
    assert "SELECT source_id" in run.err
    assert pdid("report", "--corpus", "nowhere").code == 2
    assert not Path("nowhere").exists()
    assert (corpus / "report.html").read_text() == "old"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A corpus with a catalog and nothing in it."""
    with open_catalog(tmp_path / "empty", write=True):
        pass
    return tmp_path / "empty"


def test_a_full_disk_leaves_the_old_page(pdid: Pdid, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = empty
    (corpus / "report.html").write_text("old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    run = pdid("report", "--corpus", corpus)
    assert run.code == 1
    assert "No space left on device" in run.err
    assert (corpus / "report.html").read_text() == "old"


def test_the_sql_shown_is_the_sql_run(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Path(shutil.copytree(told, tmp_path / "corpus"))
    ran: set[str] = set()
    query = Catalog.query

    def noted(self: Catalog, sql: str, parameters: object = ()) -> Answer:
        ran.add(sql.strip())
        return query(self, sql, parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(Catalog, "query", noted)
    write(corpus)
    shown = {
        html.unescape(code) for code in re.findall(r"<pre tabindex=\"0\"><code>(.*?)</code>", text_of(corpus), re.S)
    }
    chosen = {sql for sql in ran if "AS events" in sql or sql.startswith("SELECT source_id, title, uri")}
    assert shown == ran - chosen  # these only choose the recording that is drawn
    assert len(shown) > 20
    with open_catalog(corpus) as catalog:
        named = {query.sql.strip() for query in named_queries().values()}
        for sql in shown:
            assert "base." not in sql or sql in named  # on the public views: anyone can ask the same
            if "?" not in sql:
                list(query(catalog, sql).rows)


def test_every_figure_has_its_sql_and_its_table(parsed: Page) -> None:
    folds = [text for tag, text in parsed.texts if tag == "summary"]
    charts = [attributes for attributes in parsed.all("svg") if attributes.get("role") == "img"]
    assert len(charts) >= 9
    assert all(attributes["aria-label"] for attributes in charts)
    assert sum(text.startswith("SQL") for text in folds) >= 18
    assert sum("able" in text for text in folds) >= 8


def test_the_figures_are_the_catalogs(told: Path) -> None:
    page = text_of(told)
    with open_catalog(told) as catalog:
        rows = list(
            catalog.query(
                "SELECT accent, sum(duration_s), count(*), count(DISTINCT speaker_id), count(DISTINCT source_id)"
                " FROM segments WHERE kept GROUP BY accent ORDER BY 2 DESC"
            ).rows
        )
        lost = dict(
            catalog.query(
                "SELECT reject_reason,"
                " sum(duration_s) / (SELECT sum(duration_s) FROM segments WHERE accent = 'Kurdish')"
                " FROM segments WHERE accent = 'Kurdish' AND NOT kept GROUP BY ALL"
            ).rows
        )
    assert {row[0] for row in rows} == {"Yazdi", "Kurdish", "Martian"}
    for accent, seconds, *counts in rows:
        cells = "".join(f'<td class="n">{count}</td>' for count in counts)
        assert f'<th scope="row"><bdi>{accent}</bdi></th><td class="n">{seconds:.1f}</td>{cells}' in page
    assert lost
    assert f"{100 * lost['silence']:.1f} %" in page


def test_a_hostile_name_is_only_a_name(told: Path, parsed: Page) -> None:
    assert len(parsed.all("script")) == 2
    assert parsed.all("img") == []
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in [text for tag, text in parsed.texts if tag == "bdi"]
    assert HOSTILE in {attributes.get("data-text") for attributes in parsed.all("button")}
    assert any(HOSTILE in (attributes.get("aria-label") or "") for attributes in parsed.all("audio"))
    assert f"not media: {HOSTILE}" in [text for tag, text in parsed.texts if tag == "bdi"]


def test_nothing_on_the_page_points_outside(parsed: Page) -> None:
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "srcset", "poster", "data-audio"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)
    assert not [text for tag, text in parsed.texts if tag == "style" and ("url(" in text or "@import" in text)]
    (policy,) = (meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline'; media-src" in policy
    assert "http" not in policy


def test_the_page_can_be_read_aloud(parsed: Page) -> None:
    assert parsed.all("html") == [{"lang": "en", "dir": "ltr"}]
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"] for link in parsed.all("a")} <= {f"#{name}" for name in ids}
    assert all(player["aria-label"] and "controls" in player for player in parsed.all("audio"))
    assert all(head["scope"] in ("col", "row") for head in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))


def test_right_to_left_text_is_set_apart(told: Path, parsed: Page) -> None:
    assert PERSIAN in [text for tag, text in parsed.texts if tag == "bdi"]
    page = text_of(told)
    assert f'<p class="quote" dir="auto" lang="fa">{TEXT}</p>' in page


def test_labels_and_leaks_are_told(told: Path) -> None:
    page = text_of(told)
    assert re.search(r"<bdi>Martian \(source, annotator, &lt;script&gt;.*?</bdi></div><div><bdi>Yazdi \(source, ", page)
    assert re.search(r"✗</span><span>No recording is on two sides: not so, \d times", page)
    assert "✓</span><span>No channel is on two sides</span>" in page
    assert "1 recordings failed" in page or "1 recording failed" in page


def sounds(page: Page) -> list[tuple[str, bytes]]:
    """Every sound on the page with its label."""
    found = []
    for tag, attributes in page.tags:
        uri = attributes.get("src") if tag == "audio" else attributes.get("data-audio")
        if uri:
            kind, _, data = uri.partition(";base64,")
            assert kind == "data:audio/mpeg"
            found.append((attributes["aria-label"] or "", base64.b64decode(data, validate=True)))
    return found


def decoded(mp3: bytes) -> Samples:
    with av.open(io.BytesIO(mp3)) as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(parts).astype(np.float32)


def test_the_sounds_are_the_clips_and_the_rejected_pieces(told: Path, parsed: Page) -> None:
    found = sounds(parsed)
    with open_catalog(told) as catalog:
        accents = dict(catalog.query("SELECT accent, count(*) FROM segments WHERE kept GROUP BY accent").rows)
        reasons = dict(catalog.query("SELECT reject_reason, count(*) FROM segments WHERE NOT kept GROUP BY ALL").rows)
    for accent, n in accents.items():
        assert sum(label.startswith(f"Kept, {accent}:") for label, _ in found) == min(n, 3)
    for reason, n in reasons.items():
        spoken = reason.replace("_", " ")
        assert sum(label.startswith(f"Rejected, {spoken}:") for label, _ in found) == min(n, 3)
    for label, mp3 in found:
        sample = decoded(mp3)
        assert np.abs(sample).max() > 0 or "silence" in label
        if label.startswith(("Kept,", "Rejected,")):
            assert 0.3 * RATE < len(sample) < 8.3 * RATE


@pytest.mark.parametrize("name", ["interview_b.mp3", "magazine_a.m4a", "news_c.mp4"])
@pytest.mark.parametrize("start_s", [3.0, 131.7])
def test_an_excerpt_begins_where_it_says(test_data: Path, name: str, start_s: float) -> None:
    path = test_data / "programmes" / name
    whole = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
    start = round(start_s * RATE)
    excerpt = sound.read(path, start_s, 4.0)
    assert excerpt is not None
    assert len(excerpt) == 4 * RATE
    reach = RATE // 10
    around = whole[start - reach : start + 4 * RATE + reach].astype(np.float64)
    product = np.fft.irfft(np.fft.rfft(around) * np.conj(np.fft.rfft(excerpt, len(around))))
    off = int(np.argmax(product[: 2 * reach])) - reach
    assert abs(off) <= RATE // 20, f"{off / RATE:.3f} s off"


def test_what_cannot_be_read_is_not_heard(tmp_path: Path) -> None:
    assert sound.read(tmp_path / "none.wav") is None
    (tmp_path / "text.wav").write_text("no sound")
    assert sound.read(tmp_path / "text.wav", 500.0, 3.0) is None
    assert encode_mp3(np.zeros(0, np.float32)) is None


def test_the_budget_is_kept(monkeypatch: pytest.MonkeyPatch, corpus: Path) -> None:
    monkeypatch.setattr(build, "SOUND_BYTES", 100_000)
    done = write(corpus)
    page = text_of(corpus)
    assert 0 < sum(map(len, re.findall(r"base64,([A-Za-z0-9+/=]+)\"", page))) <= 100_000
    assert done.sounds_left_out > 0
    assert f"{done.sounds_left_out} sounds did not fit" in page


def test_media_and_clips_that_are_gone(told: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(told, tmp_path / "corpus"))
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_addresses(
            [replace(a, size_bytes=(a.size_bytes or 0) + 1) for a in catalog.addresses().values()]
        )  # as if the files had changed
    shutil.rmtree(corpus / "clips")
    write(corpus)
    page = html.unescape(text_of(corpus))
    assert "data:audio" not in page
    assert "the recordings are no longer where they were" in page
    assert "No kept clip's file is at hand" in page
    assert "The recording itself is no longer where it was" in page


def test_a_catalog_with_nothing_in_it(empty: Path) -> None:
    done = write(empty)
    page = Page(text_of(empty))
    assert done.source_id is None
    assert sounds(page) == []
    with open_catalog(empty, write=True) as catalog:
        catalog.write_source(make_result(source=Source("f" * 16, "/x.wav", status=Status.FAILED, error="gone")))
    assert write(empty, "f" * 16).source_id == "f" * 16
    assert "gone" in text_of(empty)


def test_a_filter_that_takes_more_of_one_accent_is_marked(tmp_path: Path) -> None:
    other = "f" * 16
    with open_catalog(tmp_path, write=True) as catalog:
        # of each: two clips of five seconds; of Yazdi a second of overlap beside, of Lori ten
        one = [kept_row(0), kept_row(1), rejected_row(0, Reject.OVERLAP)]
        catalog.write_source(make_result(*one, source=make_source(accent="Yazdi")))
        ten = replace(rejected_row(0, Reject.OVERLAP), source_id=other, segment_id="r", start=20 * RATE, end=30 * RATE)
        two = [kept_row(0, other), kept_row(1, other), ten]
        catalog.write_source(make_result(*two, source=make_source(other, accent="Lori")))
    write(tmp_path)
    page = text_of(tmp_path)
    assert "Most uneven: “overlap” takes 50 % of \u2068Lori\u2069, and 9.1 % of the other accents." in page
    assert '<span class="more">▲ 50.0 % ×5.5</span>' in page
    assert page.count('class="more"') == 1
    assert "9.1 % ×0.2" in page


def test_the_voice_alone_is_drawn_where_it_was_separated(corpus: Path) -> None:
    with open_catalog(corpus, write=True) as catalog:
        source = max(catalog.sources(), key=lambda source: len(catalog.segments(source.source_id)))
        result = catalog.result(source.source_id)
        assert result
        catalog.write_source(replace(result, segments=tuple(replace(s, separated=s.kept) for s in result.segments)))
    write(corpus, source.source_id)
    page = text_of(corpus)
    assert "<bdi>voice alone</bdi>" in page
    levels = re.findall(r'<polygon points="([^"]+)"', page)
    assert len(levels) == 2
    heights = [[50 - float(point.split(",")[1]) for point in level.split()[:1200]] for level in levels]
    mix, voice = (np.array(level) for level in heights)
    assert (voice > 0).mean() > 0.1
    # the voice is the clip without its gain: where there is one, the recording's own level
    assert np.abs(mix[voice > 0] - voice[voice > 0]).mean() < 3


def test_of_a_long_recording_the_liveliest_ten_minutes_are_shown() -> None:
    def row(start: float, end: float, reason: str | None, who: str | None) -> dict[str, object]:
        return {"start_s": start, "end_s": end, "reject_reason": reason, "local_speaker_id": who}

    dull = [row(10.0 * i, 10.0 * i + 10, "silence", None) for i in range(360)]
    assert choose_window(dull[:60]).seconds == 600.0
    assert choose_window(dull[:30]).end == 300.0
    lively = [row(1800.0 + i * 5, 1805.0 + i * 5, None, f"S{i % 5}") for i in range(100)]
    window = choose_window(sorted(dull + lively, key=lambda r: float(str(r["start_s"]))))
    assert window.seconds == 600.0
    assert window.begin <= 1800.0
    assert window.end >= 2300.0


def test_the_page_is_whole_or_old(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = empty
    (corpus / "report.html").write_text("old")

    def stop(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write(corpus)
    assert (corpus / "report.html").read_text() == "old"
    assert not list(corpus.glob(".*.part"))
