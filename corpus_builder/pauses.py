"""Find the quiet moments in speech: the only places where clips are cut.

Quiet is relative to the speech around it, so a soft speaker's pauses and a noisy room's are found too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE, Span
from corpus_builder.audio import Samples, Track
from corpus_builder.spans import join_spans, runs

with warnings.catch_warnings():  # pydub looks for an ffmpeg it does not need here
    warnings.simplefilter("ignore", RuntimeWarning)
    from pydub import AudioSegment
    from pydub.silence import detect_silence

HOP = RATE // 100
CHUNK = 10 * RATE  # the level of speech is judged over ten seconds
QUIET_SHARE = 0.2  # of the way, in dB, from the floor up to the loud frames
DIP_SHARE = 0.3
REACH = RATE // 2  # pauses are looked for up to half a second outside speech


def frame_levels(audio: Samples) -> NDArray[np.float32]:
    """Levels in dBFS of 10 ms frames of mono 16 kHz sound: float32 (n // 160,)."""
    frames = audio[: len(audio) // HOP * HOP].reshape(-1, HOP)
    levels: NDArray[np.float32] = (10 * np.log10((frames**2).mean(1) + 1e-12)).astype(np.float32)
    return levels


def quiet_level(levels: NDArray[np.float32]) -> float:
    """The level in dBFS under which a frame is a pause, given the frames (n,) of speech around it."""
    floor, loud = np.percentile(levels, [5, 90])
    return float(floor + QUIET_SHARE * (loud - floor))


def find_dips(track: Track, speech: Sequence[Span]) -> tuple[Span, ...]:
    """Short dips in and around `speech`, 80 ms or more, quiet against the three seconds around them.

    They are second choice for a cut, where no pause is near: between words spoken over music, or
    next to an overlap.
    """
    dips: list[Span] = []
    for stretch in join_spans(list(speech), 2 * REACH):
        first, last = max(0, stretch.start - REACH) // HOP * HOP, min(len(track), stretch.end + REACH)
        for start in range(first, last, 60 * RATE):
            levels = frame_levels(track.read(start, min(start + 60 * RATE, last)))
            if len(levels) < 10:
                continue
            around = np.lib.stride_tricks.sliding_window_view(np.pad(levels, 150, mode="edge"), 301)[::25]
            floor, loud = np.percentile(around, [5, 90], axis=1)
            limit = np.repeat(floor + DIP_SHARE * (loud - floor), 25)[: len(levels)]
            dips += [
                Span(start + d.start, start + d.end)
                for d in runs(levels < limit, HOP, len(levels) * HOP)
                if len(d) >= 8 * HOP
            ]
    return tuple(dips)


def find_pauses(track: Track, speech: Sequence[Span], min_pause_s: float) -> tuple[Span, ...]:
    """Quiet stretches of at least `min_pause_s` seconds in and around `speech` (to 10 ms)."""
    pauses: list[Span] = []
    shortest = round(min_pause_s * 1000)
    for stretch in join_spans(list(speech), 2 * REACH):
        first, last = max(0, stretch.start - REACH), min(len(track), stretch.end + REACH)
        first -= first % HOP  # all frames on one grid, whatever the stretch
        n_chunks = max(1, round((last - first) / CHUNK))
        size = -(-(last - first) // n_chunks // HOP) * HOP
        for start in range(first, last, size):
            # half a second is shared with the next chunk, so that no pause hides between two
            audio = track.read(start, min(start + size + REACH, last))
            if len(audio) < HOP:
                continue
            quiet = quiet_level(frame_levels(audio))
            pcm = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
            segment = AudioSegment(pcm, frame_rate=RATE, sample_width=2, channels=1)
            found = detect_silence(segment, min_silence_len=shortest, silence_thresh=quiet, seek_step=10)
            pauses += [Span(start + a * RATE // 1000, min(start + b * RATE // 1000, last)) for a, b in found]
    return tuple(join_spans(pauses, HOP))
