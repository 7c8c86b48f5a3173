"""The image branch of audio-visual grounding: a ResNet of transformers' own classes, and pictures made ready for it.

Pictures are decoded by Pillow, an extra (`pip install 'pdid[ground]'`); torchvision plays no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from catalog import hub
from catalog.errors import PdidError, UsageError

Bytes = NDArray[np.uint8]

MARGIN = 8 / 7
"""A picture's side against the side of what the network sees of it: 256 to 224, as ResNets are trained."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the three colours, 0 to 1; what published ResNets expect."""

SMALL: Mapping[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "hidden_act": "relu",
}
"""The ResNet with random weights that is trained where none is given: 0.3 million parameters."""

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a network sees of a picture: a square of `size` pixels, each colour less `mean`, over `std`."""

    size: int = 64
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, slots=True)
class Backbone:
    """A ResNet to begin with: its configuration, what it sees, and the folder of its weights (None: random ones)."""

    name: str
    config: dict[str, Any]
    preparation: Preparation
    folder: Path | None = None


def small_backbone() -> Backbone:
    """SMALL, with random weights."""
    return Backbone("small", dict(SMALL), Preparation())


def find_backbone(model: str | None) -> Backbone:
    """A ResNet by folder, by its name under `$PDID_MODELS`, or by its name on the hub; SMALL for None.

    The folder holds config.json and model.safetensors, as transformers writes them, and may have a
    preprocessor_config.json, else 224 pixels and ImageNet's colours count. Raises UsageError for a folder that holds
    no ResNet and PdidError where a name is neither on this disk nor to be had from the hub.
    """
    if model is None:
        return small_backbone()
    folder = _folder_of(model)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} is no ResNet of transformers: it has no config.json with a model_type") from None
    if kind != "resnet":
        raise UsageError(f"{folder} holds a model of type {kind!r}, expected 'resnet': give another image model")
    if not (folder / WEIGHTS).is_file():
        raise UsageError(f"{folder} has no {WEIGHTS}: other formats may run code, so save it as safetensors")
    return Backbone(folder.name, config, _preparation(folder / "preprocessor_config.json"), folder)


def _folder_of(model: str) -> Path:
    if given := hub.given_folder(model):
        return given
    if (own := hub.own_folder(model)) and own.is_dir():
        return own
    weights = hub.cached(model, WEIGHTS)
    if weights is not None and hub.cached(model, "config.json") is not None:
        return weights.parent
    try:
        return hub.download(model, ["config.json", "preprocessor_config.json", WEIGHTS])
    except PdidError as error:
        raise PdidError(
            f"the image model {model!r} is neither a folder nor under $PDID_MODELS nor in the cache, and {error}; "
            "give a folder, or leave it out for a small one that is trained from nothing"
        ) from None


def _preparation(path: Path) -> Preparation:
    try:
        told = json.loads(path.read_text("utf-8"))
    except OSError:
        return Preparation(size=224)
    except ValueError:
        raise UsageError(f"{path} is no JSON: mend or remove it") from None
    size = told.get("size", 224)
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 224
    mean, std = (tuple(told.get(key) or usual) for key, usual in _COLOURS)
    return Preparation(int(size), cast(Any, mean), cast(Any, std))


_COLOURS = (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))


def pillow() -> ModuleType:
    """Pillow's Image module. Raises PdidError with what to install where it is missing."""
    try:
        from PIL import Image
    except ImportError:
        raise PdidError("pictures are read by Pillow, which is not installed: pip install 'pdid[ground]'") from None
    return Image


def read_picture(path: Path, size: int) -> Bytes:
    """A picture as RGB bytes (side, side, 3), its middle square scaled to side = MARGIN · size.

    What a camera noted of its orientation is followed. Raises PdidError for a file that can't be read as a picture.
    """
    image_module = pillow()
    from PIL import ImageOps

    side = round(MARGIN * size)
    try:
        with image_module.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        return np.asarray(ImageOps.fit(image, (side, side), image_module.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:  # Pillow raises all four
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PdidError(f"the picture {str(path)!r} can't be read ({reason}): mend it or leave it out") from None


def as_batch(pictures: Sequence[Bytes], preparation: Preparation, rng: np.random.Generator | None = None) -> Tensor:
    """Pictures of `read_picture` as float32 (batch, 3, size, size): the middle of each, or with `rng` any part.

    They are not mirrored: what is said of left and right, and every letter, would be wrong.
    """
    room = len(pictures[0]) - preparation.size
    cut = []
    for picture in pictures:
        top, left = rng.integers(0, room + 1, 2) if rng else (room // 2, room // 2)
        cut.append(picture[top : top + preparation.size, left : left + preparation.size])
    x = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(three)[:, None, None] for three in (preparation.mean, preparation.std))
    return (x - mean) / std


class ImageBranch(nn.Module):
    """A ResNet, the mean over its last map, and a linear layer to the width of the speech branch."""

    def __init__(self, config: Mapping[str, Any], width: int) -> None:
        from transformers import ResNetConfig, ResNetModel

        super().__init__()
        made: Any = ResNetConfig(**config)
        self.body: Any = ResNetModel(made)
        self.head = nn.Linear(made.hidden_sizes[-1], width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) for pictures (batch, 3, size, size)."""
        result: Tensor = self.head(self.body(x).last_hidden_state.mean((2, 3)))
        return result

    def start_from(self, backbone: Backbone) -> None:
        """Take a backbone's weights, where it has any. Raises PdidError where they don't fit its configuration."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if backbone.folder is None:
            return
        try:
            weights = load_file(backbone.folder / WEIGHTS)
            # a classifier's file has the ResNet under this name, beside a head of classes that is not wanted
            bare = {name.removeprefix("resnet."): value for name, value in weights.items()}
            self.body.load_state_dict({name: bare[name] for name in self.body.state_dict()})
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise PdidError(f"the weights in {backbone.folder} are not those of its config.json ({error})") from None
