"""Aparat's videos, playlists and channels, from a local server that answers as the site does, or as it might."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from corpus_builder.acquire.client import Client
from corpus_builder.acquire.records import Choice, Entry, FetchError, FetchSettings
from corpus_builder.acquire.web import fetch, look
from tests.live_server import Answer, LiveServer, ffmpeg

SHOW = "/api/fa/v1/video/video/show/videohash/Ab3dE"
WATCH = "http://www.aparat.com/v/Ab3dE"
CDN = "http://cdn.asset.aparat.com/aparat-video/x-{}?sign=1"
MISSING = object()

FULL: dict[str, Any] = {
    "data": {
        "type": "VideoShow",
        "id": "878887",
        "attributes": {
            "id": 878887,
            "uid": "Ab3dE",
            "title": "گفت‌وگو با &quot;مریم&quot; <b>و</b> دیگران",
            "description": "خط یک<br />خط دو &amp; سه",
            "duration": "231",
            "visit_cnt": "۱٬۲۳۴",
            "tags": ["لهجه", " اصفهان "],
            "frame": "https://www.aparat.com/video/video/embed/videohash/Ab3dE/vt/frame",
            "big_poster": "https://static.aparat.cloud/avt/878887.jpg?width=900",
            "sdate_real": "2013-12-18T22:57:00+03:30",
            "owner_username": "zoomit",
            "process": "done",
            "deleted": "no",
            "file_link_all": [
                {"profile": "144p", "text": "دانلود", "urls": [CDN.format("144p.mp4")]},
                {"profile": "360p", "text": "دانلود", "urls": ["bad url", CDN.format("360p.mp4"), CDN.format("m.mp4")]},
                {"profile": "720p", "text": "دانلود", "urls": [CDN.format("720p.mp4")]},
            ],
        },
    },
    "included": [
        {"type": "Video", "attributes": {"uid": "other"}},
        {"type": "channel", "id": "77", "attributes": {"id": "77", "username": "zoomit", "name": "زومیت"}},
    ],
}


class Site:
    """What the server says to each path; everything goes through it, for it is the proxy."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.log: list[str] = []
        self.settings = FetchSettings()

    def json(self, path: str, answer: object, status: int = 200) -> None:
        self.answers[path] = status, "application/json", json.dumps(answer).encode()

    def __call__(self, path: str) -> Answer:
        path = "/" + path.partition("://")[2].partition("/")[2]
        self.log.append(path)
        return self.answers.get(path, (404, "text/html", b"<html>not found</html>"))


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The extractors, as yt-dlp loads them."""
    with Client(FetchSettings()):
        return sys.modules["yt_dlp_plugins.extractor.aparat"]


@pytest.fixture
def site(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site()
    site.json(SHOW, FULL)
    with LiveServer(site) as server:
        site.settings = FetchSettings(proxy=server.url(), retries=0, timeout_s=5.0)
        monkeypatch.setattr(plugin._Interface, "_SITE", "http://www.aparat.com")  # https would not pass the proxy
        yield site


def seen(site: Site, url: str = WATCH) -> Entry:
    """The one video behind an address."""
    (entry,) = look(url, Choice(), site.settings)
    return entry


def info(site: Site, url: str = WATCH) -> dict[str, Any]:
    found = seen(site, url).info
    assert found
    return found


def links(found: dict[str, Any]) -> dict[int | None, str]:
    return {form.get("height"): form["url"] for form in found["formats"]}


ALL_LINKS = {height: CDN.format(f"{height}p.mp4") for height in (144, 360, 720)}


@pytest.mark.parametrize(
    "url",
    [
        WATCH,
        "https://www.aparat.com/v/Ab3dE/",
        "https://aparat.com/v/Ab3dE?playlist=12",
        "https://www.aparat.com/video/video/embed/videohash/Ab3dE/vt/frame",
    ],
)
def test_a_video(site: Site, url: str) -> None:
    """One canonical address whichever it was asked by; nothing but the site's interface is asked."""
    entry = seen(site, url)
    assert entry.uri == "https://www.aparat.com/v/Ab3dE"
    assert (entry.site, entry.site_id) == ("aparat", "Ab3dE")
    assert entry.title == 'گفت‌وگو با "مریم" و دیگران'
    assert (entry.duration_s, entry.channel, entry.live) == (231.0, "زومیت", False)
    assert entry.uploaded_at == datetime(2013, 12, 18, 19, 27, tzinfo=UTC)
    assert site.log == [SHOW]
    found = info(site, url)
    assert links(found) == ALL_LINKS
    assert found["description"] == "خط یک\nخط دو & سه"
    assert found["view_count"] == 1234
    assert found["tags"] == ["لهجه", "اصفهان"]
    assert found["thumbnail"] == "https://static.aparat.cloud/avt/878887.jpg?width=900"
    assert (found["channel_id"], found["uploader_id"]) == ("77", "zoomit")
    assert found["channel_url"] == "https://www.aparat.com/zoomit"
    assert found.get("license") is None


