"""The work on a cluster of machines: actors of Ray that hold the models, and a job for each that is idle.

Those for which there is no job are lent to the others (`corpus_builder/lending.py`). The driver alone writes the
catalog. What Ray does by itself: it places the actors, notices that one is lost, and starts it anew wherever there is
room. Its job does not wait for that: it goes back to the queue, for the next idle actor.
"""

from __future__ import annotations

import fcntl
import math
import os
import platform
import shutil
import socket
import tempfile
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from catalog.errors import PdidError, UsageError
from catalog.records import SourceResult
from corpus_builder.lending import Board, lent
from corpus_builder.plan import STAGES, Plan, make_plan
from corpus_builder.workers import SCRATCH, Job, NoRoom, attempt

if TYPE_CHECKING:
    from corpus_builder.engines import Models

ATTEMPTS = 3
"""Workers that a source may lose: nodes go away, but a source that kills its worker must come to an end."""
CONNECT_S = 10.0
START_S = 120.0
"""Seconds in which a worker is ready, where there is room for it."""
RECALL_S = 1.0
"""Seconds after which a worker that was helping is asked for again."""
PREFIX = "pdid-scratch-"


class Worker:
    """What runs on the nodes: an actor that holds the models and works on one source at a time, or helps others."""

    def __init__(self, plan: Plan, corpus: Path, sign: Path) -> None:
        self.plan, self.corpus, self.sign = plan, corpus, sign
        self.models: Models | None = None
        self.scratch: Path | None = None

    def ready(self) -> str:
        """Get ready for work; the id of this node. Raises PdidError where it would not work as the driver would."""
        from corpus_builder.engines import Models

        node = platform.node()
        if not self.sign.is_dir():
            raise PdidError(
                f"the node {node!r} does not see the corpus folder {str(self.corpus)!r}: put it on storage that all "
                f"nodes have under this path"
            )
        if self.models is None:
            mine = _own(self.plan)
            for stage in STAGES:
                if mine.hash[stage] != self.plan.hash[stage]:
                    raise PdidError(
                        f"the node {node!r} has {mine.model[stage]!r} for the stage {stage!r}, and the driver has "
                        f"{self.plan.model[stage]!r}: install the same versions and models on all nodes"
                    )
            self.models = Models(mine, threads=1, shared=partial(lent, self.sign.name))
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def work(self, job: Job) -> SourceResult:
        """`workers.attempt`, with scratch files on this node's own disk. Raises NoRoom, with this node's name."""
        models = self._models()
        try:
            self.scratch = self.scratch or own_scratch()
            return attempt(job, self.corpus, models, lambda stage, share: None, self.scratch)
        except (NoRoom, OSError) as error:
            raise NoRoom(f"on the node {platform.node()!r}: {error}") from None

    def help(self, method: str, batch: Any) -> tuple[Any, bool]:
        """What another worker asks for: a batch through a method of the models, named by a path of attributes.

        The second value, of which Ray makes an object of its own, says no more than that this has ended.
        """
        return attrgetter(method)(self._models())(batch), True

    def _models(self) -> Models:
        if self.models is None:  # Ray has started it again while it was idle
            self.ready()
        assert self.models
        return self.models


def _own(plan: Plan) -> Plan:
    """A plan for the same work with this machine's weights."""
    diarize = plan.settings.diarize.model_copy(update={"engine": plan.engine})
    return make_plan(plan.settings.model_copy(update={"diarize": diarize}), lambda line: None)


