"""Live streams, recorded as they are sent: HLS and DASH, radio over plain HTTP, RTMP and RTSP.

Packets of sound are copied, not encoded again, and laid end to end in one file. Manifests and segments come over
yt-dlp's network layer, as all downloads do, for the proxies, cookies and certificates that ffmpeg's own lacks; PyAV's
ffmpeg has no DASH at all. It also shows which segments were missed, to the second.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
from av.error import FFmpegError, InvalidDataError
from yt_dlp.aes import aes_cbc_decrypt_bytes, unpad_pkcs7
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, RequestError

from corpus_builder.acquire.addresses import STREAMS
from corpus_builder.acquire.client import LONGEST_WAIT_S, Client
from corpus_builder.acquire.errors import explained
from corpus_builder.acquire.manifests import Manifest, Part, Protected, Segment, media_playlist, read_dash, read_hls
from corpus_builder.acquire.records import FetchError, FetchSettings
from corpus_builder.acquire.tape import Tape

FROM_EDGE = 3
"""Segments before the newest with which a recording begins (RFC 8216, 6.3.3)."""

SEGMENT_BYTES = 256 << 20
"""The longest segment that is taken into memory."""

_GONE = frozenset({404, 410})
_ASK_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded stretch of a stream."""

    path: Path  # the target, with the ending of the container that holds the stream's codec: .mka or .ts
    seconds: float  # of sound
    lost_s: float  # missing inside it, and at its end where the stream was not to be had until the time was up
    reconnects: int


def record(
    url: str,
    headers: Mapping[str, str],
    target: Path,
    seconds: float,
    settings: FetchSettings,
    tell: Callable[[int, int | None], None],
) -> Recording:
    """Record `seconds` of a live stream's sound into `target`, or less where the stream ends before.

    `url` is an HLS playlist, a DASH manifest (not one of its segments), an endless HTTP answer, or rtmp:// or rtsp://;
    `headers` go with every request. What breaks is taken up again with growing pauses, until `seconds` (and the
    settings' `timeout_s` for a late start) have passed on the clock; sound missed in between is counted in `lost_s`
    and closed up. A file left by a run that was killed can be read up to there, but not continued: what was on the
    air meanwhile is past, so a new recording replaces it. `tell` is called a few times a second with the bytes
    written and about how many there will be; what it raises ends the recording.

    Raises FetchError where nothing could be recorded.
    """
    tape = Tape(url, target)
    with Client(settings) as client, explained(url, client):
        client.downloading = True  # retries are made here
        recorder = _Recorder(url, headers, seconds, client, tape, tell)
        try:
            recorder.run()
        finally:
            tape.close()
    return Recording(tape.path, float(tape.length), round(recorder.lost_s, 3), recorder.reconnects)


class _Reader:
    """An endless answer as a file; a broken connection is its end, and is remembered."""

    def __init__(self, head: bytes, response: Any, over: Callable[[], bool]) -> None:
        self.head, self.response, self.over = head, response, over
        self.error: RequestError | None = None

    def read(self, size: int) -> bytes:
        if self.head:
            data, self.head = self.head[:size], self.head[size:]
            return data
        try:
            return b"" if self.over() else bytes(self.response.read(size))
        except RequestError as error:
            self.error = error
            return b""


