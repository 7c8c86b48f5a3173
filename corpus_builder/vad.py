"""Find speech: silero-vad (MIT, model in the wheel) on one thread, which is where it is fastest."""

from __future__ import annotations

from importlib.metadata import version

import torch
from silero_vad import get_speech_timestamps, load_silero_vad

from catalog.records import RATE, Span
from corpus_builder.audio import Track
from corpus_builder.config import Vad
from corpus_builder.protocols import Progress

WINDOW = 300 * RATE  # five minutes at a time
CONTEXT = RATE  # heard again before the next window: the network needs a moment to know where it is
FRAME = 512  # samples silero looks at in one step; windows keep to its grid


def model_name() -> str:
    """Engine and version, as stored in `stages.model`."""
    return f"silero-vad-{version('silero-vad')}"


class SpeechDetector:
    """silero over a track of any length."""

    def __init__(self, settings: Vad) -> None:
        self.settings = settings
        self.model = load_silero_vad()

    def __call__(self, track: Track, progress: Progress) -> tuple[Span, ...]:
        """Spans of speech in `track` (mono, 16 kHz; silero decimates other rates without a filter).

        A window ends where its last speech began, unless that speech fills it, so that no word is
        split between two windows.
        """
        spans: list[Span] = []
        at, n = 0, len(track)
        while at < n:
            end = min(at + WINDOW, n)
            found = self._window(track, at, end)
            if end < n and found and end - found[-1].end < RATE and found[-1].start > at:
                end = found.pop().start
            if spans and found and found[0].start == spans[-1].end:  # speech that fills a window goes on
                found[0] = Span(spans.pop().start, found[0].end)
            spans += found
            at = end
            progress(at / n)
        return tuple(spans)

    def _window(self, track: Track, start: int, end: int) -> list[Span]:
        first = max(0, start - CONTEXT) // FRAME * FRAME
        found = get_speech_timestamps(
            torch.from_numpy(track.read(first, end)),
            self.model,
            threshold=self.settings.threshold,
            sampling_rate=RATE,
            min_speech_duration_ms=self.settings.min_speech_ms,
            min_silence_duration_ms=self.settings.min_silence_ms,
            speech_pad_ms=self.settings.pad_ms,
        )
        spans = [Span(max(start, first + int(s["start"])), first + int(s["end"])) for s in found]
        return [span for span in spans if span.end > start]
