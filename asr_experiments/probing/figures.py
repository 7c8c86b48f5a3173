"""What the study measures, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from asr_experiments.probing.ctc import DEFAULT as READER
from asr_experiments.probing.ctc import CtcSettings
from asr_experiments.probing.shifts import SNR_DB

FOUND = 0.95
"""Of a planted attribute: the least a probe must read right."""

NEAR = 0.05
"""Shuffled labels may miss chance by so much, or by three of its standard errors."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How much is looked at, and how."""

    train_clips: int = 240  # drawn a speaker's turn by turn
    test_clips: int = 120  # of accents that are in training
    unseen_clips: int = 40  # of accents that are not
    cka_clips: int = 60
    snr_db: float = SNR_DB
    draws: int = 10  # of shuffled labels, for the controls
    reader: CtcSettings = READER
    seed: int = 0


DEFAULT = ProbeSettings()


@dataclass(frozen=True, slots=True)
class Place:
    """A layer of a model; the first one's depth is 0."""

    model: str
    layer: str
    depth: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What a layer gave in a domain: balanced accuracy, or the character error rate of `words`. `low` and `high` are
    the 95 % interval by bootstrap over speakers; None where they are too few to say."""

    place: Place
    task: str
    domain: str
    value: float
    low: float | None
    high: float | None
    chance: float | None  # None for words
    n: int  # clips; one that several folds hold out counts in each
    n_speakers: int


@dataclass(frozen=True, slots=True)
class Control:
    """A check of the probes on a layer: an attribute planted there, or labels shuffled. Balanced accuracy in domain,
    the mean over draws, and its standard error."""

    place: Place
    task: str
    kind: Literal["planted", "shuffled"]
    value: float
    error: float
    chance: float

    @property
    def good(self) -> bool:
        if self.kind == "planted":
            return self.value >= FOUND
        return abs(self.value - self.chance) <= max(NEAR, 3 * self.error)


@dataclass(frozen=True, slots=True)
class Likeness:
    """Debiased linear CKA of every layer of one model (rows) with every layer of another (columns)."""

    first: str
    second: str
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ProbeStudy:
    """All that the study found."""

    models: Mapping[str, tuple[str, ...]]  # name -> layers
    frame_ms: Mapping[str, tuple[int, ...]]  # of each layer
    figures: tuple[Figure, ...]
    controls: tuple[Control, ...]
    likeness: tuple[Likeness, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, int]  # reason -> clips
    n_train: int
    n_test: int
    seconds: float
    settings: ProbeSettings = field(repr=False)

    def failures(self) -> tuple[str, ...]:
        """Controls that came out wrong, a sentence each; empty where the probes can be trusted."""
        return tuple(
            f"{one.kind} ({one.task}), {one.place.model}, {one.place.layer}: {one.value:.1%} where "
            + (f"{FOUND:.0%} or more" if one.kind == "planted" else f"{one.chance:.1%}")
            + " was to be expected"
            for one in self.controls
            if not one.good
        )

    def of(self, model: str, task: str, domain: str) -> list[Figure]:
        """A model's figures, from its first layer on."""
        found = [f for f in self.figures if (f.place.model, f.task, f.domain) == (model, task, domain)]
        return sorted(found, key=lambda figure: figure.place.depth)
