"""Unbalanced optimal transport: POT's couplings, padding, grounding, gradients, planted alignments."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr_experiments.aligning.transport import (
    Coupling,
    Form,
    TransportSettings,
    cosine_cost,
    couple,
    log_order_prior,
    shortfall,
    uniform,
)
from benchmarks.align import BALANCED, KINDS, USUAL, boundary_counts, boundary_f1
from catalog.errors import UsageError
from tests.speech import one_thread

__all__ = ["one_thread"]

LAMBDAS = ((0.5, 0.5), (0.1, 5.0), (0.1, None), (None, None))
FORMS: tuple[Form, ...] = ("product", "log")
EXACT = TransportSettings(iterations=20_000, tolerance=1e-11)


def pairs(n: list[int], m: list[int], *, width: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cost, masses and log prior, float64, of pairs of random sequences of these lengths, padded with noise."""
    rng = torch.Generator().manual_seed(seed)
    frames, tokens = (torch.randn(len(n), max(sizes), width, generator=rng, dtype=torch.double) for sizes in (n, m))
    n_frames, n_tokens = torch.tensor(n), torch.tensor(m)
    # their sums are the same to the last digit: where they are not, balanced transport drifts and never comes to rest
    a, b = (
        part / part.sum(1, keepdim=True)
        for part in (uniform(n_frames, max(n)).double(), uniform(n_tokens, max(m)).double())
    )
    return cosine_cost(frames, tokens), a, b, log_order_prior(n_frames, n_tokens, max(n), max(m), 0.2).double()


def with_lambdas(frames: float | None, tokens: float | None, **changes: Any) -> TransportSettings:
    return replace(EXACT, keep_frames=frames, keep_tokens=tokens, **changes)


def objective(plan: Tensor, cost: Tensor, a: Tensor, b: Tensor, log_prior: Tensor, chosen: TransportSettings) -> Tensor:
    """What the coupling of one pair minimises, by its definition; a side with an infinite λ adds nothing."""

    def kl(p: Tensor, q: Tensor) -> Tensor:
        return (torch.special.xlogy(p, p / q) - p + q).sum()

    found = (plan * cost).sum() + chosen.epsilon * kl(plan, log_prior.exp())
    if chosen.keep_frames is not None:
        found = found + chosen.keep_frames * kl(plan.sum(1), a)
    if chosen.keep_tokens is not None:
        found = found + chosen.keep_tokens * kl(plan.sum(0), b)
    return found


# ---------------------------------------------------------------- the solution


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("epsilon", [0.1, 0.05])
@pytest.mark.parametrize("lambdas", LAMBDAS)
def test_couplings_are_pots(lambdas: tuple[float | None, float | None], epsilon: float, form: Form) -> None:
    cost, a, b, log_prior = pairs([31], [7])
    made = couple(cost, a, b, log_prior, with_lambdas(*lambdas, epsilon=epsilon), form)
    assert made.form == form
    prior, masses = log_prior[0].exp().numpy(), (a[0].numpy(), b[0].numpy())
    strict = {"numItermax": 20_000, "stopThr": 1e-14}
    if lambdas == (None, None):  # POT's balanced one knows no prior: it goes into the cost
        theirs = ot.sinkhorn(*masses, cost[0].numpy() - epsilon * log_prior[0].numpy(), epsilon, **strict)
    else:
        theirs = ot.unbalanced.sinkhorn_unbalanced(
            *masses,
            cost[0].numpy(),
            epsilon,
            tuple(math.inf if side is None else side for side in lambdas),
            reg_type="kl",
            c=prior,
            **strict,
        )
    assert theirs.sum() > 0.1
    np.testing.assert_allclose(made.plan[0].numpy(), theirs, rtol=0, atol=1e-8)
    np.testing.assert_allclose(made.plan[0].numpy(), theirs, rtol=1e-5, atol=1e-12)


