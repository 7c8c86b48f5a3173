"""The proof that nothing leaks from one side of a split to another: SQL that must give no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.store import Catalog

# Each stands on the public views, so that anyone can ask the same with `pdid sql`.
_ON_TWO_SIDES = """SELECT {column} AS {name}, string_agg(DISTINCT splits.split, ', ' ORDER BY splits.split) AS sides
FROM splits JOIN segments USING (segment_id) JOIN sources USING (source_id)
WHERE split_name = {split} AND {column} <> ''
GROUP BY ALL
HAVING count(DISTINCT splits.split) > 1
ORDER BY 1"""
_SAME_SOUND = """SELECT segment_a, a.split AS side_a, segment_b, b.split AS side_b, round(overlap_s, 1) AS overlap_s
FROM duplicates JOIN splits AS a ON a.segment_id = segment_a JOIN splits AS b ON b.segment_id = segment_b
WHERE a.split_name = {split} AND b.split_name = {split} AND a.split <> b.split
ORDER BY ALL"""
_TEST_ONLY = """SELECT accent, splits.split, count(*) AS clips
FROM splits JOIN segments USING (segment_id)
WHERE split_name = {split} AND splits.split <> 'test' AND accent IN ({accents})
GROUP BY ALL
ORDER BY ALL"""
_COLUMNS = (
    ("recording", "segments.source_id", "source_id"),
    ("speaker", "segments.speaker_id", "speaker_id"),
    ("speaker's label", "lower(trim(sources.speaker))", "label"),
    ("channel", "lower(trim(sources.channel))", "channel"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What must hold, the SQL that gives a row for each violation, and what it gave."""

    what: str
    sql: str
    columns: tuple[str, ...]
    leaks: tuple[tuple[Any, ...], ...]


def find_leaks(catalog: Catalog, name: str, test_only: Sequence[str]) -> list[Finding]:
    """Run every proof on the split of this name."""
    found = []
    for what, sql in proofs(name, test_only):
        answer = catalog.query(sql)
        found.append(Finding(what, sql, answer.columns, tuple(answer.rows)))
    return found


def proofs(name: str, test_only: Sequence[str]) -> list[tuple[str, str]]:
    """What must hold for a split, and the SQL that gives a row for each violation."""
    one = _quoted(name)
    found = [
        (f"no {what} is on two sides", _ON_TWO_SIDES.format(column=column, name=alias, split=one))
        for what, column, alias in _COLUMNS
    ]
    found.append(("no near-duplicates are on two sides", _SAME_SOUND.format(split=one)))
    if test_only:
        accents = ", ".join(map(_quoted, test_only))
        found.append(("test-only accents are in test alone", _TEST_ONLY.format(split=one, accents=accents)))
    return found


def _quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
