"""Which clips have the same sound in them: an index of their fingerprints' words, and clips laid over each other.

Both are made in parts, so memory does not grow with the number of clips: first the words, spread by their value, then
the pairs of clips that have words in common, spread by the first clip. What is in one part is sorted by itself, and is
what it would be if all were sorted at once. Keys are numbers of 64 bits with all that is sorted by in them, the most
important first: numpy sorts those several times faster than anything it has to look up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from corpus_builder.fingerprint import FRAME_S, HOP_S, Hashes
from corpus_builder.piles import Parts, Pile

T = TypeVar("T")

NEIGHBOURS = 4
"""Further clips with the same word that a clip is paired with, so that a sound heard in a thousand clips makes
thousands of pairs, not a million; the pairs still form one chain."""

SAME, SAME_ALL = 0.30, 0.25
"""Share of differing bits that still counts as the same sound, over a second and over all that is shared. Re-encoded
clips have 0.02 to 0.2, different speech 0.4 to 0.55; the paper takes 0.35 over 3.3 s."""

WINDOW = round(1 / HOP_S)
SHORTEST_S = 2.0
"""Seconds of sound, pauses not counted, that two clips must share: one word is too little, a jingle is enough."""

PART = 2**22
"""Keys that are sorted at a time: 32 MiB, with what is made of them half a GiB at most."""

GOLDEN = np.uint32(2654435769)
"""Odd, near 2^32 over the golden ratio (Knuth, The Art of Computer Programming 3, 6.4): words times this are other
words, each another one, and evenly spread by their upper bits, which those of speech are not."""

Watch = Callable[[Sequence[T], str], Iterable[T]]
"""Gives the steps of some work as they are, and shows how far it is."""


@dataclass(frozen=True, slots=True)
class Match:
    """That clips `a` < `b`, by their number, share `seconds` of sound; `score` is 1 for equal bits, 0 for chance."""

    a: int
    b: int
    seconds: float
    score: float


@dataclass(frozen=True, slots=True)
class Prints:
    """The fingerprints of all clips: clip n's are `lengths[n]` words from `starts[n]` on, both of shape (clips,).

    In any order, but without gaps.
    """

    words: Hashes | Pile[np.uint32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __getitem__(self, clip: int) -> Hashes:
        start = int(self.starts[clip])
        return self.words[start : start + int(self.lengths[clip])]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How many bits of a key a clip's number and a frame's take."""

    clip: int
    frame: int

    @property
    def place(self) -> int:
        return self.clip + self.frame

    @property
    def offset(self) -> int:
        """Bits of one frame less another; the latter comes from -2^frame up."""
        return self.frame + 1


def joined(prints: Sequence[Hashes]) -> Prints:
    """Fingerprints that are in memory, one after the other."""
    lengths = np.array([len(words) for words in prints], np.int64)
    return Prints(np.concatenate([np.zeros(0, np.uint32), *prints]), np.cumsum(lengths) - lengths, lengths)


