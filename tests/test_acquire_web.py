"""What is behind an address, and one recording fetched: real yt-dlp against a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corpus_builder.acquire.client import Client
from corpus_builder.acquire.records import Choice, Fetched, FetchError, FetchSettings, NotWanted
from corpus_builder.acquire.subtitles import fetch_subtitles
from corpus_builder.acquire.web import fetch, key_of, look
from corpus_builder.audio import Decoder
from tests.media import ffmpeg
from tests.web_server import Fault, LiveHls, Page, Request, WebServer, feed

SETTINGS = FetchSettings(backoff_s=0.01, timeout_s=5.0, retries=2, min_free_bytes=0)


def get(address: str, media: Path, settings: FetchSettings = SETTINGS) -> Fetched:
    """Look at an address of one recording, and fetch that."""
    (entry,) = look(address, Choice(), settings)
    return fetch(entry, media, settings, lambda *_: None)


def sound_s(path: Path) -> float:
    """Seconds of sound in a file."""
    return sum(len(block) for block in Decoder(path, 16_000)) / 16_000


def page(*body: str) -> Page:
    return Page(f"<html><head><title>A page</title></head><body>{''.join(body)}</body></html>".encode())


def test_a_file_comes_as_it_is_with_its_provenance(web: WebServer, site: Path, tmp_path: Path) -> None:
    address = f"{web.url}/talk.mp4"
    told: list[tuple[int, int | None]] = []
    (entry,) = look(address, Choice(), SETTINGS)
    assert (entry.uri, entry.asked, entry.site, entry.site_id) == (address, address, "generic", None)
    size = (site / "talk.mp4").stat().st_size
    assert (entry.title, entry.size_bytes, entry.live, entry.listed) == ("talk", size, False, False)
    came = fetch(entry, tmp_path, SETTINGS, lambda so_far, of: told.append((so_far, of)))
    assert came.path == tmp_path / f"{key_of(address)}.mp4"
    assert came.path.read_bytes() == (site / "talk.mp4").read_bytes()
    assert told[-1] == (size, size)
    assert (came.fetch.uri, came.fetch.size_bytes, came.fetch.lost_s) == (address, size, 0.0)
    assert came.fetch.sha256 == hashlib.sha256(came.path.read_bytes()).hexdigest()
    changed = datetime.fromtimestamp(int((site / "talk.mp4").stat().st_mtime), UTC)
    assert came.fetch.uploaded_at == changed
    assert re.fullmatch(r"yt-dlp \d{4}\.\d\d\.\d\d.*", came.fetch.tool)
    assert came.fetch.raw["webpage_url"] == address
    assert "url" not in came.fetch.raw
    assert [*(tmp_path / ".part").iterdir()] == []
    assert len(web.requests("/talk.mp4")) == 2  # one to look at it, one to fetch it


@pytest.mark.parametrize(
    ("path", "parts", "ending"),
    [
        ("hls/index.m3u8", ["hls/seg*.ts"], ".ts"),
        ("fmp4/index.m3u8", ["fmp4/init.mp4", "fmp4/seg*.m4s"], ".mp4"),
        ("dash/manifest.mpd", ["dash/init.m4s", "dash/part*.m4s"], ".m4a"),
    ],
)
def test_fragments_are_joined_in_order(
    web: WebServer, site: Path, tmp_path: Path, path: str, parts: list[str], ending: str
) -> None:
    (entry,) = look(f"{web.url}/{path}", Choice(), SETTINGS)
    assert not entry.live
    web.log.clear()
    came = fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert came.path.suffix == ending
    files = [file for part in parts for file in sorted(site.glob(part), key=lambda f: (len(f.name), f.name))]
    assert came.path.read_bytes() == b"".join(file.read_bytes() for file in files)
    assert sound_s(came.path) == pytest.approx(12.0, abs=0.2)
    assert came.fetch.announced_s == pytest.approx(12.0, abs=0.2)
    asked = [one for one in web.paths() if one != f"/{path}"]
    assert asked == [f"/{file.relative_to(site)}" for file in files]


def test_sound_alone_is_taken_where_it_is_offered(web: WebServer, tmp_path: Path) -> None:
    assert sound_s(get(f"{web.url}/hls/master.m3u8", tmp_path).path) == pytest.approx(12.0, abs=0.2)
    assert "/hls/video.m3u8" not in web.paths()


@pytest.mark.parametrize("kind", ["encrypted", "one file"])
def test_other_kinds_of_hls(web: WebServer, site: Path, tmp_path: Path, kind: str) -> None:
    web.folder = tmp_path
    (tmp_path / "hls").mkdir()
    (tmp_path / "hls" / "key").write_bytes(bytes(range(16)))
    (tmp_path / "keys").write_text(f"key\n{tmp_path / 'hls' / 'key'}\n")
    how = ("-hls_key_info_file", tmp_path / "keys") if kind == "encrypted" else ("-hls_flags", "single_file")
    vod = ("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod")
    ffmpeg("-i", site / "talk.wav", "-c:a", "aac", *vod, *how, tmp_path / "hls" / "index.m3u8")
    came = get(f"{web.url}/hls/index.m3u8", tmp_path / "media")
    assert sound_s(came.path) == pytest.approx(12.0, abs=0.2)
    assert came.fetch.announced_s == pytest.approx(12.0, abs=0.2)
    assert (len(web.requests("/hls/key")) == 1) is (kind == "encrypted")


def test_requests_are_spaced_and_downloads_held_back(web: WebServer, tmp_path: Path) -> None:
    slow = replace(SETTINGS, sleep_s=0.2, rate_limit=400_000)
    (entry,) = look(f"{web.url}/hls/master.m3u8", Choice(), slow)
    times = [one.at for one in web.log]
    assert len(times) == 3
    assert all(after - before >= 0.2 for before, after in pairwise(times))
    (entry,) = look(f"{web.url}/talk.wav", Choice(), SETTINGS)
    began = time.monotonic()
    fetch(entry, tmp_path, replace(SETTINGS, rate_limit=400_000), lambda *_: None)
    assert time.monotonic() - began > 0.8  # for 384 kB


def test_youtube_has_one_address_for_each(web: WebServer) -> None:
    """Nobody at YouTube is asked: a list names it, and its address says which it is."""
    items = [
        ("one", f"https://{place}", None, None)
        for place in ("www.youtube.com/shorts/abcdefghijk", "youtu.be/abcdefghijk")
    ]
    web.pages["/feed"] = feed("", items)
    (entry,) = look(f"{web.url}/feed", Choice(), SETTINGS)
    assert (entry.uri, entry.site, entry.site_id) == (
        "https://www.youtube.com/watch?v=abcdefghijk",
        "youtube",
        "abcdefghijk",
    )
    assert web.paths() == ["/feed"]


ITEMS = [
    ("Morning news", "/talk.mp3?1", "Mon, 06 Jan 2025 08:00:00 GMT", 12),
    ("اخبار کرمان", "/talk.mp3?2", "Tue, 07 Jan 2025 08:00:00 GMT", 3600),
    ("Undated", "/talk.mp3?3", None, None),
    ("Evening NEWS", "/talk.mp3?4", "Wed, 08 Jan 2025 08:00:00 GMT", 600),
]


@pytest.mark.parametrize(
    ("choice", "titles"),
    [
        (Choice(), ["Morning news", "اخبار کرمان", "Undated", "Evening NEWS"]),
        (Choice(limit=2), ["Morning news", "اخبار کرمان"]),
        (Choice(match="news"), ["Morning news", "Evening NEWS"]),
        (Choice(match="اخبار كرمان"), ["اخبار کرمان"]),  # with an Arabic kaf
        (Choice(since=date(2025, 1, 7)), ["اخبار کرمان", "Undated", "Evening NEWS"]),
        (Choice(max_duration_s=600), ["Morning news", "Undated", "Evening NEWS"]),
        (Choice(match="news", since=date(2025, 1, 7), limit=1), ["Evening NEWS"]),
    ],
)
def test_a_list_expands_to_the_chosen(web: WebServer, choice: Choice, titles: list[str]) -> None:
    web.pages["/feed"] = feed(web.url, ITEMS)
    found = look(f"{web.url}/feed", choice, SETTINGS)
    assert [entry.title for entry in found] == titles
    assert all(entry.listed and entry.asked == f"{web.url}/feed" for entry in found)
    assert web.paths() == ["/feed"]


def test_a_lists_entry_is_fetched_by_itself(web: WebServer, tmp_path: Path) -> None:
    web.pages["/feed"] = feed(web.url, ITEMS)
    entry = look(f"{web.url}/feed", Choice(limit=1), SETTINGS)[0]
    assert (entry.uri, entry.duration_s) == (f"{web.url}/talk.mp3?1", 12.0)
    came = fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert (came.fetch.title, came.fetch.announced_s) == ("Morning news", 12.0)
    assert came.fetch.uploaded_at == datetime(2025, 1, 6, 8, tzinfo=UTC)
    assert (came.fetch.asked, came.fetch.site_id) == (f"{web.url}/feed", None)


def test_what_a_list_does_not_tell_is_checked_when_it_is_fetched(web: WebServer, tmp_path: Path) -> None:
    web.pages["/feed"] = feed(web.url, [("Undated", "/talk.mp3", None, None)])
    (entry,) = look(f"{web.url}/feed", Choice(since=date(2199, 1, 1)), SETTINGS)
    with pytest.raises(NotWanted, match="not one of those asked for: 'Undated', uploaded on 20"):
        fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert [*tmp_path.glob("*.mp3")] == []
    (entry,) = look(f"{web.url}/feed", Choice(since=date(2020, 1, 1)), SETTINGS)
    assert fetch(entry, tmp_path, SETTINGS, lambda *_: None).path.is_file()


def test_of_a_long_list_only_what_is_needed_is_read(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from yt_dlp.extractor.common import InfoExtractor
    from yt_dlp.utils import OnDemandPagedList

    class ChannelIE(InfoExtractor):  # type: ignore[misc]
        _VALID_URL = r"https?://[^/]+/channel/(?P<id>\w+)"

        def _real_extract(self, url: str) -> Any:
            def rows(n: int) -> Any:
                for row in self._download_json(f"{url}/{n}", f"page {n}"):
                    yield self.url_result(f"{web.url}{row}", video_title=row)

            return self.playlist_result(OnDemandPagedList(rows, 2), "one")

    def with_channels(client: Client) -> None:
        client.add_info_extractor(ChannelIE())
        known(client)

    known = Client.add_default_info_extractors
    monkeypatch.setattr(Client, "add_default_info_extractors", with_channels)
    for n in range(5):
        rows = json.dumps([f"/{n}a.mp3", f"/{n}b.mp3"]).encode()
        web.pages[f"/channel/x/{n}"] = Page(rows, "application/json")
    found = look(f"{web.url}/channel/x", Choice(limit=3), SETTINGS)
    assert [entry.title for entry in found] == ["/0a.mp3", "/0b.mp3", "/1a.mp3"]
    assert web.paths() == ["/channel/x/0", "/channel/x/1"]


def test_a_page_with_several_recordings(web: WebServer, site: Path, tmp_path: Path) -> None:
    web.pages["/page"] = page(
        '<video src="/talk.mp4"></video><audio src="/talk.mp3"></audio>',
        '<video src="/hls/index.m3u8"></video><audio src="/talk.wav?token=1"></audio>',
    )
    found = look(f"{web.url}/page", Choice(), SETTINGS)
    own = [f"{web.url}/{name}" for name in ("talk.mp4", "talk.mp3", "hls/index.m3u8")]
    assert [entry.uri for entry in found] == [*own, f"{web.url}/page#page-4"]
    assert {entry.site_id for entry in found} == {None}
    web.log.clear()
    for entry in found:
        assert sound_s(fetch(entry, tmp_path, SETTINGS, lambda *_: None).path) == pytest.approx(12.0, abs=0.2)
    assert "/page" not in web.paths()
    again = fetch(replace(found[3], info=None), tmp_path / "by its address", SETTINGS, lambda *_: None)
    assert again.path.read_bytes() == (site / "talk.wav").read_bytes()


def test_a_link_that_has_expired_is_asked_for_anew(web: WebServer, site: Path, tmp_path: Path) -> None:
    def media(seen: Request) -> Page:
        body = (site / "talk.mp3").read_bytes()
        return Page(body, "audio/mpeg") if seen.path.endswith("=2") else Page(b"", status=403)

    web.pages["/page"] = page('<audio src="/signed.mp3?at=1"></audio>')
    (entry,) = look(f"{web.url}/page", Choice(), SETTINGS)
    web.pages["/page"] = page('<audio src="/signed.mp3?at=2"></audio>')
    web.pages["/signed.mp3"] = media
    web.log.clear()
    came = fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    assert came.path.read_bytes() == (site / "talk.mp3").read_bytes()
    assert [one.path for one in web.log] == ["/signed.mp3?at=1", "/page", "/signed.mp3?at=2"]


VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\n\xd8\xb3\xd9\x84\xd8\xa7\xd9\x85\n"


def test_subtitles_lie_beside_the_media(web: WebServer, tmp_path: Path) -> None:
    tracks = '<track kind="subtitles" srclang="fa" src="/fa.vtt"><track kind="subtitles" srclang="en" src="/en.vtt">'
    web.pages["/page"] = page(f'<video src="/talk.mp4">{tracks}</video>')
    web.pages["/fa.vtt"] = Page(VTT, "text/vtt")
    web.faults["/en.vtt"] = Fault(status=404)
    came = get(f"{web.url}/page", tmp_path)
    path = tmp_path / f"{key_of(f'{web.url}/page')}.fa.vtt"
    assert [(one.path, one.language, one.automatic) for one in came.subtitles] == [(path, "fa", False)]
    assert path.read_bytes() == VTT
    assert came.fetch.raw["subtitles"] == ["en", "fa"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"automatic_captions": {"fa": 1, "en": 1, "fa-orig": 1}}, ["fa.auto.vtt"]),  # as YouTube has it
        ({"automatic_captions": {"fa": 1, "en": 1}, "language": "fa-IR"}, ["fa.auto.vtt"]),
        ({"automatic_captions": {"fa": 1, "en": 1}}, []),  # which one was heard?
        ({"automatic_captions": {"fa": 1}}, ["fa.auto.vtt"]),
        ({"subtitles": {"fa": 1, "../../x": 1, "live_chat": 1}}, ["______x.vtt", "fa.vtt"]),
        ({"subtitles": {"fa": 1}, "automatic_captions": {"fa-orig": 1}}, ["fa.auto.vtt", "fa.vtt"]),
    ],
)
def test_automatic_subtitles_in_the_spoken_language_only(
    web: WebServer, tmp_path: Path, said: dict[str, Any], expected: list[str]
) -> None:
    web.pages["/s.vtt"] = Page(VTT, "text/vtt")
    formats = [{"ext": "json3", "url": f"{web.url}/no"}, {"ext": "vtt", "url": f"{web.url}/s.vtt"}]
    info = {key: dict.fromkeys(value, formats) if isinstance(value, dict) else value for key, value in said.items()}
    with Client(SETTINGS) as client:
        found = fetch_subtitles(client, {"id": "x", **info}, tmp_path / "part", tmp_path / "key")
    assert sorted(one.path.name for one in found) == [f"key.{name}" for name in expected]
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"key.{name}" for name in expected]


def test_live_streams_want_a_length(web: WebServer, tmp_path: Path) -> None:
    web.pages["/hls/live.m3u8"] = LiveHls([f"seg{n}.ts" for n in range(6)], 2.0)
    web.pages["/radio"] = Page(bytes(4096), "audio/mpeg", headers={"icy-name": "Radio"}, endless=True)
    for path in ("/hls/live.m3u8", "/radio"):
        (entry,) = look(web.url + path, Choice(), SETTINGS)
        assert entry.live, path
        with pytest.raises(FetchError, match=r"live stream.*--record MINUTES"):
            fetch(entry, tmp_path, SETTINGS, lambda *_: None)
    (entry,) = look("rtsp://user:word@127.0.0.1/tv", Choice(), SETTINGS)
    assert (entry.live, entry.uri) == (True, "rtsp://127.0.0.1/tv")


def test_a_live_stream_is_recorded(web: WebServer, tmp_path: Path) -> None:
    web.pages["/hls/live.m3u8"] = LiveHls([f"seg{n}.ts" for n in range(6)], 2.0)
    came = get(f"{web.url}/hls/live.m3u8", tmp_path, replace(SETTINGS, record_s=3.0))
    assert came.path.parent == tmp_path
    assert came.fetch.recorded_s == pytest.approx(3.0, abs=0.2)
    assert sound_s(came.path) == pytest.approx(3.0, abs=0.3)
    assert came.fetch.announced_s is None


def test_a_live_dash_stream_is_recorded(web: WebServer, site: Path, tmp_path: Path) -> None:
    began = f"{datetime.now(UTC) - timedelta(seconds=12):%Y-%m-%dT%H:%M:%SZ}"
    text = (site / "dash" / "manifest.mpd").read_text()
    text = text.replace('type="static"', f'type="dynamic" availabilityStartTime="{began}" minimumUpdatePeriod="PT1S"')
    web.pages["/dash/live.mpd"] = Page(text.encode(), "application/dash+xml")
    came = get(f"{web.url}/dash/live.mpd", tmp_path, replace(SETTINGS, record_s=3.0))
    assert came.fetch.recorded_s == pytest.approx(3.0, abs=0.2)
    assert sound_s(came.path) == pytest.approx(3.0, abs=0.3)
