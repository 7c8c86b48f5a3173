"""The catalog's rows: what is written comes back, and the schema refuses what can't be."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from catalog.annotations import links, write_links
from catalog.errors import PdidError, UsageError
from catalog.named import named_queries
from catalog.records import (
    RATE,
    Address,
    Fetch,
    Mark,
    Reject,
    Removal,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    SplitMember,
    Stage,
    Status,
)
from catalog.store import Catalog, open_catalog
from tests.catalog_rows import SOURCE_ID, WHEN, full_result, kept, make_fetch, make_result, make_source, rejected


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path / "corpus", write=True) as opened:
        yield opened


def test_a_source_comes_back_as_it_was_written(catalog: Catalog) -> None:
    result = full_result()
    assert catalog.write_source(result) == []
    assert catalog.result(SOURCE_ID) == replace(result, addresses=tuple(sorted(result.addresses, key=lambda a: a.uri)))
    assert catalog.sources([SOURCE_ID]) == catalog.sources() == [result.source]
    assert catalog.addresses() == {address.uri: address for address in result.addresses}
    assert catalog.stages() == {SOURCE_ID: {"decode": "aa", "vad": "bb"}}
    assert [(clip.segment_id, clip.accent, clip.language) for clip in catalog.clips()] == [
        (f"{SOURCE_ID}-0", "Yazdi", "fa"),
        (f"{SOURCE_ID}-1", "Yazdi", "fa"),
    ]
    assert catalog.result("f" * 16) is None


def test_many_sources_come_back_in_the_order_asked_for(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for n, letter in enumerate("cab"):
        source = make_source(letter * 16, accent="Lori")
        stage = Stage(source.source_id, "vad", 0.5, 600.0, "bb" if n else "aa", "silero 6", WHEN)
        piece = kept(n, source.source_id)
        voice = SpeakerVoice(piece.speaker_id or "", source.source_id, (1.0, 0.0))
        address = Address(source.uri, source.source_id, 1000, 5)
        fetch = make_fetch(source.source_id) if n else None
        written.append(SourceResult(source, (address,), (stage,), (Mark("music", n, 9),), (voice,), (piece,), fetch))
        catalog.write_source(written[-1])
    monkeypatch.setattr("catalog.store.BATCH", 2)
    ids = [result.source.source_id for result in written]
    assert list(catalog.results([*ids[::-1], "f" * 16])) == written[::-1]
    assert list(catalog.results([])) == []
    assert [clip.source_id for clip in catalog.clips()] == sorted(ids)
    assert catalog.stages() == {ids[0]: {"vad": "aa"}, ids[1]: {"vad": "bb"}, ids[2]: {"vad": "bb"}}


def test_what_was_written_is_still_there_when_opened_again(tmp_path: Path) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(full_result())
    with open_catalog(tmp_path) as catalog:
        assert catalog.sources() == [full_result().source]
        assert len(catalog.segments(SOURCE_ID)) == 3


def test_a_source_is_replaced_whole_as_often_as_need_be(catalog: Catalog) -> None:
    catalog.write_source(full_result())
    other = make_result(kept(0, "f" * 16), source=make_source("f" * 16))
    catalog.write_source(other)
    for _ in range(3):
        smaller = make_result(kept(1), kept(2))
        catalog.write_source(smaller)
        assert catalog.result(SOURCE_ID) == smaller
    assert catalog.result("f" * 16) == other


def test_paths_of_clips_that_are_no_more_are_returned(catalog: Catalog) -> None:
    catalog.write_source(make_result(kept(0), kept(1), rejected(0)))
    gone = catalog.write_source(make_result(kept(1), kept(2)))
    assert gone == [f"clips/{SOURCE_ID}/0.wav"]
    assert catalog.clip_paths() == {f"clips/{SOURCE_ID}/1.wav", f"clips/{SOURCE_ID}/2.wav"}


def test_a_failed_source_is_forgotten_when_its_address_holds_other_bytes(catalog: Catalog) -> None:
    uri = "/media/show.mp4"
    broken = make_source("a" * 16, uri=uri, status=Status.FAILED, error="the file is empty (0 bytes)")
    catalog.write_source(SourceResult(broken, (Address(uri, broken.source_id),)))
    catalog.write_source(make_result(kept(0), source=make_source(uri=uri)))
    assert [source.source_id for source in catalog.sources()] == [SOURCE_ID]
    # a recording that is done stays, with its clips, when its file is overwritten by another
    catalog.write_source(make_result(source=make_source("b" * 16, uri=uri)))
    assert {source.source_id for source in catalog.sources()} == {SOURCE_ID, "b" * 16}
    assert catalog.addresses()[uri].source_id == "b" * 16


def test_an_address_is_added_without_touching_the_rest(catalog: Catalog) -> None:
    result = make_result(kept(0))
    catalog.write_source(result)
    catalog.write_addresses([Address("/elsewhere.wav", SOURCE_ID, 7, 8), replace(result.addresses[0], mtime_ns=99)])
    assert catalog.addresses() == {
        "/elsewhere.wav": Address("/elsewhere.wav", SOURCE_ID, 7, 8),
        result.source.uri: replace(result.addresses[0], mtime_ns=99),
    }
    assert catalog.segments(SOURCE_ID) == list(result.segments)


def test_labels_change_and_nothing_else(catalog: Catalog) -> None:
    before = full_result()
    catalog.write_source(before)
    catalog.write_source(make_result(source=make_source("f" * 16)))
    new = replace(before.source, accent="Lori", licence=None, extra={"k": "v"}, uploaded_at=None, status=Status.PENDING)
    catalog.update_labels([new, make_source("e" * 16, accent="Nobody")])
    after = catalog.result(SOURCE_ID)
    assert after is not None
    assert after.source == replace(new, status=Status.DONE)
    assert after.segments == before.segments
    assert list(catalog.query("SELECT DISTINCT accent FROM segments").rows) == [("Lori",)]
    assert len(catalog.sources()) == 2


def test_values_of_other_kinds_become_what_the_catalog_holds(catalog: Catalog) -> None:
    tehran = timezone(timedelta(hours=3, minutes=30))
    source = make_source(uploaded_at=WHEN.astimezone(tehran), bandwidth_hz=np.float32(8000.0))
    odd = kept(0, start=np.int64(160), end=np.int64(160 + 5 * RATE), kept=np.bool_(True), snr_db=float("inf"))
    catalog.write_source(make_result(odd, kept(1, dnsmos_ovrl=np.float64("nan")), source=source))
    assert catalog.sources()[0].uploaded_at == WHEN
    first, second = catalog.segments(SOURCE_ID)
    assert (first.start, first.end, first.kept, first.snr_db) == (160, 160 + 5 * RATE, True, None)
    assert second.dnsmos_ovrl is None


def test_a_hundred_thousand_segments_go_in_and_come_back(catalog: Catalog) -> None:
    segments = tuple(
        kept(n, start=n * 1600, end=n * 1600 + 4 * RATE, snr_db=n / 7) if n % 3 else rejected(n, Reject.OVERLAP)
        for n in range(100_000)
    )
    catalog.write_source(make_result(*segments))
    assert set(catalog.segments(SOURCE_ID)) == set(segments)
    answer = catalog.query("SELECT count(*), count(*) FILTER (kept), sum(snr_db) FROM segments").rows
    total, n_kept, snr = next(answer)
    assert (total, n_kept) == (100_000, 66_666)
    assert snr == pytest.approx(sum(n / 7 for n in range(100_000) if n % 3))


@pytest.mark.parametrize("reason", list(Reject))
def test_every_reason_has_its_place_in_the_schema(catalog: Catalog, reason: Reject) -> None:
    catalog.write_source(make_result(rejected(0, reason)))
    assert catalog.segments(SOURCE_ID)[0].reject_reason is reason


BAD_SEGMENTS = {
    "kept with a reason": kept(0, reject_reason=Reject.NOISY),
    "rejected without one": replace(rejected(0), reject_reason=None),
    "a reason that is not on the list": replace(rejected(0), reject_reason="boring"),  # type: ignore[arg-type]
    "kept without a clip": kept(0, path=None),
    "rejected with a clip": replace(rejected(0), path="clips/x.wav"),
    "kept without a speaker": kept(0, speaker_id=None),
    "a sample under 3 s": kept(0, start=0, end=3 * RATE - 1),
    "a sample over 30 s": kept(0, start=0, end=30 * RATE + 1),
    "before the start": kept(0, start=-1, end=4 * RATE),
    "no length": replace(rejected(0), start=5, end=5),
    "a share over 1": kept(0, music_share=1.01),
    "a path out of the corpus": kept(0, path="../x.wav"),
    "an absolute path": kept(0, path="/x.wav"),
}


@pytest.mark.parametrize("segment", BAD_SEGMENTS.values(), ids=BAD_SEGMENTS)
def test_the_schema_refuses_and_the_old_rows_stay(catalog: Catalog, segment: Segment) -> None:
    good = make_result(kept(1), kept(2))
    catalog.write_source(good)
    with pytest.raises(PdidError, match="can't be written"):
        catalog.write_source(make_result(kept(3), segment))
    assert catalog.result(SOURCE_ID) == good


@pytest.mark.parametrize("seconds", [3, 30])
def test_the_shortest_and_the_longest_clip_are_allowed(catalog: Catalog, seconds: int) -> None:
    catalog.write_source(make_result(kept(0, start=0, end=seconds * RATE)))
    assert list(catalog.query("SELECT duration_s FROM segments").rows) == [(float(seconds),)]


@pytest.mark.parametrize(
    "changes",
    [
        {"source_id": "xyz", "sha256": None, "status": Status.PENDING},
        {"sha256": "1" * 64},
        {"status": Status.FAILED},
        {"error": "but done"},
        {"status": "half done"},
        {"n_samples": None},
        {"sample_rate": 0},
        {"accent": ""},
    ],
)
def test_the_schema_refuses_a_source_that_cant_be(catalog: Catalog, changes: dict[str, object]) -> None:
    with pytest.raises(PdidError, match="can't be written"):
        catalog.write_source(SourceResult(make_source(**changes), ()))
    assert catalog.sources() == []


def test_two_segments_of_one_id_are_refused(catalog: Catalog) -> None:
    with pytest.raises(PdidError, match="can't be written"):
        catalog.write_source(make_result(kept(0), kept(0)))


# Splits


def test_splits_are_numbered_named_and_never_change(catalog: Catalog) -> None:
    catalog.write_source(make_result(*(kept(n) for n in range(4)), rejected(0)))
    ids = [clip.segment_id for clip in catalog.clips()]
    first = [SplitMember(ids[0], "train"), SplitMember(ids[1], "test")]
    assert catalog.write_split(first) == "split-1"
    assert (
        catalog.write_split([SplitMember(ids[2], "dev")], name="mine", seed=7, settings={"test_only": ["Lori"]})
        == "mine"
    )
    with pytest.raises(UsageError, match="split 'mine' already"):
        catalog.write_split(first, name="mine")
    assert catalog.split_members("mine") == catalog.split_members() == [SplitMember(ids[2], "dev")]
    assert catalog.write_split(first) == "split-2"
    assert catalog.split_members("split-1") == first
    assert [(split.name, split.seed, split.settings) for split in catalog.splits()] == [
        ("split-1", None, {}),
        ("mine", 7, {"test_only": ["Lori"]}),
        ("split-2", None, {}),
    ]
    newest = dict(catalog.query("SELECT segment_id, split FROM segments WHERE split IS NOT NULL").rows)
    assert newest == {ids[0]: "train", ids[1]: "test"}
    # what a split names stays named when the source is made anew with other pieces
    catalog.write_source(make_result(kept(9)))
    assert catalog.split_members("split-1") == first
    shown = "SELECT segment_id, split FROM segments ORDER BY segment_id"
    assert list(catalog.query(shown).rows) == [(f"{SOURCE_ID}-9", None)]
    # and a piece that is made again is on its side again
    catalog.write_source(make_result(kept(0), kept(2), kept(9)))
    assert list(catalog.query(shown).rows) == [(ids[0], "train"), (ids[2], None), (f"{SOURCE_ID}-9", None)]


@pytest.mark.parametrize("split", ["validation", "", "Train"])
def test_a_part_is_train_dev_or_test(catalog: Catalog, split: str) -> None:
    catalog.write_source(make_result(kept(0)))
    with pytest.raises(PdidError, match="can't be written"):
        catalog.write_split([SplitMember(f"{SOURCE_ID}-0", split)])
    assert catalog.splits() == []


def test_only_kept_segments_can_be_in_a_split(catalog: Catalog) -> None:
    catalog.write_source(make_result(kept(0), rejected(0)))
    with pytest.raises(PdidError, match=f"{SOURCE_ID}-r0 is not a kept segment"):
        catalog.write_split([SplitMember(f"{SOURCE_ID}-0", "train"), SplitMember(f"{SOURCE_ID}-r0", "test")])
    assert catalog.splits() == []


def test_a_split_that_isnt_there_is_told(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="no split yet"):
        catalog.split_members()
    catalog.write_split([], name="empty")
    with pytest.raises(UsageError, match="no split 'other'; there are empty"):
        catalog.split_members("other")


# Views and documents


def test_views_tell_seconds(catalog: Catalog) -> None:
    catalog.write_source(make_result(kept(0, start=8000, end=8000 + 4 * RATE), source=make_source(n_samples=24_000)))
    assert list(catalog.query("SELECT duration_s FROM sources").rows) == [(1.5,)]
    assert list(catalog.query("SELECT start_s, end_s, duration_s FROM segments").rows) == [(0.5, 4.5, 4.0)]
    assert list(catalog.query("SELECT * FROM speakers").rows) == [
        (f"{SOURCE_ID}-S1", None, 1, 1, pytest.approx(4 / 3600), [f"{SOURCE_ID}-S1"])
    ]


def test_speakers_are_counted_across_sources(catalog: Catalog) -> None:
    for name, accent in (("a", "Lori"), ("b", "Lori"), ("c", "Yazdi")):
        source = make_source(name * 16, accent=accent)
        clip = kept(0, source.source_id)
        silent = SpeakerVoice(f"{source.source_id}-S2", source.source_id, (1.0,))
        catalog.write_source(replace(make_result(clip, source=source), voices=(silent,)))
    one, two, three = ("a" * 16, "b" * 16, "c" * 16)
    write_links(catalog, {f"{one}-S1": f"{one}-S1", f"{two}-S1": f"{one}-S1", f"{three}-S2": f"{one}-S2"})
    found = catalog.query("SELECT speaker_id, accent, n_sources, n_segments, hours FROM speakers ORDER BY 1").rows
    assert list(found) == [
        (f"{one}-S1", "Lori", 2, 2, pytest.approx(10 / 3600)),
        (f"{one}-S2", "Lori", 2, 0, 0.0),
        (f"{two}-S2", "Lori", 1, 0, 0.0),
        (f"{three}-S1", "Yazdi", 1, 1, pytest.approx(5 / 3600)),
    ]
    voices = catalog.query("SELECT local_speaker_ids FROM speakers WHERE n_sources = 2 ORDER BY speaker_id").rows
    assert list(voices) == [([f"{one}-S1", f"{two}-S1"],), ([f"{one}-S2", f"{three}-S2"],)]
    pieces = catalog.query("SELECT speaker_id, local_speaker_id FROM segments ORDER BY source_id").rows
    assert list(pieces) == [
        (f"{one}-S1", f"{one}-S1"),
        (f"{one}-S1", f"{two}-S1"),
        (f"{three}-S1", f"{three}-S1"),
    ]
    assert [clip.speaker_id for clip in catalog.clips()] == [f"{one}-S1", f"{one}-S1", f"{three}-S1"]
    write_links(catalog, {f"{two}-S1": f"{two}-S1"})  # all links at once: what is not said any more is gone
    assert links(catalog) == {f"{two}-S1": f"{two}-S1"}


PUBLIC = {
    "sources": "source_id, uri, title, accent, licence, channel, uploaded_at, duration_s, sample_rate, bandwidth_hz,"
    " sha256, status, error, site, site_id, channel_id, fetched_at, announced_s, lost_s, length_differs, fetched_with",
    "segments": "segment_id, source_id, speaker_id, accent, start_s, end_s, duration_s, path, language, text,"
    " text_origin, kept, reject_reason, loudness_lufs, true_peak_dbtp, snr_db, dnsmos_ovrl, music_share, separated,"
    " split",
    "speakers": "speaker_id, accent, n_sources, n_segments, hours",
    "labels": "label_id, source_id, scope, start_s, end_s, raw, accent, origin, author, confidence, created_at",
    "transcripts": "transcript_id, source_id, start_s, end_s, text, language, origin, model, confidence, flags,"
    " created_at",
    "duplicates": "segment_a, segment_b, overlap_s, score",
    "exports": "export_id, format, path, source_id, n_clips, settings, created_at",
    "stages": "source_id, stage, seconds, audio_seconds, config_hash, model, finished_at",
    "splits": "split_name, segment_id, split, stale",
    "fetches": "uri, source_id, site, site_id, asked, title, channel, channel_id, uploaded_at, licence, announced_s,"
    " lost_s, sha256, size_bytes, media, recorded_s, tool, fetched_at, raw",
    "removals": "uri, source_id, sha256, site, site_id, reason, removed_at",
    "marks": "source_id, kind, start_s, end_s, label, score",
    "runs": "run_id, experiment_id, arm, seed, model, config, metrics",
    "predictions": "run_id, segment_id, reference, hypothesis, errors",
}


@pytest.mark.parametrize("view", PUBLIC)
def test_public_views_have_the_columns_users_rely_on(catalog: Catalog, view: str) -> None:
    columns = catalog.query(f"SELECT * FROM {view}").columns
    assert set(PUBLIC[view].split(", ")) <= set(columns)


def test_the_document_and_the_views_agree(catalog: Catalog, repository: Path) -> None:
    page = (repository / "docs" / "catalog.md").read_text("utf-8")
    entries = dict(entry.partition("\n")[::2] for entry in page.split("\n## ")[1:])
    views = dict(
        catalog.query("SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal").rows
    )
    assert set(views) == set(PUBLIC) == set(entries) - {"Named queries"}
    for view, comment in views.items():
        columns = catalog.query(
            "SELECT column_name, data_type, comment FROM duckdb_columns()"
            " WHERE schema_name = 'main' AND table_name = ? ORDER BY column_index",
            [view],
        ).rows
        told = re.findall(r"^\| `(\w+)` \| ([A-Z(), [\]]+) \| (.+) \|$", entries[view], re.M)
        assert told == list(columns), view
        assert comment
        assert comment in entries[view]
    reasons = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", entries["segments"], re.M)
    assert reasons == list(Reject)
    queries = re.findall(r"^\| `@(\w+)` \| (.+) \|$", entries["Named queries"], re.M)
    assert queries == [(query.name, query.help) for query in named_queries().values()]


def test_an_interrupt_amid_a_transaction_undoes_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_result(kept(0))
    catalog.write_source(before)

    def interrupt(segment: Segment) -> tuple[object, ...]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("catalog.rows.segment_row", interrupt)
        with pytest.raises(KeyboardInterrupt):
            catalog.write_source(make_result(kept(1)))
    assert catalog.result(SOURCE_ID) == before
    catalog.write_source(make_result(kept(1)))
    assert catalog.clip_paths() == {f"clips/{SOURCE_ID}/1.wav"}


def test_records_and_tables_have_the_same_fields(catalog: Catalog) -> None:
    tables = {
        Source: "source",
        Address: "address",
        Stage: "stage",
        SpeakerVoice: "voice",
        Fetch: "fetch",
        Removal: "removal",
    }
    kept_for_itself = {"accent_at"}  # when the accent was said: the catalog notes it
    for record, table in tables.items():
        fields = {field.name for field in dataclasses.fields(record)}
        columns = catalog.query(
            "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'base' AND table_name = ?", [table]
        )
        assert fields == {row[0] for row in columns.rows} - kept_for_itself
