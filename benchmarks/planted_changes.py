"""Speech with a change planted in places: formants shifted, the voice raised, a pause lengthened, a burst of noise.

Pieces of real clips; half of each speaker's are changed in one stretch that is known, the others are only taken apart
and put together again in the same way. What the change does to which acoustic cue is known, so the study of cues
(`asr_experiments.explain`) can be asked whether it finds it. With nothing planted, the halves are labels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import soxr
import torch
import torchaudio

from asr_experiments.features import Floats, MelArrays, Shape, log_mel
from catalog.records import RATE

Kind = Literal["formants", "F0", "pause", "noise", "nothing"]
CHANGES: tuple[Kind, ...] = ("formants", "F0", "pause", "noise")
CHANGED, PLAIN = "changed", "plain"
PIECE = 256 * RATE // 100  # samples of a piece: 2.56 s
STRETCH = 75 * RATE // 100  # samples of the change: five windows of 0.15 s
FADE = RATE // 50  # samples over which a change comes and goes
SPEED = 0.15  # of another reading
FORMANTS = 2.2  # the factor, and above how many Hz: moved from 0 on, the first harmonics would go along
HELD = 400
SLOPES = (0, 500), (500, 1500)  # Hz; the bands of eGeMAPS' two slopes
LOUDNESS = 0.33  # the power of a band's energy
SEMITONES = 12.0
ORDINARY = 0.25  # of the places for a stretch, which is drawn from those that are most like the whole piece
NOISE_DB = 3.0  # the burst against the piece's mean power
WINDOW, HOP = 512, 128  # samples of the spectra that are worked on
LIFTER, TILT = 40, 4  # samples of cepstrum that are the spectrum's envelope (2.5 ms) and its tilt

# What a change moves by its making, and which way. Their sizes were chosen by what the stretches themselves show,
# before any classifier was asked.
EXPECTED: dict[Kind, dict[str, int]] = {
    "formants": {"F1": 1, "F2": 1, "F3": 1},
    "F0": {"F0": 1},
    "pause": {"speaking rate": -1, "loudness": -1},
    "noise": {"loudness": 1},
}


@dataclass(frozen=True, slots=True)
class Material:
    """Pieces of speech: their sound, log-mels, labels, speakers, and where each is changed: (start, end) in frames."""

    sounds: tuple[Floats, ...]
    mels: MelArrays
    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    places: tuple[tuple[int, int] | None, ...]


def material(
    clips: Sequence[Floats],
    speakers: Sequence[str],
    kind: Kind,
    seed: int,
    both: Collection[str] = (),
    speeds: int = 0,
) -> Material:
    """Pieces of 2.56 s of clips (mono 16 kHz, (n,) each), half of each speaker's changed, drawn by `seed`.

    Pieces of the speakers in `both` are taken twice, as they are and changed: more to learn from. So are those of
    `speeds` further readings of their clips, each up to SPEED slower or faster, its pitch and formants with it, which
    is like another reader's (Ko et al., "Audio augmentation for speech recognition", Interspeech 2015), and begun up to
    a piece later. With nothing planted none of that is done, for the same piece under two labels would teach that
    there is nothing to learn.
    """
    from transformers import WhisperFeatureExtractor

    extractor = cast(Any, WhisperFeatureExtractor)(feature_size=80, chunk_length=-(-PIECE // RATE))
    rng = np.random.default_rng(seed)
    read = list(zip(clips, speakers, strict=True))
    if kind != "nothing":
        read += [(_read_again(clip, rng), speaker) for _ in range(speeds) for clip, speaker in read if speaker in both]
    cut = [(clip[k * PIECE : (k + 1) * PIECE], speaker) for clip, speaker in read for k in range(len(clip) // PIECE)]
    halves = _halves([speaker for _, speaker in cut], rng)
    sounds, items, labels, owners, places = [], [], [], [], []
    for (piece, speaker), half in zip(cut, halves, strict=True):
        start = stretch_of(piece, rng)
        for label in (CHANGED, PLAIN) if speaker in both and kind != "nothing" else (half,):
            sound = change(piece, kind, start if label == CHANGED else None, rng)
            features, n_valid = log_mel(sound, extractor)
            sounds.append(sound)
            items.append((features[:, :n_valid].copy(), n_valid))
            labels.append(label)
            owners.append(speaker)
            there = label == CHANGED and kind != "nothing"
            places.append((start // 160, (start + STRETCH) // 160) if there else None)
    shape = Shape(80, PIECE // 160, 160)
    return Material(tuple(sounds), MelArrays(items, shape), tuple(labels), tuple(owners), tuple(places))


def _read_again(clip: Floats, rng: np.random.Generator) -> Floats:
    """A clip at another speed, without up to a piece of its beginning."""
    again = soxr.resample(clip, RATE, round(RATE * rng.uniform(1 - SPEED, 1 + SPEED)))
    return again[int(rng.integers(PIECE)) :].astype(np.float32)


def _halves(speakers: Sequence[str], rng: np.random.Generator) -> list[str]:
    """A label for each piece: half of each speaker's are to be changed, one more or less where they are odd."""
    labels = [PLAIN] * len(speakers)
    for speaker in sorted(set(speakers)):
        own = rng.permutation([i for i, name in enumerate(speakers) if name == speaker])
        for i in own[: (len(own) + int(rng.integers(2))) // 2]:
            labels[i] = CHANGED
    return labels


def stretch_of(piece: Floats, rng: np.random.Generator) -> int:
    """Where the stretch of a piece (n,) begins: drawn from the places that are about as loud as the piece as a whole,
    so that nothing is special about it but the change. A multiple of 10 ms, for every piece, changed or not."""
    power = np.cumsum(np.concatenate([[0], np.sqrt(np.abs(piece))]))
    starts = np.arange(FADE, len(piece) - STRETCH - FADE, 160)
    off = np.abs((power[starts + STRETCH] - power[starts]) / STRETCH - power[-1] / len(piece))
    return int(rng.choice(starts[off <= np.quantile(off, ORDINARY)]))


def change(piece: Floats, kind: Kind, start: int | None, rng: np.random.Generator) -> Floats:
    """A piece (n,) with a change in [start, start + STRETCH); with None as it was, but for the same handling."""
    plain = _resynthesise(piece, lambda spectra: spectra)
    if start is None or kind == "nothing":
        return plain
    if kind == "pause":
        return _paused(plain, start, rng)
    if kind == "formants":
        other = _resynthesise(piece, _formants)
    elif kind == "F0":
        other = _raised(piece)
    else:
        level = np.sqrt(np.mean(piece**2)) * 10 ** (NOISE_DB / 20)
        other = plain + (level * rng.normal(size=len(piece))).astype(np.float32)
    gate = np.zeros(len(piece), np.float32)
    gate[start : start + STRETCH] = 1
    gate = np.convolve(gate, np.hanning(FADE) / np.hanning(FADE).sum(), "same").astype(np.float32)
    return (gate * other + (1 - gate) * plain).astype(np.float32)


def _resynthesise(sound: Floats, change_spectra: Callable[[torch.Tensor], torch.Tensor]) -> Floats:
    window = torch.hann_window(WINDOW)
    spectra = torch.stft(torch.from_numpy(sound), WINDOW, HOP, window=window, return_complex=True)
    made = torch.istft(change_spectra(spectra), WINDOW, HOP, window=window, length=len(sound))
    return made.numpy()


def _envelope(spectra: torch.Tensor, size: int = LIFTER) -> torch.Tensor:
    """Log magnitude of the envelopes of spectra (bins, frames), by cepstra without their fine part."""
    cepstra = torch.fft.irfft(torch.log(spectra.abs() + 1e-6), dim=0)
    cepstra[size : 1 - size] = 0
    return torch.fft.rfft(cepstra, dim=0).real


def _formants(spectra: torch.Tensor) -> torch.Tensor:
    """Spectra (bins, frames) with the peaks of their envelopes moved up from HELD on, by FORMANTS. What else would come
    along stays: the spectrum's tilt, its slopes over SLOPES, and how loud each frame is."""
    envelope, tilt = _envelope(spectra), _envelope(spectra, TILT)
    bin_hz = RATE / WINDOW
    hz = torch.arange(len(envelope)) * bin_hz
    source = torch.where(hz < HELD, hz, HELD + (hz - HELD) / FORMANTS) / bin_hz
    low = source.floor().long()
    share = (source - low)[:, None]
    peaks = envelope - tilt
    gain = (1 - share) * peaks[low] + share * peaks[(low + 1).clamp(max=len(peaks) - 1)] - peaks
    drift, reached = torch.zeros_like(gain), gain.new_zeros(gain.shape[1])
    for start, end in SLOPES:
        band = (hz >= start) & (hz < end)
        centred = hz[band] - hz[band].mean()
        slope = (centred[:, None] * gain[band]).sum(0) / centred.square().sum()
        drift[band] = reached + slope * (hz[band] - start)[:, None]
        reached = reached + slope * (end - start)
    drift[hz >= SLOPES[-1][1]] = reached
    moved = spectra * torch.exp((gain - drift).clamp(-6, 6))
    loud, wanted = (_loudness(part) for part in (moved, spectra))
    return moved * (wanted / loud).pow(0.5 / LOUDNESS).clamp(max=10)


def _loudness(spectra: torch.Tensor) -> torch.Tensor:
    """How loud frames are, (frames,): the sum over 26 mel bands of a power of each one's energy, as eGeMAPS has it."""
    bands = torchaudio.functional.melscale_fbanks(WINDOW // 2 + 1, 20.0, RATE / 2, 26, RATE)
    return (bands.T @ spectra.abs().square()).clamp(min=1e-10).pow(LOUDNESS).sum(0)


def _as_loud(spectra: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Spectra (bins, frames) with the energy of others in each frame."""
    energy, wanted = (part.abs().square().sum(0) for part in (spectra, other))
    return spectra * (wanted / energy.clamp(min=1e-9)).sqrt().clamp(max=10)


def _raised(piece: Floats) -> Floats:
    """The voice raised by SEMITONES; then the spectrum's envelope, which went up with it, put back."""
    factor = 2 ** (SEMITONES / 12)
    long = torch.hann_window(2 * WINDOW)
    spectra = torch.stft(torch.from_numpy(piece), 2 * WINDOW, HOP, window=long, return_complex=True)
    advance = torch.linspace(0, np.pi * HOP, len(spectra))[:, None]
    slower = torch.istft(
        torchaudio.functional.phase_vocoder(spectra, 1 / factor, advance), 2 * WINDOW, HOP, window=long
    )
    higher = np.resize(soxr.resample(slower.numpy(), RATE * factor, RATE), len(piece)).astype(np.float32)
    window = torch.hann_window(WINDOW)
    own, its = (
        torch.stft(torch.from_numpy(sound), WINDOW, HOP, window=window, return_complex=True)
        for sound in (piece, higher)
    )
    mended = its * torch.exp((_envelope(own) - _envelope(its)).clamp(-4, 4))
    return torch.istft(_as_loud(mended, own), WINDOW, HOP, window=window, length=len(piece)).numpy()


def _paused(piece: Floats, start: int, rng: np.random.Generator) -> Floats:
    """A pause of STRETCH put in at `start`, as loud as the piece is at its quietest; what comes after is later, and the
    end is lost."""
    power = np.convolve(piece**2, np.ones(800) / 800, "valid")
    pause = (np.sqrt(power.min()) * rng.normal(size=STRETCH)).astype(np.float32)
    return np.concatenate([piece[:start], pause, piece[start:]])[: len(piece)]
