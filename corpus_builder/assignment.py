"""Which side each group of clips goes to: a mixed-integer programme, solved by HiGHS through scipy.

Wanted are shares of each accent's hours. Minimised is the share of an accent's hours that lies on a side which has
more than it should, summed over the accents, so that each counts the same whatever its hours.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus_builder.split import SIDES, Group, SplitSettings

LARGEST = 150
"""Groups that the solver places; it sees those after them, smaller than each of these, as sand that can be poured out
by the grain. They are dealt out afterwards, and its bound holds for the whole all the same."""

MISSING = 0.1
"""What an accent without test clips costs, and a split without dev clips: such a figure can't be measured at all, which
is worse than a tenth of an accent's hours being on the wrong side."""

GAP = 0.005
"""The solver stops where what it has is this near the best there can be, in shares of an accent's hours, on average."""

NODES, SECONDS = 100, 30.0
"""Where else the solver stops. On any machine it is the number of nodes that stops it, so that a seed gives the same
split everywhere; the seconds are for a machine that is hardly running."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The side of each group by its name, and how good that is.

    `misplaced` is the share of an accent's hours on a side that has too many of them, summed over accents, with
    `MISSING` for each accent without test and for no dev; `bound` is what no assignment of these groups can be under.
    """

    sides: Mapping[str, str]
    misplaced: float
    bound: float
    solver: str

    @property
    def gap(self) -> float:
        """By how much a better one could be better, at most."""
        return max(0.0, self.misplaced - self.bound)

    def as_json(self) -> dict[str, Any]:
        return {
            "misplaced": round(self.misplaced, 6),
            "bound": round(self.bound, 6),
            "gap": round(self.gap, 6),
            "solver": self.solver,
        }


def assign(groups: Sequence[Group], settings: SplitSettings) -> Assignment:
    """The sides of groups: test where an accent is test-only, else as near the wanted shares as can be found.

    The solver places the `LARGEST` groups; the rest are dealt out, the larger first, each to the side that gains most.
    Then single groups are moved while that helps, unless there are many and nothing to be gained. The same groups and
    settings give the same answer.
    """
    ordered = sorted(groups, key=lambda group: group.name)
    dice = random.Random(settings.seed)
    dice.shuffle(ordered)
    deal = _Deal(ordered, settings)
    free = []
    for group in ordered:
        if set(settings.test_only).isdisjoint(group.size):
            free.append(group)
        else:
            deal.put(group, "test")
    free.sort(key=lambda group: -max(size / deal.total[accent] for accent, size in group.size.items()))
    large, sand = free[:LARGEST], free[LARGEST:]
    placed, bound, solver = _solve(deal, large, sand, dice) if large else ({}, deal.cost(), "nothing to solve")
    for group in free:
        deal.put(group, placed.get(group.name) or deal.best_side(group))
    if not sand or deal.cost() - bound > GAP:
        deal.improve(free)
    sides = {group.name: deal.side[group.name] for group in sorted(groups, key=lambda group: group.name)}
    return Assignment(sides, deal.cost(), min(bound, deal.cost()), solver)


