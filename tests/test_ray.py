"""The work on a cluster: real Ray, two nodes on this machine; the rows of a run here, whatever dies."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.errors import PdidError
from catalog.records import Address, Source, SourceResult, Status
from corpus_builder import cluster
from corpus_builder.config import Settings
from corpus_builder.ingest import Outcome, ingest
from corpus_builder.plan import Plan, make_plan
from corpus_builder.sources import SourceRequest, address_of
from corpus_builder.workers import Job
from tests.conftest import MakeWav
from tests.media import EMBEDDED, Pdid, assert_whole, rows, source_of, start_pdid

pytest.importorskip("ray", reason="ray isn't installed (the extra `ray`)")

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def nodes(repository: Path) -> Iterator[Any]:
    """A cluster of two nodes with a processor each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))  # the fake below is imported there
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("HF_HUB_OFFLINE", "1")
        small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
        started: Any = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        started.add_node(**small)
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def media(make_wav: MakeWav, two_speakers: Path) -> list[Path]:
    """Four sources of a reader, or of two people."""
    clips = [f"librispeech/1688-142285-000{i}.flac" for i in range(3)]
    return [two_speakers, *(make_wav(f"{i}.wav", clip, seconds=6 + i) for i, clip in enumerate(clips))]


@pytest.fixture(scope="module")
def plan() -> Plan:
    settings = {"separate": {"mode": "never"}, "diarize": {"engine": "embedded"}}
    return make_plan(Settings.model_validate(settings), lambda line: None)


def run(media: list[Path], corpus: Path, plan: Plan, jobs: int = 1, **options: Any) -> list[Outcome]:
    requests = [SourceRequest(address_of(path), path) for path in media]
    return list(ingest(requests, corpus, plan, jobs, lambda *_: None, **options))


