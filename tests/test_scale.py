"""Bad input and bad machines at scale: nothing is lost, nothing written twice, and the reason is in the catalog."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog import rows as catalog_rows
from catalog.records import Address, Source, SourceResult, Status
from catalog.resolve import resolve
from catalog.store import open_catalog
from corpus_builder import pipeline, segment, workers
from corpus_builder.config import Settings
from corpus_builder.ingest import Outcome, ingest
from corpus_builder.plan import Plan, make_plan
from corpus_builder.sources import SourceRequest, address_of
from tests.conftest import MakeWav
from tests.media import EMBEDDED, Pdid, assert_whole, finished, query, rows, source_of, start_pdid

Rows = dict[str, dict[str, Any]]

SETTINGS: dict[str, Any] = {"separate": {"mode": "never"}, "diarize": {"engine": "embedded"}}
RECORD = "record"
POISON = "0950.wav"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Settings.model_validate(SETTINGS), lambda line: None)


def run(media: list[Path], corpus: Path, plan: Plan, jobs: int = 1) -> list[Outcome]:
    requests = [SourceRequest(address_of(path), path) for path in media]
    return list(ingest(requests, corpus, plan, jobs, lambda *_: None))


@pytest.fixture(scope="module")
def media(make_wav: MakeWav) -> list[Path]:
    """Five sources of a reader, the first the shortest."""
    return [make_wav(f"s{i}.wav", f"librispeech/1688-142285-000{i}.flac", seconds=5 + i) for i in range(5)]


@pytest.fixture(scope="module")
def undisturbed(media: list[Path], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of `media`, made in peace. Never change it."""
    corpus = tmp_path_factory.mktemp("undisturbed")
    assert [outcome.status for outcome in run(media, corpus, plan)] == [Status.DONE] * 5
    return corpus


# One among a thousand. The work is a recorded result, given out anew; all else is as it is.


@pytest.fixture
def thousand(undisturbed: Path, tmp_path: Path) -> list[Path]:
    """A thousand files of different bytes, no sound in them; beside them lies what was recorded for the work on one."""
    folder = tmp_path / "media"
    folder.mkdir()
    with open_catalog(undisturbed) as catalog:
        source_id = max(source.source_id for source in catalog.sources() if _clips(undisturbed, source.source_id))
        result = catalog.result(source_id)
    assert result
    (folder / RECORD).write_bytes(pickle.dumps((undisturbed, result)))
    media = [folder / f"{i:04}.wav" for i in range(1000)]
    for path in media:
        path.write_text(path.name)
    return media


def _clips(corpus: Path, source_id: str) -> list[Path]:
    return sorted((corpus / "clips" / source_id).glob("*.wav"))


def _start_without_models(plan: Plan, corpus: Path, threads: int) -> None:
    workers._process_corpus = corpus


def _given_out_again(job: workers.Job) -> SourceResult:
    """Runs in the worker processes: the module is imported there by name."""
    folder = job.request.path.parent
    with (folder / "log").open("a") as log:
        log.write(f"{job.request.path.name}\n")
    if job.request.path.name == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return _recorded(job, workers._process_corpus)


def _recorded(job: workers.Job, into: Path) -> SourceResult:
    """What was recorded, as of this job; its clips are on disk."""
    corpus, recorded = pickle.loads((job.request.path.parent / RECORD).read_bytes())
    old, new = recorded.source.source_id, job.source.source_id

    def renamed(row: Any) -> Any:
        told = {"source_id": new}
        for name in ("segment_id", "speaker_id", "path"):
            if getattr(row, name, None):
                told[name] = str(getattr(row, name)).replace(old, new)
        if "segment_id" in told:  # content hashes do not name the source
            told["segment_id"] = f"{new[:8]}{row.segment_id[:8]}"
            told["path"] = row.path and f"clips/{new}/{told['segment_id']}.wav"
        return replace(row, **told)

    pieces = [renamed(piece) for piece in recorded.segments]
    for piece, before in zip(pieces, recorded.segments, strict=True):
        if piece.kept:
            target = into / piece.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / before.path, target)
    source = replace(
        job.source, status=Status.DONE, n_samples=recorded.source.n_samples, sample_rate=recorded.source.sample_rate
    )
    stages = tuple(map(renamed, recorded.stages))
    voices = tuple(map(renamed, recorded.voices))
    return SourceResult(source, job.addresses, stages, recorded.marks, voices, tuple(pieces))