class Actors:
    """A `workers.Pool` of actors, and the board through which they help each other."""

    def __init__(self, ray: ModuleType, actors: list[Any], board: Any) -> None:
        self.ray, self.board, self.at_once = ray, board, 2 * len(actors)
        self.queue: deque[Job] = deque()
        self.losses: Counter[str] = Counter()  # workers that died, by source id
        self.no_room: defaultdict[str, dict[str, str]] = defaultdict(dict)  # source id -> id of a node -> why
        self.starting: dict[Any, float] = {}  # since when, of the actors that are getting ready
        self.nodes: dict[Any, str] = {}  # of the others
        self.idle: list[Any] = []
        self.lent: set[Any] = set()  # idle, too, and on the board
        self.calls: dict[Any, tuple[Any, Job | None]] = {}  # by Ray's reference; no job while an actor gets ready
        for actor in actors:
            self._get_ready(actor)

    @property
    def running(self) -> list[Job]:
        return [*self.queue, *(job for _, job in self.calls.values() if job)]

    @property
    def full(self) -> bool:
        return len(self.running) >= self.at_once

    def submit(self, job: Job) -> None:
        """Queue a job for the next idle actor."""
        self.queue.append(job)
        self._hand_out()

    def finished(self, wait_s: float | None) -> list[tuple[Job, SourceResult | None]]:
        """What has ended, or nothing when an actor became idle, or was lost, or `wait_s` seconds have passed.

        Raises PdidError where a node can't do the work, or no actor is left.
        """
        ended: list[tuple[Job, SourceResult | None]] = []
        wait_s = START_S if wait_s is None else wait_s
        if self.queue and self.lent:
            wait_s = min(wait_s, RECALL_S)
            if not self.calls:
                time.sleep(wait_s)
        done, _ = self.ray.wait(list(self.calls), timeout=wait_s) if self.calls else ([], [])
        for call in done:
            actor, job = self.calls.pop(call)
            try:
                result = self.ray.get(call)
            except self.ray.exceptions.RayTaskError as error:
                if not job or isinstance(error.cause, PdidError):
                    raise self._unfit(error.cause) from None
                self.idle.append(actor)
                if isinstance(error.cause, NoRoom):
                    self.no_room[job.source.source_id][self.nodes[actor]] = str(error.cause)
                    self.queue.appendleft(job)
                else:
                    why = f"unexpected {type(error.cause).__name__} in the worker: {error.cause}"
                    ended.append((job, job.failed(why)))
            except self.ray.exceptions.RayError as error:
                if job:
                    self._lost(actor, job, ended)
                    continue
                del self.starting[actor]  # it could not even be started
                if not self.calls and not self.idle and not self.lent:
                    raise self._unfit(error) from None
            else:
                self.idle.append(actor)
                if job:
                    ended.append((job, result))
                else:
                    del self.starting[actor]
                    self.nodes[actor] = result
        self._give_up(ended)
        self._hand_out()
        return ended

    def _hand_out(self) -> None:
        """Give each idle actor the first job that its node has not been too small for; lend those without a job."""
        passed_over: list[Job] = []
        if self.queue and self.lent:
            self._recall()
        while self.idle and self.queue:
            job = self.queue.popleft()
            too_small = self.no_room.get(job.source.source_id, ())
            fit = [actor for actor in self.idle if self.nodes[actor] not in too_small]
            if not fit:
                passed_over.append(job)
                continue
            self.idle.remove(fit[-1])
            # a worker has another working folder than the driver
            there = replace(job, request=replace(job.request, path=job.request.path.absolute()))
            self.calls[fit[-1].work.remote(there)] = fit[-1], job
        self.queue.extendleft(reversed(passed_over))
        if self.idle and not self.queue:
            self.board.offer.remote(self.idle)
            self.lent.update(self.idle)
            self.idle = []

    def _recall(self) -> None:
        """Take back the lent actors that help nobody at the moment."""
        try:
            home = self.ray.get(self.board.recall.remote())
        except self.ray.exceptions.RayError:  # the board's node is lost, and what it knew
            for actor in self.lent:
                self._get_ready(actor)
            self.lent.clear()
        else:
            self.idle += home
            self.lent.difference_update(home)

    def _give_up(self, ended: list[tuple[Job, SourceResult | None]]) -> None:
        """End the jobs for which every node is too small, of those that have a worker, or will have one soon."""
        nodes = set(self.nodes.values())
        if not nodes or any(time.monotonic() - since < START_S for since in self.starting.values()):
            return
        for job in [job for job in self.queue if job.source.source_id in self.no_room]:
            reasons = self.no_room[job.source.source_id]
            if nodes <= reasons.keys():
                self.queue.remove(job)
                ended.append((job, job.failed("; ".join(reasons.values()))))

    def _lost(self, actor: Any, job: Job, ended: list[tuple[Job, SourceResult | None]]) -> None:
        """An actor died, or its node: Ray starts it again, and any may do its work."""
        self.nodes.pop(actor, None)
        self.losses[job.source.source_id] += 1
        if self.losses[job.source.source_id] < ATTEMPTS:
            self.queue.appendleft(job)
        else:
            why = f"the workers on it died, {ATTEMPTS} one after the other, probably for lack of memory"
            ended.append((job, job.failed(why)))
        self._get_ready(actor)

    def _get_ready(self, actor: Any) -> None:
        """Wait for the actor, however often Ray has to start it; its work, though, is never tied to it."""
        self.starting[actor] = time.monotonic()
        self.calls[actor.ready.options(max_task_retries=-1).remote()] = actor, None

    @staticmethod
    def _unfit(error: BaseException) -> PdidError:
        if isinstance(error, PdidError):
            return PdidError(str(error))
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        return PdidError(f"no worker can be started in the cluster: install the same pdid on all nodes ({reason})")


