"""A local server of live streams: HLS, DASH and radio that go on with the clock, and break where they are told to."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from corpus_builder.ffmpeg import ffmpeg_path

SEGMENT_S = 0.5


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg; it must succeed."""
    subprocess.run([str(ffmpeg_path()), "-v", "error", "-y", *map(str, arguments)], check=True)


@dataclass(frozen=True)
class Cut:
    """A recording in segments of about half a second."""

    files: tuple[bytes, ...]
    seconds: tuple[float, ...]
    init: bytes = b""


def cut_hls(source: Path, folder: Path, *options: object) -> Cut:
    """MPEG-TS segments, or what the options ask for."""
    folder.mkdir()
    name = folder / "list.m3u8"
    coding = ("-c:a", "aac", "-ar", "48000", "-b:a", "96k", "-hls_time", SEGMENT_S, "-hls_list_size", "0")
    ffmpeg("-i", source, *coding, *options, name)
    lines = name.read_text().splitlines()
    files = [line for line in lines if line and not line.startswith("#")]
    seconds = [float(line[8:].split(",")[0]) for line in lines if line.startswith("#EXTINF:")]
    init = folder / "init.mp4"
    return Cut(
        tuple((folder / file).read_bytes() for file in files),
        tuple(seconds),
        init.read_bytes() if init.exists() else b"",
    )


def cut_dash(source: Path, folder: Path) -> Cut:
    """Fragments of MP4, at a timescale of 48000."""
    folder.mkdir()
    coding = ("-c:a", "aac", "-ar", "48000", "-b:a", "96k", "-seg_duration", SEGMENT_S)
    ffmpeg("-i", source, *coding, "-f", "dash", folder / "list.mpd")
    lengths: list[float] = []
    for line in re.findall(r"<S [^>]*>", (folder / "list.mpd").read_text()):
        said = dict(re.findall(r'(\w)="(\d+)"', line))
        lengths += [int(said["d"]) / 48000] * (int(said.get("r", 0)) + 1)
    files = [path.read_bytes() for path in sorted(folder.glob("chunk-*.m4s"))]
    assert len(files) == len(lengths)
    return Cut(tuple(files), tuple(lengths), (folder / "init-stream0.m4s").read_bytes())


@dataclass
class Live:
    """A stream of segments: `there` of them when it is first asked for, and one more each half second."""

    cut: Cut
    there: int = 3
    window: int = 4  # how many the manifest names
    ends_with: int | None = None  # so many segments, and then the end
    missing: frozenset[int] = frozenset()  # segments that are not there
    down: tuple[float, float] = (0.0, 0.0)  # seconds after the first request between which no request is answered
    head: str = ""  # more lines of the playlist
    began: float | None = None
    log: list[str] = field(default_factory=list)  # of the paths asked for

    def now(self) -> float:
        """Seconds since the first request."""
        self.began = self.began or time.monotonic()
        return time.monotonic() - self.began

    def span(self) -> range:
        """The segments that the manifest names now."""
        last = self.there + int(self.now() / SEGMENT_S)
        last = min(last, len(self.cut.files) if self.ends_with is None else self.ends_with)
        return range(max(0, last - self.window), last)

    def playlist(self) -> str:
        """HLS."""
        span = self.span()
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{span.start}"]
        lines += self.head.splitlines()
        for i in span:
            lines += [f"#EXTINF:{self.cut.seconds[i]:.6f},", f"{i}.seg"]
        return "\n".join([*lines, "#EXT-X-ENDLIST"] if span.stop == self.ends_with else lines) + "\n"

    def manifest(self, numbered: bool) -> str:
        """DASH: with a timeline, or by numbers and the clock, as if all segments were of one length."""
        span, began = self.span(), time.time() - self.now()
        if numbered:
            # segment i is there, by the rule, from began + (i + 1 - there) * SEGMENT_S on; two seconds are held back
            since = began - self.there * SEGMENT_S - 2.0
            length = f'duration="{round(SEGMENT_S * 48000)}" startNumber="0"'
            timeline = ""
        else:
            since = began
            length = f'startNumber="{span.start}"'
            at = round(sum(self.cut.seconds[: span.start]) * 48000)
            lines = [f'<S t="{at}" d="{round(self.cut.seconds[span.start] * 48000)}"/>'] if span else []
            lines += [f'<S d="{round(self.cut.seconds[i] * 48000)}"/>' for i in span[1:]]
            timeline = f"<SegmentTimeline>{''.join(lines)}</SegmentTimeline>"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)) + f".{int(since % 1 * 1000):03d}Z"
        kind = "static" if span.stop == self.ends_with else "dynamic"
        return (
            f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" '
            f'availabilityStartTime="{stamp}" minimumUpdatePeriod="PT0.5S"><Period id="1" start="PT0S">'
            '<AdaptationSet contentType="video"><Representation id="v" bandwidth="9000000"/></AdaptationSet>'
            f'<AdaptationSet contentType="audio"><SegmentTemplate timescale="48000" {length} '
            f'initialization="$RepresentationID$/init.mp4" media="$RepresentationID$-$Number%03d$.seg">{timeline}'
            '</SegmentTemplate><Representation id="low" bandwidth="9000"/><Representation id="a" bandwidth="96000"/>'
            "</AdaptationSet></Period></MPD>"
        )


