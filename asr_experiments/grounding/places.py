"""Places Audio Captions (Harwath et al., NeurIPS 2016; arXiv 1911.09602) as a table of pairs.

The layout is that of the published release: metadata/train.json and metadata/val.json, each with `image_base_path`,
`audio_base_path` and `data`, a list of captions with `uttid`, `speaker`, `asr_text`, `wav` and `image`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr_experiments.datasets import Split
from catalog.errors import UsageError

SIDES: dict[str, Split] = {"train.json": "train", "val.json": "test"}
"""The release has no third side, and what is published about it is measured on `val`."""

BASES = ("image_base_path", "audio_base_path")
CELLS = ("uttid", "speaker", "wav", "image")


def write_places(folder: Path, target: Path) -> int:
    """Write a local copy of Places Audio Captions as a table of pairs and return the number of pairs.

    Columns: image, clip, speaker, split, and text, which is a recogniser's. The base paths in the metadata are taken
    from `folder` on where they are relative; whether the files are there is looked at when the table is read. Raises
    UsageError for a folder that isn't a copy, and for base paths that are no folders on this machine.
    """
    base = target.resolve().parent
    rows = [row for name, split in SIDES.items() for row in _rows(folder.resolve() / "metadata" / name, split)]
    base.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "clip", "speaker", "split", "text"])
            for image, clip, *others in rows:
                writer.writerow([os.path.relpath(image, base), os.path.relpath(clip, base), *others])
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return len(rows)


def _rows(path: Path, split: Split) -> Iterator[tuple[Path, Path, str, str, str]]:
    try:
        told: dict[str, Any] = json.loads(path.read_text("utf-8"))
        images, sounds = (path.parent.parent / told[name] for name in BASES)
        captions: list[dict[str, Any]] = told["data"]
    except OSError:
        raise UsageError(
            f"{path.parent.parent} is no copy of Places Audio Captions: it has no metadata/{path.name}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not as published: expected {', '.join(BASES)} and data ({error!r})") from None
    for name, base in zip(BASES, (images, sounds), strict=True):
        if not base.is_dir():
            raise UsageError(f"{path}: {name} is {told[name]!r}, no folder here: write where the files lie")
    for number, caption in enumerate(captions):
        if missing := [name for name in CELLS if not caption.get(name)]:
            raise UsageError(f"{path}: caption {number} of `data` has no `{missing[0]}`: mend it or take it out")
        yield images / caption["image"], sounds / caption["wav"], caption["speaker"], split, caption.get("asr_text", "")
