"""What a Whisper is fine-tuned on: which clips, their tokens, and the batches of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.context import Context, window_frames
from catalog.errors import PdidError
from catalog.whisper import HOP, Whisper, prompt_tokens

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Augment = Callable[[Floats, int, int, np.random.Generator], tuple[Floats, float]]
"""(features (n_mels, frames), valid frames, index of the clip, random numbers) -> (changed features, share masked).

It leaves the features it is given as they are; the share is of the valid pixels, 0 to 1.
"""

IGNORED = -100
"""A label that counts for nothing in the loss."""


class LogMelSource(Protocol):
    """Log-mels by index: (features float32 (n_mels, window), valid frames)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Floats, int]: ...


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How a Whisper is fine-tuned. What the paper says, else what is usual for Whisper."""

    learning_rate: float = 1e-5
    batch_size: int = 32  # items in one update
    epochs: int = 10  # an epoch is every clip twice: as it is, and its changed copy (without a change, as it is again)
    seed: int = 0
    context: Context = "full"
    lora: bool = False  # train low-rank matrices in the attention's q and v instead of all weights
    fresh_draws: bool = True  # a new draw of the change each epoch (the paper's: one draw for all)
    warmup_share: float = 0.1  # of the updates, in which the learning rate rises; then it falls to nothing in a line
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    micro_batch: int | None = None  # items computed at once where memory is short; the updates stay the same


def paper_settings(whisper: Whisper, **changes: Any) -> FinetuneSettings:
    """The paper's learning rate and batch for a model's size, and for a mini (width under 200) METHOD's.

    Sizes the paper leaves out take the next smaller one's learning rate. `changes` are fields of FinetuneSettings.
    """
    width = int(whisper.model.config.d_model)
    rates = ((200, 3e-4, 16), (384, 1e-5, 32), (512, 3e-6, 16), (768, 3e-6, 8))
    rate, batch = next(((rate, batch) for limit, rate, batch in rates if width <= limit), (3e-6, 4))
    return replace(FinetuneSettings(learning_rate=rate, batch_size=batch), **changes)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Clips to train on: log-mels by index, and for the clips that fit the model their tokens and lengths."""

    mels: LogMelSource
    tokens: dict[int, tuple[int, ...]]  # index of a clip -> prompt, transcript, end
    n_valid: dict[int, int]  # valid frames
    n_prompt: int  # tokens of the prompt, which are given, not learned
    too_long: tuple[int, ...] = ()  # clips longer than the model's window, left out
    too_many_tokens: tuple[int, ...] = ()  # clips whose transcript is longer than the model can write, left out
    no_text: tuple[int, ...] = ()  # clips with an empty transcript, left out


def training_set(
    whisper: Whisper,
    mels: LogMelSource,
    texts: Sequence[str],
    language: str | None,
    lengths: Sequence[tuple[int, int]],
) -> TrainingSet:
    """Tokenise transcripts, and leave out what the model can't take: too long, too many tokens, no text.

    `lengths[i]` are a clip's valid frames and its whole length in samples at 16 kHz. Raises UsageError for a language
    that the model does not know, and PdidError where no clip is left.
    """
    prompt = prompt_tokens(whisper, language)
    end = int(whisper.model.generation_config.eos_token_id)
    window, limit = window_frames(whisper.model) * HOP, int(whisper.model.config.max_target_positions)
    tokens: dict[int, tuple[int, ...]] = {}
    too_long, too_many, no_text = [], [], []
    for i, (text, (_, n_samples)) in enumerate(zip(texts, lengths, strict=True)):
        # with a space before the first word too, as Whispers are trained; without one the first token is another
        words = whisper.tokenizer(f" {text.strip()}", add_special_tokens=False)["input_ids"] if text.strip() else []
        if not words:
            no_text.append(i)
        elif n_samples > window:
            too_long.append(i)
        elif len(prompt) + len(words) + 1 > limit:
            too_many.append(i)
        else:
            tokens[i] = (*prompt, *words, end)
    if not tokens:
        raise PdidError(
            f"no clip is left to train on: {len(too_long)} are longer than {whisper.window_s:g} s, "
            f"{len(too_many)} have more than {limit} tokens, {len(no_text)} have no transcript"
        )
    n_valid = {i: lengths[i][0] for i in tokens}
    return TrainingSet(mels, tokens, n_valid, len(prompt), tuple(too_long), tuple(too_many), tuple(no_text))


Item = tuple[int, bool]
"""A clip's index, and whether it is the changed copy."""


def epoch_batches(data: TrainingSet, settings: FinetuneSettings, epoch: int) -> list[list[Item]]:
    """An epoch's updates: every clip as it is and once more, clips of a like length together, in random order.

    The same for every arm: only seed, epoch and lengths count.
    """
    rng = np.random.default_rng([settings.seed, epoch, 0x6261])
    items: list[Item] = [(i, copy) for i in data.tokens for copy in (False, True)]
    shuffled = [items[k] for k in rng.permutation(len(items))]
    pool = 16 * settings.batch_size  # sorted within pools, not over all: who meets whom differs from epoch to epoch
    ordered: list[Item] = []
    for first in range(0, len(shuffled), pool):
        ordered += sorted(shuffled[first : first + pool], key=lambda item: data.n_valid[item[0]])
    batches = [ordered[k : k + settings.batch_size] for k in range(0, len(ordered), settings.batch_size)]
    return [batches[k] for k in rng.permutation(len(batches))]


def n_updates(data: TrainingSet, settings: FinetuneSettings) -> int:
    """Updates of the whole run, the same for every arm."""
    return settings.epochs * math.ceil(2 * len(data.tokens) / settings.batch_size)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one update: log-mels float32 (n, n_mels, frames), tokens in and labels, both int64 (n, length)."""

    features: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    shares: tuple[float, ...]  # of valid pixels masked, one for each changed copy


def make_batch(
    data: TrainingSet,
    items: Sequence[Item],
    settings: FinetuneSettings,
    epoch: int,
    frames: int,
    augment: Augment | None,
) -> Batch:
    """Read, change and pad the items of an update; `frames` is what the encoder runs on.

    The prompt's tokens are given, not learned: they stand in the labels as IGNORED, as padding does.
    """
    import torch

    features, shares = [], []
    for index, changed in items:
        mel, n_valid = data.mels[index]
        if changed and augment:
            draw = epoch if settings.fresh_draws else 0
            mel, share = augment(mel, n_valid, index, np.random.default_rng([settings.seed, draw, index]))
            shares.append(share)
        features.append(torch.from_numpy(np.ascontiguousarray(mel[:, :frames], np.float32)))
    sequences = [data.tokens[index] for index, _ in items]
    longest = max(map(len, sequences)) - 1
    tokens = torch.full((len(items), longest), sequences[0][-1])
    labels = torch.full((len(items), longest), IGNORED)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        labels[row, data.n_prompt - 1 : len(sequence) - 1] = torch.tensor(sequence[data.n_prompt :])
    return Batch(torch.stack(features), tokens, labels, tuple(shares))
