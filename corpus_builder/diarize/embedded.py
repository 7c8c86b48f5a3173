"""The embedded diarizer: silero's speech, d-vectors, clustering. No token, no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE, Span
from corpus_builder.audio import Track
from corpus_builder.config import Diarize
from corpus_builder.diarize.clustering import Speakers, find_speakers
from corpus_builder.diarize.parts import Voice, assemble, link, windows
from corpus_builder.pauses import frame_levels
from corpus_builder.protocols import Diarization, Each, Progress
from corpus_builder.spans import join_spans, runs, touching
from corpus_builder.voices import NAME, STRIDE, WINDOW, Embeddings, VoiceEncoder

HOP = RATE // 100
PART = 3600 * RATE  # of a long source that is diarized at a time: its embeddings take 150 MB
REACH = 40  # frames of 10 ms that a change of speaker may be moved to reach a quiet moment
DOUBT = 0.25  # a margin between the two likeliest speakers under this share of the usual one is doubt


class Embedded:
    """Speakers by d-vectors and clustering; satisfies `protocols.Diarizer`."""

    name = f"embedded/{NAME}"

    def __init__(self, settings: Diarize, threads: int = 1, each: Each = map) -> None:
        self.settings, self.each = settings, each
        self.encoder = VoiceEncoder(threads)

    def __call__(self, track: Track, speech: Sequence[Span], music: Sequence[Span], progress: Progress) -> Diarization:
        """Diarize `speech` in `track` (mono, 16 kHz); `music` says where music sounds under it.

        More than an hour of sound is taken in parts.
        """
        if not speech:
            return Diarization((), voices={})
        parts = [Span(0, len(track))] if len(track) <= PART else windows(speech, len(track), PART)
        turns: list[tuple[Span, int]] = []
        unsure: list[Span] = []
        heard: list[_Heard] = []
        for index, part in enumerate(parts):

            def share(done: float, index: int = index) -> None:
                progress((index + done) / len(parts))

            said = _within(speech, part)
            if said:
                found, doubtful, voices = self._diarize(track.part(part), said, _within(music, part), share)
                turns += [(_shifted(span, part.start), len(heard) + speaker) for span, speaker in found]
                unsure += [_shifted(span, part.start) for span in doubtful]
                heard += [replace(voice, part=index) for voice in voices]
        labels = link(
            [voice.voice for voice in heard],
            [voice.part for voice in heard],
            self.settings.same_speaker,
            [voice.seconds for voice in heard],
            [voice.narrowband for voice in heard],
        )
        whole = assemble(
            [(span, labels[speaker]) for span, speaker in turns],
            [],
            [(label, voice.voice * np.float32(voice.seconds)) for label, voice in zip(labels, heard, strict=True)],
            0,
        )
        return replace(whole, unsure=tuple(unsure))

    def _diarize(
        self, track: Track, speech: Sequence[Span], music: Sequence[Span], progress: Progress
    ) -> tuple[list[tuple[Span, int]], list[Span], list[_Heard]]:
        """One part: turns with the index of their speaker, where that is doubtful, and the speakers."""
        stretches = join_spans(list(speech), RATE)
        embeddings = self.encoder.embed(track, stretches, progress, self.each)
        n_frames = -(-len(track) // HOP)
        spoken, musical = raster(speech, n_frames), raster(music, n_frames)
        speakers = find_speakers(
            embeddings,
            window_share(spoken, embeddings.centres),
            window_share(musical, embeddings.centres),
            self.settings.same_speaker,
            self.settings.min_speaker_s,
        )
        labels = frame_labels(embeddings, speakers, n_frames)
        labels = move_changes(track, labels, stretches)
        speaking, frames = np.unique(labels[spoken & (labels >= 0)], return_counts=True)
        number = {int(speaker): k for k, speaker in enumerate(speaking)}
        turns = [
            (span, number[int(labels[span.start // HOP])])
            for speech_span in runs(spoken, HOP, len(track))
            for span in split_by_label(labels, speech_span)
        ]
        doubtful = doubt(embeddings, speakers, musical, n_frames) & spoken
        heard = [
            _Heard(speakers.voices[k], n * HOP / RATE, embeddings.narrowband)
            for k, n in zip(speaking, frames, strict=True)
        ]
        return turns, runs(doubtful, HOP, len(track)), heard


@dataclass(frozen=True, slots=True)
class _Heard:
    """A speaker of one part: the mean voice (256,), and seconds of speech."""

    voice: Voice
    seconds: float
    narrowband: bool
    part: int = 0


def _within(spans: Sequence[Span], part: Span) -> list[Span]:
    """What lies within a part, of sorted spans, counted from its start."""
    inside = touching(spans, part.start, part.end)
    return [_shifted(Span(max(s.start, part.start), min(s.end, part.end)), -part.start) for s in inside]


def _shifted(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by)


def raster(spans: Sequence[Span], n_frames: int) -> NDArray[np.bool_]:
    """Which 10 ms frames the spans touch: bool (n_frames,)."""
    flags = np.zeros(n_frames, bool)
    for span in spans:
        flags[span.start // HOP : -(-span.end // HOP)] = True
    return flags


def window_share(flags: NDArray[np.bool_], centres: NDArray[np.int64]) -> NDArray[np.float32]:
    """Share of True frames in the 1.6 s around each centre: float32 (n,)."""
    total = np.concatenate([[0], np.cumsum(flags)])
    half = WINDOW // 2
    first = np.clip(centres // HOP - half, 0, len(flags))
    last = np.clip(centres // HOP + half, 0, len(flags))
    share: NDArray[np.float32] = ((total[last] - total[first]) / WINDOW).astype(np.float32)
    return share


def frame_labels(embeddings: Embeddings, speakers: Speakers, n_frames: int) -> NDArray[np.int64]:
    """Speaker index per 10 ms frame (n_frames,), -1 where nothing was embedded."""
    labels = np.full(n_frames, -1, np.int64)
    for centre, label in zip(embeddings.centres // HOP, speakers.labels, strict=True):
        labels[max(0, centre - STRIDE // 2) : centre + STRIDE // 2] = label
    return labels


def move_changes(track: Track, labels: NDArray[np.int64], stretches: Sequence[Span]) -> NDArray[np.int64]:
    """Fill gaps and move each change of speaker to the quietest 50 ms within 0.4 s.

    A window of 1.6 s sees a change coming and going, so its place is only known to a few tenths.
    """
    moved = labels.copy()
    for stretch in stretches:
        first, last = stretch.start // HOP, min(-(-stretch.end // HOP), len(labels))
        inside = moved[first:last]
        known = np.flatnonzero(inside >= 0)
        if not known.size:
            continue
        inside[:] = _fill(inside, known)
        changes = np.flatnonzero(np.diff(inside)) + 1
        if not changes.size:
            continue
        bounds = [0, *map(int, changes), len(inside)]
        for k, at in enumerate(map(int, changes), start=1):
            low, high = max(bounds[k - 1] + 1, at - REACH), min(bounds[k + 1] - 1, at + REACH)
            if high <= low:
                continue
            levels = frame_levels(track.read((first + low - 2) * HOP, (first + high + 3) * HOP))
            if len(levels) < 6:
                continue
            smooth = np.convolve(levels, np.ones(5) / 5, "valid")
            best = low + int(smooth.argmin())
            before, after = inside[at - 1], inside[at]
            inside[min(at, best) : max(at, best)] = before if best > at else after
            bounds[k] = best
    return moved


def _fill(inside: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give unknown frames the label of the nearest known one."""
    right = np.searchsorted(known, np.arange(len(inside))).clip(max=len(known) - 1)
    left = (right - 1).clip(min=0)
    at = np.arange(len(inside))
    nearest = np.where(np.abs(known[right] - at) < np.abs(known[left] - at), right, left)
    return inside[known[nearest]]


