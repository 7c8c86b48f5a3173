"""Nothing from the web does harm, and no credentials leave the address: hostile pages, passwords, tokens, cookies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from corpus_builder.acquire.addresses import check_address, hidden, is_address, redact, without_credentials
from corpus_builder.acquire.provenance import raw_of, text
from corpus_builder.acquire.records import Choice, Entry, Fetched, FetchError
from corpus_builder.acquire.web import fetch, key_of, look
from tests.test_acquire_web import SETTINGS, get, sound_s
from tests.web_server import Fault, Page, Request, WebServer, feed

SECRET = "swordfish"


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "data:text/html,x", "ftp://127.0.0.1/x", "javascript:x", "http://", "http://a b/",
        "http://127.0.0.1:x/", "https:///x", "http://a/\nb", "gopher://a/",
    ],
)  # fmt: skip
def test_what_is_not_on_the_web_is_refused(address: str) -> None:
    from catalog.errors import UsageError

    with pytest.raises(UsageError):
        check_address(address)
    with pytest.raises(FetchError):
        look(address, Choice(), SETTINGS)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("https://a/b", True), ("HTTP://a", True), ("ytsearch5:گویش یزدی", True), ("ytsearch:a", True),
        ("file:///a", True), ("data:text/plain,a", True), ("a.mp4", False), ("folder/a", False),
        ("C:\\a.mp4", False), ("search: a", False),
    ],
)  # fmt: skip
def test_addresses_and_paths_are_told_apart(text: str, answer: bool) -> None:
    assert is_address(text) is answer


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_no_way_leads_off_the_web(web: WebServer, tmp_path: Path, target: str) -> None:
    web.pages["/away"] = Page(b"", status=302, headers={"Location": target})
    web.pages["/feed"] = feed("", [("Mine", target, None, None)])
    web.pages["/list.m3u8"] = Page(f"#EXTM3U\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n".encode(), "audio/mpegurl")
    with pytest.raises(FetchError, match="not on the web"):
        look(f"{web.url}/away", Choice(), SETTINGS)
    for path in ("/feed", "/list.m3u8"):
        with pytest.raises(FetchError, match="not on the web"):
            get(web.url + path, tmp_path)
    assert not any(file.is_file() and file.stat().st_size for file in tmp_path.rglob("*"))


def test_a_hostile_page_does_no_harm(web: WebServer, tmp_path: Path) -> None:
    long = "م" * 5_000_000  # ten megabytes
    title = "../../../../tmp/x'; DROP TABLE source; --\u009b2J$(reboot)\n<script>"
    items = feed(web.url, [(title, "/talk.mp3", None, None)]).body
    web.pages["/feed"] = Page(items.replace(b"</title><enc", f"</title><description>{long}</description><enc".encode()))
    media = tmp_path / "media"
    (entry,) = look(f"{web.url}/feed", Choice(), SETTINGS)
    assert entry.title == "../../../../tmp/x'; DROP TABLE source; -- 2J$(reboot) <script>"
    came = fetch(entry, media, SETTINGS, lambda *_: None)
    assert [*tmp_path.iterdir()] == [media]
    assert sorted(file.name for file in media.iterdir()) == [".part", f"{key_of(entry.uri)}.mp3"]
    assert len(came.fetch.raw["description"]) == 100_000
    json.dumps(came.fetch.raw, allow_nan=False, ensure_ascii=False).encode()


def test_metadata_are_bounded_and_clean() -> None:
    info = {
        "title": "a\ud800b\x00c",
        "view_count": float("nan"),
        "tags": ["x" * 200_000] * 100,
        "nested": [{"url": "https://a/?sig=1", "name": f"https://u:{SECRET}@a/?token={SECRET}&b=1"}],
        "cookies": SECRET,
        "http_headers": {"Cookie": SECRET},
        "formats": [{"url": SECRET}],
        "_private": SECRET,
        "extractor_key": "Youtube",
        "deep": [[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]],
    }
    raw = raw_of(info)
    words = json.dumps(raw, allow_nan=False, ensure_ascii=False)
    words.encode()
    assert SECRET not in words
    assert "tags" not in raw  # ten megabytes
    assert raw["nested"] == [{"name": "https://…@a/?token=…&b=1"}]
    assert raw["title"] == "a b c"
    assert text("x" * 5000, 1000) == "x" * 999 + "…"
    assert [text(value, 9) for value in ("", " \n", None, [], 7)] == [None, None, None, None, "7"]


def everything(entry: Entry | None, came: Fetched | None, *words: str) -> str:
    """All of it that is stored or shown."""
    told = asdict(replace(entry, info=None)) if entry else {}
    return json.dumps([told, asdict(came.fetch) if came else {}, *words], default=str)


def guarded(site: Path, header: str, wanted: Callable[[str], bool]) -> Callable[[Request], Page]:
    """Files of the site for those whose header is right; 401 for others."""

    def answer(seen: Request) -> Page:
        if not wanted(seen.headers.get(header, "")):
            return Page(b"", status=401)
        kind = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}.get(Path(seen.path).suffix, "audio/mpeg")
        return Page((site / seen.path.lstrip("/")).read_bytes(), kind)

    return answer


@pytest.mark.parametrize("path", ["/talk.mp3", "/hls/index.m3u8"])
def test_a_password_in_an_address_is_used_and_not_kept(web: WebServer, site: Path, tmp_path: Path, path: str) -> None:
    answer = guarded(site, "authorization", lambda said: said == "Basic bWU6c3dvcmRmaXNo")
    web.pages |= {f"/{file.relative_to(site)}": answer for file in [*site.glob("talk.mp3"), *site.glob("hls/*")]}
    address = web.url.replace("//", f"//me:{SECRET}@") + path
    (entry,) = look(address, Choice(), SETTINGS)
    assert entry.uri == entry.asked == web.url + path
    came = fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert sound_s(came.path) == pytest.approx(12.0, abs=0.2)
    assert SECRET not in everything(entry, came)
    web.pages.clear()
    web.faults[path] = Fault(status=403)
    with pytest.raises(FetchError) as refused:
        look(address, Choice(), SETTINGS)
    assert SECRET not in str(refused.value)
    assert "log" in refused.value.why


def test_a_token_stays_in_the_address_alone(web: WebServer, tmp_path: Path) -> None:
    address = f"{web.url}/talk.mp3?id=7&token={SECRET}"
    (entry,) = look(address, Choice(), SETTINGS)
    assert entry.uri == address
    came = fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert SECRET not in json.dumps(came.fetch.raw)
    web.faults["/talk.mp3"] = Fault(status=404)
    with pytest.raises(FetchError) as gone:
        look(address, Choice(), SETTINGS)
    assert "id=7&token=…" in str(gone.value)
    assert SECRET not in str(gone.value)


def test_cookies_are_sent_and_never_written(web: WebServer, site: Path, tmp_path: Path) -> None:
    jar = tmp_path / "cookies.txt"
    jar.write_text(f"# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{SECRET}\n")
    before = jar.read_bytes()
    web.pages["/talk.mp3"] = guarded(site, "cookie", lambda said: said == f"session={SECRET}")
    settings = replace(SETTINGS, cookies=jar)
    (entry,) = look(f"{web.url}/talk.mp3", Choice(), settings)
    came = fetch(entry, tmp_path / "media", settings, lambda *_: None)
    assert came.path.read_bytes() == (site / "talk.mp3").read_bytes()
    assert SECRET not in everything(entry, came)
    assert redact(f"the site said {SECRET}", settings) == "the site said …"
    assert jar.read_bytes() == before


def test_cookies_that_are_not_there_are_said_to_be(web: WebServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"cookies in '.*none\.txt' can't be read: No such file"):
        look(f"{web.url}/talk.mp3", Choice(), replace(SETTINGS, cookies=tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_text("no cookies at all\n")
    with pytest.raises(FetchError, match=r"cookies in '.*bad\.txt' can't be read"):
        look(f"{web.url}/talk.mp3", Choice(), replace(SETTINGS, cookies=tmp_path / "bad.txt"))
    with pytest.raises(FetchError, match="cookies of the browser 'netscape' can't be read"):
        look(f"{web.url}/talk.mp3", Choice(), replace(SETTINGS, cookies_from_browser="netscape"))
    assert web.log == []


def test_a_proxy_is_used_and_its_password_not_shown(web: WebServer, site: Path, tmp_path: Path) -> None:
    proxy = web.url.replace("//", f"//me:{SECRET}@")
    settings = replace(SETTINGS, proxy=proxy)
    came = get("http://elsewhere.invalid/talk.mp3", tmp_path, settings)
    assert came.path.read_bytes() == (site / "talk.mp3").read_bytes()
    assert {one.path for one in web.log} == {"http://elsewhere.invalid/talk.mp3"}
    assert all(one.headers["proxy-authorization"] == "Basic bWU6c3dvcmRmaXNo" for one in web.log)
    assert SECRET not in everything(None, came)
    assert redact(f"can't connect to {proxy} with {SECRET}", settings) == (
        f"can't connect to {web.url.replace('//', '//…@')} with …"
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://me:pass@a/b?c=1", "http://…@a/b?c=1"),
        ("https://a/?id=1&Signature=abc&Key-Pair-Id=K&Policy=p~", "https://a/?id=1&Signature=…&Key-Pair-Id=…&Policy=…"),
        ("see 'https://a/?X-Amz-Security-Token=t&sig=1': no", "see 'https://a/?X-Amz-Security-Token=…&sig=…': no"),
        ("Cookie: a=b; c=d\nnext", "Cookie: …\nnext"),
        ("{'Authorization': 'Basic abc'}", "{'Authorization': …"),
        ("nobody@example.org wrote key=1", "nobody@example.org wrote key=1"),
    ],
)
def test_credentials_are_hidden(said: str, shown: str) -> None:
    assert hidden(said) == shown


def test_the_query_stays_in_an_address() -> None:
    assert without_credentials("https://u:p@ss@a:8/b?c=d@e#f") == "https://a:8/b?c=d@e#f"
    assert without_credentials("https://a/b@c") == "https://a/b@c"
