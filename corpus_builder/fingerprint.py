"""Which clips have the same sound in them: audio fingerprints and an index of them.

Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: every few milliseconds 32 bits that say
how the energy of neighbouring bands changes. Two clips with the same sound agree in nearly all bits where they are
laid over each other, however they were encoded and cut; two with different sound agree in half of them.

Chromaprint, the well-kept library, was tried first: it has no wheel with the library in it, its words are 0.12 s apart
and need 2.4 s of sound before the first (three of them for a clip of 3 s), and it was made for music: different
sentences agree in up to 76 % of its bits over two seconds, here in up to 61 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE
from corpus_builder.audio import Samples

Hashes = NDArray[np.uint32]
"""A fingerprint: shape (frames,), a word of 32 bits every `HOP_S` seconds; 0 where it is quiet."""

METHOD = "haitsma-kalker 1"
"""Raise the number when the words change: stored fingerprints of another method are made anew."""

LOW_RATE, FRAME, HOP = 5000, 2048, 64
"""Hz of the sound that is looked at, and samples of a frame and from one frame to the next at that rate."""

HOP_S, FRAME_S = HOP / LOW_RATE, FRAME / LOW_RATE
BANDS = np.round(np.geomspace(300, 2000, 34) * FRAME / LOW_RATE).astype(int)
"""Edges of the 33 bands, as Fourier bins: 300 to 2000 Hz, evenly spaced in logarithm, as in the paper."""

QUIET = 1e-4
"""A frame with less than this share of the loudest frame's energy (-40 dB) has no word: noise has no identity."""

NEIGHBOURS = 4
"""Further clips with the same word that a clip is paired with, so that a sound heard in a thousand clips makes
thousands of pairs, not a million; the pairs still form one chain."""

SAME, SAME_ALL = 0.30, 0.25
"""Share of differing bits that still counts as the same sound, over a second and over all that is shared. Re-encoded
clips have 0.02 to 0.2, different speech 0.4 to 0.55; the paper takes 0.35 over 3.3 s."""

WINDOW = round(1 / HOP_S)
SHORTEST_S = 2.0
"""Seconds of sound, pauses not counted, that two clips must share: one word is too little, a jingle is enough."""


@dataclass(frozen=True, slots=True)
class Match:
    """That clips `a` < `b`, by their number, share `seconds` of sound; `score` is 1 for equal bits, 0 for chance."""

    a: int
    b: int
    seconds: float
    score: float


def fingerprint(audio: Samples) -> Hashes:
    """The words of a clip, mono of shape (n,) at 16 kHz; none for less than about 0.4 s."""
    import soxr
    from scipy.fft import rfft

    low = soxr.resample(audio, RATE, LOW_RATE, quality="LQ")
    if len(low) < FRAME + HOP:
        return np.zeros(0, np.uint32)
    window = np.hanning(FRAME).astype(np.float32)
    words = []
    energy = []
    before: NDArray[np.float32] | None = None
    for frames in _blocks(np.asarray(low, np.float32)):
        spectrum = rfft(frames * window, axis=1)[:, : BANDS[-1]]
        bands = np.add.reduceat(spectrum.real**2 + spectrum.imag**2, BANDS[:-1], axis=1)
        slope = bands[:, :-1] - bands[:, 1:]
        if before is not None:
            slope = np.concatenate([before, slope])
        before = slope[-1:]
        words.append(np.packbits(slope[1:] > slope[:-1], axis=1).view(">u4")[:, 0].astype(np.uint32))
        energy.append(bands.sum(axis=1))
    found, loud = np.concatenate(words), np.concatenate(energy)[1:]
    found[loud <= QUIET * loud.max()] = 0
    return found


def _blocks(low: NDArray[np.float32], size: int = 512) -> Iterator[NDArray[np.float32]]:
    """Overlapping frames (at most `size`, FRAME) of the sound, in order."""
    frames = np.lib.stride_tricks.sliding_window_view(low, FRAME)[::HOP]
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


