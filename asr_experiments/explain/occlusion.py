"""Saliency by occlusion: what a class loses when a stretch of the sound is taken out.

M. Zeiler & R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, with captum's Occlusion.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from asr_experiments.classifier import AccentCnn
from asr_experiments.explain.relevance import evidence
from catalog.errors import UsageError

WINDOW, STRIDE = 10, 3  # frames: 0.1 s over the whole band, every 0.03 s
BATCH = 8  # occluded copies computed at once: on a processor more are slower again
MISSING = "captum is not installed, which computes the occlusion: run pip install 'pdid[explain]'"


def require_captum() -> None:
    """Raises UsageError, with the command that mends it, where captum is not installed."""
    if find_spec("captum") is None:
        raise UsageError(MISSING)


def occlusion(net: AccentCnn, x: Tensor, classes: Tensor, n_valid: int | None = None, batch: int = BATCH) -> Tensor:
    """The mean loss of evidence for a class, each frame over the windows that take it out, (batch, n_frames).

    `x` are log-mels (batch, n_mels, n_frames), `classes` one for each row. What is taken out becomes the row's floor,
    its least value among its first `n_valid` frames, the only ones looked at (the rest is padding; None: all); the
    others get 0. `batch` copies are computed at once; how many changes nothing.
    """
    from captum.attr import Occlusion

    n = x.shape[2] if n_valid is None else n_valid
    padding = x[:, :, n:]
    heard = x[:, :, :n].contiguous()
    copies = max(1, batch // len(x))

    def forward(given: Tensor, of: Tensor, rest: Tensor) -> Tensor:
        return evidence(net(torch.cat([given, rest], 2)), of)

    size = (x.shape[1], min(WINDOW, n))
    with torch.no_grad():
        found = Occlusion(forward).attribute(
            heard,
            sliding_window_shapes=size,
            strides=(x.shape[1], STRIDE),
            baselines=heard.amin((1, 2), keepdim=True).expand_as(heard),
            additional_forward_args=(classes, padding),
            perturbations_per_eval=copies,
        )
    whole = x.new_zeros(x.shape[0], x.shape[2])
    whole[:, :n] = found[:, 0]
    return whole
