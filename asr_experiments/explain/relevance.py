"""Layer-wise relevance propagation (LRP) through the accent classifier, with a condition on a layer's channels.

Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation",
PLoS ONE 10(7), 2015. Which rule for which layer is that of Montavon et al., "Layer-wise relevance propagation: an
overview", 2019: ε for the dense layers, z⁺ for the convolutions. A condition on channels makes it concept relevance
propagation (Achtibat et al., arXiv 2206.03208).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr_experiments.classifier import AccentCnn
from catalog.errors import UsageError

EPSILON = 1e-6
Rule = Literal["epsilon", "z+"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What of a convolution's output is followed further down: these channels; 1 is the first convolution."""

    layer: int
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Relevance:
    """What each pixel speaks for a class, (batch, n_mels, n_frames), and what of the evidence went elsewhere, (batch,).

    `pixels` and `absorbed` (by the biases and ε of ε layers, and by channels that a condition leaves out) sum to
    `evidence`, (batch,): nothing is lost on the way.
    """

    pixels: Tensor
    absorbed: Tensor
    evidence: Tensor


def evidence(scores: Tensor, classes: Tensor) -> Tensor:
    """What speaks for a class against the others, (batch,): its score less the others' mean; `scores` are before the
    softmax, (batch, n_classes). Unlike the score itself it does not depend on what all scores have in common, which
    the softmax doesn't see."""
    return (scores * contrast(classes, scores.shape[1]).to(scores)).sum(1)


def contrast(classes: Tensor, n_classes: int) -> Tensor:
    """Each class's weights (batch, n_classes) on the scores: 1 on itself, −1/(n − 1) on the others."""
    own = F.one_hot(classes, n_classes).float()
    return own - (1 - own) / max(1, n_classes - 1)


@torch.no_grad()
def relevance(
    net: AccentCnn,
    x: Tensor,
    classes: Tensor,
    rule: Rule = "z+",
    condition: Condition | None = None,
    epsilon: float = EPSILON,
) -> Relevance:
    """Share the evidence for a class (`classes`, one for each row) out among the pixels of x (batch, n_mels, n_frames).

    A unit's relevance R goes to its inputs as x·w/(z + ε·sign z), z with its bias (ε rule), or by the positive ones
    among x·w alone, without a bias (z⁺, here for inputs of either sign). Max-pooling hands it to the pixel that won.
    `rule` is that of the convolutions; the dense layers always have ε. A condition follows only some channels of one
    convolution: the maps of all channels one by one sum to the whole. Dropout is off; rows don't see each other.

    Raises UsageError for an unknown rule or a channel that isn't there.
    """
    if rule not in ("epsilon", "z+"):
        raise UsageError(f"rule: expected epsilon or z+, got {rule!r}")
    if condition is not None:
        _check(net, condition)
    convs = [cast(nn.Conv2d, conv) for conv in net.convs]
    inputs, pooled = [], []  # of each convolution, before and after pooling
    at = x[:, None]
    for i, conv in enumerate(convs):
        pooled.append(at)
        at = net.pool(at) if i else at
        inputs.append(at)
        at = torch.relu(conv(at))
    last = at
    flat = net.pool(last).flatten(1)
    hidden = torch.relu(net.hidden(flat))
    weights = contrast(classes, net.out.out_features).to(x)
    told = (net.out(hidden) * weights).sum(1)

    # the evidence is a linear unit of its own: the last layer's rows weighted by the contrast
    share = hidden * (weights @ net.out.weight)
    R = share * (told / _stable(told, epsilon))[:, None]
    R = _epsilon(lambda a: F.linear(a, net.hidden.weight), net.hidden.bias, flat, R, epsilon)
    R = _unpool(net, last, R.view(net.pool(last).shape))
    for i in reversed(range(len(convs))):
        conv = convs[i]
        if condition is not None and condition.layer == i + 1:
            kept = torch.zeros_like(R)
            kept[:, list(condition.channels)] = R[:, list(condition.channels)]
            R = kept
        R = _positive(conv.weight, inputs[i], R) if rule == "z+" else _conv_epsilon(conv, inputs[i], R, epsilon)
        if i:
            R = _unpool(net, pooled[i], R)
    pixels = R[:, 0]
    return Relevance(pixels, told - pixels.sum((1, 2)), told)


def _check(net: AccentCnn, condition: Condition) -> None:
    if not 1 <= condition.layer <= len(net.convs):
        raise UsageError(f"condition: expected a convolution from 1 to {len(net.convs)}, got {condition.layer}")
    size = cast(nn.Conv2d, net.convs[condition.layer - 1]).out_channels
    if not condition.channels or not all(0 <= channel < size for channel in condition.channels):
        raise UsageError(f"condition: expected channels from 0 to {size - 1}, got {condition.channels}")


def _stable(z: Tensor, epsilon: float) -> Tensor:
    return z + epsilon * torch.where(z >= 0, 1.0, -1.0)


def _back(linear: Callable[[Tensor], Tensor], a: Tensor, s: Tensor) -> Tensor:
    """The transpose of a linear map applied to s, (…) as a."""
    with torch.enable_grad():
        at = a.detach().requires_grad_()
        (found,) = torch.autograd.grad(linear(at), at, s)
    return found


def _epsilon(linear: Callable[[Tensor], Tensor], bias: Tensor | None, a: Tensor, R: Tensor, epsilon: float) -> Tensor:
    """The ε rule: R_i = Σ_j a_i w_ij / (z_j + ε sign z_j) R_j with z_j = Σ_i a_i w_ij + b_j."""
    z = linear(a)
    if bias is not None:
        z = z + bias.view(-1, *[1] * (z.dim() - 2))
    return a * _back(linear, a, R / _stable(z, epsilon))


def _conv_epsilon(conv: nn.Conv2d, a: Tensor, R: Tensor, epsilon: float) -> Tensor:
    return _epsilon(lambda given: F.conv2d(given, conv.weight, padding=1), conv.bias, a, R, epsilon)


def _positive(weight: Tensor, a: Tensor, R: Tensor) -> Tensor:
    """The z⁺ rule of a 3 × 3 convolution: R_i = Σ_j (a_i w_ij)⁺ / Σ_i (a_i w_ij)⁺ R_j."""
    parts = [(a.clamp(min=0), weight.clamp(min=0)), (a.clamp(max=0), weight.clamp(max=0))]

    def through(which: int) -> Callable[[Tensor], Tensor]:
        return lambda given: F.conv2d(given, parts[which][1], padding=1)

    z = through(0)(parts[0][0]) + through(1)(parts[1][0])
    s = torch.where(z > 0, R / z.clamp(min=1e-30), 0.0)
    return sum((part * _back(through(i), part, s) for i, (part, _) in enumerate(parts)), torch.zeros_like(a))


def _unpool(net: AccentCnn, a: Tensor, R: Tensor) -> Tensor:
    """Relevance of max-pooling's output to the pixels of its input a that won."""
    return _back(net.pool, a, R)
