"""What the layers of a model make of a clip: frames of numbers, the same shape of answer for every kind of model.

Only frames that lie in the sound are given, never those of the padding, so a mean over them is a masked mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from asr_experiments.classifier import Classifier, load_classifier
from asr_experiments.features import Floats, log_mel
from asr_experiments.grounding.model import MODEL_FILE, Grounding, load_grounding
from asr_experiments.studies import CLASSIFIER_FILE
from catalog.context import STRIDE, encode, window_frames
from catalog.records import RATE
from catalog.whisper import HOP, Whisper, load_whisper

RANDOM = "random weights"
LOG_MEL = "log-mel"
WIDEST = 640
"""Numbers in a frame of the classifier's maps at most: mel bands are averaged until they are no more."""


class Layers(Protocol):
    """A model whose layers can be looked at."""

    @property
    def name(self) -> str:
        """What the model is called in tables."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of the layers, from the input on."""
        ...

    @property
    def longest(self) -> int | None:
        """Samples at 16 kHz the model takes at once; None for any length."""
        ...

    def layers(self, samples: Floats) -> list[Floats]:
        """For mono sound (n,) at 16 kHz, one array (frames, width) of float32 for each of `names`."""
        ...


@dataclass(frozen=True, slots=True)
class LogMelLayers:
    """The input itself, as a control: Whisper's log-mel, (frames of 10 ms, mel bands)."""

    extractor: Any  # WhisperFeatureExtractor
    name: str = LOG_MEL
    names: Sequence[str] = (LOG_MEL,)

    @property
    def longest(self) -> int:
        return int(self.extractor.n_samples)

    def layers(self, samples: Floats) -> list[Floats]:
        features, n_valid = log_mel(samples, self.extractor)
        return [np.ascontiguousarray(features[:, :n_valid].T)]


@dataclass(frozen=True, slots=True)
class WhisperLayers:
    """A Whisper's encoder: what its convolutions give (with the positions added), then each of its blocks, the last
    one after the final normalisation, as the decoder gets it. Frames of 20 ms; the whole padded window is encoded."""

    whisper: Whisper
    name: str
    names: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        blocks = len(self.whisper.model.get_encoder().layers)
        object.__setattr__(self, "names", ("convolutions", *(f"block {i + 1}" for i in range(blocks))))

    @property
    def longest(self) -> int:
        return window_frames(self.whisper.model) * HOP

    def layers(self, samples: Floats) -> list[Floats]:
        model = self.whisper.model
        features, n_valid = log_mel(samples, self.whisper.feature_extractor)
        blocks = model.get_encoder().layers
        found: list[torch.Tensor] = []
        hooks = [blocks[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))]
        hooks += [block.register_forward_hook(lambda _, given, made: found.append(made)) for block in blocks]
        try:
            with torch.inference_mode():
                found[-1:] = [encode(model, torch.from_numpy(features)[None].to(self.whisper.device, model.dtype))]
        finally:
            for hook in hooks:
                hook.remove()
        return [one[0, : -(-n_valid // STRIDE)].float().cpu().numpy() for one in found]


def random_twin(given: WhisperLayers, seed: int = 0) -> WhisperLayers:
    """The same architecture with fresh random weights: what a layer tells without having learnt anything."""
    model = given.whisper.model
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(model.config).to(model.device, model.dtype).eval()
    return WhisperLayers(replace(given.whisper, model=fresh), RANDOM)


@dataclass(frozen=True, slots=True)
class ClassifierLayers:
    """The accent classifier's four convolutions (after ReLU) on a whole clip; a frame is every filter in every band.

    Frames of 10, 20, 40 and 80 ms. Neighbouring mel bands are averaged so that a frame has at most WIDEST numbers.
    """

    made: Classifier
    extractor: Any  # the WhisperFeatureExtractor it was trained with
    name: str = "accent classifier"
    names: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.made.settings.channels)
        object.__setattr__(self, "names", tuple(f"convolution {i + 1}" for i in range(count)))

    @property
    def longest(self) -> int:
        return self.made.shape.n_frames * self.made.shape.hop

    def layers(self, samples: Floats) -> list[Floats]:
        features, n_valid = log_mel(samples, self.extractor)
        found = []
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(features[:, :n_valid]))[None].to(self.made.device)
            for i in range(len(self.names)):
                maps = self.made.net.maps(x, i + 1)[0]  # (filters, bands, frames)
                n_filters, bands, _ = maps.shape
                kept = max(1, min(bands, WIDEST // n_filters))
                maps = torch.nn.functional.adaptive_avg_pool2d(maps, (kept, maps.shape[2]))
                found.append(maps.flatten(0, 1).T.contiguous().cpu().numpy())
        return found


@dataclass(frozen=True, slots=True)
class GroundingLayers:
    """The speech branch of an audio-visual grounding model: its first convolution, then each of its stages."""

    made: Grounding
    name: str

    @property
    def names(self) -> Sequence[str]:
        return self.made.layer_names

    @property
    def longest(self) -> None:
        return None

    def layers(self, samples: Floats) -> list[Floats]:
        return self.made.layers(samples)


def open_layers(folder: str, device: str | None = None) -> Layers:
    """The model in a folder: an accent classifier, a grounding model, or a Whisper (also by size, name or hub id).

    The `model` folder of a benchmark's cell is called after its cell. Raises UsageError for a folder that holds
    none of them, PdidError for a damaged one.
    """
    path = Path(folder)
    name = path.absolute().parent.name if path.name == "model" else path.name
    if (path / CLASSIFIER_FILE).is_file():
        made = load_classifier(path, device or "cpu")
        return ClassifierLayers(made, extractor_of(made), name)
    if (path / MODEL_FILE).is_file():
        return GroundingLayers(load_grounding(path, device or "cpu"), name)
    return WhisperLayers(load_whisper(folder, device), name)


def extractor_of(made: Classifier) -> Any:
    """A WhisperFeatureExtractor with the shape of features that a classifier was trained on."""
    from transformers import WhisperFeatureExtractor

    seconds = made.shape.n_frames * made.shape.hop // RATE
    return WhisperFeatureExtractor(feature_size=made.shape.n_mels, chunk_length=seconds)  # type: ignore[no-untyped-call]


def hop_of(n_frames: int, n_samples: int) -> int:
    """Samples from one frame to the next: a power of two times 10 ms, the one nearest to what a clip's counts say."""
    return int(HOP * 2 ** max(0, round(math.log2(n_samples / n_frames / HOP))))
