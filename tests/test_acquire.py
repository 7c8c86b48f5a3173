"""`pdid ingest` of web addresses: real yt-dlp against a server on this machine that works, or fails, in known ways."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.records import Status
from corpus_builder.acquire import arrivals
from corpus_builder.acquire.addresses import key_of
from corpus_builder.acquire.records import Choice, FetchSettings
from corpus_builder.config import Settings
from corpus_builder.ingest import Outcome, Web, ingest
from corpus_builder.plan import make_plan
from corpus_builder.sources import find_sources
from corpus_builder.taxonomy import load_taxonomy
from tests.media import EMBEDDED, Pdid, convert, query, start_pdid
from tests.web_server import Fault, LiveHls, Page, WebServer, feed

SETTINGS: dict[str, Any] = {"separate": {"mode": "never"}, "diarize": {"engine": "embedded"}}
QUICK = FetchSettings(timeout_s=1.0, retries=2, backoff_s=0.05, record_s=4.0, min_free_bytes=0)


def run(corpus: Path, *sources: str, jobs: int = 1, web: Web | None = None, **of_sources: Any) -> list[Outcome]:
    """Ingest in this process."""
    plan = make_plan(Settings.model_validate(SETTINGS), lambda line: None)
    requests = find_sources(sources, load_taxonomy("persian", corpus), **of_sources)
    return list(ingest(requests, corpus, plan, jobs, lambda *_: None, web or Web(QUICK, Choice())))


def said(corpus: Path, columns: str = "status, error") -> dict[str, Any]:
    """What the catalog says of each source, by the end of its address."""
    found = query(corpus, f"SELECT uri, {columns} FROM sources ORDER BY uri")
    return {row[0].rpartition("/")[2]: row[1] if len(row) == 2 else row[1:] for row in found}


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[WebServer]:
    """A server of an empty folder."""
    (tmp_path / "site").mkdir()
    with WebServer(tmp_path / "site") as server:
        yield server


def test_every_shape_comes_in_once(web: WebServer, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    web.pages["/feed.xml"] = feed(
        web.url, [("یک", "/talk.mp3", "Sat, 03 Jan 2026 10:00:00 GMT", 12), ("دو", "/talk.mp4", None, None)]
    )
    segments = sorted((path.name for path in (web.folder / "hls").glob("seg*.ts")), key=lambda name: int(name[3:-3]))
    web.pages["/hls/live.m3u8"] = LiveHls(segments, 2.0)
    shapes = ["talk.wav", "hls/index.m3u8", "fmp4/index.m3u8", "dash/manifest.mpd", "feed.xml", "hls/live.m3u8"]
    sources = [f"{web.url}/{shape}" for shape in shapes]
    outcomes = run(corpus, *sources, accent="yazdi")
    assert {outcome.status for outcome in outcomes} == {Status.DONE}, [outcome.error for outcome in outcomes]
    assert len(outcomes) == 7  # the feed has two
    found = query(corpus, "SELECT uri, duration_s, accent, site, sha256, title, uploaded_at FROM sources")
    by_name = {row[0].removeprefix(web.url): row for row in found}
    assert by_name.keys() == {"/talk.mp3", "/talk.mp4", *(f"/{shape}" for shape in shapes if shape != "feed.xml")}
    for name, row in by_name.items():
        assert row[1] == pytest.approx(4.0, abs=1.1) if "live" in name else row[1] == pytest.approx(12.0, abs=0.15)
        assert row[2:4] == ("Yazdi", "generic")
        assert len(row[4]) == 64
    assert by_name["/talk.mp3"][5] == "یک"
    assert by_name["/talk.mp3"][6].strftime("%F") == "2026-01-03"
    assert query(corpus, "SELECT recorded_s > 3 FROM fetches WHERE recorded_s IS NOT NULL") == [(True,)]
    fetched = query(corpus, "SELECT media, size_bytes, asked, tool FROM fetches")
    assert len(fetched) == 7
    for media, size, asked, tool in fetched:
        assert (corpus / media).stat().st_size == size
        assert asked in sources
        assert tool.startswith("yt-dlp 20")
    web.log.clear()
    again = run(corpus, *sources, accent="yazdi")
    assert [outcome.fresh for outcome in again] == [False] * 7
    assert web.paths() == ["/feed.xml"]  # a list is read again, for what is new in it


def test_what_fails_is_said_and_the_next_run_completes_it(
    own_site: WebServer, site: Path, make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    """Every fault at once; then all is well, and only what is missing is fetched."""
    corpus, server = tmp_path / "corpus", own_site
    clip = "librispeech/1688-142285-0000.flac"
    names = ("good", "dropped", "busy", "long", "silent", "forbidden", "gone")
    for n, name in enumerate(names):
        shutil.copy(make_wav(f"{name}.wav", clip, seconds=6 + n / 10), server.folder / f"{name}.wav")
    shutil.copytree(site / "hls", server.folder / "hls")
    cut = shutil.copy(site / "talk.mp4", server.folder)
    size = (server.folder / "dropped.wav").stat().st_size
    server.faults |= {
        "/dropped.wav": Fault(drop_after=100_000),
        "/busy.wav": Fault(times=2, status=429),
        "/talk.mp4": Fault(announce=-Path(cut).stat().st_size // 2),  # less than there is: the file comes cut
        "/long.wav": Fault(announce=50_000),  # more than there is
        "/silent.wav": Fault(hang=True),
        "/forbidden.wav": Fault(status=403),
        "/gone.wav": Fault(status=404),
        "/hls/seg2.ts": Fault(status=404),
    }
    sources = [f"{server.url}/{name}" for name in (*(f"{name}.wav" for name in names), "hls/index.m3u8", "talk.mp4")]
    outcomes = run(corpus, *sources)
    first = said(corpus)
    assert first["good.wav"] == ("done", None)
    assert first["busy.wav"] == ("done", None)
    assert first["talk.mp4"] == ("done", None)
    lengths = query(corpus, "SELECT length_differs, announced_s, duration_s FROM sources WHERE uri LIKE '%/talk.mp4'")
    assert lengths[0][0] is True
    assert lengths[0][1] == pytest.approx(12, abs=0.1)
    assert 4 < lengths[0][2] < 8
    expected = {
        "long.wav": r"bytes",
        "silent.wav": r"does not answer within 1 s, 3 times",
        "forbidden.wav": r"403",
        "gone.wav": r"404",
        "index.m3u8": r"fragment 3 of 7 is missing \(2.0 s of 12.1 s\); the site answered 404",
    }
    for name, words in expected.items():
        status, error = first[name]
        assert status == "failed"
        assert re.search(words, error), error
    assert sum(outcome.status is Status.FAILED for outcome in outcomes) == sum(
        row[0] == "failed" for row in first.values()
    )
    assert said(corpus, "lost_s")["index.m3u8"] == pytest.approx(2.0, abs=0.1)
    # the connection was dropped again and again: each try goes on where the last one ended
    ranges = [request.range for request in server.requests("/dropped.wav") if request.range]
    assert any(part and int(part[6:].rstrip("-")) >= 60_000 for part in ranges)

    server.faults.clear()
    server.log.clear()
    run(corpus, *sources)
    second = said(corpus)
    assert {status for status, _ in second.values()} == {"done"}, second
    assert not server.requests("/good.wav")
    assert not server.requests("/busy.wav")
    assert [path for path in server.paths() if path.startswith("/hls/seg")] == ["/hls/seg2.ts"]
    assert query(corpus, "SELECT duration_s FROM sources WHERE uri LIKE '%index.m3u8'")[0][0] == pytest.approx(
        12, abs=0.15
    )
    assert query(corpus, "SELECT size_bytes FROM fetches WHERE uri LIKE '%/dropped.wav'") == [(size,)]
    server.log.clear()
    run(corpus, *sources)
    assert server.log == []


def test_fifty_sources_ten_of_them_faulty(own_site: WebServer, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    faults = [
        Fault(status=404), Fault(status=403), Fault(status=500), Fault(hang=True), Fault(announce=10_000),
        Fault(status=429), Fault(status=302, headers={"Location": "file:///etc/passwd"}), Fault(status=410),
    ]  # fmt: skip
    clips = [f"librispeech/1688-142285-{n:04d}.flac" for n in (0, 1)]
    for n in range(48):
        path = make_wav(f"{n:02d}.wav", clips[n % 2], seconds=3.5 + n / 100)
        shutil.copy(path, own_site.folder / path.name)
    own_site.faults = {f"/{n * 6:02d}.wav": fault for n, fault in enumerate(faults)}
    own_site.pages["/login"] = Page("<html><title>ورود</title><form>password</form></html>".encode())
    own_site.pages["/noise.mp3"] = Page(b"not a sound at all " * 200, "audio/mpeg")
    listed = [f"{own_site.url}/{n:02d}.wav" for n in range(48)] + [f"{own_site.url}/login", f"{own_site.url}/noise.mp3"]
    sheet = tmp_path / "sources.csv"
    sheet.write_text("source,accent\n" + "".join(f"{address},Yazdi\n" for address in listed), "utf-8")
    outcomes = run(tmp_path / "corpus", sources_file=sheet)
    assert len(outcomes) == 50
    counts = query(tmp_path / "corpus", "SELECT status, count(*), count(error) FROM sources GROUP BY ALL ORDER BY ALL")
    assert counts == [("done", 40, 0), ("failed", 10, 10)]
    failed = {
        row[0].removeprefix(own_site.url)
        for row in query(tmp_path / "corpus", "SELECT uri FROM sources WHERE status = 'failed'")
    }
    assert failed == own_site.faults.keys() | {"/login", "/noise.mp3"}


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_stopped_download_goes_on_where_it_was(
    own_site: WebServer, talk: Path, tmp_path: Path, how: signal.Signals, code: int
) -> None:
    corpus = tmp_path / "corpus"
    whole = convert(talk, own_site.folder / "talk.wav", "-ar", 48_000, "-ac", 2)
    size = whole.stat().st_size
    own_site.faults["/talk.wav"] = Fault(bytes_per_s=size // 6)
    process = start_pdid("ingest", f"{own_site.url}/talk.wav", "--corpus", corpus, *EMBEDDED)
    part = corpus / "media" / ".part"
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline
        and not (sum(f.stat().st_size for f in part.glob("*")) if part.is_dir() else 0) > size // 4
    ):
        time.sleep(0.05)
    process.send_signal(how)
    process.communicate(timeout=20)
    assert process.returncode == code
    there = sum(file.stat().st_size for file in part.glob("*"))
    assert size // 4 < there < size
    own_site.faults.clear()
    own_site.log.clear()
    outcomes = run(corpus, f"{own_site.url}/talk.wav")
    assert [outcome.status for outcome in outcomes] == [Status.DONE]
    # looking at what it is takes the first bytes of it
    body = [request for request in own_site.requests("/talk.wav") if request.sent > size // 5]
    assert [request.status for request in body] == [206]
    start = re.fullmatch(r"bytes=(\d+)-", body[0].range or "")
    assert start
    assert int(start[1]) >= size // 4
    assert sum(request.sent for request in own_site.log) < size - size // 8
    media = query(corpus, "SELECT media, sha256 FROM fetches")[0]
    assert (corpus / media[0]).read_bytes() == whole.read_bytes()


def test_a_run_killed_after_a_download_does_not_fetch_it_again(
    own_site: WebServer, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, address = tmp_path / "corpus", f"{own_site.url}/talk.wav"
    shutil.copy(talk, own_site.folder / "talk.wav")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("corpus_builder.ingest.work", killed)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, address)
    assert (corpus / "media" / f"{key_of(address)}.wav").stat().st_size == talk.stat().st_size
    own_site.log.clear()
    assert [outcome.status for outcome in run(corpus, address)] == [Status.DONE]
    assert own_site.log == []
    assert query(corpus, "SELECT count(*) FROM fetches WHERE sha256 IS NOT NULL") == [(1,)]


@pytest.mark.parametrize(("keep", "left"), [("always", {"good", "bad"}), ("failed", {"bad"}), ("never", set())])
def test_which_downloads_are_kept(own_site: WebServer, talk: Path, tmp_path: Path, keep: Any, left: set[str]) -> None:
    corpus = tmp_path / "corpus"
    shutil.copy(talk, own_site.folder / "good.wav")
    own_site.pages["/bad.mp3"] = Page(b"not a sound at all " * 200, "audio/mpeg")
    good, bad = f"{own_site.url}/good.wav", f"{own_site.url}/bad.mp3"
    web = Web(QUICK, Choice(), keep)
    run(corpus, good, bad, web=web)
    assert said(corpus, "status") == {"good.wav": "done", "bad.mp3": "failed"}
    names = {key_of(good): "good", key_of(bad): "bad"}
    assert {names[file.name.split(".")[0]] for file in (corpus / "media").glob("*.*") if file.is_file()} == left
    assert query(corpus, "SELECT count(media) FROM fetches") == [(len(left),)]
    own_site.log.clear()
    run(corpus, good, bad, web=web)
    asked = {request.path for request in own_site.log}
    assert asked == (set() if "bad" in left else {"/bad.mp3"})  # what failed and is there is only tried anew


def test_settings_changed_use_the_kept_download(own_site: WebServer, talk: Path, tmp_path: Path) -> None:
    corpus, address = tmp_path / "corpus", f"{own_site.url}/talk.wav"
    shutil.copy(talk, own_site.folder / "talk.wav")
    run(corpus, address)
    own_site.log.clear()
    plan = make_plan(Settings.model_validate(SETTINGS | {"segment": {"max_s": 8.0}}), lambda line: None)
    requests = find_sources([address], load_taxonomy("persian", corpus))
    outcomes = list(ingest(requests, corpus, plan, 1, lambda *_: None, Web(QUICK, Choice())))
    assert [(outcome.status, outcome.fresh) for outcome in outcomes] == [(Status.DONE, True)]
    assert own_site.log == []
    assert query(corpus, "SELECT max(duration_s) <= 8 FROM segments WHERE kept") == [(True,)]


def test_subtitles_become_candidates_and_two_processes_give_the_same(web: WebServer, tmp_path: Path) -> None:
    """A page with a video and its track, as HTML has it."""
    (tmp_path / "subs").mkdir()
    web.pages["/talk.fa.vtt"] = Page("WEBVTT\n\n00:00:01.000 --> 00:00:04.000\nسلام به همه\n".encode(), "text/vtt")
    web.pages["/page"] = Page(
        f'<html><head><title>برنامه</title></head><body><video src="{web.url}/talk.mp4" title="t">'
        f'<track kind="subtitles" src="{web.url}/talk.fa.vtt" srclang="fa"></video></body></html>'.encode()
    )
    outcomes = run(tmp_path / "corpus", f"{web.url}/page", f"{web.url}/talk.wav", f"{web.url}/talk.mp3", jobs=2)
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 3
    found = query(tmp_path / "corpus", "SELECT start_s, end_s, text, language, origin FROM transcripts")
    assert found == [(1.0, 4.0, "سلام به همه", "fa", "subtitle")]


def test_a_dry_run_lists_and_fetches_nothing(web: WebServer, tmp_path: Path, pdid: Pdid) -> None:
    corpus = tmp_path / "corpus"
    web.pages["/feed.xml"] = feed(
        web.url,
        [
            ("لهجه گیلکی", "/talk.mp3", "Sat, 03 Jan 2026 10:00:00 GMT", 12),
            ("خبر", "/talk.mp4", "Sat, 03 Jan 2026 10:00:00 GMT", 12),
            ("لهجه قدیمی", "/talk.wav", "Sat, 03 Jan 2015 10:00:00 GMT", 12),
            ("لهجه بلند", "/dash/manifest.mpd", "Sat, 03 Jan 2026 10:00:00 GMT", 7200),
        ],
    )
    options = (
        "--corpus",
        corpus,
        *EMBEDDED,
        "--dry-run",
        "--match",
        "لهجه",
        "--since",
        "2020-01-01",
        "--max-duration",
        60,
    )
    found = pdid("ingest", f"{web.url}/feed.xml", *options)
    assert found.code == 0
    assert found.out.count("\n") == 1
    assert f"new: {web.url}/talk.mp3  0:12  لهجه گیلکی" in found.out
    assert "would ingest 0.00 GB, and fetch 0.0 hours (1 new)" in found.err
    assert web.paths() == ["/feed.xml"]
    assert not corpus.exists()


def test_secrets_stay_out_of_everything(own_site: WebServer, tmp_path: Path, pdid: Pdid) -> None:
    corpus = tmp_path / "corpus"
    own_site.faults["/secret.mp3"] = Fault(status=403)
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2147483647\tsession\tsesam-öffne\n".replace("ö", "oe")
    )
    host = own_site.url.removeprefix("http://")
    found = pdid(
        "ingest", f"http://me:hunter22@{host}/secret.mp3?token=abc12345", "--corpus", corpus, *EMBEDDED,
        "--cookies", cookies,
    )  # fmt: skip
    assert found.code == 1
    assert own_site.log[0].headers["cookie"] == "session=sesam-oeffne"
    everything = found.out + found.err + str(query(corpus, "FROM sources")) + str(query(corpus, "FROM fetches"))
    for secret in ("hunter22", "sesam-oeffne"):
        assert secret not in everything
    assert "abc12345" not in query(corpus, "SELECT error FROM sources")[0][0]


def test_what_was_taken_down_is_not_fetched_again(web: WebServer, tmp_path: Path, pdid: Pdid) -> None:
    corpus, address = tmp_path / "corpus", f"{web.url}/talk.mp3"
    run(corpus, address)
    removed = pdid("remove", address, "--reason", "the speaker asked", "--corpus", corpus)
    assert removed.code == 0, removed.err
    assert not list((corpus / "media").glob("*.mp3"))
    web.log.clear()
    found = pdid("ingest", address, "--corpus", corpus, *EMBEDDED)
    assert found.code == 0
    assert "the speaker asked" in found.err
    assert web.log == []
    web.pages["/copy.mp3"] = Page((web.folder / "talk.mp3").read_bytes(), "audio/mpeg")
    outcomes = run(corpus, f"{web.url}/copy.mp3")  # the same bytes elsewhere
    assert [outcome.refused for outcome in outcomes] == [True]
    assert not list((corpus / "media").glob("*.mp3"))
    assert query(corpus, "SELECT count(*) FROM sources") == [(0,)]


def test_downloads_go_on_while_others_are_processed(own_site: WebServer, talk: Path, tmp_path: Path) -> None:
    """The second download begins before the first one's processing has ended."""
    for n in range(3):
        (own_site.folder / f"{n}.wav").write_bytes(talk.read_bytes() + bytes(2 * n))
    order: list[str] = []

    def watch(request: Any, stage: str, share: float) -> None:
        order.append(f"{stage} {request.uri[-5]}")

    plan = make_plan(Settings.model_validate(SETTINGS), lambda line: None)
    requests = find_sources([f"{own_site.url}/{n}.wav" for n in range(3)], load_taxonomy("persian", tmp_path))
    web = replace(Web(QUICK, Choice()), downloads=1)
    outcomes = list(ingest(requests, tmp_path / "corpus", plan, 1, watch, web))
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 3
    first_done = order.index("commit 0")
    assert any(event == "fetch 1" for event in order[:first_done])