def find_matches(prints: Sequence[Hashes]) -> list[Match]:
    """Pairs of clips with the same sound in them, by their number in `prints`; each pair once, its longest match.

    An index of equal words gives the candidates, so time grows with the number of clips, not of pairs. Where a sound is
    in many clips, the pairs join them in a chain and not each with each.
    """
    best: dict[tuple[int, int], Match] = {}
    for a, b, offset in _candidates(prints):
        match = _compare(prints[a], prints[b], offset)
        if match is not None and match[0] > best.get((a, b), Match(a, b, 0.0, 0.0)).seconds:
            best[a, b] = Match(a, b, *match)
    return [best[pair] for pair in sorted(best)]


def _candidates(prints: Sequence[Hashes]) -> Iterator[tuple[int, int, int]]:
    """Clips a < b with two or more equal words at one offset: a's frame less b's."""
    if not prints:
        return
    lengths = np.array([len(words) for words in prints])
    word = np.concatenate(prints)
    clip = np.repeat(np.arange(len(prints), dtype=np.int64), lengths)
    frame = np.arange(len(word), dtype=np.int64) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    loud = word != 0
    # by word, then clip, then time; of a word that a clip has several times (a held note) the first counts
    key = (word[loud].astype(np.uint64) << np.uint64(32)) | clip[loud].astype(np.uint64)
    key, first = np.unique(key, return_index=True)
    word, clip, frame = (key >> np.uint64(32)).astype(np.uint32), clip[loud][first], frame[loud][first]
    pairs, offsets = [], []
    for step in range(1, NEIGHBOURS + 1):
        (at,) = np.nonzero(word[step:] == word[:-step])
        pairs.append(clip[at] * len(prints) + clip[at + step])
        offsets.append(frame[at] - frame[at + step])
    pair, offset = np.concatenate(pairs), np.concatenate(offsets)
    order = np.lexsort((offset, pair))
    pair, offset = pair[order], offset[order]
    # runs of one pair at nearly one offset: cutting between two frames moves the words by one
    (ends,) = np.nonzero(np.append((np.diff(pair) != 0) | (np.diff(offset) > 2), True))
    starts = np.append(0, ends[:-1] + 1)
    for start, end in zip(starts[ends > starts], ends[ends > starts], strict=True):
        a, b = divmod(int(pair[start]), len(prints))
        yield a, b, int(offset[(start + end) // 2])


def _compare(a: Hashes, b: Hashes, offset: int) -> tuple[float, float] | None:
    """Seconds shared and score of two clips laid over each other, b's frame 0 at a's frame `offset`, or None.

    A frame is shared if it and the second around it are the same. From the first such frame to the last is what the
    clips share: a pause between has no words, and noise may cover some.
    """
    start, end = max(0, offset), min(len(a), offset + len(b))
    if end - start < WINDOW:
        return None
    left, right = a[start:end], b[start - offset : end - offset]
    heard = (left != 0) & (right != 0)
    different = np.where(heard, np.bitwise_count(left ^ right), 0)
    shared = np.flatnonzero(heard & _same(heard, different, WINDOW) & _same(heard, different, WINDOW // 5))
    if len(shared) * HOP_S + FRAME_S < SHORTEST_S:
        return None
    span = slice(int(shared[0]), int(shared[-1]) + 1)
    wrong = float(different[span].sum() / heard[span].sum() / 32)
    seconds = (span.stop - span.start) * HOP_S + FRAME_S
    return (seconds, 1 - 2 * wrong) if wrong <= SAME_ALL else None


def _same(heard: NDArray[np.bool_], different: NDArray[np.integer], size: int) -> NDArray[np.bool_]:
    """Whether a frame lies within `size` successive ones, half of them heard or more, that are the same sound."""
    n = _sums(heard, size)
    good = (n >= size // 2) & (_sums(different, size) <= 32 * SAME * n)
    # frame i lies in the stretches that begin at i - size + 1 to i
    return _sums(np.pad(good, size - 1), size) > 0


def _sums(values: NDArray[np.generic], size: int) -> NDArray[np.int64]:
    """Sums over `size` successive values; shape (n - size + 1,)."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(total[size:] - total[:-size])
