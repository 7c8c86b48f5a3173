"""Masks on log-mel spectrograms: by saliency (Sameti et al., arXiv 2510.09528, eq. 1–3), its controls, SpecAugment.

A mask is bool (n_mels, n_frames), true where a pixel is taken out. Controls (`moved_mask`, `swapped_mask`,
`specaugment_mask` with an area) take out exactly as many valid pixels as the saliency mask they stand against.
Nothing changes its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr_experiments.features import Floats
from catalog.errors import UsageError

Mask = NDArray[np.bool_]
Arm = Literal["saliency", "binary", "random", "swapped", "specaugment", "specaugment-matched"]
Draw = Literal["pixel", "clip"]
Fill = Literal["zero", "mean", "floor"]


@dataclass(frozen=True, slots=True)
class SpecAugment:
    """A policy of SpecAugment (arXiv 1904.08779, table 1) without time warping; the default is LibriSpeech double.

    `n_freq` bands of up to `freq_width` mel bins, `n_time` stretches of up to `time_width` frames, none longer
    than `time_share` of the valid frames.
    """

    n_freq: int = 2
    freq_width: int = 27
    n_time: int = 2
    time_width: int = 100
    time_share: float = 1.0


SWITCHBOARD_MILD = SpecAugment(freq_width=15, time_width=70, time_share=0.2)


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """How saliency becomes a mask. The defaults are the paper's values; `paper()` takes its other choices too."""

    thresholds: tuple[float, float, float] = (0.3, 0.5, 0.7)
    low: tuple[float, float] = (0.0, 0.05)  # the masking chance between the first two thresholds is drawn from this
    high: tuple[float, float] = (0.7, 0.9)  # and between the last two from this; above it is 1
    binary: float = 0.5  # τ of the arm `binary`
    draw: Draw = "pixel"  # whether the chance is drawn once per pixel or once per clip
    fill: Fill = "zero"
    valid_only: bool = True  # leave the padding alone
    fresh: bool = True  # a new mask every epoch, not one for all
    specaugment: SpecAugment = SpecAugment()

    def __post_init__(self) -> None:
        chances = (*self.low, *self.high)
        if not 0 <= self.thresholds[0] <= self.thresholds[1] <= self.thresholds[2] <= 1:
            raise UsageError(f"expected three growing thresholds between 0 and 1, got {self.thresholds}")
        if not all(0 <= p <= 1 for p in chances) or self.low[0] > self.low[1] or self.high[0] > self.high[1]:
            raise UsageError(f"expected ranges of chances between 0 and 1, got {self.low} and {self.high}")
        for name, value, known in (
            ("draw", self.draw, ("pixel", "clip")),
            ("fill", self.fill, ("zero", "mean", "floor")),
        ):
            if value not in known:
                raise UsageError(f"{name}: expected one of {', '.join(known)}, got {value!r}")

    @staticmethod
    def paper() -> MaskSettings:
        """Every choice of the paper: one fixed mask per clip, padding masked like the rest."""
        return MaskSettings(valid_only=False, fresh=False)


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked copy of a clip's log-mel."""

    features: Floats  # (n_mels, n_frames)
    mask: Mask  # (n_mels, n_frames)
    share: float  # of the valid pixels that is masked


def tier_mask(
    saliency: Floats, chance: ArrayLike, low: ArrayLike, high: ArrayLike, thresholds: tuple[float, float, float]
) -> Mask:
    """Eq. 1–3 of arXiv 2510.09528 with its random numbers given.

    T = 1 where C > t₁ (eq. 1). A pixel with T = 1 is kept where R exceeds its tier's bound B, else masked: B is
    `low` for C < t₂, `high` for t₂ ≤ C < t₃, and 1 above, where R > 1 can't hold, so those are always masked.

    `saliency` C is (n_mels, n_frames) in [0, 1]; `chance` R, uniform on [0, 1), and the drawn bounds `low` and
    `high` are of that shape or broadcast to it.
    """
    bound = np.where(saliency < thresholds[1], low, np.where(saliency < thresholds[2], high, 1.0))
    mask: Mask = (saliency > thresholds[0]) & ~(np.asarray(chance) > bound)
    return mask


def saliency_mask(saliency: Floats, rng: np.random.Generator, settings: MaskSettings) -> Mask:
    """Draw a mask for saliency in [0, 1], (n_mels, n_frames), with the bounds drawn per pixel or per clip."""
    shape = saliency.shape
    chance = rng.random(shape, np.float32)
    drawn = rng.random(shape, np.float32) if settings.draw == "pixel" else rng.random(2)
    of_low, of_high = (drawn, drawn) if settings.draw == "pixel" else (drawn[0], drawn[1])  # a pixel has one tier
    low = settings.low[0] + (settings.low[1] - settings.low[0]) * of_low
    high = settings.high[0] + (settings.high[1] - settings.high[0]) * of_high
    return tier_mask(saliency, chance, low, high, settings.thresholds)


def binary_mask(saliency: Floats, threshold: float) -> Mask:
    """Everything over a threshold: C > τ."""
    mask: Mask = saliency > threshold
    return mask


