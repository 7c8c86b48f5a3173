"""Subtitles: SubRip (.srt) and WebVTT (.vtt), read by webvtt-py.

Stored is what is said: tags of style, voice and time (<i>, <v Ali>, <00:00:01.200>, {\\an8}) are taken out and WebVTT's
&amp; and its like become the characters they stand for; everything else stays as it is, line breaks as spaces.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from catalog.errors import UsageError
from catalog.records import RATE
from corpus_builder.tables import read_text

ENDINGS = (".srt", ".vtt")

_TIMING = re.compile(
    r"\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})\s*-->\s*(?:\d+:)?\d{1,2}:\d{1,2}[.,]\d{1,3}(?!\d)"
)
_STYLE = re.compile(r"\{\\[^}]*\}")  # SubStation's, which many .srt files carry
_LANGUAGE = re.compile(r"\.([a-z]{2,3}(?:-[A-Za-z0-9]+)*)$")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: the line of its times in the file, when it is shown, and its lines of text."""

    line: int
    start: int  # samples at 16 kHz
    end: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """Its lines, joined by spaces."""
        return " ".join(self.lines)


def read_subtitles(path: Path) -> list[Cue]:
    """The cues of a .srt or .vtt file in order of time, those without text left out.

    Of captions that roll, where each cue repeats the last line of the one before (YouTube's automatic ones), each
    line is given once, at the cue it first appears in. Raises UsageError, with the line, for what is no such file,
    a time that can't be read, an end before its start, and a file that says nothing.
    """
    from webvtt import WebVTT
    from webvtt.errors import MalformedCaptionError, MalformedFileError

    text = read_text(path)
    kind = path.suffix.lower().removeprefix(".")
    numbers = _timing_lines(text, path)
    lines = text.lstrip("\n\r ").splitlines()
    try:
        captions = WebVTT.from_buffer(lines, format=kind).captions
    except (MalformedFileError, MalformedCaptionError) as error:
        start = "the line WEBVTT" if kind == "vtt" else "a number and a line of times"
        raise UsageError(f"{path} is no .{kind} file: expected {start} at its beginning ({error})") from None
    cues = []
    at = iter(numbers)
    for caption in captions:
        start_ms, end_ms = caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds()
        line = next((number for number, found in at if found == start_ms), numbers[-1][0])
        if end_ms < start_ms:
            raise UsageError(f"{path}, line {line}: the text ends before it begins ({caption.start} --> {caption.end})")
        said = tuple(filter(None, (_plain(part, kind) for part in caption.text.splitlines())))
        if said and end_ms > start_ms:
            cues.append(Cue(line, start_ms * RATE // 1000, end_ms * RATE // 1000, said))
    if not cues:
        raise UsageError(f"{path} has no subtitle with text in it")
    return list(_once(sorted(cues, key=lambda cue: (cue.start, cue.end, cue.line))))


def name_and_language(path: Path) -> tuple[str, str | None]:
    """The recording's name and the language that a subtitle file's name holds, as yt-dlp writes it.

    `talk.fa.vtt` is about `talk.mp4` (or .webm, .m4a …), in Persian; `talk.srt` says no language; `talk.en-orig.vtt`
    are captions in the language of the recording.
    """
    if found := _LANGUAGE.search(path.stem):
        return path.stem[: found.start()], found[1].split("-")[0]
    return path.stem, None


def _timing_lines(text: str, path: Path) -> list[tuple[int, int]]:
    """Number and start in milliseconds of each line of times; one that can't be read would lose its text silently."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if "-->" in line:
            match = _TIMING.match(line)
            if not match:
                raise UsageError(
                    f"{path}, line {number}: {line.strip()!r} are no times: write 00:01:02,500 --> 00:01:04,000"
                )
            hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
            thousandths = int(match[4].ljust(3, "0")) if path.suffix.lower() == ".vtt" else int(match[4])
            found.append((number, ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths))
    if not found:
        raise UsageError(f"{path} has no line of times (00:01:02,500 --> 00:01:04,000): is it a subtitle file?")
    return found


def _plain(line: str, kind: str) -> str:
    line = _STYLE.sub("", line)
    return " ".join((html.unescape(line) if kind == "vtt" else re.sub(r"</?[a-zA-Z][^>]*>", "", line)).split())


def _once(cues: Sequence[Cue]) -> Iterator[Cue]:
    """The cues without the lines that only stay on the screen, where the captions roll."""
    repeats = [_repeated(before, cue) for before, cue in pairwise(cues)]
    if sum(n > 0 for n in repeats) * 2 < len(cues) or len(cues) < 3:
        yield from cues
        return
    yield cues[0]
    for cue, n in zip(cues[1:], repeats, strict=True):
        if n < len(cue.lines):
            yield replace(cue, lines=cue.lines[n:])


def _repeated(before: Cue, cue: Cue) -> int:
    """How many of a cue's first lines are the last ones of the cue right before it."""
    if cue.start > before.end + RATE // 20:
        return 0
    most = min(len(before.lines), len(cue.lines))
    return next((n for n in range(most, 0, -1) if before.lines[-n:] == cue.lines[:n]), 0)
