"""A web site on this machine that keeps a log and fails to order, and media in the shapes that sites serve them.

`WebServer(folder)` serves a folder's files with ranges, as static servers do. `faults[path]` makes an address fail,
`pages[path]` answers it with made-up content, `log` has every request in the order in which they came.
"""

from __future__ import annotations

import mimetypes
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from tests.media import convert, ffmpeg

_BLOCK = 8192
_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".vtt": "text/vtt",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
}


@dataclass(slots=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str  # with its query
    headers: dict[str, str]  # names in lower case
    at: float  # time.monotonic()
    status: int = 0  # of the answer; 0: none was given
    sent: int = 0  # bytes of the body

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass(slots=True)
class Fault:
    """How an address fails. `times`: so many times, then it is well; None: always."""

    times: int | None = None
    status: int | None = None  # answer this, with a short page
    headers: dict[str, str] = field(default_factory=dict)  # more of them: Retry-After, Location
    drop_after: int | None = None  # close the connection after so many bytes of the body
    announce: int = 0  # so many bytes more (less) in Content-Length than there are
    hang: bool = False  # take the request, and never answer
    no_ranges: bool = False  # answer every request with all of it
    bytes_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A made-up answer. `length`: whether Content-Length is sent."""

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False  # the body is sent again and again, without Content-Length, as radio stations do


class WebServer:
    """Serves `folder` on 127.0.0.1 while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[Request] = []
        self.faults: dict[str, Fault] = {}
        self.pages: dict[str, Page | Callable[[Request], Page]] = {}  # by path, with its query or without
        self.bytes_per_s: int | None = None  # of every connection
        self.lock = threading.Lock()
        self.closing = threading.Event()
        outer = self

        class Handler(_Handler):
            site = outer

        self._http = _Http(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The address of the site, without a slash at its end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def requests(self, path: str) -> list[Request]:
        """The requests for a path (with any query) so far."""
        return [one for one in self.log if urlsplit(one.path).path == path]

    def paths(self) -> list[str]:
        """The paths asked for so far, in order."""
        return [urlsplit(one.path).path for one in self.log]

    def fault(self, path: str) -> Fault | None:
        """The fault that this request meets: each one counts."""
        with self.lock:
            fault = self.faults.get(path)
            if fault and fault.times is not None:
                if fault.times == 0:
                    return None
                fault.times -= 1
            return fault


class _Http(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 100

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    site: WebServer
    protocol_version = "HTTP/1.1"
    server_version = "Tests"

    def setup(self) -> None:
        # a small buffer, so that `sent` tells what the client took, give or take some 100 kB
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _BLOCK)
        super().setup()

    def do_GET(self) -> None:
        seen = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
        with self.site.lock:
            self.site.log.append(seen)
        try:
            self._answer(seen)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def _answer(self, seen: Request) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.site.fault(path) or Fault()
        if fault.hang:
            self.site.closing.wait()
            self.close_connection = True
            return
        if fault.status:
            page = Page(b"<html><p>no</p></html>", status=fault.status, headers=fault.headers)
            return self._send(seen, page.body, page, Fault())
        known = self.site.pages.get(self.path) or self.site.pages.get(path)
        if known:
            page = known(seen) if callable(known) else known
            return self._send(seen, page.body, page, fault)
        file = (self.site.folder / path.lstrip("/")).resolve()
        if not file.is_file() or not file.is_relative_to(self.site.folder.resolve()):
            return self._send(seen, b"", Page(b"", status=404), Fault())
        status = file.stat()
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = {
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
        }
        self._send(seen, file.read_bytes(), Page(b"", kind, headers=headers), fault)

    def _send(self, seen: Request, body: bytes, page: Page, fault: Fault) -> None:
        total, start, end, status = len(body), 0, len(body), page.status
        wanted = None if fault.no_ranges or page.endless or status != 200 else _range(seen, page)
        extra = dict(page.headers)
        if wanted:
            start = max(0, total - int(wanted[2])) if not wanted[1] else int(wanted[1])
            end = min(total, int(wanted[2]) + 1) if wanted[1] and wanted[2] else total
            status, extra["Content-Range"] = 206, f"bytes {start}-{end - 1}/{total + fault.announce}"
            if start >= end:
                status, start, end, extra["Content-Range"] = 416, 0, 0, f"bytes */{total}"
        seen.status = status
        self.send_response(status)
        self.send_header("Content-Type", page.content_type)
        if page.endless:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - start + fault.announce))
            self.send_header("Accept-Ranges", "none" if fault.no_ranges else "bytes")
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self._write(seen, body[start:end], page.endless, fault)
        if fault.announce > 0:
            self._cut()

    def _write(self, seen: Request, body: bytes, endless: bool, fault: Fault) -> None:
        rate = fault.bytes_per_s or self.site.bytes_per_s
        began, at = time.monotonic(), 0
        while (at < len(body) or endless) and not self.site.closing.is_set():
            size = _BLOCK if fault.drop_after is None else min(_BLOCK, fault.drop_after - seen.sent)
            if size <= 0:
                return self._cut()
            if at >= len(body):
                at = 0
            block = body[at : at + size]
            self.wfile.write(block)
            at += len(block)
            seen.sent += len(block)
            if rate and (ahead := seen.sent / rate - (time.monotonic() - began)) > 0:
                self.site.closing.wait(ahead)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _range(seen: Request, page: Page) -> re.Match[str] | None:
    """The range asked for, unless it is asked for only if the file is another one's."""
    unless = seen.headers.get("if-range")
    if unless and unless not in (page.headers.get("ETag"), page.headers.get("Last-Modified")):
        return None
    return re.fullmatch(r"bytes=(\d*)-(\d*)", seen.headers.get("range", ""))


