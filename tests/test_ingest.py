"""The run: nothing twice, only what a change touches, the same rows however it is run, clips as promised."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly

from catalog.records import RATE, Status
from catalog.store import open_catalog
from corpus_builder import workers
from corpus_builder.audio import Decoder, probe
from corpus_builder.config import Settings
from corpus_builder.ingest import Outcome, ingest
from corpus_builder.plan import STAGES, make_plan
from corpus_builder.sources import SourceRequest, address_of
from tests.media import (
    EMBEDDED,
    Pdid,
    assert_tiled,
    assert_whole,
    clip_files,
    finished,
    query,
    rows,
    source_of,
    start_pdid,
    write_wav,
)

SETTINGS: dict[str, Any] = {"separate": {"mode": "never"}, "diarize": {"engine": "embedded"}}


@pytest.fixture
def media(talk: Path, two_speakers: Path, test_data: Path) -> list[Path]:
    """The files of the `ingested` corpus."""
    return [talk, two_speakers, test_data / "clips" / "conversation" / "sample.wav"]


def redone(before: dict[tuple[str, str], Any], corpus: Path) -> set[str]:
    """Stages that were done again since."""
    return {stage for (source, stage), when in finished(corpus).items() if before.get((source, stage)) != when}


def run_here(media: list[Path], corpus: Path, jobs: int = 1, **settings: Any) -> list[Outcome]:
    """Ingest in this process."""
    plan = make_plan(Settings.model_validate(SETTINGS | settings), lambda line: None)
    requests = [SourceRequest(address_of(path), path) for path in media]
    return list(ingest(requests, corpus, plan, jobs, lambda *_: None))


def test_pieces_tile_their_sources_and_clips_are_what_rows_say(ingested: Path) -> None:
    assert_tiled(ingested)
    assert_whole(ingested)
    assert len(query(ingested, "SELECT * FROM segments WHERE kept")) >= 5


def test_every_clip_is_as_promised(ingested: Path) -> None:
    """Measured anew: format, length, loudness by pyloudnorm, true peak eightfold oversampled by another filter."""
    meter = pyloudnorm.Meter(RATE)
    kept = query(
        ingested,
        "SELECT path, end_s - start_s, loudness_lufs, true_peak_dbtp, speaker_id, reject_reason FROM segments"
        " WHERE kept",
    )
    for path, length, stated_lufs, stated_peak, speaker, reason in kept:
        assert not Path(path).is_absolute()
        assert speaker
        assert reason is None
        with wave.open(str(ingested / path)) as clip:
            assert clip.getparams()[:3] == (1, 2, RATE)
            n = clip.getnframes()
            sound = np.frombuffer(clip.readframes(n), "<i2") / 32767
        assert n == round(length * RATE)
        assert 3.0 <= length <= 30.0
        lufs = meter.integrated_loudness(sound)
        peak = 20 * np.log10(np.abs(resample_poly(sound, 8, 1)).max())
        assert peak <= -1.0
        assert abs(lufs + 23) <= 0.5 or (lufs < -23 and peak > -1.6), "loud enough, or as loud as its peak allows"
        assert stated_lufs == pytest.approx(lufs, abs=0.05)
        assert stated_peak == pytest.approx(peak, abs=0.3)
    assert kept


def test_a_clip_whose_peak_stands_in_the_way_stays_under_it(talk: Path, tmp_path: Path) -> None:
    """Quiet speech with clicks in it: bringing it to -23 LUFS would pass -1 dBTP."""
    with wave.open(str(talk)) as clip:
        sound = np.frombuffer(clip.readframes(clip.getnframes()), "<i2") / np.float32(32767)
    sound = 0.1 * sound
    sound[RATE :: 3 * RATE] = 0.9
    path = write_wav(tmp_path / "clicks.wav", sound)
    run_here([path], tmp_path / "corpus")
    found = query(tmp_path / "corpus", "SELECT loudness_lufs, true_peak_dbtp, path FROM segments WHERE kept")
    assert found
    for lufs, peak, name in found:
        assert lufs < -23.5
        assert -1.3 < peak <= -1.0
        with wave.open(str(tmp_path / "corpus" / name)) as clip:
            sound = np.frombuffer(clip.readframes(clip.getnframes()), "<i2") / 32767
        assert 20 * np.log10(np.abs(resample_poly(sound, 8, 1)).max()) <= -1.0


def test_a_second_run_does_nothing_and_says_so(media: list[Path], corpus: Path, pdid: Pdid) -> None:
    before, done, files = rows(corpus), finished(corpus), clip_files(corpus)
    stamps = {name: (corpus / name).stat().st_mtime_ns for name in files}
    said = pdid("ingest", *media, "--corpus", corpus, *EMBEDDED)
    assert said.code == 0
    assert f"nothing to do: all 3 sources are up to date in {corpus}" in said.err
    assert (rows(corpus), finished(corpus)) == (before, done)
    assert {name: (corpus / name).stat().st_mtime_ns for name in clip_files(corpus)} == stamps


def test_dry_run_changes_nothing(media: list[Path], corpus: Path, tmp_path: Path, pdid: Pdid) -> None:
    other = tmp_path / "other"
    new = pdid("ingest", *media, "--corpus", other, "--dry-run", *EMBEDDED)
    assert new.code == 0
    assert not other.exists()
    assert new.out.splitlines() == [f"new: {path}" for path in media]
    before = (corpus / "catalog.duckdb").read_bytes()
    (corpus / "pdid.toml").write_text("[segment]\nmax_s = 8.0\n")
    changed = pdid("ingest", *media, "--corpus", corpus, "--dry-run", "--json", *EMBEDDED)
    lines = [json.loads(line) for line in changed.out.splitlines()]
    assert [(line["source"], line["need"], line["from_stage"]) for line in lines] == [
        (str(path), "settings changed", "segment") for path in media
    ]
    assert "nothing was done" in changed.err
    assert (corpus / "catalog.duckdb").read_bytes() == before
    assert_whole(corpus)


def test_json_has_one_line_per_source(talk: Path, corpus: Path, tmp_path: Path, pdid: Pdid) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"source\nnowhere.wav\n{talk}\n")
    said = pdid("ingest", "--sources", listed, "--corpus", corpus, "--json", *EMBEDDED)
    assert said.code == 1
    lines = {line["source"]: line for line in map(json.loads, said.out.splitlines())}
    good, bad = lines[str(talk)], lines[str(tmp_path / "nowhere.wav")]
    assert (good["status"], good["fresh"], good["error"], good["duration_s"]) == ("done", False, None, 15.5)
    assert (bad["status"], bad["fresh"], bad["error"], bad["clips"]) == ("failed", True, "there is no such file", 0)


# What a change touches.


@pytest.mark.parametrize(
    ("toml", "first"),
    [
        ("[music]\nthreshold = 0.6", "music"),
        ("[vad]\nthreshold = 0.55", "vad"),
        ("[diarize]\nmin_speaker_s = 1.5", "diarize"),
        ("[segment]\nmax_s = 8.0", "segment"),
        ("[loudness]\ntarget_lufs = -20.0", "loudness"),
    ],
)
def test_a_changed_setting_redoes_what_it_touches(
    media: list[Path], two_speakers: Path, corpus: Path, pdid: Pdid, tmp_path: Path, toml: str, first: str
) -> None:
    media = [media[0], media[2]]  # the third is not asked for, and stays as it is
    before, marks = finished(corpus), rows(corpus)
    (corpus / "pdid.toml").write_text(toml + "\n")
    said = pdid("ingest", *media, "--corpus", corpus, *EMBEDDED)
    assert said.code == 0, said.err
    assert redone(before, corpus) == set(STAGES[STAGES.index(first) :])
    kinds = {"music": ("music", "music_alone"), "vad": ("speech",), "diarize": ("turn", "overlap", "unsure")}
    for stage in STAGES[: STAGES.index(first)]:
        for source_id, found in rows(corpus).items():
            for kind in kinds.get(stage, ()):
                of_kind = [m for m in found["marks"] if m["kind"] == kind]
                assert of_kind == [m for m in marks[source_id]["marks"] if m["kind"] == kind]
    assert_whole(corpus)
    assert_tiled(corpus)
    # the same as if it had been so from the start
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(corpus / "pdid.toml", fresh)
    assert pdid("ingest", *media, "--corpus", fresh, *EMBEDDED).code == 0
    third = source_of(corpus, two_speakers)["source_id"]
    assert rows(corpus) == rows(fresh) | {third: marks[third]}
    longest, lufs = query(fresh, "SELECT max(duration_s), max(loudness_lufs) FROM segments WHERE kept")[0]
    assert longest <= (8.0 if first == "segment" else 30.0)
    assert lufs == pytest.approx(-20.0 if first == "loudness" else -23.0, abs=0.5)


def test_a_changed_keep_rule_measures_nothing_again(media: list[Path], corpus: Path, pdid: Pdid) -> None:
    scores = (
        "SELECT segment_id, snr_db, dnsmos_ovrl, dnsmos_sig, loudness_lufs, true_peak_dbtp FROM segments ORDER BY ALL"
    )
    was, before, files = query(corpus, scores), finished(corpus), clip_files(corpus)
    bytes_of = {name: (corpus / name).read_bytes() for name in files}
    values = sorted(score for (score,) in query(corpus, "SELECT dnsmos_ovrl FROM segments WHERE kept"))
    limit = (values[0] + values[-1]) / 2
    (corpus / "pdid.toml").write_text(f"[keep]\nmin_dnsmos_ovrl = {limit}\n")
    assert pdid("ingest", *media, "--corpus", corpus, *EMBEDDED).code == 0
    assert redone(before, corpus) == {"quality"}
    assert query(corpus, scores) == was
    low = query(corpus, "SELECT count(*) FROM segments WHERE reject_reason = 'low_quality'")
    assert low == [(sum(score < limit for score in values),)]
    assert 0 < len(clip_files(corpus)) < len(files)
    assert_whole(corpus)
    # and back: the clips are there again, byte for byte
    (corpus / "pdid.toml").unlink()
    assert pdid("ingest", *media, "--corpus", corpus, *EMBEDDED).code == 0
    assert query(corpus, scores) == was
    assert {name: (corpus / name).read_bytes() for name in clip_files(corpus)} == bytes_of


def test_a_clip_that_was_deleted_comes_back(media: list[Path], corpus: Path, pdid: Pdid) -> None:
    before, name = rows(corpus), sorted(clip_files(corpus))[0]
    content = (corpus / name).read_bytes()
    (corpus / name).unlink()
    assert pdid("ingest", *media, "--corpus", corpus, *EMBEDDED).code == 0
    assert (corpus / name).read_bytes() == content
    assert rows(corpus) == before


def test_a_corrected_label_touches_no_audio(
    talk: Path, media: list[Path], corpus: Path, tmp_path: Path, pdid: Pdid
) -> None:
    before, listed = finished(corpus), tmp_path / "list.csv"
    for accent in ("Isfahani", "Yazdi"):
        listed.write_text(f"source,accent,speaker,village\n{talk},{accent},S,V\n")
        said = pdid("ingest", "--sources", listed, *media, "--corpus", corpus, *EMBEDDED)
        assert "nothing to do" in said.err
        assert source_of(corpus, talk)["accent"] == accent
        assert query(corpus, "SELECT DISTINCT accent FROM segments WHERE accent IS NOT NULL") == [(accent,)]
    assert finished(corpus) == before
    with open_catalog(corpus) as catalog:
        (source,) = catalog.sources([source_of(corpus, talk)["source_id"]])
    assert (source.speaker, source.extra) == ("S", {"village": "V"})


def test_labels_of_two_addresses_of_the_same_bytes_settle(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    """What the later row says holds, in the first run and in the next."""
    for name in ("a.wav", "b.wav"):
        shutil.copy(talk, tmp_path / name)
    (tmp_path / "list.csv").write_text("source,accent\na.wav,Isfahani\nb.wav,Yazdi\n")
    for jobs in (1, 2):
        corpus = tmp_path / f"corpus{jobs}"
        for _ in range(2):
            assert pdid("ingest", "--sources", "list.csv", "--corpus", corpus, "--jobs", jobs, *EMBEDDED).code == 0
            assert query(corpus, "SELECT accent FROM sources") == [("Yazdi",)]
            (found,) = rows(corpus).values()
            assert len(found["addresses"]) == 2


def test_a_moved_file_is_known_by_its_bytes(talk: Path, corpus: Path, tmp_path: Path, pdid: Pdid) -> None:
    before = finished(corpus)
    moved = tmp_path / "elsewhere" / "renamed.wav"
    moved.parent.mkdir()
    shutil.copy(talk, moved)
    said = pdid("ingest", moved, "--corpus", corpus, *EMBEDDED)
    assert said.code == 0
    assert "nothing to do" in said.err
    assert finished(corpus) == before
    assert source_of(corpus, moved)["source_id"] == source_of(corpus, talk)["source_id"]


def test_a_file_with_new_content_is_a_new_source(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    path, corpus = tmp_path / "talk.wav", tmp_path / "corpus"
    shutil.copy(talk, path)
    assert pdid("ingest", path, "--corpus", corpus, *EMBEDDED).code == 0
    first = source_of(corpus, path)
    write_wav(path, np.zeros(4 * RATE, np.float32))
    assert pdid("ingest", path, "--corpus", corpus, *EMBEDDED).code == 0
    assert source_of(corpus, path)["source_id"] != first["source_id"]
    assert source_of(corpus, path)["duration_s"] == 4
    assert_whole(corpus)


def test_failed_sources_are_tried_again(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    path, corpus = tmp_path / "late.wav", tmp_path / "corpus"
    path.write_bytes(talk.read_bytes()[:20])
    good = tmp_path / "good.wav"
    shutil.copy(talk, good)
    assert pdid("ingest", path, good, "--corpus", corpus, *EMBEDDED).code == 1
    assert source_of(corpus, path)["status"] == "failed"
    before = finished(corpus)
    again = pdid("ingest", path, good, "--corpus", corpus, "--json", *EMBEDDED)
    assert again.code == 1
    assert {Path(line["source"]).name: line["fresh"] for line in map(json.loads, again.out.splitlines())} == {
        "late.wav": True,
        "good.wav": False,
    }
    assert finished(corpus) == before
    shutil.copy(talk, path)
    path.write_bytes(path.read_bytes() + b"\0\0")  # mended, and not the other file's bytes
    assert pdid("ingest", path, good, "--corpus", corpus, *EMBEDDED).code == 0
    assert query(corpus, "SELECT DISTINCT status FROM sources") == [("done",)]
    assert len(rows(corpus)) == 2, "the failed row is forgotten"


def test_previews_are_mp3s_beside_the_clips(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "pdid.toml").write_text("previews = true\n")
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0
    clips = {name for name in clip_files(corpus) if name.endswith(".wav")}
    assert clips
    assert clip_files(corpus) == clips | {name.removesuffix(".wav") + ".mp3" for name in clips}
    for name in clips:
        mp3 = (corpus / name).with_suffix(".mp3")
        assert probe(mp3).codec.startswith("mp3")
        lengths = [sum(map(len, Decoder(path, RATE))) for path in (corpus / name, mp3)]
        assert lengths[1] == pytest.approx(lengths[0], abs=RATE // 10)
    (corpus / "pdid.toml").write_text("previews = false\n")
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0
    assert clip_files(corpus) == clips


# However it is run.


@pytest.fixture(scope="module")
def shorts(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five files of a few seconds, two of them the same bytes."""
    folder = tmp_path_factory.mktemp("shorts")
    with wave.open(str(talk)) as clip:
        sound = np.frombuffer(clip.readframes(clip.getnframes()), "<i2") / np.float32(32767)
    made = [write_wav(folder / f"{n}.wav", sound[: n * RATE]) for n in (5, 6, 7, 8)]
    return [*made, Path(shutil.copy(made[1], folder / "twin.wav"))]


