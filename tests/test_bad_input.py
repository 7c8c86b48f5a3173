"""Bad and odd input: what can't be read fails with a reason, what is odd goes through, the rest is committed."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from catalog.records import RATE, Status
from catalog.store import open_catalog
from corpus_builder import ingest as run
from corpus_builder.audio import Decoder, Samples
from corpus_builder.config import Settings
from corpus_builder.plan import make_plan
from corpus_builder.sources import SourceRequest, address_of
from tests.media import (
    EMBEDDED,
    Pdid,
    Run,
    assert_tiled,
    assert_whole,
    clip_files,
    convert,
    ffmpeg,
    query,
    rows,
    source_of,
    start_pdid,
    write_wav,
)

STRANGE = 'it\'s "بلندگو"\n$(x) [bold] 100%.wav'


@dataclass(frozen=True, slots=True)
class Mixed:
    """One run over everything bad or odd, and one good file."""

    folder: Path
    corpus: Path
    run: Run
    said: dict[str, dict[str, Any]]  # by file name, what --json said

    def row(self, name: str) -> dict[str, Any]:
        return source_of(self.corpus, self.folder / name)

    def failure(self, name: str) -> str:
        """Why a file failed: as the catalog, --json and the messages have it."""
        row = self.row(name)
        assert row["status"] == "failed"
        assert self.said[name]["error"] == row["error"]
        assert f"{row['error']}\n" in self.run.err
        assert not self.pieces(name)
        return str(row["error"])

    def done(self, name: str) -> dict[str, Any]:
        row = self.row(name)
        assert row["status"] == "done"
        assert row["error"] is None
        return row

    def pieces(self, name: str) -> list[tuple[bool, str | None, float]]:
        """Kept, reason and seconds of a file's pieces."""
        return query(
            self.corpus,
            "SELECT kept, reject_reason, duration_s FROM segments"
            f" WHERE source_id = '{self.row(name)['source_id']}' ORDER BY start_s",
        )

    def kept_s(self, name: str) -> float:
        return sum(length for kept, _, length in self.pieces(name) if kept)


def sound_of(path: Path) -> Samples:
    return np.concatenate([block[:, 0] for block in Decoder(path, RATE)])


def with_noise_in(data: bytes, seed: int = 1) -> bytes:
    """The bytes with a fifth in their middle replaced by random ones."""
    start, size = len(data) * 2 // 5, len(data) // 5
    return data[:start] + random.Random(seed).randbytes(size) + data[start + size :]


