"""A split made by hand: CSV with the columns segment_id and split."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from catalog.errors import UsageError
from catalog.records import SplitMember
from corpus_builder.split import SIDES
from corpus_builder.tables import read_csv


def read_split_file(path: Path, kept: Collection[str]) -> list[SplitMember]:
    """The members of a split made by hand; `kept` are the ids of the clips there are.

    Raises UsageError, with the line, for a file that is no such table, an unknown side, a clip that is named twice or
    is not in the corpus, and for a file without clips.
    """
    lines: dict[str, int] = {}
    members = []
    for row in read_csv(path, ("segment_id", "split")):
        where = f"{path}, line {row.line}"
        segment_id, side = row.cells.get("segment_id"), row.cells.get("split")
        if not segment_id or not side:
            raise UsageError(f"{where}: a row needs a cell under segment_id and one under split")
        if side not in SIDES:
            near = difflib.get_close_matches(side.lower(), [*SIDES, "valid", "validation", "development"], n=1)
            hint = near[0] if near and near[0] in SIDES else "dev" if near else "one of " + ", ".join(SIDES)
            raise UsageError(f"{where}: {side!r} is no side of a split: write {hint}")
        if segment_id in lines:
            raise UsageError(f"{where}: segment {segment_id} stands in line {lines[segment_id]} already")
        if segment_id not in kept:
            raise UsageError(
                f"{where}: the corpus has no kept segment {segment_id!r}: "
                '`pdid sql "SELECT segment_id FROM segments WHERE kept"` lists them'
            )
        lines[segment_id] = row.line
        members.append(SplitMember(segment_id, side))
    if not members:
        raise UsageError(f"{path} names no clips: it needs a row with segment_id and split for each")
    return members
