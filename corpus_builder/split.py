"""Dividing the clips into train, dev and test so that nobody is heard on two sides.

Clips that share a recording, a speaker or a speaker's label form a group, and a group goes to one side
whole. Everything here is a function of the clips and the settings: the order of rows plays no part.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from catalog.errors import UsageError
from catalog.records import RATE
from catalog.store import Clip
from corpus_builder.taxonomy import fold

SIDES = ("train", "dev", "test")
NO_ACCENT = "(none)"

TRIES, FEW = 20, 60
"""Random orders in which the groups are dealt out, the best result counting, and up to how many groups: more of
them come near their shares at the first try."""

MISSING = 0.1
"""What an accent without test clips costs, and a split without dev clips, in squared shares: such a figure can't
be measured at all, which is worse than one side being a third too large."""

NEAR = 0.05
"""Share of an accent's hours that a side may be off before the report says why."""


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """What a split is made with; shares are of each accent's hours."""

    test_share: float = 0.2
    dev_share: float = 0.1
    seed: int = 0
    test_only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.test_share < 1 and 0 <= self.dev_share < 1 and self.test_share + self.dev_share < 1):
            raise UsageError(
                f"the shares of test ({self.test_share}) and dev ({self.dev_share}) must be 0 or more and together "
                "less than 1: what is left is for training"
            )

    def wanted(self, accent: str) -> dict[str, float]:
        """The share of an accent's hours that each side should get."""
        if accent in self.test_only:
            return {"train": 0.0, "dev": 0.0, "test": 1.0}
        return {"train": 1 - self.dev_share - self.test_share, "dev": self.dev_share, "test": self.test_share}

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"test_only": list(self.test_only)}


@dataclass(frozen=True, slots=True)
class Group:
    """Clips that must stay together. `name` is the smallest source id in it; `size` is samples by accent."""

    name: str
    segment_ids: tuple[str, ...]
    size: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AccentReport:
    """What an accent was to get and got, in hours by side, and why the two differ."""

    accent: str
    hours: float
    groups: int
    wanted: Mapping[str, float]
    got: Mapping[str, float]
    note: str


