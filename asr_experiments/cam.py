"""Where a classifier listens: Grad-CAM and Grad-CAM++ (METHOD §3), in batches, and a cache of the maps on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from asr_experiments.classifier import AccentCnn, Classifier, windows
from asr_experiments.features import Floats, LogMels, Mels, Progress, save_arrays
from catalog.errors import UsageError

BATCH = 32  # windows
FORMAT = 1

Method = Literal["gradcam", "gradcam++"]


@dataclass(frozen=True, slots=True)
class CamSettings:
    """Which map. `layer` is the convolution whose ReLU output it looks at (the paper's, 4, is the last)."""

    method: Method = "gradcam"
    layer: int = 4
    target: Literal["predicted", "true"] = "predicted"  # the class it explains
    valid_only: bool = True  # min–max over the valid frames, nothing on the padding

    def __post_init__(self) -> None:
        if self.method not in ("gradcam", "gradcam++"):
            raise UsageError(f"method: expected gradcam or gradcam++, got {self.method!r}")
        if self.target not in ("predicted", "true"):
            raise UsageError(f"target: expected predicted or true, got {self.target!r}")
        if self.layer not in (1, 2, 3, 4):
            raise UsageError(f"layer: expected 1 to 4, got {self.layer}")


DEFAULT = CamSettings()


def class_maps(net: AccentCnn, x: Tensor, classes: Tensor, method: Method = "gradcam", layer: int = 4) -> Tensor:
    """Class activation maps before scaling, float32 (batch, h, w), of log-mels (batch, n_mels, n_frames).

    With A the ReLU output of convolution `layer` and g = ∂y_c/∂A for the class c given for each row by `classes`:

    - gradcam (arXiv 1610.02391, eq. 1–2): w_k = mean of g over (i, j); C = ReLU(Σ_k w_k A_k).
    - gradcam++ (arXiv 1710.11063): α = g²/(2g² + S g³) = 1/(2 + S g) where g ≠ 0, S_k = Σ_ij A_k;
      w_k = Σ_ij α ReLU(g).

    Rows don't see each other: a batch gives what they give one by one.
    """
    with torch.no_grad():
        maps = net.maps(x, layer)
    maps.requires_grad_()
    with torch.enable_grad():
        scores = net.scores(maps, layer).gather(1, classes[:, None]).sum()
    (g,) = torch.autograd.grad(scores, maps)
    maps = maps.detach()
    if method == "gradcam":
        weights = g.mean((2, 3))
    else:
        up = torch.relu(g)  # α counts only where g > 0, and there its denominator is 2 or more, for S ≥ 0
        weights = (up / (2 + maps.sum((2, 3), keepdim=True) * up)).sum((2, 3))
    return torch.relu((weights[:, :, None, None] * maps).sum(1))


def upscale(maps: Floats, n_mels: int, n_frames: int, n_valid: int) -> Floats:
    """Maps (h, w) bilinearly up to (n_mels, n_frames), then min–max to [0, 1] over the first `n_valid` frames.

    The rest is zero, and so is a map that is the same everywhere.
    """
    x = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None, None]
    full = cast(Floats, nn.functional.interpolate(x, (n_mels, n_frames), mode="bilinear")[0, 0].numpy())
    valid = full[:, :n_valid]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 0.0)
    scaled = np.zeros_like(full)
    if high > low:
        scaled[:, :n_valid] = np.clip((valid - low) / (high - low), 0.0, 1.0)
    return scaled


