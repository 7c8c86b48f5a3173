"""The arms `ctc` and `align`: the loss, what is left out, the teacher, the encoders, resuming, the benchmark."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asr_experiments.aligning import loss
from asr_experiments.aligning.language_model import (
    LanguageModel,
    load_language_model,
    obtain_language_model,
    token_vectors,
)
from asr_experiments.aligning.loss import AlignLoss, AlignSettings, ctc_set
from asr_experiments.aligning.network import (
    Conformer,
    CtcNetwork,
    EncoderName,
    load_ctc,
    save_ctc,
    transcribe_features,
    transcribe_sound,
)
from asr_experiments.aligning.small_bert import SmallBertSettings, obtain_small_bert
from asr_experiments.arms import ARMS, read_arms
from asr_experiments.features import MelArrays, Shape, log_mel
from asr_experiments.finetune import finetune
from asr_experiments.scoring import count_errors, total
from asr_experiments.training_set import IGNORED, FinetuneSettings, TrainingSet, make_batch
from catalog.errors import PdidError, UsageError
from catalog.whisper import Whisper
from tests import digits as material
from tests.digits import arguments, digits_rows, runs_of, said_by, write_rows
from tests.media import Pdid
from tests.speech import WORDS, Spoken, digit_strings, digits_whisper, noise, one_thread, untrained_whisper

__all__ = ["one_thread"]

SMALL_BERT = SmallBertSettings(width=32, layers=1, updates=3)
TEXTS = [f"{a} {b} {c}" for a, b, c in zip(WORDS, WORDS[3:] + WORDS[:3], WORDS[5:] + WORDS[:5], strict=True)]
CHARACTERS = sorted(set("".join(TEXTS)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hardly trained BERT of digits, as wide as an untrained Whisper."""
    return obtain_small_bert(TEXTS, tmp_path_factory.mktemp("bert"), SMALL_BERT)


@pytest.fixture(scope="module")
def teacher(bert: Path) -> LanguageModel:
    return load_language_model(bert)


def network_of(whisper: Whisper, encoder: EncoderName = "whisper", seed: int = 0) -> CtcNetwork:
    torch.manual_seed(seed)
    return CtcNetwork(whisper, encoder, CHARACTERS)


def material_of(network: CtcNetwork, whisper: Whisper, teacher: LanguageModel, spoken: list[Spoken]) -> TrainingSet:
    mels = MelArrays([log_mel(one.sound, whisper.feature_extractor) for one in spoken], Shape(80, 400, 160))
    lengths = [(mels[i][1], len(one.sound)) for i, one in enumerate(spoken)]
    return ctc_set(network, whisper, teacher, mels, [one.text for one in spoken], lengths)


def noises(n: int = 6) -> list[Spoken]:
    return [Spoken(noise(1.0 + (i % 3) / 2, seed=i), TEXTS[i]) for i in range(n)]


