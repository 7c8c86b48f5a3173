"""Probes on planted truth, CKA against its definition, the reader, the shifts, and what is held apart from what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from asr_experiments.datasets import Split, Utterance, channels, read_sound
from asr_experiments.features import Floats
from asr_experiments.probing.cka import linear_cka
from asr_experiments.probing.ctc import CtcSettings, decoded, needed_steps, read, train_reader
from asr_experiments.probing.features import LogMelLayers, WhisperLayers, hop_of, open_layers, random_twin
from asr_experiments.probing.figures import Control, Place, ProbeSettings
from asr_experiments.probing.linear import INNER_FOLDS, inner_folds, train_probe
from asr_experiments.probing.measure import planted
from asr_experiments.probing.shifts import noisy, shifted, telephone
from asr_experiments.probing.sides import (
    CHANNEL,
    IN,
    NOISE,
    SPEAKER,
    TELEPHONE,
    UNSEEN,
    Fold,
    Item,
    Task,
    accent_task,
    channel_task,
    speaker_task,
    words_task,
)
from asr_experiments.probing.store import Store
from asr_experiments.probing.study import choose, texts_of
from catalog.errors import PdidError, UsageError
from catalog.records import RATE
from catalog.store import open_catalog
from catalog.whisper import Whisper
from tests.catalog_rows import kept, make_result, make_source
from tests.speech import digit_strings, digits_whisper, one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def spoken(test_data: Path) -> list[Floats]:
    """Real speech, in pieces of 1.5 s."""
    paths = sorted((test_data / "clips" / "librispeech").glob("*.flac"))[:12]
    sounds = [read_sound(path) for path in paths]
    size = 3 * RATE // 2
    return [sound[at : at + size] for sound in sounds for at in range(0, min(len(sound), 10 * size) - size, size)]


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return digits_whisper()


# ---------------------------------------------------------------- features


def test_every_layer_gives_the_frames_in_the_sound_and_no_others(spoken: list[Floats], whisper: Whisper) -> None:
    layers = WhisperLayers(whisper, "w")
    assert layers.names == ("convolutions", "block 1", "block 2", "block 3", "block 4")
    assert layers.longest == 8 * RATE
    found = layers.layers(spoken[0])
    assert [one.shape for one in found] == [(75, 128)] * 5
    assert [hop_of(len(one), len(spoken[0])) for one in found] == [320] * 5
    (mel,) = LogMelLayers(whisper.feature_extractor).layers(spoken[0])
    assert mel.shape == (150, 80)
    features = whisper.feature_extractor(spoken[0], sampling_rate=RATE, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        oracle = whisper.model.get_encoder()(features, output_hidden_states=True)
    # transformers' own hidden states: the convolutions', each block's, the last one after the normalisation
    for own, theirs in zip(found, oracle.hidden_states, strict=True):
        np.testing.assert_allclose(own, theirs[0, :75], atol=2e-5)


def test_random_weights_are_others_and_the_same_again(spoken: list[Floats], whisper: Whisper) -> None:
    given = WhisperLayers(whisper, "w")
    before = torch.random.get_rng_state()
    one, again = (random_twin(given, seed=3).layers(spoken[0])[-1] for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(one, again)
    assert abs(np.corrcoef(one.ravel(), given.layers(spoken[0])[-1].ravel())[0, 1]) < 0.3


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path)):
        open_layers(str(tmp_path))


# ---------------------------------------------------------------- shifts


def test_noise_has_the_stated_level(spoken: list[Floats]) -> None:
    clean = spoken[3]
    noise = noisy(clean, 10.0, np.random.default_rng(0)) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(10.0, abs=0.2)
    np.testing.assert_array_equal(shifted(clean, "noise", (1, 2)), shifted(clean, "noise", (1, 2)))
    assert not np.array_equal(shifted(clean, "noise", (1, 2)), shifted(clean, "noise", (1, 3)))
    assert shifted(clean, "clean", 0) is clean


@pytest.mark.parametrize(("hz", "left"), [(100, 0.0), (1000, 1.0), (2500, 1.0), (3900, 0.0), (6000, 0.0)])
def test_the_telephone_keeps_its_band_alone(hz: int, left: float) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32)
    heard = telephone(tone)
    assert heard.shape == tone.shape
    middle = slice(RATE // 4, -RATE // 4)
    assert np.std(heard[middle]) / np.std(tone[middle]) == pytest.approx(left, abs=0.05)
    if left:  # nothing moves in time
        assert np.corrcoef(heard[middle], tone[middle])[0, 1] > 0.999


def test_the_telephone_takes_very_short_sound() -> None:
    assert telephone(np.ones(40, np.float32)).shape == (40,)


# ---------------------------------------------------------------- linear probes


def test_a_probe_finds_what_is_planted_in_every_layer_and_nothing_when_shuffled(
    spoken: list[Floats], whisper: Whisper, tmp_path: Path
) -> None:
    """95 % of a planted linear attribute, chance on shuffled labels: every layer of trained and random weights."""
    given = WhisperLayers(whisper, "w")
    models = (given, random_twin(given), LogMelLayers(whisper.feature_extractor))
    half = len(spoken) // 2
    items = [Item(i, "clean", "") for i in range(len(spoken))]
    task = Task("any", ("",), (Fold(tuple(items[:half]), {IN: tuple(items[half:])}),), ())
    checks: list[Control] = []
    for model in models:
        with Store(len(model.names), tmp_path) as store:
            for i, sound in enumerate(spoken):
                store.add((i, "clean"), model.layers(sound), keep_frames=False)
            for depth, layer in enumerate(model.names):
                checks += planted(Place(model.name, layer, depth), store, task, ProbeSettings(draws=6))
    assert len(checks) == 2 * (5 + 5 + 1)
    assert {one.place.layer for one in checks} == {*given.names, "log-mel"}
    for one in checks:
        if one.kind == "planted":
            assert one.value >= 0.95, one
        else:
            assert abs(one.value - 0.5) <= 0.1, one
    assert np.mean([one.value for one in checks if one.kind == "shuffled"]) == pytest.approx(0.5, abs=0.05)
    assert not list(tmp_path.iterdir()), "the frames' files are gone"


def test_controls_that_come_out_wrong_are_told() -> None:
    place = Place("w", "block 1", 1)
    assert Control(place, "accent", "shuffled", 0.54, 0.001, 0.5).good
    assert not Control(place, "accent", "shuffled", 0.60, 0.02, 0.5).good
    assert Control(place, "accent", "shuffled", 0.60, 0.04, 0.5).good
    assert Control(place, "accent", "planted", 0.95, 0.01, 0.5).good
    assert not Control(place, "accent", "planted", 0.94, 0.01, 0.5).good


def test_a_probe_is_the_same_whether_wide_or_turned() -> None:
    """With more numbers than examples the fit is done in fewer coordinates: the same classes, the same margins."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 12)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    groups = [str(i) for i in range(30)]
    narrow = train_probe(x, y, 2, groups, l2=0.1)
    wide = train_probe(np.tile(x, 4) / 2, y, 2, groups, l2=0.1 * 4)
    # four copies of a number share its weight, so their penalty is a quarter: four times the L2 gives the same fit
    new = rng.standard_normal((50, 12)).astype(np.float32)
    np.testing.assert_array_equal(narrow.predict(new), wide.predict(np.tile(new, 4) / 2))
    np.testing.assert_allclose(wide.weights[:-1].reshape(4, 12, 2).sum(0), narrow.weights[:-1], atol=2e-3)