class _Recorder:
    """One recording: connect, take what comes, reconnect."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        seconds: float,
        client: Client,
        tape: Tape,
        tell: Callable[[int, int | None], None],
    ) -> None:
        self.url, self.headers, self.seconds = url, headers, seconds
        self.client, self.settings, self.tape, self.tell = client, client.settings, tape, tell
        self.began = self.heard = self.told = time.monotonic()
        self.deadline = self.began + seconds + client.settings.timeout_s
        self.lost_s = 0.0
        self.reconnects = 0
        self.failures = 0  # since sound came last
        self.gone = 0  # answers in a row that there is no such stream
        self.broken = False
        self.resumed: float | None = None  # when sound was to be had again, where only the clock tells what is missing
        self.format: str | None = None  # of an endless answer, as ffmpeg calls it
        self.unheard = 0  # segments without sound, before any with
        self.last: Segment | None = None  # that was taken or given up
        self.oldest = 0  # place of the first segment of the newest manifest
        self.parts: dict[Part, bytes] = {}  # headers and keys

    def run(self) -> None:
        """Record until there is enough, the stream ends, or the time is up. Raises FetchError if nothing came."""
        while not self._over():
            try:
                if self._connect():
                    break
            except Protected as how:
                raise FetchError(
                    self.url, f"its sound is protected ({how}) and can't be recorded", permanent=True
                ) from None
            except (RequestError, FFmpegError, ValueError) as error:
                if not self._is_worth_another(error):
                    break
        else:
            self.lost_s = max(self.lost_s, self.seconds - float(self.tape.length))
        if not self.tape.bytes:
            raise FetchError(self.url, "the stream ended, or the time for it was up, before any sound came")

    def _over(self) -> bool:
        return self.tape.length >= self.seconds or time.monotonic() >= self.deadline

    def _told(self) -> None:
        now = time.monotonic()
        if now - self.told < 0.3:
            return
        self.told = now
        there = float(self.tape.length)
        self.tell(self.tape.bytes, round(self.tape.bytes * self.seconds / there) if there else None)

    def _wait(self, seconds: float) -> None:
        until = min(time.monotonic() + seconds, self.deadline)
        while (left := until - time.monotonic()) > 0:
            self._told()
            time.sleep(min(left, 0.5))

    def _is_worth_another(self, error: Exception) -> bool:
        """After a failure: wait, and say whether to connect again. Where nothing ever came, it is raised again."""
        self.failures += 1
        status = error.status if isinstance(error, HTTPError) else 0
        self.gone = self.gone + 1 if status in _GONE else 0
        if not self.tape.bytes:
            # what is no media at the first try will hardly be at the second
            final = (400 <= status < 500 and status not in _ASK_AGAIN) or isinstance(error, InvalidDataError)
            if final or self.failures > self.settings.retries:
                if isinstance(error, RequestError):
                    raise error
                said = f"ffmpeg says: {error.strerror}" if isinstance(error, FFmpegError) else str(error)
                raise FetchError(self.url, f"it can't be recorded as a stream ({said})", permanent=final)
        elif self.gone > self.settings.retries:
            return False  # the server is well, and has no such stream any more
        self.broken = True
        self._wait(min(self.settings.backoff_s * 2.0 ** min(self.failures - 1, 16), LONGEST_WAIT_S))
        return True

    def _open(self, part: Part) -> Any:
        headers = dict(self.headers)
        if part.first is not None and part.size is not None:
            headers["Range"] = f"bytes={part.first}-{part.first + part.size - 1}"
        return self.client.urlopen(Request(part.url, headers=headers))

    def _connect(self) -> bool:
        """Take what the address gives, manifest or sound; whether that was all there will be."""
        patience = (self.settings.timeout_s, self.settings.timeout_s)
        if (scheme := urlsplit(self.url).scheme.lower()) in STREAMS:
            options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
            with av.open(self.url, "r", options=options, timeout=patience, metadata_errors="replace") as container:
                self.resumed = time.monotonic()
                self._lay(container, new_clock=True)
            if not self._over():
                raise RequestError("the connection was closed")
            return False
        with closing(self._open(Part(self.url))) as response:
            head = bytes(response.read(1024))
            start = head.lstrip(b"\xef\xbb\xbf \r\n")
            if start.startswith(b"#EXTM3U") or b"<MPD" in head:
                page = _text(head, response), str(response.url), _date(response)
            else:
                return self._listen(_Reader(head, response, self._over))
        return self._follow(start.startswith(b"#EXTM3U"), *page)

    def _listen(self, source: _Reader) -> bool:
        """Sound that comes in one endless answer."""
        self.resumed = time.monotonic()
        options = {"analyzeduration": "1000000"}  # else five seconds of sound are awaited
        # to recognise MP3 from the middle of a frame on takes ffmpeg seconds, so that is done once
        known, self.format = self.format, None
        try:
            with av.open(source, "r", known, options, buffer_size=4096, metadata_errors="replace") as sound:
                if self._lay(sound, new_clock=True):
                    self.format = sound.format.name
        except FFmpegError:
            if not source.error:
                raise
            self.format = known  # the end came too soon for ffmpeg
        if source.error:
            raise source.error
        if not self._over():
            if source.response.headers.get("Content-Length"):
                return True  # it had an end
            raise RequestError("the connection was closed")
        return False

    def _follow(self, hls: bool, text: str, base: str, now: datetime) -> bool:
        """Take the segments of a manifest that is read again and again."""
        url = self.url
        if hls and (media := media_playlist(text, base)):
            url = media
            text, base, now = self._page(url)
        while True:
            loaded = time.monotonic()
            manifest = read_hls(text, base) if hls else read_dash(text, base, now)
            news = self._news(manifest)
            for segment in news:
                self._take(segment)
                if self._over():
                    return False
            if manifest.ended:
                return True
            pause = manifest.wait_s if news else manifest.wait_s / 2
            self._wait(max(0.2, loaded + pause - time.monotonic()))
            if self._over():
                return False
            text, base, now = self._page(url)

    def _page(self, url: str) -> tuple[str, str, datetime]:
        """A manifest, the address that its names are relative to, and the server's clock."""
        with closing(self._open(Part(url))) as response:
            return _text(b"", response), str(response.url), _date(response)

    def _news(self, manifest: Manifest) -> Sequence[Segment]:
        segments = manifest.segments
        if not segments:
            return ()
        if self.last and segments[-1].at < self.oldest:  # it counts from the start again
            self.last, self.resumed = None, time.monotonic()
        self.oldest = segments[0].at
        if self.last is None:
            return segments if manifest.ended else segments[-FROM_EDGE:]
        return [segment for segment in segments if segment.at >= self.last.next]

    def _take(self, segment: Segment) -> None:
        """Add a segment to the tape, and what is missing before it, or it itself, to what is lost."""
        missing = (segment.at - self.last.next) * segment.unit_s if self.last else 0.0
        missing = missing if missing > 0.1 else 0.0  # DASH places are rounded
        data = self._bytes_of(segment)
        packets = 0
        if data is not None:
            try:
                with av.open(io.BytesIO(data), "r", metadata_errors="replace") as sound:
                    packets = self._lay(sound, new_clock=segment.new_clock or missing > 0)
            except FFmpegError:
                pass
        if not packets:
            missing += segment.seconds
            self.tape.due = None
            self.unheard += not self.tape.bytes
            if self.unheard > self.settings.retries:
                raise FetchError(self.url, "there is no sound in this stream", permanent=True)
        self.lost_s += missing if self.tape.bytes else 0.0
        self.last = segment

    def _bytes_of(self, segment: Segment) -> bytes | None:
        """A segment's bytes in the clear, after its header; None if the server won't give it.

        Raises RequestError where the connection failed, to ask for it again after a pause.
        """
        try:
            init = self._kept(segment.init) if segment.init else b""
            data = self._kept(segment.part, keep=False)
            if segment.key:
                data = unpad_pkcs7(aes_cbc_decrypt_bytes(data, self._kept(Part(segment.key.url)), segment.key.iv))
            return init + data
        except HTTPError as error:
            error.close()
            return None
        except (ValueError, IndexError):  # cut off, so that it can't be decrypted
            return None
        except RequestError:
            if self.failures > self.settings.retries:
                return None
            raise

    def _kept(self, part: Part, keep: bool = True) -> bytes:
        """A part's bytes; headers and keys, which many segments share, are kept."""
        if keep and part in self.parts:
            return self.parts[part]
        for tries in (2, 1):
            try:
                with closing(self._open(part)) as response:
                    data = _all(response, SEGMENT_BYTES)
                break
            except HTTPError as error:
                error.close()
                if tries == 1:
                    raise
                self._wait(self.settings.backoff_s)  # the newest segment may be named before it is there
        if keep:
            self.parts[part] = data
        return data

    def _lay(self, container: av.container.InputContainer, new_clock: bool) -> int:
        """Copy a container's first track of sound to the tape, as far as it can be read; how many packets came."""
        packets = 0
        if not container.streams.audio:
            return packets
        try:
            for packet in container.demux(container.streams.audio[0]):
                if packet.size:
                    packets += 1
                    self._lay_packet(packet, new_clock)
                    new_clock = False
                    if self._over():
                        break
        except FFmpegError:  # damaged: the clock of what comes next shows how much is missing
            if not packets:
                raise
        return packets

    def _lay_packet(self, packet: av.Packet[av.AudioStream], new_clock: bool) -> None:
        now = time.monotonic()
        if self.tape.bytes:
            self.lost_s += max(0.0, self.resumed - self.heard) if self.resumed else 0.0
            self.reconnects += self.broken
        self.lost_s += self.tape.add(packet, new_clock, now - self.began + 60.0)
        self.broken, self.resumed = False, None
        self.failures = self.gone = 0
        self.heard = now
        self._told()


def _text(head: bytes, response: Any) -> str:
    return (head + _all(response, 64 << 20)).decode("utf-8", "replace")


def _all(response: Any, most: int) -> bytes:
    """The rest of an answer. Raises ValueError if it is longer than `most` bytes."""
    data = bytearray()
    while block := response.read(1 << 16):
        data += block
        if len(data) > most:
            raise ValueError("an answer that has no end")
    return bytes(data)


def _date(response: Any) -> datetime:
    try:
        return parsedate_to_datetime(response.headers.get("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
