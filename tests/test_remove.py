"""Takedowns: what goes with a recording, what stays, and that it stays out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.annotations import links, write_judgements, write_link_rules, write_links
from catalog.duplicates import duplicates, fingerprints, fingerprints_are_stale, write_fingerprints
from catalog.errors import PdidError
from catalog.experiments import predictions, write_run
from catalog.exports import write_export
from catalog.records import (
    RATE,
    Duplicate,
    Export,
    Label,
    LabelOrigin,
    LinkRule,
    Mark,
    Prediction,
    Removal,
    Run,
    Scope,
    SpeakerVoice,
    SplitMember,
    Stretch,
    Transcript,
)
from catalog.removals import refuse, removals, remove_sources, tombstoned
from catalog.store import Catalog, open_catalog
from corpus_builder import takedown
from corpus_builder.acquire.sites import site_of
from tests.catalog_rows import SOURCE_ID, WHEN, fetched_result, kept, make_fetch, make_result, make_source
from tests.media import Pdid, query, write_wav

GONE = SOURCE_ID  # its id sorts first, so it names the persons it shares with the others
STAYS = "1111111111111111"
THIRD = "2222222222222222"
SECRET = "سخنی که نباید بماند"
URI = make_fetch(GONE).uri
REPOSITORY = Path(__file__).resolve().parent.parent


def said(source_id: str, clip: int, text: str) -> Transcript:
    start = clip * 10 * RATE
    return Transcript(source_id, start, start + 5 * RATE, text, "human", WHEN, "fa", model="سارا")


def label(source_id: str, text: str) -> Label:
    return Label(source_id, Scope.SOURCE, None, None, text, text, LabelOrigin.ANNOTATOR, "سارا", WHEN)


def run_of(name: str) -> Run:
    return Run(f"{name}-finetune-0", name, "finetune", 0, "mini", {}, {"groups": {}}, WHEN)


def heard(run: Run, *pieces: str) -> list[Prediction]:
    return [Prediction(run.run_id, piece, SECRET if GONE in piece else "x", "y", 1) for piece in pieces]


def fill(catalog: Catalog) -> None:
    """Three recordings, the first with all that can be said of one, entangled with the others."""
    source = make_source(GONE, title=SECRET, accent="Yazdi", accent_raw="یزدی", extra={"note": SECRET})
    first = fetched_result(kept(0, GONE), kept(1, GONE), source=source, fetch=make_fetch(GONE, raw={"title": SECRET}))
    first = replace(first, marks=(Mark("turn", 0, 900, "S1"),), voices=(SpeakerVoice(f"{GONE}-S1", GONE, (1.0, 0.0)),))
    second = make_result(kept(0, STAYS), kept(1, STAYS), source=make_source(STAYS))
    third = make_result(kept(0, THIRD), source=make_source(THIRD))
    for result in (first, second, third):
        catalog.write_source(result)
    write_judgements(
        catalog, [label(GONE, "Lori"), label(STAYS, "Lori")], [said(GONE, 0, SECRET), said(STAYS, 0, "بماند")]
    )
    person = f"{GONE}-S1"
    write_links(catalog, {person: person, f"{THIRD}-S1": person, f"{STAYS}-S1": person})
    stretches = [Stretch(one, 0, RATE) for one in (GONE, STAYS, THIRD)]
    write_link_rules(
        catalog,
        [LinkRule(True, stretches[0], stretches[1], "سارا", WHEN), LinkRule(False, *stretches[1:], "سارا", WHEN)],
    )
    clips = [f"{STAYS}-0", f"{GONE}-0", f"{THIRD}-0", f"{GONE}-1", f"{STAYS}-1"]
    prints = {name: np.arange(3, dtype=np.uint32) for name in clips}
    pairs = [Duplicate(*sorted((clips[i], f"{GONE}-0")), 2.5, 0.9) for i in (0, 2)]
    write_fingerprints(catalog, "m", prints, pairs)
    catalog.write_split([SplitMember(name, "train") for name in clips], name="old", seed=1)
    catalog.write_split([SplitMember(f"{STAYS}-0", "train")], name="sound")
    for number, found in enumerate(({GONE: 2, STAYS: 1}, {STAYS: 2})):
        write_export(catalog, Export(f"e{number}", "kaldi", f"/exports/{number}", {}, WHEN, found))
    for name, pieces in (("ours-1", clips), ("other-2", [f"{STAYS}-0"])):
        run = run_of(name)
        write_run(catalog, run, heard(run, *pieces))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path / "corpus", write=True) as opened:
        fill(opened)
        yield opened


def holding(catalog: Catalog, text: str) -> set[str]:
    """The tables with a row that has this text in it, anywhere."""
    tables = catalog.query("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'base'").rows
    return {
        name
        for (name,) in list(tables)
        if list(catalog.query(f"SELECT 1 FROM base.{name} AS row WHERE contains(row::VARCHAR, ?) LIMIT 1", [text]).rows)
    }


# The catalog


def test_nothing_of_it_is_left_in_any_table(catalog: Catalog) -> None:
    assert {"source", "transcript", "segment", "fetch", "prediction"} <= holding(catalog, SECRET)
    gone = remove_sources(catalog, [GONE], "asked for", WHEN)
    assert holding(catalog, SECRET) == set()
    assert holding(catalog, GONE) == {"removal", "removed_segment", "split_member", "export_source"} | {"fingerprint"}
    assert gone.uris == (URI,)
    assert gone.clips == (f"clips/{GONE}/0.wav", f"clips/{GONE}/1.wav")
    assert gone.media == (f"media/{GONE}.m4a",)
    assert gone.pieces == {f"{GONE}-0", f"{GONE}-1"}
    assert (gone.predictions, gone.experiments, gone.splits) == (2, ("ours-1",), ("old",))
    assert [(export.export_id, export.format, export.path) for export in gone.exports] == [
        ("e0", "kaldi", "/exports/0")
    ]


def test_the_others_keep_what_is_theirs(catalog: Catalog) -> None:
    before = [catalog.result(STAYS), catalog.result(THIRD)]
    remove_sources(catalog, [GONE], "asked for", WHEN)
    assert [catalog.result(STAYS), catalog.result(THIRD)] == before
    found = catalog.query("SELECT segment_id, text, accent, speaker_id, split FROM segments ORDER BY 1").rows
    assert list(found) == [
        (f"{STAYS}-0", "بماند", "Lori", f"{STAYS}-S1", "train"),
        (f"{STAYS}-1", None, "Lori", f"{STAYS}-S1", None),
        (f"{THIRD}-0", None, None, f"{STAYS}-S1", None),
    ]
    # one person still, named after the first voice that is left
    assert links(catalog) == {f"{STAYS}-S1": f"{STAYS}-S1", f"{THIRD}-S1": f"{STAYS}-S1"}
    assert list(catalog.query("SELECT source_a, source_b FROM base.link_rule").rows) == [(STAYS, THIRD)]
    assert {one.segment_id for one in predictions(catalog, "ours-1-finetune-0")} == {
        f"{STAYS}-0",
        f"{STAYS}-1",
        f"{THIRD}-0",
    }
    assert len(predictions(catalog, "other-2-finetune-0")) == 1
    splits = catalog.query("SELECT split_name, stale, count(*) FROM splits GROUP BY ALL ORDER BY 1").rows
    assert list(splits) == [("old", True, 5), ("sound", False, 1)]


def test_the_pairs_that_it_held_together_are_looked_for_anew(catalog: Catalog) -> None:
    """Of the chain A – gone – B the pair A – B was never written: a split must not part them."""
    remove_sources(catalog, [GONE], "asked for", WHEN)
    assert duplicates(catalog) == []
    assert list(catalog.query("SELECT segment_id, len(hashes) FROM base.fingerprint WHERE len(hashes) = 0").rows) == [
        (f"{GONE}-0", 0)
    ]
    assert {name for page in fingerprints(catalog, "m") for name in page} == {f"{STAYS}-0", f"{STAYS}-1", f"{THIRD}-0"}
    assert fingerprints_are_stale(catalog, "m")
    write_fingerprints(catalog, "m", {}, [])
    assert "fingerprint" not in holding(catalog, GONE)


def test_a_second_time_changes_nothing(catalog: Catalog) -> None:
    remove_sources(catalog, [GONE], "asked for", WHEN)
    once = removals(catalog)
    assert once == [Removal(URI, GONE, GONE + "0" * 48, "tube", "0123", "asked for", WHEN)]
    again = remove_sources(catalog, [GONE], "another reason", WHEN + timedelta(days=1))
    assert removals(catalog) == once
    assert (again.uris, again.clips, again.predictions) == ((URI,), (), 0)
    assert (again.splits, [export.export_id for export in again.exports]) == (("old",), ["e0"])
    assert again.pieces == {f"{GONE}-0", f"{GONE}-1"}


def test_pieces_that_only_the_caller_knows_go_too(catalog: Catalog) -> None:
    """Clips of an earlier segmentation, and clips of a data set, which are named after their bytes."""
    run = run_of("dataset-3")
    write_run(catalog, run, heard(run, "aaaa", "bbbb"))
    gone = remove_sources(catalog, [GONE], "asked for", WHEN, {"aaaa": GONE})
    assert gone.experiments == ("dataset-3", "ours-1")
    assert [one.segment_id for one in predictions(catalog, run.run_id)] == ["bbbb"]


def test_what_fails_amid_a_takedown_takes_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: holding(catalog, name) for name in (GONE, SECRET)}
    monkeypatch.setattr("catalog.removals.BY_SOURCE", ("source", "no_such_table"))
    with pytest.raises(PdidError, match="can't be written"):
        remove_sources(catalog, [GONE], "asked for", WHEN)
    assert {name: holding(catalog, name) for name in (GONE, SECRET)} == before
    assert removals(catalog) == []


def test_it_is_known_by_address_bytes_and_the_sites_id(catalog: Catalog) -> None:
    remove_sources(catalog, [GONE], "asked for", WHEN)
    refuse(catalog, [Removal("https://x.example/video", "e" * 16, None, "generic", "video", "no", WHEN)])
    stones = tombstoned(catalog)
    removal = stones.of(uri=URI)
    assert removal
    assert removal.explained == "it was taken down on 2026-01-31 (asked for) and stays out"
    assert stones.of(sha256=GONE + "0" * 48) == removal
    assert stones.of(uri="https://short.example/1", site="tube", site_id="0123") == removal
    assert stones.of(uri="https://x.example/video") is not None
    # a file name is no id
    assert stones.of(uri="https://y.example/video", site="generic", site_id="video") is None
    assert stones.of(uri="https://y.example/", sha256="1" * 64, site="other", site_id="0123") is None
    assert stones.of() is None


@pytest.mark.parametrize("by", ["bytes", "address"])
def test_whoever_began_before_it_writes_nothing_of_it(catalog: Catalog, by: str) -> None:
    result = catalog.result(GONE)
    assert result
    if by == "address":
        address = replace(result.addresses[0], source_id="f" * 16)
        result = make_result(source=make_source("f" * 16, uri=URI))
        result = replace(result, addresses=(address,))
    remove_sources(catalog, [GONE], "asked for", WHEN)
    with pytest.raises(PdidError, match=r"taken down on 2026-01-31 \(asked for\)"):
        catalog.write_source(result)
    write_judgements(catalog, [label(GONE, "Lori")], [said(GONE, 0, SECRET), said(STAYS, 1, "too")])
    run = run_of("late-4")
    write_run(catalog, run, heard(run, f"{GONE}-0", f"{STAYS}-1"))
    assert [one.segment_id for one in predictions(catalog, run.run_id)] == [f"{STAYS}-1"]
    assert holding(catalog, SECRET) == set()
    assert "too" in [row[0] for row in catalog.query("SELECT text FROM transcripts").rows]


# The command


def key_of(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The three recordings with their files."""
    corpus = tmp_path / "corpus"
    with open_catalog(corpus, write=True) as catalog:
        fill(catalog)
        for path in sorted(catalog.clip_paths()):
            (corpus / path).parent.mkdir(parents=True, exist_ok=True)
            loud = 0.1 if GONE in path else 0.2
            write_wav(corpus / path, np.full(4 * RATE, loud * (1 + int(path[-5])), np.float32))
            (corpus / path).with_suffix(".mp3").write_bytes(b"preview")
        catalog.connection.execute("UPDATE base.fetch SET media = ?", [f"media/{key_of(URI)}.m4a"])
    key, other = key_of(URI), key_of("https://other.example/1")
    for name in (f"{key}.m4a", f"{key}.fa.auto.vtt", f".part/{key}.m4a.part", f"{other}.m4a", f".part/{other}.ytdl"):
        (corpus / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / "media" / name).write_bytes(b"sound")
    (corpus / "report.html").write_text(SECRET)
    return corpus