def moved_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same blobs at a random place: moved round in time and in frequency (what leaves at one edge comes back
    at the other), so the area is the same to the pixel."""
    by = (int(rng.integers(mask.shape[0])), int(rng.integers(mask.shape[1])))
    moved: Mask = np.roll(mask, by, (0, 1))
    return moved


def swapped_mask(mask: Mask, saliency: Floats, other: Floats, rng: np.random.Generator) -> Mask:
    """Another clip's saliency with this clip's area: the pixel that ranks n-th in `other` gets what became of the
    pixel that ranks n-th in `saliency`. Equals rank in random order.

    `mask` and `saliency` are (n_mels, n), `other` is (n_mels, m): it is stretched to this clip's length first.
    """
    n, m = saliency.shape[1], other.shape[1]
    stretched = other[:, (np.arange(n) * m) // n]
    swapped = np.zeros(mask.size, bool)
    swapped[_order(stretched, rng)] = mask.ravel()[_order(saliency, rng)]
    return swapped.reshape(mask.shape)


def _order(values: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices that sort an array's pixels, equals in random order."""
    shuffled = rng.permutation(values.size)
    order: NDArray[np.intp] = shuffled[np.argsort(values.ravel()[shuffled], kind="stable")]
    return order


def specaugment_mask(
    shape: tuple[int, int], rng: np.random.Generator, policy: SpecAugment, area: int | None = None
) -> Mask:
    """SpecAugment's bands and stretches (arXiv 1904.08779) over all of `shape`, (n_mels, n_frames).

    With `area` (pixels), all widths grow or shrink by one factor until the mask has at most
    that area, and the rest is added beside the first stretch: the area is met to the pixel.
    """
    n_mels, n_frames = shape
    bands = [(rng.random(), rng.random() * (policy.freq_width + 1)) for _ in range(policy.n_freq)]
    longest = min(policy.time_width, policy.time_share * n_frames)
    stretches = [(rng.random(), rng.random() * (longest + 1)) for _ in range(policy.n_time)]

    def draw(scale: float) -> Mask:
        mask = np.zeros(shape, bool)
        for place, width in bands:
            _cover(mask, 0, place, scale * width)
        for place, width in stretches:
            _cover(mask, 1, place, scale * width)
        return mask

    if area is None:
        return draw(1.0)
    low, high = 0.0, float(max(n_mels, n_frames))
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if np.count_nonzero(draw(middle)) <= area else (low, middle)
    mask = draw(low)
    start = int(stretches[0][0] * n_frames) if stretches else 0
    columns = np.roll(np.arange(n_frames), -start)  # rightwards from the first stretch's place, round the end
    free = np.flatnonzero(~mask[:, columns].T.ravel())[: area - np.count_nonzero(mask)]
    mask[free % n_mels, columns[free // n_mels]] = True
    return mask


def _cover(mask: Mask, axis: int, place: float, width: float) -> None:
    """Set a band of floor(width) rows or columns; `place` in [0, 1) says where it lies among all it could take."""
    size = mask.shape[axis]
    whole = min(int(width), size)
    start = int(place * (size - whole + 1))
    if axis == 0:
        mask[start : start + whole] = True
    else:
        mask[:, start : start + whole] = True


def arm_mask(
    arm: Arm,
    saliency: Floats,
    n_valid: int,
    rng: np.random.Generator,
    settings: MaskSettings,
    other: tuple[Floats, int] | None = None,
) -> Mask:
    """The mask of an arm of the benchmark, false on the padding (`valid_only`).

    `saliency` C is (n_mels, n_frames) in [0, 1], its first `n_valid` frames count; `other` is another clip's C
    and valid frames, for `swapped`. Raises UsageError for an unknown arm or a missing `other`.
    """
    n = n_valid if settings.valid_only else saliency.shape[1]
    own = saliency[:, :n]
    if arm == "specaugment":
        part = specaugment_mask(own.shape, rng, settings.specaugment)
    elif arm == "binary":
        part = binary_mask(own, settings.binary)
    else:
        part = saliency_mask(own, rng, settings)
        if arm == "random":
            part = moved_mask(part, rng)
        elif arm == "swapped":
            if other is None:
                raise UsageError("arm swapped: expected another clip's saliency map, got none")
            part = swapped_mask(part, own, other[0][:, : other[1] if settings.valid_only else None], rng)
        elif arm == "specaugment-matched":
            part = specaugment_mask(own.shape, rng, settings.specaugment, int(np.count_nonzero(part)))
        elif arm != "saliency":
            raise UsageError(f"arm {arm}: no mask is known for it")
    mask = np.zeros(saliency.shape, bool)
    mask[:, :n] = part
    return mask


def apply_mask(features: Floats, mask: Mask, n_valid: int, fill: Fill = "zero") -> Masked:
    """A copy of a log-mel (n_mels, n_frames) with the masked pixels filled.

    `zero` is the paper's × 0 (a middling level on Whisper's scale, not silence), `mean` the mean and `floor` the
    least of the valid frames. The share counts valid frames only.
    """
    valid = features[:, :n_valid]
    level = {"zero": 0.0, "mean": float(valid.mean()), "floor": float(valid.min())}[fill]
    filled: Floats = np.where(mask, np.float32(level), features).astype(np.float32, copy=False)
    return Masked(filled, mask, float(mask[:, :n_valid].mean()))


def clip_rng(seed: int, clip: int, epoch: int, settings: MaskSettings) -> np.random.Generator:
    """The random numbers of a clip's mask: fresh for every epoch, or (`fresh` false) the same in all.

    They depend on nothing else, so neither the order of clips nor a resumed run changes a mask.
    """
    return np.random.default_rng([seed, clip, epoch if settings.fresh else 0])
