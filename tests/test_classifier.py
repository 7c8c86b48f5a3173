"""The accent classifier: its shape, that it learns, that seeds repeat, what it refuses, and its controls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_experiments.classifier import (
    AccentCnn,
    Classifier,
    ClassifierSettings,
    crop,
    evaluate,
    load_classifier,
    predict,
    save_classifier,
    score,
    shared_groups,
    train_classifier,
)
from asr_experiments.controls import Pauses, duration_scores, pause_frames, split_warnings, study_classifier
from asr_experiments.datasets import read_sound
from asr_experiments.features import LogMels, MelArrays, Shape, log_mel, shape_of
from catalog.errors import PdidError, UsageError

SMALL = ClassifierSettings(crop_frames=48, epochs=12, batch=8, learning_rate=2e-3, channels=(4, 8, 8, 12))
ROW = {"north": 20, "south": 55}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_up(n: int = 48, seed: int = 0, n_frames: int = 160) -> tuple[MelArrays, list[str]]:
    """Noise of 60 to 150 frames with a bright row that tells the class, padded to `n_frames`."""
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for i in range(n):
        label = ("north", "south")[i % 2]
        n_valid = int(rng.integers(60, 150))
        features = np.full((80, n_frames), -1.2, np.float32)
        features[:, :n_valid] = rng.normal(0, 0.4, (80, n_valid))
        features[ROW[label] : ROW[label] + 6, :n_valid] += 0.6
        items.append((features, n_valid))
        labels.append(label)
    return MelArrays(items, Shape(80, n_frames, 160)), labels


def test_the_network_is_the_papers() -> None:
    """Pooled after all four convolutions: 256 × 5 × 187 into the hidden layer, 30.6 M parameters in it (METHOD §2)."""
    net = AccentCnn(80, 3000, 7).eval()
    maps = net.maps(torch.zeros(1, 80, 3000), 4)
    assert maps.shape == (1, 256, 10, 375)
    assert net.hidden.weight.numel() == 256 * 5 * 187 * 128
    assert sum(p.numel() for p in net.hidden.parameters()) / 1e6 == pytest.approx(30.6, abs=0.1)
    assert [c.weight.shape for c in net.convs] == [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3)]
    assert net(torch.zeros(2, 80, 3000)).shape == (2, 7)
    assert ClassifierSettings.paper().crop_frames is None


@pytest.mark.parametrize("crop_frames", [48, None])
def test_it_learns_repeats_and_is_kept(crop_frames: int | None, tmp_path: Path) -> None:
    mels, labels = made_up()
    train, test = list(range(32)), list(range(32, 48))
    chosen = replace(SMALL, crop_frames=crop_frames)
    state = torch.get_rng_state()
    made = train_classifier(mels, labels, train, settings=chosen)
    assert torch.equal(torch.get_rng_state(), state)
    scores = evaluate(made, mels, labels, test)
    assert scores.accuracy >= 0.9
    assert sum(map(sum, scores.confusion)) == len(test)
    again = train_classifier(mels, labels, train, settings=chosen)
    np.testing.assert_array_equal(predict(again, mels, test), predict(made, mels, test))
    other = train_classifier(mels, labels, train, settings=replace(chosen, seed=1))
    assert not np.array_equal(predict(other, mels, test), predict(made, mels, test))

    save_classifier(made, tmp_path / "kept")
    read = load_classifier(tmp_path / "kept")
    assert (read.accents, read.settings, read.shape) == (made.accents, made.settings, made.shape)
    np.testing.assert_array_equal(predict(read, mels, test), predict(made, mels, test))
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["classifier.json", "classifier.safetensors"]


def test_dev_clips_pick_the_best_epoch() -> None:
    mels, labels = made_up()
    chosen = replace(SMALL, epochs=10)
    picked = train_classifier(mels, labels, range(32), range(32, 48), chosen)
    best = evaluate(picked, mels, labels, range(32, 48)).macro_f1
    # the same training cut off after n epochs gives the weights after n
    every = [
        evaluate(train_classifier(mels, labels, range(32), (), replace(chosen, epochs=n)), mels, labels, range(32, 48))
        for n in (1, 3, 10)
    ]
    assert best >= max(one.macro_f1 for one in every)


def test_padding_does_not_reach_a_cropping_classifier() -> None:
    mels, labels = made_up()
    made = train_classifier(mels, labels, range(32), settings=replace(SMALL, epochs=2))
    loud = MelArrays([(np.where(np.arange(160) < n, f, np.float32(3)), n) for f, n in mels.items], mels.shape)
    np.testing.assert_array_equal(predict(made, mels, range(8)), predict(made, loud, range(8)))


def test_class_weights_are_balanced() -> None:
    """Ten clips of one class to one of the other, nothing to learn: neither class is the standing answer."""
    rng = np.random.default_rng(0)
    items = [(rng.normal(0, 0.4, (80, 48)).astype(np.float32), 48) for _ in range(66)]
    mels = MelArrays(items, Shape(80, 48, 160))
    labels = ["common"] * 60 + ["rare"] * 6
    made = train_classifier(mels, labels, range(66), settings=replace(SMALL, epochs=3, specaugment=None))
    fresh = MelArrays([(rng.normal(0, 0.4, (80, 48)).astype(np.float32), 48) for _ in range(100)], mels.shape)
    rare = predict(made, fresh, range(100))[:, made.accents.index("rare")]
    assert 0.3 < rare.mean() < 0.7  # unweighted training gives 1 in 11


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_scores_are_their_definitions(pairs: list[tuple[int, int]]) -> None:
    truth, said = [a for a, _ in pairs], [b for _, b in pairs]
    found = score(truth, said, 4)
    assert found.accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    f1 = []
    for k in sorted({*truth, *said}):
        hit = sum(a == b == k for a, b in pairs)
        precision = hit / max(1, said.count(k))
        recall = hit / max(1, truth.count(k))
        f1.append(2 * precision * recall / (precision + recall) if hit else 0.0)
    assert found.macro_f1 == pytest.approx(sum(f1) / len(f1))
    assert all(found.confusion[a][b] == pairs.count((a, b)) for a in range(4) for b in range(4))


def test_a_clip_shorter_than_the_crop_is_repeated() -> None:
    features = np.arange(10, dtype=np.float32)[None].repeat(2, 0)
    assert crop(features, 3, 8, 0)[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert crop(features, 10, 4, 5)[0].tolist() == [5, 6, 7, 8]


def test_what_it_refuses(tmp_path: Path) -> None:
    mels, labels = made_up(8)
    with pytest.raises(UsageError, match="two accents or more to train on, got north"):
        train_classifier(mels, labels, [0, 2, 4], settings=SMALL)
    with pytest.raises(UsageError, match="multiple of 16, got 50"):
        ClassifierSettings(crop_frames=50)
    with pytest.raises(UsageError, match="at most the model's 160 frames, got 288"):
        train_classifier(mels, labels, range(8), settings=ClassifierSettings())
    broken = MelArrays([(np.full((80, 160), np.nan, np.float32), 100)] * 8, mels.shape)
    with pytest.raises(PdidError, match=r"loss is nan in epoch 1: lower learning_rate"):
        train_classifier(broken, labels, range(8), settings=SMALL)
    made = train_classifier(mels, labels, range(8), settings=replace(SMALL, epochs=1))
    with pytest.raises(UsageError, match="no clip to test"):
        evaluate(made, mels, ["east"] * 8, range(8))

    with pytest.raises(PdidError, match="no classifier in"):
        load_classifier(tmp_path)
    save_classifier(made, tmp_path)
    told = json.loads((tmp_path / "classifier.json").read_text())
    (tmp_path / "classifier.json").write_text(json.dumps(told | {"accents": ["a", "b", "c"]}))
    with pytest.raises(PdidError, match="damaged"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(PdidError, match="expected format 1, got 99"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps(told))
    (tmp_path / "classifier.safetensors").write_bytes(b"not it")
    with pytest.raises(PdidError, match="damaged"):
        load_classifier(tmp_path)


# Controls and warnings.


def test_the_duration_control_finds_lengths_and_only_lengths() -> None:
    rng = np.random.default_rng(0)
    labels = ["short", "long"] * 100
    telling = [max(3.0, rng.normal(6 if label == "short" else 20, 2.0)) for label in labels]
    blank = rng.uniform(3, 30, 200).tolist()
    train, test = range(100), range(100, 200)
    assert duration_scores(telling, labels, train, test).accuracy > 0.95
    assert duration_scores(blank, labels, train, test).balanced_accuracy < 0.65
    # classes count the same however many clips they have, and lengths in the middle need no straight line
    middle = ["middle" if 10 < d < 20 else "rest" for d in blank]
    assert duration_scores(blank, middle, train, test).balanced_accuracy > 0.85


def test_pauses_are_what_lies_between_the_words(test_data: Path) -> None:
    from transformers import WhisperFeatureExtractor

    speech = read_sound(test_data / "clips" / "librispeech" / "1688-142285-0000.flac")[: 16_000 * 4]
    quiet = np.random.default_rng(0).normal(0, 1e-4, 16_000).astype(np.float32)
    features, n_valid = log_mel(np.concatenate([speech, quiet]), WhisperFeatureExtractor(chunk_length=8))
    assert n_valid == 500
    found = pause_frames(features, n_valid)
    assert found[402:498].all()
    assert found[:400].mean() < 0.5
    pauses = Pauses(MelArrays([(features, n_valid)], Shape(80, 800, 160)))
    kept, n_kept = pauses[0]
    assert n_kept == np.count_nonzero(found)
    np.testing.assert_array_equal(kept[:, :n_kept], features[:, :n_valid][:, found])
    assert kept.shape == (80, 800)


def test_a_study_beats_its_controls_where_only_speech_tells() -> None:
    """The bright row is in the loud frames only; every clip has quiet ones that say nothing, all lengths alike."""
    rng = np.random.default_rng(1)
    mels, labels = made_up(60)
    items = []
    for (features, n_valid), label in zip(mels.items, labels, strict=True):
        quiet = rng.random(n_valid) < 0.4
        features = features.copy()
        features[:, :n_valid][:, quiet] = rng.normal(-1.0, 0.1, (80, int(quiet.sum())))
        items.append((features, n_valid))
        assert label in ROW
    mels = MelArrays(items, mels.shape)
    speakers = [f"s{i // 4}" for i in range(60)]
    sources = [f"tape{i // 4}" for i in range(60)]
    shares: list[float] = []
    study = study_classifier(
        mels, [n * 160 for _, n in items], labels, speakers, sources, range(40), (), range(40, 60), SMALL,
        progress=shares.append,
    )  # fmt: skip
    assert study.chance == 0.5
    assert study.scores.accuracy >= 0.85
    assert study.pauses_only.balanced_accuracy <= 0.75
    assert study.duration_only.balanced_accuracy <= 0.75
    assert study.warnings == ()
    assert (study.n_train, study.n_test, shares[-1]) == (40, 20, 1.0)
    assert shares == sorted(shares)


def test_a_doubtful_split_is_named() -> None:
    labels = ["a", "a", "b", "b", "c", "a"]
    speakers = ["x", "y", "z", "z", None, "x"]
    found = split_warnings(labels, speakers, ["t"] * 6, [0, 1, 2, 3], [4, 5])
    assert any("1 speaker(s) in both training and test: x" in one for one in found)
    assert any("1 source(s) in both" in one for one in found)
    assert any(one.startswith("b: one speaker in training") for one in found)
    assert any("no test clips of b" in one for one in found)
    assert any("never shown them: c" in one for one in found)
    assert shared_groups(["x", None], ["y", None]) == []


# Log-mels on disk.


@settings(max_examples=3, deadline=None)
@given(st.sampled_from([(80, 30), (128, 8), (80, 4)]))
def test_cached_log_mels_are_the_extractors(
    tmp_path_factory: pytest.TempPathFactory, test_data: Path, kind: tuple[int, int]
) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=kind[0], chunk_length=kind[1])
    paths = [test_data / "clips" / "librispeech" / "1688-142285-0000.flac", test_data / "clips/fsdd/0_george_0.wav"]
    folder = tmp_path_factory.mktemp("mels")
    mels = LogMels(paths, extractor, folder)
    mels.prepare()
    again = LogMels(paths[::-1], extractor, folder)  # the key is the content, not the place in a list
    assert len(list(folder.rglob("*.safetensors"))) == 2
    for i, path in enumerate(paths):
        expected, n_valid = log_mel(read_sound(path), extractor)
        features, n = mels[i]
        assert features.shape == expected.shape == (kind[0], kind[1] * 100)
        assert features.dtype == np.float32
        assert n == n_valid == mels.lengths(i)[0]
        np.testing.assert_allclose(features, expected, atol=1e-3)
        np.testing.assert_array_equal(again[1 - i][0], features)
    assert mels.lengths(0)[1] == len(read_sound(paths[0]))
    mels[0][0][:] = 7  # a reader's copy is its own
    assert mels[0][0].max() < 7


def test_unreadable_clips_are_named(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    (tmp_path / "noise.wav").write_bytes(b"RIFF nothing")
    mels = LogMels([tmp_path / "gone.wav", tmp_path / "noise.wav"], WhisperFeatureExtractor(), tmp_path / "cache")
    with pytest.raises(PdidError, match=r"gone\.wav"):
        mels.get(0)
    with pytest.raises(PdidError, match=r"noise\.wav can't be read as sound"):
        mels.get(1)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(PdidError, match="16000 Hz, got one for 22050 Hz"):
        shape_of(WhisperFeatureExtractor(sampling_rate=22_050))


def test_a_classifier_knows_its_window() -> None:
    net = AccentCnn(80, 48, 2, channels=(4, 4, 4, 4))
    assert Classifier(net, ("a", "b"), SMALL, Shape(80, 160, 160)).window == 48
    assert Classifier(net, ("a", "b"), replace(SMALL, crop_frames=None), Shape(80, 160, 160)).window == 160
