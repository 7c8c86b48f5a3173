"""What a stage's model must do: small protocols, so that an engine can be swapped without touching the pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.records import Span
from corpus_builder.audio import Samples, Track

Progress = Callable[[float], None]
"""Called with the share of a stage's work that is done, 0 to 1."""

T = TypeVar("T")
U = TypeVar("U")
L = TypeVar("L")


class Each(Protocol):
    """How an engine's method is computed for one input after the other: `map`, or with the help of idle workers.

    Results come in the order of the inputs, which are taken as there is somebody to work on them.
    """

    def __call__(self, method: Callable[[T], U], inputs: Iterable[T], /) -> Iterator[U]: ...


def labelled(each: Each, method: Callable[[T], U], items: Iterable[tuple[L, T]]) -> Iterator[tuple[L, U]]:
    """The label and the result for each label and input."""
    labels: deque[L] = deque()

    def inputs() -> Iterator[T]:
        for label, item in items:
            labels.append(label)
            yield item

    for result in each(method, inputs()):
        yield labels.popleft(), result


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's uninterrupted speech, [start, end) in samples at 16 kHz."""

    start: int
    end: int
    speaker: str  # label within the source: "S1", "S2", …

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who speaks when, at most one at a time, and where that can't be told.

    `turns` are sorted and exclusive: the main speaker of every moment of speech. `overlaps` are
    stretches where several speak at once, `unsure` where the engine can't tell who speaks; both may
    lie within turns, and segmentation trims them away. `voices` maps each speaker label to its mean
    embedding, float32 of shape (d,), unit length.
    """

    turns: tuple[Turn, ...]
    overlaps: tuple[Span, ...] = ()
    unsure: tuple[Span, ...] = ()
    voices: dict[str, NDArray[np.float32]] | None = None


class Diarizer(Protocol):
    """Finds the speakers of one source."""

    name: str  # engine and model, as stored in `stages.model`

    def __call__(
        self, track: Track, speech: Sequence[Span], music: Sequence[Span], progress: Progress
    ) -> Diarization: ...


class Separator(Protocol):
    """Takes the voice out of a mix."""

    name: str
    rate: int  # Hz the model works at
    stride: int  # samples at `rate` between its pieces, each of which costs the same

    def __call__(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Stereo blocks (n, 2) at `rate` in; the voice's blocks (m, 2) out, same total length."""
        ...
