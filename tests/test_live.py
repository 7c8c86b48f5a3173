"""Live streams are recorded as they come: to the second, with what was missed counted, however they break."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.records import RATE
from corpus_builder.acquire.live import Recording, record
from corpus_builder.acquire.records import FetchError, FetchSettings
from corpus_builder.audio import Decoder, Samples
from corpus_builder.ffmpeg import ffmpeg_path
from tests.live_server import Cut, Live, LiveServer, Radio, cut_dash, cut_hls, ffmpeg

QUICK = FetchSettings(timeout_s=10.0, retries=1, backoff_s=0.1)
MP3_BYTES_PER_S = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def hls(talk: Path, folder: Path) -> Cut:
    return cut_hls(talk, folder / "hls", "-hls_segment_filename", folder / "hls" / "%d.ts")


@pytest.fixture(scope="module")
def dash(talk: Path, folder: Path) -> Cut:
    return cut_dash(talk, folder / "dash")


@pytest.fixture(scope="module")
def mp3(talk: Path, folder: Path) -> bytes:
    path = folder / "talk.mp3"
    ffmpeg("-i", talk, "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0", path)
    return path.read_bytes()


def recorded(url: str, target: Path, seconds: float, settings: FetchSettings = QUICK) -> Recording:
    """Record; the file and the figures must agree."""
    told: list[tuple[int, int | None]] = []
    made = record(url, {}, target, seconds, settings, lambda *so_far: told.append(so_far))
    assert len(sound(made.path)) / RATE == pytest.approx(made.seconds, abs=0.1)  # frames at a break
    assert told == sorted(told, key=lambda pair: pair[0])
    return made


def sound(path: Path) -> Samples:
    """What is in a file, at 16 kHz: shape (n,)."""
    return np.concatenate([block[:, 0] for block in Decoder(path, RATE)])


def place(piece: Samples, whole: Samples) -> tuple[float, float]:
    """Where a piece lies in a recording (seconds), and how alike they are there (1.0: the same)."""
    whole = np.pad(whole, (RATE, 0))  # a coder puts a few milliseconds of silence in front
    size = len(piece) + len(whole)
    alike = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(piece, size)), size)[: len(whole)]
    at = int(np.argmax(alike))
    there = whole[at : at + len(piece)]
    piece = piece[: len(there)]
    return at / RATE - 1.0, float(piece @ there / np.sqrt((piece @ piece) * (there @ there)))


@pytest.mark.parametrize("name", ["live.m3u8", "timeline.mpd", "numbers.mpd"])
def test_a_live_stream(name: str, hls: Cut, dash: Cut, talk: Path, tmp_path: Path) -> None:
    """From three segments before the newest on; as long as was asked; each segment asked for once."""
    live = Live(hls if name == "live.m3u8" else dash, there=7)
    with LiveServer(live) as server:
        made = recorded(server.url(name), tmp_path / "made.mka", 2.5)
    assert made.path == tmp_path / "made.mka"
    assert 2.5 <= made.seconds < 2.53
    assert (made.lost_s, made.reconnects) == (0.0, 0)
    at, alike = place(sound(made.path), sound(talk))
    assert at == pytest.approx(2.0 if name != "numbers.mpd" else 1.5, abs=0.55)
    assert alike > 0.97
    segments = [path for path in live.log if path.endswith(".seg")]
    assert len(segments) == len(set(segments)) in {5, 6}
    assert live.log.count("a/init.mp4") == (name != "live.m3u8")


def test_fragmented_mp4_behind_a_master_playlist(dash: Cut, talk: Path, tmp_path: Path) -> None:
    """The rendition of sound is taken; its header once."""
    live = Live(dash, head='#EXT-X-MAP:URI="init.mp4"', ends_with=4)
    with LiveServer(live) as server:
        made = recorded(server.url("master.m3u8"), tmp_path / "made.mka", 9)
    assert made.seconds == pytest.approx(sum(dash.seconds[:4]), abs=0.05)
    assert place(sound(made.path), sound(talk))[1] > 0.97
    assert live.log.count("sound/init.mp4") == 1
    assert "picture.m3u8" not in live.log


def test_encrypted_segments(hls: Cut, talk: Path, tmp_path: Path) -> None:
    from Cryptodome.Cipher import AES
    from Cryptodome.Util.Padding import pad

    key, iv = bytes(range(16)), bytes(range(16, 32))
    head = f'#EXT-X-KEY:METHOD=AES-128,URI="0.seg",IV=0x{iv.hex()}'  # the key lies where segment 0 was
    closed = [AES.new(key, AES.MODE_CBC, iv).encrypt(pad(data, 16)) for data in hls.files]
    live = Live(replace(hls, files=(key, *closed[1:])), there=5, window=3, ends_with=5, head=head)
    with LiveServer(live) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 9)
    assert made.seconds == pytest.approx(sum(hls.seconds[2:5]), abs=0.05)
    assert place(sound(made.path), sound(talk))[1] > 0.97
    assert live.log.count("0.seg") == 1


def test_a_segment_that_is_missing_is_counted(hls: Cut, tmp_path: Path) -> None:
    with LiveServer(Live(hls, missing=frozenset({4}))) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 2.5)
    assert made.lost_s == pytest.approx(hls.seconds[4], abs=0.001)
    assert made.reconnects == 0
    assert 2.5 <= made.seconds < 2.53


def test_a_segment_without_sound_or_of_another_kind_is_counted(hls: Cut, mp3: bytes, tmp_path: Path) -> None:
    """Rubbish, and an advertisement in another coding."""
    files = list(hls.files)
    files[3], files[4] = b"<html>no media</html>", mp3[: MP3_BYTES_PER_S // 2]
    with LiveServer(Live(replace(hls, files=tuple(files)), there=6, window=6, ends_with=6)) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 9)
    assert made.seconds == pytest.approx(hls.seconds[5] + sum(hls.seconds[:3]), abs=0.05)
    assert made.lost_s == pytest.approx(hls.seconds[3] + 0.5, abs=0.06)


def numbered(cut: Cut, first: int, *which: int, jump: int | None = None, ends: bool = True) -> bytes:
    """A playlist of these segments, the first with this number; a discontinuity is declared before `jump`."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for i in which:
        lines += ["#EXT-X-DISCONTINUITY"] * (i == jump) + [f"#EXTINF:{cut.seconds[i]},", f"{i}.seg"]
    return "\n".join(lines + ["#EXT-X-ENDLIST"] * ends).encode()


