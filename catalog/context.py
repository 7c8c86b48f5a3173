"""Whisper's encoder on as many frames as a batch needs, instead of its whole window.

Published Whispers were trained on 30 s, padded, and transformers insists on that many frames; yet most clips are
short, and the encoder's cost grows with what it is given. Here the table of positions is cut to the frames at hand.
At the full window the arithmetic is transformers' own, bit for bit; with fewer frames the model no longer sees the
padding it was trained with, so this is a choice (`--context auto`) whose word error rate stands beside the full one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from catalog.errors import PdidError

if TYPE_CHECKING:
    from torch import Tensor

Context = Literal["full", "auto"]
"""Whether the encoder runs on the model's whole window, or on the frames of the longest clip in the batch."""

STRIDE = 2
"""Log-mel frames to one position of the encoder: its second convolution takes every other one."""

MARGIN = 2
"""Frames kept after the last one centred in the sound: their windows (25 ms, 10 ms apart) still reach into it."""


GRAIN = 20
"""Frames a short context is rounded up to: 0.2 s. Every length of its own costs memory and time to prepare for."""


def window_frames(model: Any) -> int:
    """Log-mel frames that a Whisper's encoder was made for: 3000 for 30 s."""
    return STRIDE * int(model.config.max_source_positions)


def context_frames(model: Any, n_valid: Sequence[int], context: Context) -> int:
    """Log-mel frames the encoder is to run on: the model's window, or what the longest clip of a batch needs.

    `n_valid` are the clips' valid frames. The answer is even, and at most the window.
    """
    full = window_frames(model)
    return full if context == "full" else min(full, -(-(max(n_valid) + MARGIN) // GRAIN) * GRAIN)


def encode(model: Any, features: Tensor) -> Tensor:
    """The encoder's last hidden states, (batch, frames / 2, width), of log-mel features (batch, n_mels, frames).

    `model` is transformers' WhisperForConditionalGeneration, with or without LoRA inside; `frames` is even and at most
    `window_frames(model)`. The same as `model.get_encoder()(features)` where it is exactly that. Raises PdidError for
    any other number of frames.
    """
    import torch
    from torch.nn import functional as F

    encoder = model.get_encoder()
    frames = features.shape[-1]
    if frames % STRIDE or not 0 < frames <= window_frames(model):
        raise PdidError(f"expected an even number of frames up to {window_frames(model)}, got {frames}")
    x = F.gelu(encoder.conv1(features))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    x = F.dropout(x, p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        if encoder.training and encoder.layerdrop > 0 and torch.rand([]) < encoder.layerdrop:
            continue
        x = layer(x, None)
    hidden: Tensor = encoder.layer_norm(x)
    return hidden
