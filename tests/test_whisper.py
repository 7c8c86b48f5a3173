"""Whisper: where it is found, what is said of one that isn't there, and what it transcribes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_experiments.checkpoint import save_whisper
from asr_experiments.mini import new_whisper, train_tokenizer
from catalog import hub
from catalog.errors import PdidError, UsageError
from catalog.records import RATE
from catalog.whisper import (
    HOP,
    Whisper,
    check_language,
    detect_language,
    load_whisper,
    prompt_tokens,
    quiet_windows,
    transcribe,
)
from catalog.whisper_files import download_whisper, find_whisper, obtain_whisper, whisper_name, whisper_repo
from tests.speech import SMALL, US, WORDS, digit_strings, digits_whisper, noise, one_thread, untrained_whisper

__all__ = ["one_thread"]

COMMIT = "b" * 40


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Whisper's folder."""
    return save_whisper(untrained_whisper(), tmp_path_factory.mktemp("models") / "whisper-small")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No models and no network; returns the Hugging Face cache."""
    from huggingface_hub import constants

    monkeypatch.delenv("PDID_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize(
    ("model", "repo", "name"),
    [
        ("small", "openai/whisper-small", "whisper-small"),
        ("tiny.en", "openai/whisper-tiny.en", "whisper-tiny.en"),
        ("whisper-large-v3", "openai/whisper-large-v3", "whisper-large-v3"),
        ("openai/whisper-base", "openai/whisper-base", "whisper-base"),
        ("someone/whisper-fa", "someone/whisper-fa", "someone/whisper-fa"),
    ],
)
def test_a_size_a_name_and_a_repository_say_which_model(model: str, repo: str, name: str) -> None:
    assert (whisper_repo(model), whisper_name(model)) == (repo, name)


def test_a_folder_comes_before_pdid_models_and_that_before_the_cache(
    saved: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_whisper("small") is None
    place = bare / "models--openai--whisper-small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.copytree(saved, place / "snapshots" / COMMIT)
    for model in ("small", "whisper-small", "openai/whisper-small"):
        found = find_whisper(model)
        assert found is not None
        assert (found.name, found.origin) == ("whisper-small", "Hugging Face cache")
    monkeypatch.setenv("PDID_MODELS", str(saved.parent))
    found = find_whisper("small")
    assert found is not None
    assert (found.folder, found.origin) == (saved, "$PDID_MODELS")
    other = shutil.copytree(saved, tmp_path / "mine")
    found = find_whisper(str(other))
    assert found is not None
    assert (found.name, found.folder, found.origin) == ("mine", other, "given path")


def test_the_version_is_the_weights_own_hash(saved: Path) -> None:
    assert load_whisper(saved).version == (
        f"whisper-small {hashlib.sha256((saved / 'model.safetensors').read_bytes()).hexdigest()[:8]}"
    )


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_text(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without("config.json"), "no config.json"),
        (with_text("config.json", "{"), "no JSON object"),
        (with_text("config.json", "[]"), "no JSON object"),
        (with_text("config.json", '{"model_type": "bert"}'), "type 'bert', expected 'whisper'"),
        (without("model.safetensors"), "no weights"),
        (without("tokenizer.json"), "no tokenizer"),
        (without("preprocessor_config.json"), "no feature extractor"),
    ],
)
def test_a_folder_that_is_no_whisper_is_said_so(
    damage: Callable[[Path], None],
    reason: str,
    saved: Path,
    bare: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(saved, tmp_path / "whisper-small")
    damage(folder)
    with pytest.raises(UsageError, match=reason):
        load_whisper(folder)
    monkeypatch.setenv("PDID_MODELS", str(tmp_path))
    with pytest.raises(PdidError, match=reason):
        obtain_whisper("small")


def test_weights_in_several_files_are_all_needed(saved: Path, bare: Path, tmp_path: Path) -> None:
    folder = save_whisper(untrained_whisper(), tmp_path / "parts")
    whole = load_whisper(folder).model.state_dict()
    (folder / "model.safetensors").unlink()
    load_whisper(saved).model.save_pretrained(folder, max_shard_size="100KB")
    found = find_whisper(str(folder))
    assert found is not None
    assert len(found.files) > 2
    again = load_whisper(folder).model.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())
    found.files[-1].unlink()
    with pytest.raises(UsageError, match=f"lacks {found.files[-1].name}"):
        load_whisper(folder)


def test_damaged_weights_are_a_clear_error(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PdidError, match="can't be loaded"):
        load_whisper(folder)


def test_files_of_two_models_do_not_go_together(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "mixed")
    settings_file = folder / "preprocessor_config.json"
    told = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps(told | {"chunk_length": 30, "n_samples": 480000, "nb_max_frames": 3000}))
    with pytest.raises(PdidError, match=r"takes 64000 samples .* gives 480000"):
        load_whisper(folder)


def test_a_missing_model_says_where_it_was_sought_and_what_to_do(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PdidError) as offline:
        load_whisper("whisper-base")
    for word in ("'whisper-base'", "$PDID_MODELS (not set)", "HF_HUB_OFFLINE", "pdid models fetch whisper-base"):
        assert word in str(offline.value)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "is_reachable", lambda address: False)
    with pytest.raises(PdidError, match="can't be reached from this machine"):
        load_whisper("whisper-base")
    with pytest.raises(UsageError, match="no model folder"):
        load_whisper("./whisper-base")


def test_of_the_weights_on_the_hub_only_the_best_are_brought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fake hub, to see what is asked of it: one file, several behind an index, or none but pickled ones."""
    asked: list[list[str]] = []
    there: set[str] = set()

    def download(repo: str, patterns: list[str], folder: Path | None) -> Path:
        asked.append(list(patterns))
        for name in there & set(patterns):
            (tmp_path / name).write_text("")
        return tmp_path

    monkeypatch.setattr(hub, "download", download)
    there = {"model.safetensors"}
    download_whisper("a/b", None)
    assert asked == [["*.json", "*.txt", "model.safetensors"]]
    (tmp_path / "model.safetensors").unlink()
    there = set()
    download_whisper("a/b", None)
    assert asked[-1] == ["pytorch_model.bin"]
    index = {"weight_map": {"x": "model-00002-of-00002.safetensors", "y": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    download_whisper("a/b", None)
    assert asked[-1] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


# ---------------------------------------------------------------- languages


def test_the_language_is_given_by_code_or_name_and_must_be_known() -> None:
    whisper = untrained_whisper()
    assert whisper.languages == ("en",)
    for name in ("en", "EN", "English", " english "):
        assert check_language(whisper, name) == "en"
    for name in ("fa", "Persian", "xx", ""):
        with pytest.raises(UsageError, match="it knows en"):
            check_language(whisper, name)
    with pytest.raises(UsageError, match="--language"):
        check_language(whisper, None)
    tokens = whisper.tokenizer.convert_ids_to_tokens(prompt_tokens(whisper, "en"))
    assert tokens == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]


def english_only() -> Whisper:
    """Made as OpenAI's `.en` models are: told neither language nor task."""
    whisper = untrained_whisper()
    whisper.model.generation_config.is_multilingual = False
    return whisper


def test_an_english_only_model_takes_english_without_a_token_for_it() -> None:
    whisper = english_only()
    assert whisper.languages == ("en",)
    assert whisper.tokenizer.convert_ids_to_tokens(prompt_tokens(whisper, "en")) == [
        "<|startoftranscript|>",
        "<|notimestamps|>",
    ]
    sounds = [noise(1.0)]
    assert transcribe(whisper, sounds, None) == transcribe(whisper, sounds, "English")
    assert detect_language(whisper, sounds) == [("en", 1.0)]
    with pytest.raises(UsageError, match="does not know the language 'fa'"):
        transcribe(whisper, sounds, "fa")


def test_languages_are_told_apart_by_their_tokens_probability() -> None:
    whisper = digits_whisper()
    sounds = [noise(1.0), noise(3.0, seed=1), np.zeros(RATE, np.float32)]
    features = whisper.feature_extractor(sounds, sampling_rate=RATE, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        ids = whisper.model.detect_language(input_features=features, num_segment_frames=800).tolist()
    found = detect_language(whisper, sounds, batch_size=2)
    assert [f"<|{language}|>" for language, _ in found] == whisper.tokenizer.convert_ids_to_tokens(ids)
    assert all(0.5 <= chance <= 1 for _, chance in found), "of two languages the likelier"


def test_an_old_folder_without_the_languages_in_its_generation_config(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "old")
    whole = json.loads((folder / "generation_config.json").read_text())
    dropped = ("lang_to_id", "task_to_id", "is_multilingual", "no_timestamps_token_id", "max_length")
    old = {name: value for name, value in whole.items() if name not in dropped}
    (folder / "generation_config.json").write_text(json.dumps(old))
    config = load_whisper(folder).model.generation_config
    for name in dropped[1:]:
        assert getattr(config, name) == whole[name], name
    assert config.lang_to_id["<|en|>"] == whole["lang_to_id"]["<|en|>"]
    assert len(config.lang_to_id) >= 99, "every language that the tokenizer has"


# ---------------------------------------------------------------- transcribing


def test_digits_are_understood_and_batches_change_nothing(test_data: Path) -> None:
    whisper = digits_whisper()
    spoken = [one for speaker in US for one in digit_strings(test_data, speaker, 6)]
    sounds = [one.sound for one in spoken]
    said = transcribe(whisper, sounds, "en", batch_size=5)
    assert jiwer.wer([one.text for one in spoken], [one.text for one in said]) <= 0.12
    alone = [transcribe(whisper, [sound], "en")[0] for sound in sounds]
    assert [one.text for one in said] == [one.text for one in alone]
    assert np.allclose([one.logprob for one in said], [one.logprob for one in alone], atol=1e-4)
    assert all(one.n_tokens == len(one.text.split()) + 1 and not one.cut_off for one in said)


def test_the_confidence_is_the_mean_of_the_log_probabilities_that_generate_gives(test_data: Path) -> None:
    whisper = digits_whisper()
    sound = digit_strings(test_data, "george", 1)[0].sound
    features = whisper.feature_extractor([sound], sampling_rate=RATE, return_tensors="pt")["input_features"]
    told = whisper.model.generate(
        features, language="en", task="transcribe", output_scores=True, return_dict_in_generate=True
    )
    scores = torch.stack(told.scores).log_softmax(-1)[:, 0]
    (said,) = transcribe(whisper, [sound], "en")
    assert said.n_tokens == len(scores)
    assert said.logprob == pytest.approx(scores.max(-1).values.mean().item(), abs=1e-4)
    assert said.text == whisper.tokenizer.decode(told.sequences[0], skip_special_tokens=True).strip()


def test_a_model_that_does_not_stop_is_stopped_at_its_limit() -> None:
    whisper = untrained_whisper()
    whisper.model.model.decoder.embed_tokens.weight.data[whisper.model.config.eos_token_id] *= -50
    (said,) = transcribe(whisper, [noise(1.0)], "en")
    assert said.cut_off
    assert said.n_tokens == whisper.model.config.max_target_positions - 4


def test_long_sound_is_heard_in_windows(test_data: Path) -> None:
    whisper = digits_whisper()
    spoken = digit_strings(test_data, US[0], 6)
    gap = np.zeros(RATE // 2, np.float32)
    sound = np.concatenate([part for one in spoken for part in (one.sound, gap)])
    said, short = transcribe(whisper, [sound, spoken[0].sound], "en")
    assert len(sound) > 3 * whisper.window_s * RATE
    assert jiwer.wer(" ".join(one.text for one in spoken), said.text) <= 0.15
    assert said.n_tokens > 40
    assert short.text == transcribe(whisper, [spoken[0].sound], "en")[0].text


def test_nothing_to_hear_is_no_error() -> None:
    whisper = untrained_whisper()
    assert transcribe(whisper, [], "en") == []
    assert len(transcribe(whisper, [np.zeros(0, np.float32), np.zeros(5, np.float32)], "en")) == 2


@settings(deadline=None)
@given(st.integers(0, 20 * RATE), st.integers(RATE, 5 * RATE), st.integers(0, 2**32))
def test_windows_tile_the_sound_and_none_is_too_long_or_tiny(n: int, window: int, seed: int) -> None:
    spans = quiet_windows(np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32), window)
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == n
    assert all(len(span) <= window for span in spans)
    assert len(spans) == 1 or all(len(span) >= window // 4 for span in spans)


@given(st.integers(420, 760), st.integers(30, 100))
def test_a_pause_in_the_second_half_of_a_window_is_where_it_ends(at: int, length: int) -> None:
    """`at` and `length` in frames of 10 ms; the window is 8 s of a sound of 14 s."""
    sound = noise(14.0)
    sound[at * HOP : (at + length) * HOP] = 0
    first = quiet_windows(sound, 8 * RATE)[0]
    assert at * HOP <= first.end <= (at + length) * HOP


# ---------------------------------------------------------------- saving


def test_a_saved_model_says_the_same(saved: Path, tmp_path: Path) -> None:
    whisper = load_whisper(saved)
    again = load_whisper(save_whisper(whisper, tmp_path / "again"))
    assert again.version.split()[1] == whisper.version.split()[1]
    assert transcribe(again, [noise(1.0)], "en") == transcribe(whisper, [noise(1.0)], "en")
    torch.manual_seed(7)
    other = new_whisper(SMALL, train_tokenizer(WORDS, "en", SMALL.n_tokens))
    replaced = load_whisper(save_whisper(other, tmp_path / "again"))
    assert replaced.version != again.version
    assert not list(tmp_path.glob(".*")), "nothing is left beside"
