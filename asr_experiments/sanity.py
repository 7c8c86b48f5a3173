"""Is the saliency any good? The planted-truth study (METHOD §8).

Real speech gets narrow, faint cues at known places, a classifier learns to tell the cues, and its saliency must
find them, masking by it must take them away, and it must come from what the classifier has learnt. A method that
fails here can't be trusted on accents, where nobody knows the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from catalog.errors import UsageError
from catalog.records import RATE
from asr_experiments.cam import CamSettings, Method, clip_maps, upscale
from asr_experiments.classifier import (
    STRIDE,
    AccentCnn,
    Classifier,
    ClassifierSettings,
    evaluate,
    predict,
    train_classifier,
)
from asr_experiments.features import Floats, MelArrays, Progress, Shape, log_mel
from asr_experiments.masking import Arm, Mask, MaskSettings, apply_mask, arm_mask, moved_mask

PIECE_S = 1  # of real speech, with one cue or none
EDGE = RATE // 20  # samples at either end that hold no cue
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)  # of the pixels, on the curves

NO_CUE = "none"
POINTING, LEFT, GAP, CORRELATION = 0.9, 0.10, 0.20, 0.3  # what a trustworthy method reaches