def files(corpus: Path) -> set[str]:
    return {str(path.relative_to(corpus)) for path in corpus.rglob("*") if path.is_file()}


def remaining(corpus: Path) -> set[str]:
    """What is to be left of the corpus's files."""
    clips = {f"clips/{source_id}/{n}" for source_id, n in ((STAYS, 0), (STAYS, 1), (THIRD, 0))}
    other = key_of("https://other.example/1")
    media = {f"media/{other}.m4a", f"media/.part/{other}.ytdl"}
    return {f"{clip}.{ending}" for clip in clips for ending in ("wav", "mp3")} | media | {"catalog.duckdb"}


def test_the_files_go_and_what_else_holds_it_is_told(pdid: Pdid, corpus: Path) -> None:
    assert SECRET.encode() in (corpus / "catalog.duckdb").read_bytes()
    done = pdid("remove", GONE, "--reason", "the speaker asked", "--corpus", corpus)
    assert (done.code, done.err) == (0, "")
    assert files(corpus) == remaining(corpus)
    assert SECRET.encode() not in (corpus / "catalog.duckdb").read_bytes()
    assert not (corpus / "clips" / GONE).exists()
    assert f"{GONE} {SECRET}: removed\n" in done.out
    assert "gone: 2 clips, 2 predictions\n" in done.out
    assert "export e0 contains it: kaldi in /exports/0\n" in done.out
    assert "/exports/1" not in done.out
    assert "split old is stale" in done.out
    assert "experiment ours-1 heard it" in done.out
    assert query(corpus, "SELECT reason FROM removals") == [("the speaker asked",)]
    assert query(corpus, "SELECT count(*) FROM sources") == [(2,)]

    told = pdid("status", "--corpus", corpus).out
    assert "1 recordings were taken down and stay out" in told
    assert SECRET not in told
    assert json.loads(pdid("status", "--json", "--corpus", corpus).out)["removed"] == 1
    checked = pdid("split", "--check", "--name", "old", "--corpus", corpus)
    assert "split old is stale: 2 of its 5 clips were taken down" in checked.err
    assert "stale" not in pdid("split", "--check", "--name", "sound", "--corpus", corpus).err
    assert pdid("sql", "@removals", "--corpus", corpus).out.count(GONE) >= 1