def _as_by_an_earlier_run(media: list[Path], corpus: Path) -> None:
    """Put sources into the catalog as done, all in one transaction: one for each would take minutes."""
    results = []
    for path in media:
        sha256, stat = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat()
        address = Address(str(path), sha256[:16], stat.st_size, stat.st_mtime_ns)
        source = Source(sha256[:16], str(path), sha256=sha256)
        results.append(_recorded(workers.Job(SourceRequest(str(path), path), source, None, address), corpus))
    with open_catalog(corpus, write=True) as catalog, catalog.transaction():
        to = catalog.connection
        catalog_rows.insert(to, catalog_rows.INSERT_SOURCE, [catalog_rows.source_row(r.source) for r in results])
        addresses = [catalog_rows.address_row(address) for r in results for address in r.addresses]
        catalog_rows.insert(to, catalog_rows.INSERT_ADDRESS, addresses)
        stages = [catalog_rows.stage_row(stage) for r in results for stage in r.stages]
        catalog_rows.insert(to, catalog_rows.INSERT_STAGE, stages)
        marks = [catalog_rows.mark_row(r.source.source_id, mark) for r in results for mark in r.marks]
        catalog_rows.insert(to, catalog_rows.INSERT_MARK, marks)
        voices = [catalog_rows.voice_row(voice) for r in results for voice in r.voices]
        catalog_rows.insert(to, catalog_rows.INSERT_VOICE, voices)
        pieces = [catalog_rows.segment_row(piece) for r in results for piece in r.segments]
        catalog_rows.insert(to, catalog_rows.INSERT_SEGMENT, pieces)
        resolve(to, [r.source.source_id for r in results])


def test_one_poisoned_source_among_a_thousand(
    thousand: list[Path], tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kills its worker whenever it is tried: 999 are done, one is explained, and a rerun tries that one alone.

    Nine hundred of them were done by an earlier run.
    """
    monkeypatch.setattr(workers, "_start_process", _start_without_models)
    monkeypatch.setattr(workers, "work_in_process", _given_out_again)
    corpus, log = tmp_path / "corpus", tmp_path / "media" / "log"
    _as_by_an_earlier_run(thousand[:900], corpus)
    earlier = rows(corpus)
    outcomes = run(thousand, corpus, plan, jobs=2)
    assert Counter((outcome.status, outcome.fresh) for outcome in outcomes) == {
        (Status.DONE, False): 900,
        (Status.DONE, True): 99,
        (Status.FAILED, True): 1,
    }
    assert len({outcome.source_id for outcome in outcomes}) == 1000
    why = "the process working on it died, probably for lack of memory"
    assert source_of(corpus, thousand[950])["error"] == why
    assert query(corpus, "SELECT status, count(*) FROM sources GROUP BY status ORDER BY status") == [
        ("done", 999),
        ("failed", 1),
    ]
    begun = Counter(log.read_text().split())
    assert begun.keys() == {path.name for path in thousand[900:]}
    assert begun[POISON] == 2  # with others, and alone
    assert sum(begun.values()) <= 100 + 4  # and the others that its death took along, again: at most two for each job
    assert_whole(corpus)
    before, log_before = rows(corpus), log.read_text()
    assert {source_id: before[source_id] for source_id in earlier} == earlier
    again = run(thousand, corpus, plan, jobs=2)
    assert Counter(outcome.fresh for outcome in again) == {False: 999, True: 1}
    assert log.read_text() == log_before + f"{POISON}\n" * 2
    assert rows(corpus) == before
    assert_whole(corpus)


# Real audio, real workers.


def test_a_worker_killed_amid_its_work_costs_nothing(media: list[Path], undisturbed: Path, tmp_path: Path) -> None:
    """As the system kills the biggest process when memory is short: at any moment, whatever it is at."""
    corpus = tmp_path / "corpus"
    process = start_pdid("ingest", *media, "--corpus", corpus, "--jobs", 2, *EMBEDDED)
    try:
        deadline = time.monotonic() + 120
        while not any(corpus.glob(".scratch/*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(random.choice(_workers_of(process.pid)), signal.SIGKILL)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert rows(corpus) == rows(undisturbed)
    assert_whole(corpus)


def _workers_of(pid: int) -> list[int]:
    """Processes of multiprocessing's that a process has started, its resource tracker aside."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc, which is Linux's")
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize("take", [lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8)])
def test_memory_that_is_not_to_be_had_fails_its_source_alone(
    media: list[Path], undisturbed: Path, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch,
    take: Callable[[], object],
) -> None:  # fmt: skip
    """numpy and torch have errors of their own for it."""
    real = segment.cut

    def greedy(findings: Any, settings: Any) -> Any:
        if findings.n_samples == 6 * 16_000:
            take()
        return real(findings, settings)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "cut", greedy)
        outcomes = run(media[:3], tmp_path, plan)
    assert [outcome.status for outcome in outcomes] == [Status.DONE, Status.FAILED, Status.DONE]
    why = "out of memory in stage 'segment': close other programs, or use fewer --jobs"
    assert source_of(tmp_path, media[1])["error"] == why
    assert_whole(tmp_path)
    assert [outcome.fresh for outcome in run(media, tmp_path, plan)] == [False, True, False, True, True]
    assert rows(tmp_path) == rows(undisturbed)
    assert_whole(tmp_path)


