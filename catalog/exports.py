"""What was written out of the catalog, and splits brought back from a release.

    with open_catalog(corpus, write=True) as catalog:
        write_export(catalog, export)

Which recordings are in which export is kept so that a recording that has to go can be followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from catalog import rows
from catalog.errors import PdidError
from catalog.records import Export, SplitMember
from catalog.resolve import show_newest_split
from catalog.store import Catalog, SplitInfo

INSERT_EXPORT_SOURCE = """
INSERT INTO base.export_source (export_id, source_id, n_clips)
SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::INTEGER[])
"""


def write_export(catalog: Catalog, export: Export) -> None:
    """Note an export. Raises PdidError if there is one of that id; nothing is written then."""
    with catalog.transaction():
        catalog.connection.execute(
            "INSERT INTO base.export (export_id, format, path, settings, created_at) VALUES (?, ?, ?, ?, ?)",
            [
                export.export_id,
                export.format,
                rows.plain(export.path),
                rows.plain(export.settings),
                rows.plain(export.created_at),
            ],
        )
        each = ((export.export_id, source_id, n) for source_id, n in sorted(export.clips.items()))
        rows.insert(catalog.connection, INSERT_EXPORT_SOURCE, each)


def exports(catalog: Catalog) -> list[Export]:
    """The exports, oldest first."""
    clips: dict[str, dict[str, int]] = {}
    for export_id, source_id, n in catalog.all(
        "SELECT export_id, source_id, n_clips FROM base.export_source ORDER BY export_id, source_id"
    ):
        clips.setdefault(export_id, {})[source_id] = n
    found = catalog.all(
        "SELECT export_id, format, path, settings, created_at FROM base.export ORDER BY created_at, export_id"
    )
    return [Export(r[0], r[1], r[2], json.loads(r[3]), rows.moment(r[4]), clips.get(r[0], {})) for r in found]


def restore_split(catalog: Catalog, split: SplitInfo, members: Iterable[SplitMember]) -> bool:
    """Write a split as it was in another catalog, with its name and date; False where it is there already.

    Its clips need not all be here: a split says what it was, and `pdid split --check` counts those that are gone.
    Raises PdidError if there is another split of that name.
    """
    wanted = {member.segment_id: member.split for member in members}
    with catalog.transaction():
        found = catalog.all("SELECT segment_id, split FROM base.split_member WHERE split_name = ?", [split.name])
        if catalog.all("SELECT 1 FROM base.split WHERE split_name = ?", [split.name]):
            if dict(found) != wanted:
                raise PdidError(f"there is another split {split.name!r} in this catalog, and a written split stays")
            return False
        catalog.connection.execute(
            "INSERT INTO base.split (split_name, position, seed, settings, created_at)"
            " SELECT ?, coalesce(max(position), 0) + 1, ?, ?, ? FROM base.split",
            [split.name, split.seed, rows.plain(dict(split.settings)), rows.plain(split.created_at)],
        )
        rows.insert(catalog.connection, rows.INSERT_SPLIT_MEMBER, sorted(wanted.items()), split.name)
        show_newest_split(catalog.connection)
    return True
