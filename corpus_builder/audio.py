"""The only audio input and output: decode media in blocks, keep a working copy on disk, write clips.

Nothing here holds more than a few seconds of sound: an 8-hour source costs the memory of a short one.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from catalog.errors import PdidError
from catalog.records import RATE, Span

Samples = NDArray[np.float32]

FLOAT_BYTES = 4


class MediaError(PdidError):
    """A file that can't be decoded; the message says why in words a person understands."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the container says of its audio. Its duration is not here: containers lie, so we count."""

    sample_rate: int  # Hz
    channels: int
    codec: str
    title: str | None


def open_media(path: Path) -> tuple[av.container.InputContainer, av.AudioStream]:
    """Open a media file and its first audio stream; the caller closes the container.

    Raises MediaError if the file is empty, unreadable, not media, or has no sound.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise MediaError("the file is empty (0 bytes)")
        # a protocol prefix keeps names such as "a:b.wav" from being read as addresses
        container = av.open(f"file:{path}", metadata_errors="replace")
    except PermissionError:
        raise MediaError("the file can't be read: permission denied") from None
    except FileNotFoundError:
        raise MediaError("there is no such file") from None
    except FFmpegError as error:
        raise MediaError(
            f"not a media file, or damaged beyond reading (ffmpeg says: {error.strerror or error})"
        ) from None
    if not container.streams.audio:
        container.close()
        raise MediaError("there is no sound in this file (no audio stream)")
    return container, container.streams.audio[0]


def probe(path: Path) -> MediaInfo:
    """Read a media file's header. Raises MediaError as `open_media` does."""
    container, stream = open_media(path)
    with container:
        context = stream.codec_context
        return MediaInfo(context.sample_rate, context.channels, context.name, container.metadata.get("title") or None)


def stated_seconds(path: Path) -> float | None:
    """The length that a media file's header states, which may be false; None where it states none.

    Of raw AAC and MPEG transport streams that would be a guess from the size. Raises MediaError as `open_media` does.
    """
    container, _ = open_media(path)
    with container:
        if container.duration is None or container.format.name in ("aac", "mpegts"):
            return None
        return container.duration / av.time_base


@dataclass(slots=True)
class Decoder:
    """Decode a media file's first audio stream block by block.

    Iterating gives float32 arrays of shape (n, channels) at `rate` Hz, n at most about a second.
    Damaged packets are skipped and counted in `lost_packets`; the sample count is what was decoded.
    Surround sound is folded down by ffmpeg's standard matrix.
    """

    path: Path
    rate: int
    channels: int = 1
    meter: BandwidthMeter | None = None
    lost_packets: int = 0

    def __iter__(self) -> Iterator[Samples]:
        container, stream = open_media(self.path)
        pending: list[Samples] = []
        waiting = 0
        with container:
            for block in self._resampled(_frames(container, stream, self)):
                pending.append(block)
                waiting += len(block)
                if waiting >= self.rate:
                    yield np.concatenate(pending)
                    pending, waiting = [], 0
        if pending:
            yield np.concatenate(pending)

    def _resampled(self, frames: Iterator[av.AudioFrame]) -> Iterator[Samples]:
        """Frames at `rate`, (n, channels). Where a stream changes its rate or layout (recordings strung together,
        damage), ffmpeg's resampler is emptied and a new one set up: one alone would refuse the next frame."""
        layout = "mono" if self.channels == 1 else "stereo"
        resampler = native = None
        kind: tuple[str, str, int] | None = None
        for frame in frames:
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                yield from self._rest(resampler, native)
                # a second at a time: an array of each 20 ms costs as much as decoding them
                resampler = av.AudioResampler("flt", layout, self.rate, self.rate)
                native = av.AudioResampler("flt", "mono", None, frame.sample_rate)
            assert resampler
            assert native
            if self.meter and frame.sample_rate == self.meter.rate and self.meter.wants(frame.samples):
                for out in native.resample(frame):
                    self.meter.add(_array(out, 1)[:, 0])
            yield from (_array(out, self.channels) for out in resampler.resample(frame))
        if resampler is None:
            raise MediaError("no sound can be decoded from this file: it is empty, cut off or damaged")
        yield from self._rest(resampler, native)

    def _rest(self, resampler: av.AudioResampler | None, native: av.AudioResampler | None) -> Iterator[Samples]:
        """What the resamplers still hold: to the caller, and to the meter."""
        if native and self.meter:
            for out in native.resample(None):
                self.meter.add(_array(out, 1)[:, 0])
        if resampler:
            yield from (_array(out, self.channels) for out in resampler.resample(None))


def _array(frame: av.AudioFrame, channels: int) -> Samples:
    """A frame of interleaved floats as (n, channels)."""
    return frame.to_ndarray().reshape(-1, channels).astype(np.float32, copy=False)


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, decoder: Decoder
) -> Iterator[av.AudioFrame]:
    """Frames of a stream; damaged packets are counted and skipped, as players do."""
    packets = container.demux(stream)
    held: av.AudioFrame | None = None  # one back, to know the last
    length: int | None = None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except FFmpegError:  # the container ends in the middle of a packet: keep what came before
            decoder.lost_packets += 1
            break
        try:
            for frame in packet.decode():
                frame.pts = None  # time is the count of samples, never the container's stamps
                if held:
                    yield held
                held, length = frame, packet.duration
        except FFmpegError:
            decoder.lost_packets += 1
    if held:
        # MP4 tells the filling at the end only by the last packet's length, which the decoder ignores
        n = held.samples
        if "mp4" in container.format.name and length and stream.time_base:
            n = round(length * stream.time_base * held.sample_rate)
        yield _first_samples(held, n) if n < held.samples else held


