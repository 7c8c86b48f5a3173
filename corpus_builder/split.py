"""Dividing the clips into train, dev and test so that nothing is heard on two sides.

Clips that share a recording, a speaker, a speaker's label, a channel or a stretch of sound form a group, and a group
goes to one side whole (`corpus_builder.assignment` says which). Everything here is a function of the clips and the
settings: the order of rows plays no part.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np

from catalog.errors import UsageError
from catalog.records import RATE, Duplicate
from catalog.store import Clip
from corpus_builder.taxonomy import fold

SIDES = ("train", "dev", "test")
NO_ACCENT = "(none)"

NEAR = 0.05
"""Share of an accent's hours that a side may be off before the report says why."""

Key = tuple[str, str]
"""What recordings may have in common: speaker, speaker's label, channel or near-duplicate, and which one."""


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
class Tie:
    """Something that several recordings have in common, and that keeps them together."""

    kind: str
    value: str
    recordings: int

    def __str__(self) -> str:
        return f"{self.kind} {self.value!r} in {self.recordings} recordings"


@dataclass(frozen=True, slots=True)
class Group:
    """Clips that must stay together. `name` is the smallest source id in it; `size` is samples by accent.

    `ties` are what joins its recordings, the strongest first.
    """

    name: str
    segment_ids: tuple[str, ...]
    size: Mapping[str, int]
    recordings: int = 1
    ties: tuple[Tie, ...] = ()

    def why(self) -> str:
        """What holds it together, in words."""
        if not self.ties:
            return "one recording"
        sounds = sum(tie.kind == "near-duplicate" for tie in self.ties)
        named = [str(tie) for tie in self.ties if tie.kind != "near-duplicate"][:2]
        named += [f"the same sound ({sounds} pairs of clips)"] if sounds else []
        return f"{self.recordings} recordings joined by {', '.join(named)}"


@dataclass(frozen=True, slots=True)
class AccentReport:
    """What an accent was to get and got, in hours by side, and why the two differ."""

    accent: str
    hours: float
    groups: int
    wanted: Mapping[str, float]
    got: Mapping[str, float]
    note: str


def make_groups(clips: Iterable[Clip], duplicates: Iterable[Duplicate] = ()) -> list[Group]:
    """Connected components of the clips over recording, speaker, speaker's label, channel and near-duplicates; by name.

    Labels and channels that differ only in letter case, spaces or Arabic letter forms are one; an empty one is none.
    A pair of near-duplicates counts where both clips are among those given.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    everything = list(clips)
    if not everything:
        return []
    pairs = list(duplicates)
    paired = {segment_id for pair in pairs for segment_id in (pair.segment_a, pair.segment_b)}
    # a recording stays together whatever else holds, so recordings are what is tied: they are fewer than clips
    number: dict[str, int] = {}
    place: dict[str, int] = {}  # the recording of each clip that has a near-duplicate
    members: dict[Key, set[int]] = defaultdict(set)
    seen: set[tuple[object, ...]] = set()
    for clip in everything:
        n = number.setdefault(clip.source_id, len(number))
        if clip.segment_id in paired:
            place[clip.segment_id] = n
        said = (clip.source_id, clip.speaker_id, clip.speaker_label, clip.channel)
        if said not in seen:
            seen.add(said)
            for key in _keys(clip):
                members[key].add(n)
    for pair in pairs:
        if pair.segment_a in place and pair.segment_b in place:
            both = {place[pair.segment_a], place[pair.segment_b]}
            members["near-duplicate", f"{pair.segment_a} {pair.segment_b}"] = both
    shared = {key: there for key, there in members.items() if len(there) > 1}
    first = [min(there) for there in shared.values() for _ in there]
    other = [n for there in shared.values() for n in there]
    edges = coo_array((np.ones(len(first), bool), (first, other)), shape=(len(number), len(number)))
    _, component = connected_components(edges, directed=False)
    ties: dict[int, list[Tie]] = defaultdict(list)
    for (kind, value), there in shared.items():
        ties[component[min(there)]].append(Tie(kind, value, len(there)))
    together: dict[int, list[Clip]] = defaultdict(list)
    labels = component.tolist()
    for clip in everything:
        together[labels[number[clip.source_id]]].append(clip)
    groups = [_group(here, ties[label]) for label, here in together.items()]
    return sorted(groups, key=lambda group: group.name)


def _keys(clip: Clip) -> Iterator[Key]:
    """What a clip's recording has in common with others because of it."""
    yield "speaker", clip.speaker_id
    for kind, text in (("speaker's label", clip.speaker_label), ("channel", clip.channel)):
        # every two that SQL's lower(trim()) takes for one, as `--check` does, are one here too
        if text and (name := fold(text.replace("İ", "i")) or text.strip().lower()):
            yield kind, name


def _group(clips: Sequence[Clip], ties: Iterable[Tie]) -> Group:
    size: Counter[str] = Counter()
    for clip in clips:
        size[clip.accent or NO_ACCENT] += clip.end - clip.start
    sources = {clip.source_id for clip in clips}
    return Group(
        min(sources),
        tuple(sorted(clip.segment_id for clip in clips)),
        dict(sorted(size.items())),
        len(sources),
        tuple(sorted(ties, key=lambda tie: (-tie.recordings, tie.kind, tie.value))),
    )


def catalog_state(clips: Iterable[Clip], duplicates: Iterable[Duplicate]) -> dict[str, Any]:
    """What a split was made from: how much of what, and a hash of the clips with all that decides where they go."""
    ordered = sorted(clips, key=attrgetter("source_id", "start", "segment_id"))  # as the catalog has them
    pairs = sorted((pair.segment_a, pair.segment_b) for pair in duplicates)
    every = attrgetter(*(field.name for field in fields(Clip)))  # astuple copies deeply and takes seconds
    digest = hashlib.sha256()
    # the text of `[clips, pairs]` as JSON, some clips at a time: whole it would be half a gigabyte for two million
    encoder, between = json.JSONEncoder(ensure_ascii=False), "[["
    for start in range(0, len(ordered), 10_000):
        text = encoder.encode(list(map(every, ordered[start : start + 10_000])))[1:-1]
        digest.update(f"{between}{text}".encode("utf-8", "backslashreplace"))
        between = ", "
    digest.update(
        f"{'' if ordered else between}], {json.dumps(pairs, ensure_ascii=False)}]".encode("utf-8", "backslashreplace")
    )
    return {
        "clips": len(ordered),
        "sources": len({clip.source_id for clip in ordered}),
        "speakers": len({clip.speaker_id for clip in ordered}),
        "near_duplicates": len(pairs),
        "sha256": digest.hexdigest(),
    }


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
    bound = [group for group in groups if not set(settings.test_only).isdisjoint(group.size)]
    if bound:
        others = ", ".join(sorted({other for group in bound for other in group.size if other in settings.test_only}))
        share = sum(group.size[accent] for group in bound) / total
        return f"{share:.0%} of it is in one group with {others}, which is test-only: {_why(bound, accent)}"
    if len(groups) == 1:
        return f"one group, which can't be divided: {groups[0].why()}"
    largest = max(group.size[accent] for group in groups) / total
    mixed = sum(len(group.size) > 1 for group in groups)
    also = f", {mixed} of them with other accents in them" if mixed else ""
    return f"only {len(groups)} groups{also}; the largest has {largest:.0%} of it: {_why(groups, accent)}"


def _why(groups: Sequence[Group], accent: str) -> str:
    """What holds together the group with most of an accent."""
    return max(groups, key=lambda group: (group.size[accent], group.name)).why()
