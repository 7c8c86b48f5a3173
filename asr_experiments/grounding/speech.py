"""The speech branch of audio-visual grounding: ResDAVEnet (Harwath, Hsu, Glass, arXiv 1911.09602, section 3.1).

Forty log-mels every 10 ms; a first convolution over all of them and one frame; then four stages of two residual blocks,
each of which halves the time. The features after each are what `Grounding.layers` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr_experiments.features import Floats
from catalog.records import RATE

N_MELS = 40
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
RANGE_DB = 80.0
"""What is quieter than the clip's loudest pixel by more than this counts as this quiet."""

WIDTHS = (128, 256, 256, 512, 1024)
KERNEL = 9
LAYERS = ("conv", "stage1", "stage2", "stage3", "stage4")
FRAME_MS = (10, 20, 40, 80, 160)
"""What follows one frame of each of LAYERS after how many milliseconds."""

SHORTEST = 16 * HOP
"""Samples that make one whole frame of the last stage: 0.16 s. What is shorter has nothing to pool."""


@cache
def _mel_filters() -> Tensor:
    """Triangles of area one over 201 bins, (201, 40), on Slaney's mel scale from 0 to 8 kHz."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(WINDOW // 2 + 1, N_MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters.astype(np.float32))


def log_mels(sounds: Sequence[Floats]) -> tuple[Tensor, Tensor]:
    """Log-mels of mono sounds (n,) at 16 kHz, padded to the longest: float32 (batch, 40, frames) and valid frames (batch,).

    Decibels under the sound's loudest pixel, RANGE_DB at most, scaled to ±1: a recording's level is not in it. A frame
    is valid whose middle lies in the sound. What is padding is zero, and no pixel depends on the other sounds.
    """
    lengths = torch.tensor([-(-len(sound) // HOP) for sound in sounds])
    frames = int(lengths.max())
    wave = torch.zeros(len(sounds), frames * HOP)
    for row, sound in zip(wave, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    spectrum = torch.stft(
        wave, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()[..., :frames].transpose(1, 2) @ _mel_filters()
    decibels = 10 * torch.log10(power.clamp_min(1e-10))
    valid = frame_mask(lengths, frames)[:, 0, :, None]
    loudest = decibels.masked_fill(~valid, -math.inf).amax((1, 2), keepdim=True)
    scaled = (decibels - loudest).clamp_min(-RANGE_DB) / (RANGE_DB / 2) + 1
    return scaled.masked_fill(~valid, 0.0).transpose(1, 2), lengths


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Which frames are valid: bool (batch, 1, frames) for lengths (batch,)."""
    return (torch.arange(frames, device=lengths.device) < lengths[:, None])[:, None]


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation over the valid frames alone; padding stays zero, as it is past the end of a single clip."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (batch, width, frames); `mask` is `frame_mask`'s, None where all frames are valid."""
        if mask is None:
            return cast(Tensor, super().forward(x))
        if not self.training:
            return cast(Tensor, super().forward(x)) * mask
        inside = mask[:, 0]
        normed = super().forward(x.transpose(1, 2)[inside])
        out = torch.zeros(x.shape[0], x.shape[2], x.shape[1], device=x.device, dtype=normed.dtype)
        out[inside] = normed
        return out.transpose(1, 2)


class Block(nn.Module):
    """Two convolutions over time with a way around them; with `stride` 2 it halves the number of frames, rounding up."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        self.norm1 = FrameNorm(after)
        self.conv2 = nn.Conv1d(after, after, KERNEL, padding=KERNEL // 2, bias=False)
        self.norm2 = FrameNorm(after)
        self.around = nn.Conv1d(before, after, 1, stride=stride, bias=False) if stride > 1 or before != after else None
        self.norm_around = FrameNorm(after) if self.around is not None else None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, before, frames) → (batch, after, frames / stride); `mask` is that of the result."""
        around = x if self.around is None or self.norm_around is None else self.norm_around(self.around(x), mask)
        x = torch.relu(self.norm1(self.conv1(x), mask))
        return torch.relu(self.norm2(self.conv2(x), mask) + around)


class SpeechBranch(nn.Module):
    """ResDAVEnet. `widths` are those of the first convolution and of the four stages."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.conv = nn.Conv1d(N_MELS, widths[0], 1, bias=False)  # the paper's 40 × 1 over the spectrogram
        self.norm = FrameNorm(widths[0])
        self.stages = nn.ModuleList(
            nn.ModuleList([Block(before, after, 2), Block(after, after, 1)])
            for before, after in zip(widths, widths[1:], strict=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def layers(self, x: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What LAYERS make of log-mels (batch, 40, frames): features (batch, width, frames) and valid frames (batch,)."""
        padded = bool((lengths < x.shape[2]).any())

        def mask() -> Tensor | None:
            return frame_mask(lengths, x.shape[2]) if padded else None

        x = torch.relu(self.norm(self.conv(x), mask()))
        found = [(x, lengths)]
        for stage in self.stages:
            lengths = (lengths + 1) // 2
            inside = frame_mask(lengths, (x.shape[2] + 1) // 2) if padded else None
            for block in cast(nn.ModuleList, stage):
                x = block(x, inside)
            found.append((x, lengths))
        return found

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The mean of the last stage over a clip's valid frames, (batch, width), for log-mels (batch, 40, frames)."""
        last, valid = self.layers(x, lengths)[-1]
        return last.sum(2) / valid[:, None]
