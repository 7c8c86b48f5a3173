"""The encoder on fewer frames: transformers' own arithmetic at full length, and a shorter model's at any other."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import jiwer
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from asr_experiments.features import log_mel
from catalog.context import context_frames, encode, window_frames
from catalog.errors import PdidError
from catalog.whisper import transcribe, transcribe_features
from tests.speech import SMALL, US, digit_strings, digits_whisper, noise, one_thread, untrained_whisper

__all__ = ["one_thread"]


@pytest.mark.parametrize("training", [False, True])
def test_at_full_length_it_is_transformers_bit_for_bit(training: bool) -> None:
    model = untrained_whisper().model.train(training)
    features = torch.randn(3, 80, window_frames(model))
    torch.manual_seed(1)  # dropout
    ours = encode(model, features)
    torch.manual_seed(1)
    assert torch.equal(ours, model.get_encoder()(features).last_hidden_state)


@pytest.mark.parametrize("frames", [2, 100, 398])
def test_on_fewer_frames_it_is_a_model_made_for_that_length(frames: int) -> None:
    model = untrained_whisper().model
    shorter = copy.deepcopy(model)
    encoder = shorter.get_encoder()
    shorter.config.max_source_positions = encoder.config.max_source_positions = frames // 2
    encoder.embed_positions = nn.Embedding.from_pretrained(model.get_encoder().embed_positions.weight[: frames // 2])
    features = torch.randn(2, 80, frames)
    assert torch.equal(encode(model, features), encoder(features).last_hidden_state)


@pytest.mark.parametrize("frames", [0, 101, 402, 3000])
def test_other_numbers_of_frames_are_refused(frames: int) -> None:
    with pytest.raises(PdidError, match="even number of frames up to 400"):
        encode(untrained_whisper().model, torch.zeros(1, 80, frames))


MODEL = untrained_whisper(settings=replace(SMALL, window_s=2)).model


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_the_context_holds_the_longest_clip_and_no_more(n_valid: list[int]) -> None:
    assert context_frames(MODEL, n_valid, "full") == 200
    frames = context_frames(MODEL, n_valid, "auto")
    assert frames % 2 == 0
    assert max(n_valid) <= frames <= min(200, max(n_valid) + 22)


def test_decoding_on_the_longest_clips_frames_is_that_of_sound_as_long_as_the_window() -> None:
    """Where a clip fills the window, both contexts are one."""
    whisper = untrained_whisper()
    sounds = [noise(4.0), noise(4.0, seed=1)]
    assert transcribe(whisper, sounds, "en", context="auto") == transcribe(whisper, sounds, "en", context="full")


def test_digits_are_understood_on_their_own_frames_too(test_data: Path) -> None:
    whisper = digits_whisper()
    spoken = digit_strings(test_data, US[0], 8)
    said = transcribe(whisper, [one.sound for one in spoken], "en", context="auto")
    assert jiwer.wer([one.text for one in spoken], [one.text for one in said]) <= 0.15


def test_features_and_sound_give_the_same_words() -> None:
    whisper = untrained_whisper()
    sounds = [noise(1.0), noise(2.5, seed=1)]
    mels = [log_mel(sound, whisper.feature_extractor) for sound in sounds]
    for context in ("full", "auto"):
        assert transcribe_features(whisper, mels, "en", context=context) == transcribe(
            whisper, sounds, "en", context=context
        )
