"""The catalog: what is written comes back, the schema refuses what can't be, and nothing is ever half there."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from catalog import connection
from catalog.connection import Migration, load_migrations
from catalog.errors import PdidError, UsageError
from catalog.named import named_queries
from catalog.records import (
    RATE,
    Address,
    Mark,
    Reject,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    SplitMember,
    Stage,
    Status,
)
from catalog.store import Catalog, open_catalog

SOURCE_ID = "0123456789abcdef"
WHEN = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


def make_source(source_id: str = SOURCE_ID, **changes: object) -> Source:
    source = Source(
        source_id=source_id,
        uri=f"/media/{source_id}.wav",
        sha256=source_id + "0" * 48,
        n_samples=600 * RATE,
        sample_rate=44_100,
        channels=2,
        codec="aac",
        bandwidth_hz=15_500.0,
        status=Status.DONE,
    )
    return replace(source, **changes)  # type: ignore[arg-type]


def kept(number: int, source_id: str = SOURCE_ID, **changes: object) -> Segment:
    segment = Segment(
        segment_id=f"{source_id}-{number}",
        source_id=source_id,
        speaker_id=f"{source_id}-S1",
        start=number * 10 * RATE,
        end=number * 10 * RATE + 5 * RATE,
        kept=True,
        path=f"clips/{source_id}/{number}.wav",
        gain_db=-2.5,
        loudness_lufs=-23.1,
        true_peak_dbtp=-3.0,
    )
    return replace(segment, **changes)  # type: ignore[arg-type]


def rejected(number: int, reason: Reject = Reject.MUSIC) -> Segment:
    start = number * 10 * RATE + 5 * RATE
    return Segment(f"{SOURCE_ID}-r{number}", SOURCE_ID, None, start, start + RATE, False, reason)


def make_result(*segments: Segment, source: Source | None = None) -> SourceResult:
    source = source or make_source()
    return SourceResult(source, (Address(source.uri, source.source_id, 1000, 5),), segments=segments)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path / "corpus", write=True) as opened:
        yield opened


def full_result() -> SourceResult:
    source = make_source(
        title="گفت‌وگو، بخش ۱",
        accent="Yazdi",
        speaker="س",
        language="fa",
        licence="CC BY 4.0",
        channel="radio",
        uploaded_at=WHEN,
        lost_packets=3,
        extra={"سن": "۴۵", "note": 'a "quoted", word', "empty": ""},
    )
    return SourceResult(
        source,
        (Address(source.uri, SOURCE_ID, 1000, 1_700_000_000_123_456_789), Address("/b/copy.wav", SOURCE_ID)),
        (
            Stage(SOURCE_ID, "decode", 1.5, 600.0, "aa", "", WHEN),
            Stage(SOURCE_ID, "vad", 0.5, 600.0, "bb", "silero 6", WHEN + timedelta(seconds=2)),
        ),
        (Mark("music", 0, 100, score=0.5), Mark("turn", 50, 900, "S1")),
        (SpeakerVoice(f"{SOURCE_ID}-S1", SOURCE_ID, (0.5, -0.25, 0.125)),),
        (
            kept(0, snr_db=31.5, clipped_share=0.0, dnsmos_sig=3.5, dnsmos_bak=4.0, dnsmos_ovrl=3.25, music_share=0.1),
            rejected(0),
            kept(1, separated=True, dnsmos_ovrl=3.0, dnsmos_ovrl_mix=2.5),
        ),
    )


def test_a_source_comes_back_as_it_was_written(catalog: Catalog) -> None:
    result = full_result()
    assert catalog.write_source(result) == []
    assert catalog.result(SOURCE_ID) == replace(result, addresses=tuple(sorted(result.addresses, key=lambda a: a.uri)))
    assert catalog.sources([SOURCE_ID]) == catalog.sources() == [result.source]
    assert catalog.addresses() == {address.uri: address for address in result.addresses}
    assert catalog.stages() == {SOURCE_ID: list(result.stages)}
    assert [(clip.segment_id, clip.accent, clip.language) for clip in catalog.clips()] == [
        (f"{SOURCE_ID}-0", "Yazdi", "fa"),
        (f"{SOURCE_ID}-1", "Yazdi", "fa"),
    ]
    assert catalog.result("f" * 16) is None


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
        (f"{SOURCE_ID}-S1", None, 1, 1, pytest.approx(4 / 3600))
    ]


def test_the_newest_transcript_is_shown(catalog: Catalog) -> None:
    catalog.write_source(make_result(kept(0), kept(1), source=make_source(language="fa")))
    put = "INSERT INTO base.transcript VALUES (?, ?, ?, ?, NULL, NULL, ?)"
    catalog.query(put, [f"{SOURCE_ID}-0", "old", "tg", "human", datetime(2026, 1, 1)])
    catalog.query(put, [f"{SOURCE_ID}-0", "سلام", None, "whisper", datetime(2026, 1, 2)])
    found = catalog.query("SELECT text, language, text_origin FROM segments ORDER BY segment_id").rows
    assert list(found) == [("سلام", "fa", "whisper"), (None, "fa", None)]


def test_speakers_are_counted_across_sources(catalog: Catalog) -> None:
    one, two = make_source("a" * 16, accent="Lori"), make_source("b" * 16, accent="Lori")
    for source in (one, two):
        clip = kept(0, source.source_id, speaker_id="P1")
        silent = SpeakerVoice("P2", source.source_id, (1.0,))
        catalog.write_source(replace(make_result(clip, source=source), voices=(silent,)))
    found = catalog.query("SELECT speaker_id, accent, n_sources, n_segments, hours FROM speakers ORDER BY 1").rows
    assert list(found) == [("P1", "Lori", 2, 2, pytest.approx(10 / 3600)), ("P2", "Lori", 2, 0, 0.0)]


PUBLIC = {
    "sources": "source_id, uri, title, accent, licence, channel, uploaded_at, duration_s, sample_rate, bandwidth_hz,"
    " sha256, status, error",
    "segments": "segment_id, source_id, speaker_id, accent, start_s, end_s, duration_s, path, language, text,"
    " text_origin, kept, reject_reason, loudness_lufs, true_peak_dbtp, snr_db, dnsmos_ovrl, music_share, separated,"
    " split",
    "speakers": "speaker_id, accent, n_sources, n_segments, hours",
    "stages": "source_id, stage, seconds, audio_seconds, config_hash, model, finished_at",
    "splits": "split_name, segment_id, split",
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
        told = re.findall(r"^\| `(\w+)` \| ([A-Z(), ]+) \| (.+) \|$", entries[view], re.M)
        assert told == list(columns), view
        assert comment
        assert comment in entries[view]
    reasons = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", entries["segments"], re.M)
    assert reasons == list(Reject)
    queries = re.findall(r"^\| `@(\w+)` \| (.+) \|$", entries["Named queries"], re.M)
    assert queries == [(query.name, query.help) for query in named_queries().values()]


# Versions

OLD = (
    Migration(1, "first", "CREATE SCHEMA base; CREATE TABLE base.migration (version INTEGER, name VARCHAR, applied_at"
              " TIMESTAMP); CREATE TABLE base.thing (a INTEGER); INSERT INTO base.thing VALUES (1), (2)"),
)  # fmt: skip
NEW = (
    *OLD,
    Migration(2, "column", "ALTER TABLE base.thing ADD COLUMN b VARCHAR DEFAULT 'new'"),
    Migration(3, "rows", "INSERT INTO base.thing VALUES (3, 'three')"),
)


def things(corpus: Path, steps: tuple[Migration, ...], *, write: bool = True) -> list[tuple[object, ...]]:
    with connection.connect(corpus, write=write, migrations=steps) as opened:
        return opened.execute("SELECT * FROM base.thing ORDER BY a").fetchall()


@pytest.mark.parametrize("write", [True, False])
def test_an_older_catalog_is_migrated_and_a_copy_kept(tmp_path: Path, write: bool) -> None:
    assert things(tmp_path, OLD) == [(1,), (2,)]
    assert things(tmp_path, NEW, write=write) == [(1, "new"), (2, "new"), (3, "three")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.duckdb", "catalog.duckdb.v1.bak"]
    with connection.connect(tmp_path, write=True, migrations=NEW) as opened:
        applied = opened.execute("SELECT version, name FROM base.migration ORDER BY version").fetchall()
    assert applied == [(1, "first"), (2, "column"), (3, "rows")]
    # the copy is the old catalog, whole
    (tmp_path / "old").mkdir()
    (tmp_path / "catalog.duckdb.v1.bak").rename(tmp_path / "old" / "catalog.duckdb")
    assert things(tmp_path / "old", OLD) == [(1,), (2,)]


def test_a_migration_that_fails_leaves_the_old_catalog(tmp_path: Path) -> None:
    things(tmp_path, OLD)
    broken = (*NEW, Migration(4, "wrong", "ALTER TABLE base.nothing ADD COLUMN c INTEGER"))
    with pytest.raises(PdidError, match=r"can't be migrated from version 1: .*nothing.*it is unchanged"):
        things(tmp_path, broken)
    assert things(tmp_path, OLD) == [(1,), (2,)]


@pytest.mark.parametrize("write", [True, False])
def test_a_newer_catalog_is_refused(tmp_path: Path, write: bool) -> None:
    things(tmp_path, NEW)
    before = (tmp_path / "catalog.duckdb").read_bytes()
    with pytest.raises(PdidError, match=r"newer pdid \(catalog version 3; this pdid knows 1\): update pdid"):
        things(tmp_path, OLD, write=write)
    assert (tmp_path / "catalog.duckdb").read_bytes() == before


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.version for step in load_migrations()] == list(range(1, len(load_migrations()) + 1))


# Files that are no catalog


def test_reading_needs_a_catalog(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"no catalog in the folder .*nowhere.*pdid ingest"),
        open_catalog(tmp_path / "nowhere"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_another_file_of_that_name_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalog.duckdb").write_bytes(content)
    for write in (True, False):
        with pytest.raises(PdidError, match="can't be opened"), open_catalog(tmp_path, write=write):
            pass
    assert (tmp_path / "catalog.duckdb").read_bytes() == content


def test_a_corpus_folder_that_cant_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PdidError, match="can't be made"), open_catalog(tmp_path / "file" / "corpus", write=True):
        pass


def test_what_a_killed_creation_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "catalog.duckdb.new").write_bytes(b"half")
    with open_catalog(tmp_path, write=True) as catalog:
        assert catalog.sources() == []
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.duckdb"]


# Other processes

REPOSITORY = Path(__file__).resolve().parent.parent


def start(code: str, corpus: Path) -> subprocess.Popen[str]:
    """Run Python in a process of its own and wait until it says `ready`."""
    preamble = "import os, sys, time\nfrom pathlib import Path\nfrom catalog.store import open_catalog\n"
    process = subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(code), str(corpus)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_catalog_held_by_another_process_is_told_with_its_number(tmp_path: Path) -> None:
    code = "with open_catalog(Path(sys.argv[1]), write=True):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    process = start(code, tmp_path)
    try:
        for write in (True, False):
            with (
                pytest.raises(PdidError, match=rf"catalog\.duckdb is in use by process {process.pid}"),
                open_catalog(tmp_path, write=write, wait_s=0.2),
            ):
                pass
    finally:
        process.kill()
        process.communicate()


def test_waiting_pays_when_the_other_process_lets_go(tmp_path: Path) -> None:
    code = "with open_catalog(Path(sys.argv[1]), write=True):\n    print('ready', flush=True)\n    time.sleep(1)\n"
    process = start(code, tmp_path)
    with open_catalog(tmp_path, write=True, wait_s=60) as catalog:
        catalog.write_source(make_result(kept(0)))
    process.communicate()
    assert process.returncode == 0


def test_two_processes_that_begin_at_once_share_one_catalog(tmp_path: Path) -> None:
    code = """
        print('ready', flush=True)
        for n in range(5):
            with open_catalog(Path(sys.argv[1]), write=True, wait_s=60) as catalog:
                catalog.write_split([], name=f"{os.getpid()}-{n}")
    """
    corpus = tmp_path / "corpus"
    processes = [start(code, corpus) for _ in range(2)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with open_catalog(corpus) as catalog:
        assert len(catalog.splits()) == 10


def test_kill_9_amid_a_transaction_leaves_the_old_state(tmp_path: Path) -> None:
    before = full_result()
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(before)
    # the process is killed between its rows and its COMMIT
    code = """
        from catalog import rows
        from tests.test_store import make_result, kept
        plain, insert = rows.plain, rows.insert
        def stop(connection, statement, values):
            insert(connection, statement, values)
            if statement is rows.INSERT_SEGMENT:
                print("ready", flush=True)
                time.sleep(60)
        rows.insert = stop
        with open_catalog(Path(sys.argv[1]), write=True) as catalog:
            catalog.write_source(make_result(*(kept(n) for n in range(5000))))
    """
    process = start(code, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with open_catalog(tmp_path) as catalog:
        assert catalog.sources() == [before.source]
        assert set(catalog.segments(SOURCE_ID)) == set(before.segments)
        assert set(catalog.addresses()) == {address.uri for address in before.addresses}
    with open_catalog(tmp_path, write=True) as catalog:
        assert catalog.write_source(make_result(kept(0))) == [f"clips/{SOURCE_ID}/1.wav"]


def test_an_interrupt_amid_a_transaction_undoes_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_result(kept(0))
    catalog.write_source(before)

    def interrupt(segment: Segment) -> tuple[object, ...]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("catalog.rows.segment_row", interrupt)
        catalog.write_source(make_result(kept(1)))
    assert catalog.result(SOURCE_ID) == before
    catalog.write_source(make_result(kept(1)))
    assert catalog.clip_paths() == {f"clips/{SOURCE_ID}/1.wav"}


def test_records_and_tables_have_the_same_fields(catalog: Catalog) -> None:
    for record, table in ((Source, "source"), (Address, "address"), (Stage, "stage"), (SpeakerVoice, "voice")):
        fields = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
        columns = catalog.query(
            "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'base' AND table_name = ?", [table]
        )
        assert fields == {row[0] for row in columns.rows}