def test_a_dry_run_tells_the_same_and_changes_nothing(pdid: Pdid, corpus: Path) -> None:
    before = {name: (corpus / name).read_bytes() for name in files(corpus)}
    dry = json.loads(pdid("remove", GONE, "--reason", "x", "--dry-run", "--json", "--corpus", corpus).out)
    assert {name: (corpus / name).read_bytes() for name in files(corpus)} == before
    wet = json.loads(pdid("remove", GONE, "--reason", "x", "--json", "--corpus", corpus).out)
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry == wet
    assert wet["files"] == [
        f"clips/{GONE}", f"media/{key_of(URI)}.fa.auto.vtt", f"media/{key_of(URI)}.m4a",
        f"media/.part/{key_of(URI)}.m4a.part", "report.html",
    ]  # fmt: skip
    assert wet["exports"] == [{"export_id": "e0", "format": "kaldi", "path": "/exports/0"}]
    assert (wet["splits"], wet["experiments"], wet["clips"], wet["predictions"]) == (["old"], ["ours-1"], 2, 2)


def test_users_own_files_are_left_where_they_lie(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    own = tmp_path / "tapes" / "talk.wav"
    own.parent.mkdir()
    own.write_bytes(b"bytes of it")
    source_id = hashlib.sha256(b"bytes of it").hexdigest()[:16]
    source = make_source(source_id, uri=str(own), sha256=hashlib.sha256(b"bytes of it").hexdigest())
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_source(make_result(source=source))
    done = pdid("remove", own, "--reason", "x", "--corpus", corpus)
    assert (done.code, own.read_bytes()) == (0, b"bytes of it")
    assert f"left where it lies, for it is yours: {own}\n" in done.out
    # and its bytes are refused wherever they lie
    with open_catalog(corpus) as catalog:
        assert tombstoned(catalog).of(sha256=source.sha256) is not None


@pytest.mark.parametrize(
    "name",
    [
        URI,
        URI.replace("https://", "https://me:secret@"),
        GONE[:4],
        GONE.upper()[:6],
        "https://tube.example/playlist?list=1",  # what it was asked by, alone
    ],
)
def test_it_can_be_named_in_many_ways(pdid: Pdid, corpus: Path, name: str) -> None:
    done = json.loads(pdid("remove", name, "--reason", "x", "--dry-run", "--json", "--corpus", corpus).out)
    assert [(one["source_id"], one["was"]) for one in done["sources"]] == [(GONE, "there")]


def test_another_form_of_an_address_means_the_same_recording(pdid: Pdid, corpus: Path) -> None:
    assert site_of("https://youtu.be/BaW_jenozKc?si=x") == ("youtube", "BaW_jenozKc")
    assert site_of("https://www.aparat.com/video/video/embed/videohash/8dflw/vt/frame") == ("aparat", "8dflw")
    assert site_of("https://example.com/talk.mp4") is None
    fetch = make_fetch(GONE, uri="https://www.youtube.com/watch?v=BaW_jenozKc", site="youtube", site_id="BaW_jenozKc")
    with open_catalog(corpus, write=True) as catalog:
        result = catalog.result(GONE)
        assert result
        catalog.write_source(replace(result, fetch=fetch))
    for _ in range(2):  # there, and then gone already
        done = pdid("remove", "https://youtu.be/BaW_jenozKc?si=x", "--reason", "x", "--json", "--corpus", corpus)
        assert [one["source_id"] for one in json.loads(done.out)["sources"]] == [GONE]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-such-thing.wav", "'no-such-thing.wav' is no recording of this corpus: expected a source_id"),
        ("012", "'012' is no recording"),
        ("1111", "'1111' begins the ids of 2 recordings: 1111111111111111, 1111999999999999"),
        ("file:///etc/passwd", "expected http:// or https://, not 'file'"),
        ("https://www.youtube.com/watch?v=BaW_jenozKc&list=PLx", "is that of a list"),
        ("https://www.aparat.com/playlist/123", "is that of a list"),
        ("https://radio.example/all", "by 'https://radio.example/all' 2 recordings were asked for"),
    ],
)
def test_a_name_that_could_mean_another_is_refused(pdid: Pdid, corpus: Path, name: str, said: str) -> None:
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_source(make_result(source=make_source("1111" + "9" * 12)))
        for number in (3, 4):
            source_id = str(number) * 16
            fetch = make_fetch(source_id, asked="https://radio.example/all")
            catalog.write_source(fetched_result(source=make_source(source_id), fetch=fetch))
    done = pdid("remove", GONE, name, "--reason", "x", "--corpus", corpus)
    assert done.code == 2
    assert said in done.err
    assert query(corpus, "SELECT count(*) FROM removals") == [(0,)]  # nothing of the others either
    assert (corpus / "clips" / GONE).exists()