def make_groups(clips: Iterable[Clip], labels: Mapping[str, str | None]) -> list[Group]:
    """Connected components of the clips over source, speaker, and the source's speaker label; by name.

    `labels` is the sources file's speaker by source id. Labels that differ only in letter case, spaces
    or Arabic letter forms mean one person.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    everything = sorted(clips, key=lambda clip: clip.segment_id)
    for clip in everything:
        source = ("source", clip.source_id)
        label = fold(labels.get(clip.source_id) or "")
        for other in (("speaker", clip.speaker_id), ("label", label) if label else source):
            parent[root(other)] = root(source)
    together: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in everything:
        together[root(("source", clip.source_id))].append(clip)
    groups = []
    for members in together.values():
        size: Counter[str] = Counter()
        for clip in members:
            size[clip.accent or NO_ACCENT] += clip.end - clip.start
        name = min(clip.source_id for clip in members)
        groups.append(Group(name, tuple(clip.segment_id for clip in members), dict(sorted(size.items()))))
    return sorted(groups, key=lambda group: group.name)


def assign(groups: Sequence[Group], settings: SplitSettings) -> dict[str, str]:
    """The side of each group, by its name: test where an accent is test-only, else as near the shares as can be found.

    Every accent counts the same, whatever its hours. The groups are dealt out in random order, each to
    the side that lacks most, then moved and swapped while that brings the shares nearer; of `TRIES` such
    attempts the best counts. The same groups and settings give the same answer.
    """
    ordered = sorted(groups, key=lambda group: group.name)
    fixed = {group.name: "test" for group in ordered if not set(settings.test_only).isdisjoint(group.size)}
    free = [group for group in ordered if group.name not in fixed]
    dice = random.Random(settings.seed)
    best: tuple[float, dict[str, str]] | None = None
    for _ in range(TRIES if len(free) <= FEW else 1):
        deal = _Deal(ordered, fixed, settings)
        order = dice.sample(free, len(free))
        for group in order:
            deal.put(group, deal.best_side(group))
        deal.improve(order)
        if best is None or deal.cost() < best[0] - 1e-12:
            best = deal.cost(), dict(deal.side)
    assert best
    return best[1]


class _Deal:
    """An assignment in the making: who is where, and how far each accent is from its shares."""

    def __init__(self, groups: Sequence[Group], fixed: Mapping[str, str], settings: SplitSettings) -> None:
        self.total: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()  # groups an accent comes in
        for group in groups:
            self.total.update(group.size)
            self.parts.update(group.size.keys())
        self.wanted = {accent: settings.wanted(accent) for accent in self.total}
        self.got = {accent: dict.fromkeys(SIDES, 0) for accent in self.total}
        self.dev = 0  # samples of all accents
        share = {"train": 1.0, "dev": settings.dev_share, "test": settings.test_share}
        self.sides = [side for side in SIDES if share[side] > 0]
        self.side: dict[str, str] = {}
        for group in groups:
            if group.name in fixed:
                self.put(group, fixed[group.name])

    def put(self, group: Group, side: str | None) -> None:
        """Move a group to a side, or to none."""
        for place, sign in ((self.side.pop(group.name, None), -1), (side, 1)):
            if place:
                for accent, size in group.size.items():
                    self.got[accent][place] += sign * size
                    self.dev += sign * size * (place == "dev")
        if side:
            self.side[group.name] = side

    def best_side(self, group: Group) -> str:
        """The side that gains most from a group."""
        return min((self._change([(group, side)]), number, side) for number, side in enumerate(self.sides))[2]

    def _change(self, moves: Sequence[tuple[Group, str]]) -> float:
        """What several moves together add to the cost; nothing is moved."""
        accents = sorted({accent for group, _ in moves for accent in group.size})
        before, old = self._cost(accents), [(group, self.side.get(group.name)) for group, _ in moves]
        for group, side in moves:
            self.put(group, side)
        after = self._cost(accents)
        for group, place in old:
            self.put(group, place)
        return after - before

    def cost(self) -> float:
        """Sum over accents and sides of the squared difference of shares, plus what is missing."""
        return self._cost(sorted(self.total))

    def _cost(self, accents: Sequence[str]) -> float:
        cost = MISSING if "dev" in self.sides and not self.dev else 0.0
        for accent in accents:
            total, got, wanted = self.total[accent], self.got[accent], self.wanted[accent]
            cost += sum((got[side] / total - wanted[side]) ** 2 for side in SIDES)
            if wanted["test"] and not got["test"] and self.parts[accent] > 1:
                cost += MISSING
        return cost

    def improve(self, order: Sequence[Group]) -> None:
        """Move single groups, and swap pairs where there are few enough, as long as that helps."""
        for _ in range(100):  # each round lowers the cost, so it ends by itself; this bounds the time
            better = False
            for i, group in enumerate(order):
                options = [[(group, side)] for side in self.sides if side != self.side[group.name]]
                if len(order) <= FEW:
                    options += [
                        [(group, self.side[other.name]), (other, self.side[group.name])]
                        for other in order[i + 1 :]
                        if self.side[other.name] != self.side[group.name]
                    ]
                gains = [(self._change(moves), number) for number, moves in enumerate(options)]
                gain, number = min(gains, default=(0.0, 0))
                if gain < -1e-9:
                    better = True
                    for moved, side in options[number]:
                        self.put(moved, side)
            if not better:
                return


def report(groups: Sequence[Group], sides: Mapping[str, str], settings: SplitSettings) -> list[AccentReport]:
    """Wanted and got hours of each accent, by name, with the reason where a side is off by more than `NEAR`."""
    total: Counter[str] = Counter()
    got: dict[str, Counter[str]] = defaultdict(Counter)
    parts: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for accent, size in group.size.items():
            total[accent] += size
            got[accent][sides[group.name]] += size
            parts[accent].append(group)
    found = []
    for accent in sorted(total):
        wanted = settings.wanted(accent)
        off = max(abs(got[accent][side] / total[accent] - wanted[side]) for side in SIDES)
        hours = total[accent] / RATE / 3600
        found.append(
            AccentReport(
                accent,
                hours,
                len(parts[accent]),
                {side: wanted[side] * hours for side in SIDES},
                {side: got[accent][side] / RATE / 3600 for side in SIDES},
                _note(accent, parts[accent], total[accent], off, settings),
            )
        )
    return found


def _note(accent: str, groups: Sequence[Group], total: int, off: float, settings: SplitSettings) -> str:
    """Why an accent is where it is."""
    if accent in settings.test_only:
        return "test-only"
    if off <= NEAR:
        return ""
    bound = sorted({other for group in groups for other in group.size if other in settings.test_only})
    if bound:
        return f"shares recordings or speakers with {', '.join(bound)}, which is test-only"
    if len(groups) == 1:
        return "one group of recordings, which can't be divided"
    largest = max(group.size[accent] for group in groups) / total
    return f"only {len(groups)} groups, the largest {largest:.0%} of it"
