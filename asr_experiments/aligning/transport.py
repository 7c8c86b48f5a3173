"""Unbalanced optimal transport between frames and tokens, many pairs of sequences at once.

The coupling γ (n frames × m tokens, not negative) that minimises

    ⟨γ, M⟩ + ε·KL(γ‖c) + λ₁·KL(γ1‖a) + λ₂·KL(γᵀ1‖b)

with KL(p‖q) = Σ p·log(p/q) − p + q (arXiv 2509.05609, 2409.02239). c is a prior, here that of temporal order; λ says
how much it costs to leave a frame's mass a, or a token's mass b, where it is. The solution is γ = diag(u)·K·diag(v),
K = c·exp(−M/ε), found by setting u = (a/Kv)^(λ₁/(λ₁+ε)) and v = (b/Kᵀu)^(λ₂/(λ₂+ε)) in turn (Chizat et al., arXiv
1607.05816). An infinite λ has the exponent 1 and keeps its side exactly.

No gradient goes through the iterations: a coupling is a constant. By the envelope theorem γ itself is the derivative of
the minimum with respect to M, so ⟨γ, M⟩ with γ held fixed has the gradient of the whole transport problem, in the
memory of one matrix where unrolled iterations keep them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from catalog.errors import UsageError

CHECK = 5
"""Iterations from one look at how much still changes to the next: each look costs as much as an iteration."""

SHARE = 0.9
"""Of the exponents a number's type can hold: what the best partner of a frame or a token may need in the product form,
where the sums of what is smaller would vanish. Smaller ones go to the log domain."""

Form = Literal["auto", "product", "log"]
"""How it is computed: by products of matrices, or in the log domain; `auto` takes products where they can be held."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """How frames and tokens are coupled. λ of None is infinite."""

    epsilon: float = 0.1  # ε: small gives sharp couplings
    keep_frames: float | None = 0.1  # λ₁: what it costs to leave frames (silence, noise) without a token
    keep_tokens: float | None = None  # λ₂: what it costs to leave tokens without a frame
    order_width: float = 0.2  # standard deviation of the order prior, as a share of the utterance
    iterations: int = 100  # at most
    tolerance: float = 1e-3  # the change of log u between two iterations that ends them

    def __post_init__(self) -> None:
        """Raises UsageError for values that make no transport problem."""
        sides = [side for side in (self.keep_frames, self.keep_tokens) if side is not None]
        if not (0 < self.epsilon < math.inf and 0 < self.order_width < math.inf):
            raise UsageError(
                f"transport: expected an ε and an order width above 0, got {self.epsilon:g} and {self.order_width:g}"
            )
        if not all(0 <= side < math.inf for side in sides):
            raise UsageError(f"transport: expected λ from 0 up, or inf, got {', '.join(f'{s:g}' for s in sides)}")


@dataclass(frozen=True, slots=True)
class Coupling:
    """Couplings of a batch: `plan` (batch, n, m), 0 at the padding, and without a gradient."""

    plan: Tensor
    iterations: int
    form: Form  # product or log

    @property
    def token_mass(self) -> Tensor:
        """γᵀ1: what each token gets, (batch, m)."""
        return self.plan.sum(1)


def cosine_cost(frames: Tensor, tokens: Tensor) -> Tensor:
    """M = 1 − cos between frames (batch, n, width) and tokens (batch, m, width): (batch, n, m), 0 to 2."""
    return 1 - F.normalize(frames, dim=-1) @ F.normalize(tokens, dim=-1).transpose(1, 2)


def uniform(lengths: Tensor, size: int) -> Tensor:
    """Equal masses that sum to 1 on the first `lengths[k]` of `size` places, 0 on the padding: (batch, size)."""
    inside = torch.arange(size, device=lengths.device) < lengths[:, None]
    return inside / lengths.clamp_min(1)[:, None]


def log_order_prior(n_frames: Tensor, n_tokens: Tensor, n: int, m: int, width: float) -> Tensor:
    """log c: a Gaussian in the distance of frame and token along the utterance, |i/n − j/m|, taken at their middles.

    c sums to 1 over each pair of sequences, as a·bᵀ does; −inf at the padding. `n_frames` and `n_tokens` are lengths
    (batch,), `n` and `m` the padded sizes, `width` the standard deviation as a share of the utterance. (batch, n, m).
    """
    i, j = (torch.arange(size, device=n_frames.device) for size in (n, m))
    # a place past the end lies past 1: its prior is set to nothing below
    apart = ((i + 0.5) / n_frames[:, None])[:, :, None] - ((j + 0.5) / n_tokens[:, None])[:, None, :]
    inside = (i < n_frames[:, None])[:, :, None] & (j < n_tokens[:, None])[:, None, :]
    prior = (-0.5 * (apart / width) ** 2).masked_fill(~inside, -math.inf)
    return prior - prior.logsumexp((1, 2), keepdim=True)


def couple(
    cost: Tensor, a: Tensor, b: Tensor, log_prior: Tensor, settings: TransportSettings, form: Form = "auto"
) -> Coupling:
    """The couplings of a batch of pairs of sequences, padded to the same sizes.

    `cost` is M (batch, n, m); `a` (batch, n) and `b` (batch, m) are the masses of frames and tokens, 0 at the padding,
    and say by that what is padding; `log_prior` is log c, −inf where a frame and a token can't meet. Tokens come last,
    so that an infinite λ₂ is kept to rounding however few the iterations. Raises UsageError where both λ are infinite
    and the masses of a pair differ, since no coupling keeps both then.
    """
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        if settings.keep_frames is settings.keep_tokens is None and not torch.allclose(a.sum(1), b.sum(1)):
            raise UsageError("transport: with both λ infinite frames and tokens need the same mass in all")
        real = (a > 0)[:, :, None] & (b > 0)[:, None, :]
        log_kernel = (log_prior - cost / settings.epsilon).masked_fill(~real, -math.inf)
        if form == "auto":
            form = "product" if _fits(log_kernel, a, b) else "log"
        plan, done = (_by_products if form == "product" else _in_logs)(log_kernel, a, b, settings)
        return Coupling(plan, done, form)


def shortfall(token_mass: Tensor, b: Tensor) -> Tensor:
    """The share of the tokens' mass that found no frame, 0 to 1, of each pair: (batch,)."""
    return (b - token_mass).clamp_min(0).sum(1) / b.sum(1).clamp_min(torch.finfo(b.dtype).tiny)


