"""The demo's programmes: two invented speakers, a title tune, music under the opening words, pauses."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr

from corpus_builder.audio import Samples
from corpus_builder.demo.music import tune
from corpus_builder.demo.speech import Voice, say

RATE = 44_100
SPEECH_RMS = 0.06
TITLE_S, CLOSING_S = 5.0, 4.0
BED_DB = -9.0  # of the music under the opening words, against the speech


@dataclass(frozen=True, slots=True)
class Programme:
    """One script of scripts.toml."""

    name: str
    title: str
    accent: str
    language: str
    key: int  # MIDI note of the tune's tonic
    beats_per_minute: float
    voices: tuple[Voice, Voice]
    lines: tuple[str, ...]  # spoken in turn, by the first voice first


@dataclass(frozen=True, slots=True)
class Mix:
    """A programme's sound, float32 of shape (n, 2) at 44.1 kHz, and what is where in it, in samples."""

    sound: Samples
    turns: tuple[tuple[int, int, int], ...]  # start, end, voice (0 or 1)
    music: tuple[tuple[int, int], ...]


def scripts() -> list[Programme]:
    """Every programme the demo can make."""
    data: dict[str, Any] = tomllib.loads(files(__package__).joinpath("scripts.toml").read_text("utf-8"))
    return [_programme(**entry) for entry in data["programme"]]


def _programme(voices: list[dict[str, Any]], lines: list[str], **rest: Any) -> Programme:
    first, second = (Voice(**voice) for voice in voices)
    return Programme(voices=(first, second), lines=tuple(lines), **rest)


def mix(programme: Programme) -> Mix:
    """Say and mix a programme; the same programme gives the same sound. Raises PdidError without text to speech."""
    rate, said = say([(programme.voices[number % 2], line) for number, line in enumerate(programme.lines)])
    noise = np.random.default_rng(programme.key)
    title = tune(TITLE_S, RATE, programme.key, programme.beats_per_minute)
    parts: list[Samples] = [title]
    music: list[tuple[int, int]] = [(0, len(title))]
    turns: list[tuple[int, int, int]] = []
    at = len(title)
    for number, line in enumerate(said):
        pause = np.zeros((int(noise.uniform(0.5, 0.9) * RATE), 2), np.float32)
        turn = np.repeat(_level(_trim(soxr.resample(line, rate, RATE)))[:, None], 2, axis=1)
        start = at + len(pause)
        if number == 0:
            bed = tune(len(turn) / RATE, RATE, programme.key, programme.beats_per_minute)
            turn = turn + bed * np.float32(SPEECH_RMS / 0.1 * 10 ** (BED_DB / 20))
            music.append((start, start + len(turn)))
        turns.append((start, start + len(turn), number % 2))
        parts += [pause, turn]
        at = start + len(turn)
    closing = tune(CLOSING_S, RATE, programme.key, programme.beats_per_minute)
    gap = np.zeros((RATE, 2), np.float32)
    music.append((at + len(gap), at + len(gap) + len(closing)))
    sound = np.concatenate([*parts, gap, closing])
    sound += noise.normal(0.0, 10 ** (-66 / 20), sound.shape).astype(np.float32)  # no studio is silent
    return Mix(sound, tuple(turns), tuple(music))


def _trim(said: Samples) -> Samples:
    """Speech without the quiet before and after it, so that its place in the mix is where one hears it."""
    loud = np.flatnonzero(np.abs(said) > 0.01)
    return said[loud[0] : loud[-1] + 1]


def _level(said: Samples) -> Samples:
    return np.asarray(said * (SPEECH_RMS / np.sqrt(np.mean(said**2))), np.float32)


def write(path: Path, programme: Programme) -> None:
    """Write a programme as AAC in an M4A file (44.1 kHz, stereo): beside the target first, then renamed."""
    sound = np.clip(mix(programme).sound, -1.0, 1.0)
    beside = path.with_name(f".{path.name}.part")
    # bitexact: no dates and no library versions in the file, so that its hash is the same every time
    with av.open(str(beside), "w", format="ipod", options={"fflags": "+bitexact"}) as container:
        container.metadata["title"] = programme.title
        stream = container.add_stream("aac", rate=RATE, layout="stereo", bit_rate=128_000)
        for start in range(0, len(sound), RATE):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[start : start + RATE].T), "fltp", "stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.replace(beside, path)
