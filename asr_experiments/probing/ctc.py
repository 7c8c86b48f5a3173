"""A small reader of characters on frozen frames: how much of the words a layer keeps, and how plainly.

Connectionist temporal classification (Graves et al., ICML 2006) over one narrow layer and one convolution, the same
for every layer of every model: each is brought to steps of 40 ms, finer frames laid side by side, and coarser ones
opened by the first layer into as many steps as they span. Else coarse layers would lose by their rate alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr_experiments.features import Floats, Progress
from catalog.errors import PdidError, UsageError
from catalog.records import RATE

STEP = RATE // 25
"""Samples from one step of the reader to the next: 40 ms. Steps of 20 take twice as long, and learn less in as many
epochs: character errors of 34 % in place of 21 on log-mels of digits."""

BLANK = 0


@dataclass(frozen=True, slots=True)
class CtcSettings:
    """How the reader is made and trained."""

    width: int = 64  # numbers a step is brought to by the first layer
    kernel: int = 5  # steps the convolution sees: 0.2 s
    epochs: int = 20
    batch: int = 16
    learning_rate: float = 5e-3  # of Adam, falling to nothing along a cosine
    seed: int = 0


DEFAULT = CtcSettings()


class Reader(nn.Module):
    """Frames of one width → scores of blank and characters, a step each."""

    def __init__(self, width: int, hop: int, n_symbols: int, settings: CtcSettings) -> None:
        super().__init__()
        self.beside, self.opened = max(1, STEP // hop), max(1, hop // STEP)
        self.narrow = nn.Linear(width * self.beside, settings.width * self.opened)
        self.read = nn.Conv1d(settings.width, n_symbols, settings.kernel, padding=settings.kernel // 2)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, width) → log-probabilities (batch, steps, symbols)."""
        batch, n, width = frames.shape
        pad = -n % self.beside
        x = F.pad(frames, (0, 0, 0, pad)).reshape(batch, (n + pad) // self.beside, width * self.beside)
        x = F.gelu(self.narrow(x)).reshape(batch, x.shape[1] * self.opened, -1)
        return cast(Tensor, self.read(x.transpose(1, 2)).transpose(1, 2).log_softmax(-1))

    def steps(self, n_frames: int) -> int:
        """Steps that a clip's frames make."""
        return -(-n_frames // self.beside) * self.opened


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained reader, its characters (the blank stands before them), and how frames are standardised."""

    reader: Reader
    alphabet: str
    mean: Floats
    scale: Floats
    too_few: int  # training clips whose text needs more steps than they have; left out
    loss: float  # mean of the last epoch, per clip


def needed_steps(text: str) -> int:
    """Steps that writing a text takes: one a character, and a blank between two of the same."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def train_reader(
    frames: Sequence[Floats],
    texts: Sequence[str],
    hop: int,
    settings: CtcSettings = DEFAULT,
    device: str = "cpu",
    progress: Progress = lambda share: None,
) -> Trained:
    """Train on clips' frames (n, width) and texts; `hop` is 10 ms in samples (160) times a power of two, one frame to
    the next. The caller's random state is left as it was.

    Clips with fewer steps than their text needs are left out and counted. Raises UsageError where none is left, or a
    text is empty; PdidError if the loss stops being a number.
    """
    if not all(texts):
        raise UsageError("a reader learns from transcripts: an empty one came; leave such clips out")
    alphabet = "".join(sorted(set("".join(texts))))
    every = np.concatenate([np.asarray(one, np.float32) for one in frames])
    mean, scale = every.mean(0), every.std(0)
    scale = np.where(scale > 1e-8 * (1 + np.abs(mean)), scale, 1).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        reader = Reader(every.shape[1], hop, len(alphabet) + 1, settings).to(device)
        usable = [i for i, text in enumerate(texts) if needed_steps(text) <= reader.steps(len(frames[i]))]
        if not usable:
            raise UsageError(
                f"no transcript fits into its clip's steps of {STEP / RATE:g} s (the first needs "
                f"{needed_steps(texts[0])} and has {reader.steps(len(frames[0]))}): are they the clips' own?"
            )
        made = Trained(reader, alphabet, mean, scale, len(texts) - len(usable), 0.0)
        codes = [torch.tensor([alphabet.index(c) + 1 for c in texts[i]]) for i in usable]
        adam = torch.optim.Adam(reader.parameters(), settings.learning_rate)
        n_batches = -(-len(usable) // settings.batch)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.epochs * n_batches)
        rng = np.random.default_rng(settings.seed)
        total = 0.0
        for epoch in range(settings.epochs):
            total = 0.0
            for batch in _batches([len(frames[i]) for i in usable], settings.batch, rng):
                scores, steps = _scores(made, [frames[usable[k]] for k in batch])
                loss: Tensor = F.ctc_loss(
                    scores.transpose(0, 1).cpu(),
                    torch.cat([codes[k] for k in batch]),
                    torch.tensor(steps),
                    torch.tensor([len(codes[k]) for k in batch]),
                    blank=BLANK,
                )
                if not torch.isfinite(loss):
                    raise PdidError(f"the reader's loss is {loss.item()} in epoch {epoch + 1}: lower its learning rate")
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                fall.step()
                total += loss.item() * len(batch)
            progress((epoch + 1) / settings.epochs)
    return Trained(reader.eval(), alphabet, mean, scale, made.too_few, total / len(usable))


def read(made: Trained, frames: Sequence[Floats], batch: int = 32) -> list[str]:
    """What the reader writes for each clip's frames (n, width): the likeliest symbol of each step, repeats and blanks
    taken out, single spaces."""
    found: list[str] = [""] * len(frames)
    order = sorted(range(len(frames)), key=lambda i: len(frames[i]))
    with torch.inference_mode():
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            scores, steps = _scores(made, [frames[i] for i in part])
            for i, best, n in zip(part, scores.argmax(-1).cpu().tolist(), steps, strict=True):
                found[i] = decoded(best[:n], made.alphabet)
    return found


def decoded(symbols: Sequence[int], alphabet: str) -> str:
    """The text that a path of symbols means: 0 is the blank, 1 the alphabet's first character."""
    kept = [b for a, b in pairwise([BLANK, *symbols]) if b not in (BLANK, a)]
    return " ".join("".join(alphabet[k - 1] for k in kept).split())


def _scores(made: Trained, frames: Sequence[Floats]) -> tuple[Tensor, list[int]]:
    """A batch's log-probabilities (batch, steps, symbols), and each clip's steps."""
    device = made.reader.narrow.weight.device
    standard = [torch.from_numpy((np.asarray(one, np.float32) - made.mean) / made.scale) for one in frames]
    x = nn.utils.rnn.pad_sequence(standard, batch_first=True).to(device)
    return made.reader(x), [made.reader.steps(len(one)) for one in frames]


def _batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Clips of like length together, batches in random order."""
    order = sorted(rng.permutation(len(lengths)).tolist(), key=lambda i: lengths[i] + int(rng.integers(50)))
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    return [batches[k] for k in rng.permutation(len(batches))]
