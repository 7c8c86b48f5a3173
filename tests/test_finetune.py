"""Fine-tuning: the same updates for every arm, the same weights after an interruption, and clear ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr_experiments.features import Floats, MelArrays, Shape
from asr_experiments.finetune import SummedLoss, finetune, mean_loss, rate_share
from asr_experiments.training_set import (
    Augment,
    FinetuneSettings,
    TrainingSet,
    epoch_batches,
    make_batch,
    n_updates,
    paper_settings,
    training_set,
)
from catalog.context import encode
from catalog.errors import PdidError, UsageError
from catalog.whisper import Whisper, transcribe
from tests.speech import (
    GREEK,
    SMALL,
    Spoken,
    digit_strings,
    digits_whisper,
    noise,
    one_thread,
    training_material,
    untrained_whisper,
)

__all__ = ["one_thread"]

FAST = FinetuneSettings(learning_rate=1e-3, batch_size=4, epochs=3, context="auto")


def spoken(n: int = 6) -> list[Spoken]:
    """Noise of 0.5 to 1.5 s with words to it: quick to train on, and nothing to learn."""
    words = ["one two", "three", "four five six", "nine"]
    return [Spoken(noise(0.5 + (i % 5) / 4, seed=i), words[i % 4]) for i in range(n)]


def weights(whisper: Whisper) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in whisper.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def half_masked(features: Floats, n_valid: int, index: int, rng: np.random.Generator) -> tuple[Floats, float]:
    mask = rng.random(features.shape) < 0.5
    return np.where(mask, 0, features).astype(np.float32), float(mask[:, :n_valid].mean())


# ---------------------------------------------------------------- what is trained on


def lengths_only(n_valid: list[int]) -> TrainingSet:
    tokens = dict.fromkeys(range(len(n_valid)), (1, 2, 3))
    return TrainingSet(MelArrays([], Shape(80, 400, 160)), tokens, dict(enumerate(n_valid)), 2)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.integers(1, 4))
def test_an_epoch_has_every_clip_and_its_copy_once(n_valid: list[int], size: int, seed: int, epoch: int) -> None:
    chosen = FinetuneSettings(batch_size=size, seed=seed, epochs=3)
    data = lengths_only(n_valid)
    batches = epoch_batches(data, chosen, epoch)
    assert Counter(item for batch in batches for item in batch) == Counter(
        (i, copy) for i in range(len(n_valid)) for copy in (False, True)
    )
    assert all(len(batch) <= size for batch in batches)
    assert 3 * len(batches) == n_updates(data, chosen)
    assert batches == epoch_batches(data, chosen, epoch)


def test_clips_of_a_like_length_come_together_and_epochs_differ() -> None:
    rng = np.random.default_rng(0)
    data = lengths_only([int(n) for n in rng.integers(50, 400, 200)])
    first, second = (epoch_batches(data, FinetuneSettings(batch_size=8), epoch) for epoch in (1, 2))
    spread = np.mean([np.ptp([data.n_valid[i] for i, _ in batch]) for batch in first])
    assert spread < 60, "batches drawn at random spread over about 270 frames"
    assert first != second


def test_what_the_model_cannot_take_is_left_out_and_counted() -> None:
    whisper = untrained_whisper()
    texts = ["one", "two", "  ", "nine " * 80, "three"]
    lengths = [(100, 16000), (400, 64001), (100, 16000), (100, 16000), (400, 64000)]
    data = training_set(whisper, MelArrays([], Shape(80, 400, 160)), texts, "en", lengths)
    assert (data.too_long, data.no_text, data.too_many_tokens) == ((1,), (2,), (3,))
    assert sorted(data.tokens) == [0, 4]
    assert whisper.tokenizer.decode(data.tokens[4]) == (
        "<|startoftranscript|><|en|><|transcribe|><|notimestamps|> three<|endoftext|>"
    )
    with pytest.raises(PdidError, match="no clip is left"):
        training_set(whisper, MelArrays([], Shape(80, 400, 160)), texts[1:3], "en", lengths[1:3])
    with pytest.raises(UsageError, match="language"):
        training_set(whisper, MelArrays([], Shape(80, 400, 160)), texts, "fa", lengths)


def test_the_loss_is_transformers_own() -> None:
    """Per token, over what follows the prompt, on the labels that HF's recipe makes."""
    whisper = untrained_whisper()
    data = training_material(whisper, spoken(5))
    total, n = 0.0, 0
    for index, tokens in data.tokens.items():
        labels = torch.tensor([[-100] * (data.n_prompt - 1) + list(tokens[data.n_prompt :])])
        inputs = torch.tensor([tokens[:-1]])
        mel = torch.from_numpy(data.mels[index][0])[None]
        with torch.inference_mode():
            loss = whisper.model(input_features=mel, decoder_input_ids=inputs, labels=labels).loss
        total, n = total + float(loss) * (len(tokens) - data.n_prompt), n + len(tokens) - data.n_prompt
    assert mean_loss(whisper, data) == pytest.approx(total / n, rel=1e-5)
    assert mean_loss(whisper, data, batch_size=2) == pytest.approx(total / n, rel=1e-5)


