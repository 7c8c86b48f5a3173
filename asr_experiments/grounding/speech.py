"""The speech branch of audio-visual grounding: ResDAVEnet (Harwath, Hsu, Glass, arXiv 1911.09602).

Forty log-mels every 10 ms; a first convolution over all of them and one frame; then four stages of two residual blocks,
each of which halves the time. The features after each are what `Grounding.layers` gives.

Clips of a batch lie one after the other, (all frames, width), without padding between: a convolution gathers the frames
it reaches and multiplies. On a CPU, over half a second of speech, that is four times as fast as torch's own convolution
in the widest layers; batch normalisation sees speech alone, and a clip's features don't depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from asr_experiments.features import Floats
from catalog.records import RATE

N_MELS = 40
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
RANGE_DB = 50.0
"""What is quieter than the clip's loudest pixel by more than this counts as this quiet: further down lie microphones
and rooms, which tell speakers apart, not words (docs/ground.md has what it gains)."""

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
    """Log-mels of mono sounds (n,) at 16 kHz, one sound after the other: (all frames, 40), and the frames of each.

    Decibels under the sound's loudest pixel, RANGE_DB at most, scaled to ±1: a recording's level is not in it. A sound
    has one frame for each 10 ms it begins.
    """
    lengths = torch.tensor([-(-len(sound) // HOP) for sound in sounds])
    wave = torch.zeros(len(sounds), int(lengths.max()) * HOP)
    for row, sound in zip(wave, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(np.ascontiguousarray(sound, np.float32))
    spectrum = torch.stft(
        wave, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )
    power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2) @ _mel_filters()
    decibels = 10 * torch.log10(power.clamp_min(1e-10))
    scaled = []
    for one, n in zip(decibels, lengths.tolist(), strict=True):
        scaled.append((one[:n] - one[:n].max()).clamp_min(-RANGE_DB) / (RANGE_DB / 2) + 1)
    return torch.cat(scaled), lengths


def reach(lengths: Tensor, stride: int) -> Tensor:
    """The rows that KERNEL frames around each frame of the result lie in, (frames of the result, KERNEL).

    `lengths` (batch,) are the frames of each clip before; the result has one for every `stride` frames, rounded up.
    Past a clip's ends it is the row after the last one, which is to hold zeros.
    """
    after = -(-lengths // stride)
    clip = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), after)
    frame = torch.arange(len(clip), device=lengths.device) - (after.cumsum(0) - after)[clip]
    at = frame[:, None] * stride + torch.arange(KERNEL, device=lengths.device) - KERNEL // 2
    outside = (at < 0) | (at >= lengths[clip, None])
    rows = at + (lengths.cumsum(0) - lengths)[clip, None]
    return rows.masked_fill(outside, int(lengths.sum()))


def conv(x: Tensor, rows: Tensor, weights: nn.Linear) -> Tensor:
    """Convolve frames (n, before) over time: `rows` as `reach` gives them, `weights` from KERNEL · before to after."""
    with_silence = torch.cat([x, x.new_zeros(1, x.shape[1])])
    result: Tensor = weights(with_silence.index_select(0, rows.flatten()).view(len(rows), -1))
    return result


class Block(nn.Module):
    """Two convolutions over time, each with batch normalisation, and a way around both (arXiv 1512.03385)."""

    def __init__(self, before: int, after: int, *, halves: bool) -> None:
        super().__init__()
        self.conv1 = nn.Linear(KERNEL * before, after, bias=False)
        self.norm1 = nn.BatchNorm1d(after)
        self.conv2 = nn.Linear(KERNEL * after, after, bias=False)
        self.norm2 = nn.BatchNorm1d(after)
        self.around = nn.Sequential(nn.Linear(before, after, bias=False), nn.BatchNorm1d(after)) if halves else None

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Frames (n, before) → (frames of the result, after); `first` and `second` are the convolutions' rows."""
        around = x if self.around is None else self.around(x[first[:, KERNEL // 2]])
        x = torch.relu(self.norm1(conv(x, first, self.conv1)))
        return torch.relu(self.norm2(conv(x, second, self.conv2)) + around)


class SpeechBranch(nn.Module):
    """ResDAVEnet. `widths` are those of the first convolution and of the four stages."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.conv = nn.Linear(N_MELS, widths[0], bias=False)  # 40 × 1 over the spectrogram: all mels of one frame
        self.norm = nn.BatchNorm1d(widths[0])
        self.stages = nn.ModuleList(
            nn.ModuleList([Block(before, after, halves=True), Block(after, after, halves=False)])
            for before, after in pairwise(widths)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def layers(self, x: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What LAYERS make of log-mels (all frames, 40): (all frames of it, width), and the frames of each clip."""
        x = torch.relu(self.norm(self.conv(x)))
        found = [(x, lengths)]
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            halving = reach(lengths, 2)
            lengths = (lengths + 1) // 2
            staying = reach(lengths, 1)
            x = stage[1](stage[0](x, halving, staying), staying, staying)
            found.append((x, lengths))
        return found

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The mean of the last stage over each clip's frames, (batch, width), for log-mels (all frames, 40)."""
        last, frames = self.layers(x, lengths)[-1]
        clip = torch.repeat_interleave(torch.arange(len(frames), device=x.device), frames)
        return x.new_zeros(len(frames), last.shape[1]).index_add(0, clip, last) / frames[:, None]
