"""A model of audio-visual grounding: both branches, what they are told apart by, and the folder they are kept in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_experiments.features import Floats
from asr_experiments.grounding.images import Backbone, Bytes, ImageBranch, Preparation, as_batch
from asr_experiments.grounding.speech import FRAME_MS, HOP, LAYERS, SHORTEST, WIDTHS, SpeechBranch, log_mels
from catalog.errors import PdidError, UsageError
from catalog.records import RATE

FORMAT = 2  # 2: log-mels over 50 dB, in place of 80
MODEL_FILE = "grounding.json"
WEIGHTS_FILE = "grounding.safetensors"


class Branches(nn.Module):
    """The two networks as one module, so that they are trained and stored as one."""

    def __init__(self, widths: Sequence[int], image_config: dict[str, Any]) -> None:
        super().__init__()
        self.speech = SpeechBranch(widths)
        self.image = ImageBranch(image_config, widths[-1])


@dataclass(frozen=True, slots=True)
class Grounding:
    """A speech and an image branch whose outputs' dot product says how well a clip and a picture fit."""

    net: Branches
    widths: tuple[int, ...]
    image_config: dict[str, Any]
    preparation: Preparation
    image_model: str

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Of the speech branch, from the input on."""
        return LAYERS

    @property
    def frame_ms(self) -> tuple[int, ...]:
        """Milliseconds from a frame of each layer to the next."""
        return FRAME_MS

    @property
    def device(self) -> torch.device:
        return self.net.image.head.weight.device

    @torch.no_grad()
    def layers(self, samples: Floats) -> list[Floats]:
        """What each layer makes of mono sound (n,) at 16 kHz: float32 (frames, width), in the order of `layer_names`.

        Frame k of a layer lies around k · `frame_ms`. Raises UsageError for sound under 0.16 s, which is one frame of
        the last layer.
        """
        x, lengths = self._heard([samples])
        return [np.ascontiguousarray(found.cpu().numpy()) for found, _ in self.net.speech.layers(x, lengths)]

    @torch.no_grad()
    def embed_speech(self, sounds: Sequence[Floats]) -> Floats:
        """Vectors (batch, width) of mono sounds (n,) at 16 kHz. Raises UsageError as `layers` does."""
        return cast(Floats, self.net.speech(*self._heard(sounds)).cpu().numpy())

    @torch.no_grad()
    def embed_pictures(self, pictures: Sequence[Bytes]) -> Floats:
        """Vectors (batch, width) of pictures as `read_picture` gives them."""
        return cast(Floats, self.net.image(as_batch(pictures, self.preparation).to(self.device)).cpu().numpy())

    def _heard(self, sounds: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
        self.net.eval()
        shortest = min(map(len, sounds))
        if shortest < SHORTEST:
            raise UsageError(
                f"a clip of {shortest / RATE:.2f} s is too short for grounding: expected {SHORTEST / RATE} s or more, "
                f"which is {SHORTEST // HOP} frames; leave it out"
            )
        x, lengths = log_mels(sounds)
        return x.to(self.device), lengths.to(self.device)


def new_grounding(backbone: Backbone, widths: Sequence[int] = WIDTHS) -> Grounding:
    """An untrained model around a ResNet; torch's random state decides. Raises PdidError for weights that don't fit."""
    net = Branches(widths, backbone.config)
    net.image.start_from(backbone)
    return Grounding(net.eval(), tuple(widths), backbone.config, backbone.preparation, backbone.name)


def save_grounding(made: Grounding, folder: Path) -> None:
    """Write `grounding.safetensors` and `grounding.json` into a folder; the latter comes last."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "format": FORMAT,
        "widths": made.widths,
        "image_config": made.image_config,
        "preparation": asdict(made.preparation),
        "image_model": made.image_model,
    }
    state = {name: value.cpu().contiguous() for name, value in made.net.state_dict().items()}
    for name, content in (
        (WEIGHTS_FILE, save(state)),
        (MODEL_FILE, json.dumps(told, ensure_ascii=False, indent=1).encode()),
    ):
        beside = folder / f".{name}.{os.getpid()}"
        beside.write_bytes(content)
        os.replace(beside, folder / name)


def load_grounding(folder: Path, device: str = "cpu") -> Grounding:
    """Read what `save_grounding` wrote. Raises PdidError if the folder holds none, or a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        told = json.loads((folder / MODEL_FILE).read_text("utf-8"))
        if told["format"] != FORMAT:
            raise PdidError(f"grounding model {folder}: expected format {FORMAT}, got {told['format']}; train it again")
        seen = told["preparation"]
        preparation = Preparation(int(seen["size"]), tuple(seen["mean"]), tuple(seen["std"]))
        widths = tuple(told["widths"])
        net = Branches(widths, told["image_config"])
        net.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (FileNotFoundError, NotADirectoryError):
        raise PdidError(f"no grounding model in {folder}: expected {MODEL_FILE} and {WEIGHTS_FILE}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise PdidError(f"grounding model {folder}: damaged ({error}); train it again") from None
    return Grounding(net.to(device).eval(), widths, told["image_config"], preparation, told["image_model"])