@pytest.fixture(scope="module")
def undisturbed(media: list[Path], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a run in this process."""
    corpus = tmp_path_factory.mktemp("undisturbed")
    assert [outcome.status for outcome in run(media, corpus, plan)] == [Status.DONE] * 4
    return rows(corpus)


def test_two_nodes_give_the_rows_of_one_process(
    nodes: Any, media: list[Path], undisturbed: Rows, tmp_path: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media[0].parent)  # the nodes' working folder is another one
    names = [path.name for path in media]
    corpus = os.path.relpath(tmp_path / "corpus")
    said = pdid(
        "ingest", *names, "--corpus", corpus, "--json", "--executor", "ray", "--ray-address", nodes.address, *EMBEDDED
    )
    assert said.code == 0, said.err
    assert {json.loads(line)["source"] for line in said.out.splitlines()} == {str(path) for path in media}
    assert rows(tmp_path / "corpus") == undisturbed
    assert_whole(tmp_path / "corpus")


def test_what_a_lost_node_was_at_is_done_by_another(
    nodes: Any, media: list[Path], undisturbed: Rows, tmp_path: Path, plan: Plan
) -> None:
    (node,) = nodes.worker_nodes
    pools: list[cluster.Actors] = []

    @contextmanager
    def loses_a_node(number: int, plan: Plan, corpus: Path) -> Iterator[cluster.Actors]:
        with cluster.actors(number, plan, corpus, address=nodes.address) as pool:
            pools.append(pool)
            finished = pool.finished

            def watched(wait_s: float | None) -> list[tuple[Job, SourceResult | None]]:
                ended = finished(wait_s)
                if node in nodes.worker_nodes and all(job for _, job in pool.calls.values()) and len(pool.calls) == 2:
                    nodes.remove_node(node, allow_graceful=False)  # both are at work
                return ended

            pool.finished = watched  # type: ignore[method-assign]
            yield pool

    try:
        outcomes = run(media, tmp_path, plan, jobs=2, pool=loses_a_node)
    finally:
        nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
    assert node not in nodes.worker_nodes
    assert sum(pools[0].losses.values()) == 1
    assert {outcome.status for outcome in outcomes} == {Status.DONE}
    assert rows(tmp_path) == undisturbed
    assert_whole(tmp_path)


class Dies(cluster.Worker):
    """Dies of one file, as of lack of memory."""

    def work(self, job: Job) -> SourceResult:
        if job.request.path.name == "1.wav":
            os._exit(9)
        return super().work(job)


def test_a_source_that_kills_its_workers_fails_alone(
    nodes: Any, media: list[Path], tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "Worker", Dies)
    monkeypatch.setattr(cluster, "ATTEMPTS", 2)  # a new worker takes some seconds
    pool = partial(cluster.actors, address=nodes.address, fit=True)
    outcomes = {o.request.path.name: o for o in run(media[1:], tmp_path, plan, jobs=64, pool=pool)}
    assert {name: o.status for name, o in outcomes.items()} == {
        "0.wav": Status.DONE,
        "1.wav": Status.FAILED,
        "2.wav": Status.DONE,
    }
    why = "the workers on it died, 2 one after the other, probably for lack of memory"
    assert source_of(tmp_path, media[2])["error"] == why
    assert_whole(tmp_path)


def test_a_worker_that_died_while_it_was_idle_works_again(
    nodes: Any, media: list[Path], tmp_path: Path, plan: Plan
) -> None:
    """Ray starts it again by itself, as one that knows nothing of what the first was told."""
    import ray

    with cluster.actors(1, plan, tmp_path, address=nodes.address) as pool:
        while not pool.lent:
            pool.finished(1.0)
        (actor,) = pool.lent
        first = ray.get(actor.__ray_call__.remote(lambda worker: os.getpid()))
        os.kill(first, signal.SIGKILL)
        while True:
            try:
                second = ray.get(actor.__ray_call__.remote(lambda worker: os.getpid()))
            except ray.exceptions.RayActorError:
                continue
            if second != first:
                break
        path = media[1]
        source = Source("0" * 16, str(path))
        job = Job(SourceRequest(str(path), path), source, None, Address(str(path), source.source_id))
        pool.submit(job)
        ended: list[tuple[Job, SourceResult | None]] = []
        while not ended:
            ended = pool.finished(1.0)
    ((_, result),) = ended
    assert result
    assert (result.source.status, result.source.error) == (Status.DONE, None)
    assert not pool.losses


@contextmanager
def noted_actors(
    pools: list[cluster.Actors], nodes: Any, number: int, plan: Plan, corpus: Path
) -> Iterator[cluster.Actors]:
    """`cluster.actors` on these nodes, added to `pools`."""
    with cluster.actors(number, plan, corpus, address=nodes.address) as pool:
        pools.append(pool)
        yield pool


class Helps(cluster.Worker):
    """Begins to work when two of them are ready, and notes what it helped with beside the corpus; one may die of it."""

    def ready(self) -> str:
        node = super().ready()
        (self.corpus.parent / f"ready-{node}").touch()
        return node

    def work(self, job: Job) -> SourceResult:
        deadline = time.monotonic() + 60
        while len(list(self.corpus.parent.glob("ready-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().work(job)

    def help(self, method: str, batch: Any) -> tuple[Any, bool]:
        (self.corpus.parent / f"helped-{method}-{time.monotonic_ns()}").touch()
        with suppress(FileNotFoundError):
            (self.corpus.parent / "die").unlink()
            os._exit(9)
        return super().help(method, batch)


@pytest.mark.parametrize("of", ["embedded", "embedded, and a helper dies", "pyannote and Demucs"])
def test_an_idle_worker_helps_with_the_batches_of_a_source(
    of: str,
    nodes: Any,
    media: list[Path],
    plan: Plan,
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if of == "pyannote and Demucs":
        monkeypatch.setenv("PDID_MODELS", str(models_dir))  # the nodes have it from the time they were started
        settings = {"separate": {"mode": "always"}, "diarize": {"engine": "pyannote"}}
        plan = make_plan(Settings.model_validate(settings), lambda line: None)
    source = media[3:] if plan.demucs else media[:1]  # eight seconds, or forty
    pools: list[cluster.Actors] = []
    noted = partial(noted_actors, pools, nodes)
    alone = run(source, tmp_path / "alone" / "corpus", plan, jobs=1, pool=noted)
    monkeypatch.setattr(cluster, "Worker", Helps)
    if "dies" in of:
        (tmp_path / "die").touch()
    together = run(source, tmp_path / "corpus", plan, jobs=2, pool=noted)
    helped = {file.name.split("-")[1] for file in tmp_path.glob("helped-*")}
    assert ("separator.run" if plan.demucs else "diarizer.encoder.hear") in helped
    assert not (tmp_path / "die").exists()
    assert not pools[1].losses  # a helper's death is no loss of the source's
    assert [outcome.status for outcome in alone + together] == [Status.DONE] * 2
    assert rows(tmp_path / "corpus") == rows(tmp_path / "alone" / "corpus")
    assert_whole(tmp_path / "corpus")


class LacksRoom(cluster.Worker):
    """Lacks what a file in the corpus folder says on the nodes that it names; the others let them try first."""

    def work(self, job: Job) -> SourceResult:
        import ray

        nodes = json.loads((self.corpus / "lacking").read_text())
        lack = nodes.get(ray.get_runtime_context().get_node_id())
        tried = self.corpus / "tried"
        if lack:
            tried.touch()
        deadline = time.monotonic() + 60
        while not tried.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if lack == "disk":
            self.scratch = self.scratch or cluster.own_scratch()
            there = self.scratch / job.source.source_id
            there.mkdir(exist_ok=True)
            (there / "mix.f32").symlink_to("/dev/full")
        elif lack == "memory":
            assert self.models
            self.models.__dict__["speech"] = lambda *_: np.empty(1 << 60, np.uint8)
        return super().work(job)


def test_where_one_node_has_no_room_another_does_the_work(
    nodes: Any, media: list[Path], undisturbed: Rows, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none has, the reasons are in the catalog, and the next run does it."""
    pools: list[cluster.Actors] = []
    noted = partial(noted_actors, pools, nodes)
    monkeypatch.setattr(cluster, "Worker", LacksRoom)
    one, other = (node.node_id for node in nodes.list_all_nodes())
    (tmp_path / "lacking").write_text(json.dumps({one: "disk", other: "memory"}))
    assert [outcome.status for outcome in run(media[1:3], tmp_path, plan, jobs=2, pool=noted)] == [Status.FAILED] * 2
    here = f"on the node '{platform.node()}': "
    for path in media[1:3]:
        error = source_of(tmp_path, path)["error"]
        assert error.count(here) == 2
        assert f"{here}No space left on device (while in stage 'decode', in '" in error
        assert f"{here}out of memory in stage 'vad': close other programs, or use fewer --jobs" in error
    (tmp_path / "tried").unlink()
    (tmp_path / "lacking").write_text(json.dumps({one: "disk"}))
    outcomes = run(media, tmp_path, plan, jobs=2, pool=noted)
    assert {node for tried in pools[1].no_room.values() for node in tried} == {one}
    assert {outcome.status for outcome in outcomes} == {Status.DONE}
    assert rows(tmp_path) == undisturbed
    assert_whole(tmp_path)


def test_after_the_driver_is_killed_a_rerun_finishes(
    nodes: Any, media: list[Path], undisturbed: Rows, tmp_path: Path, pdid: Pdid
) -> None:
    on_ray = ("--executor", "ray", "--ray-address", nodes.address)
    process = start_pdid("ingest", *media, "--corpus", tmp_path, *on_ray, *EMBEDDED)
    read_until_one_is_done(process)
    process.kill()
    process.communicate()
    again = pdid("ingest", *media, "--corpus", tmp_path, *EMBEDDED)  # how it is run makes no difference
    assert again.code == 0, again.err
    assert re.search(r"[1-3] up to date", again.err)
    assert rows(tmp_path) == undisturbed
    assert_whole(tmp_path)


def test_ctrl_c_ends_the_cluster_that_the_run_started(media: list[Path], undisturbed: Rows, tmp_path: Path) -> None:
    away = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"TMPDIR": str(tmp_path)}
    away["RAY_TMPDIR"] = "/tmp"  # its sockets want short names
    process = start_pdid(
        "ingest", *media, "--corpus", tmp_path / "corpus", "--executor", "ray", "--jobs", 2, *EMBEDDED,
        start_new_session=True, env=away,
    )  # fmt: skip
    read_until_one_is_done(process)
    family = descendants(process.pid)
    assert any("raylet" in name for name in family.values())
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {pid: name for pid, name in family.items() if alive(pid)} == {}
    assert not list(tmp_path.glob(f"{cluster.PREFIX}*"))
    assert not (tmp_path / "corpus" / ".scratch").exists()
    there = rows(tmp_path / "corpus")
    assert there
    assert there == {source_id: undisturbed[source_id] for source_id in there}


