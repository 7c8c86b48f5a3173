"""Sound for a page: excerpts of recordings and clips, as MP3, within a budget; and levels to draw."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import numpy as np
from av.error import FFmpegError

from catalog.errors import PdidError
from catalog.records import RATE, Address, Fetch
from corpus_builder.audio import Decoder, Samples, open_media

SEEK_FROM_S = 120.0  # from here on an excerpt is sought, not decoded up to
RUN_UP_S = 1.0  # decoded before it: a codec's first frames lean on those before them


@dataclass(slots=True)
class Budget:
    """Bytes that the page may still grow by; what doesn't fit is counted."""

    left: int
    left_out: int = 0

    def take(self, sound: bytes | None) -> bytes | None:
        """The sound, paid for as it stands in a page (base64: four bytes for three), or None."""
        if sound is None:
            return None
        cost = -(-len(sound) // 3) * 4
        if cost > self.left:
            self.left_out += 1
            return None
        self.left -= cost
        return sound


def media_at_hand(corpus: Path, addresses: Iterable[Address], fetches: Iterable[Fetch] = ()) -> dict[str, Path]:
    """The file of each source that is still where it was, unchanged in size, by source id; downloads in `corpus`."""
    found: dict[str, Path] = {}
    for fetch in fetches:
        if fetch.media and (corpus / fetch.media).is_file():
            found[fetch.source_id] = corpus / fetch.media
    for address in addresses:
        uri = address.uri
        path = Path(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)
        try:
            if path.is_absolute() and path.is_file() and address.size_bytes in (None, path.stat().st_size):
                found.setdefault(address.source_id, path)
        except OSError:
            continue
    return found


def read(path: Path, start_s: float = 0.0, seconds: float | None = None) -> Samples | None:
    """Mono float32 sound of shape (n,) at 16 kHz from `start_s` on, at most `seconds` of it; None if it can't be read.

    Far into a recording the start is sought by the container's clock, so it may be off by some hundredths of a second.
    """
    start = round(start_s * RATE)
    end = None if seconds is None else start + round(seconds * RATE)
    try:
        blocks, at = _sought(path, start_s) if start_s >= SEEK_FROM_S else (_decoded(path), 0)
        parts, n = [], at
        for block in blocks:
            parts.append(block[max(0, start - n) :])
            n += len(block)
            if end is not None and n >= end:
                break
    except (PdidError, FFmpegError, OSError, ValueError):
        return None
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return sound if end is None else sound[: end - max(start, at)]


def _decoded(path: Path) -> Iterable[Samples]:
    for block in Decoder(path, RATE):
        yield block[:, 0]


def _sought(path: Path, start_s: float) -> tuple[Iterable[Samples], int]:
    """Blocks from a little before `start_s` on, and the sample at 16 kHz that the first begins with."""
    container, stream = open_media(path)
    base = stream.time_base
    if base is None:
        container.close()
        return _decoded(path), 0
    zero = stream.start_time or 0
    container.seek(zero + int((start_s - RUN_UP_S) / base), stream=stream)
    frames = container.decode(stream)
    first = next(frames, None)
    if first is None or first.pts is None:
        container.close()
        return _decoded(path), 0
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)

    def blocks() -> Iterable[Samples]:
        with container:
            for frame in itertools.chain([first], frames):
                frame.pts = None
                for out in resampler.resample(frame):
                    yield out.to_ndarray().reshape(-1).astype(np.float32, copy=False)

    return blocks(), round(float((first.pts - zero) * base) * RATE)


def levels(sound: Samples, columns: int) -> Samples:
    """The loudest sample of each of `columns` even stretches, (columns,): from 0 at -60 dBFS to 1 at full scale."""
    edges = np.linspace(0, len(sound), columns + 1).astype(int)
    peaks = np.array([np.abs(sound[a:b]).max() if b > a else 0.0 for a, b in itertools.pairwise(edges)])
    scaled = np.clip(1 + 20 * np.log10(np.maximum(peaks, 1e-6)) / 60, 0, 1)
    return np.asarray(scaled, np.float32)
