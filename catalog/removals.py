"""Takedowns: a recording and all that was made of it goes out of the catalog, and a tombstone keeps it out.

    with open_catalog(corpus, write=True) as catalog:
        gone = remove_sources(catalog, [source_id], "the speaker asked for it", datetime.now(UTC))

What stays says nothing of what was said or by whom: tombstones, the ids of the pieces, written splits (which never
change, and are stale from then on), the list of exports, and the figures of benchmark runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

from catalog import rows
from catalog.exports import exports
from catalog.records import Export, Removal
from catalog.store import Catalog

NAMELESS = "generic"
"""The site of addresses that are no known site's: its ids are mere file names, and many recordings share one."""

# Each takes $ids, the sources, or $pieces, the ids of all that was ever cut from them.
ADDRESSES = """
WITH place AS (
    SELECT uri, source_id FROM base.source
    UNION
    SELECT uri, source_id FROM base.address
    UNION
    SELECT uri, source_id FROM base.fetch
)
SELECT place.uri, place.source_id, coalesce(source.sha256, got.sha256), got.site, got.site_id
FROM place
LEFT JOIN base.source ON source.source_id = place.source_id
LEFT JOIN base.fetch AS got ON got.uri = place.uri
WHERE place.source_id IN (SELECT unnest($ids::VARCHAR[]))
ORDER BY place.uri
"""
EXPERIMENTS = """
SELECT experiment_id, count(*)
FROM base.prediction JOIN base.run USING (run_id)
WHERE segment_id IN (SELECT unnest($pieces::VARCHAR[]))
GROUP BY experiment_id
ORDER BY experiment_id
"""
SPLITS = """
SELECT DISTINCT split_name
FROM base.split_member
WHERE segment_id IN (SELECT unnest($pieces::VARCHAR[]))
ORDER BY split_name
"""
BY_SOURCE = (
    "address", "stage", "mark", "voice", "label_hold", "label", "transcript", "fetch", "segment", "source",
)  # fmt: skip
LINKS = (
    "DELETE FROM base.link WHERE regexp_replace(local_id, '-[^-]*$', '') IN (SELECT unnest($ids::VARCHAR[]))",
    # a person is named after the first of its voices, and that one may be gone
    """
    UPDATE base.link SET speaker_id = heard.first
    FROM (SELECT speaker_id, min(local_id) AS first FROM base.link GROUP BY speaker_id) AS heard
    WHERE link.speaker_id = heard.speaker_id
        AND regexp_replace(link.speaker_id, '-[^-]*$', '') IN (SELECT unnest($ids::VARCHAR[]))
    """,
)
RULES = """
DELETE FROM base.link_rule
WHERE source_a IN (SELECT unnest($ids::VARCHAR[])) OR source_b IN (SELECT unnest($ids::VARCHAR[]))
"""
# A clip in the middle of a chain of pairs held its ends together. An empty fingerprint of a clip that is gone has the
# pairs looked for anew before the next split, and goes with that.
EMPTY_FINGERPRINTS = """
UPDATE base.fingerprint SET hashes = []
WHERE segment_id IN (SELECT unnest($pieces::VARCHAR[]))
    AND segment_id IN (SELECT segment_a FROM base.duplicate UNION SELECT segment_b FROM base.duplicate)
"""
BY_PIECE = (
    EMPTY_FINGERPRINTS,
    "DELETE FROM base.fingerprint WHERE len(hashes) > 0 AND segment_id IN (SELECT unnest($pieces::VARCHAR[]))",
    """
    DELETE FROM base.duplicate
    WHERE segment_a IN (SELECT unnest($pieces::VARCHAR[])) OR segment_b IN (SELECT unnest($pieces::VARCHAR[]))
    """,
    "DELETE FROM base.prediction WHERE segment_id IN (SELECT unnest($pieces::VARCHAR[]))",
)
INSERT_REMOVAL = """
INSERT OR IGNORE INTO base.removal (uri, source_id, sha256, site, site_id, reason, removed_at)
SELECT
    unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
    unnest(?::VARCHAR[]), unnest(?::TIMESTAMP[])
"""
INSERT_PIECE = """
INSERT OR IGNORE INTO base.removed_segment (segment_id, source_id) SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])
"""


@dataclass(frozen=True, slots=True)
class Removed:
    """What a takedown reaches. Of what an earlier one took, all but clips, media and predictions is told again."""

    uris: tuple[str, ...]  # with a tombstone
    clips: tuple[str, ...]  # relative to the corpus folder
    media: tuple[str, ...]  # what was downloaded and kept, relative to the corpus folder
    pieces: frozenset[str]  # the ids of all that was ever cut from the recordings, as far as is known
    predictions: int
    experiments: tuple[str, ...]  # whose predictions were taken
    splits: tuple[str, ...]  # stale now
    exports: tuple[Export, ...]  # that contain clips of them