def read_until_one_is_done(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("[1/"):
            return
    pytest.fail(f"the run ended before it had done anything: {said}")


def descendants(pid: int) -> Mapping[int, str]:
    """All processes that a process has started, and theirs, with their command lines."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc, which is Linux's")
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= descendants(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_wrong_addresses_are_usage_errors(talk: Path, tmp_path: Path, pdid: Pdid) -> None:
    for address in ("127.0.0.1:1", "nowhere"):
        said = pdid("ingest", talk, "--corpus", tmp_path, "--executor", "ray", "--ray-address", address, *EMBEDDED)
        assert said.code == 2
        assert f"no Ray cluster answers at '{address}'" in said.err
        assert "give --ray-address as HOST:PORT" in said.err
    said = pdid("ingest", talk, "--corpus", tmp_path, "--ray-address", "127.0.0.1:1", *EMBEDDED)
    assert said.code == 2
    assert "--ray-address goes with --executor ray" in said.err


def test_without_ray_the_message_says_how_to_get_it(
    talk: Path, tmp_path: Path, pdid: Pdid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = pdid("ingest", talk, "--corpus", tmp_path, "--executor", "ray", *EMBEDDED)
    assert said.code == 1
    assert "pip install 'pdid[ray]'" in said.err


def test_a_node_that_would_work_otherwise_is_not_used(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(PdidError, match="does not see the corpus folder"):
        cluster.Worker(plan, tmp_path, tmp_path / "sign").ready()
    other = replace(plan, hash={**plan.hash, "vad": "0" * 12}, model={**plan.model, "vad": "silero-vad-1.0"})
    with pytest.raises(PdidError, match=r"and the driver has 'silero-vad-1.0': install the same versions"):
        cluster.Worker(other, tmp_path, tmp_path).ready()


def test_scratch_of_dead_workers_is_deleted_and_of_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{cluster.PREFIX}dead"
    left.mkdir()
    (left / "mix.f32").write_bytes(b"sound")
    mine = cluster.own_scratch()
    assert mine.parent == tmp_path
    assert not left.exists()
    cluster.sweep_scratch()
    assert list(tmp_path.iterdir()) == [mine]