def test_a_video_is_fetched(site: Site, talk: Path, tmp_path: Path) -> None:
    ffmpeg("-i", talk, "-t", 2, "-c:a", "aac", tmp_path / "talk.mp4")
    sound = (tmp_path / "talk.mp4").read_bytes()
    for link in ALL_LINKS.values():
        site.answers[link.removeprefix("http://cdn.asset.aparat.com")] = 200, "video/mp4", sound
    fetched = fetch(seen(site), tmp_path / "media", site.settings, lambda *_: None)
    assert fetched.path.read_bytes() == sound
    assert fetched.path.suffix == ".mp4"
    about = fetched.fetch
    assert (about.uri, about.site, about.site_id) == ("https://www.aparat.com/v/Ab3dE", "aparat", "Ab3dE")
    assert (about.channel, about.channel_id, about.licence) == ("زومیت", "77", None)
    assert about.announced_s == 231.0  # which it is not: ingest compares
    assert len(site.log) == 2


OPTIONAL = [
    *(("data", "attributes", name) for name in FULL["data"]["attributes"] if name != "file_link_all"),
    ("data", "type"),
    ("data", "id"),
    ("included",),
    *(("included", 1, name) for name in ("type", "attributes")),
    *(("included", 1, "attributes", name) for name in ("id", "username", "name")),
    *(("data", "attributes", "file_link_all", i, name) for i in range(3) for name in ("profile", "text")),
]


ODD = (MISSING, None, "", [], {}, ["x"], {"a": None}, "\u202e<i", 7, -1.5, True)


@pytest.mark.parametrize("where", OPTIONAL, ids=lambda where: ".".join(map(str, where)))
def test_any_other_field_may_be_missing_or_anything(site: Site, where: tuple[Any, ...]) -> None:
    """The links are found; what can't be read is not there."""
    *path, name = where
    with Client(site.settings) as client:
        for value in ODD if name != "deleted" else ODD[:-1]:
            answer = deepcopy(FULL)
            at: Any = answer
            for step in path:
                at = at[step]
            if value is MISSING:
                del at[name]
            else:
                at[name] = value
            site.json(SHOW, answer)
            found = client.extract_info(WATCH, download=False)
            assert found["id"] == "Ab3dE", value
            assert {form["url"] for form in found["formats"]} == set(ALL_LINKS.values()), value
            if name == "duration" and value != 7:
                assert not found.get("duration"), value
            if name == "sdate_real":
                assert found.get("timestamp") is None, value


def test_odd_ways_to_say_the_same(site: Site) -> None:
    """Lists for objects, objects numbered like lists, Persian digits, one link without a list, names without http."""
    answer = deepcopy(FULL)
    attributes = answer["data"]["attributes"]
    attributes |= {
        "duration": "۰۳:۵۱",
        "visit_cnt": 1234,
        "tags": {"0": {"name": "لهجه"}, "1": {"title": "اصفهان"}},
        "sdate_real": "2013-12-18 22:57:00",
        "file_link_all": {
            "0": {"profile": "۱۴۴p", "urls": CDN.format("144p.mp4")},
            "2": {"profile": 360, "urls": {"0": CDN.format("360p.mp4").removeprefix("http:")}},
            "3": {"profile": "1080p", "urls": [CDN.format("1080p.apt")]},
            "4": None,
        },
    }
    answer["data"] = [{"attributes": [attributes]}]
    answer["included"] = {"0": answer["included"][1]}
    site.json(SHOW, answer)
    found = info(site)
    expected = {
        144: ALL_LINKS[144],
        360: ALL_LINKS[360].replace("http:", "https:"),
        1080: CDN.format("1080p.apt"),
    }
    assert links(found) == expected
    assert found["formats"][0]["height"] == 1080  # the last to be taken
    assert (found["duration"], found["view_count"]) == (231, 1234)
    assert found["tags"] == ["لهجه", "اصفهان"]
    assert found["timestamp"] == datetime(2013, 12, 18, 19, 27, tzinfo=UTC).timestamp()
    assert found["channel"] == "زومیت"


def test_a_date_of_the_persian_calendar_is_no_date(site: Site) -> None:
    answer = deepcopy(FULL)
    answer["data"]["attributes"]["sdate_real"] = "۱۴۰۴/۰۵/۱۲"
    site.json(SHOW, answer)
    assert seen(site).uploaded_at is None


