"""A small BERT, pre-trained on the transcripts at hand: the stand-in for a language model where none is named.

transformers' own classes and BERT's own format, so that whatever takes a BERT takes this. Masked words as in arXiv
1810.04805: 15 % of the tokens are asked for, of which 80 % are hidden, 10 % replaced at random and 10 % left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr_experiments.features import Progress
from asr_experiments.training_set import IGNORED
from catalog.errors import PdidError
from catalog.whisper import quiet_transformers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class SmallBertSettings:
    """Size and training of a small BERT."""

    width: int = 128
    layers: int = 2
    n_tokens: int = 2000  # of the WordPiece vocabulary, at most
    max_tokens: int = 512  # that it can read
    updates: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-3
    asked: float = 0.15  # share of the tokens
    seed: int = 0


def obtain_small_bert(
    texts: Sequence[str],
    cache: Path,
    settings: SmallBertSettings | None = None,
    progress: Progress = lambda share: None,
) -> Path:
    """The folder of a small BERT of some texts: from `cache`, or pre-trained now.

    The folder's name holds a hash of the texts and the settings. Raises PdidError where no text has a word, or the loss
    is no longer finite.
    """
    settings = settings or SmallBertSettings()
    usable = sorted({" ".join(text.split()) for text in texts} - {""})
    if not usable:
        raise PdidError(f"nothing to make a language model of: none of {len(texts)} transcripts has a word")
    told = json.dumps([asdict(settings), usable], ensure_ascii=False)
    folder = cache / f"bert-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    tokenizer = train_wordpiece(usable, settings.n_tokens)
    model = _pretrain(usable, tokenizer, settings, progress)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet_transformers():
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    os.replace(part, folder)
    return folder


def train_wordpiece(texts: Sequence[str], n_tokens: int) -> Any:
    """A BERT tokenizer (WordPiece, upper and lower case apart) for some texts."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    made = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    made.train_from_iterator(
        list(texts), vocab_size=n_tokens, min_frequency=1, special_tokens=[*SPECIAL], show_progress=False
    )
    return BertTokenizer(vocab=made.get_vocab(), do_lower_case=False, strip_accents=False)


def _pretrain(texts: Sequence[str], tokenizer: Any, settings: SmallBertSettings, progress: Progress) -> Any:
    """Masked-word training from nothing; the model in evaluation mode."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=max(1, settings.width // 32),
        intermediate_size=4 * settings.width,
        max_position_embeddings=settings.max_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():  # the caller's random state is its own
        torch.manual_seed(settings.seed)
        model: Any = BertForMaskedLM(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
        for step in range(1, settings.updates + 1):
            chosen = [texts[k] for k in torch.randint(len(texts), (settings.batch_size,))]
            inputs = tokenizer(
                chosen, padding=True, truncation=True, max_length=settings.max_tokens, return_tensors="pt"
            )
            inputs["input_ids"], labels = hide(inputs["input_ids"], tokenizer, settings.asked)
            loss = model(**inputs, labels=labels).loss
            if not torch.isfinite(loss):
                raise PdidError(f"pre-training the small BERT broke down at update {step}: the loss is {float(loss)}")
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * min(1.0, step / 40, 2 * (1 - (step - 1) / settings.updates))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress(step / settings.updates)
    return model.eval()


def hide(ids: Tensor, tokenizer: Any, asked: float) -> tuple[Tensor, Tensor]:
    """BERT's masking of token ids (batch, length): the ids to read, and the labels, IGNORED where nothing is asked.

    At least one token is asked for in every batch, since a mean over none is no number.
    """
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    chance = torch.rand(ids.shape).masked_fill(special, 1.0)
    wanted = chance <= max(asked, float(chance.min()))
    wanted &= ~special
    labels = ids.masked_fill(~wanted, IGNORED)
    what = torch.rand(ids.shape)
    read = torch.where(wanted & (what < 0.8), tokenizer.mask_token_id, ids)
    others = torch.randint(len(SPECIAL), len(tokenizer), ids.shape)
    return torch.where(wanted & (what >= 0.9), others, read), labels