def batch_of(data: TrainingSet, frames: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    made = make_batch(data, [(i, False) for i in data.tokens], FinetuneSettings(), 1, frames, None)
    return made.features, made.tokens, made.labels


# ---------------------------------------------------------------- the loss


def test_without_a_teacher_the_loss_is_ctc_over_the_valid_frames(teacher: LanguageModel) -> None:
    whisper = untrained_whisper()
    network = network_of(whisper).eval()
    data = material_of(network, whisper, teacher, noises())
    features, given, labels = batch_of(data)
    assert given[:, 0].tolist() == [100, 150, 200, 100, 150, 200]
    loss = float(AlignLoss(network, AlignSettings())(features, given, labels).detach())
    expected = 0.0
    for i, sequence in data.tokens.items():
        hidden, _ = network(features[i : i + 1], given[i : i + 1, 0])
        scores = network.head(hidden)[0, : sequence[0] // 2].log_softmax(-1)
        target, sizes = torch.tensor(sequence[1:]), ((len(scores),), (len(sequence) - 1,))
        expected += float(F.ctc_loss(scores, target, *sizes, network.blank, "sum").detach())
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_teachers_part_is_the_formula(teacher: LanguageModel) -> None:
    """w_a and w_o each add their term, weighed by a clip's characters, and nothing else."""
    whisper = untrained_whisper()
    network = network_of(whisper).eval()
    data = material_of(network, whisper, teacher, noises(3))
    inputs = batch_of(data)
    plain = float(AlignLoss(network, AlignSettings())(*inputs).detach())
    sizes = torch.tensor([len(sequence) - 1 for sequence in data.tokens.values()])
    hidden, positions = network(inputs[0], inputs[1][:, 0])
    found = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 2.0)):
        loss_of = AlignLoss(network, AlignSettings(weights=weights), teacher)
        assert isinstance(loss_of.project, torch.nn.Identity), "the widths are the same"
        found[weights] = float(loss_of(*inputs).detach()) - plain
        told = loss_of.told()
        assert told["shortfall"] == pytest.approx(0, abs=1e-6)
        vectors, counts = token_vectors(teacher, TEXTS[:3])
        taught = loss_of.taught(hidden, positions, vectors, counts)
        assert found[weights] == pytest.approx(float((sizes * taught).sum()), rel=1e-3)
        mean = weights[0] * told["apart"] + weights[1] * told["transport"]
        assert float(taught.mean()) == pytest.approx(mean, rel=1e-4)
    assert found[0.5, 2.0] == pytest.approx(0.5 * found[1.0, 0.0] + 2 * found[0.0, 1.0], rel=1e-3)
    assert min(found.values()) > 0


def test_an_update_is_the_same_in_pieces_and_with_an_item_that_counts_for_nothing(teacher: LanguageModel) -> None:
    whisper = untrained_whisper()
    network = network_of(whisper).eval()
    loss_of = AlignLoss(network, AlignSettings(), teacher)
    features, given, labels = batch_of(material_of(network, whisper, teacher, noises()))
    whole = float(loss_of(features, given, labels))
    parts = [float(loss_of(features[k : k + 2], given[k : k + 2], labels[k : k + 2])) for k in (0, 2, 4)]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    empty = labels.clone()
    empty[1] = IGNORED
    without = [k for k in range(6) if k != 1]
    assert float(loss_of(features, given, empty)) == pytest.approx(
        float(loss_of(features[without], given[without], labels[without])), rel=1e-5
    )
    assert float(loss_of(features[:1], given[:1], torch.full_like(labels[:1], IGNORED))) == 0


def test_its_gradient_is_that_of_finite_differences_at_a_fixed_coupling(
    teacher: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_of = AlignLoss(network_of(untrained_whisper()), AlignSettings(weights=(0.7, 1.3)), teacher)
    rng = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 20, 6, generator=rng, dtype=torch.double, requires_grad=True)
    tokens = torch.randn(2, 4, 6, generator=rng, dtype=torch.double)
    direction = torch.randn(2, 20, 6, generator=rng, dtype=torch.double)
    lengths = torch.tensor([20, 11]), torch.tensor([4, 2])
    kept: list[Any] = []
    own = loss.couple

    def once(*given: Any) -> Any:
        kept.append(kept[0] if kept else own(*given))
        return kept[0]

    monkeypatch.setattr(loss, "couple", once)
    loss_of.taught(frames, lengths[0], tokens, lengths[1]).sum().backward()
    step = 1e-6
    with torch.no_grad():
        up, down = (
            float(loss_of.taught(frames + sign * step * direction, lengths[0], tokens, lengths[1]).sum())
            for sign in (1, -1)
        )
    assert len(kept) == 3
    assert frames.grad is not None
    assert abs(up - down) / (2 * step) > 1e-2
    assert float((frames.grad * direction).sum()) == pytest.approx((up - down) / (2 * step), rel=1e-6)
    assert float(frames.grad[1, 11:].abs().sum()) == 0, "padding has no say"


# ---------------------------------------------------------------- what is trained


