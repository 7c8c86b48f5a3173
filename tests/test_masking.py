"""Masks: the paper's tiers pixel by pixel and by frequency, equal area of the controls, padding left alone."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_experiments.features import Floats
from asr_experiments.masking import (
    Arm,
    Fill,
    MaskSettings,
    SpecAugment,
    apply_mask,
    arm_mask,
    clip_rng,
    moved_mask,
    saliency_mask,
    specaugment_mask,
    swapped_mask,
    tier_mask,
)
from catalog.errors import UsageError

N_MELS, N_FRAMES, N_VALID = 80, 800, 500


def blobs(seed: int, n_valid: int = N_VALID, n_blobs: int = 4) -> Floats:
    """A saliency map like a CAM's: smooth blobs on the valid frames, in [0, 1] with the peak at 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:N_MELS, :N_FRAMES]
    c = np.zeros((N_MELS, N_FRAMES))
    for _ in range(n_blobs):
        row, column, size = rng.uniform(0, N_MELS), rng.uniform(0, n_valid), rng.uniform(6, 20)
        c += rng.uniform(0.3, 1) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / size**2)
    c[:, n_valid:] = 0
    return (c / c.max()).astype(np.float32)


def paper(c: float, r: float, low: float, high: float) -> bool:
    """Eq. 1–3 of arXiv 2510.09528 for one pixel, as written: whether it is masked."""
    t = 1 if c > 0.3 else 0  # eq. 1
    if t == 0:
        return False
    if c < 0.5:  # eq. 2, by tier: the pixel stays where R is over the bound
        stays = r > low
    elif c < 0.7:
        stays = r > high
    else:
        stays = r > 1
    return not stays


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_papers_equations_pixel_by_pixel(seed: int, per_pixel: bool) -> None:
    rng = np.random.default_rng(seed)
    c = rng.random((16, 12)).astype(np.float32)
    c.flat[:6] = [0.3, 0.5, 0.7, 0.0, 1.0, np.nextafter(np.float32(0.3), np.float32(1))]
    r = rng.random(c.shape)
    size = c.shape if per_pixel else ()
    low, high = rng.uniform(0, 0.05, size), rng.uniform(0.7, 0.9, size)
    mask = tier_mask(c, r, low, high, MaskSettings.paper().thresholds)
    lows, highs = np.broadcast_to(low, c.shape), np.broadcast_to(high, c.shape)
    # 0.3 as a half-width float is a hair over the decimal 0.3, so compare as the mask does: in single precision
    for i in np.ndindex(c.shape):
        value = float(c[i]) if c[i] != np.float32(0.3) else 0.3
        value = 0.7 if c[i] == np.float32(0.7) else value
        assert mask[i] == paper(value, r[i], lows[i], highs[i]), (c[i], r[i])


@pytest.mark.parametrize("draw", ["pixel", "clip"])
def test_tiers_are_masked_as_often_as_the_table_says(draw: str) -> None:
    """METHOD §4's table on 10⁶ pixels a tier, within four standard deviations of the draw."""
    chosen = MaskSettings(draw=draw)  # type: ignore[arg-type]
    tiers = {0.3: 0.0, 0.4: 0.025, 0.5: 0.8, 0.6: 0.8, 0.7: 1.0, 0.9: 1.0}
    spread = {0.025: 0.05 / 12**0.5, 0.8: 0.2 / 12**0.5}  # of the bound, a uniform number
    n_clips, shape = (1, (1000, 1000)) if draw == "pixel" else (1000, (25, 40))
    rng = np.random.default_rng(7)
    for c, chance in tiers.items():
        field = np.full(shape, c, np.float32)
        masked = np.array([saliency_mask(field, rng, chosen).mean() for _ in range(n_clips)])
        pixels = chance * (1 - chance) / 1e6
        clips = spread.get(chance, 0.0) ** 2 / n_clips if draw == "clip" else 0.0
        assert abs(masked.mean() - chance) <= 4 * (pixels + clips) ** 0.5, (c, masked.mean())
        if draw == "clip" and chance in spread:  # one bound for a clip: the share varies as the bound does
            assert masked.std() == pytest.approx(
                (spread[chance] ** 2 + (chance * (1 - chance) - spread[chance] ** 2) / 1000) ** 0.5, rel=0.15
            )


@given(st.integers(0, 10_000), st.sampled_from(["pixel", "clip"]))
@settings(max_examples=25, deadline=None)
def test_controls_mask_the_same_area(seed: int, draw: str) -> None:
    """Random, swapped and matched SpecAugment against the saliency mask: within 5 % of its area, here to the pixel."""
    chosen = MaskSettings(draw=draw)  # type: ignore[arg-type]
    c, other = blobs(seed), (blobs(seed + 1, 300), 300)
    area = np.count_nonzero(arm_mask("saliency", c, N_VALID, np.random.default_rng(seed), chosen))
    assert area > 0
    for arm in ("random", "swapped", "specaugment-matched"):
        mask = arm_mask(arm, c, N_VALID, np.random.default_rng(seed), chosen, other)  # type: ignore[arg-type]
        assert np.count_nonzero(mask) == area, arm
        assert not mask[:, N_VALID:].any()


