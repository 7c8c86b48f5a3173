"""What goes wrong on the way: every fault is explained, and the next try completes what can be completed.

A server on this machine fails to order; its log says what was asked for, and what was asked for twice.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from corpus_builder.acquire.client import Client
from corpus_builder.acquire.errors import explained
from corpus_builder.acquire.records import Choice, Entry, Fetched, FetchError, FetchSettings
from corpus_builder.acquire.web import fetch, key_of, look
from tests.web_server import Fault, Page, Request, WebServer

SETTINGS = FetchSettings(backoff_s=0.01, timeout_s=5.0, retries=2, min_free_bytes=0)

# `fetch` in a process of its own, to be killed or to be kept from writing: address, folder, bytes a file may have
PROGRAM = """
import resource, sys
from pathlib import Path
from corpus_builder.acquire.records import Choice, FetchError, FetchSettings
from corpus_builder.acquire.web import fetch, look
address, media, most = sys.argv[1:]
settings = FetchSettings(min_free_bytes=0)
(entry,) = look(address, Choice(), settings)
if most != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
try:
    print(fetch(entry, Path(media), settings, lambda so_far, of: print(so_far, flush=True)).path)
except FetchError as error:
    print(error)
"""


def found(address: str) -> Entry:
    (entry,) = look(address, Choice(), SETTINGS)
    return entry


def fetched(entry: Entry, media: Path, settings: FetchSettings = SETTINGS) -> Fetched:
    return fetch(entry, media, settings, lambda *_: None)


def refused(entry: Entry, media: Path, settings: FetchSettings = SETTINGS) -> FetchError:
    """The error that fetching an entry ends in; no file is where finished ones lie."""
    with pytest.raises(FetchError) as failed:
        fetched(entry, media, settings)
    assert entry.uri in str(failed.value)
    assert "\n" not in str(failed.value)
    assert [one for one in media.glob("*") if one.name != ".part"] == []
    return failed.value


def whole(site: Path, pattern: str) -> bytes:
    """The bytes of the site's files, in order."""
    return b"".join(f.read_bytes() for f in sorted(site.glob(pattern), key=lambda f: (len(f.name), f.name)))


def lengths(manifest: Path) -> list[float]:
    return [float(one) for one in re.findall(r"#EXTINF:([\d.]+)", manifest.read_text())]


@pytest.mark.parametrize("bad", [[2], [0, 4, 6]])
def test_missing_hls_fragments(web: WebServer, site: Path, tmp_path: Path, bad: list[int]) -> None:
    seconds = lengths(site / "hls" / "index.m3u8")
    entry = found(f"{web.url}/hls/index.m3u8")
    web.faults |= {f"/hls/seg{n}.ts": Fault(status=404) for n in bad}
    web.log.clear()
    error = refused(entry, tmp_path)
    lost = sum(seconds[n] for n in bad)
    numbers = "fragment 3 of 7 is missing" if bad == [2] else "fragments 1, 5 and 7 of 7 are missing"
    assert error.why.startswith(f"{numbers} ({lost:.1f} s of {sum(seconds):.1f} s); the site answered 404")
    assert error.lost_s == pytest.approx(lost)
    fragments = [path for path in web.paths() if path.endswith(".ts")]
    assert sorted(fragments) == sorted([f"/hls/seg{n}.ts" for n in [*range(7), *bad]])  # each missing one twice
    web.faults.clear()
    web.log.clear()
    came = fetched(entry, tmp_path)
    assert [path for path in web.paths() if path.endswith(".ts")] == [f"/hls/seg{n}.ts" for n in bad]
    assert came.path.read_bytes() == whole(site, "hls/*.ts")
    assert came.fetch.announced_s == pytest.approx(sum(seconds))
    assert [*(tmp_path / ".part").iterdir()] == []


@pytest.mark.parametrize(
    ("name", "words", "lost"),
    [("part2", "fragment 2 of 6 is missing", 2.0), ("init", "header of its 6 fragments", 12.0)],
)
def test_missing_dash_fragments(web: WebServer, site: Path, tmp_path: Path, name: str, words: str, lost: float) -> None:
    entry = found(f"{web.url}/dash/manifest.mpd")
    web.faults[f"/dash/{name}.m4s"] = Fault(status=404)
    error = refused(entry, tmp_path)
    assert words in error.why
    assert error.lost_s == pytest.approx(lost, abs=0.1)
    web.faults.clear()
    web.log.clear()
    came = fetched(entry, tmp_path)
    assert web.paths() == [f"/dash/{name}.m4s"]
    assert came.path.read_bytes() == whole(site, "dash/init.m4s") + whole(site, "dash/part*.m4s")