def test_rare_classes_weigh_as_much_as_common_ones() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [190, 10])
    x = (rng.standard_normal((200, 1)) + 2 * y[:, None]).astype(np.float32)
    probe = train_probe(x, y, 2, [str(i) for i in range(200)], l2=1e-3)
    border = -np.diff(probe.weights[1])[0] / np.diff(probe.weights[0])[0] * probe.scale[0] + probe.mean[0]
    assert border == pytest.approx(1.0, abs=0.35)  # half-way between the classes, not near the rare one


def test_inner_folds_keep_groups_together() -> None:
    y = np.repeat([0, 1], 12)
    groups = [f"s{i % 4}" for i in range(12)] + ["alone"] * 12
    folds = inner_folds(y, groups, 0)
    assert all(len(set(folds[[i for i in range(12) if i % 4 == k]])) == 1 for k in range(4))
    assert set(folds[:12]) == set(range(INNER_FOLDS))
    assert np.bincount(folds[12:]).tolist() == [4, 4, 4]  # one group alone is folded clip by clip


def test_one_class_is_nothing_to_tell_apart() -> None:
    with pytest.raises(UsageError, match="two classes or more to tell apart, got 1"):
        train_probe(np.ones((4, 2), np.float32), np.zeros(4, np.int64), 2, list("abcd"))