def test_the_random_control_moves_whole_blobs() -> None:
    mask = np.zeros((80, 500), bool)
    mask[10:20, 100:130] = True
    moved = {np.flatnonzero(moved_mask(mask, np.random.default_rng(i)).any(0))[0] for i in range(20)}
    assert len(moved) > 15  # another place each time
    whole = moved_mask(mask, np.random.default_rng(3))
    edges = np.count_nonzero(whole != np.roll(whole, 1, 0)) + np.count_nonzero(whole != np.roll(whole, 1, 1))
    assert edges == 2 * (10 + 30)  # one rectangle still


def test_the_swapped_control_lies_where_the_other_clip_is_salient() -> None:
    c, other = blobs(1), blobs(2)[:, :300]
    rng = np.random.default_rng(0)
    own = c[:, :N_VALID]
    mask = saliency_mask(own, rng, MaskSettings())
    swapped = swapped_mask(mask, own, other, rng)
    stretched = other[:, (np.arange(N_VALID) * 300) // N_VALID]
    n = np.count_nonzero(own > 0.7)  # always masked here, so there the pixels of the same rank
    assert swapped.ravel()[np.argsort(stretched.ravel())[-n:]].all()
    assert stretched[swapped].mean() > 3 * stretched.mean()


@given(st.integers(0, 10_000), st.integers(5, 80), st.integers(1, 900), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_specaugment_meets_any_area(seed: int, n_mels: int, n_frames: int, share: float) -> None:
    area = int(share * n_mels * n_frames)
    mask = specaugment_mask((n_mels, n_frames), np.random.default_rng(seed), SpecAugment(), area)
    assert np.count_nonzero(mask) == area


def test_specaugment_is_bands_and_stretches() -> None:
    policy = SpecAugment()
    widths: list[int] = []
    for seed in range(200):
        mask = specaugment_mask((80, 600), np.random.default_rng(seed), policy)
        rows, columns = mask.all(1), mask.all(0)
        assert (mask == (rows[:, None] | columns)).all()  # nothing but whole rows and whole columns
        assert rows.sum() <= 2 * 27
        assert columns.sum() <= 2 * 100
        widths.append(int(columns.sum()))
    assert 70 < np.mean(widths) < 110  # two of mean 50, with a little overlap


@pytest.mark.parametrize("arm", get_args(Arm))
@pytest.mark.parametrize("fill", get_args(Fill))
def test_no_arm_touches_its_input_or_the_padding(arm: Arm, fill: Fill) -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(0, 0.5, (N_MELS, N_FRAMES)).astype(np.float32)
    features[:, N_VALID:] = -1.2
    before = features.copy()
    mask = arm_mask(arm, blobs(3), N_VALID, rng, MaskSettings(), (blobs(5), N_VALID))
    out = apply_mask(features, mask, N_VALID, fill)
    assert (features == before).all()
    assert out.features.dtype == np.float32
    assert (out.features[:, N_VALID:] == before[:, N_VALID:]).all()
    assert (out.features[~mask] == before[~mask]).all()
    level = {"zero": 0.0, "mean": before[:, :N_VALID].mean(), "floor": before[:, :N_VALID].min()}[fill]
    assert out.features[mask] == pytest.approx(level, abs=1e-6)
    assert out.share == pytest.approx(np.count_nonzero(mask) / (N_MELS * N_VALID))
    assert 0 < out.share < 1


def test_paper_masks_the_padding_too_and_once_for_all_epochs() -> None:
    chosen = MaskSettings.paper()
    salient = np.ones((N_MELS, N_FRAMES), np.float32)
    assert arm_mask("saliency", salient, N_VALID, np.random.default_rng(0), chosen).all()
    fresh = MaskSettings()

    def draw(s: MaskSettings, epoch: int) -> list[float]:
        return clip_rng(1, 2, epoch, s).random(3).tolist()

    assert draw(chosen, 0) == draw(chosen, 5)
    assert draw(fresh, 0) != draw(fresh, 5)
    assert draw(fresh, 5) == draw(fresh, 5)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="three growing thresholds"):
        MaskSettings(thresholds=(0.5, 0.3, 0.7))
    with pytest.raises(UsageError, match="ranges of chances"):
        MaskSettings(high=(0.9, 1.2))
    with pytest.raises(UsageError, match=r"fill: expected one of zero, mean, floor, got 'nought'"):
        MaskSettings(fill="nought")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="another clip"):
        arm_mask("swapped", blobs(0), N_VALID, np.random.default_rng(0), MaskSettings())
