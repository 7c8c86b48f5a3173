"""Where recordings were downloaded from, in the catalog."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import PdidError
from catalog.fetches import fetches, forget_media
from catalog.named import named_queries
from catalog.records import RATE, Address, Status
from catalog.store import Catalog, open_catalog
from tests.catalog_rows import SOURCE_ID, WHEN, fetched_result, kept, make_fetch, make_result, make_source

OTHER = "fedcba9876543210"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path, write=True) as opened:
        yield opened


def orphans(catalog: Catalog) -> list[tuple[Any, ...]]:
    return list(catalog.query(named_queries()["orphans"].sql).rows)


def test_a_download_comes_back_as_it_was_written(catalog: Catalog) -> None:
    result = fetched_result(kept(0))
    catalog.write_source(result)
    assert catalog.result(SOURCE_ID) == result
    assert result.fetch
    assert fetches(catalog) == {result.fetch.uri: replace(result.fetch, raw={})}
    row = catalog.query("SELECT raw->>'$.tags[0]', uploaded_at::DATE, media FROM fetches").rows
    assert list(row) == [("الف", date(2026, 1, 30), f"media/{SOURCE_ID}.m4a")]


def test_whatever_a_site_says_is_kept_as_json(catalog: Catalog) -> None:
    hostile = "'); DROP TABLE base.source; --<script>\u202e\x00\ud800"
    raw = {
        "title": hostile,
        "description": "د" * 5_000_000,
        "like_count": 2**70,
        "rate": math.nan,
        "release": date(2026, 1, 31),
        "chapters": ({"start_time": math.inf}, b"\xff"),
        1: True,
    }
    catalog.write_source(fetched_result(fetch=make_fetch(raw=raw, title=hostile, channel="")))
    result = catalog.result(SOURCE_ID)
    assert result
    assert result.fetch
    assert result.fetch.title == hostile.replace("\ud800", "\\ud800")
    assert result.fetch.raw == {
        "title": hostile.replace("\ud800", "\\ud800"),
        "description": "د" * 5_000_000,
        "like_count": 2**70,
        "rate": None,
        "release": "2026-01-31",
        "chapters": [{"start_time": None}, "b'\\xff'"],
        "1": True,
    }
    assert [source.source_id for source in catalog.sources()] == [SOURCE_ID]


def test_a_new_download_of_an_address_takes_the_place_of_the_old(catalog: Catalog) -> None:
    catalog.write_source(fetched_result(kept(0)))
    again = make_fetch(title="new", lost_s=12.5, fetched_at=WHEN + timedelta(days=3), raw={"id": "x"})
    catalog.write_source(fetched_result(kept(0), fetch=again))
    result = catalog.result(SOURCE_ID)
    assert result
    assert result.fetch == again
    assert len(fetches(catalog)) == 1
    # a result that says nothing of a download leaves what is known
    catalog.write_source(replace(result, fetch=None))
    assert catalog.result(SOURCE_ID) == result


def test_of_two_addresses_the_newest_counts(catalog: Catalog) -> None:
    first, second = make_fetch(), make_fetch(uri="https://other.example/v/1", site="other", site_id=None)
    second = replace(second, fetched_at=WHEN + timedelta(hours=1))
    catalog.write_source(fetched_result(kept(0)))
    known = catalog.result(SOURCE_ID)
    assert known
    both = (*known.addresses, Address(second.uri, SOURCE_ID, 1000, 6))
    catalog.write_source(replace(known, addresses=both, fetch=second))
    result = catalog.result(SOURCE_ID)
    assert result
    assert result.fetch == second
    assert set(fetches(catalog)) == {first.uri, second.uri}
    assert list(catalog.query("SELECT site, site_id, fetched_at FROM sources").rows) == [
        ("other", None, second.fetched_at.replace(tzinfo=None))
    ]


def test_media_that_is_not_kept_is_forgotten_and_nothing_else(catalog: Catalog) -> None:
    catalog.write_source(fetched_result(kept(0)))
    other = fetched_result(source=make_source(OTHER))
    catalog.write_source(other)
    forget_media(catalog, make_fetch().uri)
    result = catalog.result(SOURCE_ID)
    assert result
    assert result.fetch == make_fetch(media=None)
    assert catalog.result(OTHER) == other


@pytest.mark.parametrize(
    ("announced", "decoded", "differs"),
    [
        (None, 600.0, None),
        (0.0, 600.0, None),  # announced by a server that doesn't know
        (600.0, None, None),
        (600.0, 600.0, False),
        (600.0, 594.0, False),  # 1 %
        (600.0, 593.9, True),
        (600.0, 606.1, True),
        (10.0, 8.0, False),  # 20 %, but 2 s
        (10.0, 7.9, True),
        (10_000.0, 9_950.0, False),  # 50 s, but half a percent
    ],
)
def test_a_length_that_is_not_the_announced_one_is_seen(
    catalog: Catalog, announced: float | None, decoded: float | None, differs: bool | None
) -> None:
    source = make_source(n_samples=None if decoded is None else round(decoded * RATE))
    if decoded is None:
        source = replace(source, status=Status.FAILED, error="it can't be decoded")
    catalog.write_source(fetched_result(source=source, fetch=make_fetch(announced_s=announced)))
    assert list(catalog.query("SELECT length_differs FROM sources").rows) == [(differs,)]


def test_what_is_lost_and_who_fetched_it_stands_beside_the_source(catalog: Catalog) -> None:
    catalog.write_source(fetched_result(fetch=make_fetch(lost_s=3.5, recorded_s=60.0)))
    catalog.write_source(make_result(source=make_source(OTHER)))
    found = catalog.query(
        "SELECT site, site_id, channel_id, announced_s, lost_s, fetched_with FROM sources ORDER BY source_id"
    ).rows
    assert list(found) == [("tube", "0123", "UC1", 600.0, 3.5, "yt-dlp 2026.10.26"), (None,) * 6]


def test_a_download_follows_its_address_to_another_source(catalog: Catalog) -> None:
    """It failed at first, and is known by its bytes later: nothing of the failed one stays."""
    fetch = make_fetch(OTHER, sha256=None, media=None, size_bytes=None)
    failed = replace(make_source(OTHER), sha256=None, n_samples=None, status=Status.FAILED, error="the server is down")
    catalog.write_source(fetched_result(source=failed, fetch=fetch))
    done = fetched_result(kept(0), fetch=make_fetch(uri=fetch.uri))
    catalog.write_source(done)
    assert catalog.result(SOURCE_ID) == done
    assert catalog.result(OTHER) is None
    assert {one.source_id for one in fetches(catalog).values()} == {SOURCE_ID}
    # the same where the result says nothing of a download
    moved = replace(done, source=make_source(OTHER, uri=fetch.uri), segments=(), fetch=None)
    catalog.write_source(replace(moved, addresses=(Address(fetch.uri, OTHER, 1, 1),)))
    assert {one.source_id for one in fetches(catalog).values()} == {OTHER}
    assert orphans(catalog) == []


def test_a_source_that_no_address_leads_to_takes_its_downloads_along(catalog: Catalog) -> None:
    fetch = make_fetch(OTHER)
    failed = replace(make_source(OTHER), status=Status.FAILED, error="the server is down")
    catalog.write_source(fetched_result(source=failed, fetch=fetch))
    old = replace(fetch, uri="https://tube.example/older")
    known = catalog.result(OTHER)
    assert known
    catalog.write_source(replace(known, fetch=old))  # an address that leads there no more
    catalog.write_source(fetched_result(kept(0), fetch=make_fetch(uri=fetch.uri)))
    assert set(fetches(catalog)) == {fetch.uri}
    assert orphans(catalog) == []


@pytest.mark.parametrize("media", ["/etc/passwd", "media/../../x.m4a", ""])
def test_media_outside_the_corpus_is_refused(catalog: Catalog, media: str) -> None:
    before = fetched_result(kept(0))
    catalog.write_source(before)
    with pytest.raises(PdidError, match="can't be written"):
        catalog.write_source(fetched_result(kept(1), fetch=make_fetch(media=media)))
    assert catalog.result(SOURCE_ID) == before