@dataclass
class Radio:
    """An endless answer: bytes at the pace at which they are played, from where the clock stands."""

    data: bytes
    bytes_per_s: int
    breaks_after: tuple[float, ...] = ()  # seconds that each connection lasts, in turn; the rest have no end
    silent_s: float = 0.0  # refused for so long after a break
    then: int = 200  # what connections after those are answered
    connections: int = 0
    began: float | None = None
    refuse_until: float = 0.0

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one connection."""
        self.began = self.began or time.monotonic()
        if time.monotonic() < self.refuse_until:
            raise ConnectionAbortedError
        number, self.connections = self.connections, self.connections + 1
        lasts = self.breaks_after[number] if number < len(self.breaks_after) else 1e9
        if number >= len(self.breaks_after) and self.then != 200:
            handler.send_error(self.then)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/mpeg")
        handler.send_header("icy-name", "test")
        handler.send_header("Connection", "close")
        handler.end_headers()
        start = time.monotonic()
        at = int((start - self.began) * self.bytes_per_s)
        while (played := time.monotonic() - start) < lasts:
            upto = int((start + played - self.began + 1.0) * self.bytes_per_s)  # a second ahead
            handler.wfile.write(self.data[at:upto])
            handler.wfile.flush()
            at = upto
            time.sleep(0.05)
        self.refuse_until = time.monotonic() + self.silent_s


Answer = tuple[int, str, bytes]


class LiveServer:
    """A server for one stream or function of the path; `with LiveServer(…) as server`, then `server.url(path)`."""

    def __init__(self, what: Live | Radio | Callable[[str], Answer]) -> None:
        self.what = what
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    outer.answer(self)
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> LiveServer:
        self.thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    def url(self, path: str = "") -> str:
        """An address of this server."""
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        if isinstance(self.what, Radio):
            self.what.serve(handler)
            return
        status, kind, body = self.what(path) if callable(self.what) else self.of_live(self.what, path)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def of_live(self, live: Live, path: str) -> Answer:
        """A manifest or a segment of the stream."""
        live.log.append(path)
        if live.down[0] <= live.now() < live.down[1]:
            raise ConnectionAbortedError
        if path == "master.m3u8":
            sound = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="fa",DEFAULT=YES,URI="sound/live.m3u8"'
            lines = f'#EXTM3U\n{sound}\n#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,AUDIO="a"\npicture.m3u8\n'
            return 200, "application/vnd.apple.mpegurl", lines.encode()
        name = path.rpartition("/")[2]
        if name == "live.m3u8":
            return 200, "application/vnd.apple.mpegurl", live.playlist().encode()
        if name in ("timeline.mpd", "numbers.mpd"):
            return 200, "application/dash+xml", live.manifest(name == "numbers.mpd").encode()
        if name == "init.mp4":
            return 200, "video/mp4", live.cut.init
        number = re.search(r"(\d+)\.seg$", name)
        if not number or int(number.group(1)) in live.missing:
            return 404, "text/plain", b"not here"
        return 200, "application/octet-stream", live.cut.files[int(number.group(1))]
