"""Sound for a page: compressed, in memory."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE

BIT_RATE = 32_000
EFFORT = "7"  # LAME's, 0 the best and slowest; its usual 5 takes twice as long


def encode_mp3(sound: NDArray[np.float32], bit_rate: int = BIT_RATE) -> bytes | None:
    """Mono sound (n,) at 16 kHz as MP3; None for none."""
    if not len(sound):
        return None
    buffer = io.BytesIO()
    pcm = np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16)
    with av.open(buffer, "w", format="mp3") as out:
        stream = out.add_stream("libmp3lame", rate=RATE, options={"compression_level": EFFORT})
        stream.layout = "mono"
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(pcm[None], "s16p", "mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return buffer.getvalue()