def test_what_cannot_be_learned_from_is_left_out_and_counted(teacher: LanguageModel) -> None:
    whisper = untrained_whisper()
    network = network_of(whisper)
    mels = MelArrays([], Shape(80, 400, 160))
    doubled = "three" * 3  # 15 characters, three doubled ones, in 17 positions; and 18
    texts = [TEXTS[0], "  ", TEXTS[0], doubled, doubled, "one two ?"]
    lengths = [(100, 16_000), (100, 16_000), (400, 64_001), (34, 5_440), (36, 5_760), (100, 16_000)]
    data = ctc_set(network, whisper, teacher, mels, texts, lengths)
    assert (data.no_text, data.too_long, data.too_many_tokens) == ((1,), (2,), (3,))
    assert sorted(data.tokens) == [0, 4, 5]
    assert "".join(CHARACTERS[c] for c in data.tokens[5][1:]) == "one two ", "a character it does not know"
    assert data.tokens[0][0] == 100


def test_a_tokenizer_that_splits_to_more_tokens_than_frames(teacher: LanguageModel) -> None:
    whisper, mels = untrained_whisper(), MelArrays([], Shape(80, 400, 160))
    network = CtcNetwork(whisper, "conformer", ["x"])  # it is to write six times x, and the language model reads six
    text = "x x x x x x"
    assert len(ctc_set(network, whisper, teacher, mels, [text], [(44, 7_040)]).tokens) == 1
    with pytest.raises(PdidError, match=r"left to train on: 0 are longer than 4 s, 1 have more characters or"):
        ctc_set(network, whisper, teacher, mels, [text], [(20, 3_200)])
    long = " ".join(["one"] * 511)  # 513 tokens with the two special ones
    with pytest.raises(PdidError, match=r"more than the 512 tokens that bert-\w+ \w+ reads"):
        ctc_set(network_of(whisper), whisper, teacher, mels, [long], [(40_000, 100)])


def test_only_encoder_head_and_map_are_trained(bert: Path, tmp_path: Path) -> None:
    whisper = untrained_whisper()
    wide = load_language_model(obtain_small_bert(TEXTS, tmp_path, replace(SMALL_BERT, width=64)))
    network = network_of(whisper)
    loss_of = AlignLoss(network, AlignSettings(weights=(1.0, 1.0)), wide)
    assert isinstance(loss_of.project, torch.nn.Linear)
    before = {name: weight.detach().clone() for name, weight in whisper.model.named_parameters()}
    own = {name: weight.detach().clone() for name, weight in wide.model.named_parameters()}
    projected = loss_of.project.weight.detach().clone()
    data = material_of(network, whisper, wide, noises(3))
    made = finetune(whisper, data, FinetuneSettings(learning_rate=1e-3, batch_size=4, epochs=1), loss_of=loss_of)
    assert made.n_updates == 2
    changed = {name for name, weight in whisper.model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("model.encoder.") for name in changed)
    assert all(torch.equal(weight, own[name]) for name, weight in wide.model.named_parameters())
    assert not wide.model.training
    assert not torch.equal(loss_of.project.weight, projected)
    assert made.n_trained < sum(weight.numel() for weight in whisper.model.parameters())


def test_low_rank_matrices_train_the_attention_and_the_head(teacher: LanguageModel) -> None:
    whisper = untrained_whisper()
    network = network_of(whisper)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    data = material_of(network, whisper, teacher, noises(3))
    chosen = FinetuneSettings(learning_rate=1e-2, batch_size=4, epochs=2, lora=True)
    finetune(whisper, data, chosen, loss_of=AlignLoss(network, AlignSettings(), teacher))
    after = dict(network.named_parameters())
    assert set(after) == set(before), "merged in, and gone"
    changed = {
        name.removeprefix("encoder.network.model.") for name in after if not torch.equal(after[name], before[name])
    }
    attention = {f"encoder.layers.{k}.self_attn.{part}_proj.weight" for k in (0, 1) for part in "qv"}
    assert changed == attention | {"head.weight", "head.bias"}