@pytest.mark.parametrize(("jump", "lost"), [(None, 2), (5, 0)])
def test_a_hole_that_only_the_timestamps_show(hls: Cut, jump: int | None, lost: int, tmp_path: Path) -> None:
    """The encoder stopped for two segments and numbered on as if nothing had been; or said that it begins anew."""
    files = {f"{i}.seg": data for i, data in enumerate(hls.files)}
    files["live.m3u8"] = numbered(hls, 0, 0, 1, 2, 5, 6, jump=jump)
    with LiveServer(lambda path: (200, "x", files[path])) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 9)
    assert made.seconds == pytest.approx(sum(hls.seconds[i] for i in (0, 1, 2, 5, 6)), abs=0.05)
    assert made.lost_s == pytest.approx(sum(hls.seconds[3 : 3 + lost]), abs=0.05)


def test_playlists_out_of_order_and_numbers_that_start_again(hls: Cut, tmp_path: Path) -> None:
    """An old playlist from another cache changes nothing; one from zero on is the stream started anew."""
    pages = [numbered(hls, 100, *range(3), ends=False), numbered(hls, 101, 1, 2, 3, ends=False)]
    pages += [numbered(hls, 100, *range(3), ends=False), numbered(hls, 102, 2, 3, 4, ends=False)]
    pages += [numbered(hls, 0, 9, 10)]
    asked: list[str] = []

    def answer(path: str) -> tuple[int, str, bytes]:
        asked.append(path)
        return 200, "x", pages[asked.count(path) - 1] if path == "live.m3u8" else hls.files[int(path.split(".")[0])]

    with LiveServer(answer) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 9)
    assert [path for path in asked if path != "live.m3u8"] == [f"{i}.seg" for i in (0, 1, 2, 3, 4, 9, 10)]
    assert made.seconds == pytest.approx(sum(hls.seconds[:5] + hls.seconds[9:11]), abs=0.05)
    assert 0.0 < made.lost_s < 3.0  # by the clock: as long as nothing came


