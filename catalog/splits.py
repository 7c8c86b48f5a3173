"""A split that is looked at before it is written, or without being written at all."""

from __future__ import annotations

from collections.abc import Iterable

from catalog import rows
from catalog.records import SplitMember
from catalog.store import Catalog


def show_split(catalog: Catalog, name: str, members: Iterable[SplitMember]) -> None:
    """Make the view `splits` show these members alone, to this connection and until it is closed.

    Nothing is written: a temporary table stands before the view, so that the same SQL proves a split that is not in
    the catalog. Works on a catalog opened for reading.
    """
    catalog.connection.execute("CREATE TEMP TABLE splits (split_name VARCHAR, segment_id VARCHAR, split VARCHAR)")
    rows.insert(
        catalog.connection,
        "INSERT INTO temp.splits SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
        ((name, member.segment_id, member.split) for member in members),
    )
