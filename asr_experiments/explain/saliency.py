"""Three ways to ask a classifier where it listens, on one time base: the frames of a clip's log-mel, 10 ms each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch

from asr_experiments.cam import BATCH, clip_maps, upscale
from asr_experiments.classifier import Classifier, windows
from asr_experiments.explain.occlusion import occlusion
from asr_experiments.explain.relevance import relevance
from asr_experiments.features import Floats, Mels

Way = Literal["gradcam", "lrp", "occlusion"]
WAYS: tuple[Way, ...] = get_args(Way)


def saliency_maps(made: Classifier, mels: Mels, clips: Sequence[int], said: Sequence[int], way: Way) -> list[Floats]:
    """Maps of `clips` for the classes `said`, one float32 (n_mels, n_valid) each; occlusion's rows are all the same.

    Grad-CAM's is that of `cam.clip_maps`, for the predicted class, from 0 to 1. The others are signed, in units of
    evidence (scores before the softmax): above 0 where a pixel speaks for the class. Where a clip is looked at in
    several windows and they overlap, theirs is the mean; up to 7 frames at the end that no window has get 0.
    """
    shape = mels.shape
    if way == "gradcam":
        small = clip_maps(made, mels, clips)
        lengths = [mels[clip][1] for clip in clips]
        return [upscale(one, shape.n_mels, shape.n_frames, n)[:, :n] for one, n in zip(small, lengths, strict=True)]
    made.net.eval()
    whole = made.window == shape.n_frames  # the clip with its padding, at once; else crops that hold speech alone
    found = []
    for clip, of in zip(clips, said, strict=True):
        x, starts = windows(mels, clip, made.window)
        n_valid = mels[clip][1]
        parts = []
        for part in torch.split(torch.from_numpy(x).to(made.device), BATCH):
            classes = torch.full((len(part),), of, device=made.device)
            if way == "lrp":
                parts.append(relevance(made.net, part, classes).pixels)
            else:
                rows = occlusion(made.net, part, classes, n_valid if whole else None)
                parts.append(rows[:, None].expand(-1, shape.n_mels, -1))
        maps = torch.cat(parts).cpu().numpy()
        found.append(_stitch(maps[:, :, :n_valid] if whole else maps, starts, n_valid))
    return found


def _stitch(maps: Floats, starts: Sequence[int], n_valid: int) -> Floats:
    """Windows' maps (n, n_mels, size) put where they begin in one of `n_valid` frames: the mean where they overlap.

    A clip shorter than the window was repeated to fill it, which gives each frame the mean over its repetitions.
    """
    size = maps.shape[2]
    total, times = np.zeros((maps.shape[1], n_valid)), np.zeros(n_valid)
    for start, one in zip(starts, maps, strict=True):
        for begin in range(0, size, n_valid):
            part = one[:, begin : begin + n_valid]
            at = (start + begin) % n_valid
            total[:, at : at + part.shape[1]] += part
            times[at : at + part.shape[1]] += 1
    return (total / np.maximum(times, 1)).astype(np.float32)
