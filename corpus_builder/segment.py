"""Cut a source into pieces: clips of one speaker, and everything else with the reason it is left out.

The pieces tile the source: every sample is in exactly one, so "where did my hours go" adds up.
Cuts lie in pauses. Between two pauses lies a unit of speech; a unit is one speaker's or it is
dropped, which trims overlaps away without dropping the turn around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from catalog.records import RATE, Reject, Span
from corpus_builder.config import Segmentation
from corpus_builder.protocols import Turn
from corpus_builder.spans import runs

HOP = RATE // 100
MAIN_SHARE = 0.95  # of a unit's speech that must be one speaker's
EDGE = 20  # frames at a unit's ends where a change of speaker may be misplaced
DOUBT_SHARE = 0.3  # of a unit that may be doubtful
OVERLAP_FRAMES = 10  # 0.1 s of overlapped speech is tolerated in a unit
MUSIC_FRAMES = 15  # 0.15 s of unwanted music is tolerated in a unit
SPOKEN_SHARE = 0.2  # of a unit that must be speech: a cough in a pause is none


@dataclass(frozen=True, slots=True)
class Findings:
    """What the stages before found in a source of `n_samples` (16 kHz)."""

    n_samples: int
    speech: Sequence[Span]
    pauses: Sequence[Span]
    dips: Sequence[Span]  # shorter or less deep: where to cut when a unit between two pauses is mixed
    turns: Sequence[Turn]
    overlaps: Sequence[Span] = ()
    unsure: Sequence[Span] = ()
    music: Sequence[Span] = ()
    unwanted_music: Sequence[Span] = ()  # where speech over music is to be left out


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch [start, end) of a source, in samples at 16 kHz; `reject` is None for a clip to be."""

    start: int
    end: int
    speaker: str | None = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int  # frames
    end: int
    speaker: int
    reject: Reject | None