def test_an_infinite_lambda_is_the_limit_of_large_ones() -> None:
    cost, a, b, log_prior = pairs([20], [5])
    limit = couple(cost, a, b, log_prior, with_lambdas(0.1, None)).plan
    apart = [
        float((couple(cost, a, b, log_prior, with_lambdas(0.1, large)).plan - limit).abs().max())
        for large in (1.0, 1e3, 1e6)
    ]
    assert apart[0] > 100 * apart[1] > 10_000 * apart[2]
    assert apart[2] < 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lambdas", LAMBDAS)
def test_a_batch_with_padding_is_each_pair_by_itself(lambdas: tuple[float | None, float | None], form: Form) -> None:
    n, m = [40, 13, 27, 1], [9, 4, 1, 1]
    cost, a, b, log_prior = pairs(n, m)
    chosen = with_lambdas(*lambdas)
    made = couple(cost, a, b, log_prior, chosen, form).plan
    for k, (rows, columns) in enumerate(zip(n, m, strict=True)):
        part = (cost[k : k + 1, :rows, :columns], a[k : k + 1, :rows], b[k : k + 1, :columns])
        alone = couple(*part, log_prior[k : k + 1, :rows, :columns], chosen, form).plan
        torch.testing.assert_close(made[k, :rows, :columns], alone[0], rtol=0, atol=1e-10)
        assert float(made[k].sum()) == pytest.approx(float(alone.sum()), abs=1e-10), "nothing on the padding"


