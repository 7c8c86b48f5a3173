"""Whisper's log-mel spectrograms of clips, computed once and kept on disk for the classifier and the fine-tuning.

Shapes come from the model's feature extractor (80 × 3000 for 30 s, 80 × 800 for a model made for 8 s…).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr_experiments.datasets import read_sound
from catalog.errors import PdidError
from catalog.records import RATE

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

Floats = NDArray[np.float32]
Progress = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""

FORMAT = 1  # of a cached file; a change here leaves the old ones unread


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model's features look like."""

    n_mels: int
    n_frames: int  # of the model's window, 10 ms each for Whisper
    hop: int  # samples at 16 kHz from one frame to the next


def shape_of(extractor: WhisperFeatureExtractor) -> Shape:
    """The shape of an extractor's features. Raises PdidError if it does not work at 16 kHz."""
    if extractor.sampling_rate != RATE:
        raise PdidError(f"expected a feature extractor for {RATE} Hz, got one for {extractor.sampling_rate} Hz")
    return Shape(int(extractor.feature_size), int(extractor.nb_max_frames), int(extractor.hop_length))


def log_mel(samples: Floats, extractor: WhisperFeatureExtractor) -> tuple[Floats, int]:
    """Log-mel of mono 16 kHz sound (n,), padded or cut to the model's window as the extractor does it.

    Returns float32 (n_mels, n_frames), normalised as Whisper wants it, and the number of valid frames:
    those whose centre lies in the sound, the rest is padding.
    """
    shape = shape_of(extractor)
    features = extractor(samples, sampling_rate=RATE, return_tensors="np")["input_features"][0]
    return features.astype(np.float32, copy=False), min(shape.n_frames, -(-len(samples) // shape.hop))


def settings_hash(extractor: WhisperFeatureExtractor) -> str:
    """Twelve hex digits that stand for all of an extractor's settings and its mel filters."""
    settings = {k: v for k, v in extractor.to_dict().items() if isinstance(v, int | float | str | bool)}
    filters = np.ascontiguousarray(extractor.mel_filters, np.float32).tobytes()
    told = json.dumps([FORMAT, settings], sort_keys=True).encode()
    return hashlib.sha256(told + filters).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes in hex. Raises PdidError if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PdidError(f"clip {path}: can't be read ({error.strerror or error})") from None


class LogMels:
    """The log-mels of a list of clips, in a cache that any experiment with the same extractor shares.

    A clip's file is keyed by its content's hash and the extractor's settings: half-precision values (a relative
    error of 5e-4) of its frames without the padding, which is one constant and put back on reading; opened
    memory-mapped. It is written beside its place and then renamed, so processes may share a cache.

    `mels[i]` and `mels.get(i)` give (features, n_valid) with float32 features of shape (n_mels, n_frames).
    The array is the caller's own to change.
    """

    def __init__(self, paths: Sequence[Path], extractor: WhisperFeatureExtractor, folder: Path) -> None:
        """`paths` are the clips, `folder` the cache, made when it is first written to. Nothing is read yet."""
        self.paths = tuple(paths)
        self.extractor = extractor
        self._shape = shape_of(extractor)
        self.folder = folder / f"logmel-{settings_hash(extractor)}"
        self._keys: dict[int, str] = {}

    @property
    def shape(self) -> Shape:
        return self._shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Floats, int]:
        return self.get(index)

    def key(self, index: int) -> str:
        """The hash of a clip's bytes. Raises PdidError if they can't be read."""
        if index not in self._keys:
            self._keys[index] = file_hash(self.paths[index])
        return self._keys[index]

    def get(self, index: int) -> tuple[Floats, int]:
        """A clip's log-mel, float32 (n_mels, n_frames), and its valid frames. Raises PdidError if it can't be read."""
        from safetensors import safe_open

        with safe_open(self._ensure(index), framework="np") as file:
            stored, n_valid = file.get_tensor("frames"), int(file.get_tensor("n_valid")[0])
        features = np.empty((self.shape.n_mels, self.shape.n_frames), np.float32)
        features[:, : stored.shape[1]] = stored
        features[:, stored.shape[1] :] = stored[:, -1:]
        return features, n_valid

    def lengths(self, index: int) -> tuple[int, int]:
        """A clip's valid frames, and its whole length in samples at 16 kHz (it may pass the model's window)."""
        from safetensors import safe_open

        with safe_open(self._ensure(index), framework="np") as file:
            return int(file.get_tensor("n_valid")[0]), int(file.get_tensor("n_samples")[0])

    def prepare(self, progress: Progress = lambda share: None) -> None:
        """Compute whatever is not in the cache yet. Raises PdidError for the first clip that can't be read."""
        for i in range(len(self)):
            self._ensure(i)
            progress((i + 1) / len(self))

    def _ensure(self, index: int) -> Path:
        """The clip's file in the cache, made if need be."""
        key = self.key(index)
        path = self.folder / key[:2] / f"{key}.safetensors"
        if not path.exists():
            samples = read_sound(self.paths[index])
            features, n_valid = log_mel(samples, self.extractor)
            differs = np.flatnonzero((features != features[:, -1:]).any(0))
            end = min(features.shape[1], int(differs[-1]) + 2 if len(differs) else 1)  # one frame of padding stays
            save_arrays(
                path,
                {
                    "frames": np.ascontiguousarray(features[:, :end], np.float16),
                    "n_valid": np.array([n_valid]),
                    "n_samples": np.array([len(samples)]),
                },
            )
        return path


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors: beside the target first, then renamed."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(save(arrays))
    os.replace(beside, path)


class Mels(Protocol):
    """Log-mels by index, whether from a cache on disk (`LogMels`) or in memory (`MelArrays`)."""

    @property
    def shape(self) -> Shape: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Floats, int]: ...


@dataclass(frozen=True, slots=True)
class MelArrays:
    """Log-mels in memory: `items` are (features, n_valid), features float32 (n_mels, n_frames)."""

    items: Sequence[tuple[Floats, int]]
    shape: Shape

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Floats, int]:
        return self.items[index]
