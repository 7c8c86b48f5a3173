"""Finished downloads that no catalog row names yet: a note beside the part files says where each came from.

A run that is killed between a download's end and its commit finds it here, and fetches it no second time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from catalog.records import Fetch
from corpus_builder.acquire.records import Fetched, SubtitleFile

PART = ".part"
_OURS = re.compile(r"[0-9a-f]{16}\.")


def put(folder: Path, key: str, fetched: Fetched) -> None:
    """Note a finished download; `key` is what its files in the folder are called by."""
    told = {
        "media": fetched.path.name,
        "bytes": fetched.path.stat().st_size,
        "fetch": asdict(fetched.fetch),
        "subtitles": [asdict(file) | {"path": file.path.name} for file in fetched.subtitles],
    }
    note = _note(folder, key)
    note.parent.mkdir(exist_ok=True)
    beside = note.with_suffix(".tmp")
    beside.write_text(json.dumps(told, ensure_ascii=False, default=datetime.isoformat), "utf-8")
    os.replace(beside, note)


def take(folder: Path, key: str) -> Fetched | None:
    """The noted download, if its file is still there as it was."""
    try:
        told = json.loads(_note(folder, key).read_text("utf-8"))
        media = folder / told["media"]
        if media.stat().st_size != told["bytes"]:
            return None
        files = [SubtitleFile(folder / file.pop("path"), **file) for file in told["subtitles"]]
        return Fetched(media, _fetch(told["fetch"]), tuple(file for file in files if file.path.exists()))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged note costs a download


def clear(folder: Path, key: str) -> None:
    """Forget the note: the catalog has it now."""
    with suppress(OSError):
        _note(folder, key).unlink()


def _note(folder: Path, key: str) -> Path:
    return folder / PART / f"{key}.json"


def _fetch(told: dict[str, Any]) -> Fetch:
    moments = {name: datetime.fromisoformat(told[name]) for name in ("uploaded_at", "fetched_at") if told[name]}
    return Fetch(**(told | moments))


def delete(folder: Path, key: str) -> None:
    """Delete a download with its subtitles and its note."""
    clear(folder, key)
    for file in folder.glob(f"{key}.*"):
        with suppress(OSError):
            file.unlink()


def sweep(folder: Path, named: Container[str]) -> None:
    """Delete downloads that neither the catalog names (by their key) nor a note, as a killed run leaves them."""
    keys = {file.name.split(".")[0] for file in folder.glob("*.*") if _OURS.match(file.name)}
    for key in keys:
        if key not in named and not _note(folder, key).exists():
            delete(folder, key)
