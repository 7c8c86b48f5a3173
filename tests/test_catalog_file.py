"""The catalog's file: versions, locks, other processes, and ends that come too soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from catalog import connection
from catalog.connection import Migration, load_migrations
from catalog.errors import PdidError, UsageError
from catalog.removals import remove_sources
from catalog.resolve import resolve
from catalog.store import open_catalog
from tests.catalog_rows import SOURCE_ID, WHEN, full_result, kept, make_fetch, make_result, make_source

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


def test_a_catalog_of_version_1_keeps_what_it_says(tmp_path: Path) -> None:
    """Labels of sources become labels with their origin, pieces keep accent and speaker, a split keeps its clips."""
    with connection.connect(tmp_path, write=True, migrations=load_migrations()[:1]) as opened:
        opened.execute(
            f"""
            INSERT INTO base.source
                (source_id, uri, sha256, accent, n_samples, sample_rate, lost_packets, status, extra)
                VALUES ('{SOURCE_ID}', '/a.wav', '{SOURCE_ID + "0" * 48}', 'Yazdi', 160000, 44100, 0, 'done', MAP {{}});
            INSERT INTO base.stage VALUES ('{SOURCE_ID}', 'decode', 1, 10, 'aa', '', TIMESTAMP '2026-01-31 12:30:00');
            INSERT INTO base.segment
                (segment_id, source_id, speaker_id, start_sample, end_sample, kept, path, separated)
                VALUES ('s1', '{SOURCE_ID}', '{SOURCE_ID}-S1', 0, 64000, true, 'clips/s1.wav', false);
            INSERT INTO base.split VALUES ('split-1', 1, 0, '{{}}', TIMESTAMP '2026-01-31 12:40:00');
            INSERT INTO base.split_member VALUES ('split-1', 's1', 'train');
            """
        )
    with open_catalog(tmp_path) as catalog:
        pieces = catalog.query("SELECT segment_id, accent, accent_origin, speaker_id, text, split FROM segments").rows
        assert list(pieces) == [("s1", "Yazdi", "source metadata", f"{SOURCE_ID}-S1", None, "train")]
        labels = catalog.query("SELECT source_id, scope, raw, accent, origin, created_at::VARCHAR FROM labels").rows
        assert list(labels) == [(SOURCE_ID, "source", "Yazdi", "Yazdi", "source metadata", "2026-01-31 12:30:00")]
    assert (tmp_path / "catalog.duckdb.v1.bak").exists()


def test_a_catalog_of_version_2_keeps_what_it_says(tmp_path: Path) -> None:
    """Recordings of before have no site; splits are not stale; and both change when there is something to say."""
    with connection.connect(tmp_path, write=True, migrations=load_migrations()[:2]) as opened:
        opened.execute(
            f"""
            INSERT INTO base.source
                (source_id, uri, sha256, accent, n_samples, sample_rate, lost_packets, status, extra)
                VALUES ('{SOURCE_ID}', '/a.wav', '{SOURCE_ID + "0" * 48}', 'Yazdi', 160000, 44100, 0, 'done', MAP {{}});
            INSERT INTO base.address VALUES ('/a.wav', '{SOURCE_ID}', 1000, 5);
            INSERT INTO base.segment
                (segment_id, source_id, speaker_id, start_sample, end_sample, kept, path, separated)
                VALUES ('s1', '{SOURCE_ID}', '{SOURCE_ID}-S1', 0, 64000, true, 'clips/s1.wav', false);
            INSERT INTO base.split VALUES ('split-1', 1, 0, '{{}}', TIMESTAMP '2026-01-31 12:40:00');
            INSERT INTO base.split_member VALUES ('split-1', 's1', 'train');
            """
        )
    with open_catalog(tmp_path, write=True) as catalog:
        source = catalog.query("SELECT uri, accent, duration_s, site, fetched_at, lost_s, length_differs FROM sources")
        assert list(source.rows) == [("/a.wav", "Yazdi", 10.0, None, None, None, None)]
        assert list(catalog.query("SELECT segment_id, split, stale FROM splits").rows) == [("s1", "train", False)]
        result = catalog.result(SOURCE_ID)
        assert result
        assert result.fetch is None
        catalog.write_source(replace(result, fetch=make_fetch()))
        assert list(catalog.query("SELECT site, length_differs FROM sources").rows) == [("tube", True)]
        remove_sources(catalog, [SOURCE_ID], "asked for", WHEN)
        assert list(catalog.query("SELECT segment_id, stale FROM splits").rows) == [("s1", True)]
    assert (tmp_path / "catalog.duckdb.v2.bak").exists()


def test_a_catalog_of_version_3_keeps_what_it_says(tmp_path: Path) -> None:
    """What was settled of each piece, and its side in the newest split, are in the piece's own row now."""
    with connection.connect(tmp_path, write=True, migrations=load_migrations()[:3]) as opened:
        opened.execute(
            f"""
            INSERT INTO base.source (
                source_id, uri, sha256, accent, accent_raw, accent_at, language, n_samples, sample_rate, lost_packets,
                status, extra
            ) VALUES (
                '{SOURCE_ID}', '/a.wav', '{SOURCE_ID + "0" * 48}', 'Yazdi', 'یزدی', TIMESTAMP '2026-01-31 12:00:00',
                'fa', 320000, 44100, 0, 'done', MAP {{}}
            );
            INSERT INTO base.stage VALUES ('{SOURCE_ID}', 'decode', 1, 20, 'aa', '', TIMESTAMP '2026-01-31 12:30:00');
            INSERT INTO base.segment
                (segment_id, source_id, speaker_id, start_sample, end_sample, kept, path, separated)
                SELECT 's' || i, '{SOURCE_ID}', '{SOURCE_ID}-S1', i * 64000, i * 64000 + 64000, true, 's' || i, false
                FROM range(3) AS t(i);
            INSERT INTO base.segment
                (segment_id, source_id, start_sample, end_sample, kept, reject_reason, separated)
                VALUES ('s3', '{SOURCE_ID}', 200000, 210000, false, 'music', false);
            INSERT INTO base.voice VALUES
                ('{SOURCE_ID}-S1', '{SOURCE_ID}', [1, 0]), ('{SOURCE_ID}-S2', '{SOURCE_ID}', [0, 1]);
            INSERT INTO base.link VALUES ('{SOURCE_ID}-S1', 'P'), ('{SOURCE_ID}-S2', '{SOURCE_ID}-S2');
            INSERT INTO base.label VALUES
                ('l1', '{SOURCE_ID}', 'segment', 0, 64000, 'lori', 'Lori', 'annotator', 'M', NULL,
                    TIMESTAMP '2026-01-31 12:31:00'),
                ('l2', '{SOURCE_ID}', 'speaker', 0, 64000, 'Shirazi', 'Shirazi', 'classifier', 'c', 0.7,
                    TIMESTAMP '2026-01-31 12:32:00');
            INSERT INTO base.label_hold SELECT unnest(['s0', 's0', 's1', 's2']), '{SOURCE_ID}',
                unnest(['l1', 'l2', 'l2', 'l2']);
            INSERT INTO base.transcript VALUES
                ('t0', '{SOURCE_ID}', 0, 64000, 'yes', 'en', 'model:a', 'a 1', 0.5, ['loop', 'a, b'],
                    TIMESTAMP '2026-01-31 12:33:00'),
                ('t1', '{SOURCE_ID}', 64000, 128000, 'بله', NULL, 'human', NULL, NULL, [],
                    TIMESTAMP '2026-01-31 12:34:00');
            INSERT INTO base.resolved VALUES
                ('s0', '{SOURCE_ID}', 'Lori', 'annotator', 'yes', 'en', 'model:a', 0.5, ['a, b', 'loop']),
                ('s1', '{SOURCE_ID}', 'Shirazi', 'classifier', 'بله', NULL, 'human', NULL, []),
                ('s2', '{SOURCE_ID}', 'Shirazi', 'classifier', NULL, NULL, NULL, NULL, NULL),
                ('s3', '{SOURCE_ID}', 'Yazdi', 'source metadata', NULL, NULL, NULL, NULL, NULL);
            INSERT INTO base.split VALUES ('a', 1, 0, '{{}}', TIMESTAMP '2026-01-31 12:40:00'),
                ('b', 2, 0, '{{}}', TIMESTAMP '2026-01-31 12:40:01');
            INSERT INTO base.split_member VALUES ('a', 's0', 'train'), ('b', 's1', 'dev'), ('b', 's2', 'test');
            INSERT INTO base.duplicate VALUES ('s0', 's1', 3.5, 0.9);
            INSERT INTO base.fetch
                (uri, source_id, site, site_id, asked, announced_s, lost_s, tool, fetched_at, raw)
                SELECT 'https://t/' || i, '{SOURCE_ID}', 'tube', i::VARCHAR, 'https://t/', if(i = 2, 99, NULL), i,
                    'yt-dlp', TIMESTAMP '2026-01-31 12:00:00' + INTERVAL (i // 2) HOUR, '{{}}'
                FROM range(4) AS t(i);
            """
        )
        before = everything_shown(opened)
    with open_catalog(tmp_path, write=True) as catalog:
        assert everything_shown(catalog.connection) == before
        resolve(catalog.connection, [SOURCE_ID])  # and what follows from labels, texts and splits is what was there
        assert everything_shown(catalog.connection) == before
        shown = "SELECT segment_id, speaker_id, accent, accent_origin, text, language, text_flags, split FROM segments"
        assert list(catalog.query(f"{shown} ORDER BY segment_id").rows) == [
            ("s0", "P", "Lori", "annotator", "yes", "en", ["a, b", "loop"], None),
            ("s1", "P", "Shirazi", "classifier", "بله", "fa", [], "dev"),
            ("s2", "P", "Shirazi", "classifier", None, "fa", None, "test"),
            ("s3", None, "Yazdi", "source metadata", None, "fa", None, None),
        ]
        newest = catalog.query("SELECT site_id, announced_s, lost_s, length_differs, fetched_with FROM sources").rows
        assert list(newest) == [("2", 99.0, 2.0, True, "yt-dlp")]
    counts = {view: len(rows) for view, (_, rows) in before.items() if rows}
    assert counts == {
        "sources": 1, "segments": 4, "speakers": 2, "stages": 1, "labels": 3, "transcripts": 2, "duplicates": 1,
        "splits": 3, "fetches": 4,
    }  # fmt: skip
    assert (tmp_path / "catalog.duckdb.v3.bak").exists()


