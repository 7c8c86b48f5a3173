"""The arms `ctc` and `align`: an encoder that learns to write by CTC, alone or taught by a language model.

Both train the same network on the same clips. In `align` the encoder's states H are coupled with a frozen language
model's token vectors Z by unbalanced optimal transport (`transport`), and the loss is

    CTC + w_a·mean(1 − cos(γᵀH / γᵀ1, Z)) + w_o·⟨γ, M⟩,   M = 1 − cos(H, Z)

(after arXiv 2509.05609 and 2409.02239); `ctc` has both weights at nothing. Where the two widths differ a linear map of
H comes before. γ is held fixed (see `transport`). The language model is for training only: the CTC head alone writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr_experiments.aligning.language_model import LanguageModel, count_tokens, token_vectors
from asr_experiments.aligning.network import CtcNetwork, EncoderName
from asr_experiments.aligning.transport import (
    TransportSettings,
    cosine_cost,
    couple,
    log_order_prior,
    shortfall,
    uniform,
)
from asr_experiments.training_set import IGNORED, LogMelSource, TrainingSet
from catalog.context import window_frames
from catalog.errors import PdidError, UsageError
from catalog.whisper import HOP, Whisper


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """What the arms `ctc` and `align` are made of."""

    encoder: EncoderName = "whisper"
    language_model: str | None = None  # a folder; None: a small BERT made from the training transcripts
    language_model_version: str | None = None
    weights: tuple[float, float] = (0.3, 0.3)  # w_a, w_o
    transport: TransportSettings = field(default_factory=TransportSettings)

    def __post_init__(self) -> None:
        """Raises UsageError for a weight below 0."""
        if min(self.weights) < 0:
            raise UsageError(f"--align-weights: expected two weights from 0 up, got {self.weights}")


def spaced(text: str) -> str:
    """A transcript as the CTC head learns it: verbatim, its spaces made single."""
    return " ".join(text.split())


def ctc_set(
    network: CtcNetwork,
    whisper: Whisper,
    teacher: LanguageModel,
    mels: LogMelSource,
    texts: Sequence[str],
    lengths: Sequence[tuple[int, int]],
) -> TrainingSet:
    """Clips to train a CTC network on, the same for both arms; what can't be learned from is left out and counted.

    That is a clip longer than the window, one without a text, and one with more characters (a doubled one needs a blank
    between) or more of the language model's tokens than positions, or than the language model reads. `lengths[i]` are
    a clip's valid frames and its whole length in samples at 16 kHz. A character the network does not know is passed
    over. A clip's sequence is the number of its valid frames, which is given as a prompt is, and then its characters.
    Raises PdidError where no clip is left.
    """
    window, index = window_frames(whisper.model) * HOP, {c: i for i, c in enumerate(network.characters)}
    room = network.encoder.positions(torch.tensor([n for n, _ in lengths])).tolist()
    n_tokens = count_tokens(teacher, [spaced(text) for text in texts])
    special = teacher.tokenizer.num_special_tokens_to_add()
    tokens: dict[int, tuple[int, ...]] = {}
    too_long, too_many, no_text = [], [], []
    for i, (text, (n_valid, n_samples)) in enumerate(zip(texts, lengths, strict=True)):
        written = [index[c] for c in spaced(text) if c in index]
        needed = len(written) + sum(a == b for a, b in pairwise(written))
        if not written or not n_tokens[i]:
            no_text.append(i)
        elif n_samples > window:
            too_long.append(i)
        elif max(needed, n_tokens[i]) > room[i] or n_tokens[i] + special > teacher.most_tokens:
            too_many.append(i)
        else:
            tokens[i] = (n_valid, *written)
    if not tokens:
        raise PdidError(
            f"no clip is left to train on: {len(too_long)} are longer than {whisper.window_s:g} s, "
            f"{len(too_many)} have more characters or language-model tokens than the encoder has positions (or more "
            f"than the {teacher.most_tokens} tokens that {teacher.version} reads), {len(no_text)} have no transcript"
        )
    valid = {i: lengths[i][0] for i in tokens}
    return TrainingSet(mels, tokens, valid, 1, tuple(too_long), tuple(too_many), tuple(no_text))


class AlignLoss(nn.Module):
    """From (features, given, labels) to the loss summed over the characters; without a teacher, CTC alone."""

    def __init__(self, network: CtcNetwork, settings: AlignSettings, teacher: LanguageModel | None = None) -> None:
        """torch's random state decides the first weights of the map between the widths, where there is one."""
        super().__init__()
        self.network, self.settings = network, settings
        # in a tuple, so that it is no part of what is trained, kept, or put into training mode
        self.teacher = (teacher,)
        self.project: nn.Module = nn.Identity()
        if teacher and teacher.width != network.encoder.width:
            device = network.head.weight.device
            self.project = nn.Linear(network.encoder.width, teacher.width, bias=False).to(device)
        self.said: list[tuple[float, float, float]] = []

    def forward(self, features: Tensor, given: Tensor, labels: Tensor) -> Tensor:
        """`given[:, 0]` are the valid frames, `labels` the characters (batch, most), IGNORED at the padding.

        The teacher's part is a mean over a clip's tokens, times the clip's characters, as CTC is a sum over them: an
        update's loss per character is the formula above, whatever pieces it is computed in.
        """
        hidden, positions = self.network(features, given[:, 0])
        sizes = (labels != IGNORED).sum(1)
        scores = self.network.head(hidden).float().log_softmax(-1).transpose(0, 1)
        ctc = F.ctc_loss(
            scores,
            labels.clamp_min(0),
            positions,
            sizes,
            blank=self.network.blank,
            reduction="none",
            zero_infinity=True,
        )
        loss = (ctc * (sizes > 0)).sum()  # an item without characters counts for nothing
        (teacher,) = self.teacher
        if teacher is None or not bool(sizes.any()):
            return loss
        rows = [row for row, n in enumerate(sizes.tolist()) if n]
        texts = ["".join(self.network.characters[c] for c in labels[row, : sizes[row]].tolist()) for row in rows]
        vectors, counts = token_vectors(teacher, texts)
        taught = self.taught(self.project(hidden[rows]).float(), positions[rows], vectors, counts)
        return loss + (sizes[rows] * taught).sum()

    def taught(self, frames: Tensor, n_frames: Tensor, tokens: Tensor, n_tokens: Tensor) -> Tensor:
        """w_a·mean(1 − cos(γᵀH / γᵀ1, Z)) + w_o·⟨γ, M⟩ of each clip, (batch,).

        H is `frames` (batch, n, width), of which `n_frames` are valid; Z is `tokens` (batch, m, width).
        """
        (n, m), chosen = (frames.shape[1], tokens.shape[1]), self.settings.transport
        cost = cosine_cost(frames, tokens)
        a, b = uniform(n_frames, n).to(cost.dtype), uniform(n_tokens, m).to(cost.dtype)
        prior = log_order_prior(n_frames, n_tokens, n, m, chosen.order_width)
        coupling = couple(cost.detach(), a, b, prior, chosen)
        mass = coupling.token_mass.clamp_min(torch.finfo(frames.dtype).tiny)
        pooled = coupling.plan.transpose(1, 2) @ frames / mass[:, :, None]
        apart = ((1 - F.cosine_similarity(pooled, tokens, dim=-1)) * (b > 0)).sum(1) / n_tokens
        moved = (coupling.plan * cost).sum((1, 2))
        lost = shortfall(coupling.token_mass, b)
        self.said += zip(*(part.tolist() for part in (apart, moved, lost)), strict=True)
        towards, whole = self.settings.weights
        return towards * apart + whole * moved

    def told(self) -> dict[str, float]:
        """The means since the last call over the clips that were taught: how far apart the pooled frames and the tokens
        are (1 − cos), the transport's cost, and the share of the tokens' mass without a frame. Empty without a teacher.
        """
        if not self.said:
            return {}
        means = torch.tensor(self.said).mean(0).tolist()
        self.said.clear()
        return dict(zip(("apart", "transport", "shortfall"), means, strict=True))
