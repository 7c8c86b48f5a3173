"""A frozen language model: what it knows of each token of a text, as vectors to teach an acoustic encoder with.

Any model like BERT: one that transformers can train on masked words, in a folder, under `$PDID_MODELS`, in the Hugging
Face cache or on the hub. It reads transcripts in training only; nothing of it is needed to transcribe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog import hub
from catalog.errors import PdidError, UsageError
from catalog.hub import given_folder, own_folder
from catalog.whisper import quiet_transformers
from catalog.whisper_files import download_model, weight_files, weights_hash, wrong_weights

if TYPE_CHECKING:
    from torch import Tensor

MOST_TOKENS = 1 << 20
"""Of a tokenizer that says nothing of its limit, which transformers writes as 1e30."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded language model, in evaluation mode, its weights frozen."""

    model: Any  # transformers' bare encoder, such as BertModel
    tokenizer: Any
    version: str  # the name and the first 8 hex digits of the weights' SHA-256

    @property
    def width(self) -> int:
        """Of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def most_tokens(self) -> int:
        """Tokens it can read at once, its special ones included."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or MOST_TOKENS
        return int(min(self.tokenizer.model_max_length, positions, MOST_TOKENS))


def obtain_language_model(name: str) -> Path:
    """The folder of a language model given by folder, name under `$PDID_MODELS` or hub repository.

    Raises UsageError for a folder that is not there or holds no model like BERT, and PdidError where it is missing and
    can't be downloaded: each says what to do.
    """
    if folder := given_folder(name):
        if reason := what_is_wrong(folder):
            raise UsageError(f"--language-model: {folder} is no model like BERT: {reason}")
        return folder.absolute()
    own = own_folder(name)
    config = own / "config.json" if own and own.is_dir() else hub.cached(name, "config.json")
    if config is None or (config.parent != own and not weight_files(config.parent)):
        try:
            config = download_model(name, None) / "config.json"
        except PdidError as error:
            raise PdidError(
                f"the language model {name!r} is neither in $PDID_MODELS nor in the caches on this disk, and {error}; "
                "give a folder, or leave --language-model out for a small one made from the transcripts"
            ) from None
    if reason := what_is_wrong(config.parent):
        raise UsageError(f"--language-model: {name} is no model like BERT: {reason}")
    return config.parent


def what_is_wrong(folder: Path) -> str | None:
    """Why a folder is no complete model like BERT, in words for a user; None where it is one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    def fits(config: dict[str, Any]) -> bool:
        return config.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_encoder_decoder")

    if reason := wrong_weights(folder, fits, "one trained on masked words, such as bert"):
        return reason
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return "it has no tokenizer (tokenizer.json or vocab.txt)"
    return None


def model_version(folder: Path) -> str:
    """The name and the first 8 hex digits of the weights' SHA-256: other weights, another version."""
    return f"{folder.name} {weights_hash(folder)[:8]}"


def load_language_model(folder: Path, device: str = "cpu") -> LanguageModel:
    """Load a folder that `obtain_language_model` gave. Raises PdidError where its files are damaged."""
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, weights_only=True)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PdidError(f"the language model in {folder} can't be loaded: {reason}") from error
    return LanguageModel(model.to(device).eval().requires_grad_(False), tokenizer, model_version(folder))


def count_tokens(teacher: LanguageModel, texts: Sequence[str]) -> list[int]:
    """Tokens that the language model splits each text to, its special ones not counted."""
    with quiet_transformers():  # it warns of long texts, which the caller leaves out
        return [len(ids) for ids in teacher.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def token_vectors(teacher: LanguageModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The last layer's vectors of each text's tokens, without the special ones, and how many there are.

    float32 (texts, most tokens, width), 0 at the padding, and int64 (texts,); on the model's device, without gradient.
    Raises PdidError for a text without a token, or with more than the model can read.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    inputs = teacher.tokenizer(list(texts), return_special_tokens_mask=True, padding=True, return_tensors="pt")
    real = (inputs.pop("special_tokens_mask") == 0) & (inputs["attention_mask"] == 1)
    counts = real.sum(1)
    if inputs["input_ids"].shape[1] > teacher.most_tokens or not bool(counts.all()):
        raise PdidError(
            f"the language model {teacher.version} reads texts of 1 to {teacher.most_tokens} tokens, got "
            f"{min(counts.tolist())} to {max(counts.tolist())}: leave such clips out"
        )
    device = teacher.model.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        hidden = teacher.model(**inputs.to(device)).last_hidden_state.float()
    rows = [vectors[inside] for vectors, inside in zip(hidden, real.to(device), strict=True)]
    return pad_sequence(rows, batch_first=True), counts.to(device)
