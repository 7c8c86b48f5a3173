"""A small band in numpy: chords, a bass line and percussion, so that the demo's programmes have tunes of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float64]

# Steps of the major scale the four chords of the tune stand on, and each chord's notes above them, in semitones.
_PROGRESSION = ((0, (0, 4, 7)), (7, (0, 4, 7)), (9, (0, 3, 7)), (5, (0, 4, 7)))


def tune(seconds: float, rate: int, key: int, beats_per_minute: float) -> NDArray[np.float32]:
    """A tune of `seconds`, float32 of shape (n, 2) at `rate` Hz, RMS 0.1, faded in and out over half a second.

    `key` is the tonic as a MIDI note number (57 is the A below middle C). The same arguments give the same tune.
    """
    n = round(seconds * rate)
    beat = 60.0 / beats_per_minute
    noise = np.random.default_rng(key)
    mix = np.zeros((n, 2))
    for at in range(int(seconds / beat) + 1):
        bar = at // 4
        root, chord = _PROGRESSION[bar % len(_PROGRESSION)]
        start = at * beat
        if at % 4 == 0:
            for pan, note in zip((0.3, 0.5, 0.7), chord, strict=True):
                _add(mix, 0.10 * _pad(_hertz(key + root + note), 4 * beat, rate), start, rate, pan)
        _add(mix, 0.30 * _pluck(_hertz(key + root - 24), beat, rate), start, rate, 0.5)
        for half in (0, 1):
            note = key + 12 + root + chord[(2 * at + half) % 3]
            _add(mix, 0.16 * _pluck(_hertz(note), beat, rate), start + half * beat / 2, rate, 0.35)
            hat = _hiss(noise, 0.05, rate, decay_s=0.012)
            _add(mix, 0.10 * hat, start + half * beat / 2, rate, 0.65)
        drum = _kick(rate) if at % 2 == 0 else _hiss(noise, 0.2, rate, decay_s=0.05)
        _add(mix, 0.35 * drum, start, rate, 0.5)
    ramp = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.5 * rate))
    mix *= ramp[:, None]
    return np.asarray(mix * (0.1 / np.sqrt(np.mean(mix**2))), np.float32)


def _hertz(note: float) -> float:
    """Frequency of a MIDI note number in equal temperament, A4 = 440 Hz."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def _add(mix: Sound, sound: Sound, start_s: float, rate: int, pan: float) -> None:
    """Add a mono sound to the stereo mix; `pan` goes from 0, left, to 1, right."""
    start = round(start_s * rate)
    part = sound[: max(0, len(mix) - start)]
    mix[start : start + len(part), 0] += part * (1 - pan)
    mix[start : start + len(part), 1] += part * pan


def _time(seconds: float, rate: int) -> Sound:
    return np.arange(round(seconds * rate)) / rate


def _pad(hertz: float, seconds: float, rate: int) -> Sound:
    """A string-like chord tone: three detuned saws of eight harmonics, slow at both ends."""
    time = _time(seconds, rate)
    tone = np.zeros_like(time)
    for detune in (0.996, 1.0, 1.004):
        for harmonic in range(1, 9):
            tone += np.sin(2 * np.pi * hertz * detune * harmonic * time + harmonic) / (3 * harmonic**1.3)
    return tone * np.minimum(1.0, np.minimum(time, time[::-1]) / 0.15)


def _pluck(hertz: float, seconds: float, rate: int) -> Sound:
    """A string that is struck and rings: upper harmonics die sooner."""
    time = _time(seconds, rate)
    tone = np.zeros_like(time)
    for harmonic in range(1, 11):
        tone += np.sin(2 * np.pi * hertz * harmonic * time) * np.exp(-time * (2.0 + 1.5 * harmonic)) / harmonic
    return tone * np.minimum(1.0, time[::-1] / 0.01)


def _kick(rate: int) -> Sound:
    """A drum whose pitch falls from 150 to 50 Hz."""
    time = _time(0.25, rate)
    return np.sin(2 * np.pi * (50 * time + 4.0 * (1 - np.exp(-time / 0.04)))) * np.exp(-time / 0.08)


def _hiss(noise: np.random.Generator, seconds: float, rate: int, decay_s: float) -> Sound:
    """A cymbal or a snare: noise without its low end, dying away."""
    time = _time(seconds, rate)
    return np.diff(noise.standard_normal(len(time)), prepend=0.0) * np.exp(-time / decay_s) * 0.5