@dataclass(frozen=True, slots=True)
class Tombstones:
    """What was taken down, to be asked before anything is fetched or read."""

    by_uri: Mapping[str, Removal]
    by_sha256: Mapping[str, Removal]
    by_site: Mapping[tuple[str, str], Removal]

    def of(
        self, *, uri: str | None = None, sha256: str | None = None, site: str | None = None, site_id: str | None = None
    ) -> Removal | None:
        """The takedown of this address, of these bytes, or of the recording with this id on this site."""
        return (
            self.by_uri.get(uri or "")
            or self.by_sha256.get(sha256 or "")
            or (self.by_site.get((site, site_id)) if site and site_id else None)
        )


def what_goes(catalog: Catalog, source_ids: Sequence[str], pieces: Mapping[str, str] | None = None) -> Removed:
    """What `remove_sources` would take, with nothing taken."""
    ids: dict[str, object] = {"ids": list(source_ids)}
    known = catalog.all(
        "SELECT segment_id FROM base.segment WHERE source_id IN (SELECT unnest($ids::VARCHAR[])) UNION"
        " SELECT segment_id FROM base.removed_segment WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))",
        ids,
    )
    all_pieces = {row[0] for row in known} | set(pieces or ())
    cut: dict[str, object] = {"pieces": sorted(all_pieces)}
    paths = catalog.all(
        "SELECT path FROM base.segment WHERE kept AND source_id IN (SELECT unnest($ids::VARCHAR[])) ORDER BY path", ids
    )
    media = catalog.all(
        "SELECT DISTINCT media FROM base.fetch"
        " WHERE media IS NOT NULL AND source_id IN (SELECT unnest($ids::VARCHAR[])) ORDER BY media",
        ids,
    )
    before = catalog.all("SELECT uri FROM base.removal WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))", ids)
    said = catalog.all(EXPERIMENTS, cut)
    return Removed(
        uris=tuple(sorted({row[0] for row in (*before, *catalog.all(ADDRESSES, ids))})),
        clips=tuple(row[0] for row in paths),
        media=tuple(row[0] for row in media),
        pieces=frozenset(all_pieces),
        predictions=sum(row[1] for row in said),
        experiments=tuple(row[0] for row in said),
        splits=tuple(row[0] for row in catalog.all(SPLITS, cut)),
        exports=tuple(export for export in exports(catalog) if export.clips.keys() & set(source_ids)),
    )


def remove_sources(
    catalog: Catalog, source_ids: Sequence[str], reason: str, now: datetime, pieces: Mapping[str, str] | None = None
) -> Removed:
    """Take recordings and all that was made of them out of the catalog; returns what that was.

    Each of their addresses gets a tombstone. `pieces`, segment id → source id, are pieces that the catalog doesn't
    know to be theirs: cut by an earlier run, or by their bytes' hash in a data set. Done again it changes nothing.
    The files are the caller's to delete. Raises PdidError if the catalog can't be written; nothing is gone then.
    """
    ids: dict[str, object] = {"ids": list(source_ids)}
    with catalog.transaction():
        gone = what_goes(catalog, source_ids, pieces)
        tombstones = [(*row, reason, now) for row in catalog.all(ADDRESSES, ids)]
        rows.insert(catalog.connection, INSERT_REMOVAL, tombstones)
        catalog.connection.execute(
            "INSERT OR IGNORE INTO base.removed_segment"
            " SELECT segment_id, source_id FROM base.segment WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))",
            ids,
        )
        rows.insert(catalog.connection, INSERT_PIECE, sorted((pieces or {}).items()))
        for statement in BY_PIECE:
            catalog.connection.execute(statement, {"pieces": sorted(gone.pieces)})
        for statement in (*LINKS, RULES):
            catalog.connection.execute(statement, ids)
        for table in BY_SOURCE:  # names of this module's own
            catalog.connection.execute(
                f"DELETE FROM base.{table} WHERE source_id IN (SELECT unnest($ids::VARCHAR[]))", ids
            )
    return gone


def refuse(catalog: Catalog, tombstones: Iterable[Removal]) -> None:
    """Write tombstones of recordings that are not in the catalog; an address that has one keeps it."""
    with catalog.transaction():
        rows.insert(catalog.connection, INSERT_REMOVAL, map(astuple, tombstones))


def removals(catalog: Catalog) -> list[Removal]:
    """All tombstones, the oldest first."""
    found = catalog.all(
        "SELECT uri, source_id, sha256, site, site_id, reason, removed_at FROM base.removal ORDER BY removed_at, uri"
    )
    return list(map(rows.to_removal, found))


def removed_pieces(catalog: Catalog) -> frozenset[str]:
    """The ids of all pieces of recordings that were taken down."""
    return frozenset(row[0] for row in catalog.all("SELECT segment_id FROM base.removed_segment"))


def tombstoned(catalog: Catalog) -> Tombstones:
    """All tombstones, to be asked."""
    every = removals(catalog)
    return Tombstones(
        {one.uri: one for one in every},
        {one.sha256: one for one in every if one.sha256},
        {(str(one.site), one.site_id): one for one in every if one.site_id and one.site not in (None, NAMELESS)},
    )
