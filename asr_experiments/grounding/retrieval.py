"""How well a grounding model finds the picture that is spoken of, and the speech about a picture: recall at k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from asr_experiments.datasets import read_sound
from asr_experiments.features import Floats
from asr_experiments.grounding.images import read_picture
from asr_experiments.grounding.model import Grounding
from asr_experiments.grounding.pairs import Pair

AT = (1, 5, 10)
BATCH = 32
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """Retrieval in one direction. Recall at k is the share of questions with a right answer among the first k."""

    recall: dict[int, float]
    chance: dict[int, float]  # the same for answers in random order
    by_speaker: dict[str, float]  # recall at 1


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Both directions: the pictures for each clip, and the clips for each picture. Equal keys are right answers."""

    image_by_speech: Way
    speech_by_image: Way
    n_clips: int
    n_images: int  # different ones


def retrieve(made: Grounding, pairs: Sequence[Pair]) -> Retrieval:
    """Rank all pictures for each clip of the pairs, and all clips for each picture.

    Raises PdidError for a file that can't be read, UsageError for a clip under 0.16 s.
    """
    pictures = list({pair.image: pair for pair in pairs}.values())
    speech = np.concatenate([made.embed_speech([read_sound(p.clip) for p in part]) for part in _parts(pairs)])
    size = made.preparation.size
    seen = np.concatenate(
        [made.embed_pictures([read_picture(p.image, size) for p in part]) for part in _parts(pictures)]
    )
    said, shown = [pair.key for pair in pairs], [pair.key for pair in pictures]
    return Retrieval(
        one_way(speech, seen, said, shown, [pair.speaker for pair in pairs]),
        one_way(seen, speech, shown, said),
        len(pairs),
        len(pictures),
    )


def one_way(
    questions: Floats, answers: Floats, asked: Sequence[str], answered: Sequence[str], speakers: Sequence[str] = ()
) -> Way:
    """Recall of `answers` (m, width) with keys `answered` for `questions` (n, width) with keys `asked`."""
    keys = np.asarray(answered)
    ranks, right = [], []
    for question, key in zip(questions, asked, strict=True):  # one at a time: all scores may not fit into memory
        is_right = keys == key
        ranks.append(first_hit(answers @ question, is_right))
        right.append(int(is_right.sum()))
    found = np.array(ranks)
    voices = np.asarray(speakers)
    return Way(
        {k: float((found < k).mean()) for k in AT},
        {k: float(np.mean([guessed(len(keys), n, k) for n in right])) for k in AT},
        {name: float((found[voices == name] < 1).mean()) for name in sorted({*speakers} - {""})},
    )


def first_hit(scores: Floats, is_right: NDArray[np.bool_]) -> int:
    """The rank, from 0, of the best right answer; wrong ones that score the same come first."""
    return int((scores[~is_right] >= scores[is_right].max()).sum())


def guessed(n: int, right: int, k: int) -> float:
    """The chance that k of n answers in random order have one of `right` right ones among them."""
    missed = 1.0
    for i in range(min(k, n)):
        missed *= max(0, n - right - i) / (n - i)
    return 1 - missed


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