def test_what_products_cannot_hold_goes_to_the_log_domain() -> None:
    cost, a, b, log_prior = (part.float() for part in pairs([60, 30], [8, 3]))
    chosen = TransportSettings()
    assert couple(cost, a, b, log_prior, chosen).form == "product"
    sharp = replace(chosen, epsilon=0.005, iterations=5000, tolerance=1e-5)
    made = couple(cost, a, b, log_prior, sharp)
    assert made.form == "log"
    assert made.iterations < 5000, "it came to rest"
    exact = couple(cost.double(), a.double(), b.double(), log_prior.double(), replace(sharp, tolerance=1e-11), "log")
    torch.testing.assert_close(made.plan, exact.plan.float(), rtol=0, atol=1e-4)
    assert float(made.plan.sum()) > 0.5


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000), st.sampled_from(FORMS))
@settings(max_examples=25, deadline=None)
def test_every_token_is_grounded_where_its_lambda_is_infinite(n: int, m: int, seed: int, form: Form) -> None:
    cost, a, b, log_prior = pairs([n, 5], [m, 2], seed=seed)
    few = replace(TransportSettings(), iterations=3)
    kept = couple(cost, a, b, log_prior, few, form)
    torch.testing.assert_close(kept.token_mass, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(shortfall(kept.token_mass, b), torch.zeros(2).double(), rtol=0, atol=1e-12)
    loose = couple(cost, a, b, log_prior, replace(few, keep_tokens=0.5, iterations=200), form)
    lost = shortfall(loose.token_mass, b)
    assert bool((lost > 0.01).all())
    torch.testing.assert_close(lost, (b - loose.token_mass).clamp_min(0).sum(1), rtol=0, atol=1e-12)


def test_a_shortfall_is_of_the_tokens_that_lack_a_frame() -> None:
    b = torch.tensor([[0.25, 0.25, 0.5, 0.0]])
    assert shortfall(torch.tensor([[0.25, 0.05, 0.6, 0.0]]), b).tolist() == pytest.approx([0.2])
    assert shortfall(torch.zeros(1, 4), b).tolist() == [1.0]


def test_the_order_prior_is_a_gaussian_along_the_diagonal() -> None:
    prior = log_order_prior(torch.tensor([10, 4]), torch.tensor([5, 2]), 10, 5, 0.2).exp()
    assert prior.sum((1, 2)).tolist() == pytest.approx([1.0, 1.0])
    assert float(prior[1, 4:].sum() + prior[1, :, 2:].sum()) == 0
    # frame 0 lies at 0.05, tokens 0 and 3 at 0.1 and 0.7
    expected = math.exp(-0.5 * (0.05 / 0.2) ** 2 + 0.5 * (0.65 / 0.2) ** 2)
    assert float(prior[0, 0, 0] / prior[0, 0, 3]) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("lambdas", LAMBDAS)
def test_the_coupling_is_the_derivative_of_the_minimum(lambdas: tuple[float | None, float | None]) -> None:
    """The envelope theorem, by finite differences of the minimum solved anew: γ held fixed has its gradient."""
    cost, a, b, log_prior = pairs([9], [4])
    chosen = with_lambdas(*lambdas)

    def minimum(at: Tensor) -> float:
        return float(objective(couple(at, a, b, log_prior, chosen).plan[0], at[0], a[0], b[0], log_prior[0], chosen))

    plan, step = couple(cost, a, b, log_prior, chosen).plan, 1e-5
    assert not plan.requires_grad
    for i, j in ((0, 0), (3, 1), (8, 3), (2, 3)):
        nudge = torch.zeros_like(cost)
        nudge[0, i, j] = step
        slope = (minimum(cost + nudge) - minimum(cost - nudge)) / (2 * step)
        assert slope == pytest.approx(float(plan[0, i, j]), abs=1e-8)


def test_frames_get_the_gradient_of_the_whole_transport_problem() -> None:
    """⟨γ, M(H)⟩ with γ fixed has the slope in H of the minimum over γ, which is solved anew at each step."""
    _, a, b, log_prior = pairs([7], [3])
    rng = torch.Generator().manual_seed(1)
    frames = torch.randn(1, 7, 5, generator=rng, dtype=torch.double, requires_grad=True)
    tokens = torch.randn(1, 3, 5, generator=rng, dtype=torch.double)
    chosen = with_lambdas(0.1, None)
    cost = cosine_cost(frames, tokens)
    (couple(cost.detach(), a, b, log_prior, chosen).plan * cost).sum().backward()  # type: ignore[no-untyped-call]
    direction, step = torch.randn(1, 7, 5, generator=rng, dtype=torch.double), 1e-5

    def minimum(at: Tensor) -> float:
        cost = cosine_cost(at, tokens)
        plan = couple(cost, a, b, log_prior, chosen).plan
        return float(objective(plan[0], cost[0], a[0], b[0], log_prior[0], chosen))

    with torch.no_grad():
        slope = (minimum(frames + step * direction) - minimum(frames - step * direction)) / (2 * step)
    assert frames.grad is not None
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(float((frames.grad * direction).sum()), rel=1e-6)


# ---------------------------------------------------------------- planted alignments


def test_boundaries_are_matched_one_to_one() -> None:
    assert boundary_counts([(0, 4), (4, 9)], [(0, 5), (5, 9)]) == (3, 3, 3)
    assert boundary_counts([(0, 2)], [(4, 9)]) == (0, 2, 2)
    assert boundary_counts([(3, 4)], [(3, 9)]) == (1, 2, 2), "two of ours at one of theirs"


@pytest.mark.parametrize("kind", KINDS)
def test_planted_boundaries_are_found_and_better_than_by_balanced_transport(kind: str) -> None:
    ours, lost = boundary_f1(kind, USUAL, 60, seed=1)
    balanced, _ = boundary_f1(kind, BALANCED, 60, seed=1)
    assert ours > 0.85
    assert ours > balanced + (0.2 if kind in ("silence", "all") else 0.0)
    assert lost < 1e-5


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": 0.0}, "an ε and an order width above 0, got 0 and 0.2"),
        ({"epsilon": math.nan}, "an ε and an order width above 0, got nan"),
        ({"order_width": -1.0}, "above 0, got 0.1 and -1"),
        ({"keep_frames": -0.1}, "λ from 0 up, or inf, got -0.1"),
    ],
)
def test_settings_that_make_no_problem_are_named(changes: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TransportSettings(**changes)


def test_two_exact_sides_of_different_mass_have_no_coupling() -> None:
    cost, a, b, log_prior = pairs([9], [4])
    with pytest.raises(UsageError, match="need the same mass in all"):
        couple(cost, 2 * a, b, log_prior, with_lambdas(None, None))
    kept: Coupling = couple(cost, 2 * a, b, log_prior, with_lambdas(0.1, None))
    torch.testing.assert_close(kept.token_mass, b, rtol=0, atol=1e-12)
