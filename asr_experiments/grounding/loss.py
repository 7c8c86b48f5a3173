"""The loss of audio-visual grounding: triplets with a margin, both ways (Harwath et al., arXiv 1911.09602)."""

from __future__ import annotations

import torch
from torch import Tensor


def triplet_loss(scores: Tensor, same: Tensor, generator: torch.Generator, margin: float = 1.0) -> Tensor:
    """The mean over a batch of hinge losses against a sampled and a semi-hard negative, for speech and for pictures.

    `scores[i, j]` (n, n) is how well clip i fits picture j, and pair i is (i, i). `same` bool (n, n) marks what is no
    negative: the pair itself, and pairs that are known to show the same. A negative is drawn from the rest of the batch
    on the CPU with `generator`; the semi-hard one (Schroff et al., arXiv 1503.03832) is the best of those that score
    less than the pair does, or the worst of all where none does, so that a batch in which everything is wrong does not
    collapse. A pair without a negative in its batch adds nothing; the result is zero if there is none at all.
    """
    total = scores.new_zeros(())
    for table, out in ((scores, same), (scores.T, same.T)):
        rows = (~out).any(1).nonzero()[:, 0]
        if not len(rows):
            continue
        table, allowed = table[rows], ~out[rows]
        pair = scores.diagonal()[rows]
        drawn = torch.multinomial(allowed.float().cpu(), 1, generator=generator).to(scores.device)
        for negative in (table.gather(1, drawn)[:, 0], table.gather(1, semi_hard(table, pair, allowed))[:, 0]):
            total = total + torch.relu(margin + negative - pair).mean()
    return total


@torch.no_grad()
def semi_hard(table: Tensor, pair: Tensor, allowed: Tensor) -> Tensor:
    """Columns (n, 1) of the semi-hard negatives of rows of scores (n, m), whose pairs score `pair` (n,)."""
    below = allowed & (table < pair[:, None])
    best_below = table.masked_fill(~below, -torch.inf).argmax(1, keepdim=True)
    worst = table.masked_fill(~allowed, torch.inf).argmin(1, keepdim=True)
    return torch.where(below.any(1, keepdim=True), best_below, worst)
