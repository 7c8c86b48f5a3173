"""Small Whispers and spoken strings of digits for the tests of training and transcribing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from asr_experiments.features import Floats, MelArrays, Shape, log_mel
from asr_experiments.mini import MiniSettings, new_whisper, train_tokenizer
from asr_experiments.training_set import TrainingSet, training_set
from catalog.records import RATE
from catalog.whisper import HOP, Whisper, load_whisper

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
US, GERMAN, GREEK = ("jackson", "theo"), ("lucas", "yweweler"), "george"
SMALL = MiniSettings(width=32, encoder_layers=2, decoder_layers=1, window_s=4, n_tokens=300, max_tokens=64)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A string of digits: mono float32 (n,) at 16 kHz, and what is said."""

    sound: Floats
    text: str


def digit_strings(
    test_data: Path, speaker: str, n: int, *, seed: int = 0, test: bool = True, digits: tuple[int, int] = (6, 9)
) -> list[Spoken]:
    """Strings of one speaker's digits, from the official test takes or from the others; the same on every call."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        parts, words = [], []
        for digit in rng.integers(0, 10, rng.integers(digits[0], digits[1] + 1)):
            take = rng.integers(0, 5) if test else rng.integers(5, 50)
            clip, rate = soundfile.read(test_data / "clips" / "fsdd" / f"{digit}_{speaker}_{take}.wav", dtype="float32")
            gap = np.zeros(int(RATE * rng.uniform(0.05, 0.25)), np.float32)
            parts += [soxr.resample(clip, rate, RATE).astype(np.float32), gap]
            words.append(WORDS[digit])
        sound = np.concatenate(parts[:-1])
        made.append(Spoken(sound + rng.normal(0, 3e-4, len(sound)).astype(np.float32), " ".join(words)))
    return made


def digits_whisper() -> Whisper:
    """The small trained Whisper of `$PDID_MODELS`; the test is skipped where it is not there."""
    folder = Path(os.environ.get("PDID_MODELS") or "not set") / "whisper-digits"
    if not folder.is_dir():
        pytest.skip(f"no model: {folder} is not there")
    return load_whisper(folder.absolute(), device="cpu")


def untrained_whisper(seed: int = 0, settings: MiniSettings = SMALL, languages: tuple[str, ...] = ("en",)) -> Whisper:
    """A very small Whisper with random weights that can write digits."""
    torch.manual_seed(seed)
    return new_whisper(settings, train_tokenizer(WORDS, languages[0], settings.n_tokens))


def noise(seconds: float, seed: int = 0) -> Floats:
    """White noise, float32 (n,)."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def training_material(whisper: Whisper, spoken: list[Spoken]) -> TrainingSet:
    """Strings as something to train on, in memory."""
    extractor = whisper.feature_extractor
    shape = Shape(80, int(extractor.nb_max_frames), HOP)
    mels = MelArrays([log_mel(one.sound, extractor) for one in spoken], shape)
    lengths = [(mels[i][1], len(one.sound)) for i, one in enumerate(spoken)]
    return training_set(whisper, mels, [one.text for one in spoken], "en", lengths)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread in torch: networks as small as these are slower on several, and by far where others compute too.

    For every test of a module that imports this.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