def test_a_server_that_is_away_for_a_while(hls: Cut, tmp_path: Path) -> None:
    """What left the playlist meanwhile is lost, exactly; the rest is not."""
    live = Live(hls, there=2, window=2, down=(1.0, 2.6))
    with LiveServer(live) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 3.0)
    assert made.reconnects == 1
    taken = sorted({int(path.removesuffix(".seg")) for path in live.log if path.endswith(".seg")})
    lost = [i for i in range(taken[-1]) if i not in taken]
    assert len(lost) >= 1
    assert made.lost_s == pytest.approx(sum(hls.seconds[i] for i in lost), abs=0.1)
    assert 3.0 <= made.seconds < 3.03


def test_a_server_that_does_not_come_back(hls: Cut, tmp_path: Path) -> None:
    """The recording ends when its time is up, and says how much is missing."""
    with LiveServer(Live(hls, down=(0.8, 1e9))) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 3.0, replace(QUICK, timeout_s=0.5))
    assert 1.0 < made.seconds < 3.0
    assert made.lost_s == pytest.approx(3.0 - made.seconds, abs=0.001)


def test_a_stream_that_ends_early(hls: Cut, tmp_path: Path) -> None:
    start = time.monotonic()
    with LiveServer(Live(hls, ends_with=4)) as server:
        made = recorded(server.url("live.m3u8"), tmp_path / "made.mka", 3600)
    assert made.seconds == pytest.approx(sum(hls.seconds[:4]), abs=0.05)
    assert (made.lost_s, made.reconnects) == (0.0, 0)
    assert time.monotonic() - start < 60