def test_a_hostile_description_and_title(site: Site) -> None:
    answer = deepcopy(FULL)
    answer["data"]["attributes"] |= {"description": "<" * 10_000_000, "title": "$(rm -rf ~)'; DROP TABLE\n../../x\0"}
    site.json(SHOW, answer)
    assert links(info(site)) == ALL_LINKS


def test_links_to_manifests(site: Site) -> None:
    """A master playlist's renditions are formats too; one alone will do."""
    lines = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"\nsound.m3u8\n'
    lines += '#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,CODECS="avc1.4d,mp4a.40.2"\n360.m3u8\n'
    site.answers["/x/master.m3u8?q=1"] = 200, "application/vnd.apple.mpegurl", lines.encode()
    answer = deepcopy(FULL)
    manifest = "http://www.aparat.com/x/master.m3u8?q=1"
    answer["data"]["attributes"]["file_link_all"] = [{"profile": "auto", "urls": [manifest]}]
    site.json(SHOW, answer)
    found = info(site)
    assert {form["url"].rpartition("/")[2]: form["vcodec"] for form in found["formats"]} == {
        "sound.m3u8": "none",
        "360.m3u8": "avc1.4d",
    }
    answer["data"]["attributes"] |= {"file_link_all": None, "hls_link": manifest}
    site.json(SHOW, answer)
    assert len(info(site)["formats"]) == 2


def changed(answer: Callable[[dict[str, Any]], object]) -> object:
    copy = deepcopy(FULL)
    return answer(copy) or copy


def linked(value: object) -> object:
    return changed(lambda full: full["data"]["attributes"].update(file_link_all=value))


@pytest.mark.parametrize(
    "answer",
    [
        *map(linked, (None, [], {}, "x", 7, [[]], [None], ["x"], {"a": "b"}, [{"profile": "720p"}])),
        *map(linked, ([{"urls": None}], [{"urls": [None, "bad url", "ftp://x/y", "file:///etc/passwd"]}])),
        changed(lambda full: full["data"]["attributes"].pop("file_link_all") and None),
        changed(lambda full: full["data"].pop("attributes") and None),
        changed(lambda full: full.pop("data") and None),
        changed(lambda full: full.update(data="x")),
        changed(lambda full: full.update(data={"attributes": "x"})),
        [FULL],
        "text",
        None,
    ],
    ids=lambda answer: str(answer)[-40:],
)
def test_without_links_the_error_says_what_to_do(site: Site, answer: object) -> None:
    site.json(SHOW, answer)
    with pytest.raises(FetchError) as caught:
        seen(site)
    said = str(caught.value)
    assert "https://www.aparat.com/v/Ab3dE" in said
    assert "interface seems to have changed" in said
    assert "pdid ingest FILE" in said
    assert len(site.log) > 1  # yt-dlp's own extractor had its turn


@pytest.mark.parametrize("page", [b"", b"<html>are you human?</html>", b'{"data": {"attributes": {', b"\xff\xfe\0"])
def test_what_is_no_json(site: Site, page: bytes) -> None:
    site.answers[SHOW] = 200, "text/html", page
    with pytest.raises(FetchError, match="interface seems to have changed"):
        seen(site)


def test_yt_dlps_own_extractor_where_ours_is_at_a_loss(site: Site) -> None:
    site.json(SHOW, {"data": {"attributes": {"title": "x"}}})
    source = {"src": CDN.format("old.mp4"), "type": "video/mp4", "label": "360p"}
    page = (
        f'<title>x</title><meta property="og:title" content="صفحه"> options = {json.dumps({"multiSRC": [[source]]})};'
    )
    site.answers["/v/Ab3dE"] = 200, "text/html; charset=utf-8", page.encode()
    entry = seen(site)
    assert (entry.uri, entry.site, entry.title) == ("https://www.aparat.com/v/Ab3dE", "aparat", "صفحه")
    assert links(entry.info or {}) == {360: CDN.format("old.mp4")}
    assert site.log == [SHOW, "/v/Ab3dE"]


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        ({"data": [], "errors": [{"detail": "x"}]}, 200, "does not exist on Aparat"),
        ({"errors": [{"status": 404}]}, 404, "does not exist on Aparat"),
        ({"data": {"status": 410}}, 410, "does not exist on Aparat"),
        (changed(lambda full: full["data"]["attributes"].update(deleted="yes")), 200, "was deleted on Aparat"),
        (
            changed(lambda full: full["data"]["attributes"].update(process="queue", file_link_all=[])),
            200,
            "still converting",
        ),
    ],
    ids=["no data", "404", "410", "deleted", "converting"],
)
def test_a_video_that_is_not_there(site: Site, answer: object, status: int, why: str) -> None:
    site.json(SHOW, answer, status)
    with pytest.raises(FetchError, match=why) as caught:
        seen(site)
    assert caught.value.permanent == (why != "still converting")
    assert site.log == [SHOW]


