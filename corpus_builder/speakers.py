"""Linking the speakers of single recordings into persons: who of one recording is who of another.

Voices are compared by the mean embeddings that the diarizer stored, by average linkage on the cosine
similarity. What people say goes above what is measured: a rule of `pdid speakers merge|split`, the newest
first, and then the `speaker` labels of the sources file. Then comes what the diarizer says of one recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catalog.speakers import LocalSpeaker

if TYPE_CHECKING:
    from catalog.store import Catalog

SAME_PERSON = 0.84
"""Cosine similarity of two mean voices from which they are one person's, for 6 s or more of speech.

benchmarks/speakers.py prints the sweep it comes from: at 0.84 no two of 30 people are taken for one, in short
recordings or longer ones, and from 0.86 on the short recordings of one reader fall apart."""

SAME_PERSON_PYANNOTE = 0.75
"""The same for pyannote's voices: not measured, its weights being gated. Its own pipeline (speaker-diarization-3.1)
joins at a distance of 0.7046 between unit vectors, which is this similarity."""

SHORT = ((2.0, 0.06), (3.0, 0.03), (6.0, 0.0))
"""Seconds of the shorter voice, and by how much less alike two such voices of one person are (the embedded
diarizer's own figures, see `diarize.clustering.settle`)."""

NARROW_HZ = 4500.0
NARROW = 0.04
"""In a telephone's band, under 4.5 kHz, strangers are more alike by this (see `diarize.clustering.settle`)."""

SURE_S = 6.0
"""Seconds of speech of each from which two voices of one recording are two people because the diarizer says so: it
has heard them in one room over one microphone. It splits short voices too easily to be believed on them."""

LABEL_SHARE = 0.9
"""Share of a recording's speech from which a voice is the one that the recording's `speaker` label names."""

BLOCK, WIDE = 1024, 16_384  # voices that are compared with so many others at a time: 64 MB and some copies of it
MOST = 6_000  # voices of one connected group that are clustered at a time: 1.2 GB at the peak
NEVER = 1e6  # distance of two voices that may not meet: over any average that could be joined

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rule:
    """That two local speakers are, or are not, one person."""

    same: bool
    a: str
    b: str


def link_speakers(catalog: Catalog) -> dict[str, str]:
    """Link all speakers of the catalog anew and write it down; returns local speaker id → person's id."""
    from catalog.annotations import link_rules
    from catalog.speakers import heard_in, local_speakers, replace_links

    rules = link_rules(catalog)[::-1]  # the newest first
    heard = heard_in(catalog, [stretch for rule in rules for stretch in (rule.a, rule.b)])
    links = link(
        local_speakers(catalog),
        [
            Rule(rule.same, a, b)
            for rule, a, b in zip(rules, heard[::2], heard[1::2], strict=True)
            if a is not None and b is not None
        ],
    )
    replace_links(catalog, links)
    return links


def link(speakers: Sequence[LocalSpeaker], rules: Sequence[Rule] = ()) -> dict[str, str]:
    """Group local speakers into persons; each is named after the first of its local ids.

    Of rules that can't all hold those that come first do. Speakers without a voice, or with voices of different
    models, are one person only where a rule or a label says so.
    """
    ordered = sorted(speakers, key=lambda speaker: speaker.local_id)
    said = _Said(ordered, rules)
    groups = np.arange(len(ordered))
    for members in _comparable(ordered):
        vectors = np.array([ordered[i].embedding for i in members], np.float32)
        seconds = np.array([ordered[i].seconds for i in members])
        threshold = SAME_PERSON_PYANNOTE if "pyannote" in ordered[members[0]].model else SAME_PERSON
        narrow = np.array([(ordered[i].bandwidth_hz or NARROW_HZ) < NARROW_HZ for i in members])
        names = cluster(vectors, seconds, narrow, threshold, said.apart(members), said.names[members])
        groups[members] = np.array(members)[names]
    groups = said.join(groups)
    first: dict[int, str] = {}
    return {s.local_id: first.setdefault(int(g), s.local_id) for s, g in zip(ordered, groups, strict=True)}


def cluster(
    vectors: Vectors,
    seconds: NDArray[np.float64],
    narrow: NDArray[np.bool_],
    threshold: float,
    apart: Sequence[tuple[int, int]],
    names: Labels,
) -> Labels:
    """Cluster voices (n, d), of `seconds` (n,) of speech, by average linkage on their cosine similarity.

    `threshold` is the average similarity from which two clusters are one, for long voices; less is asked of
    short ones, more of those with a telephone's bandwidth, which `narrow` (n,) says. Pairs in `apart` never
    meet, nor do voices with different `names` (n,) (-1: none). Returns for each voice the index of the first of
    its cluster, (n,).

    Two clusters are only joined if some pair between them reaches the threshold, so no cluster reaches beyond
    a connected component of the graph of such pairs: linkage within each component is exact, and only
    components need a full matrix. A component of more than `MOST` voices is parted at a higher threshold first.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    lengths, less = zip(*SHORT, strict=True)
    bonus = np.interp(seconds, lengths, less).astype(np.float32)
    malus = np.where(narrow, NARROW, 0).astype(np.float32)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    pairs = np.array([*apart, *((b, a) for a, b in apart)], np.int64).reshape(-1, 2)

    def similarity(rows: Labels, columns: Labels) -> Vectors:
        """Adjusted similarities (rows, columns); -1 where two may not meet."""
        result: Vectors = unit[rows] @ unit[columns].T
        result += np.maximum.outer(bonus[rows], bonus[columns]) - np.maximum.outer(malus[rows], malus[columns])
        mine, theirs = names[rows][:, None], names[columns][None]
        result[(mine >= 0) & (theirs >= 0) & (mine != theirs)] = -1
        row, column = np.full(len(unit), -1), np.full(len(unit), -1)
        row[rows], column[columns] = np.arange(len(rows)), np.arange(len(columns))
        i, j = row[pairs[:, 0]], column[pairs[:, 1]]
        result[i[(i >= 0) & (j >= 0)], j[(i >= 0) & (j >= 0)]] = -1
        return result

    result = np.arange(len(unit))
    for members in _components(similarity, np.arange(len(unit)), threshold):
        likeness = similarity(members, members).astype(np.float64)
        distance = np.where(likeness < 0, NEVER, np.maximum(1 - likeness, 0))
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(np.maximum(distance, distance.T), checks=False), "average")
        tree[:, 2] = np.maximum(tree[:, 2], 0)
        labels = fcluster(tree, 1 - threshold, "distance")
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        result[members] = members[first[inverse]]
    return result


def _components(similarity: Callable[[Labels, Labels], Vectors], members: Labels, threshold: float) -> Iterator[Labels]:
    """The connected components, of two members or more, of the graph of pairs that reach the threshold."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(members), BLOCK):
        for first in range(start, len(members), WIDE):
            i, j = np.nonzero(similarity(members[start : start + BLOCK], members[first : first + WIDE]) >= threshold)
            rows.append(i + start)
            columns.append(j + first)
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(members), len(members)))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    for part in np.split(members[order], np.flatnonzero(np.diff(labels[order])) + 1):
        if len(part) > MOST:
            yield from _components(similarity, part, threshold + 0.01)
        elif len(part) > 1:
            yield part