@pytest.fixture(scope="module")
def mixed(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    base = tmp_path_factory.mktemp("mixed")
    folder = base / "media"
    folder.mkdir()
    speech = sound_of(talk)
    (folder / "empty.wav").touch()
    (folder / "text.mp4").write_text("This is a letter, not a film.\n" * 50)
    whole = convert(talk, base / "whole.mp4", "-c:a", "aac")
    (folder / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 7 // 10])
    streamed = convert(talk, base / "streamed.mp4", "-c:a", "aac", "-movflags", "+faststart")
    (folder / "cut_streamed.mp4").write_bytes(streamed.read_bytes()[: streamed.stat().st_size // 2])
    mp3 = convert(talk, base / "whole.mp3", "-b:a", "64k")
    (folder / "corrupt.mp3").write_bytes(with_noise_in(mp3.read_bytes()))
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-an", folder / "mute.mp4")
    write_wav(folder / "header_only.wav", np.zeros(0, np.float32))
    write_wav(folder / "silence.wav", np.zeros(10 * RATE, np.float32))
    write_wav(folder / "tenth.wav", speech[2 * RATE : 2 * RATE + RATE // 10])
    write_wav(folder / "one_sample.wav", speech[2 * RATE : 2 * RATE + 1])
    convert(talk, folder / "telephone.wav", "-ar", 8000, "-c:a", "pcm_mulaw")
    convert(talk, folder / "surround.wav", "-af", "pan=5.1|FC=c0", "-ar", 96000, "-c:a", "pcm_s24le")
    write_wav(folder / STRANGE, speech[: 7 * RATE])
    write_wav(folder / "twin.wav", speech[: 8 * RATE])
    shutil.copy(folder / "twin.wav", folder / "twin again.wav")
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    (folder / "memory.wav").symlink_to("/proc/self/mem")
    os.mkfifo(folder / "pipe.wav")
    shutil.copy(talk, folder / "zz good.wav")
    corpus = base / "corpus"
    # the way in has a ../ in it; the walk finds all of them
    process = start_pdid(
        "ingest",
        folder / ".." / "media",
        "--corpus",
        corpus,
        "--json",
        *EMBEDDED,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    out, err = process.communicate(timeout=300)
    said = {Path(line["source"]).name: line for line in map(json.loads, out.splitlines())}
    return Mixed(folder, corpus, Run(process.returncode, out, err), said)


def test_the_run_says_that_some_failed_and_commits_the_rest(mixed: Mixed) -> None:
    assert mixed.run.code == 1, mixed.run.err
    assert "Traceback" not in mixed.run.err
    assert set(mixed.said) == {path.name for path in mixed.folder.iterdir()}
    assert mixed.kept_s("zz good.wav") > 14
    assert_whole(mixed.corpus)
    assert_tiled(mixed.corpus)
    (failed,) = query(mixed.corpus, "SELECT count(*) FROM sources WHERE status = 'failed'")
    assert failed == (sum(line["status"] == "failed" for line in mixed.said.values()),)
    assert f"{failed[0]} failed" in mixed.run.err


def test_an_empty_file(mixed: Mixed) -> None:
    assert mixed.failure("empty.wav") == "the file is empty (0 bytes)"


def test_a_text_file_named_mp4(mixed: Mixed) -> None:
    assert mixed.failure("text.mp4").startswith("not a media file, or damaged beyond reading")


def test_an_mp4_cut_off_before_its_index(mixed: Mixed) -> None:
    assert mixed.failure("cut.mp4").startswith("not a media file, or damaged beyond reading")


def test_an_mp4_with_its_index_in_front_cut_in_the_middle(mixed: Mixed, talk: Path) -> None:
    whole = len(sound_of(talk)) / RATE
    row = mixed.done("cut_streamed.mp4")
    assert 0.35 * whole < row["duration_s"] < 0.55 * whole
    assert mixed.kept_s("cut_streamed.mp4") > 0.3 * whole


def test_an_mp3_with_a_corrupt_middle(mixed: Mixed, talk: Path) -> None:
    whole = len(sound_of(talk)) / RATE
    assert 0.75 * whole < mixed.done("corrupt.mp3")["duration_s"] < 1.05 * whole
    assert mixed.kept_s("corrupt.mp3") >= 3


def test_video_without_sound(mixed: Mixed) -> None:
    assert mixed.failure("mute.mp4") == "there is no sound in this file (no audio stream)"


def test_a_header_without_sound(mixed: Mixed) -> None:
    assert mixed.failure("header_only.wav").startswith("no sound can be decoded from this file")


def test_silence(mixed: Mixed) -> None:
    row = mixed.done("silence.wav")
    assert row["duration_s"] == 10
    assert row["bandwidth_hz"] is None
    assert mixed.pieces("silence.wav") == [(False, "silence", 10)]


@pytest.mark.parametrize(("name", "length"), [("tenth.wav", 0.1), ("one_sample.wav", 1 / RATE)])
def test_hardly_any_sound(mixed: Mixed, name: str, length: float) -> None:
    assert mixed.done(name)["duration_s"] == pytest.approx(length)
    pieces = mixed.pieces(name)
    assert pieces
    assert not any(kept for kept, _, _ in pieces)


def test_an_8_khz_telephone(mixed: Mixed) -> None:
    row = mixed.done("telephone.wav")
    assert (row["sample_rate"], row["channels"], row["codec"]) == (8000, 1, "pcm_mulaw")
    assert 3700 <= row["bandwidth_hz"] <= 4000
    assert mixed.kept_s("telephone.wav") > 13


def test_96_khz_surround(mixed: Mixed, talk: Path) -> None:
    row = mixed.done("surround.wav")
    assert (row["sample_rate"], row["channels"]) == (96000, 6)
    assert row["duration_s"] == pytest.approx(len(sound_of(talk)) / RATE, abs=1e-3)
    assert 7500 <= row["bandwidth_hz"] <= 8700, "8 kHz, and a little of ffmpeg's leakage above it"
    assert mixed.kept_s("surround.wav") > 13


def test_a_strange_name(mixed: Mixed) -> None:
    row = mixed.done(STRANGE)
    assert row["uri"] == str(mixed.folder / STRANGE), "absolute and without the ../ it was found by"
    assert mixed.kept_s(STRANGE) > 3
    assert all(path.isascii() for path in clip_files(mixed.corpus))


def test_two_files_with_the_same_bytes_are_one_source_with_both_addresses(mixed: Mixed) -> None:
    first, second = mixed.said["twin.wav"], mixed.said["twin again.wav"]
    assert first["source_id"] == second["source_id"]
    assert (first["status"], second["status"]) == ("done", "done")
    assert first["fresh"] != second["fresh"], "worked on once"
    addresses = rows(mixed.corpus)[first["source_id"]]["addresses"]
    assert {a["uri"] for a in addresses} == {str(mixed.folder / name) for name in ("twin.wav", "twin again.wav")}


def test_files_that_cant_be_read(mixed: Mixed) -> None:
    assert mixed.failure("dangling.wav") == "there is no such file"
    assert mixed.failure("memory.wav").startswith("the file can't be read: ")
    assert mixed.failure("pipe.wav") == "the file can't be read: it is no ordinary file"


def test_the_next_run_tries_the_failed_ones_and_nothing_else(mixed: Mixed, pdid: Pdid, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(mixed.corpus, tmp_path / "corpus"))
    before = rows(corpus)
    again = pdid("ingest", mixed.folder, "--corpus", corpus, "--json", *EMBEDDED)
    assert again.code == 1
    for line in map(json.loads, again.out.splitlines()):
        assert line["fresh"] == (line["status"] == "failed"), line
    assert rows(corpus) == before


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_damage_the_rest_of_an_mp3_is_decoded(
    clip_mp3: bytes, talk: Path, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "damaged.mp3"
    path.write_bytes(with_noise_in(clip_mp3, seed))
    assert 0.75 * len(sound_of(talk)) < len(sound_of(path)) < 1.05 * len(sound_of(talk))


@pytest.fixture(scope="module")
def clip_mp3(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return convert(talk, tmp_path_factory.mktemp("mp3") / "a.mp3", "-b:a", "48k").read_bytes()


def test_recordings_of_different_rates_strung_together_are_decoded_whole(talk: Path, tmp_path: Path) -> None:
    parts = [
        convert(talk, tmp_path / f"{rate}.mp3", "-ar", rate, "-ac", channels, "-id3v2_version", 0, "-write_xing", 0)
        for rate, channels in ((44100, 2), (22050, 1), (48000, 2))
    ]
    whole = tmp_path / "all.mp3"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    each = len(sound_of(talk))
    assert len(sound_of(whole)) == pytest.approx(3 * each, abs=0.25 * RATE)  # up to 0.05 s of filling at each end


def test_permission_denied(talk: Path, tmp_path: Path) -> None:
    secret, good = tmp_path / "secret.wav", tmp_path / "good.wav"
    shutil.copy(talk, secret)
    shutil.copy(talk, good)
    good.write_bytes(good.read_bytes() + b"\0\0")
    secret.chmod(0)
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", secret, good, "--corpus", corpus, *EMBEDDED, preexec_fn=_without_roots_power)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "the file can't be read: permission denied" in err
    assert source_of(corpus, secret)["error"] == "the file can't be read: permission denied"
    assert source_of(corpus, good)["status"] == "done"


def _without_roots_power() -> None:
    """Make a root process heed permissions after its exec: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; refused where there is nothing to drop


def test_a_folder_that_cant_be_used_as_corpus(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    (tmp_path / "file").write_text("in the way")
    assert pdid("ingest", talk, "--corpus", tmp_path / "file", *EMBEDDED).code == 2
    done = pdid("ingest", talk, "--corpus", tmp_path / "file" / "corpus", *EMBEDDED)
    assert done.code == 1
    assert "can't be used: Not a directory" in done.err


def test_wrong_usage_is_told_and_nothing_is_made(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    listed, corpus = tmp_path / "list.csv", tmp_path / "corpus"
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("Dear")
    (tmp_path / "folder.wav").mkdir()
    listed.write_text(f"source,accent\n{talk},Isfahni\n")
    columns = tmp_path / "columns.csv"
    columns.write_text(f"file,accent\n{talk},Isfahani\n")
    for arguments, words in (
        (["--sources", listed], "write 'Isfahani'"),
        (["--sources", columns], "the header has no column `source`"),
        ([talk, "--accent", "Tehrni"], "write 'Tehrani'"),
        ([tmp_path / "papers"], "there is no media in the folder"),
        ([tmp_path / "folder.wav"], "there is no media in the folder"),
        ([tmp_path / "nowhere.wav"], "there is no file or folder"),
        ([], "there is nothing to ingest"),
        ([talk, "--jobs", "0"], "jobs"),
    ):
        said = pdid("ingest", *arguments, "--corpus", corpus)
        assert said.code == 2, said.err
        assert words in said.err
        assert not corpus.exists()


def test_a_sources_file_of_a_spreadsheet(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    folder = tmp_path / "my list"
    folder.mkdir()
    shutil.copy(talk, folder / STRANGE)
    quoted = STRANGE.replace('"', '""')
    text = f'\ufeffsource,accent,uploaded_at,سن\r\n"{quoted}",اصفهانی,۱۴۰۴/۱۱/۱۱,۴۵\r\nmissing.wav,,,\r\n'
    (folder / "list.csv").write_bytes(text.encode())
    said = pdid("ingest", "--sources", folder / "list.csv", "--corpus", tmp_path / "corpus", *EMBEDDED)
    assert said.code == 1, said.err
    assert "missing.wav: there is no such file" in said.err
    row = source_of(tmp_path / "corpus", folder / STRANGE)
    assert (row["status"], row["accent"], row["uploaded_at"].date().isoformat()) == ("done", "Isfahani", "2026-01-31")
    with open_catalog(tmp_path / "corpus") as catalog:
        (source,) = catalog.sources([row["source_id"]])
    assert source.extra == {"سن": "۴۵"}


# The corpus folder in trouble.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 9 MB: an empty catalog takes 5."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small tmpfs can be mounted here (it takes root): a full disk is not tried")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_source_that_does_not_fit(
    talk: Path, tmp_path: Path, small_disk: Path, pdid: Pdid
) -> None:
    long = write_wav(tmp_path / "a_long.wav", np.zeros(200 * RATE, np.float32))  # 12.8 MB as floats
    corpus = small_disk / "corpus"
    said = pdid("ingest", long, talk, "--corpus", corpus, *EMBEDDED)
    assert said.code == 1, said.err
    assert "No space left on device (while in stage 'decode'" in said.err
    assert source_of(corpus, long)["status"] == "failed"
    assert source_of(corpus, talk)["status"] == "done"
    assert_whole(corpus)


def test_a_disk_too_full_for_the_catalog_itself(talk: Path, small_disk: Path, pdid: Pdid) -> None:
    corpus = small_disk / "corpus"
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0
    before = rows(corpus)
    (corpus / "pdid.toml").write_text("[segment]\nmax_s = 10.0\n")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        file.writelines(bytes(4096) for _ in range(4096))
    full = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert full.code == 1, full.err
    assert "Traceback" not in full.err
    ballast.unlink()
    assert pdid("status", "--corpus", corpus).code == 0, "the catalog is whole"
    assert set(rows(corpus)) == set(before)
    again = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert again.code == 0, again.err
    assert source_of(corpus, talk)["status"] == "done"
    assert_whole(corpus)


def test_a_file_size_quota(talk: Path, tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, 8_000_000))

    long = write_wav(tmp_path / "a_long.wav", np.zeros(200 * RATE, np.float32))
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", long, talk, "--corpus", corpus, *EMBEDDED, preexec_fn=limit)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "File too large (while in stage 'decode'" in err
    assert source_of(corpus, talk)["status"] == "done"


def test_a_corpus_that_another_run_works_on(talk: Path, corpus: Path, pdid: Pdid) -> None:
    before = rows(corpus)
    with run.corpus_lock(corpus):
        said = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert said.code == 1
    assert "another `pdid ingest` is working on" in said.err
    assert rows(corpus) == before
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0


class Holder:
    """Another process that holds a catalog open for writing."""

    def __init__(self, corpus: Path) -> None:
        code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", code, str(corpus / "catalog.duckdb")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self.process.communicate()


def test_a_catalog_that_another_process_holds(
    talk: Path, corpus: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "open_catalog", partial(open_catalog, wait_s=0.5))
    holder = Holder(corpus)
    said = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    holder.let_go()
    assert said.code == 1
    assert f"is in use by process {holder.process.pid}: try again when that has ended" in said.err
    assert pdid("ingest", talk, "--corpus", corpus, *EMBEDDED).code == 0


def test_a_catalog_that_is_taken_while_a_source_is_in_work(
    talk: Path, corpus: Path, tmp_path: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source that can't be stored fails and leaves nothing; the next one, the catalog free again, is stored."""
    monkeypatch.setattr(run, "COMMIT_WAIT_S", 0.5)
    speech = sound_of(talk)
    media = [write_wav(tmp_path / f"{n}.wav", speech[: n * RATE]) for n in (7, 8)]
    requests = [SourceRequest(address_of(path), path) for path in media]
    settings = Settings.model_validate({"separate": {"mode": "never"}, "diarize": {"engine": "embedded"}})
    holders: list[Holder] = []

    def watch(request: SourceRequest, stage: str, share: float) -> None:
        if request is requests[0] and stage == "quality" and not holders:
            holders.append(Holder(corpus))
        if request is requests[1] and holders[0].process.poll() is None:
            holders[0].let_go()

    outcomes = list(run.ingest(requests, corpus, make_plan(settings, lambda line: None), 1, watch))
    assert [outcome.status for outcome in outcomes] == [Status.FAILED, Status.DONE]
    assert "its result can't be stored" in str(outcomes[0].error)
    assert source_of(corpus, media[1])["status"] == "done"
    assert_whole(corpus)
    assert pdid("ingest", *media, "--corpus", corpus, *EMBEDDED).code == 0
    assert source_of(corpus, media[0])["status"] == "done"


def test_a_catalog_of_a_newer_version(talk: Path, corpus: Path, pdid: Pdid) -> None:
    with duckdb.connect(str(corpus / "catalog.duckdb")) as connection:
        connection.execute("INSERT INTO base.migration VALUES (999, 'later', now()::TIMESTAMP)")
    before = clip_files(corpus)
    said = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert said.code == 1
    assert "was written by a newer pdid (catalog version 999" in said.err
    assert clip_files(corpus) == before


def test_a_file_that_is_no_catalog(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "catalog.duckdb").write_text("not a database" * 1000)
    said = pdid("ingest", talk, "--corpus", corpus, *EMBEDDED)
    assert said.code == 1
    assert "can't be opened" in said.err


def test_the_corpus_may_lie_where_the_recordings_are(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    shutil.copy(talk, folder / "talk.wav")
    assert pdid("ingest", folder, "--corpus", folder, *EMBEDDED).code == 0
    again = pdid("ingest", folder, "--corpus", folder, *EMBEDDED)
    assert again.code == 0, again.err
    assert "nothing to do: all 1 sources are up to date" in again.err
