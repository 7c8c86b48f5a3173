"""How well speakers are linked across recordings, and where the threshold comes from.

    PDID_TEST_DATA=… python benchmarks/speakers.py [--scale N]

Recordings are made of LibriSpeech's readers, VCTK's speakers and the Free Spoken Digit Dataset's (8 kHz), several of
each person: short ones (LibriSpeech one utterance, VCTK two sentences, FSDD sixteen digits) and longer ones (two or
three utterances, five sentences, fifty digits). Each goes through the speech detector and the embedded diarizer, as
`pdid ingest` does it, and all voices found are linked by `corpus_builder.speakers.link`. Counted are pairs of voices
of different recordings: precision, recall and F1. A voice belongs to the recording's only reader, so what the diarizer
splits wrongly is counted too.

Printed: how alike voices are; F1 by threshold; the threshold chosen on two of the corpora (the middle of those with
the best mean F1 over short and longer recordings) and what it gives on the third, whose speakers had no part in it;
voices of which half come through a telephone (300-3400 Hz, 8 kHz); and, with --scale N, the time for N made-up voices.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from catalog.records import RATE
from catalog.speakers import LocalSpeaker
from corpus_builder import speakers
from corpus_builder.audio import Decoder, Samples, Track
from corpus_builder.config import Settings
from corpus_builder.diarize.embedded import Embedded
from corpus_builder.vad import SpeechDetector

SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "short": {"librispeech": (1,), "vctk": (2,), "fsdd": (16,)},
    "longer": {"librispeech": (3, 2), "vctk": (5,), "fsdd": (50,)},
}
SHARE = {"short": 128, "longer": 200}  # of FSDD's 500 digits a speaker
THRESHOLDS = np.round(np.arange(0.70, 0.925, 0.01), 2)
CORPORA = ("librispeech", "vctk", "fsdd")


@dataclass(frozen=True)
class Voice:
    """A voice that the diarizer found, and whose it is."""

    corpus: str
    person: str
    speaker: LocalSpeaker


def files(clips: Path) -> dict[tuple[str, str], list[Path]]:
    """Sound files by corpus and person."""
    found: dict[tuple[str, str], list[Path]] = {}
    for corpus, pattern, sign, part in (
        ("librispeech", "*.flac", "-", 0),
        ("vctk", "*.flac", "_", 0),
        ("fsdd", "*.wav", "_", 1),
    ):
        for path in sorted((clips / corpus).glob(pattern)):
            found.setdefault((corpus, path.name.split(sign)[part]), []).append(path)
    return found


def chunks(paths: list[Path], sizes: tuple[int, ...]) -> Iterator[list[Path]]:
    start = 0
    for size in cycle(sizes):
        if start >= len(paths):
            return
        yield paths[start : start + size]
        start += size


def telephone(sound: Samples) -> Samples:
    """Sound as a telephone lets it through."""
    band = butter(6, (300, 3400), "bandpass", fs=RATE, output="sos")
    heard: Samples = np.asarray(sosfilt(band, sound), np.float32)
    return heard


class Finder:
    """Finds the voices in a sound, as ingest does."""

    def __init__(self, scratch: Path) -> None:
        settings = Settings()
        self.speech, self.diarizer = SpeechDetector(settings.vad), Embedded(settings.diarize, 1)
        self.file = scratch / "sound.f32"

    def __call__(self, sound: Samples, name: str, bandwidth_hz: float) -> list[LocalSpeaker]:
        sound.tofile(self.file)
        track = Track(self.file, len(sound))
        found = self.diarizer(track, self.speech(track, lambda share: None), (), lambda share: None)
        seconds = {k: sum(t.end - t.start for t in found.turns if t.speaker == k) / RATE for k in found.voices or {}}
        return [
            LocalSpeaker(
                f"{name}-{k}", name, None, self.diarizer.name, seconds[k], None, tuple(map(float, vector)), bandwidth_hz
            )
            for k, vector in (found.voices or {}).items()
        ]


def collect(clips: Path, kind: str, find: Finder, half_by_telephone: bool = False) -> list[Voice]:
    rng = np.random.default_rng(0)
    voices = []
    pause = np.zeros(RATE // 2, np.float32)
    for (corpus, person), paths in files(clips).items():
        if corpus == "fsdd":
            if half_by_telephone:
                continue
            paths = [paths[i] for i in rng.permutation(len(paths))][: SHARE[kind]]
        for n, group in enumerate(chunks(paths, SIZES[kind][corpus])):
            parts: list[Samples] = []
            for path in group:
                parts += [*(block[:, 0] for block in Decoder(path, RATE)), pause]
            sound = np.concatenate(parts)
            by_telephone = half_by_telephone and n % 2 == 1
            hz = 3400.0 if by_telephone else 4000.0 if corpus == "fsdd" else 8000.0
            if by_telephone:
                sound = telephone(sound)
            voices += [Voice(corpus, person, one) for one in find(sound, f"{corpus}/{person}/{n}", hz)]
    return voices


def score(voices: list[Voice], threshold: float) -> tuple[float, float, float, int]:
    """Precision, recall and F1 over pairs of voices of different recordings, and how many people were found."""
    speakers.SAME_PERSON = threshold
    links = speakers.link([voice.speaker for voice in voices])
    names = np.array([links[voice.speaker.local_id] for voice in voices])
    people = np.array([voice.person for voice in voices])
    apart = pairs(voices)
    linked, same = (names[:, None] == names) & apart, (people[:, None] == people) & apart
    right = float((linked & same).sum())
    precision, recall = right / max(1, linked.sum()), right / max(1, same.sum())
    return precision, recall, 2 * right / max(1, linked.sum() + same.sum()), len(set(names))


def pairs(voices: list[Voice]) -> NDArray[np.bool_]:
    """Which pairs count: of different recordings, each once."""
    sources = np.array([voice.speaker.source_id for voice in voices])
    return np.triu(sources[:, None] != sources, 1)


def likeness(voices: list[Voice]) -> tuple[Samples, Samples]:
    """Similarities of voices of the same person, and of different people."""
    vectors = np.array([voice.speaker.embedding for voice in voices])
    people = np.array([voice.person for voice in voices])
    every, apart = vectors @ vectors.T, pairs(voices)
    same = people[:, None] == people
    return every[apart & same], every[apart & ~same]


def of(voices: list[Voice], *corpora: str) -> list[Voice]:
    return [voice for voice in voices if voice.corpus in corpora]


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells) + " |")


def choose(train: list[list[Voice]]) -> float:
    """The middle of the thresholds with the best mean F1."""
    means = np.array([np.mean([score(voices, t)[2] for voices in train]) for t in THRESHOLDS])
    best = THRESHOLDS[means >= means.max() - 1e-9]
    return float(np.round((best[0] + best[-1]) / 2, 3))


def scale(n: int) -> None:
    """Time to link n made-up voices of n / 5 people."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(n // 5, 256))
    vectors = np.abs(np.repeat(people, 5, 0) + 0.3 * rng.normal(size=(n // 5 * 5, 256)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = [
        LocalSpeaker(f"{i:016x}-S1", f"{i:016x}", None, "made", 10.0, None, tuple(map(float, v)))
        for i, v in enumerate(vectors)
    ]
    start = time.perf_counter()
    found = len(set(speakers.link(made).values()))
    print(f"\n{len(made)} made-up voices of {n // 5} people: {time.perf_counter() - start:.1f} s, {found} people found")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    used = speakers.SAME_PERSON
    clips = Path(os.environ["PDID_TEST_DATA"]) / "clips"
    with tempfile.TemporaryDirectory() as scratch:
        find = Finder(Path(scratch))
        found = {kind: collect(clips, kind, find) for kind in SIZES}
        found["half by telephone"] = collect(clips, "short", find, half_by_telephone=True)
    print(
        "How alike voices are: the 1st, 5th and 50th percentile of one person's, the 50th, 95th, 99th and 100th of two"
    )
    row("recordings", "corpus", "people", "voices", "1 %", "5 %", "50 %", "", "50 %", "95 %", "99 %", "100 %")
    row(*["---"] * 12)
    for kind, voices in found.items():
        for corpus in CORPORA:
            if part := of(voices, corpus):
                same, other = likeness(part)
                figures = [f"{x:.2f}" for x in (*np.percentile(same, (1, 5, 50)),)]
                others = [f"{x:.2f}" for x in np.percentile(other, (50, 95, 99, 100))]
                row(kind, corpus, len({v.person for v in part}), len(part), *figures, "", *others)
    print("\nF1 by threshold (precision, recall; people found)")
    sets = [(kind, CORPORA[:2]) for kind in found] + [(kind, ("fsdd",)) for kind in SIZES]
    row("threshold", *(f"{kind}: {' + '.join(names)}" for kind, names in sets))
    row(*["---"] * (len(sets) + 1))
    for threshold in THRESHOLDS[::2]:
        cells = []
        for kind, names in sets:
            precision, recall, f1, n = score(of(found[kind], *names), float(threshold))
            cells.append(f"{f1:.3f} ({precision:.2f}, {recall:.2f}; {n})")
        row(f"{threshold:.2f}", *cells)
    print("\nThe threshold chosen on two corpora, and F1 on the third")
    row("chosen on", "threshold", "on", "short", "longer")
    row(*["---"] * 5)
    for left_out in CORPORA:
        rest = [corpus for corpus in CORPORA if corpus != left_out]
        threshold = choose([of(found[kind], corpus) for kind in SIZES for corpus in rest])
        row(" + ".join(rest), threshold, left_out, *(score(of(found[kind], left_out), threshold)[2] for kind in SIZES))
    print(f"\nWith the threshold in use, {used}")
    row("recordings", "of", "precision", "recall", "F1", "people", "found")
    row(*["---"] * 7)
    for kind, names in sets:
        part = of(found[kind], *names)
        precision, recall, f1, n = score(part, used)
        row(kind, " + ".join(names), precision, recall, f1, len({v.person for v in part}), n)
    if options.scale:
        speakers.SAME_PERSON = used
        scale(options.scale)


if __name__ == "__main__":
    main()