def feed(site: str, items: Sequence[tuple[str, str, str | None, int | None]]) -> Page:
    """A podcast's feed: for each item its title, the path of its file, the day (RFC 2822) and its seconds, if known."""
    rows = []
    for title, path, day, seconds in items:
        date = f"<pubDate>{day}</pubDate>" if day else ""
        length = f"<itunes:duration>{seconds}</itunes:duration>" if seconds else ""
        rows.append(f'<item><title>{escape(title)}</title>{date}{length}<enclosure url="{site}{path}"/></item>')
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>A feed</title>'
        f"{''.join(rows)}</channel></rss>"
    )
    return Page(text.encode(), "application/rss+xml")


class LiveHls:
    """A live HLS playlist: `window` of the segments in `folder` at a time, one more for every one's length that passes.

    It begins with the first `window` of them when it is made, and starts over after the last, or ends there. Put it
    in `pages` under a path beside the segments'.
    """

    def __init__(self, segments: Sequence[str], seconds: float, window: int = 3, ends: bool = False) -> None:
        self.segments, self.seconds, self.window, self.ends = segments, seconds, window, ends
        self.began = time.monotonic()

    def __call__(self, _: Request) -> Page:
        there = self.window + int((time.monotonic() - self.began) / self.seconds)
        over = self.ends and there >= len(self.segments)
        there = min(there, len(self.segments)) if self.ends else there
        first = max(0, there - self.window)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(self.seconds + 0.5)}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for n in range(first, there):
            if n and n % len(self.segments) == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += [f"#EXTINF:{self.seconds:.3f},", self.segments[n % len(self.segments)]]
        if over:
            lines.append("#EXT-X-ENDLIST")
        return Page("\n".join([*lines, ""]).encode(), _TYPES[".m3u8"])


def make_site(folder: Path, wav: Path) -> Path:
    """Media made of a WAV in the shapes that sites serve: talk.wav, .mp3, .mp4, and folders hls, fmp4 and dash.

    hls/index.m3u8 has segments of 2 s (seg0.ts …), hls/master.m3u8 names it twice, as sound alone and with a picture
    of more bits; fmp4/index.m3u8 has a header of its own (init.mp4), dash/manifest.mpd too (init.m4s).
    """
    for name in ("hls", "fmp4", "dash"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "talk.wav").write_bytes(wav.read_bytes())
    convert(wav, folder / "talk.mp3", "-b:a", "64k")
    convert(wav, folder / "talk.mp4", "-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart")
    aac = ("-i", wav, "-c:a", "aac", "-b:a", "64k")
    vod = ("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod")
    ffmpeg(*aac, *vod, "-hls_segment_filename", folder / "hls" / "seg%d.ts", folder / "hls" / "index.m3u8")
    fmp4 = ("-hls_segment_type", "fmp4", "-hls_segment_filename", folder / "fmp4" / "seg%d.m4s")
    ffmpeg(*aac, *vod, *fmp4, folder / "fmp4" / "index.m3u8")
    names = ("-init_seg_name", "init.m4s", "-media_seg_name", "part$Number$.m4s")
    ffmpeg(*aac, "-f", "dash", "-seg_duration", "2", *names, folder / "dash" / "manifest.mpd")
    (folder / "hls" / "master.m3u8").write_text(
        "#EXTM3U\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=80000,CODECS="mp4a.40.2"\nindex.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,CODECS="avc1.42e01e,mp4a.40.2"\nvideo.m3u8\n'
    )
    return folder