def _comparable(speakers: Sequence[LocalSpeaker]) -> list[list[int]]:
    """Indices of the speakers whose voices come from one model."""
    models: dict[tuple[str, int], list[int]] = {}
    for i, speaker in enumerate(speakers):
        if speaker.embedding is not None:
            models.setdefault((speaker.model, len(speaker.embedding)), []).append(i)
    return list(models.values())


class _Said:
    """What rules, labels and the diarizer say of speakers, given by their index, made free of contradictions."""

    def __init__(self, speakers: Sequence[LocalSpeaker], rules: Sequence[Rule]) -> None:
        index = {speaker.local_id: i for i, speaker in enumerate(speakers)}
        self._parent = list(range(len(speakers)))
        self._apart: set[frozenset[int]] = set()  # pairs of speakers that are held apart
        for rule in rules:
            if rule.a in index and rule.b in index:
                self._take(rule.same, index[rule.a], index[rule.b])
        labelled = _labelled(speakers)
        first: dict[str, int] = {}
        for i, label in labelled.items():
            self._take(True, first.setdefault(label, i), i)
        sure: dict[str, list[int]] = {}
        for i, speaker in enumerate(speakers):
            if speaker.seconds >= SURE_S:
                sure.setdefault(speaker.source_id, []).append(i)
        for voices in sure.values():
            for a, b in combinations(voices, 2):
                self._take(False, a, b)
        # speakers of different labels are different people, unless a rule has made the labels one person's
        meaning = {label: label for label in labelled.values()}
        of_root: dict[int, str] = {}
        for i, label in labelled.items():
            other = meaning[of_root.setdefault(self._root(i), label)]
            if other != (mine := meaning[label]):
                meaning = {key: other if value == mine else value for key, value in meaning.items()}
        number = {label: k for k, label in enumerate(dict.fromkeys(meaning.values()))}
        self.names: Labels = np.array(
            [number[meaning[of_root[r]]] if (r := self._root(i)) in of_root else -1 for i in range(len(speakers))]
        )

    def apart(self, members: Sequence[int]) -> list[tuple[int, int]]:
        """The pairs of `members` that are held apart, by their place in it."""
        place: dict[int, list[int]] = {}
        for k, i in enumerate(members):
            place.setdefault(self._root(i), []).append(k)
        return [
            (a, b)
            for x, y in ({self._root(i) for i in pair} for pair in self._apart)
            for a in place.get(x, ())
            for b in place.get(y, ())
        ]

    def join(self, groups: Labels) -> Labels:
        """Bring those that are one person by rule or label into one group.

        Their whole groups become one; where that would bring together what must be apart, they alone move.
        """
        result = groups.copy()
        against: dict[int, set[int]] = {}  # who may not be whom, by their roots
        for pair in self._apart:
            for i, j in permutations(map(self._root, pair)):
                against.setdefault(i, set()).add(j)
        people: dict[int, list[int]] = {}
        for i in range(len(result)):
            people.setdefault(self._root(i), []).append(i)
        for person in people.values():
            own = [int(g) for g in result[person]]
            main = max(set(own), key=lambda g: (own.count(g), -g))
            for other in sorted(set(own) - {main}):
                whole = np.flatnonzero(result == other)
                fits = self._fit(np.flatnonzero(result == main), whole, against)
                result[whole if fits else [i for i in person if result[i] == other]] = main
        return result

    def _fit(self, one: Labels, other: Labels, against: Mapping[int, Set[int]]) -> bool:
        """Whether nothing holds two groups apart."""
        names = set(self.names[one].tolist()) | set(self.names[other].tolist())
        mine, theirs = {self._root(int(i)) for i in one}, {self._root(int(i)) for i in other}
        return len(names - {-1}) <= 1 and all(mine.isdisjoint(against.get(root, ())) for root in theirs)

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = i = self._parent[self._parent[i]]
        return i

    def _take(self, same: bool, a: int, b: int) -> None:
        """Note what is said of two, unless what was noted before speaks against it."""
        x, y = self._root(a), self._root(b)
        if same and not any({x, y} == {self._root(i) for i in pair} for pair in self._apart):
            self._parent[max(x, y)] = min(x, y)
        elif not same and x != y:
            self._apart.add(frozenset((a, b)))


def _labelled(speakers: Sequence[LocalSpeaker]) -> Mapping[int, str]:
    """The speakers that their recording's label names: who does nearly all of the talking there."""
    total: dict[str, float] = {}
    for speaker in speakers:
        total[speaker.source_id] = total.get(speaker.source_id, 0.0) + speaker.seconds
    return {
        i: speaker.label
        for i, speaker in enumerate(speakers)
        if speaker.label is not None
        and speaker.seconds > 0
        and speaker.seconds >= LABEL_SHARE * total[speaker.source_id]
    }


def rules_of_split(links: Mapping[str, str], stays: str, leave: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs to hold apart so that `leave` are no longer the person that `stays` is."""
    person = links[stays]
    others = [i for i, who in links.items() if who == person and i not in leave] or [stays]
    return [(other, one) for one in leave for other in others]


def rules_of_merge(people: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs to bring together so that all are one person."""
    return [pair for pair in combinations(people, 2) if pair[0] == people[0]]