def clip_maps(
    made: Classifier,
    mels: Mels,
    clips: Sequence[int],
    settings: CamSettings = DEFAULT,
    labels: Sequence[str] = (),
) -> list[Floats]:
    """Maps at the layer's own scale, float32 (n_mels/8, n_frames/8) for the fourth, one for each of `clips`.

    A clip of several windows is explained window by window, for the class of its mean score (or its true one,
    which needs `labels` of all clips; a clip whose accent the classifier does not know keeps the predicted). Where
    windows overlap, the larger value counts. Each map's greatest value is 1, or it is zero throughout.
    """
    if settings.target == "true" and not labels:
        raise UsageError("a map for the true class needs the clips' accents")
    made.net.eval()
    stride = 2 ** (settings.layer - 1)
    parts = [windows(mels, clip, made.window) for clip in clips]
    sizes = [len(x) for x, _ in parts]
    if not parts:
        return []
    x = torch.from_numpy(np.concatenate([x for x, _ in parts])).to(made.device)
    with torch.no_grad():
        scores = torch.cat([made.net(part) for part in torch.split(x, BATCH)])
    classes = torch.stack([own.mean(0).argmax() for own in torch.split(scores, sizes)])
    if settings.target == "true":
        for i, clip in enumerate(clips):
            if labels[clip] in made.accents:
                classes[i] = made.accents.index(labels[clip])
    each = classes.repeat_interleave(torch.tensor(sizes, device=classes.device))
    found = torch.cat(
        [
            class_maps(made.net, part, of, settings.method, settings.layer)
            for part, of in zip(torch.split(x, BATCH), torch.split(each, BATCH), strict=True)
        ]
    )
    shape = (mels.shape.n_mels // stride, mels.shape.n_frames // stride)
    return [
        _stitch(own.cpu().numpy(), [start // stride for start in starts], shape, -(-mels[clip][1] // stride))
        for clip, (_, starts), own in zip(clips, parts, torch.split(found, sizes), strict=True)
    ]


def _stitch(maps: Floats, starts: Sequence[int], shape: tuple[int, int], n_valid: int) -> Floats:
    """Windows' maps (n, h, w) put where they begin in one map of `shape`; all in cells of the layer.

    A few valid cells at the end may be in no window: they repeat the last that is. Greatest value 1.
    """
    whole = np.zeros(shape, np.float32)
    width = maps.shape[2]
    for start, one in zip(starts, maps, strict=True):
        place = whole[:, start : start + width]
        np.maximum(place, one[:, : place.shape[1]], out=place)
    end = starts[-1] + width
    if width < shape[1]:
        whole[:, end:n_valid] = whole[:, end - 1 : end]
        whole[:, n_valid:] = 0  # a clip shorter than the window was repeated: its first time counts
    peak = float(whole.max())
    return whole / np.float32(peak) if peak > 0 else whole


class SaliencyMaps:
    """The maps of all clips under one frozen classifier, half precision beside the log-mels (10 × 375 for 30 s).

    `maps[i]` is C as masking wants it: float32 (n_mels, n_frames) in [0, 1].
    """

    def __init__(
        self, made: Classifier, mels: LogMels, settings: CamSettings = DEFAULT, labels: Sequence[str] = ()
    ) -> None:
        """`labels` are the accents of all clips, needed for the true class only."""
        self.made, self.mels, self.settings, self.labels = made, mels, settings, labels
        self.folder = mels.folder / f"saliency-{self._hash()}"

    def __len__(self) -> int:
        return len(self.mels)

    def __getitem__(self, index: int) -> Floats:
        return self.get(index)

    def get(self, index: int) -> Floats:
        """A clip's C, float32 (n_mels, n_frames) in [0, 1]: min–max over its valid frames, zero on the padding."""
        shape, n_valid = self.mels.shape, self.mels.lengths(index)[0]
        n_valid = n_valid if self.settings.valid_only else shape.n_frames
        return upscale(self.small(index), shape.n_mels, shape.n_frames, n_valid)

    def small(self, index: int) -> Floats:
        """A clip's map at the layer's own scale, float32 (n_mels/8, n_frames/8) for the fourth convolution."""
        from safetensors.numpy import load_file

        path = self._path(index)
        if not path.exists():
            self._make([index])
        return load_file(path)["map"].astype(np.float32)

    def prepare(self, progress: Progress = lambda share: None) -> None:
        """Compute in batches whatever is not on disk yet."""
        missing = [i for i in range(len(self)) if not self._path(i).exists()]
        done = len(self) - len(missing)
        for at in range(0, len(missing), BATCH):
            some = missing[at : at + BATCH]
            self._make(some)
            progress((done + at + len(some)) / len(self))

    def _make(self, clips: Sequence[int]) -> None:
        for clip, one in zip(clips, clip_maps(self.made, self.mels, clips, self.settings, self.labels), strict=True):
            save_arrays(self._path(clip), {"map": one.astype(np.float16)})

    def _path(self, index: int) -> Path:
        of = f"-{self.labels[index]}" if self.settings.target == "true" else ""
        name = self.mels.key(index) + (hashlib.sha256(of.encode()).hexdigest()[:8] if of else "")
        return self.folder / name[:2] / f"{name}.safetensors"

    def _hash(self) -> str:
        """Twelve hex digits that stand for the classifier's weights and the way its maps are made."""
        told = hashlib.sha256(repr((FORMAT, self.made.accents, self.made.settings, self.settings)).encode())
        for name, value in sorted(self.made.net.state_dict().items()):
            told.update(name.encode() + value.cpu().numpy().tobytes())
        return told.hexdigest()[:12]
