"""The mini Whisper: an ordinary Whisper's folder, made of a few clips, and it begins to learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr_experiments.mini import (
    MiniSettings,
    Strings,
    fitting_window,
    new_whisper,
    obtain_mini,
    train_mini,
    train_tokenizer,
)
from catalog.errors import PdidError, UsageError
from catalog.records import RATE
from catalog.whisper import load_whisper, prompt_tokens, transcribe
from catalog.whisper_files import what_is_wrong
from tests.speech import WORDS, noise, one_thread

__all__ = ["one_thread"]

TINY = MiniSettings(
    width=32,
    encoder_layers=1,
    decoder_layers=1,
    window_s=2,
    n_tokens=270,
    max_tokens=60,
    updates=4,
    batch_size=4,
    warmup=2,
)
PERSIAN = ["سلام دنیا", "می‌روم خانه", "پنج شش هفت"]


@dataclass(frozen=True, slots=True)
class Clip:
    path: Path
    text: str
    speaker: str
    n_samples: int


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Half seconds of noise by two speakers, with Persian words to them."""
    made = []
    for i in range(8):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, noise(0.4 + i / 20, seed=i), RATE)
        made.append(Clip(path, PERSIAN[i % 3], "ab"[i % 2], round((0.4 + i / 20) * RATE)))
    return made


TOKENIZER = train_tokenizer(PERSIAN, "fa", 300)


@given(st.text(min_size=1, max_size=40))
def test_any_text_can_be_written_with_its_tokens(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    if "<|" not in text:
        assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_the_special_tokens_come_last_and_in_whispers_order() -> None:
    ids = TOKENIZER.get_vocab()
    special = [token for token, _ in sorted(ids.items(), key=lambda pair: pair[1]) if token.startswith("<|")]
    assert special[:3] == ["<|endoftext|>", "<|startoftranscript|>", "<|en|>"]
    assert special[-6:] == [
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    assert TOKENIZER.decode(TOKENIZER("سلام")["input_ids"]).startswith("<|startoftranscript|><|fa|><|transcribe|>")
    assert sorted(ids.values()) == list(range(len(ids))), "no id is free or used twice"
    assert len(TOKENIZER(" سلام", add_special_tokens=False)["input_ids"]) < len(" سلام".encode())


def test_the_default_has_a_million_and_a_half_weights_and_eight_seconds() -> None:
    whisper = new_whisper(MiniSettings(), TOKENIZER)
    assert 1.3e6 < sum(weight.numel() for weight in whisper.model.parameters()) < 1.7e6
    assert whisper.window_s == 8
    assert whisper.tokenizer.convert_ids_to_tokens(prompt_tokens(whisper, "Persian"))[1] == "<|fa|>"


def test_it_is_saved_as_an_ordinary_whisper_and_found_again(clips: list[Clip], tmp_path: Path) -> None:
    steps: list[int] = []
    made = train_mini(clips, "Persian", tmp_path / "cache", TINY, hook=lambda step, total, loss: steps.append(step))
    assert steps == [1, 2, 3, 4]
    assert len(made.losses) == 4
    assert what_is_wrong(made.folder) is None
    whisper = load_whisper(made.folder)
    assert (whisper.languages, whisper.window_s) == (("fa",), 2)
    assert not any("ctc" in name for name, _ in whisper.model.named_parameters())
    assert len(transcribe(whisper, [noise(3.0)], "fa")) == 1
    again = train_mini(list(clips), "fa", tmp_path / "cache", TINY)
    assert (again.folder, again.losses) == (made.folder, ())
    renamed = [*clips[:-1], replace(clips[-1], text="چیز دیگر")]
    assert train_mini(renamed, "fa", tmp_path / "cache", TINY).folder != made.folder
    other = train_mini(clips, "fa", tmp_path / "cache", replace(TINY, seed=1))
    assert other.folder != made.folder
    twin = train_mini(clips, "fa", tmp_path / "elsewhere", TINY)
    assert (twin.folder / "model.safetensors").read_bytes() == (made.folder / "model.safetensors").read_bytes()


def test_what_cannot_be_trained_on_is_a_clear_error(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no language 'Klingon'"):
        train_mini(clips, "Klingon", tmp_path, TINY)
    silent = [replace(clip, text=" ") for clip in clips]
    with pytest.raises(PdidError, match="none of 8 clips"):
        train_mini(silent, "fa", tmp_path, TINY)
    with pytest.raises(PdidError, match="nothing to train"):
        obtain_mini([], "fa", tmp_path, print)
    wordy = [replace(clip, text=clip.text * 20) for clip in clips]
    with pytest.raises(PdidError, match="more than 55 tokens"):
        train_mini(wordy, "fa", tmp_path, TINY)
    with pytest.raises(PdidError, match=r"the loss is (nan|inf)"):
        train_mini(clips, "fa", tmp_path, replace(TINY, learning_rate=1e30, updates=3))


def test_the_window_fits_nearly_all_clips(clips: list[Clip]) -> None:
    assert fitting_window(clips) == 8
    assert fitting_window([replace(clip, n_samples=11 * RATE + 1) for clip in clips]) == 12
    assert fitting_window([replace(clip, n_samples=90 * RATE) for clip in clips]) == 30


def test_strings_grow_are_of_one_speaker_and_fit(clips: list[Clip]) -> None:
    strings = Strings(clips, 2 * RATE)
    rng = np.random.default_rng(0)
    lengths = {}
    for done in (0.0, 0.3, 1.0):
        drawn = [strings.draw(done, rng) for _ in range(60)]
        assert all(0 < len(sound) <= 2 * RATE for sound, _ in drawn)
        lengths[done] = np.mean([len(sound) for sound, _ in drawn])
        for _, text in drawn:
            said = text
            for known in PERSIAN:
                said = said.replace(known, "")
            assert not said.strip(), "whole texts, joined by spaces"
    assert lengths[0.0] < lengths[0.3] < lengths[1.0]


def test_it_begins_to_learn_digits(test_data: Path, tmp_path: Path) -> None:
    """Real speech: the digits' order is random, so a loss well under the wordlist's entropy comes from listening."""
    clips = []
    for digit in range(4):
        for take in range(5, 45):
            path = test_data / "clips" / "fsdd" / f"{digit}_theo_{take}.wav"
            clips.append(Clip(path, WORDS[digit], "theo", 2 * soundfile.info(path).frames))
    chosen = replace(TINY, width=64, encoder_layers=2, updates=160, batch_size=8, warmup=20, learning_rate=2e-3)
    losses = train_mini(clips, "en", tmp_path, chosen).losses
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])
    assert torch.isfinite(torch.tensor(losses)).all()