@pytest.mark.parametrize("alone_s", [60.0, 0.1])
def test_the_first_download_has_the_link_to_itself_for_a_while(
    own_site: WebServer, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone_s: float
) -> None:
    """So that there is something to process early; not for long, since it may hang."""
    monkeypatch.setattr(arrivals, "ALONE_S", alone_s)
    own_site.bytes_per_s = 300_000  # a second and a half for each
    for n in range(3):
        (own_site.folder / f"{n}.wav").write_bytes(talk.read_bytes() + bytes(2 * n))
    fetched: list[str] = []

    def watch(request: Any, stage: str, share: float) -> None:
        if stage == "fetch":
            fetched.append(request.uri)

    plan = make_plan(Settings.model_validate(SETTINGS), lambda line: None)
    requests = find_sources([f"{own_site.url}/{n}.wav" for n in range(3)], load_taxonomy("persian", tmp_path))
    outcomes = list(ingest(requests, tmp_path / "corpus", plan, 1, watch, replace(Web(QUICK, Choice()), downloads=3)))
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 3
    before_the_others = next(k for k, uri in enumerate(fetched) if uri != fetched[0])
    assert (before_the_others == fetched.count(fetched[0])) is (alone_s == 60)


def test_a_release_without_sound_is_rebuilt_from_the_web(web: WebServer, tmp_path: Path, pdid: Pdid) -> None:
    corpus, again, release = tmp_path / "corpus", tmp_path / "again", tmp_path / "release"
    run(corpus, f"{web.url}/talk.mp3", f"{web.url}/talk.wav")
    exported = pdid("export", "--format", "metadata", release, "--corpus", corpus)
    assert exported.code == 0, exported.err
    web.pages["/talk.wav"] = Page(b"RIFF" + bytes(1000), "audio/wav")  # it has been replaced since
    found = pdid("rebuild", release, "--corpus", again)
    assert found.code == 1
    assert f"{web.url}/talk.wav has other bytes now than the recording" in found.err
    clips = query(
        corpus, f"SELECT path FROM segments JOIN sources USING (source_id) WHERE kept AND uri = '{web.url}/talk.mp3'"
    )
    assert clips
    for (path,) in clips:
        assert (again / path).read_bytes() == (corpus / path).read_bytes()
    assert query(again, "SELECT status, site FROM sources WHERE uri LIKE '%/talk.mp3'") == [("done", "generic")]
    del web.pages["/talk.wav"]
    web.log.clear()
    assert pdid("rebuild", release, "--corpus", again).code == 0
    assert set(web.paths()) == {"/talk.wav"}