def test_the_longest_come_first_where_several_work(media: list[Path], undisturbed: Path, tmp_path: Path) -> None:
    """Begun last, a long one would leave the other workers idle."""
    corpus = Path(shutil.copytree(undisturbed, tmp_path / "corpus"))
    handed: list[str] = []
    requests = [SourceRequest(address_of(path), path) for path in media]
    settings = Settings.model_validate(SETTINGS | {"segment": {"max_s": 12.0}})  # which changes every source

    def watch(request: SourceRequest, stage: str, share: float) -> None:
        if stage == "queued":
            handed.append(request.path.name)

    new = tmp_path / "new.wav"
    new.write_bytes(b"no sound")
    requests.insert(0, SourceRequest(address_of(new), new))
    outcomes = list(ingest(requests, corpus, make_plan(settings, lambda line: None), 2, watch))
    assert Counter(outcome.status for outcome in outcomes) == {Status.DONE: 5, Status.FAILED: 1}
    assert handed == [*(path.name for path in reversed(media)), "new.wav"]


# Clocks that are wrong.


class Clock(datetime):
    """A clock that is off."""

    off = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + cls.off


@pytest.mark.parametrize("years", [-30, 30])
def test_wrong_clocks_change_nothing(
    media: list[Path], undisturbed: Path, tmp_path: Path, plan: Plan, pdid: Pdid, monkeypatch: pytest.MonkeyPatch,
    years: int,
) -> None:  # fmt: skip
    """Of the machine that holds the media, of a worker's: nothing is done twice, nothing is taken for done."""
    folder = tmp_path / "media"
    folder.mkdir()
    moved = [Path(shutil.copy(path, folder)) for path in media[:3]]
    stamps = (0, 4_000_000_000, int(time.time()))
    for path, stamp in zip(moved, stamps, strict=True):
        os.utime(path, (stamp, stamp))
    monkeypatch.setattr(pipeline, "datetime", Clock)
    monkeypatch.setattr(Clock, "off", timedelta(days=365 * years))
    corpus = tmp_path / "corpus"
    assert [outcome.status for outcome in run(moved, corpus, plan)] == [Status.DONE] * 3
    done = finished(corpus)
    assert {round((when - datetime.now(UTC).replace(tzinfo=None)).days / 365) for when in done.values()} == {years}
    expected = rows(undisturbed)
    assert {i: found["segments"] for i, found in rows(corpus).items()} == {
        i: expected[i]["segments"] for i in rows(corpus)
    }
    monkeypatch.setattr(Clock, "off", timedelta())
    assert [outcome.fresh for outcome in run(moved, corpus, plan)] == [False] * 3
    for path, stamp in zip(moved, reversed(stamps), strict=True):  # copied by a machine with another clock
        os.utime(path, (stamp, stamp))
    assert [outcome.fresh for outcome in run(moved, corpus, plan)] == [False] * 3
    assert finished(corpus) == done
    # a changed rule redoes the last stage of each, once, and its time is the right one then
    changed = make_plan(Settings.model_validate(SETTINGS | {"keep": {"min_snr_db": 1.0}}), lambda line: None)
    assert [outcome.fresh for outcome in run(moved, corpus, changed)] == [True] * 3
    redone = {stage for stage, when in finished(corpus).items() if when != done[stage]}
    assert redone == {(source_id, "quality") for source_id in rows(corpus)}
    assert [outcome.fresh for outcome in run(moved, corpus, changed)] == [False] * 3
    assert_whole(corpus)
