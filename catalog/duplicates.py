"""Audio fingerprints of the clips, and the pairs of clips that have the same sound in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING

from catalog import rows
from catalog.records import Duplicate
from catalog.store import Catalog

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

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


def clips_without_fingerprint(catalog: Catalog, method: str) -> dict[str, str]:
    """Paths (relative to the corpus folder) of the kept clips without a fingerprint of this method, by segment id."""
    return dict(
        catalog.all(
            "SELECT segment_id, path FROM base.segment WHERE kept AND segment_id NOT IN"
            " (SELECT segment_id FROM base.fingerprint WHERE method = ?) ORDER BY segment_id",
            [method],
        )
    )


def fingerprints_are_stale(catalog: Catalog, method: str) -> bool:
    """Whether there are fingerprints of another method, or of clips that are kept no more."""
    return bool(
        catalog.all(
            "SELECT 1 FROM base.fingerprint WHERE method <> ? OR segment_id NOT IN"
            " (SELECT segment_id FROM base.segment WHERE kept) LIMIT 1",
            [method],
        )
    )


def fingerprints(catalog: Catalog, method: str) -> dict[str, NDArray[uint32]]:
    """The fingerprints of the kept clips by segment id, in the order of the ids: words of shape (frames,)."""
    found = catalog.connection.execute(
        "SELECT segment_id, hashes FROM base.fingerprint JOIN base.segment USING (segment_id)"
        " WHERE kept AND method = ? ORDER BY segment_id",
        [method],
    ).fetchnumpy()  # as rows of Python's integers they take minutes
    return {str(name): words for name, words in zip(found["segment_id"], found["hashes"], strict=True)}


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
            rows.insert(catalog.connection, INSERT_DUPLICATE, map(astuple, duplicates))


def duplicates(catalog: Catalog) -> list[Duplicate]:
    """All pairs of clips with the same sound in them, by their ids."""
    found = catalog.all("SELECT segment_a, segment_b, overlap_s, score FROM base.duplicate ORDER BY ALL")
    return [Duplicate(*row) for row in found]