@pytest.mark.parametrize(
    ("width", "rate", "batch"), [(128, 3e-4, 16), (384, 1e-5, 32), (512, 3e-6, 16), (1024, 3e-6, 4)]
)
def test_the_papers_rates_and_batches_by_size(width: int, rate: float, batch: int) -> None:
    whisper = untrained_whisper()
    whisper.model.config.d_model = width
    chosen = paper_settings(whisper, seed=5)
    assert (chosen.learning_rate, chosen.batch_size, chosen.epochs, chosen.seed) == (rate, batch, 10, 5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_and_falls_and_is_never_nothing(total: int, warmup: float) -> None:
    shares = [rate_share(step, total, warmup) for step in range(1, total + 1)]
    top = shares.index(max(shares))
    assert max(shares) == 1
    assert min(shares) > 0
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)


# ---------------------------------------------------------------- arms


def test_only_the_copies_are_changed_with_a_new_draw_each_epoch_or_always_the_same() -> None:
    whisper = untrained_whisper()
    data = training_material(whisper, spoken(3))
    before = [mel.copy() for mel, _ in (data.mels[i] for i in range(3))]
    drawn: list[tuple[int, int]] = []

    def note(features: Floats, n_valid: int, index: int, rng: np.random.Generator) -> tuple[Floats, float]:
        drawn.append((index, int(rng.integers(2**40))))
        return half_masked(features, n_valid, index, rng)

    fresh = finetune(whisper, data, replace(FAST, epochs=2), augment=note)
    assert sorted(index for index, _ in drawn) == [0, 0, 1, 1, 2, 2]
    assert len(set(drawn)) == 6
    assert all(0.45 < row["share_masked"] < 0.55 for row in fresh.epochs)
    assert all(np.array_equal(a, data.mels[i][0]) for i, a in enumerate(before))
    drawn.clear()
    finetune(untrained_whisper(), data, replace(FAST, epochs=2, fresh_draws=False), augment=note)
    assert len(drawn) == 6
    assert len(set(drawn)) == 3


def test_every_arm_makes_the_same_updates_on_the_same_clips() -> None:
    data = training_material(untrained_whisper(), spoken())
    steps: dict[bool, list[int]] = {}
    for augment in (None, half_masked):
        seen: list[int] = []
        made = finetune(untrained_whisper(), data, FAST, augment=augment, hook=lambda step, n, _, s=seen: s.append(n))
        steps[augment is None] = seen
        assert made.n_updates == n_updates(data, FAST) == 9
    assert steps[True] == steps[False] == [9] * 9


# ---------------------------------------------------------------- the same again


@pytest.fixture
def material() -> TrainingSet:
    return training_material(untrained_whisper(), spoken())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [4, 6, 8])