def test_fragments_of_another_manifest_are_not_mixed_in(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/hls/index.m3u8")
    web.faults["/hls/seg6.ts"] = Fault(status=404)
    refused(entry, tmp_path)
    text = (site / "hls" / "index.m3u8").read_text().replace("seg", "../fmp4/seg").replace(".ts", ".m4s")
    web.pages["/hls/index.m3u8"] = Page(text.encode(), "application/vnd.apple.mpegurl")
    assert fetched(entry, tmp_path).path.read_bytes() == whole(site, "fmp4/*.m4s")


def test_a_run_killed_while_it_joined_joins_nothing_twice(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/hls/index.m3u8")
    web.faults["/hls/seg6.ts"] = Fault(status=404)
    refused(entry, tmp_path)
    (joined,) = (tmp_path / ".part").glob("*.part")
    joined.write_bytes(b"the first half of it")
    web.faults.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == whole(site, "hls/*.ts")


@pytest.mark.parametrize("times", [1, None])
def test_a_dropped_connection_is_resumed(web: WebServer, site: Path, tmp_path: Path, times: int | None) -> None:
    """Once, or again and again: as long as more comes each time."""
    size = (site / "talk.wav").stat().st_size
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(drop_after=100_000, times=times)
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()
    starts = [int(one.range[6:-1]) if one.range else 0 for one in web.log]
    assert starts == sorted(set(starts))
    assert len(starts) == (2 if times else 1 + (size - 1) // 98_304)  # whole blocks of 32 kB are kept
    assert [one.status for one in web.log] == [200, *[206] * (len(starts) - 1)]


def test_a_server_without_ranges_starts_over(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(drop_after=100_000, no_ranges=True)
    size = (site / "talk.wav").stat().st_size
    assert f"broke off after 98304 of {size} bytes, 3 times" in refused(entry, tmp_path).why
    web.faults["/talk.wav"] = Fault(no_ranges=True)
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()
    assert web.log[-1].sent == size


def test_what_came_is_kept_for_the_next_run(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(drop_after=100_000, no_ranges=True)
    refused(entry, tmp_path)
    web.faults.clear()
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()
    assert [one.range for one in web.log] == ["bytes=98304-"]


def test_a_part_that_is_the_whole_is_not_fetched_again(web: WebServer, site: Path, tmp_path: Path) -> None:
    """As a run leaves it that is killed between the last byte and the new name."""
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(drop_after=100_000, no_ranges=True)
    refused(entry, tmp_path)
    (part,) = (tmp_path / ".part").glob("*.part")
    part.write_bytes((site / "talk.wav").read_bytes())
    web.faults.clear()
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()
    assert {(one.status, one.sent) for one in web.log} == {(416, 0)}


def test_a_part_that_is_longer_than_the_file_is_dropped(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(drop_after=100_000, no_ranges=True)
    refused(entry, tmp_path)
    (part,) = (tmp_path / ".part").glob("*.part")
    part.write_bytes((site / "talk.wav").read_bytes() * 2)
    web.faults.clear()
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()
    assert web.log[-1].status == 200


def test_part_of_a_fragment_is_dropped(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/hls/index.m3u8")
    web.faults["/hls/seg6.ts"] = Fault(status=404)
    refused(entry, tmp_path)
    (first,) = (tmp_path / ".part").glob("*-Frag1")
    first.rename(f"{first}.part")  # all of it, under the name of a part
    web.faults.clear()
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == whole(site, "hls/*.ts")
    assert [path for path in web.paths() if path.endswith(".ts")] == ["/hls/seg0.ts", "/hls/seg6.ts"]


def test_a_file_that_has_changed_comes_whole(web: WebServer, site: Path, tmp_path: Path) -> None:
    old, new = (site / "talk.wav").read_bytes(), (site / "talk.wav").read_bytes()[::-1]
    web.pages["/a.wav"] = Page(old, "audio/wav", headers={"ETag": '"old"'})
    entry = found(f"{web.url}/a.wav")
    web.faults["/a.wav"] = Fault(drop_after=100_000, no_ranges=True)
    refused(entry, tmp_path)
    web.faults.clear()
    web.pages["/a.wav"] = Page(new, "audio/wav", headers={"ETag": '"new"'})
    assert fetched(entry, tmp_path).path.read_bytes() == new
    assert web.log[-1].headers["if-range"] == '"old"'


def test_a_length_that_is_a_lie(web: WebServer, site: Path, tmp_path: Path) -> None:
    size = (site / "talk.wav").stat().st_size
    entry = found(f"{web.url}/talk.wav")
    web.faults["/talk.wav"] = Fault(announce=1000)
    why = refused(entry, tmp_path).why
    assert re.search(rf"broke off after \d+ of {size + 1000} bytes, 3 times", why)
    (part,) = (tmp_path / ".part").glob("*.part")
    assert 0 < part.stat().st_size <= size
    web.faults.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.wav").read_bytes()


def test_a_server_that_never_answers(web: WebServer, tmp_path: Path) -> None:
    impatient = replace(SETTINGS, timeout_s=0.2, retries=1)
    web.faults["/talk.mp3"] = Fault(hang=True)
    with pytest.raises(FetchError, match=r"does not answer within 0\.2 s, 2 times"):
        look(f"{web.url}/talk.mp3", Choice(), impatient)
    assert len(web.log) == 2
    web.faults.clear()
    entry = found(f"{web.url}/talk.mp3")
    web.faults["/talk.mp3"] = Fault(hang=True)
    web.log.clear()
    assert "does not answer within 0.2 s, 2 times" in refused(entry, tmp_path, impatient).why
    assert len(web.log) == 2


def test_a_file_is_asked_for_its_headers_alone(web: WebServer) -> None:
    found(f"{web.url}/talk.mp3")
    assert [(one.method, one.status, one.sent) for one in web.log] == [("HEAD", 200, 0)]


@pytest.mark.parametrize("answer", [405, 403, 200, None])
def test_a_server_that_tells_no_headers_is_asked_for_the_file(
    web: WebServer, site: Path, tmp_path: Path, answer: int | None
) -> None:
    """200: its headers have no length; None: it hangs up on such a question, as old radio servers do."""

    def page(seen: Request) -> Page:
        if seen.method == "HEAD" and answer is None:
            raise ConnectionAbortedError
        if seen.method == "HEAD":
            return Page(b"", "audio/mpeg", status=answer or 0)
        return Page((site / "talk.mp3").read_bytes(), "audio/mpeg")

    web.pages["/talk.mp3"] = page
    entry = found(f"{web.url}/talk.mp3")
    assert [one.method for one in web.log] == ["HEAD", "GET"]
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.mp3").read_bytes()


def test_a_station_that_says_so_only_in_full_is_one(web: WebServer, site: Path, tmp_path: Path) -> None:
    def station(seen: Request) -> Page:
        name = {} if seen.method == "HEAD" else {"icy-name": "A station"}
        return Page((site / "talk.mp3").read_bytes(), "audio/mpeg", headers=name, endless=True)

    web.pages["/radio.mp3"] = station
    entry = found(f"{web.url}/radio.mp3")
    assert [one.method for one in web.log] == ["HEAD", "GET"]
    assert "--record MINUTES" in refused(entry, tmp_path).why


def test_no_server_at_all(web: WebServer) -> None:
    web.__exit__()
    with pytest.raises(FetchError, match=r"can't be reached|connection failed"):
        look(f"{web.url}/talk.mp3", Choice(), SETTINGS)


def test_too_many_requests(web: WebServer, site: Path, tmp_path: Path) -> None:
    web.faults["/talk.mp3"] = Fault(status=429, times=2)
    entry = found(f"{web.url}/talk.mp3")
    assert [one.status for one in web.log] == [429, 429, 200]
    web.faults["/talk.mp3"] = Fault(status=429, times=2)
    assert fetched(entry, tmp_path / "a").path.read_bytes() == (site / "talk.mp3").read_bytes()
    web.faults["/talk.mp3"] = Fault(status=429)
    web.log.clear()
    error = refused(entry, tmp_path / "b")
    assert "answered 429 (too many requests), 3 times" in error.why
    assert "--sleep" in error.why
    assert not error.permanent
    assert len(web.log) == 3


def test_a_site_that_asks_to_be_left_alone_is(web: WebServer, tmp_path: Path) -> None:
    entry = found(f"{web.url}/talk.mp3")
    web.faults["/talk.mp3"] = Fault(status=429, times=1, headers={"Retry-After": "1"})
    before = time.monotonic()
    fetched(entry, tmp_path / "a")
    assert time.monotonic() - before >= 1.0
    web.faults["/talk.mp3"] = Fault(status=429, headers={"Retry-After": "3600"})
    web.log.clear()
    assert "asks to wait 3600 s" in refused(entry, tmp_path / "b").why
    assert len(web.log) == 1


def test_too_many_requests_for_fragments_end_it(web: WebServer, tmp_path: Path) -> None:
    entry = found(f"{web.url}/hls/index.m3u8")
    web.faults["/hls/seg2.ts"] = Fault(status=429)
    assert "429 (too many requests), 3 times" in refused(entry, tmp_path).why
    assert "/hls/seg3.ts" not in web.paths()


@pytest.mark.parametrize(
    ("status", "words", "permanent", "tries"),
    [
        (403, ["refuses it (403)", "--cookies-from-browser", "--proxy"], False, 2),  # for the headers, and for the file
        (401, ["(not authorised)", "--cookies"], False, 1),
        (404, ["nothing there (404 Not Found)"], True, 1),
        (410, ["nothing there (410 Gone)"], True, 1),
        (503, ["in trouble (503 Service Unavailable), 3 times"], False, 3),
    ],
)
def test_answers_are_explained(web: WebServer, status: int, words: list[str], permanent: bool, tries: int) -> None:
    web.faults["/talk.mp3"] = Fault(status=status)
    with pytest.raises(FetchError) as failed:
        look(f"{web.url}/talk.mp3", Choice(), SETTINGS)
    assert all(one in failed.value.why for one in words), failed.value.why
    assert (failed.value.permanent, len(web.log)) == (permanent, tries)


def test_a_site_in_trouble_is_tried_again(web: WebServer, site: Path, tmp_path: Path) -> None:
    entry = found(f"{web.url}/talk.mp3")
    web.faults["/talk.mp3"] = Fault(status=503, times=2)
    web.log.clear()
    assert fetched(entry, tmp_path).path.read_bytes() == (site / "talk.mp3").read_bytes()
    assert [one.status for one in web.log] == [503, 503, 200]


def test_pages_are_not_media(web: WebServer, tmp_path: Path) -> None:
    web.pages["/login"] = Page(b"<!DOCTYPE html><html><form>Your name?</form></html>")
    web.pages["/away"] = Page(b"", status=302, headers={"Location": "/login"})
    for path in ("/login", "/away"):
        with pytest.raises(FetchError, match=r"a page \(to log in, perhaps\) without media.*ingest the file") as failed:
            look(web.url + path, Choice(), SETTINGS)
        assert failed.value.permanent
    entry = found(f"{web.url}/talk.mp3")
    web.faults["/talk.mp3"] = Fault(status=302, headers={"Location": "/login"}, times=1)
    assert "what comes is a web page, not media" in refused(entry, tmp_path).why
    assert fetched(entry, tmp_path).path.is_file()


def test_a_page_without_end_is_given_up(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus_builder.acquire.client.PAGE_BYTES", 3 << 20)
    web.pages["/endless"] = Page(b"<html>" + b"<p>more</p>" * 10_000, endless=True)
    with pytest.raises(FetchError, match="page has no end"):
        look(f"{web.url}/endless", Choice(), SETTINGS)


Disk = namedtuple("Disk", "total used free")


def test_room_on_the_disk_is_looked_for_first(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = found(f"{web.url}/talk.wav")
    web.log.clear()
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(10**9, 0, 5_300_000))
    careful = replace(SETTINGS, min_free_bytes=5_000_000)
    assert (
        "no room for it: it takes about 0 MB, and 5 MB must stay free of 5 MB" in refused(entry, tmp_path, careful).why
    )
    assert web.log == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(10**9, 0, 5_400_000))
    assert fetched(entry, tmp_path, careful).path.is_file()


def test_the_disk_is_watched(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = found(f"{web.url}/talk.wav")
    free = iter([10**9, 100])
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(10**9, 0, next(free)))
    monkeypatch.setattr("corpus_builder.acquire.download._LOOK_AT_THE_DISK", 50_000)
    error = refused(entry, tmp_path, replace(SETTINGS, min_free_bytes=1000))
    assert "the disk is nearly full" in error.why
    (part,) = (tmp_path / ".part").glob("*.part")
    assert part.stat().st_size > 0


Program = Callable[[str, Path, int], "subprocess.Popen[str]"]


@pytest.fixture
def program(repository: Path) -> Program:
    """`fetch` in a process of its own."""

    def start(address: str, media: Path, most: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, address, str(media), str(most)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)

    return start


@pytest.mark.parametrize("path", ["/talk.wav", "/hls/index.m3u8"])
def test_a_full_disk(web: WebServer, site: Path, tmp_path: Path, program: Program, path: str) -> None:
    """The system refuses to write on."""
    said, _ = program(web.url + path, tmp_path, 15_000).communicate()
    assert "the disk is full" in said.splitlines()[-1]
    assert [one for one in tmp_path.iterdir() if one.name != ".part"] == []
    assert fetched(found(web.url + path), tmp_path).path.is_file()


@pytest.mark.parametrize("path", ["/talk.wav", "/hls/index.m3u8"])
def test_killed_and_run_again(web: WebServer, site: Path, tmp_path: Path, program: Program, path: str) -> None:
    web.bytes_per_s = 60_000
    process = program(web.url + path, tmp_path)
    assert process.stdout
    while int(process.stdout.readline()) < 50_000:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    web.bytes_per_s = None
    entry = found(web.url + path)
    before = web.paths()
    web.log.clear()
    came = fetched(entry, tmp_path)
    if path == "/talk.wav":
        assert came.path.read_bytes() == (site / "talk.wav").read_bytes()
        (again,) = web.log
        assert again.range
        assert int(again.range[6:-1]) >= 50_000
        assert again.sent <= (site / "talk.wav").stat().st_size - 50_000
    else:
        assert came.path.read_bytes() == whole(site, "hls/*.ts")
        asked = [one.path for one in web.log if one.path.endswith(".ts") and not one.range]
        assert "/hls/seg0.ts" in before
        assert not {"/hls/seg0.ts", "/hls/seg1.ts"} & {*asked}


def test_what_the_caller_raises_ends_it(web: WebServer, tmp_path: Path) -> None:
    def tell(so_far: int, _: int | None) -> None:
        if so_far > 50_000:
            raise FetchError("", "stopped")

    for path in ("/talk.wav", "/hls/index.m3u8"):
        with pytest.raises(FetchError, match="stopped"):
            fetch(found(web.url + path), tmp_path, SETTINGS, tell)
    assert [one.name for one in tmp_path.iterdir()] == [".part"]


def test_many_at_a_time_and_in_silence(
    web: WebServer, site: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = ["talk.wav", "talk.mp3", "talk.mp4", "hls/index.m3u8", "fmp4/index.m3u8", "dash/manifest.mpd", "none.mp3"]
    web.faults["/talk.mp3"] = Fault(status=503, times=2)

    def one(path: str) -> Fetched | FetchError:
        try:
            return fetched(found(f"{web.url}/{path}"), tmp_path)
        except FetchError as error:
            return error

    with ThreadPoolExecutor(len(paths)) as pool:
        came = dict(zip(paths, pool.map(one, paths), strict=True))
    assert isinstance(came.pop("none.mp3"), FetchError)
    assert {path: one.path.stem for path, one in came.items() if isinstance(one, Fetched)} == {
        path: key_of(f"{web.url}/{path}") for path in came
    }
    assert capfd.readouterr() == ("", "")


def explanation(error: Exception, *messages: str) -> str:
    """What is said of an error that yt-dlp raises after some messages."""
    with Client(SETTINGS) as client:
        client.messages.lines.extend(messages)
        with pytest.raises(FetchError) as failed, explained("https://a/", client):
            raise error
    return failed.value.why


def test_a_missing_javascript_runtime_is_named() -> None:
    from yt_dlp.utils import DownloadError, ExtractorError

    cause = ExtractorError("Requested format is not available. Use --list-formats", expected=True)
    error = DownloadError("ERROR: [youtube] x", (ExtractorError, cause, None))
    warning = "[youtube] No supported JavaScript runtime could be found. Only deno is enabled by default"
    sentence = "there is no sound in it that can be downloaded"
    assert explanation(error) == sentence
    assert explanation(error, warning) == (
        f"{sentence}; YouTube wants a JavaScript runtime, and there is none: pip install deno"
    )


def test_what_yt_dlp_stumbles_over_is_said() -> None:
    from yt_dlp.utils import ExtractorError

    why = explanation(KeyError("title"))
    assert "does not understand what the site answers (KeyError: 'title'); update it (pip install -U yt-dlp" in why
    private = ExtractorError("\x1b[0;31mPrivate video\n  See https://github.com/yt-dlp/wiki", expected=True)
    assert explanation(private) == "Private video"
