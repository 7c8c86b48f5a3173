"""Acoustic cues over time: openSMILE's eGeMAPSv02 descriptors and the speaking rate, on the frames of a log-mel.

eGeMAPS is F. Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for voice research and affective
computing", IEEE Transactions on Affective Computing 7(2), 2016. openSMILE's licence is for research, so it is an extra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_experiments.features import Floats
from catalog.errors import UsageError
from catalog.records import RATE

HOP = RATE // 100  # samples from one frame to the next, openSMILE's and Whisper's
AROUND = 25  # frames on either side of one that its speaking rate is counted in: a quarter of a second
PROMINENCE = 0.1  # of the clip's loudness range (to the 95th percentile) that a syllable stands out by
SYLLABLE = 10  # frames between two syllables at least
MISSING = "openSMILE is not installed, which finds the acoustic cues: run pip install 'pdid[explain]'"


@dataclass(frozen=True, slots=True)
class Cue:
    """A descriptor: what it is called here and by openSMILE, its unit, and whether it means anything without a voice.

    `lead` is by how many frames openSMILE's own frame begins before the one of the log-mel with the same middle: its
    frames are named after their left edges and 20 or 60 ms long, a log-mel's after their middles.
    """

    name: str
    column: str
    unit: str
    voiced: bool
    lead: int


RATE_CUE = "speaking rate"
CUES = (
    Cue("loudness", "Loudness_sma3", "", False, 1),
    Cue("F0", "F0semitoneFrom27.5Hz_sma3nz", "semitones", True, 3),
    Cue("jitter", "jitterLocal_sma3nz", "", True, 3),
    Cue("shimmer", "shimmerLocaldB_sma3nz", "dB", True, 3),
    Cue("HNR", "HNRdBACF_sma3nz", "dB", True, 3),
    Cue("slope 0–500 Hz", "slope0-500_sma3", "dB/Hz", True, 1),
    Cue("slope 500–1500 Hz", "slope500-1500_sma3", "dB/Hz", True, 1),
    Cue("F1", "F1frequency_sma3nz", "Hz", True, 1),
    Cue("F2", "F2frequency_sma3nz", "Hz", True, 1),
    Cue("F3", "F3frequency_sma3nz", "Hz", True, 1),
    Cue(RATE_CUE, "", "syllables/s", False, 0),
)
NAMES = tuple(cue.name for cue in CUES)


@dataclass(frozen=True, slots=True)
class Tracks:
    """A clip's cues: `values` float32 (n_cues, n_frames) in the order of CUES, frame i about the sound at i × 10 ms;
    `usable` bool of the same shape, false where a cue needs a voice and there is none, or openSMILE has no frame."""

    values: Floats
    usable: NDArray[np.bool_]

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """Where there is a voice, (n_frames,)."""
        found: NDArray[np.bool_] = self.usable[NAMES.index("F0")]
        return found


def require_opensmile() -> None:
    """Raises UsageError, with the command that mends it, where openSMILE is not installed."""
    _smile()


def cue_tracks(sound: Floats, n_frames: int) -> Tracks:
    """The cues of mono 16 kHz sound (n,) on the first `n_frames` frames of its log-mel.

    Voiced is where openSMILE finds a fundamental frequency. A sound too short for one of its frames has no usable
    cue. Raises UsageError where openSMILE is not installed.
    """
    values = np.zeros((len(CUES), n_frames), np.float32)
    usable = np.zeros((len(CUES), n_frames), bool)
    smile = _smile()
    # openSMILE wants 60 ms for a pitch; and numbers of its own would be warnings to the user
    found = smile.process_signal(sound, RATE) if len(sound) >= 6 * HOP + HOP else None
    if found is None or not len(found):
        return Tracks(values, usable)
    voiced = np.zeros(n_frames, bool)
    for row, cue in enumerate(CUES):
        if cue.column:
            track = found[cue.column].to_numpy(np.float32)
            at = np.arange(n_frames) - cue.lead
            there = (at >= 0) & (at < len(track))
            values[row, there] = track[at[there]]
            usable[row] = there & np.isfinite(values[row])
            if cue.name == "F0":
                voiced = values[row] > 0
    for row, cue in enumerate(CUES):
        if cue.voiced:
            usable[row] &= voiced
    values[~usable] = 0
    row = NAMES.index(RATE_CUE)
    values[row] = speaking_rate(syllables(values[NAMES.index("loudness")], voiced))
    usable[row] = True
    return Tracks(values, usable)


def syllables(loudness: Floats, voiced: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames at the middle of a syllable, (n_frames,): voiced peaks of the loudness (n_frames,) that stand out.

    After N. de Jong & T. Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically",
    Behavior Research Methods 41, 2009, with eGeMAPS' loudness in place of intensity.
    """
    from scipy.signal import find_peaks

    found = np.zeros(len(loudness), bool)
    stands_out = PROMINENCE * float(np.percentile(loudness, 95)) if len(loudness) else 0.0
    if stands_out > 0:
        peaks, _ = find_peaks(loudness, prominence=stands_out, distance=SYLLABLE)
        found[peaks] = voiced[peaks]
    return found


def speaking_rate(nuclei: NDArray[np.bool_]) -> Floats:
    """Syllables a second in the half second around each frame, (n_frames,), or what of it lies in the clip."""
    sums = np.concatenate([[0], np.cumsum(nuclei)])
    at = np.arange(len(nuclei))
    first, last = np.maximum(0, at - AROUND), np.minimum(len(nuclei), at + AROUND + 1)
    rate: Floats = ((sums[last] - sums[first]) * 100.0 / (last - first)).astype(np.float32)
    return rate


@cache
def _smile() -> Any:
    try:
        import opensmile
    except ImportError:
        raise UsageError(MISSING) from None
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
    )
