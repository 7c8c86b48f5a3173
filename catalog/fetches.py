"""Where recordings were downloaded from.

One is written with the source it brought, in `Catalog.write_source`; `Catalog.result` has the newest of a source whole.
"""

from __future__ import annotations

from catalog import rows
from catalog.records import Fetch
from catalog.store import Catalog


def fetches(catalog: Catalog) -> dict[str, Fetch]:
    """Every download by its address, with an empty `raw`: it may be megabytes. So never write one of these back."""
    found = catalog.all(
        "SELECT uri, source_id, site, site_id, asked, title, channel, channel_id, uploaded_at, licence, announced_s,"
        " lost_s, sha256, size_bytes, media, recorded_s, tool, fetched_at, '{}' FROM base.fetch ORDER BY uri"
    )
    return {row[0]: rows.to_fetch(row) for row in found}


def forget_media(catalog: Catalog, uri: str) -> None:
    """Note that the file which was downloaded from this address is not kept."""
    with catalog.transaction():
        catalog.connection.execute("UPDATE base.fetch SET media = NULL WHERE uri = ?", [rows.plain(uri)])
