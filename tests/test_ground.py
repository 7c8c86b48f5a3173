"""Audio-visual grounding as a whole: it learns spoken digits from pictures, goes on after a stop, and is a command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asr_experiments.grounding.images import Backbone, Preparation
from asr_experiments.grounding.model import load_grounding
from asr_experiments.grounding.pairs import Pairs, read_pairs
from asr_experiments.grounding.retrieval import retrieve
from asr_experiments.grounding.train import GroundingSettings, obtain_grounding, read_scores, train_grounding
from asr_experiments.masking import SpecAugment
from catalog.errors import PdidError, UsageError
from tests.media import Pdid
from tests.speech import one_thread

__all__ = ["one_thread"]

TINY = Backbone(
    "tiny",
    {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    Preparation(32),
)
DIGITS = (1, 6)
NARROW = GroundingSettings(
    widths=(16, 24, 24, 32, 48),
    epochs=18,
    batch=16,
    speed=0.0,
    learning_rate=2e-3,  # the paper's is for twenty times the width
    specaugment=SpecAugment(freq_width=6, time_width=10, time_share=0.2),
)


def write_pairs(folder: Path, test_data: Path, takes: int, *, key: bool = True) -> Path:
    """Pairs of two digits, each with a colour of its own: four speakers to learn from, two to test on."""
    (folder / "pictures").mkdir(parents=True)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "clip", "speaker", "split", *(["key"] if key else [])])
        for speaker in ("george", "jackson", "lucas", "theo", "nicolas", "yweweler"):
            split = "test" if speaker in ("george", "jackson") else "train"
            for digit in DIGITS:
                for take in range(takes):
                    name = f"{digit}_{speaker}_{take + 5}"
                    rng = np.random.default_rng([digit, take, *speaker.encode()])
                    shade = rng.integers(0, 100, (32, 32, 3))
                    shade[..., DIGITS.index(digit)] += 150
                    Image.fromarray(shade.astype(np.uint8)).save(folder / "pictures" / f"{name}.png")
                    clip = test_data / "clips" / "fsdd" / f"{name}.wav"
                    row = [f"pictures/{name}.png", clip, speaker, split]
                    writer.writerow([*row, *([digit] if key else [])])
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return read_pairs(write_pairs(tmp_path_factory.mktemp("ground"), test_data, takes=12))


@pytest.fixture(scope="module")
def small(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("small"), test_data, takes=2)


def test_spoken_digits_are_learnt_from_pictures_in_voices_never_met(pairs: Pairs) -> None:
    after = retrieve(train_grounding(pairs.train, TINY, NARROW), pairs.test)
    assert after.n_clips == after.n_images == 48
    for way in (after.image_by_speech, after.speech_by_image):
        assert way.chance[1] == pytest.approx(1 / 2)
        assert way.recall[1] >= 0.8
        assert way.recall[1] <= way.recall[5] <= way.recall[10]
    assert set(after.image_by_speech.by_speaker) == {"george", "jackson"}
    assert after.image_by_speech.recall[1] == pytest.approx(np.mean([*after.image_by_speech.by_speaker.values()]))


def test_a_stopped_training_goes_on_to_the_same_weights(small: Path, tmp_path: Path) -> None:
    pairs = read_pairs(small).train
    settings = replace(NARROW, epochs=3, batch=8)
    random = torch.random.get_rng_state()
    whole = train_grounding(pairs, TINY, settings)
    assert torch.equal(torch.random.get_rng_state(), random)

    def stop(what: str, share: float) -> None:
        if what.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_grounding(pairs, TINY, settings, report=stop, checkpoints=tmp_path)
    seen: list[str] = []
    again = train_grounding(pairs, TINY, settings, report=lambda what, share: seen.append(what), checkpoints=tmp_path)
    assert seen[0].startswith("epoch 3 of 3, loss ")
    other = train_grounding(pairs, TINY, replace(settings, seed=1))
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    assert not torch.equal(whole.net.image.head.weight, other.net.image.head.weight)
    with pytest.raises(PdidError, match="is of other settings"):
        train_grounding(pairs, TINY, replace(settings, seed=1), checkpoints=tmp_path)


def test_a_loss_that_is_no_number_stops_with_a_reason(small: Path) -> None:
    with pytest.raises(PdidError, match=r"the loss of grounding is nan in epoch \d+: lower the learning rate"):
        train_grounding(read_pairs(small).train, TINY, replace(NARROW, epochs=18, batch=8, learning_rate=1e30))
    with pytest.raises(UsageError, match="a batch of 2 pairs or more, got 1 and 1"):
        GroundingSettings(epochs=1, batch=1)


def test_what_was_measured_is_measured_once_and_again_where_it_was_not(small: Path, tmp_path: Path) -> None:
    pairs, settings = read_pairs(small), replace(NARROW, epochs=1)
    said: list[str] = []
    folder = obtain_grounding(tmp_path, pairs, TINY, settings, "cpu", lambda what, share: said.append(what))
    assert said[0] == "looking at the pictures"
    assert sorted(path.name for path in folder.iterdir()) == [
        "grounding.json",
        "grounding.safetensors",
        "scores.json",
    ]
    told = read_scores(folder)
    assert (told["n_train"], told["n_clips"], told["held_out"]) == (16, 8, "by the column `split`")
    (folder / "scores.json").unlink()  # as if stopped between training and measuring
    made = (folder / "grounding.safetensors").stat().st_mtime_ns
    assert obtain_grounding(tmp_path, pairs, TINY, settings, "cpu", lambda what, share: None) == folder
    assert read_scores(folder) == told
    assert (folder / "grounding.safetensors").stat().st_mtime_ns == made
    pairs.train[0].image.touch()  # other files, another model
    assert obtain_grounding(tmp_path, pairs, TINY, settings, "cpu", lambda what, share: None) != folder


def test_the_command_trains_measures_and_keeps_the_model(small: Path, tmp_path: Path, pdid: Pdid) -> None:
    command = ("benchmark", "ground", "--pairs", small, "--corpus", tmp_path / "corpus", "--epochs", 1)
    done = pdid(*command, "--batch-size", 16, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["n_train"], told["n_clips"], told["n_images"]) == (16, 8, 8)
    assert set(told["image_by_speech"]["recall"]) == {"1", "5", "10"}
    folder = Path(told["folder"])
    assert folder.parent == tmp_path / "corpus" / "runs"
    made = load_grounding(folder)
    assert made.widths == (128, 256, 256, 512, 1024)
    assert [layer.shape for layer in made.layers(np.zeros(16_000, np.float32))] == [
        (100, 128),
        (50, 256),
        (25, 256),
        (13, 512),
        (7, 1024),
    ]
    written = (folder / "grounding.safetensors").stat().st_mtime_ns
    again = pdid(*command, "--batch-size", 16)
    assert again.code == 0, again.err
    lines = again.out.splitlines()
    assert lines[0] == ("16 pairs to learn from; tested on 8 clips and 8 pictures, chosen by the column `split`")
    assert lines[2].split()[:3] == ["picture", "by", "speech"]
    assert lines[2].split()[3] == f"{told['image_by_speech']['recall']['1']:.1%}"
    assert [line.split()[2] for line in lines[4:]] == ["george", "jackson"]
    assert (folder / "grounding.safetensors").stat().st_mtime_ns == written, "not trained again"


def test_the_command_refuses_what_can_not_work(small: Path, tmp_path: Path, pdid: Pdid) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("image,clip\nnot-there.png,not-there.wav\n")
    model = tmp_path / "model"
    model.mkdir()
    for arguments, said in (
        (("--pairs", table), "bad.csv, line 2: there is no picture"),
        (("--pairs", small, "--image-model", model), "is no ResNet of transformers"),
        (("--pairs", small, "--image-model", "./nowhere"), "there is no model folder './nowhere'"),
        (("--pairs", small, "--image-model", "someone/resnet"), "'someone/resnet' is neither a folder nor"),
    ):
        done = pdid("benchmark", "ground", *arguments, "--corpus", tmp_path / "corpus")
        assert done.code in (1, 2)
        assert said in done.err
        assert done.err.count("\n") == 1, "one sentence"
    assert not (tmp_path / "corpus").exists()