def everything_shown(opened: duckdb.DuckDBPyConnection) -> dict[str, tuple[list[object], list[object]]]:
    """The columns, with their types, and the rows of every public view."""
    views = opened.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name").fetchall()
    found = {}
    for (view,) in views:
        answer = opened.execute(f"SELECT * FROM {view} ORDER BY ALL")
        columns = [(column[0], str(column[1])) for column in answer.description or ()]
        found[view] = (columns, answer.fetchall())
    return found


def test_copies_of_older_catalogs_that_hold_a_recording_are_found(tmp_path: Path) -> None:
    with connection.connect(tmp_path, write=True, migrations=load_migrations()[:1]) as opened:
        opened.execute(
            "INSERT INTO base.source (source_id, uri, lost_packets, status, extra)"
            f" VALUES ('{SOURCE_ID}', '/a.wav', 0, 'pending', MAP {{}})"
        )
    with open_catalog(tmp_path) as catalog:
        assert [source.source_id for source in catalog.sources()] == [SOURCE_ID]
    old = tmp_path / "catalog.duckdb.v1.bak"
    assert connection.backups_with(tmp_path, [SOURCE_ID]) == [old]
    assert connection.backups_with(tmp_path, ["f" * 16]) == []
    old.write_bytes(b"no catalog")
    assert connection.backups_with(tmp_path, ["f" * 16]) == [old]


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.version for step in load_migrations()] == list(range(1, len(load_migrations()) + 1))