def _first_samples(frame: av.AudioFrame, n: int) -> av.AudioFrame:
    """The first `n` samples of a frame as a frame."""
    width = n if frame.format.is_planar else n * frame.layout.nb_channels
    data: NDArray[Any] = np.ascontiguousarray(frame.to_ndarray()[:, :width])
    short = av.AudioFrame.from_ndarray(data, frame.format.name, frame.layout.name)
    short.sample_rate = frame.sample_rate
    return short


@dataclass(frozen=True, slots=True)
class Track:
    """Mono float32 sound at 16 kHz in a scratch file, read in any order without holding the rest."""

    path: Path
    n_samples: int
    first: int = 0  # where it begins in the file, in samples

    def __len__(self) -> int:
        return self.n_samples

    def part(self, span: Span) -> Track:
        """A stretch of it as a track of its own, with its own count of samples."""
        return Track(self.path, len(span), self.first + span.start)

    def read(self, start: int, end: int) -> Samples:
        """Samples [start, end) as float32 of shape (n,), cut at the track's ends."""
        start, end = max(0, start), min(end, self.n_samples)
        if end <= start:
            return np.zeros(0, np.float32)
        return np.fromfile(self.path, np.float32, count=end - start, offset=(self.first + start) * FLOAT_BYTES)

    def blocks(self, size: int, start: int = 0, end: int | None = None) -> Iterator[Samples]:
        """Consecutive blocks of `size` samples (the last may be shorter)."""
        end = self.n_samples if end is None else end
        for at in range(start, end, size):
            yield self.read(at, min(at + size, end))


class BandwidthMeter:
    """Where a source's sound ends in frequency, measured at its own rate: a minute, then one second in seven."""

    ALL_S = 60
    EVERY_S = 7

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.size = 1 << (rate // 12).bit_length()  # bins of 6 to 12 Hz
        self.taper = np.kaiser(self.size, 12.0)  # leaks less than -85 dB beyond four bins
        self.power = np.zeros(self.size // 2 + 1)
        self.seen = 0
        self.rest = np.zeros(0, np.float32)

    def wants(self, n_samples: int) -> bool:
        """Count the next `n_samples` samples in; whether they should be given to `add`."""
        at = self.seen // self.rate
        self.seen += n_samples
        return at < self.ALL_S or at % self.EVERY_S == 0

    def add(self, block: Samples) -> None:
        """Take in a mono block (n,) at the source's rate."""
        block = np.concatenate([self.rest, block])
        whole = len(block) // self.size * self.size
        self.rest = block[whole:]
        if whole:
            frames = block[:whole].reshape(-1, self.size) * self.taper
            self.power += (np.abs(np.fft.rfft(frames)) ** 2).sum(0)

    def hz(self) -> float | None:
        """Highest frequency in Hz with sound in it, or None for silence or less than a sixth of a second.

        That is the top of the last 100 Hz band of the long-term spectrum within 70 dB of the loudest, and 6 dB
        over the quietest where that is a recording's floor, 45 dB down or more: a codec's low-pass and a
        telephone's band both show so. What is 20 dB under the bands below it is a filter's skirt (a resampler's
        leakage reaches 20 % beyond the band), and no sound of its own.
        """
        if self.power.max() < 1e-6:
            return None
        width = max(1, round(100 / (self.rate / self.size)))
        bands = self.power[: len(self.power) // width * width].reshape(-1, width).mean(1)
        level = 10 * np.log10(bands + 1e-20)
        loudest, quietest = level.max(), level.min()
        floor = quietest + 6.0 if quietest < loudest - 45.0 else quietest
        over = np.flatnonzero(level >= max(loudest - 70.0, floor))
        below = level[over[-1] // 2 : over[-1] * 4 // 5 + 1]
        top = int(over[level[over] >= np.median(below) - 20.0][-1]) + 1
        return min(top * width * self.rate / self.size, self.rate / 2)


def write_clip(path: Path, audio: Samples) -> None:
    """Write mono sound at 16 kHz as 16-bit PCM WAV: beside the target first, then renamed.

    `audio` is float32 of shape (n,) in [-1, 1]. Quantisation rounds; no dither is added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    pcm = np.clip(np.rint(audio * 32767.0), -32768, 32767).astype("<i2")
    with beside.open("wb") as raw, wave.open(raw, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(pcm.tobytes())
    os.replace(beside, path)


def read_clip(path: Path) -> Samples:
    """A clip as `write_clip` leaves it, float32 (n,) at 16 kHz.

    Raises PdidError where it is missing or something else.
    """
    try:
        with wave.open(str(path), "rb") as file:
            form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            pcm = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too soon"
        raise PdidError(f"the clip {path} can't be read: {reason}") from None
    if form != (RATE, 1, 2) or not pcm:
        raise PdidError(f"the clip {path} is not as it was written: expected 16-bit mono WAV at 16 kHz")
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)
