"""The file that a live stream is recorded into: its packets as they come, without coding them again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from corpus_builder.acquire.records import FetchError

GAP_S = 0.5
"""A jump of a stream's own clock over which sound is missing."""

_MATROSKA_LACKS = frozenset({"aac_latm"})


class Tape:
    """The file: packets of sound of one kind, end to end. `path` has the ending of its container, .mka or .ts."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.path = url, target
        self.length = Fraction(0)  # seconds
        self.bytes = 0
        self.output: av.container.OutputContainer | None = None
        self.due: Fraction | None = None  # what the input's clock should show at the next packet

    def add(self, packet: av.Packet[av.AudioStream], new_clock: bool, longest_gap_s: float) -> float:
        """Lay a packet after the others; returns the seconds missing before it by the stream's own clock.

        A packet of another kind (an advertisement's, usually) is left out and is missing itself.
        """
        stream, size = packet.stream, packet.size
        length = Fraction(stream.codec_context.frame_size or 1024, stream.rate or 48000)
        if packet.duration:
            length = packet.duration * packet.time_base
        output = self.output or self._begin(stream)
        name, rate = _kind(stream)
        if name != self.name or rate not in {self.rate, 2 * self.rate, self.rate // 2}:  # AAC's rate may show halved
            self.due = None
            return float(length)
        jump = 0.0
        if packet.pts is not None:
            at = packet.pts * packet.time_base
            if self.due is not None and not new_clock:
                jump = float(at - self.due)
            self.due = at + length
        packet.stream = self.track
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = round(self.length * 1000)
        packet.duration = round(length * 1000)
        try:
            output.mux(packet)
        except (FFmpegError, OSError) as error:
            raise FetchError(self.url, f"the recording can't be written ({error.strerror or error})") from None
        self.length += length
        self.bytes += size
        return jump if GAP_S < jump < longest_gap_s else 0.0

    def _begin(self, stream: av.AudioStream) -> av.container.OutputContainer:
        self.name, self.rate = _kind(stream)
        container = "mpegts" if self.name in _MATROSKA_LACKS else "matroska"
        self.path = self.path.with_suffix(".ts" if container == "mpegts" else ".mka")
        try:
            # small clusters, written at once: what is on disk can be read if the process dies
            options = {"flush_packets": "1"} | ({"cluster_time_limit": "2000"} if container == "matroska" else {})
            output = self.output = av.open(f"file:{self.path}", "w", format=container, options=options)
            self.track = output.add_stream_from_template(stream)
        except (FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FetchError(self.url, f"its sound ({self.name}) can't be recorded: {reason}") from None
        return output

    def close(self) -> None:
        try:
            if self.output is not None:
                self.output.close()
        except (FFmpegError, OSError) as error:
            raise FetchError(self.url, f"the recording can't be written ({error.strerror or error})") from None
        if not self.bytes:
            self.path.unlink(missing_ok=True)


def _kind(stream: av.AudioStream) -> tuple[str, int]:
    return stream.codec_context.codec.canonical_name, stream.codec_context.sample_rate