def exponent(keep: float | None, epsilon: float) -> float:
    """λ/(λ+ε), which is 1 for an infinite λ (None)."""
    return 1.0 if keep is None else keep / (keep + epsilon)


def _fits(log_kernel: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether every frame and token has a partner that the numbers' type can tell from nothing."""
    lowest = SHARE * math.log(torch.finfo(log_kernel.dtype).tiny)
    frames, tokens = log_kernel.amax(2)[a > 0], log_kernel.amax(1)[b > 0]
    return bool((frames > lowest).all() and (tokens > lowest).all())


def _by_products(log_kernel: Tensor, a: Tensor, b: Tensor, settings: TransportSettings) -> tuple[Tensor, int]:
    """Products of rows and matrices, the fast way: on a CPU ten times faster than of matrices and columns."""
    frames, tokens = (exponent(keep, settings.epsilon) for keep in (settings.keep_frames, settings.keep_tokens))
    kernel = log_kernel.exp()
    turned, tiny = kernel.transpose(1, 2).contiguous(), torch.finfo(kernel.dtype).tiny
    u, v, a, b = torch.ones_like(a)[:, None], torch.ones_like(b)[:, None], a[:, None], b[:, None]
    done = 0
    while done < settings.iterations:
        before = u
        # the padding has 0 / tiny: no mass
        u = (a / torch.bmm(v, turned).clamp_min(tiny)) ** frames
        v = (b / torch.bmm(u, kernel).clamp_min(tiny)) ** tokens
        done += 1
        if done % CHECK == 0 and bool(((u - before).abs() <= settings.tolerance * u).all()):
            break
    return u.transpose(1, 2) * kernel * v, done


def _in_logs(log_kernel: Tensor, a: Tensor, b: Tensor, settings: TransportSettings) -> tuple[Tensor, int]:
    """The same on logarithms, for kernels whose numbers would vanish: small ε, narrow priors."""
    frames, tokens = (exponent(keep, settings.epsilon) for keep in (settings.keep_frames, settings.keep_tokens))
    log_a, log_b, log_u, log_v = a.log(), b.log(), torch.zeros_like(a), torch.zeros_like(b)
    done = 0
    while done < settings.iterations:
        before = log_u
        # at the padding both are −inf: what comes of them counts for nothing
        log_u = (frames * (log_a - (log_kernel + log_v[:, None, :]).logsumexp(2))).masked_fill(a <= 0, 0.0)
        log_v = (tokens * (log_b - (log_kernel + log_u[:, :, None]).logsumexp(1))).masked_fill(b <= 0, 0.0)
        done += 1
        if done % CHECK == 0 and float((log_u - before).abs().max()) <= settings.tolerance:
            break
    return (log_kernel + log_u[:, :, None] + log_v[:, None, :]).exp(), done
