"""Stretches of a recording: from frames to spans, and what spans have in common."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.records import Mark, Span

Stretch = TypeVar("Stretch", Span, Mark)


def runs(active: NDArray[np.bool_], hop: int, n_samples: int) -> list[Span]:
    """Stretches of True in frames of `hop` samples, as spans within [0, n_samples)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [
        Span(int(a) * hop, min(int(b) * hop, n_samples))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if int(a) * hop < n_samples
    ]


def join_spans(spans: list[Span], gap: int) -> list[Span]:
    """Sorted spans with those joined that lie less than `gap` samples apart (or overlap)."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start):
        if joined and span.start - joined[-1].end < gap:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def subtract(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """What is left of sorted, disjoint spans without sorted, disjoint holes."""
    left: list[Span] = []
    k = 0
    for span in spans:
        start = span.start
        while k < len(holes) and holes[k].end <= start:
            k += 1
        at = k
        while at < len(holes) and holes[at].start < span.end:
            if holes[at].start > start:
                left.append(Span(start, holes[at].start))
            start = max(start, holes[at].end)
            at += 1
        if start < span.end:
            left.append(Span(start, span.end))
    return left


def touching(spans: Sequence[Stretch], start: int, end: int) -> Sequence[Stretch]:
    """Those of sorted, disjoint spans that have a sample within [start, end)."""
    first = bisect_right(spans, start, key=attrgetter("end"))
    return spans[first : bisect_left(spans, end, key=attrgetter("start"))]