@pytest.mark.parametrize(("status", "why"), [(429, "429"), (403, "403"), (503, "503")])
def test_a_site_that_refuses_has_not_changed(site: Site, status: int, why: str) -> None:
    site.json(SHOW, {}, status)
    with pytest.raises(FetchError, match=why) as caught:
        seen(site)
    assert "interface" not in str(caught.value)
    assert site.log == [SHOW]


def page(*uids: str, following: object = None, **more: object) -> dict[str, Any]:
    """A page of a list."""
    videos = [{"type": "Video", "attributes": {"uid": uid, "title": f"نام {uid}", "duration": 60}} for uid in uids]
    about = {"title": "فهرست &amp; نمونه", "link": {"next": following} if following else None, **more}
    channel = {"type": "channel", "attributes": {"username": "zoomit", "name": "زومیت"}}
    return {"data": [{"type": "Row", "attributes": about}], "included": [channel, *videos]}


LISTS = {
    "https://www.aparat.com/playlist/1001": "/api/fa/v1/video/playlist/one/playlist_id/1001",
    "https://www.aparat.com/zoomit": "/api/fa/v1/user/video/list/username/zoomit/perpage/40",
    "https://www.aparat.com/zoomit/videos?x=1": "/api/fa/v1/user/video/list/username/zoomit/perpage/40",
}


@pytest.mark.parametrize("url", LISTS)
def test_lists(site: Site, url: str) -> None:
    """All pages, each video once, in the list's order; no video is asked for to list it."""
    following = "https://evil.example/page/2?n=1"  # only its path is followed
    site.json(LISTS[url], page("v1", "v2", following=following))
    second = page("v2", "v3", "not/an id", "")
    second["links"] = {"next": "/page/3"}
    site.json("/page/2?n=1", second)
    site.json("/page/3", page("v3", following="/page/4"))  # nothing new: the end
    entries = look(url, Choice(), site.settings)
    assert [entry.uri for entry in entries] == [f"https://www.aparat.com/v/v{i}" for i in (1, 2, 3)]
    assert [entry.title for entry in entries] == ["نام v1", "نام v2", "نام v3"]
    assert {(entry.site, entry.duration_s) for entry in entries} == {("aparat", 60.0)}
    assert [entry.site_id for entry in entries] == ["v1", "v2", "v3"]
    assert site.log == [LISTS[url], "/page/2?n=1", "/page/3"]


def test_no_more_pages_are_asked_for_than_are_needed(site: Site) -> None:
    url = "https://www.aparat.com/zoomit"
    site.json(LISTS[url], page("v1", "v2", following="/page/2"))
    assert len(look(url, Choice(limit=2), site.settings)) == 2
    assert site.log == [LISTS[url]]


@pytest.mark.parametrize("url", LISTS)
def test_lists_that_are_not_there_or_not_understood(site: Site, url: str) -> None:
    with pytest.raises(FetchError, match="interface seems to have changed") as caught:
        look(url, Choice(), site.settings)
    assert "pdid ingest FILE" in str(caught.value)
    site.json(LISTS[url], {"data": {}})
    with pytest.raises(FetchError, match="no videos in included"):
        look(url, Choice(), site.settings)
    site.json(LISTS[url], {"errors": []}, 404)
    with pytest.raises(FetchError, match="does not exist on Aparat"):
        look(url, Choice(), site.settings)
    site.json(LISTS[url], page())
    assert look(url, Choice(), site.settings) == []


def test_yt_dlp_finds_the_plugin_wherever_pdid_runs(tmp_path: Path) -> None:
    """An editable install is on no folder of sys.path, where yt-dlp looks."""
    code = (
        "from corpus_builder.acquire.client import Client\n"
        "from corpus_builder.acquire.records import FetchSettings\n"
        "print(type(Client(FetchSettings()).get_info_extractor('Aparat')).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr.strip()) == ("AparatPdidIE", "")


def test_the_wheel_takes_the_plugin_along(repository: Path) -> None:
    """As a namespace package: other packages may bring plugins too."""
    setuptools = pytest.importorskip("setuptools")
    find = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    assert "yt_dlp_plugins.extractor" in setuptools.find_namespace_packages(str(repository), **find)
    assert not [*(repository / "yt_dlp_plugins").rglob("__init__.py")]
