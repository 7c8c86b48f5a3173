"""The pairs that audio-visual grounding learns from: a CSV file with a picture and a spoken clip in each line."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_experiments.datasets import SPLITS, read_rows, sound_length
from asr_experiments.features import Progress
from asr_experiments.grounding.images import read_picture
from asr_experiments.grounding.speech import SHORTEST
from catalog.errors import PdidError, UsageError
from catalog.records import RATE

COLUMNS = ("image", "clip")
OPTIONAL = ("key", "speaker", "split")
"""Of a table of pairs; others are passed over."""

HELD_OUT = 5
"""Without a column `split` one speaker of this many is tested on, or one key of this many where none is named."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and what is said about it. Pairs of one `key` show the same: none is a wrong answer for another."""

    line: int  # of the table
    image: Path
    clip: Path
    key: str  # where the table has none, the picture's path
    speaker: str  # empty where the table has none


@dataclass(frozen=True, slots=True)
class Pairs:
    """A table's pairs for training and for the test."""

    table: Path
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    left_out: dict[str, int]  # reason → lines that are not used
    held_out: str  # how the test side was chosen

    @property
    def shared_speakers(self) -> list[str]:
        """Speakers on both sides: what is measured on them is not about new voices."""
        return sorted(({pair.speaker for pair in self.train} & {pair.speaker for pair in self.test}) - {""})

    def fingerprint(self) -> list[Any]:
        """What stands for the pairs, their sides and their files (by name, size and time) where results are named."""
        return [
            [(*_file(pair.image), *_file(pair.clip), pair.key, pair.speaker) for pair in side]
            for side in (self.train, self.test)
        ]


def _file(path: Path) -> tuple[str, int, int]:
    about = path.stat()
    return str(path.resolve()), about.st_size, about.st_mtime_ns


def read_pairs(path: Path) -> Pairs:
    """The pairs of a table: CSV with a header, `image` and `clip`, and optionally `key`, `speaker` and `split`.

    Paths are relative to the table. `split` says train, dev or test, and dev is left aside; without it a fifth of the
    speakers is tested on, and without speakers a fifth of the keys. Left out and counted are clips under 0.16 s.

    Raises UsageError, with the line, for a missing column, an empty cell, an unknown split, a picture or clip that is
    not there or a clip that can't be read; and where a side does not have two keys, so that nothing can be confused.
    """
    left_out: Counter[str] = Counter()
    pairs: list[tuple[Pair, str | None]] = []
    for line, row in read_rows(path, COLUMNS, OPTIONAL):
        try:
            pair, n_samples = _pair(row, line, path.parent)
            split = _split(row)
        except PdidError as error:
            raise UsageError(f"{path}, line {line}: {error}") from None
        if n_samples < SHORTEST:
            left_out[f"the clip is under {SHORTEST / RATE} s, one frame of the last layer"] += 1
        elif split == "dev":
            left_out["they are of the split `dev`, which grounding has no use for"] += 1
        else:
            pairs.append((pair, split))
    tested, how = _held_out([pair for pair, _ in pairs]) if all(split is None for _, split in pairs) else (None, "")
    train = tuple(p for p, split in pairs if (split == "train" if tested is None else _group(p, how) not in tested))
    test = tuple(p for p, split in pairs if (split == "test" if tested is None else _group(p, how) in tested))
    for side, found in (("train", train), ("test", test)):
        if len({pair.key for pair in found}) < 2:
            raise UsageError(
                f"{path} has {len(found)} pairs to {side} with, of {len({pair.key for pair in found})} things: "
                "expected two different ones or more on each side; add pairs, or write train and test under `split`"
            )
    return Pairs(path, train, test, dict(left_out), f"a fifth by {how}" if how else "by the column `split`")


def _pair(row: dict[str, str], line: int, folder: Path) -> tuple[Pair, int]:
    for name in (*COLUMNS, *(name for name in OPTIONAL if name in row)):
        if not row[name]:
            raise UsageError(f"the column `{name}` is empty: fill it in, or leave the pair out")
    image, clip = folder / row["image"], folder / row["clip"]
    for what, path in (("picture", image), ("clip", clip)):
        if not path.is_file():
            raise UsageError(f"there is no {what} {str(path)!r}: paths are relative to the file")
    key = row.get("key") or os.path.normpath(image)
    return Pair(line, image, clip, key, row.get("speaker", "")), sound_length(clip)


def _split(row: dict[str, str]) -> str | None:
    split = row["split"].lower() if "split" in row else None
    if split is not None and split not in SPLITS:
        raise UsageError(f"the split is {row['split']!r}: write train, dev or test")
    return split


def _held_out(pairs: Sequence[Pair]) -> tuple[set[str], str]:
    """A fifth of the speakers, or of the keys, by chance but always the same; and which of the two."""
    how = "speaker" if len({pair.speaker for pair in pairs}) > 1 else "key"
    groups = sorted({_group(pair, how) for pair in pairs})
    order = np.random.default_rng(0).permutation(len(groups))
    return {groups[i] for i in order[: -(-len(groups) // HELD_OUT)]}, how


def _group(pair: Pair, how: str) -> str:
    return pair.speaker if how == "speaker" else pair.key


def check_pictures(pairs: Pairs, progress: Progress = lambda share: None) -> None:
    """Decode every picture once, before hours are spent. Raises UsageError with the line of one that is broken."""
    chosen = {pair.image: pair for pair in (*pairs.train, *pairs.test)}
    for done, pair in enumerate(chosen.values(), 1):
        try:
            read_picture(pair.image, 8)
        except PdidError as error:
            raise UsageError(f"{pairs.table}, line {pair.line}: {error}") from None
        progress(done / len(chosen))


def name_of(*told: Any) -> str:
    """Twelve hex digits that stand for what can be written as JSON."""
    return hashlib.sha256(json.dumps(told, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]