def find_matches(
    prints: Prints, scratch: Path, part: int = PART, watch: Watch[slice] = lambda steps, what: steps
) -> Iterator[Match]:
    """Pairs of clips with the same sound in them, by their number; each pair once, its longest match, in order.

    An index of equal words gives the candidates, so time grows with the number of clips, not of pairs. Where a sound is
    in many clips, the pairs join them in a chain and not each with each. About `part` keys are in memory at a time; the
    others in files without a name in the folder `scratch`, where there are any: up to 8 bytes for each word, and 8 for
    each of its neighbours. Raises PdidError where there is no room for them.
    """
    layout = _Layout(len(prints.lengths).bit_length(), int(prints.lengths.max(initial=0)).bit_length())
    ranges = _blocks(prints.lengths, part // NEIGHBOURS, 1 << (63 - layout.clip - layout.offset))
    with closing(Parts(scratch, part)) as candidates:
        _pair(prints, layout, ranges, candidates, scratch, part, watch)
        for number, clips in enumerate(watch(ranges, "near-duplicates: clips compared")):
            best: dict[tuple[int, int], Match] = {}
            of, words = -1, np.zeros(0, np.uint32)
            for a, b, offset in _candidates(candidates.take(number), clips.start, layout, prints.lengths):
                if a != of:
                    of, words = a, prints[a]
                match = _compare(words, prints[b], offset)
                if match is not None and match[0] > best.get((a, b), Match(a, b, 0.0, 0.0)).seconds:
                    best[a, b] = Match(a, b, *match)
            yield from (best[pair] for pair in sorted(best))


def _blocks(lengths: NDArray[np.int64], size: int, most: int) -> list[slice]:
    """Successive clips, at least one and at most `most` at a time, of `size` words together where one isn't longer."""
    ends = np.append(0, np.cumsum(lengths))
    blocks, start = [], 0
    while start < len(lengths):
        stop = int(np.searchsorted(ends, ends[start] + size, side="right")) - 1
        stop = min(max(stop, start + 1), start + most)
        blocks.append(slice(start, stop))
        start = stop
    return blocks


def _pair(
    prints: Prints,
    layout: _Layout,
    ranges: Sequence[slice],
    candidates: Parts,
    scratch: Path,
    part: int,
    watch: Watch[slice],
) -> None:
    """Spread the pairs of clips that are neighbours by one of their words, and the frames it is at, over `candidates`.

    A key is the number of the first clip within its range, then the second clip, then the first's frame less the
    second's.
    """
    # bits of a word that say its part; the others, the clip and the frame make a key
    split = max(0, 32 + layout.place - 64, (int(prints.lengths.sum()) // part).bit_length())
    number_of = np.repeat(
        np.arange(len(ranges), dtype=np.min_scalar_type(len(ranges))), [r.stop - r.start for r in ranges]
    )
    first_of = np.array([r.start for r in ranges], np.int64)
    with closing(Parts(scratch, part)) as postings:
        _spread(prints, layout, split, postings, part, watch)
        for value in watch([slice(n, n + 1) for n in range(1 << split)], "near-duplicates: words paired"):
            keys = postings.take(value.start)
            keys.sort()  # by word, then clip
            word = keys >> np.uint64(layout.place)
            for step in range(1, NEIGHBOURS + 1):
                (at,) = np.nonzero(word[step:] == word[:-step])
                a, frame = _place(keys[at], layout)
                b, other = _place(keys[at + step], layout)
                number = number_of[a]
                order = np.argsort(number, kind="stable")
                a, b, offset, number = a[order], b[order], (frame - other)[order], number[order]
                key = (a - first_of[number]) << layout.clip | b
                key = key << layout.offset | (offset + (1 << layout.frame))
                ends = np.append(np.flatnonzero(np.diff(number)) + 1, len(number))
                for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
                    if end > start:
                        candidates.add(int(number[start]), key[start:end].astype(np.uint64))


def _spread(prints: Prints, layout: _Layout, split: int, postings: Parts, part: int, watch: Watch[slice]) -> None:
    """Spread all words over 2^`split` parts by their upper bits: a key is the other bits, the clip and the frame."""
    order = np.argsort(prints.starts, kind="stable")
    lengths = prints.lengths[order]
    starts = np.cumsum(lengths) - lengths
    borders = np.arange((1 << split) + 1, dtype=np.uint64) << np.uint64(32 - split)
    for block in watch(_blocks(lengths, part // 2, len(lengths)), "near-duplicates: words spread"):
        first = int(starts[block.start])
        words = prints.words[first : first + int(lengths[block].sum())]
        (loud,) = np.nonzero(words)
        keys = (words[loud] * GOLDEN).astype(np.uint64) << np.uint64(32) | loud.astype(np.uint64)
        keys.sort()
        word, at = keys >> np.uint64(32), (keys & np.uint64(2**32 - 1)).astype(np.int64)
        of = np.repeat(np.arange(block.start, block.stop), lengths[block])[at]
        # of a word that a clip has several times (a held note) the first counts
        new = np.append(True, (np.diff(word) != 0) | (np.diff(of) != 0))[: len(word)]
        word, of, at = word[new], of[new], at[new]
        place = order[of] << layout.frame | (at - (starts[of] - first))
        keys = word << np.uint64(layout.place) | place.astype(np.uint64)  # the upper bits fall off
        ends = np.searchsorted(word, borders)
        for number in range(1 << split):
            postings.add(number, keys[ends[number] : ends[number + 1]].copy())


def _place(keys: NDArray[np.uint64], layout: _Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clips and frames of keys."""
    place = (keys & np.uint64((1 << layout.place) - 1)).astype(np.int64)
    return place >> layout.frame, place & ((1 << layout.frame) - 1)


def _candidates(
    keys: NDArray[np.uint64], first: int, layout: _Layout, lengths: NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    """Clips a < b with two or more equal words at one offset: a's frame less b's; `first` is the first a there is.

    Those that would lie over each other for less than what must be shared are left out.
    """
    keys.sort()
    pair = keys >> np.uint64(layout.offset)
    offset = (keys & np.uint64((1 << layout.offset) - 1)).astype(np.int64) - (1 << layout.frame)
    # runs of one pair at nearly one offset: cutting between two frames moves the words by one
    (ends,) = np.nonzero(np.append((np.diff(pair) != 0) | (np.diff(offset) > 2), True)[: len(pair)])
    starts = np.append(0, ends[:-1] + 1)[: len(ends)]
    several = ends > starts
    pair, offset = pair[starts[several]].astype(np.int64), offset[(starts + ends)[several] // 2]
    a, b = first + (pair >> layout.clip), pair & ((1 << layout.clip) - 1)
    long = (np.minimum(lengths[a], offset + lengths[b]) - np.maximum(0, offset)) * HOP_S + FRAME_S >= SHORTEST_S
    yield from zip(a[long].tolist(), b[long].tolist(), offset[long].tolist(), strict=True)


def _compare(a: Hashes, b: Hashes, offset: int) -> tuple[float, float] | None:
    """Seconds shared and score of two clips laid over each other, b's frame 0 at a's frame `offset`, or None.

    A frame is shared if it and the second around it are the same. From the first such frame to the last is what the
    clips share: a pause between has no words, and noise may cover some.
    """
    start, end = max(0, offset), min(len(a), offset + len(b))
    if end - start < WINDOW:
        return None
    left, right = a[start:end], b[start - offset : end - offset]
    heard = (left != 0) & (right != 0)
    different = np.where(heard, np.bitwise_count(left ^ right), 0)
    same = heard & _same(heard, different, WINDOW)
    if not same.any():  # nearly always: a few words in common by chance
        return None
    shared = np.flatnonzero(same & _same(heard, different, WINDOW // 5))
    if len(shared) * HOP_S + FRAME_S < SHORTEST_S:
        return None
    span = slice(int(shared[0]), int(shared[-1]) + 1)
    wrong = float(different[span].sum() / heard[span].sum() / 32)
    seconds = (span.stop - span.start) * HOP_S + FRAME_S
    return (seconds, 1 - 2 * wrong) if wrong <= SAME_ALL else None


def _same(heard: NDArray[np.bool_], different: NDArray[np.integer], size: int) -> NDArray[np.bool_]:
    """Whether a frame lies within `size` successive ones, half of them heard or more, that are the same sound."""
    n = _sums(heard, size)
    good = (n >= size // 2) & (_sums(different, size) <= 32 * SAME * n)
    if not good.any():
        return np.zeros(len(heard), bool)
    # frame i lies in the stretches that begin at i - size + 1 to i
    return _sums(np.pad(good, size - 1), size) > 0


def _sums(values: NDArray[np.generic], size: int) -> NDArray[np.int64]:
    """Sums over `size` successive values; shape (n - size + 1,)."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(total[size:] - total[:-size])
