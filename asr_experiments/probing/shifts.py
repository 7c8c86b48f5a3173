"""The same clip through another channel: a telephone band, or noise."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from asr_experiments.features import Floats
from catalog.records import RATE

Sound = Literal["clean", "noise", "telephone"]
SOUNDS: tuple[Sound, ...] = get_args(Sound)

TELEPHONE_RATE = 8_000
TELEPHONE_HZ = (300.0, 3400.0)  # ITU-T G.712
ORDER = 6
SNR_DB = 10.0


def noisy(samples: Floats, snr_db: float, rng: np.random.Generator) -> Floats:
    """Mono sound (n,) with white noise whose power is `snr_db` under the clip's mean power; silence stays silent."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) * 10 ** (-snr_db / 20)
    return samples + (level * rng.standard_normal(len(samples))).astype(np.float32)


def telephone(samples: Floats) -> Floats:
    """Mono 16 kHz sound (n,) as a telephone line leaves it: 300–3400 Hz at 8 kHz, and back at 16 kHz, (n,).

    Resampled by soxr, then a Butterworth band-pass run both ways, so that nothing moves in time.
    """
    import soxr
    from scipy.signal import butter, sosfiltfilt

    narrow = soxr.resample(samples, RATE, TELEPHONE_RATE)
    bands = butter(ORDER, TELEPHONE_HZ, "bandpass", fs=TELEPHONE_RATE, output="sos")
    padding = min(len(narrow) - 1, 3 * (2 * len(bands) + 1))  # scipy's own, or what a very short clip allows
    filtered = sosfiltfilt(bands, narrow, padlen=padding).astype(np.float32)
    wide = np.asarray(soxr.resample(filtered, TELEPHONE_RATE, RATE), np.float32)[: len(samples)]
    return np.pad(wide, (0, len(samples) - len(wide)))


def shifted(samples: Floats, sound: Sound, seed: int | tuple[int, ...], snr_db: float = SNR_DB) -> Floats:
    """A clip (n,) as it is, with noise drawn by `seed`, or through the telephone."""
    if sound == "noise":
        return noisy(samples, snr_db, np.random.default_rng(seed))
    return telephone(samples) if sound == "telephone" else samples
