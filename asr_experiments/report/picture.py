"""Small pictures of spectrograms and maps, as PNG."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from asr_experiments.features import Floats
from asr_experiments.masking import Mask

LEVELS = 64  # of a scale: more can't be told apart at this size, and the file grows
WIDEST = 800  # pixels; longer clips are narrowed by whole factors
BLANK = LEVELS  # what is masked

# Anchors of two colour scales, dark to light in lightness too, so that they read without colour.
SOUND = ((9, 10, 30), (42, 24, 92), (106, 32, 121), (176, 54, 98), (232, 104, 58), (250, 178, 62), (252, 247, 180))
HEAT = ((13, 17, 28), (15, 54, 92), (14, 104, 122), (38, 158, 116), (134, 206, 76), (245, 236, 90))
MASKED = (238, 241, 246)

Bytes = NDArray[np.uint8]


def spectrogram_png(features: Floats, mask: Mask | None = None) -> bytes:
    """A log-mel (n_mels, n) as PNG, low frequencies at the bottom; the scale spans its own values' 1st to 100th
    percentile. `mask` of the same shape is left blank."""
    low, high = float(np.percentile(features, 1)), float(features.max())
    scaled = np.clip((features - low) / max(high - low, 1e-6), 0.0, 1.0)
    levels = _levels(_narrow(scaled))
    if mask is not None:
        levels[_narrow(mask.astype(np.float32)) >= 0.5] = BLANK
    return _png(levels, SOUND)


def map_png(saliency: Floats) -> bytes:
    """A map (n_mels, n) in [0, 1] as PNG, low frequencies at the bottom."""
    return _png(_levels(_narrow(saliency)), HEAT)


def _narrow(values: Floats) -> Floats:
    """Means over so many columns as bring the width under WIDEST."""
    n = values.shape[1]
    factor = -(-n // WIDEST)
    if factor <= 1:
        return values
    whole = n // factor * factor
    return np.asarray(values[:, :whole].reshape(len(values), -1, factor).mean(2), np.float32)


def _levels(shares: Floats) -> Bytes:
    return np.minimum(shares * LEVELS, LEVELS - 1).astype(np.uint8)


def _png(levels: Bytes, scale: tuple[tuple[int, int, int], ...]) -> bytes:
    """Levels (height, width), row 0 at the bottom, as a PNG with a palette (ISO/IEC 15948)."""
    at = np.linspace(0, len(scale) - 1, LEVELS)
    colours = [np.interp(at, np.arange(len(scale)), [anchor[i] for anchor in scale]) for i in range(3)]
    palette = np.vstack([np.stack(colours, 1).round(), MASKED]).astype(np.uint8)
    height, width = levels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = levels[::-1]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