def test_a_killed_run_taken_up_again_ends_with_the_same_weights(at: int, material: TrainingSet, tmp_path: Path) -> None:
    """Killed in the second epoch, at its end, and in the third; dropout is on."""
    undisturbed = untrained_whisper()
    whole = finetune(undisturbed, material, FAST, augment=half_masked, folder=tmp_path / "whole")

    def kill(step: int, total: int, loss: float) -> None:
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        finetune(untrained_whisper(), material, FAST, augment=half_masked, folder=tmp_path / "cut", hook=kill)
    torch.manual_seed(99)
    resumed = untrained_whisper()
    again = finetune(resumed, material, FAST, augment=half_masked, folder=tmp_path / "cut")
    assert again.resumed_from == (at - 1) // 3
    assert again.losses == whole.losses
    assert [row["share_masked"] for row in again.epochs] == [row["share_masked"] for row in whole.epochs]
    assert same(weights(resumed), weights(undisturbed))
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["epoch-0003"]
    finished = finetune(untrained_whisper(), material, FAST, augment=half_masked, folder=tmp_path / "cut")
    assert finished.resumed_from == 3
    assert finished.losses == whole.losses


def test_the_same_seed_gives_the_same_and_another_does_not(material: TrainingSet) -> None:
    runs = []
    for seed in (1, 1, 2):
        whisper = untrained_whisper()
        finetune(whisper, material, replace(FAST, epochs=1, seed=seed), augment=half_masked)
        runs.append(weights(whisper))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_checkpoint_of_another_arm_or_a_damaged_one_is_not_gone_on_with(
    material: TrainingSet, tmp_path: Path
) -> None:
    once = replace(FAST, epochs=1)
    finetune(untrained_whisper(), material, once, arm="random", folder=tmp_path)
    with pytest.raises(PdidError, match="other settings, another model or other clips"):
        finetune(untrained_whisper(), material, once, arm="saliency", folder=tmp_path)
    (tmp_path / "epoch-0001" / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(PdidError, match="is damaged"):
        finetune(untrained_whisper(), material, once, arm="random", folder=tmp_path)


ODD = replace(FAST, batch_size=3, epochs=2)  # of ten items the last update gets one
TWO_PROCESSES = """
import json, os, torch
from tests.test_finetune import ODD, finetune, spoken, still, training_material, untrained_whisper
torch.set_num_threads(1)
whisper = still(untrained_whisper())
made = finetune(whisper, training_material(whisper, spoken(5)), ODD)
if os.environ["RANK"] == "0":
    print(json.dumps(made.losses))
"""


def test_two_processes_make_the_updates_of_one(repository: Path, tmp_path: Path) -> None:
    """As on two GPUs: each computes half of every update; a last one of fewer items than processes included."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = finetune(still(untrained_whisper()), training_material(untrained_whisper(), spoken(5)), ODD)
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(alone.losses, rel=1e-4)


# ---------------------------------------------------------------- memory and faults


def still(whisper: Whisper) -> Whisper:
    """Without dropout, so that how an update is cut does not show."""
    for module in whisper.model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    return whisper


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")]
)
def test_out_of_memory_halves_what_is_computed_at_once_and_the_updates_stay(
    error: Exception, material: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, halved = still(untrained_whisper()), still(untrained_whisper())
    whole = finetune(usual, material, FAST)
    assert whole.micro_batch == 4
    forward = SummedLoss.forward

    def short_of_memory(self: SummedLoss, features: Any, tokens: Any, labels: Any) -> Any:
        if len(features) > 2:
            raise error
        return forward(self, features, tokens, labels)

    monkeypatch.setattr(SummedLoss, "forward", short_of_memory)
    made = finetune(halved, material, FAST)
    assert made.micro_batch == 2
    assert made.losses == pytest.approx(whole.losses, rel=1e-4)
    assert all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(weights(usual).values(), weights(halved).values(), strict=True)
    )
    asked = finetune(still(untrained_whisper()), material, replace(FAST, micro_batch=1))
    assert asked.losses == pytest.approx(whole.losses, rel=1e-4)


def test_where_one_clip_alone_is_too_much_it_says_so(material: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(SummedLoss, "forward", never)
    with pytest.raises(PdidError, match="out of memory with 1 clips at once on cpu"):
        finetune(untrained_whisper(), material, FAST)


def test_other_errors_are_not_taken_for_memory(material: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(SummedLoss, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        finetune(untrained_whisper(), material, FAST)


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_update(material: TrainingSet, tmp_path: Path) -> None:
    def poison(features: Floats, n_valid: int, index: int, rng: np.random.Generator) -> tuple[Floats, float]:
        return (np.full_like(features, np.nan) if index == 3 else features), 0.0

    with pytest.raises(PdidError, match=r"update [123] of 9 \(epoch 1\): the loss is nan.* clips \(numbers .*3"):
        finetune(untrained_whisper(), material, FAST, augment=poison, folder=tmp_path)
    assert not list(tmp_path.iterdir()), "no checkpoint of a broken epoch"


# ---------------------------------------------------------------- LoRA, and learning


def test_lora_trains_q_and_v_only_and_is_merged(material: TrainingSet) -> None:
    whisper = untrained_whisper()
    before = weights(whisper)
    made = finetune(whisper, material, replace(FAST, epochs=1, lora=True))
    after = weights(whisper)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert list(after) == list(before), "an ordinary Whisper again"
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    n_layers = 2 + 1 + 1  # encoder's and decoder's own attention, and the decoder's on the encoder
    assert made.n_trained == n_layers * 2 * 2 * 16 * SMALL.width


def test_an_interrupted_lora_run_ends_the_same(material: TrainingSet, tmp_path: Path) -> None:
    chosen = replace(FAST, lora=True, epochs=2)
    undisturbed, resumed = untrained_whisper(), untrained_whisper()
    finetune(undisturbed, material, chosen)

    def kill(step: int, total: int, loss: float) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        finetune(untrained_whisper(), material, chosen, folder=tmp_path, hook=kill)
    assert finetune(resumed, material, chosen, folder=tmp_path).resumed_from == 1
    assert same(weights(resumed), weights(undisturbed))


def test_an_accent_is_learned(test_data: Path, tmp_path: Path) -> None:
    """Real speech: a Greek speaker's digits, unseen by the model; other takes of his are then understood better."""
    whisper = digits_whisper()
    data = training_material(whisper, digit_strings(test_data, GREEK, 20, test=False, digits=(3, 5)))
    heard = training_material(whisper, digit_strings(test_data, GREEK, 10, seed=1, digits=(3, 5)))
    before = mean_loss(whisper, heard, "auto")
    curve: list[float] = []

    def evaluate(epoch: int) -> dict[str, float]:
        assert not whisper.model.training
        curve.append(mean_loss(whisper, heard, "auto"))
        return {"dev_loss": curve[-1]}

    chosen = paper_settings(whisper, epochs=2, context="auto", batch_size=8)
    made = finetune(whisper, data, chosen, evaluate=evaluate, logs=tmp_path / "logs")
    assert (made.n_clips, made.left_out) == (20, {})
    assert [row["dev_loss"] for row in made.epochs] == curve
    assert curve[-1] < 0.7 * before
    assert made.epochs[-1]["loss"] < made.epochs[0]["loss"]
    assert list((tmp_path / "logs").glob("events*"))
    assert len(transcribe(whisper, [noise(1.0)], "en")) == 1


def test_changed_clips_reach_the_encoder(material: TrainingSet) -> None:
    """The changed copy, cut to the context, is what the network is given."""
    whisper = untrained_whisper()
    augment: Augment = half_masked
    plain = make_batch(material, [(0, False)], FAST, 1, 200, augment)
    masked = make_batch(material, [(0, True)], FAST, 1, 200, augment)
    assert plain.shares == ()
    assert masked.shares[0] == pytest.approx(0.5, abs=0.05)
    assert 0.4 < float((masked.features == 0).float().mean()) < 0.6
    assert not torch.equal(encode(whisper.model, plain.features), encode(whisper.model, masked.features))


def test_without_the_packages_it_says_what_to_install(material: TrainingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PdidError, match=r"pdid\[lora\]"):
        finetune(untrained_whisper(), material, replace(FAST, lora=True))
    with pytest.raises(PdidError, match=r"pdid\[tensorboard\]"):
        finetune(untrained_whisper(), material, FAST, logs=Path("logs"))