def test_a_dead_unit_does_no_harm() -> None:
    x = np.stack([np.full(20, 7.0), np.arange(20) % 2], 1).astype(np.float32)
    y = np.arange(20) % 2
    probe = train_probe(x, y, 2, [str(i) for i in range(20)])
    np.testing.assert_array_equal(probe.predict(x), y)
    assert np.isfinite(probe.weights).all()


# ---------------------------------------------------------------- CKA


def test_cka_is_that_of_its_definition() -> None:
    """Against Gram matrices, as Song et al. write the unbiased HSIC."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 7)).astype(np.float32)
    y = (x[:, :3] @ rng.standard_normal((3, 5)) + rng.standard_normal((40, 5))).astype(np.float32)

    def hsic(a: Floats, b: Floats) -> float:
        k, m = a.astype(float) @ a.T, b.astype(float) @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        n, one = len(k), np.ones(len(k))
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return float((np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert 0.1 < expected < 0.9
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-5)


def test_cka_sees_neither_rotation_nor_scale_nor_place_and_noise_is_alike_to_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 20)).astype(np.float32)
    turn, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    assert linear_cka(x, (3 * x @ turn + 5).astype(np.float32)) == pytest.approx(1.0, abs=1e-4)
    wide = [linear_cka(x, rng.standard_normal((60, 400)).astype(np.float32)) for _ in range(20)]
    assert abs(np.mean(wide)) < 0.05  # the plain estimate is over 0.4 here
    assert linear_cka(x, np.ones((60, 3), np.float32)) == 0.0


def test_cka_needs_the_same_examples() -> None:
    with pytest.raises(PdidError, match="4 examples or more, got 3 and 3"):
        linear_cka(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))


# ---------------------------------------------------------------- the reader


def test_the_reader_learns_to_write_real_digits(test_data: Path, whisper: Whisper) -> None:
    """From the last layer of a Whisper that knows these voices, on digits it was not trained on."""
    layers = WhisperLayers(whisper, "w")
    train = digit_strings(test_data, "jackson", 40, seed=1, test=False, digits=(3, 5))
    test = digit_strings(test_data, "jackson", 8, seed=2, digits=(3, 5))
    frames = [[layers.layers(one.sound)[2] for one in side] for side in (train, test)]
    made = train_reader(frames[0], [one.text for one in train], 320, CtcSettings(epochs=40))
    assert made.too_few == 0
    said = read(made, frames[1])
    assert jiwer.cer([one.text for one in test], said) < 0.35
    again = train_reader(frames[0], [one.text for one in train], 320, CtcSettings(epochs=40))
    assert read(again, frames[1]) == said, "the same seed, the same reader"


@pytest.mark.parametrize(("hop", "n", "steps"), [(160, 399, 100), (320, 200, 100), (640, 100, 100), (2560, 25, 100)])
def test_every_rate_is_brought_to_one(hop: int, n: int, steps: int) -> None:
    """A clip of four seconds makes a hundred steps, whatever its frames."""
    frames = [np.random.default_rng(i).standard_normal((n, 6)).astype(np.float32) for i in range(3)]
    made = train_reader(frames, ["a b"] * 3, hop, CtcSettings(epochs=1))
    assert made.reader.steps(n) == steps
    with torch.inference_mode():
        assert made.reader(torch.from_numpy(np.stack(frames))).shape == (3, steps, 4)


def test_padding_changes_nothing_that_is_read() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.standard_normal((n, 4)).astype(np.float32) for n in (40, 90)]
    made = train_reader(frames, ["ab", "abab"], 320, CtcSettings(epochs=2))
    assert read(made, frames) == [read(made, [one])[0] for one in frames]


def test_decoding() -> None:
    assert decoded([0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 3], "ab ") == "aab"
    assert decoded([1, 3, 0, 3, 2], "ab ") == "a b"
    assert decoded([0, 0], "ab ") == ""
    assert needed_steps("three") == 6


def test_texts_longer_than_their_clips_are_left_out_and_counted() -> None:
    frames = [np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)] * 2
    made = train_reader(frames, ["ab", "aaaaaaaaaa"], 320, CtcSettings(epochs=1))
    assert made.too_few == 1
    with pytest.raises(UsageError, match=r"steps of 0\.04 s \(the first needs 19 and has 10\)"):
        train_reader(frames[:1], ["aaaaaaaaaa"], 320)
    with pytest.raises(UsageError, match="an empty one came"):
        train_reader(frames, ["ab", ""], 320)


# ---------------------------------------------------------------- who is held out


def clips_of(*told: tuple[str, str, Split, int], source: str = "") -> list[Utterance]:
    """(accent, speaker, split, how many) as utterances without sound."""
    return [
        Utterance(f"{speaker}-{split}-{i}{source}", Path("x.wav"), "One, two!", accent, speaker, source or speaker,
                  split, RATE)
        for accent, speaker, split, n in told
        for i in range(n)
    ]  # fmt: skip


def speakers(clips: Sequence[Utterance], items: Sequence[Item]) -> set[str]:
    return {clips[item.clip].speaker for item in items}


def test_accents_are_tested_in_other_voices_each_held_out_in_turn() -> None:
    clips = clips_of(
        *((accent, speaker, side, 2) for accent, speaker in (("USA", "a"), ("USA", "b"), ("German", "c"),
          ("German", "d"), ("Belgian", "e")) for side in ("train", "test")), ("Greek", "g", "test", 2)
    )  # fmt: skip
    task = accent_task(clips)
    assert isinstance(task, Task)
    assert task.classes == ("German", "USA")
    assert [speakers(clips, fold.tests[IN]) for fold in task.folds] == [{"a", "c"}, {"b", "d"}]
    for fold in task.folds:
        assert speakers(clips, fold.train) == set("abcd") - speakers(clips, fold.tests[IN])
        assert {item.sound for item in fold.train} == {"clean"}
        assert {item.sound for item in fold.tests[TELEPHONE]} == {"telephone"}
        assert [i.clip for i in fold.tests[NOISE]] == [i.clip for i in fold.tests[IN]]
    assert "one speaker: Belgian" in task.notes[0]


def test_a_split_that_holds_speakers_out_is_taken_as_it_is() -> None:
    clips = clips_of(("USA", "a", "train", 2), ("USA", "b", "test", 1), ("German", "c", "train", 2),
                     ("German", "d", "test", 1), ("German", "c", "test", 1))  # fmt: skip
    task = accent_task(clips)
    assert isinstance(task, Task)
    (fold,) = task.folds
    assert speakers(clips, fold.train) == {"a", "c"}
    assert speakers(clips, fold.tests[IN]) == {"b", "d"}


def test_one_accent_can_not_be_asked_for() -> None:
    assert accent_task(clips_of(("USA", "a", "train", 2), ("USA", "b", "test", 2))) == (
        "accent: two accents with a speaker to train on and another to test are needed"
    )


def test_speakers_are_known_again_in_other_recordings() -> None:
    clips = [
        clip for speaker in "ab" for source in ("1", "2", "3") for side in ("train",)
        for clip in clips_of(("USA", speaker, side, 2), source=f"{speaker}{source}")
    ]  # fmt: skip
    task = speaker_task(clips, 0)
    assert isinstance(task, Task)
    (fold,) = task.folds
    sources = [{clips[item.clip].source for item in part} for part in (fold.train, fold.tests[IN])]
    assert not sources[0] & sources[1]
    assert speakers(clips, fold.tests[IN]) == {"a", "b"} == set(task.classes)
    assert "from other recordings" in task.notes[0]
    assert task.name == SPEAKER
    single = speaker_task(clips_of(("USA", "a", "train", 9), ("USA", "b", "train", 2)), 0)
    assert single == "speaker: two speakers with 3 clips or more are needed"


def test_channels_are_the_corpus_s_or_planted() -> None:
    clips = clips_of(("USA", "a", "train", 6), ("USA", "b", "test", 3), ("Greek", "g", "test", 2))
    task = channel_task(clips, [None] * len(clips))
    assert isinstance(task, Task)
    (fold,) = task.folds
    assert [item.label for item in fold.train] == ["clean", "noise", "telephone"] * 2
    assert all(item.label == item.sound for item in fold.train)
    assert len(fold.tests[IN]) == 3 * 3
    assert len(fold.tests[UNSEEN]) == 2 * 3
    assert speakers(clips, fold.tests[IN]) == {"b"}
    known = [
        clip for source in ("1", "2", "3", "4")
        for clip in clips_of(("USA", source, "test" if source in "13" else "train", 2), source=source)
    ]  # fmt: skip
    named = channel_task(known, ["tv" if clip.source in "12" else "radio" for clip in known])
    assert isinstance(named, Task)
    assert (named.name, named.classes, named.notes) == (CHANNEL, ("radio", "tv"), ())
    assert {item.sound for item in named.folds[0].train} == {"clean"}


def test_who_published_a_recording_is_read_from_the_corpus(tmp_path: Path) -> None:
    told = {"a" * 16: "Radio Yazd ", "b" * 16: None, "c" * 16: " "}
    with open_catalog(tmp_path, write=True) as catalog:
        for source, channel in told.items():
            catalog.write_source(make_result(kept(0, source), source=make_source(source, channel=channel)))
    assert channels(tmp_path) == {"a" * 16: "Radio Yazd"}


def test_words_say_whose_voices_were_heard_and_leave_empty_texts_out() -> None:
    clips = clips_of(("USA", "a", "train", 3), ("USA", "a", "test", 1), ("Greek", "g", "test", 2))
    texts = ["one two"] * len(clips)
    task = words_task(clips, ["", *texts[1:]])
    assert isinstance(task, Task)
    (fold,) = task.folds
    assert [item.clip for item in fold.train] == [1, 2]
    assert speakers(clips, fold.tests[UNSEEN]) == {"g"}
    assert "all 1 speakers tested are also trained on" in task.notes[0]
    new = words_task([*clips, *clips_of(("USA", "b", "test", 1))], [*texts, "one"])
    assert isinstance(new, Task)
    assert [item.clip for item in new.folds[0].tests[IN]] == [len(clips)]
    assert new.notes == ()
    assert words_task(clips, [""] * len(clips)).startswith("words: transcribed clips")  # type: ignore[union-attr]


def test_texts_are_written_in_one_spelling() -> None:
    clips = clips_of(("USA", "a", "train", 1))
    assert texts_of(clips, "en") == ["one two"]  # as words: English normalisation would write 12
    assert texts_of([replace(clips[0], text="مي‌روم، ۲")], "fa") == ["می روم 2"]
    assert texts_of([replace(clips[0], text="?!")], "en") == [""]


def test_clips_too_short_or_too_long_are_left_out_and_counted(whisper: Whisper) -> None:
    clips = clips_of(("USA", "a", "train", 3), ("USA", "b", "test", 2), ("Greek", "g", "test", 2))
    clips[0] = replace(clips[0], n_samples=RATE // 4)
    clips[1] = replace(clips[1], n_samples=9 * RATE)
    model = LogMelLayers(whisper.feature_extractor)
    chosen, left_out = choose(clips, [model], ProbeSettings(test_clips=1, unseen_clips=1))
    assert left_out == {"shorter than 0.4 s": 1, "longer than the 8 s a model takes": 1}
    assert sorted(clip.speaker for clip in chosen) == ["a", "b", "g"]
    short = [replace(clip, n_samples=100) if clip.split == "test" else clip for clip in clips]
    with pytest.raises(UsageError, match=r"no test clip can be probed: 5 are shorter than 0\.4 s"):
        choose(short, [model], ProbeSettings())
