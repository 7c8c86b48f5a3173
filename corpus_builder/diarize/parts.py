"""Long sources in parts: each part is diarized by itself, and the speakers of all parts are linked by their voices.

So the memory of hours of sound is the memory of one part, and the time grows with the length alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE, Span
from corpus_builder.audio import Samples
from corpus_builder.protocols import Diarization, Turn
from corpus_builder.speakers import SURE_S, cluster

HOP = RATE // 100
NEAR = RATE // 4
"""How far around speech a part reaches: 0.25 s, in samples at 16 kHz."""

Voice = NDArray[np.float32]


def windows(speech: Sequence[Span], n_samples: int, size: int) -> list[Span]:
    """Cut the stretch of a source that has speech into parts of about `size` samples, in its longest pauses.

    The parts are of like length; each cut is the middle of the longest pause within a tenth of a part of the
    even place, or that place itself where nobody pauses, to 10 ms.
    """
    if not speech:
        return []
    start, end = max(0, speech[0].start - NEAR) // HOP * HOP, min(n_samples, speech[-1].end + NEAR)
    count = math.ceil((end - start) / size)
    pauses = [Span(a.end, b.start) for a, b in pairwise(speech) if b.start > a.end]
    middles = [(pause.start + pause.end) // 2 for pause in pauses]
    cuts, reach = [start], (end - start) / count / 10
    for number in range(1, count):
        even = start + number * (end - start) // count
        close = pauses[bisect_left(middles, even - reach) : bisect_right(middles, even + reach)]
        longest = max(close, key=len, default=Span(even, even))
        cuts.append((longest.start + longest.end) // 2 // HOP * HOP)
    return [Span(a, b) for a, b in zip(cuts, [*cuts[1:], end], strict=True)]


def unit(voice: Samples) -> Voice | None:
    """The voice at unit length, or None where it has none (a speaker never heard alone)."""
    length = float(np.linalg.norm(voice))
    return (voice / length).astype(np.float32) if math.isfinite(length) and length > 0 else None


def link(
    voices: Sequence[Voice | None],
    part_of: Sequence[int],
    same_speaker: float,
    seconds: Sequence[float] | None = None,
    narrowband: Sequence[bool] | None = None,
) -> list[int]:
    """Number the speakers of all parts: two whose voices are more alike than `same_speaker`, a cosine, are one.

    By average linkage, as speakers of different recordings are linked (`speakers.cluster`), which asks less of short
    voices, given their `seconds` of speech, and more where they are `narrowband`. Two speakers of one part stay two
    (short ones, of whom the diarizer can't be sure, needn't), and a speaker without a voice stays alone.
    """
    heard = [i for i, voice in enumerate(voices) if voice is not None]
    if len(set(part_of)) < 2 or not heard:
        return list(range(len(voices)))
    length = np.array([SURE_S if seconds is None else seconds[i] for i in heard])
    narrow = np.array([bool(narrowband and narrowband[i]) for i in heard])
    sure: dict[int, list[int]] = {}
    for place, i in enumerate(heard):
        if length[place] >= SURE_S:
            sure.setdefault(part_of[i], []).append(place)
    apart = [pair for together in sure.values() for pair in combinations(together, 2)]
    labels = list(range(len(voices)))
    vectors = np.array([voices[i] for i in heard], np.float32).reshape(len(heard), -1)
    found = cluster(vectors, length, narrow, same_speaker, apart, np.full(len(heard), -1))
    for i, first in zip(heard, found, strict=True):
        labels[i] = heard[int(first)]
    return labels


def assemble(
    turns: Iterable[tuple[Span, int]],
    overlaps: Sequence[Span],
    voices: Iterable[tuple[int, Voice | None]],
    min_speaker: int,
) -> Diarization:
    """Turns with speaker numbers to a Diarization, the speakers named S1, S2, … as they appear.

    Speakers with less than `min_speaker` samples of speech are not called speakers: their turns become `unsure`.
    """
    ordered = sorted(((span, speaker) for span, speaker in turns if len(span) > 0), key=lambda turn: turn[0].start)
    spoken: dict[int, int] = {}
    for span, speaker in ordered:
        spoken[speaker] = spoken.get(speaker, 0) + len(span)
    names: dict[int, str] = {}
    for _, speaker in ordered:
        if spoken[speaker] >= min_speaker and speaker not in names:
            names[speaker] = f"S{len(names) + 1}"
    heard: dict[str, list[Voice]] = {}
    for speaker, voice in voices:
        if speaker in names and voice is not None:
            heard.setdefault(names[speaker], []).append(voice)
    means = {name: unit(np.mean(rows, axis=0)) for name, rows in heard.items()}
    return Diarization(
        turns=tuple(Turn(span.start, span.end, names[speaker]) for span, speaker in ordered if speaker in names),
        overlaps=tuple(sorted((span for span in overlaps if len(span) > 0), key=lambda span: span.start)),
        unsure=tuple(span for span, speaker in ordered if speaker not in names),
        voices={name: voice for name, voice in means.items() if voice is not None},
    )