# Writing it anew


def test_written_anew_the_file_is_the_same_catalog_without_what_was_deleted(tmp_path: Path) -> None:
    secret = "سخنی که نباید بماند"
    before = full_result()
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(before)
        catalog.write_source(make_result(source=make_source("f" * 16, title=secret)))
        remove_sources(catalog, ["f" * 16], "x", WHEN)
    path = tmp_path / "catalog.duckdb"
    assert secret.encode() in path.read_bytes()
    (tmp_path / "catalog.duckdb.new").write_bytes(b"of a run that was cut off")
    about = "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    rules = "SELECT table_name, constraint_text FROM duckdb_constraints() ORDER BY ALL"

    def described() -> list[list[tuple[object, ...]]]:
        with open_catalog(tmp_path) as catalog:
            return [list(catalog.query(one).rows) for one in (about, rules, "FROM base.migration", "FROM segments")]

    old = described()
    connection.rewrite(tmp_path)
    assert secret.encode() not in path.read_bytes()
    assert described() == old
    assert os.listdir(tmp_path) == ["catalog.duckdb"]
    with open_catalog(tmp_path, write=True) as catalog:
        assert catalog.segments(SOURCE_ID) == sorted(before.segments, key=lambda segment: segment.start)
        catalog.write_source(make_result(kept(0)))