def test_a_taught_head_learns_to_write_real_digits(test_data: Path, tmp_path: Path) -> None:
    """Sixteen strings of a speaker the encoder knows: the head alone is new."""
    whisper = digits_whisper()
    spoken = digit_strings(test_data, "jackson", 16, test=False, digits=(1, 2))
    texts = [one.text for one in spoken]
    teacher = load_language_model(obtain_small_bert(texts, tmp_path, replace(SMALL_BERT, updates=60)))
    torch.manual_seed(0)
    network = CtcNetwork(whisper, "whisper", sorted(set("".join(texts))))
    loss_of = AlignLoss(network, AlignSettings(), teacher)
    assert isinstance(loss_of.project, torch.nn.Linear), "128 against 32"
    data = material_of(network, whisper, teacher, spoken)
    told = []

    def evaluate(epoch: int) -> dict[str, float]:
        told.append(loss_of.told())
        return {}

    chosen = FinetuneSettings(learning_rate=1e-3, batch_size=4, epochs=14, context="auto")
    made = finetune(whisper, data, chosen, loss_of=loss_of, evaluate=evaluate)
    assert made.losses[-1] < made.losses[0] / 4
    assert told[-1]["apart"] < told[0]["apart"] - 0.2
    assert told[-1]["transport"] < told[0]["transport"] - 0.1
    heard = transcribe_features(network, whisper, data.mels, context="auto")
    errors = total(count_errors(texts, heard))
    assert errors.cer is not None
    assert errors.cer < 0.4


@pytest.mark.parametrize("encoder", ["whisper", "conformer"])
def test_a_run_taken_up_again_is_the_undisturbed_one(
    encoder: EncoderName, teacher: LanguageModel, tmp_path: Path
) -> None:
    """To the bit; a Conformer's batch statistics go along."""
    chosen = FinetuneSettings(learning_rate=1e-3, batch_size=4, epochs=2, context="auto")

    class Killed(Exception):
        pass

    def train(folder: Path, stop_at: int | None) -> CtcNetwork:
        whisper = untrained_whisper()
        network = network_of(whisper, encoder)
        data = material_of(network, whisper, teacher, noises(4))

        def hook(step: int, total: int, loss: float) -> None:
            if step == stop_at:
                raise Killed

        finetune(whisper, data, chosen, loss_of=AlignLoss(network, AlignSettings(), teacher), folder=folder, hook=hook)
        return network

    with pytest.raises(Killed):
        train(tmp_path / "cut", 3)
    cut, whole = train(tmp_path / "cut", None).state_dict(), train(tmp_path / "whole", None).state_dict()
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


# ---------------------------------------------------------------- the network


def test_a_text_is_spelled_by_folding_repeats_and_dropping_blanks() -> None:
    network = CtcNetwork(untrained_whisper(), "whisper", [" ", "e", "h", "r", "t"])
    blank = network.blank
    assert network.spell([blank, 4, 4, 2, 3, 1, blank, 1, 0, 0, blank, 0, 4, blank]) == "three t"
    assert network.spell([blank, blank]) == ""
    assert network.spell([]) == ""