def _solve(
    deal: _Deal, large: Sequence[Group], sand: Sequence[Group], dice: random.Random
) -> tuple[dict[str, str], float, str]:
    """Sides of the large groups, a bound of the cost of any assignment, and how the solver ended.

    Variables, in columns: x[group, side] is 1 where the group is there; z[accent, side] the sand's share; o[accent,
    side] the share over what is wanted; m[accent] and one more are 1 where test or dev is missing; one is always 1.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    sides, accents = deal.sides, [accent for accent in sorted(deal.total) if accent not in deal.test_only]
    n_x, n_z, n_a = len(large) * len(sides), len(accents) * len(sides), len(accents)
    x, z, o, missing, one = 0, n_x, n_x + n_z, n_x + 2 * n_z, n_x + 2 * n_z + n_a + 1
    row_of = {accent: k for k, accent in enumerate(accents)}
    grain = [min((g.size[a] for g in sand if a in g.size), default=0) / deal.total[a] for a in accents]
    heap = [sum(g.size.get(a, 0) for g in sand) / deal.total[a] for a in accents]
    entries: list[tuple[int, int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def constrain(terms: Sequence[tuple[int, float]], at_least: float, at_most: float) -> None:
        entries.extend((len(low), column, value) for column, value in terms)
        low.append(at_least)
        high.append(at_most)

    for i in range(len(large)):
        constrain([(x + i * len(sides) + s, 1.0) for s in range(len(sides))], 1, 1)
    for k in range(n_a):
        constrain([(z + k * len(sides) + s, 1.0) for s in range(len(sides))], heap[k], heap[k])
    for s, side in enumerate(sides):
        got: list[list[tuple[int, float]]] = [[(z + k * len(sides) + s, 1.0)] for k in range(n_a)]
        some = {k: [(z + k * len(sides) + s, 1 / grain[k])] if grain[k] else [] for k in range(n_a)}
        for i, group in enumerate(large):
            for accent, size in group.size.items():
                got[row_of[accent]].append((x + i * len(sides) + s, size / deal.total[accent]))
                some[row_of[accent]].append((x + i * len(sides) + s, 1.0))
        for k, accent in enumerate(accents):
            there, wanted = deal.got[accent][side] / deal.total[accent], deal.wanted[accent][side]
            constrain([*got[k], (o + k * len(sides) + s, -1.0)], -np.inf, wanted - there)
            if side == "test" and not there and deal.parts[accent] > 1 and wanted:
                constrain([*some[k], (missing + k, 1.0)], 1, np.inf)
        if side == "dev":
            constrain(
                [*dict(term for terms in some.values() for term in terms).items(), (missing + n_a, 1.0)], 1, np.inf
            )
    # Costs of no weight choose among the equally good, a different one by each seed; a constant turns the solver's
    # relative gap into an absolute one.
    gap = GAP * max(1, n_a)
    jitter = 0.1 * gap / len(large)
    cost = np.zeros(one + 1)
    cost[:n_x] = [jitter * dice.random() for _ in range(n_x)]
    constant = 10.0 * max(1, n_a)  # the costs are under 1.2 for each accent
    cost[o:missing], cost[missing:one], cost[one] = 1.0, MISSING, constant
    rows, columns, values = zip(*entries, strict=True)
    integer = np.zeros(one + 1)
    integer[:n_x] = 1
    lower, upper = np.zeros(one + 1), np.ones(one + 1)
    lower[one] = 1
    found = milp(
        cost,
        integrality=integer,
        bounds=Bounds(lower, upper),
        constraints=LinearConstraint(csr_array((values, (rows, columns)), shape=(len(low), one + 1)), low, high),
        options={"mip_rel_gap": 0.8 * gap / constant, "node_limit": NODES, "time_limit": SECONDS},
    )
    bound = max(0.0, (found.mip_dual_bound if found.mip_dual_bound is not None else constant) - constant - 0.1 * gap)
    how = {0: "to its gap", 1: "to its limit"}.get(found.status, "without an answer")
    solver = f"HiGHS, {how}, {found.mip_node_count or 0} nodes"
    if found.x is None:
        return {}, bound, solver
    chosen = found.x[:n_x].reshape(len(large), len(sides)).argmax(axis=1)
    return {group.name: sides[s] for group, s in zip(large, chosen, strict=True)}, bound, solver


class _Deal:
    """An assignment in the making: who is where, and how far each accent is from its shares."""

    def __init__(self, groups: Sequence[Group], settings: SplitSettings) -> None:
        self.total: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()  # groups an accent comes in
        for group in groups:
            self.total.update(group.size)
            self.parts.update(group.size.keys())
        self.test_only = frozenset(settings.test_only)
        self.wanted = {accent: settings.wanted(accent) for accent in self.total}
        self.got = {accent: dict.fromkeys(SIDES, 0) for accent in self.total}
        self.in_dev = 0  # samples of all accents
        share = {"train": 1.0, "dev": settings.dev_share, "test": settings.test_share}
        self.sides = [side for side in SIDES if share[side] > 0]
        self.side: dict[str, str] = {}

    def put(self, group: Group, side: str | None) -> None:
        """Move a group to a side, or to none."""
        for place, sign in ((self.side.pop(group.name, None), -1), (side, 1)):
            if place:
                for accent, size in group.size.items():
                    self.got[accent][place] += sign * size
                    self.in_dev += sign * size * (place == "dev")
        if side:
            self.side[group.name] = side

    def best_side(self, group: Group) -> str:
        """The side that gains most from a group."""
        return min((self._change(group, side), number, side) for number, side in enumerate(self.sides))[2]

    def cost(self) -> float:
        """What `Assignment.misplaced` is, once everything has its place."""
        return self._cost(sorted(self.total))

    def _change(self, group: Group, side: str) -> float:
        """What a move would add to the cost."""
        accents, place = list(group.size), self.side.get(group.name)
        before = self._cost(accents)
        self.put(group, side)
        after = self._cost(accents)
        self.put(group, place)
        return after - before

    def _cost(self, accents: Sequence[str]) -> float:
        """Half of the differences: while groups have no place yet, what a side lacks tells where they belong."""
        cost = MISSING if "dev" in self.sides and not self.in_dev else 0.0
        for accent in accents:
            total, got, wanted = self.total[accent], self.got[accent], self.wanted[accent]
            cost += sum(abs(got[side] / total - wanted[side]) for side in SIDES) / 2
            if wanted["test"] and not got["test"] and self.parts[accent] > 1:
                cost += MISSING
        return cost

    def improve(self, groups: Sequence[Group]) -> None:
        """Move single groups as long as that helps."""
        for _ in range(100):  # each round lowers the cost, so it ends by itself; this bounds the time
            better = False
            for group in groups:
                gain, _, side = min((self._change(group, side), n, side) for n, side in enumerate(self.sides))
                if gain < -1e-9:
                    better = True
                    self.put(group, side)
            if not better:
                return