def test_radio(mp3: bytes, talk: Path, tmp_path: Path) -> None:
    """An endless answer, whose connection breaks once: what is missed is about as long as the silence was."""
    radio = Radio(mp3, MP3_BYTES_PER_S, breaks_after=(1.0,), silent_s=1.0)
    with LiveServer(radio) as server:
        made = recorded(server.url("radio"), tmp_path / "made.mka", 3.0)
    assert (radio.connections, made.reconnects) == (2, 1)
    assert 3.0 <= made.seconds < 3.05
    assert 0.9 < made.lost_s < 2.0
    assert place(sound(made.path)[: RATE * 3 // 2], sound(talk))[1] > 0.97


def test_radio_that_goes_off_the_air(mp3: bytes, tmp_path: Path) -> None:
    """A server that is there and has no such stream any more has ended it: nothing of it is lost."""
    with LiveServer(Radio(mp3, MP3_BYTES_PER_S, breaks_after=(0.5,), then=404)) as server:
        made = recorded(server.url("radio"), tmp_path / "made.mka", 60)
    assert 1.0 < made.seconds < 3.0
    assert (made.lost_s, made.reconnects) == (0.0, 0)


def test_a_file_with_an_end_is_recorded_once(mp3: bytes, tmp_path: Path) -> None:
    with LiveServer(lambda _: (200, "audio/mpeg", mp3[: MP3_BYTES_PER_S * 2])) as server:
        assert recorded(server.url("a.mp3"), tmp_path / "made.mka", 60).seconds == pytest.approx(2.0, abs=0.06)


def test_sound_that_matroska_does_not_take(talk: Path, tmp_path: Path) -> None:
    ffmpeg("-i", talk, "-t", 2, "-c:a", "aac", "-ar", 48000, "-mpegts_flags", "latm", tmp_path / "latm.ts")
    with LiveServer(lambda _: (200, "video/mp2t", (tmp_path / "latm.ts").read_bytes())) as server:
        made = recorded(server.url("tv"), tmp_path / "made.mka", 60)
    assert made.path == tmp_path / "made.ts"
    assert made.seconds == pytest.approx(2.0, abs=0.1)
    assert place(sound(made.path), sound(talk))[1] > 0.97


def test_rtmp(talk: Path, tmp_path: Path) -> None:
    """ffmpeg serves one viewer, who may come before it is there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"rtmp://127.0.0.1:{free.getsockname()[1]}/live/talk"
    command = [str(ffmpeg_path()), "-v", "quiet", "-i", str(talk), "-c:a", "aac", "-f", "flv", "-listen", "1", url]
    with subprocess.Popen(command) as process:
        made = recorded(url, tmp_path / "made.mka", 2.0, FetchSettings(timeout_s=20.0, backoff_s=0.3))
        process.kill()
    assert 2.0 <= made.seconds < 2.05
    assert made.lost_s == 0.0
    assert place(sound(made.path), sound(talk))[1] > 0.97


def silent(_: str) -> tuple[int, str, bytes]:
    time.sleep(3)
    return 200, "audio/mpeg", b""


@pytest.mark.parametrize(
    ("answer", "why", "permanent"),
    [
        (silent, "the server does not answer within 0.3 s", False),
        (lambda _: (404, "text/plain", b""), "there is nothing there (404", True),
        (lambda _: (403, "text/plain", b""), "the site refuses it (403)", False),
        (
            lambda _: (200, "text/html", b"<html>" + b"hello " * 1000),
            "it can't be recorded as a stream (ffmpeg says: Invalid data",
            True,
        ),
        (lambda _: (200, "x", b"#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES\n"), "protected", True),
        (lambda _: (200, "x", b"#EXTM3U\n#EXTINF:nan,\n0.ts\n"), "nan seconds", False),
        (lambda _: (200, "x", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST"), "file://", True),
        (lambda _: (200, "x", b"<MPD type='dynamic'><Period/></MPD>"), "no sound in segment templates", False),
        (lambda _: (200, "x", b"<MPD><Period>"), "no DASH manifest", False),
    ],
)
def test_what_can_not_be_recorded(answer: object, why: str, permanent: bool, tmp_path: Path) -> None:
    settings = FetchSettings(timeout_s=0.3, retries=1, backoff_s=0.01)
    with LiveServer(answer) as server:  # type: ignore[arg-type]
        url = server.url("live").replace("http://", "http://me:hush@")
        with pytest.raises(FetchError) as caught:
            record(url, {}, tmp_path / "made.mka", 5, settings, lambda *_: None)
    assert why in str(caught.value)
    assert caught.value.permanent == permanent
    assert str(caught.value).startswith(server.url("live").replace("http://", "http://…@"))
    assert not [*tmp_path.iterdir()]


def test_a_stream_of_pictures_only(talk: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.ts"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=1", "-c:v", "mpeg2video", picture)
    cut = Cut((picture.read_bytes(),) * 9, (0.5,) * 9)
    with LiveServer(Live(cut)) as server, pytest.raises(FetchError, match="there is no sound in this stream"):
        record(server.url("live.m3u8"), {}, tmp_path / "made.mka", 5, QUICK, lambda *_: None)
    assert [*tmp_path.iterdir()] == [picture]


def test_the_caller_can_end_it(hls: Cut, tmp_path: Path) -> None:
    def stop(so_far: int, _: int | None) -> None:
        if so_far:
            raise KeyboardInterrupt

    with LiveServer(Live(hls)) as server, pytest.raises(KeyboardInterrupt):
        record(server.url("live.m3u8"), {}, tmp_path / "made.mka", 3600, QUICK, stop)
    assert len(sound(tmp_path / "made.mka")) > RATE


def test_a_recording_whose_process_dies_can_be_read(hls: Cut, talk: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from corpus_builder.acquire.live import record\nfrom corpus_builder.acquire.records import FetchSettings\n"
        "say = lambda *so_far: print(*so_far, flush=True)\n"
        "record(sys.argv[1], {}, Path(sys.argv[2]), 3600, FetchSettings(), say)\n"
    )
    live = Live(hls, there=8, window=8)
    with LiveServer(live) as server:
        command = [sys.executable, "-c", code, server.url("live.m3u8"), str(tmp_path / "made.mka")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            while len([path for path in live.log if path.endswith(".seg")]) < 7:
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    kept = sound(tmp_path / "made.mka")
    assert len(kept) > RATE
    assert place(kept, sound(talk))[1] > 0.97
