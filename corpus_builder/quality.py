"""Measure a piece of speech: DNSMOS P.835, signal-to-noise ratio, clipping. Deciding is the keep rule's."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.errors import PdidError
from catalog.records import RATE, Reject, Segment
from corpus_builder.audio import Samples
from corpus_builder.config import Keep

WINDOW = int(9.01 * RATE)  # what the network was trained on
FULL_SCALE = 0.985
BATCH = 4
THREADS = 2  # however many there are: with another number the scores' seventh digit changes

# raw network output → mean opinion score, lowest power first (DNSMOS P.835, arXiv 2110.01763, and its code)
TO_MOS = {
    "sig": (0.0052439, 1.22083953, -0.08397278),
    "bak": (-0.39604546, 1.60915514, -0.13166888),
    "ovrl": (0.04602535, 1.11546468, -0.06766283),
}


@dataclass(frozen=True, slots=True)
class Mos:
    """Predicted mean opinion scores, 1 to 5: of the signal, the background, and overall."""

    sig: float
    bak: float
    ovrl: float


class Dnsmos:
    """DNSMOS P.835 by the network inside the speechmos wheel (MIT), its session kept.

    The published code slides its window of 9.01 s by one second; ours lays windows side by side, the
    last flush with the end, for about a fifth of the cost. Raises PdidError without the wheel.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("speechmos")  # found, not imported: its import needs librosa
        folders = spec.submodule_search_locations if spec else None
        path = Path(folders[0]) / "dnsmos_models" / "sig_bak_ovr.onnx" if folders else None
        if path is None or not path.is_file():
            raise PdidError("DNSMOS is missing: expected the speechmos wheel; install it with `pip install speechmos`")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, audio: Samples) -> Mos:
        """Scores of mono 16 kHz sound (n,) in [-1, 1]; less than 9.01 s is repeated, as the published code does."""
        if len(audio) < WINDOW:
            audio = np.tile(audio, -(-WINDOW // max(1, len(audio))))[:WINDOW]
        n_windows = -(-len(audio) // WINDOW)
        starts = np.linspace(0, len(audio) - WINDOW, n_windows).astype(int)
        windows = np.stack([audio[s : s + WINDOW] for s in starts]).astype(np.float32)
        raw = np.concatenate(
            [self.session.run(None, {"input_1": windows[i : i + BATCH]})[0] for i in range(0, n_windows, BATCH)]
        )
        scores = [np.polynomial.Polynomial(TO_MOS[k])(raw[:, i]).mean() for i, k in enumerate(TO_MOS)]
        return Mos(*map(float, scores))


def snr_db(levels_dbfs: NDArray[np.float32], speech: NDArray[np.bool_]) -> float | None:
    """Signal-to-noise ratio in dB from the levels of 10 ms frames (n,) and which of them are speech (n,).

    Noise is the mean power of the frames without speech, or of the quietest twentieth where there are
    fewer than ten; it is taken off the speech's power. None without speech.
    """
    if not speech.any():
        return None
    power = 10 ** (levels_dbfs / 10)
    rest = power[~speech] if (~speech).sum() >= 10 else np.sort(power)[: max(1, len(power) // 20)]
    noise = max(float(rest.mean()), 1e-12)
    signal = max(float(power[speech].mean()) - noise, 1e-12)
    return float(10 * np.log10(signal / noise))


def clipped_share(audio: Samples) -> float:
    """Share of samples at full scale in sound (n,)."""
    return float((np.abs(audio) >= FULL_SCALE).mean()) if len(audio) else 0.0


def judge(segment: Segment, keep: Keep) -> Reject | None:
    """The keep rule: why a measured piece stays out, or None if it stays."""
    if segment.clipped_share is not None and segment.clipped_share > keep.max_clipped_share:
        return Reject.CLIPPED
    if segment.snr_db is not None and segment.snr_db < keep.min_snr_db:
        return Reject.NOISY
    if segment.dnsmos_ovrl is not None and segment.dnsmos_ovrl < keep.min_dnsmos_ovrl:
        return Reject.LOW_QUALITY
    return None
