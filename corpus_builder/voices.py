"""Voice embeddings (d-vectors): what tells two speakers apart.

The encoder is the one inside the Resemblyzer wheel (Apache-2.0): generalised end-to-end loss
(GE2E, arXiv 1710.10467), 40 mel power bands → LSTM 3 × 256 → linear 256 → ReLU → unit length.
The wheel's own package asks for a compiler, so its weights are read without importing it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.functional import melscale_fbanks

from catalog.errors import PdidError
from catalog.records import RATE, Span
from corpus_builder.audio import Samples, Track
from corpus_builder.protocols import Each, Progress, labelled

NAME = "resemblyzer-0.1.4"
HOP = RATE // 100  # 10 ms mel hop
N_FFT = RATE // 40  # 25 ms mel window
N_MELS = 40
WINDOW = 160  # mel frames an embedding sees: 1.6 s, what the encoder was trained on
HALF = WINDOW * HOP // 2
STRIDE = 10  # mel frames between embeddings: 0.1 s
EVERY = 2  # windows from one that the network hears to the next: the voice between is the mean of both
BLOCK_S = 30  # of sound embedded at a time
LEVEL_DBFS = -30.0  # quieter sound is raised to this, as the encoder's own code does
BATCH = 64
NARROW_HZ = 3800  # telephone speech has nothing above
EPSILON = 1e-9

Vectors = NDArray[np.float32]


def unit(x: Vectors) -> Vectors:
    """Rows of `x`, shape (…, d), at unit length."""
    length: Vectors = np.linalg.norm(x, axis=-1, keepdims=True)
    result: Vectors = (x / np.maximum(length, EPSILON)).astype(np.float32)
    return result


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Voices along a track: `vectors` float32 (n, 256), unit length, each over the 1.6 s around `centres` (n,).

    `centres` are samples at 16 kHz, 0.1 s apart within a stretch. `narrowband` says that the sound
    has a telephone's bandwidth, where all voices lie closer together.
    """

    vectors: Vectors
    centres: NDArray[np.int64]
    narrowband: bool


class _Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(N_MELS, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Power mels (batch, 160, 40) to unit vectors (batch, 256)."""
        last = self.lstm(mels)[1][0][-1]
        return torch.nn.functional.normalize(torch.relu(self.linear(last)), dim=1)


def weights_path() -> Path | None:
    """Where the encoder's weights lie, or None if the wheel is not installed."""
    spec = importlib.util.find_spec("resemblyzer")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "pretrained.pt" if folders else None
    return path if path and path.is_file() else None


class VoiceEncoder:
    """d-vectors of 1.6 s every 0.1 s. Raises PdidError if the Resemblyzer wheel is missing."""

    def __init__(self, threads: int = 1) -> None:
        """Load the encoder; its batches are shared among `threads` threads of one processor each."""
        path = weights_path()
        if path is None:
            raise PdidError(
                "the voice encoder is missing: expected the Resemblyzer wheel; "
                "install it with `pip install --no-deps resemblyzer==0.1.4`"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self.net = _Encoder()
        self.net.load_state_dict({k: v for k, v in state.items() if not k.startswith("similarity")})
        self.net.eval()
        # whole batches to each thread: threads that share one recurrent step wait for each other at every frame
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.filters = melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, N_MELS, RATE, norm="slaney", mel_scale="slaney")
        self.taper = torch.hann_window(N_FFT)

    def mels(self, audio: Samples) -> torch.Tensor:
        """Power mel bands (n_frames, 40) of mono 16 kHz sound (n,), 10 ms apart, no logarithm."""
        spectrum = torch.stft(
            torch.from_numpy(audio),
            N_FFT,
            HOP,
            window=self.taper,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power: torch.Tensor = (spectrum.abs() ** 2).T @ self.filters
        return power

    def _vectors(self, windows: torch.Tensor) -> Vectors:
        """Embeddings (n, 256) of windows (n, 160, 40)."""
        with torch.inference_mode():
            result: Vectors = self.net(windows.contiguous()).numpy()
        return result

    def embed(self, track: Track, stretches: Sequence[Span], progress: Progress, each: Each = map) -> Embeddings:
        """Embed every 0.1 s of the given stretches of `track` (mono, 16 kHz), every other one by the network.

        Sound up to 0.8 s outside a stretch is seen by the windows at its ends. A stretch gives one
        vector per 0.1 s of its length, at least one.
        """
        vectors, centres = [np.zeros((0, 256), np.float32)], [np.zeros(0, np.int64)]
        band_power = np.zeros(N_MELS, np.float32)
        total, done = sum(map(len, stretches)), 0
        blocks = (
            Span(start, min(start + BLOCK_S * RATE, stretch.end))
            for stretch in stretches
            for start in range(stretch.start, stretch.end, BLOCK_S * RATE)
        )
        around = ((block, self._around(track, block.start - HALF, block.end + HALF)) for block in blocks)
        for block, (found, power) in labelled(each, self.hear, around):
            vectors.append(found)
            centres.append(block.start + np.arange(len(found), dtype=np.int64) * STRIDE * HOP)
            band_power += power
            done += len(block)
            progress(done / total)
        return Embeddings(np.concatenate(vectors), np.concatenate(centres), self._narrow(band_power))

    def hear(self, audio: Samples) -> tuple[Vectors, Vectors]:
        """Vectors (k, 256) of a block every 0.1 s, and its power in each band (40,); what `embed` gives to `each`.

        `audio` (n,) is the block with 0.8 s on both sides.
        """
        inside = audio[HALF:-HALF]
        level = 10 * np.log10(float(np.mean(inside**2)) + 1e-12)
        mels = self.mels(audio * np.float32(10 ** (max(0.0, LEVEL_DBFS - level) / 20)))
        windows = mels.unfold(0, WINDOW, STRIDE).transpose(1, 2)[: max(1, len(inside) // (STRIDE * HOP))]
        heard = [*range(0, len(windows), EVERY)]
        if heard[-1] != len(windows) - 1:
            heard.append(len(windows) - 1)
        found = np.concatenate([*self.pool.map(self._vectors, torch.split(windows[heard], BATCH))])
        return _between(found, heard), mels.sum(0).numpy()

    @staticmethod
    def _around(track: Track, start: int, end: int) -> Samples:
        """Sound [start, end) with zeros where the track has none."""
        audio = track.read(start, end)
        before = max(0, -start)
        return np.pad(audio, (before, end - start - before - len(audio)))

    def _narrow(self, band_power: Vectors) -> bool:
        """Whether next to no power lies above a telephone's band (60 dB under the rest, per band)."""
        centre_hz = (self.filters.argmax(0) * (RATE / 2) / (len(self.filters) - 1)).numpy()
        power = band_power + 1e-20
        above, below = (
            power[centre_hz > NARROW_HZ + 400].mean(),
            power[(centre_hz > 300) & (centre_hz < NARROW_HZ)].mean(),
        )
        return bool(10 * np.log10(above / below) < -40)


def _between(vectors: Vectors, at: Sequence[int]) -> Vectors:
    """Unit vectors (n, 256) at every place up to the last of `at`, from those at these places (k, 256)."""
    places = np.arange(at[-1] + 1)
    right = np.searchsorted(at, places)
    left = np.where(np.take(at, right) == places, right, right - 1)
    return unit(vectors[left] + vectors[right])
