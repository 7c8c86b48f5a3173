"""Audio fingerprints of the clips, and the pairs of clips that have the same sound in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from itertools import islice
from typing import TYPE_CHECKING

from catalog import rows
from catalog.records import Duplicate
from catalog.store import Catalog

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

BATCH, PAGE = 10_000, 10_000
"""Rows of pairs and paths in memory at a time, and of fingerprints, up to 10 KB each."""

WITHOUT = """
FROM base.segment
WHERE kept AND segment_id NOT IN (SELECT segment_id FROM base.fingerprint WHERE method = ?)
"""
INSERT_FINGERPRINT = """
INSERT OR REPLACE INTO base.fingerprint (segment_id, method, hashes)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::UINTEGER[][])
"""
INSERT_DUPLICATE = """
INSERT INTO base.duplicate (segment_a, segment_b, overlap_s, score)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::DOUBLE[]), unnest(?::DOUBLE[])
"""
DELETE_GONE = """
DELETE FROM base.fingerprint
WHERE method <> ? OR segment_id NOT IN (SELECT segment_id FROM base.segment WHERE kept)
"""


def clips_without_fingerprint(catalog: Catalog, method: str, after: str = "", limit: int = BATCH) -> dict[str, str]:
    """Paths (relative to the corpus folder) of the kept clips without a fingerprint of this method, by segment id.

    Of the ids after one, the first `limit`, in order: what a big corpus has may be too many.
    """
    return dict(
        catalog.all(
            f"SELECT segment_id, path {WITHOUT} AND segment_id > ? ORDER BY segment_id LIMIT ?",
            [method, after, limit],
        )
    )


def count_without_fingerprint(catalog: Catalog, method: str) -> int:
    """How many kept clips there are without a fingerprint of this method."""
    return int(catalog.all(f"SELECT count(*) {WITHOUT}", [method])[0][0])


def fingerprints_are_stale(catalog: Catalog, method: str) -> bool:
    """Whether there are fingerprints of another method, or of clips that are kept no more."""
    return bool(
        catalog.all(
            "SELECT 1 FROM base.fingerprint WHERE method <> ? OR segment_id NOT IN"
            " (SELECT segment_id FROM base.segment WHERE kept) LIMIT 1",
            [method],
        )
    )


def fingerprints(catalog: Catalog, method: str) -> Iterator[dict[str, NDArray[uint32]]]:
    """The fingerprints of the kept clips by segment id, words of shape (frames,); some at a time, as they lie there."""
    ((last,),) = catalog.all("SELECT coalesce(max(rowid), -1) FROM base.fingerprint")
    gone = {
        name
        for (name,) in catalog.each(
            "SELECT segment_id FROM base.fingerprint WHERE method = $method AND segment_id NOT IN"
            " (SELECT segment_id FROM base.segment WHERE kept)",
            {"method": method},
        )
    }
    for start in range(0, last + 1, PAGE):  # by their rows: by their ids, each page would cost a look at all of them
        found = catalog.connection.execute(
            "SELECT segment_id, hashes FROM base.fingerprint WHERE rowid >= ? AND rowid < ? AND method = ?",
            [start, start + PAGE, method],
        ).fetchnumpy()  # as rows of Python's integers they take minutes
        pairs = zip(found["segment_id"], found["hashes"], strict=True)
        yield {str(name): words for name, words in pairs if name not in gone}


def write_fingerprints(
    catalog: Catalog,
    method: str,
    prints: Mapping[str, NDArray[uint32]],
    duplicates: Iterable[Duplicate] | None = None,
) -> None:
    """Add fingerprints (segment id → words); with `duplicates`, all pairs there are now, in place of those before.

    The pairs go in together with the last fingerprints that they follow from, and what is there of clips that are gone,
    or by another method, goes out: so nothing tells of pairs that were not looked for.
    """
    with catalog.transaction():
        rows.insert(
            catalog.connection, INSERT_FINGERPRINT, ((name, method, words.tolist()) for name, words in prints.items())
        )
        if duplicates is not None:
            catalog.connection.execute(DELETE_GONE, [method])
            catalog.connection.execute("DELETE FROM base.duplicate")
            left = map(astuple, duplicates)
            while batch := list(islice(left, BATCH)):
                rows.insert(catalog.connection, INSERT_DUPLICATE, batch)


def duplicates(catalog: Catalog) -> list[Duplicate]:
    """All pairs of clips with the same sound in them, by their ids."""
    found = catalog.all("SELECT segment_a, segment_b, overlap_s, score FROM base.duplicate ORDER BY ALL")
    return [Duplicate(*row) for row in found]