def test_another_process_writes_meanwhile_and_nothing_is_lost(tmp_path: Path) -> None:
    code = """
        corpus, n = Path(sys.argv[1]), 0
        while not (corpus / "enough").exists():
            with open_catalog(corpus, write=True, wait_s=60) as catalog:
                catalog.write_split([], name=f"name-{n}")
            n += 1
            (corpus / "written").write_text(str(n))
            if n == 1:
                print("ready", flush=True)
            time.sleep(0.1)  # nobody who writes without a pause lets the other in
    """
    process = start(code, tmp_path)
    written = tmp_path / "written"
    for _ in range(3):
        before = written.read_text()
        connection.rewrite(tmp_path, wait_s=60)
        while written.read_text() in ("", before):
            assert process.poll() is None
            time.sleep(0.01)
    (tmp_path / "enough").touch()
    process.communicate()
    assert process.returncode == 0
    with open_catalog(tmp_path) as catalog:
        assert len(catalog.splits()) == int(written.read_text()) > 3


def test_a_disk_that_is_full_leaves_the_catalog_as_it_was(tmp_path: Path) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(full_result())
    code = """
        import resource, signal
        from catalog.connection import rewrite
        from catalog.errors import PdidError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            rewrite(Path(sys.argv[1]))
        except PdidError as error:
            print("ready", flush=True)
            print(error)
    """
    said, _ = start(code, tmp_path).communicate()
    assert "can't be written anew" in said
    with open_catalog(tmp_path) as catalog:
        assert catalog.result(SOURCE_ID) is not None


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
        from tests.catalog_rows import kept, make_result
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


def test_a_disk_that_is_full_leaves_the_old_state(tmp_path: Path) -> None:
    before = full_result()
    with open_catalog(tmp_path, write=True) as catalog:
        catalog.write_source(before)
    # no file may grow past 4 KiB: writes fail as they do on a full disk
    code = """
        import resource, signal
        from catalog.errors import PdidError
        from tests.catalog_rows import kept, make_result
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            with open_catalog(Path(sys.argv[1]), write=True) as catalog:
                catalog.write_source(make_result(*(kept(n) for n in range(5000))))
        except PdidError as error:
            print("ready", flush=True)
            print(error)
    """
    said, _ = start(code, tmp_path).communicate()
    assert "the catalog can't be written: " in said
    with open_catalog(tmp_path, write=True) as catalog:
        assert catalog.sources() == [before.source]
        assert set(catalog.segments(SOURCE_ID)) == set(before.segments)


def test_ctrl_c_ends_a_long_query(tmp_path: Path) -> None:
    with open_catalog(tmp_path, write=True) as catalog:
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                catalog.query(
                    "SELECT count(*) FROM range(1000000) AS a, range(1000000) AS b WHERE a.range * b.range = 7"
                )
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert catalog.sources() == []
