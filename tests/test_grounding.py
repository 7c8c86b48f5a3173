"""The parts of audio-visual grounding: both branches, the loss, pairs, recall, and Places' layout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from asr_experiments.datasets import read_sound
from asr_experiments.features import Floats
from asr_experiments.grounding.images import (
    Backbone,
    ImageBranch,
    Preparation,
    as_batch,
    find_backbone,
    read_picture,
    small_backbone,
)
from asr_experiments.grounding.loss import semi_hard, triplet_loss
from asr_experiments.grounding.model import Branches, load_grounding, new_grounding, save_grounding
from asr_experiments.grounding.pairs import check_pictures, read_pairs
from asr_experiments.grounding.places import write_places
from asr_experiments.grounding.retrieval import first_hit, guessed, one_way
from asr_experiments.grounding.speech import KERNEL, LAYERS, WIDTHS, Block, SpeechBranch, log_mels, reach
from catalog.errors import PdidError, UsageError
from tests.media import Pdid
from tests.speech import one_thread

__all__ = ["one_thread"]

NARROW = (8, 12, 12, 16, 24)
TINY = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@pytest.fixture(scope="module")
def spoken(test_data: Path) -> list[Floats]:
    return [read_sound(test_data / "clips" / "fsdd" / f"{n}_{who}_0.wav") for n, who in ((6, "theo"), (3, "lucas"))]


def settle(branch: torch.nn.Module) -> None:
    """Norms that do something, as after training."""
    generator = torch.Generator().manual_seed(1)
    for module in branch.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    branch.eval()


# ---------------------------------------------------------------- speech


def test_log_mels_have_a_tone_in_its_place_and_no_level(spoken: list[Floats]) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000).astype(np.float32)
    mels, lengths = log_mels([tone, 0.01 * tone, spoken[0]])
    assert lengths.tolist() == [50, 50, -(-len(spoken[0]) // 160)]
    assert mels.shape == (int(lengths.sum()), 40)
    # Slaney's scale is linear up to 1 kHz: 15 of the 45.2 mels up to 8 kHz, over 41 edges
    assert set(mels[5:45].argmax(1).tolist()) == {round(15 / 45.245 * 41) - 1}
    torch.testing.assert_close(mels[:50], mels[50:100], atol=1e-3, rtol=0)
    assert float(mels[:50].max()) == 1.0
    assert float(mels.min()) >= -1.0
    torch.testing.assert_close(mels[100:], log_mels([spoken[0]])[0], atol=1e-5, rtol=0)


def test_what_lies_fifty_decibels_down_is_not_heard() -> None:
    loud, hum = (np.sin(2 * np.pi * hz * np.arange(8000) / 16_000).astype(np.float32) for hz in (1000, 4000))
    alone, faint, plain = (log_mels([loud + part])[0][5:45] for part in (0 * hum, 2e-3 * hum, 0.02 * hum))
    torch.testing.assert_close(faint, alone, atol=1e-4, rtol=0)  # by 54 dB
    assert float((plain - alone).max()) > 0.3  # by 34 dB


@pytest.mark.parametrize("halves", [True, False])
def test_a_block_is_torchs_convolutions(halves: bool) -> None:
    torch.manual_seed(0)
    before, after, lengths = (6, 10, [23, 8]) if halves else (10, 10, [12, 4])
    block, stride = Block(before, after, halves=halves), 2 if halves else 1
    settle(block)
    x = torch.randn(sum(lengths), before)
    n = torch.tensor(lengths)
    found = block(x, reach(n, stride), reach(-(-n // stride), 1))

    def convolve(x: torch.Tensor, layer: torch.nn.Linear, norm: torch.nn.BatchNorm1d, stride: int) -> torch.Tensor:
        weight = layer.weight.view(layer.out_features, KERNEL, -1).transpose(1, 2)
        return cast(torch.Tensor, norm(F.conv1d(x, weight, stride=stride, padding=KERNEL // 2)))

    expected = []
    for clip in torch.split(x, lengths):
        one = clip.T[None]
        hidden = torch.relu(convolve(one, block.conv1, block.norm1, stride))
        hidden = convolve(hidden, block.conv2, block.norm2, 1)
        around: Any = block.around
        around = one if around is None else around[1](F.conv1d(one, around[0].weight[..., None], stride=2))
        expected.append(torch.relu(hidden + around)[0].T)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_the_speech_branch_is_the_papers() -> None:
    with torch.device("meta"):
        branch = SpeechBranch()
    assert (WIDTHS, KERNEL) == ((128, 256, 256, 512, 1024), 9)
    shapes = {name: tuple(weight.shape) for name, weight in branch.named_parameters() if weight.dim() == 2}
    assert shapes.pop("conv.weight") == (128, 40)
    assert len(shapes) == 4 * (4 + 1)  # two convolutions in each of two blocks, and a way around that halves
    for stage, (before, after) in enumerate(pairwise(WIDTHS)):
        assert shapes[f"stages.{stage}.0.conv1.weight"] == (after, KERNEL * before)
        assert shapes[f"stages.{stage}.0.around.0.weight"] == (after, before)
        assert {shapes[f"stages.{stage}.{name}.weight"] for name in ("0.conv2", "1.conv1", "1.conv2")} == {
            (after, KERNEL * after)
        }


def test_layers_halve_the_time_and_do_not_depend_on_the_batch(spoken: list[Floats]) -> None:
    torch.manual_seed(0)
    made = new_grounding(Backbone("tiny", TINY, Preparation(32)), NARROW)
    settle(made.net.speech)
    frames = -(-len(spoken[0]) // 160)
    alone = made.layers(spoken[0])
    assert made.layer_names == LAYERS
    assert made.frame_ms == (10, 20, 40, 80, 160)
    assert [layer.dtype for layer in alone] == [np.float32] * 5
    assert [layer.shape for layer in alone] == [
        (math.ceil(frames / ms * 10), width) for ms, width in zip(made.frame_ms, NARROW, strict=True)
    ]
    together = made.embed_speech(spoken)
    np.testing.assert_allclose(together[0], alone[-1].mean(0), atol=1e-5)
    np.testing.assert_allclose(together[1], made.layers(spoken[1])[-1].mean(0), atol=1e-5)
    with pytest.raises(UsageError, match=r"a clip of 0\.10 s is too short for grounding: expected 0\.16 s or more"):
        made.layers(spoken[0][:1600])


def test_a_saved_model_is_the_same_and_a_damaged_one_is_said(spoken: list[Floats], tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = new_grounding(Backbone("tiny", TINY, Preparation(32, (0.1, 0.2, 0.3))), NARROW)
    with pytest.raises(PdidError, match=r"no grounding model in .*expected grounding\.json"):
        load_grounding(tmp_path)
    save_grounding(made, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grounding.json", "grounding.safetensors"]
    again = load_grounding(tmp_path)
    assert (again.widths, again.preparation, again.image_model) == (NARROW, made.preparation, "tiny")
    for one, other in zip(made.layers(spoken[0]), again.layers(spoken[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "grounding.safetensors").write_bytes(b"nothing")
    with pytest.raises(PdidError, match=r"damaged.*train it again"):
        load_grounding(tmp_path)
    told = json.loads((tmp_path / "grounding.json").read_text()) | {"format": 99}
    (tmp_path / "grounding.json").write_text(json.dumps(told))
    with pytest.raises(PdidError, match="expected format 2, got 99"):
        load_grounding(tmp_path)


# ---------------------------------------------------------------- pictures


def test_a_picture_is_turned_squared_and_cut(tmp_path: Path) -> None:
    lying = Image.new("RGB", (90, 40), "red")
    lying.paste("blue", (0, 0, 10, 40))
    lying.save(tmp_path / "lying.png")
    seen = read_picture(tmp_path / "lying.png", 28)
    assert seen.shape == (32, 32, 3)
    assert (seen == (255, 0, 0)).all()  # the blue edge lies outside the middle square
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera on its side
    upright = Image.new("RGB", (40, 40), "red")
    upright.paste("blue", (0, 0, 40, 20))
    upright.save(tmp_path / "turned.png", exif=turned)
    sides = read_picture(tmp_path / "turned.png", 28)
    assert tuple(sides[16, 3]) == (255, 0, 0)
    assert tuple(sides[16, 28]) == (0, 0, 255)
    batch = as_batch([seen, sides], Preparation(28, (0.5, 0.5, 0.5), (0.25, 0.5, 0.5)))
    assert batch.shape == (2, 3, 28, 28)
    assert batch[0, :, 14, 14].tolist() == [2.0, -1.0, -1.0]
    places = [as_batch([sides], Preparation(28), np.random.default_rng(seed)) for seed in range(8)]
    assert len({float(place[0, 0].sum()) for place in places}) > 1


def test_broken_pictures_and_a_missing_pillow_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (200, 200), "red").effect_spread(50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    for name in ("text.png", "half.png"):
        with pytest.raises(PdidError, match=rf"the picture '.*{name}' can't be read \(.+\): mend it or leave it out"):
            read_picture(tmp_path / name, 28)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(PdidError, match=r"pip install 'pdid\[ground\]'"):
        read_picture(tmp_path / "whole.png", 28)


def test_a_resnet_of_a_folder_brings_its_weights_and_colours(tmp_path: Path, no_network: None) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = cast(Any, ResNetConfig)(**TINY, num_labels=3)
    theirs = cast(Any, ResNetForImageClassification(config)).eval()
    theirs.save_pretrained(tmp_path / "given")
    colours = {"size": {"shortest_edge": 32}, "image_mean": [0.5, 0.5, 0.5]}
    (tmp_path / "given" / "preprocessor_config.json").write_text(json.dumps(colours))
    backbone = find_backbone(str(tmp_path / "given"))
    assert backbone.preparation == Preparation(32, (0.5, 0.5, 0.5))
    branch = ImageBranch(backbone.config, 10)
    branch.start_from(backbone)
    branch.eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(branch.body(x).last_hidden_state, theirs.resnet(x).last_hidden_state)
    with pytest.raises(PdidError, match="are not those of its config"):
        ImageBranch(TINY | {"hidden_sizes": [8, 8, 16, 24]}, 10).start_from(backbone)
    (tmp_path / "given" / "model.safetensors").rename(tmp_path / "given" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"has no model\.safetensors"):
        find_backbone(str(tmp_path / "given"))
    (tmp_path / "given" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UsageError, match="a model of type 'vit', expected 'resnet'"):
        find_backbone(str(tmp_path / "given"))
    with pytest.raises(PdidError, match=r"'someone/resnet' is neither a folder.*HF_HUB_OFFLINE.*leave it out"):
        find_backbone("someone/resnet")
    assert find_backbone(None) == small_backbone()


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_two_hinges_both_ways() -> None:
    scores = torch.tensor([[2.0, 1.5], [0.5, 1.0]], requires_grad=True)
    loss = triplet_loss(scores, torch.eye(2, dtype=torch.bool), torch.Generator().manual_seed(0))
    # with one negative each it is the sampled and the semi-hard one; speech: .5 + .5, pictures: 0 + 1.5
    assert loss.item() == pytest.approx(2 * ((0.5 + 0.5) / 2 + (0.0 + 1.5) / 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 2.0], [1.0, -2.0]]


def test_semi_hard_is_the_best_below_the_pair_or_else_the_worst() -> None:
    table = torch.tensor([[5.0, 9.0, 4.0, 1.0], [5.0, 9.0, 8.0, 7.0], [5.0, 9.0, 4.0, 1.0]])
    allowed = torch.tensor([[False, True, True, True], [False, True, True, True], [False, True, False, True]])
    assert semi_hard(table, torch.full((3,), 5.0), allowed)[:, 0].tolist() == [2, 3, 3]


def test_what_shows_the_same_is_no_negative() -> None:
    scores = torch.tensor([[1.0, 50.0, 0.9], [50.0, 1.0, 0.9], [-9.0, -9.0, 1.0]])
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    generator = torch.Generator().manual_seed(0)
    # the 50 of the twins plays no part: speech .9 + .9 + 0, pictures 0 + 0 + .9, each twice
    assert triplet_loss(scores, same, generator).item() == pytest.approx(2 * (1.8 / 3 + 0.9 / 3))
    assert triplet_loss(scores, torch.ones(3, 3, dtype=torch.bool), generator).item() == 0


# ---------------------------------------------------------------- recall


def test_ranks_count_wrong_answers_first_and_guessing_is_known() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1], np.float32)
    assert first_hit(scores, np.array([True, False, False, False])) == 2  # one is better, one as good
    assert first_hit(scores, np.array([False, True, False, True])) == 0
    rng = np.random.default_rng(0)
    drawn = [(rng.permutation(12)[:5] < 3).any() for _ in range(4000)]
    assert guessed(12, 3, 5) == pytest.approx(np.mean(drawn), abs=0.02)
    assert guessed(12, 3, 1) == pytest.approx(0.25)
    assert guessed(3, 1, 10) == 1


def test_recall_counts_equal_keys_as_right() -> None:
    questions = np.eye(3, dtype=np.float32)
    answers = np.array([[1, 0, 0], [2, 1, 0], [0, 0, 1]], np.float32)
    found = one_way(questions, answers, ["a", "a", "b"], ["b", "a", "b"], ["x", "x", ""])
    assert found.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    by_own = one_way(questions, answers, ["1", "2", "3"], ["1", "2", "3"], ["x", "x", "y"])
    assert by_own.recall[1] == pytest.approx(2 / 3)
    assert by_own.by_speaker == {"x": 0.5, "y": 1.0}
    assert by_own.chance[1] == pytest.approx(1 / 3)


# ---------------------------------------------------------------- tables of pairs

Table = Callable[..., Path]


@pytest.fixture
def table(test_data: Path, tmp_path: Path) -> Table:
    """Write a table beside two pictures and four clips, of which `short.wav` has 0.1 s."""
    import soundfile

    for name in ("one.png", "two.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for digit, who in ((1, "theo"), (2, "theo"), (1, "lucas"), (2, "lucas")):
        source = test_data / "clips" / "fsdd" / f"{digit}_{who}_0.wav"
        (tmp_path / f"{digit}{who}.wav").write_bytes(source.read_bytes())
    soundfile.write(tmp_path / "short.wav", np.zeros(800), 8000)

    def write(*lines: str) -> Path:
        path = tmp_path / "pairs.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


WHOLE = (
    "image,clip,split",
    "one.png,1theo.wav,train",
    "two.png,2theo.wav,train",
    "one.png,1lucas.wav,test",
    "two.png,2lucas.wav,test",
)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("image,sound", "one.png,1theo.wav"), ["line 1", "no column `clip`", "it has image, sound"]),
        ((*WHOLE[:3], "nine.png,1theo.wav,test"), ["line 4", "there is no picture", "nine.png", "relative to"]),
        ((*WHOLE[:3], "one.png,9theo.wav,test"), ["line 4", "there is no clip", "9theo.wav"]),
        ((*WHOLE[:3], "one.png,one.png,test"), ["line 4", "one.png", "can't be read as sound"]),
        ((*WHOLE[:3], ",1theo.wav,test"), ["line 4", "`image` is empty"]),
        ((*WHOLE[:3], "one.png,1theo.wav,eval"), ["line 4", "'eval'", "train, dev or test"]),
        (WHOLE[:3], ["0 pairs to test", "two different ones"]),
        ((*WHOLE[:2], *WHOLE[3:]), ["1 pairs to train with, of 1 things"]),
        (("image,clip", "one.png,1theo.wav"), ["0 pairs to train"]),
        (("image,clip",), ["0 pairs to train"]),
        ((), ["empty"]),
    ],
)
def test_a_bad_table_is_refused_with_its_line(table: Table, lines: tuple[str, ...], said: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read_pairs(table(*lines))
    for words in said:
        assert words in str(error.value)


def test_short_clips_and_dev_are_counted_and_pictures_are_keys(table: Table) -> None:
    pairs = read_pairs(table(*WHOLE, "one.png,short.wav,train", "one.png,1theo.wav,dev"))
    assert sorted(pairs.left_out.values()) == [1, 1]
    assert any("under 0.16 s" in reason for reason in pairs.left_out)
    assert [(p.image.name, p.clip.name) for p in pairs.train] == [("one.png", "1theo.wav"), ("two.png", "2theo.wav")]
    assert pairs.train[0].key == pairs.test[0].key != pairs.train[1].key
    assert pairs.held_out == "by the column `split`"
    assert pairs.shared_speakers == []


def test_without_a_split_speakers_are_held_out_or_else_keys(table: Table) -> None:
    lines = [f"{image}.png,{n}{who}.wav,{who}" for who in ("theo", "lucas") for image, n in (("one", 1), ("two", 2))]
    pairs = read_pairs(table("image,clip,speaker", *lines))
    assert pairs.held_out == "a fifth by speaker"
    assert len(pairs.train) == len(pairs.test) == 2
    assert {p.speaker for p in pairs.train} | {p.speaker for p in pairs.test} == {"theo", "lucas"}
    assert pairs == read_pairs(pairs.table)
    several = read_pairs(table("image,clip,key", *(f"one.png,1theo.wav,{key}" for key in "abcdefghij")))
    assert several.held_out == "a fifth by key"
    assert (len(several.train), len(several.test)) == (8, 2)


def test_a_broken_picture_is_found_before_training(table: Table) -> None:
    pairs = read_pairs(table(*WHOLE))
    check_pictures(pairs)
    pairs.test[1].image.write_text("broken")
    with pytest.raises(UsageError, match=r"pairs\.csv, line [35]: the picture '.*two\.png' can't be read"):
        check_pictures(pairs)


# ---------------------------------------------------------------- Places


@pytest.fixture
def places(test_data: Path, tmp_path: Path) -> Path:
    """A made-up copy in the published layout: two captions on each side."""
    folder = tmp_path / "PlacesAudio"
    for place in ("metadata", "wavs", "pictures/a"):
        (folder / place).mkdir(parents=True)
    for side, who in (("train", "theo"), ("val", "lucas")):
        data = []
        for digit in (1, 2):
            name = f"{who}{digit}"
            clip = test_data / "clips" / "fsdd" / f"{digit}_{who}_0.wav"
            (folder / "wavs" / f"{name}.wav").write_bytes(clip.read_bytes())
            Image.new("RGB", (8, 8)).save(folder / "pictures" / "a" / f"{name}.jpg")
            caption = {"uttid": name, "speaker": who, "asr_text": "a, b", "wav": f"{name}.wav"}
            data.append(caption | {"image": f"a/{name}.jpg"})
        told = {"image_base_path": str(folder / "pictures"), "audio_base_path": "wavs/", "data": data}
        (folder / "metadata" / f"{side}.json").write_text(json.dumps(told))
    return folder


def test_places_becomes_a_table_of_pairs(places: Path, tmp_path: Path, pdid: Pdid) -> None:
    done = pdid("benchmark", "dataset", "places", places, tmp_path / "out" / "places.csv")
    assert done.code == 0, done.err
    assert "4 pairs" in done.err
    pairs = read_pairs(tmp_path / "out" / "places.csv")
    assert [(p.clip.name, p.image.name, p.speaker) for p in pairs.train] == [
        ("theo1.wav", "theo1.jpg", "theo"),
        ("theo2.wav", "theo2.jpg", "theo"),
    ]
    assert {p.speaker for p in pairs.test} == {"lucas"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["places.csv"]
    refused = pdid("benchmark", "dataset", "places", places, tmp_path / "p.csv", "--accent", "US")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_what_is_no_copy_of_places_is_said(places: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no copy of Places Audio Captions: it has no metadata/train\.json"):
        write_places(tmp_path, tmp_path / "p.csv")
    train = places / "metadata" / "train.json"
    told = json.loads(train.read_text())
    for change, said in (
        ({"image_base_path": "/data/sls/places"}, "image_base_path is '/data/sls/places', no folder here"),
        ({"data": [{"uttid": "u", "speaker": "s", "wav": "w.wav"}]}, "caption 0 of `data` has no `image`"),
    ):
        train.write_text(json.dumps(told | change))
        with pytest.raises(UsageError, match=said):
            write_places(places, tmp_path / "p.csv")
    train.write_text("{}")
    with pytest.raises(UsageError, match="is not as published"):
        write_places(places, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_both_branches_end_in_one_width() -> None:
    net = Branches(NARROW, TINY).eval()
    assert net.image(torch.zeros(2, 3, 32, 32)).shape == (2, NARROW[-1])