@contextmanager
def actors(number: int, plan: Plan, corpus: Path, *, address: str | None = None, fit: bool = False) -> Iterator[Actors]:
    """`number` actors, each with a processor; where the cluster has GPUs, they share those equally.

    What finds no room waits for nodes to join, which makes an autoscaler add some; with `fit` there are no more actors
    than the cluster has processors now. `address` is of a running cluster (`host:6379`); without one, a cluster of this
    machine alone is started, and ended with the block. Actors end with the block, too, whatever they are at. Raises
    UsageError where no cluster answers, PdidError where Ray is missing.
    """
    ray = _started(address)
    sign = corpus.absolute() / SCRATCH / f"ray-{uuid.uuid4().hex}"
    started: list[Any] = []
    try:
        sign.mkdir(parents=True)
        has = ray.cluster_resources()
        number = min(number, max(1, int(has.get("CPU", 1)))) if fit else number
        gpus = has.get("GPU", 0) if plan.demucs or plan.pyannote else 0  # the other models run on processors
        remote = ray.remote(Worker).options(
            num_cpus=1,
            num_gpus=math.floor(10_000 / math.ceil(number / gpus)) / 10_000 if gpus else 0,  # as finely as Ray counts
            max_restarts=-1,
            scheduling_strategy="SPREAD",
        )
        board = ray.remote(Board).options(num_cpus=0, name=sign.name).remote()
        team = [remote.remote(plan, corpus.absolute(), sign) for _ in range(number)]
        started += [*team, board]
        yield Actors(ray, team, board)
    finally:
        for actor in started:
            with suppress(Exception):  # the connection may be gone
                ray.kill(actor)
        ray.shutdown()
        sweep_scratch()


def _started(address: str | None) -> ModuleType:
    """Ray, connected: without telemetry, dashboard and messages."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"  # what nodes say would go to standard output, among our data
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning of a change to come
    try:
        import ray
    except ImportError:
        raise PdidError("--executor ray needs Ray, which is not installed: pip install 'pdid[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        address = "local"
        options |= {"include_dashboard": False, "object_store_memory": 100 << 20}  # of batches; the disk takes more
    try:
        if ":" in address:
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()  # Ray would try for minutes
        ray.init(address, **options)
    except Exception as error:  # Ray raises that itself
        why = (str(error) or type(error).__name__).splitlines()[0]
        if address == "local":
            raise PdidError(f"Ray can't be started on this machine: {why}") from None
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({why}): give --ray-address as HOST:PORT, "
            f"as `ray start --head` prints it"
        ) from None
    return ray


def own_scratch() -> Path:
    """A new folder on this machine's disk, this process's while it lives; what dead ones left is deleted."""
    sweep_scratch()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends, however it ends
        if folder.exists():  # else another one's sweep was quicker than the lock
            return folder


def sweep_scratch() -> None:
    """Delete the scratch folders on this machine whose processes are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or in use
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
