"""Find speech: silero-vad (MIT, model in the wheel), many stretches of a track side by side.

silero takes one step of 32 ms after the other, and for so small a network each costs as much as sixteen at once. So the
track is cut into stretches that are heard together, each from a moment before its beginning.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from silero_vad import load_silero_vad
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from catalog.records import RATE, Span
from corpus_builder.audio import Track
from corpus_builder.config import Vad
from corpus_builder.protocols import Progress

FRAME = 512  # samples silero looks at in one step
STRETCH = 480  # frames heard in one go: 15 s
CONTEXT = 64  # frames heard before: the network needs a moment to know where it is
BATCH = 32  # stretches heard side by side


def model_name() -> str:
    """Engine and version, as stored in `stages.model`."""
    return f"silero-vad-{version('silero-vad')}"


class _Steps(torch.nn.Module):
    """All steps in one call: between two of them Python would wait for whatever runs beside, such as an import."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, n_steps) of steps (n_steps, n, FRAME)."""
        heard: list[torch.Tensor] = []
        for step in range(steps.size(0)):
            heard.append(self.model(steps[step], 16000)[:, 0])
        return torch.stack(heard, 1)


class SpeechDetector:
    """silero over a track of any length."""

    def __init__(self, settings: Vad) -> None:
        self.settings = settings
        self.model = load_silero_vad()
        self.steps = torch.jit.script(_Steps(self.model))

    def __call__(self, track: Track, progress: Progress) -> tuple[Span, ...]:
        """Spans of speech in `track` (mono, 16 kHz; silero decimates other rates without a filter)."""
        probabilities = self.probabilities(track, progress)
        found = get_speech_timestamps_from_probs(
            probabilities.tolist(),
            threshold=self.settings.threshold,
            sampling_rate=RATE,
            min_speech_duration_ms=self.settings.min_speech_ms,
            min_silence_duration_ms=self.settings.min_silence_ms,
            speech_pad_ms=self.settings.pad_ms,
            audio_length_samples=len(track),
        )
        return tuple(Span(int(s["start"]), int(s["end"])) for s in found if s["end"] > s["start"])

    def probabilities(self, track: Track, progress: Progress) -> NDArray[np.float32]:
        """Probability of speech in each 32 ms: float32 (ceil(n_samples / 512),)."""
        n_frames = -(-len(track) // FRAME)
        probability = np.zeros(n_frames, np.float32)
        for first in range(0, n_frames, BATCH * STRETCH):
            last = min(first + BATCH * STRETCH, n_frames)
            sound = track.read((first - CONTEXT) * FRAME, last * FRAME)
            before = max(0, CONTEXT - first) * FRAME
            n_stretches = -(-(last - first) // STRETCH)
            whole = (CONTEXT + n_stretches * STRETCH) * FRAME
            sound = np.pad(sound, (before, whole - before - len(sound)))
            frames = np.lib.stride_tricks.sliding_window_view(sound.reshape(-1, FRAME), CONTEXT + STRETCH, axis=0)
            heard = self._hear(frames[::STRETCH])
            probability[first:last] = heard.reshape(-1)[: last - first]
            progress(last / n_frames)
        return probability

    def _hear(self, stretches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, STRETCH) of stretches (n, FRAME, CONTEXT + STRETCH)."""
        steps = torch.from_numpy(np.array(stretches.transpose(2, 0, 1), order="C"))
        self.model.reset_states()
        with torch.inference_mode():
            heard = self.steps(steps)[:, CONTEXT:]
        result: NDArray[np.float32] = heard.numpy()
        return result
