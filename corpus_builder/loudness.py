"""Loudness normalisation to ITU-R BS.1770-4 with a true-peak guard (EBU R 128)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyloudnorm
import soxr

from catalog.records import RATE
from corpus_builder.audio import Samples
from corpus_builder.config import Loudness

OVERSAMPLING = 4  # BS.1770-4, annex 2, for rates under 96 kHz
MARGIN_DB = 0.1  # kept under the peak limit, since meters interpolate differently
SHORTEST_S = 0.4  # one gating block; BS.1770 has no loudness for less

_meter = pyloudnorm.Meter(RATE)


@dataclass(frozen=True, slots=True)
class Levelled:
    """A clip at its wanted loudness: float32 (n,), the gain that brought it there, and what it measures now."""

    audio: Samples
    gain_db: float
    loudness_lufs: float
    true_peak_dbtp: float


def loudness_lufs(audio: Samples) -> float:
    """Integrated loudness in LUFS of mono 16 kHz sound (n,); -inf for silence or less than 0.4 s."""
    if len(audio) < SHORTEST_S * RATE:
        return float("-inf")
    return float(_meter.integrated_loudness(audio.astype(np.float64)))


def true_peak_dbtp(audio: Samples) -> float:
    """True peak in dBTP of mono 16 kHz sound (n,), by fourfold oversampling (BS.1770-4, annex 2)."""
    fine = soxr.resample(audio, RATE, OVERSAMPLING * RATE)
    return float(20 * np.log10(max(np.abs(fine).max(initial=0.0), np.abs(audio).max(initial=0.0), 1e-9)))


def level(audio: Samples, settings: Loudness) -> Levelled | None:
    """Bring mono 16 kHz sound (n,) to the target loudness, or as near as its true peak allows.

    Returns None for silence and for what would need more gain than `max_gain_db`.
    """
    # measured at full scale: as recorded, the pauses of quiet speech could lie under the meter's gate of -70 LUFS
    full = max(float(np.abs(audio).max(initial=0.0)), 1e-9)
    loudness = loudness_lufs(audio / np.float32(full)) + 20 * np.log10(full)
    gain = float(settings.target_lufs - loudness)
    if not np.isfinite(loudness) or gain > settings.max_gain_db:
        return None
    peak = true_peak_dbtp(audio)
    gain = min(gain, settings.peak_dbtp - MARGIN_DB - peak)
    return Levelled(
        (audio * np.float32(10 ** (gain / 20))).astype(np.float32), gain, float(loudness + gain), peak + gain
    )