@pytest.fixture(scope="module")
def undisturbed(shorts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows of `shorts`, ingested in peace."""
    corpus = tmp_path_factory.mktemp("undisturbed")
    assert [outcome.status for outcome in run_here(shorts, corpus)] == [Status.DONE] * 5
    assert_whole(corpus)
    return rows(corpus)


def test_two_jobs_give_the_rows_of_one(
    shorts: list[Path], undisturbed: dict[str, dict[str, Any]], tmp_path: Path, pdid: Pdid
) -> None:
    said = pdid("ingest", *shorts, "--corpus", tmp_path / "corpus", "--jobs", 2, *EMBEDDED)
    assert said.code == 0, said.err
    assert rows(tmp_path / "corpus") == undisturbed
    assert_whole(tmp_path / "corpus")


@pytest.fixture
def running(shorts: list[Path], tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(
    shorts: list[Path],
    undisturbed: dict[str, dict[str, Any]],
    running: list[subprocess.Popen[str]],
    tmp_path: Path,
    pdid: Pdid,
    jobs: int,
) -> None:
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", *shorts, "--corpus", corpus, "--jobs", jobs, *EMBEDDED, start_new_session=True)
    running.append(process)
    assert process.stderr
    for line in process.stderr:  # looking into the catalog takes so long on a busy machine that the run is over
        if line.startswith("[1/"):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the run
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail("the run was over before it was interrupted")
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    there = rows(corpus)
    assert there
    assert all(undisturbed[source]["segments"] == found["segments"] for source, found in there.items())
    assert not (corpus / ".scratch").exists()
    again = pdid("ingest", *shorts, "--corpus", corpus, *EMBEDDED)
    assert again.code == 0, again.err
    assert rows(corpus) == undisturbed
    assert_whole(corpus)


@pytest.mark.parametrize("attempt", range(3))
def test_after_kill_9_the_next_run_makes_the_same_catalog(
    shorts: list[Path],
    undisturbed: dict[str, dict[str, Any]],
    running: list[subprocess.Popen[str]],
    tmp_path: Path,
    pdid: Pdid,
    attempt: int,
) -> None:
    """benchmarks/kill_test.py does this twenty times."""
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", *shorts, "--corpus", corpus, "--jobs", 1 + attempt % 2, *EMBEDDED)
    running.append(process)
    deadline = time.monotonic() + 120
    while not (corpus / "clips").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 4.0))  # from its first step to its last; a new moment in every run of the tests
    process.kill()
    process.communicate()
    again = pdid("ingest", *shorts, "--corpus", corpus, *EMBEDDED)
    assert again.code == 0, again.err
    assert rows(corpus) == undisturbed
    assert_whole(corpus)
    assert {entry.name for entry in corpus.iterdir()} == {"catalog.duckdb", "clips"}


def test_what_a_killed_run_leaves_is_taken_away(talk: Path, corpus: Path, pdid: Pdid) -> None:
    before, files = rows(corpus), clip_files(corpus)
    folder = corpus / sorted(files)[0].rpartition("/")[0]
    for name in (".x.wav.part", "0123.wav", "0123.mp3"):
        (folder / name).write_bytes(b"left")
    (corpus / "clips" / "feedbeef").mkdir()
    (corpus / "clips" / "feedbeef" / "1.wav").write_bytes(b"left")
    (corpus / ".scratch" / "feedbeef").mkdir(parents=True)
    (corpus / ".scratch" / "feedbeef" / "mix.f32").write_bytes(b"left")
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0
    assert clip_files(corpus) == files
    assert not (corpus / "clips" / "feedbeef").exists()
    assert rows(corpus) == before
    assert_whole(corpus)


# Processes that die. The fakes below are run in the worker processes: the module is imported there by name.


def _dies_on_six_seconds(job: workers.Job) -> Any:
    if job.request.path.name == "6.wav":
        os._exit(7)
    return workers.work_in_process(job)


def test_a_process_that_dies_fails_its_source_alone(
    shorts: list[Path], undisturbed: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media, corpus = shorts[:4], tmp_path / "corpus"
    monkeypatch.setattr("corpus_builder.workers.work_in_process", _dies_on_six_seconds)
    outcomes = {outcome.request.path.name: outcome for outcome in run_here(media, corpus, jobs=2)}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "5.wav": Status.DONE,
        "6.wav": Status.FAILED,
        "7.wav": Status.DONE,
        "8.wav": Status.DONE,
    }
    assert "the process working on it died" in str(outcomes["6.wav"].error)
    assert source_of(corpus, media[1])["error"] == outcomes["6.wav"].error
    assert_whole(corpus)
    monkeypatch.undo()
    run_here(shorts, corpus)
    assert rows(corpus) == undisturbed


def test_a_fault_of_ours_fails_its_source_alone(
    shorts: list[Path], tmp_path: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpus_builder import pipeline

    real = pipeline.cut

    def faulty(findings: Any, settings: Any) -> Any:
        if findings.n_samples == 6 * RATE:
            raise ZeroDivisionError("a fault")
        return real(findings, settings)

    monkeypatch.setattr(pipeline, "cut", faulty)
    said = pdid("ingest", *shorts[:3], "--corpus", tmp_path / "corpus", *EMBEDDED)
    assert said.code == 1
    assert "6.wav: unexpected ZeroDivisionError in stage 'segment': a fault" in said.err
    assert "2 sources done" in said.err
    assert_whole(tmp_path / "corpus")


def test_workers_end_with_a_run_that_is_killed(
    shorts: list[Path], running: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", *shorts, "--corpus", corpus, "--jobs", 2, *EMBEDDED, stderr=subprocess.DEVNULL)
    running.append(process)
    children: list[int] = []
    deadline = time.monotonic() + 120
    while len(children) < 2 and time.monotonic() < deadline:
        children = workers_of(process.pid)
        time.sleep(0.05)
    assert len(children) == 2
    for child in children:  # Ctrl-C is for their parent to handle, whenever they were started
        blocked = re.search(r"^SigBlk:\t(.+)$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)
        assert blocked
        assert int(blocked[1], 16) >> (signal.SIGINT - 1) & 1
    while not (corpus / ".scratch").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))


def workers_of(pid: int) -> list[int]:
    """Processes of multiprocessing's that a process has started, its resource tracker aside."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc, which is Linux's")
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
