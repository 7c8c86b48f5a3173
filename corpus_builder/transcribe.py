"""Transcribing the clips of a corpus with a Whisper, a commit at a time, so that it can be stopped and gone on with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from catalog.annotations import write_transcripts
from catalog.errors import PdidError
from catalog.records import RATE, Transcript
from catalog.store import Clip, open_catalog
from catalog.texts import untranscribed
from catalog.whisper import Floats, Hypothesis, Whisper, check_language, transcribe
from corpus_builder.audio import read_clip
from corpus_builder.scripts import contradicts

COMMIT_WAIT_S = 600.0
"""Seconds finished work waits for whoever holds the catalog."""

BATCHES = 4
"""Batches to a commit. The clips of a commit are sorted by length, so that a batch's are alike."""

COMPRESSION = 2.4
"""A text that zlib makes smaller than its UTF-8 bytes by more than this factor repeats itself: the threshold of
OpenAI's Whisper (`transcribe`, compression_ratio_threshold; Radford et al., arXiv 2212.04356, section 4.5)."""

REPEATS = 5
"""The same words so many times in a row are a loop. Compression can't tell in texts as short as a clip's; and five
random digits are the same once in ten thousand."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model made of a clip, committed; or why the clip could not be transcribed."""

    clip: Clip
    transcript: Transcript | None
    error: str | None = None


def transcribe_corpus(
    corpus: Path, whisper: Whisper, language: str | None, watch: Callable[[float, float], None]
) -> Iterator[Heard]:
    """Transcribe the kept clips that this model has not transcribed in this language; yield each once committed.

    `watch` is called with the seconds of sound done and those to be done. A clip whose file is missing or damaged is
    yielded with its error, and the rest goes on. Raises UsageError for a language the model does not know.
    """
    code = check_language(whisper, language)
    spoken = code or "en"  # an English-only model is told none
    with open_catalog(corpus) as catalog:
        clips = untranscribed(catalog, whisper.version, spoken)
    total, done = seconds(clips), 0.0
    batch_size = 8 if whisper.device.type == "cpu" else 32
    watch(done, total)
    for first in range(0, len(clips), BATCHES * batch_size):
        chunk = clips[first : first + BATCHES * batch_size]
        sounds, failed = _read(corpus, chunk)
        heard = transcribe(
            whisper,
            [sound for _, sound in sounds],
            code,
            batch_size=batch_size,
            hear_language=True,
            progress=lambda share, done=done, chunk=chunk: watch(done + share * seconds(chunk), total),  # type: ignore[misc]
        )
        now = datetime.now(UTC)
        said = [_transcript(clip, h, whisper, spoken, now) for (clip, _), h in zip(sounds, heard, strict=True)]
        with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
            write_transcripts(catalog, said)
        done += seconds(chunk)
        watch(done, total)
        yield from (Heard(clip, text) for (clip, _), text in zip(sounds, said, strict=True))
        yield from failed


def seconds(clips: Sequence[Clip]) -> float:
    """Seconds of sound in clips."""
    return sum(clip.end - clip.start for clip in clips) / RATE


def loops(text: str) -> bool:
    """Whether a text repeats itself as a Whisper does that has lost its way (see COMPRESSION and REPEATS)."""
    data = text.encode()
    if data and len(data) / len(zlib.compress(data)) > COMPRESSION:
        return True
    words = text.split()
    for n in range(1, len(words) // REPEATS + 1):
        run = 0  # words in a row that are the same as the one n before
        for before, word in zip(words, words[n:], strict=False):
            run = run + 1 if before == word else 0
            if run >= n * (REPEATS - 1):
                return True
    return False


def _transcript(clip: Clip, heard: Hypothesis, whisper: Whisper, language: str, now: datetime) -> Transcript:
    flags = []
    if heard.cut_off or loops(heard.text):
        flags.append("loop")
    if heard.heard != language or contradicts(heard.text, language):
        flags.append("language")
    return Transcript(
        clip.source_id, clip.start, clip.end, heard.text, f"model:{whisper.name}", now, language, whisper.version,
        math.exp(heard.logprob), tuple(flags),
    )  # fmt: skip


def _read(corpus: Path, clips: Sequence[Clip]) -> tuple[list[tuple[Clip, Floats]], list[Heard]]:
    """The clips with their sound, float32 (n,) at 16 kHz, and those that can't be read."""
    sounds: list[tuple[Clip, Floats]] = []
    failed: list[Heard] = []
    for clip in clips:
        try:
            sounds.append((clip, read_clip(corpus / clip.path)))
        except PdidError as error:
            failed.append(Heard(clip, None, str(error)))
    return sounds, failed