class _Grid:
    """The findings on a grid of 10 ms frames."""

    def __init__(self, f: Findings) -> None:
        self.n = -(-f.n_samples // HOP)
        self.n_samples = f.n_samples
        self.names = sorted({t.speaker for t in f.turns})
        self.speech, self.pause = self.flags(f.speech), self.flags(f.pauses, whole=True)
        self.dip = self.flags(f.dips, whole=True)
        self.overlap, self.unsure = self.flags(f.overlaps), self.flags(f.unsure)
        self.music, self.unwanted = self.flags(f.music), self.flags(f.unwanted_music)
        self.speaker = np.full(self.n, -1, np.int64)
        for turn in f.turns:
            self.speaker[turn.start // HOP : -(-turn.end // HOP)] = self.names.index(turn.speaker)

    def flags(self, spans: Sequence[Span], whole: bool = False) -> NDArray[np.bool_]:
        """Frames the spans touch, or with `whole` those they cover."""
        result = np.zeros(self.n, bool)
        for span in spans:
            first, last = (
                (-(-span.start // HOP), span.end // HOP) if whole else (span.start // HOP, -(-span.end // HOP))
            )
            result[first:last] = True
        return result


def cut(findings: Findings, settings: Segmentation) -> list[Piece]:
    """Cut a source into pieces that tile it, sorted by start.

    Clips are `min_s` to `max_s` long, of one speaker, cut in pauses of at least `min_pause_s`
    (`findings.pauses`), with up to `pad_s` of the pause on either side.
    """
    grid = _Grid(findings)
    units = _units(grid, round(settings.max_s * 100))
    clips: list[Piece] = []
    for group in _groups(units, grid, settings):
        clips += _clips(group, units, grid, settings)
    return _tile(clips, units, grid, settings)


def _units(grid: _Grid, longest: int) -> list[_Unit]:
    """Stretches of speech between pauses, each with its speaker or the reason it is dropped.

    One of more than `longest` frames is cut at its dips, since no pause is there to cut at.
    """
    sounding = grid.speech.copy()
    for span in runs(~grid.pause, 1, grid.n):  # speech reaches to the pauses around it
        if not grid.speech[span.start : span.end].any():
            continue
        first, last = np.flatnonzero(grid.speech[span.start : span.end])[[0, -1]]
        reach = round(0.3 * 100)  # a word's soft end that the speech detector missed
        sounding[max(span.start, span.start + first - reach) : min(span.end, span.start + last + 1 + reach)] = True
    units = []
    for span in runs(sounding & ~grid.pause, 1, grid.n):
        inside = slice(span.start, span.end)
        spoken = grid.speech[inside].mean()
        if spoken < SPOKEN_SHARE:
            continue
        unit = _judge(grid, span.start, span.end)
        if unit.reject is None and unit.end - unit.start > longest:
            parts = runs(~grid.dip[span.start : span.end], 1, len(span))
            units += [_Unit(span.start + p.start, span.start + p.end, unit.speaker, None) for p in parts]
        elif unit.reject in (None, Reject.MUSIC_UNSEPARATED):
            units.append(unit)
        else:
            units += _salvage(grid, span)
    return units


def _salvage(grid: _Grid, span: Span) -> list[_Unit]:
    """Cut a mixed unit at its dips and judge the parts; neighbours with one fate are one unit again."""
    parts: list[_Unit] = []
    for part in runs(~grid.dip[span.start : span.end], 1, len(span)):
        unit = _judge(grid, span.start + part.start, span.start + part.end)
        if parts and (parts[-1].speaker, parts[-1].reject) == (unit.speaker, unit.reject):
            unit = _Unit(parts.pop().start, unit.end, unit.speaker, unit.reject)
        parts.append(unit)
    return parts


def _judge(grid: _Grid, start: int, end: int) -> _Unit:
    """Decide whose a unit is, or why it is nobody's."""
    inner = slice(start + EDGE, end - EDGE) if end - start > 3 * EDGE else slice(start, end)
    said = grid.speaker[inner]
    said = said[said >= 0]
    if not said.size:
        return _Unit(start, end, -1, Reject.UNSURE_SPEAKER)
    counts = np.bincount(said)
    main, share = int(counts.argmax()), counts.max() / said.size
    reject = None
    if grid.unwanted[start:end].sum() > MUSIC_FRAMES:
        reject = Reject.MUSIC_UNSEPARATED
    elif share < MAIN_SHARE or grid.overlap[start:end].sum() > OVERLAP_FRAMES:
        reject = Reject.OVERLAP
    elif grid.unsure[inner].mean() > DOUBT_SHARE:
        reject = Reject.UNSURE_SPEAKER
    return _Unit(start, end, main, reject)


def _groups(units: Sequence[_Unit], grid: _Grid, settings: Segmentation) -> list[list[int]]:
    """Indices of consecutive units of one speaker, joined across pauses under `join_s` (twice that for scraps)."""
    groups: list[list[int]] = []
    for i, unit in enumerate(units):
        if not unit.reject:
            if groups and _joinable(groups[-1][-1], i, units, grid, settings.join_s):
                groups[-1].append(i)
            else:
                groups.append([i])
    merged: list[list[int]] = []
    for group in groups:
        if merged:
            spans = [(units[g[-1]].end - units[g[0]].start) / 100 for g in (merged[-1], group)]
            reach = 2 * settings.join_s
            if min(spans) < settings.min_s and _joinable(merged[-1][-1], group[0], units, grid, reach):
                merged[-1] += group
                continue
        merged.append(list(group))
    return merged


def _joinable(a: int, b: int, units: Sequence[_Unit], grid: _Grid, reach_s: float) -> bool:
    """Whether unit `b` directly follows `a`, is the same speaker's, and no unwanted music lies between."""
    before, after = units[a], units[b]
    return (
        b == a + 1
        and before.speaker == after.speaker
        and after.start - before.end < reach_s * 100
        and not grid.unwanted[before.end : after.start].any()
    )


def _clips(group: list[int], units: Sequence[_Unit], grid: _Grid, settings: Segmentation) -> list[Piece]:
    """Divide a group of units at its longest pauses until every part fits; parts too short stay out."""
    pad = round(settings.pad_s * 100)
    start, end = units[group[0]].start, units[group[-1]].end
    before = units[group[0] - 1].end if group[0] else 0
    after = units[group[-1] + 1].start if group[-1] + 1 < len(units) else grid.n
    # at most half of the pause is ours: the other half is the neighbour's
    first = start - min(pad, (start - before) // 2)
    last = min(end + min(pad, (after - end) // 2), grid.n)
    first, last = _out_of_music(grid.unwanted, first, start, end, last)
    length = (min(last * HOP, grid.n_samples) - first * HOP) / RATE  # the last frame may not be whole
    if length < settings.min_s:
        return []
    if length <= settings.max_s:
        return [Piece(first * HOP, last * HOP, grid.names[units[group[0]].speaker])]
    best = _longest_pause(group, units, settings)
    if best is None:
        return []
    return _clips(group[:best], units, grid, settings) + _clips(group[best:], units, grid, settings)


def _out_of_music(unwanted: NDArray[np.bool_], first: int, start: int, end: int, last: int) -> tuple[int, int]:
    """Move a clip's edges out of music that ends in the pause before its speech, or begins in the one after."""
    before, after = np.flatnonzero(unwanted[first:start]), np.flatnonzero(unwanted[end:last])
    return first + int(before[-1]) + 1 if before.size else first, end + int(after[0]) if after.size else last


def _longest_pause(group: list[int], units: Sequence[_Unit], settings: Segmentation) -> int | None:
    """Where to divide a group: the longest pause that leaves `min_s` on both sides, else the longest."""
    pauses = [(units[b].start - units[a].end, k) for k, (a, b) in enumerate(pairwise(group), 1)]
    need = settings.min_s * 100
    first, last = units[group[0]].start, units[group[-1]].end
    good = [
        (pause, k)
        for pause, k in pauses
        if units[group[k - 1]].end - first >= need and last - units[group[k]].start >= need
    ]
    return max(good or pauses, default=(0, None))[1]


def _tile(clips: list[Piece], units: Sequence[_Unit], grid: _Grid, settings: Segmentation) -> list[Piece]:
    """The clips and, for every frame outside them, a rejected piece with its reason."""
    reasons = [Reject.SILENCE, Reject.MUSIC, Reject.TOO_SHORT, Reject.NO_PAUSE, *Reject]
    code = np.where(grid.music, reasons.index(Reject.MUSIC), reasons.index(Reject.SILENCE))
    speaker = np.full(grid.n, -1, np.int64)
    for unit in units:
        long = (unit.end - unit.start) / 100 > settings.max_s
        code[unit.start : unit.end] = reasons.index(unit.reject or (Reject.NO_PAUSE if long else Reject.TOO_SHORT))
        speaker[unit.start : unit.end] = unit.speaker
    for i, clip in enumerate(clips):
        code[clip.start // HOP : clip.end // HOP] = -1 - i
    pieces: list[Piece] = []
    edges = np.concatenate([[0], np.flatnonzero(np.diff(code) | np.diff(speaker * (code >= 0))) + 1, [grid.n]])
    for a, b in pairwise(edges):
        start, end = int(a) * HOP, min(int(b) * HOP, grid.n_samples)
        if end <= start:
            continue
        if code[a] < 0:
            clip = clips[-1 - int(code[a])]
            if not pieces or pieces[-1] != clip:
                pieces.append(Piece(clip.start, min(clip.end, grid.n_samples), clip.speaker))
        else:
            name = grid.names[speaker[a]] if speaker[a] >= 0 else None
            pieces.append(Piece(start, end, name, reasons[int(code[a])]))
    return pieces