def split_by_label(labels: NDArray[np.int64], span: Span) -> list[Span]:
    """Cut a span (of whole frames) where the label changes."""
    first, last = span.start // HOP, -(-span.end // HOP)
    cuts = (np.flatnonzero(np.diff(labels[first:last])) + 1 + first) * HOP
    edges = [span.start, *map(int, cuts), span.end]
    return [Span(a, b) for a, b in pairwise(edges)]


def doubt(embeddings: Embeddings, speakers: Speakers, musical: NDArray[np.bool_], n_frames: int) -> NDArray[np.bool_]:
    """Frames (n_frames,) in which two speakers score alike: several talk at once, or a stranger.

    The margin is judged against its median, apart for speech over music, where it is smaller.
    """
    flags = np.zeros(n_frames, bool)
    if speakers.similarity.shape[1] < 2:
        return flags
    ranked = np.sort(speakers.similarity, 1)
    margin = ranked[:, -1] - ranked[:, -2]
    frames = np.minimum(embeddings.centres // HOP, n_frames - 1)
    for over_music in (False, True):
        here = musical[frames] == over_music
        if here.any():
            for frame in frames[here & (margin < DOUBT * np.median(margin[here]))]:
                flags[max(0, frame - STRIDE // 2) : frame + STRIDE // 2] = True
    return flags