def test_what_never_was_here_can_be_refused_ahead(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    tape = tmp_path / "unheard.wav"
    tape.write_bytes(b"never ingested")
    address = "https://www.youtube.com/watch?v=BaW_jenozKc"
    done = pdid("remove", tape, address, "--reason", "no consent", "--corpus", corpus)
    assert done.code == 0
    assert done.out.count("refused from now on; it is not in the catalog") == 2
    with open_catalog(corpus) as catalog:
        stones = tombstoned(catalog)
    assert stones.of(uri=str(tape)) is not None
    assert stones.of(sha256=hashlib.sha256(b"never ingested").hexdigest()) is not None
    assert stones.of(uri="https://youtu.be/other", site="youtube", site_id="BaW_jenozKc") is not None
    assert tape.exists()
    again = pdid("remove", tape, "--reason", "again", "--corpus", corpus)
    assert "(no consent)" in again.out
    assert query(corpus, "SELECT count(*), count(DISTINCT source_id) FROM removals") == [(2, 2)]


def test_it_needs_a_reason_a_corpus_and_the_corpus_to_itself(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    assert pdid("remove", GONE, "--corpus", corpus).code == 2
    assert "--reason is empty" in pdid("remove", GONE, "--reason", "  ", "--corpus", corpus).err
    nowhere = pdid("remove", GONE, "--reason", "x", "--corpus", tmp_path / "nowhere")
    assert (nowhere.code, (tmp_path / "nowhere").exists()) == (2, False)
    from corpus_builder.ingest import corpus_lock

    with corpus_lock(corpus):
        busy = pdid("remove", GONE, "--reason", "x", "--corpus", corpus)
    assert (busy.code, "another `pdid ingest`" in busy.err) == (1, True)
    assert query(corpus, "SELECT count(*) FROM removals") == [(0,)]


def test_kill_9_amid_the_files_leaves_none_that_is_named_and_the_next_run_finishes(pdid: Pdid, corpus: Path) -> None:
    code = """
        import sys, time
        from datetime import UTC, datetime
        from pathlib import Path
        from corpus_builder import takedown
        delete = takedown._delete
        def stop(path):
            delete(path)
            print("ready", flush=True)
            time.sleep(60)
        takedown._delete = stop
        takedown.take_down(Path(sys.argv[1]), [sys.argv[2]], "asked for", datetime.now(UTC))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(corpus), GONE],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (corpus / "media" / f"{key_of(URI)}.m4a").exists()
    assert query(corpus, "SELECT count(*) FROM sources WHERE site IS NOT NULL") == [(0,)]
    done = pdid("remove", GONE, "--reason", "again", "--corpus", corpus)
    assert done.code == 0
    assert "(asked for) and stays out; what was left of it is gone" in done.out
    assert files(corpus) == remaining(corpus)


def test_a_file_that_cant_be_deleted_is_told(pdid: Pdid, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_it(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(takedown.shutil, "rmtree", refuse_it)
        done = pdid("remove", GONE, "--reason", "x", "--corpus", corpus)
    assert done.code == 1
    assert "can't be deleted: Permission denied" in done.err
    assert "run the same command again" in done.err
    assert pdid("remove", GONE, "--reason", "x", "--corpus", corpus).code == 0
    assert files(corpus) == remaining(corpus)


def test_copies_of_older_catalogs_that_hold_it_go(pdid: Pdid, corpus: Path) -> None:
    shutil.copy(corpus / "catalog.duckdb", corpus / "catalog.duckdb.v1.bak")
    with open_catalog(corpus, write=True) as catalog:
        remove_sources(catalog, [STAYS], "x", WHEN)
    shutil.copy(corpus / "catalog.duckdb", corpus / "catalog.duckdb.v2.bak")
    assert pdid("remove", STAYS, "--reason", "x", "--corpus", corpus).code == 0
    assert {path.name for path in corpus.glob("*.bak")} == {"catalog.duckdb.v2.bak"}


# Experiments


def test_experiments_forget_the_clips_and_can_still_be_read(pdid: Pdid, corpus: Path) -> None:
    """On the folders that the benchmark itself writes: lists of clips, log-mels, reports."""
    from transformers import WhisperFeatureExtractor

    from asr_experiments.datasets import Utterance
    from asr_experiments.experiment import BenchmarkSettings, Experiment, load_clips, make_experiment, save_experiment
    from asr_experiments.features import LogMels
    from asr_experiments.report.results import read_results

    def utterance(source_id: str, n: int, split: Any, segment_id: str | None = None) -> Utterance:
        path, text = corpus / "clips" / source_id / f"{n}.wav", SECRET if source_id == GONE else "بماند"
        name = segment_id or f"{source_id}-{n}"
        return Utterance(name, path, text, "Lori", f"{source_id}-S1", source_id, split, 4 * RATE)

    def experiment_of(*utterances: Utterance) -> Experiment:
        made = make_experiment(corpus, BenchmarkSettings("mini", "fa"), "mini 1", utterances)
        save_experiment(made)
        run = replace(run_of(made.experiment_id), run_id=f"{made.experiment_id}-zero-shot-0", arm="zero-shot")
        said = [Prediction(run.run_id, one.segment_id, one.text, "بماند", 0) for one in utterances]
        with open_catalog(corpus, write=True) as catalog:
            write_run(catalog, run, said)
        (made.folder / "report.html").write_text(SECRET)
        (made.folder / "cells").mkdir()
        return made

    train = utterance(STAYS, 1, "train")
    ours = experiment_of(train, utterance(STAYS, 0, "test"), utterance(GONE, 0, "test"))
    older = experiment_of(train, utterance(STAYS, 0, "test"), utterance(GONE, 1, "test", "an-older-piece"))
    by_bytes = hashlib.sha256((corpus / "clips" / GONE / "1.wav").read_bytes()).hexdigest()[:16]
    dataset = experiment_of(train, replace(utterance(STAYS, 0, "test"), segment_id=by_bytes, source="x"))
    other = experiment_of(train, utterance(STAYS, 0, "test"))
    mels = LogMels([u.path for u in ours.utterances], WhisperFeatureExtractor(chunk_length=4), ours.cache)
    mels.prepare()
    assert any((corpus / "runs" / "cache").rglob("*.safetensors"))

    done = json.loads(pdid("remove", GONE, "--reason", "x", "--json", "--corpus", corpus).out)
    assert done["experiments"] == sorted(["ours-1", *(one.experiment_id for one in (ours, older, dataset))])
    assert done["predictions"] == 2 + 3
    assert not (corpus / "runs" / "cache").exists()
    for made, left in ((ours, 2), (older, 2), (dataset, 1), (other, 2)):
        assert (made.folder / "report.html").exists() == (made is other)
        assert (made.folder / "cells").exists()
        clips = load_clips(made.folder)
        assert len(clips) == left
        assert {clip.source for clip in clips} <= {STAYS, "x"}
        assert len(read_results(corpus, made.experiment_id).cells[0].scores) == left - 1
    assert [str(path) for path in (corpus / "runs").rglob("*") if path.is_file() and SECRET in path.read_text()] == [
        str(other.folder / "report.html")
    ]


# A release


def test_a_release_doesnt_bring_it_back(pdid: Pdid, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
    (tmp_path / "tapes").mkdir()
    tape = write_wav(tmp_path / "tapes" / "talk.wav", sound)
    sha256 = hashlib.sha256(tape.read_bytes()).hexdigest()
    name = sha256[:16]
    clips = [kept(n, name, gain_db=0.0) for n in range(2)]
    source = make_source(name, sha256=sha256, uri=str(tape), n_samples=len(sound), sample_rate=RATE, channels=1)
    corpus = tmp_path / "made"
    with open_catalog(corpus, write=True) as catalog:
        catalog.write_source(make_result(*clips, source=source))
        catalog.write_split([SplitMember(clip.segment_id, "train") for clip in clips], name="all")
    for clip in clips:
        (corpus / str(clip.path)).parent.mkdir(parents=True, exist_ok=True)
        write_wav(corpus / str(clip.path), sound[clip.start : clip.end])
    release = tmp_path / "release"
    assert pdid("export", "--format", "metadata", release, "--corpus", corpus).code == 0

    again = tmp_path / "again"  # where it was, and was taken down
    assert pdid("rebuild", release, "--corpus", again, "--media", tape.parent).code == 0
    assert len(files(again / "clips")) == 2
    assert pdid("remove", name[:8], "--reason", "asked for", "--corpus", again).code == 0
    other = tmp_path / "other"  # and where it was refused ahead
    with open_catalog(other, write=True) as catalog:
        assert catalog.sources() == []
    assert pdid("remove", tape, "--reason", "asked for", "--corpus", other).code == 0
    for folder in (again, other):
        done = pdid("rebuild", release, "--corpus", folder, "--media", tape.parent)
        assert done.code == 1
        assert "missing: 2 clips of" in done.err
        assert "(asked for) and stays out" in done.err
        assert query(folder, "SELECT count(*) FROM sources") == [(0,)]
        assert files(folder / "clips") == set()
        assert query(folder, "SELECT DISTINCT split_name, stale FROM splits") == [("all", True)]