def test_a_conformer_hears_nothing_of_the_padding() -> None:
    whisper = untrained_whisper()
    torch.manual_seed(0)
    conformer = Conformer(whisper).eval()
    assert conformer.width == whisper.model.config.d_model
    features, lengths = torch.randn(2, 80, 200), torch.tensor([200, 117])
    changed = features.clone()
    changed[1, :, 117:] = 9.0
    with torch.no_grad():
        one, other = conformer(features, lengths), conformer(changed, lengths)
        alone = conformer(features[1:, :, :120], lengths[1:])
    n = int(conformer.positions(lengths)[1])
    assert n == 30
    torch.testing.assert_close(one[1, :n], other[1, :n])
    torch.testing.assert_close(one[1, :n], alone[0, :n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ["whisper", "conformer"])
def test_what_is_saved_says_the_same(encoder: EncoderName, tmp_path: Path) -> None:
    whisper = untrained_whisper()
    network = network_of(whisper, encoder).eval()
    long = noise(9.0)
    before = transcribe_sound(network, whisper, long)
    assert before
    folder = save_ctc(network, whisper, tmp_path / "model")
    other = untrained_whisper(seed=1)
    assert transcribe_sound(load_ctc(folder, other), other, long) == before
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(PdidError, match="was made from the Whisper mini untrained, got another"):
        load_ctc(folder, replace(whisper, version="another"))
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(PdidError, match="can't be loaded"):
        load_ctc(folder, whisper)
    with pytest.raises(PdidError, match="can't be loaded"):
        load_ctc(tmp_path / "nowhere", whisper)


# ---------------------------------------------------------------- the language model


def test_token_vectors_are_the_models_own_without_the_special_ones(teacher: LanguageModel) -> None:
    texts = ["one two three", "nine"]
    vectors, counts = token_vectors(teacher, texts)
    assert counts.tolist() == [3, 1]
    assert vectors.shape == (2, 3, 32)
    for row, text in enumerate(texts):
        with torch.no_grad():
            own = teacher.model(**teacher.tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        torch.testing.assert_close(vectors[row, : len(own)], own, rtol=1e-4, atol=1e-5)
    assert float(vectors[1, 1:].abs().sum()) == 0
    assert token_vectors(teacher, ["one ✓ nine"])[1].tolist() == [3], "an unknown word is a token too"
    with pytest.raises(PdidError, match=r"reads texts of 1 to 512 tokens, got 0 to 1: leave such clips out"):
        token_vectors(teacher, ["one", ""])


def test_a_small_bert_learns_its_texts_once(tmp_path: Path) -> None:
    """Digits that follow one another: the hidden one follows from its neighbours."""
    texts = [" ".join(WORDS[(k + i) % 10] for i in range(5)) for k in range(10)]
    shares: list[float] = []
    chosen = SmallBertSettings(width=64, layers=1, updates=400, asked=0.25)
    folder = obtain_small_bert(texts, tmp_path, chosen, shares.append)
    assert shares[-1] == 1.0
    from transformers import AutoTokenizer, BertForMaskedLM

    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertForMaskedLM.from_pretrained(folder).eval()
    inputs = tokenizer([text.replace(text.split()[2], "[MASK]") for text in texts], return_tensors="pt", padding=True)
    with torch.no_grad():
        best = model(**inputs).logits.argmax(-1)
    said = tokenizer.batch_decode(best[inputs["input_ids"] == tokenizer.mask_token_id][:, None])
    assert sum(a == text.split()[2] for a, text in zip(said, texts, strict=True)) >= 9
    assert obtain_small_bert([*texts, " "], tmp_path, chosen, lambda share: pytest.fail("trained again")) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    with pytest.raises(PdidError, match="none of 2 transcripts has a word"):
        obtain_small_bert(["", " "], tmp_path)


def spread_over_two(folder: Path) -> None:
    """As large models' weights are kept, and one of the files did not come."""
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    where = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_a_folder_that_is_no_bert_is_named(bert: Path, whisper_digits: Path, tmp_path: Path, pdid: Pdid) -> None:
    for change, words in (
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("["), "is no JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights"),
        (lambda folder: [path.unlink() for path in folder.glob("*token*")], "it has no tokenizer"),
        (spread_over_two, r"it lacks model-2\.safetensors, one of its 2 files of weights"),
    ):
        shutil.rmtree(tmp_path / "bert", ignore_errors=True)
        folder = Path(shutil.copytree(bert, tmp_path / "bert"))
        change(folder)
        with pytest.raises(UsageError, match=words):
            obtain_language_model(str(folder))
    with pytest.raises(UsageError, match="describes a model of type 'whisper', expected one trained on masked words"):
        obtain_language_model(str(whisper_digits.absolute()))
    with pytest.raises(PdidError, match=r"'owner/bert-fa' is neither in \$PDID_MODELS nor in the caches on this disk"):
        obtain_language_model("owner/bert-fa")
    assert obtain_language_model(str(bert)) == bert
    (Path(shutil.copytree(bert, tmp_path / "bad")) / "model.safetensors").write_bytes(b"half")
    with pytest.raises(PdidError, match=r"the language model in .*bad can't be loaded"):
        load_language_model(tmp_path / "bad")


# ---------------------------------------------------------------- the benchmark


@pytest.fixture(scope="module")
def data(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write_rows(folder / "digits.csv", digits_rows(folder, test_data))


def test_both_arms_end_in_the_table_and_are_compared(data: Path, bert: Path, pdid: Pdid, tmp_path: Path) -> None:
    model, corpus = material.untrained_folder(tmp_path / "model"), tmp_path / "corpus"
    command = [*arguments(data, corpus, model, "ctc,align", epochs=1), "--language-model", str(bert), "--json"]
    dry = pdid(*command, "--dry-run")
    assert dry.code == 0, dry.err
    told = {line["what"]: line["value"] for line in map(json.loads, dry.out.splitlines())}
    assert (told["cells"], told["updates of a cell"]) == (2, 3)
    assert min(told[f"{what} {arm}, minutes"] for what in ("training", "testing") for arm in ("ctc", "align")) > 0
    done = pdid(*command)
    assert done.code == 0, done.err
    found = runs_of(corpus)
    assert set(found) == {"ctc-0", "align-0"}
    for name, run in found.items():
        assert len(said_by(corpus, run)) == material.N_TEST
        assert run.metrics["n_updates"] == 3
        assert {"dev_loss", "loss"} <= set(run.metrics["epochs"][0])
        assert run.config["settings"]["align"]["language_model"] == str(bert)
        assert json.loads((corpus / "runs" / run.experiment_id / "cells" / name / "model" / "ctc.json").read_text())
        assert run.config["settings"]["align"]["transport"]["keep_tokens"] is None, "JSON knows no infinity"
    plain, aligned = (found[name].metrics["losses"][0] for name in ("ctc-0", "align-0"))
    assert plain < aligned < plain + 0.3 * 2 + 0.3 * 2, "the same start, and the teacher's two terms"
    assert found["align-0"].metrics["epochs"][0]["shortfall"] == pytest.approx(0, abs=1e-6)
    assert "shortfall" not in found["ctc-0"].metrics["epochs"][0]
    page = (corpus / "runs" / found["ctc-0"].experiment_id / "report.html").read_text("utf-8")
    assert "align against ctc" in page
    assert [json.loads(line)["fresh"] for line in pdid(*command).out.splitlines()] == [False, False]


def test_all_means_what_it_meant() -> None:
    assert read_arms("all") == ARMS
    assert not {"ctc", "align"} & set(ARMS)
    assert read_arms("align, ctc") == ("align", "ctc")
    assert read_arms("all,align") == (*ARMS, "align")


@pytest.mark.parametrize(
    ("arms", "options", "words"),
    [
        ("finetune", ["--transport", "0.1,0.1,inf,0.2"], "--transport: only the arms ctc and align use it"),
        ("finetune", ["--encoder", "whisper"], "--encoder: only the arms ctc and align use it"),
        ("align", ["--transport", "0.1,0.1"], "--transport: expected 4 numbers, got 2"),
        ("align", ["--transport", "0,0.1,inf,0.2"], "an ε and an order width above 0"),
        ("align", ["--align-weights", "-1,0.5"], "--align-weights: expected two weights from 0 up"),
        ("align", ["--language-model", "./nowhere"], "there is no model folder './nowhere'"),
        ("align", ["--lora", "--encoder", "conformer"], "--lora adds to a trained encoder"),
    ],
)
def test_wrong_options_are_named(
    arms: str, options: list[str], words: str, data: Path, pdid: Pdid, tmp_path: Path
) -> None:
    model = material.untrained_folder(tmp_path / "model")
    done = pdid(*arguments(data, tmp_path / "corpus", model, arms), *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "corpus" / "catalog.duckdb").exists()
