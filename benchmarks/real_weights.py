"""What needs published weights: how much Demucs improves speech under music, and pyannote's diarization error.

    PDID_TEST_DATA=FOLDER [PDID_MODELS=FOLDER] python -m benchmarks.real_weights

Real speech is mixed with real music at known ratios; printed are the scale-invariant signal-to-distortion
ratio (SI-SDR, Le Roux et al. 2019, eq. 3) before and after separation. Weights that are not on this machine,
or are the random stand-ins used for tests, are said to be missing and their part is left out.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.accuracy import diarization_error
from catalog.hub import Found
from catalog.records import RATE, Span
from corpus_builder.audio import Decoder, Samples, Track
from corpus_builder.config import Separate
from corpus_builder.models import find_demucs, find_pyannote
from corpus_builder.separate import Demucs, separate_spans

STAND_IN = "00000000"  # the signature that the random Demucs folder carries instead of a published one
SNRS_DB = (0, 3, 8)


def si_sdr_db(estimate: Samples, target: Samples) -> float:
    """SI-SDR in dB of an estimate against the target, both mono (n,)."""
    scaled = target * (float(estimate @ target) / float(target @ target))
    return float(10 * np.log10(np.sum(scaled**2) / (np.sum((estimate - scaled) ** 2) + 1e-12)))


def read(path: Path, rate: int) -> Samples:
    return np.concatenate([block[:, 0] for block in Decoder(path, rate)])


def separation_gain(found: Found, test_data: Path) -> None:
    """Print the table of SI-SDR with and without separation."""
    separator = Demucs(Separate(), found)
    music = read(test_data / "clips/music/calm_acoustic_1.opus", separator.rate)
    speech_files = sorted((test_data / "clips/librispeech").glob("*-0000.flac"))[:5]
    print("| music under speech, dB SNR | SI-SDR mix | SI-SDR separated | gain |\n|---|---|---|---|")
    for snr in SNRS_DB:
        before, after = [], []
        for file in speech_files:
            speech = read(file, separator.rate)[: 15 * separator.rate]
            bed = np.resize(music, len(speech))
            bed *= np.sqrt((speech**2).mean() / (bed**2).mean()) / 10 ** (snr / 20)
            with tempfile.TemporaryDirectory() as folder:
                paths = {name: Path(folder) / f"{name}.wav" for name in ("mix", "speech")}
                for name, sound in (("mix", speech + bed), ("speech", speech)):
                    soundfile.write(paths[name], np.stack([sound, sound], 1) * 0.5, separator.rate, subtype="FLOAT")
                target, mix = read(paths["speech"], RATE), read(paths["mix"], RATE)
                raw = Path(folder) / "mix.f32"
                mix.tofile(raw)
                spans = [Span(0, len(mix))]
                track = Track(raw, len(mix))
                out = separate_spans(paths["mix"], track, spans, separator, raw.with_name("v.f32"), lambda share: None)
                before.append(si_sdr_db(mix, target))
                after.append(si_sdr_db(out.read(0, len(mix)), target))
        gain = np.mean(after) - np.mean(before)
        print(f"| {snr} | {np.mean(before):.1f} | {np.mean(after):.1f} | {gain:+.1f} |")


def main() -> None:
    test_data = Path(os.environ["PDID_TEST_DATA"])
    demucs = find_demucs()
    if demucs is None or STAND_IN in demucs.files[0].read_text():
        print("Demucs: no published weights on this machine, only none or random ones; SI-SDR is not measured")
    else:
        separation_gain(demucs, test_data)
    pyannote = find_pyannote()
    if pyannote is None or pyannote.origin == "$PDID_MODELS":
        print("pyannote: no published weights in the Hugging Face cache; its diarization error is not measured")
        return
    for folder, name in (("conversation", "sample.wav"), ("meeting", "dev00.flac"), ("meeting", "tst00.flac")):
        recording = test_data / "clips" / folder / name
        error = diarization_error(recording, recording.with_suffix(".rttm"), engine="pyannote")
        print(f"| {name} | pyannote | {error:.1%} |")


if __name__ == "__main__":
    main()
