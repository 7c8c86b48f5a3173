"""What each step costs on a big catalog: rows as `pdid ingest` makes them, without sound.

    python -m benchmarks.big_catalog [SOURCES=200000] [FOLDER] [STEP...]

Fills a catalog with SOURCES recordings of three minutes, 25 pieces to each, ten of them kept: 200,000 recordings are
5,000,000 pieces, 2,000,000 clips, 10,000 hours. Then runs every step in a process of its own, and prints one table with
its wall time (whole commands from start to end), the processors' time and that process's peak memory. The catalog lies
in a temporary folder, or in FOLDER, where it stays and is used again (with the same models at hand, else the second run
finds other settings); with STEPs, names as in the table or their
beginnings, only those are run, and "pdid speakers link", which compares all voices with all others, is run only so.
Clips are empty files here, and recordings hold a few bytes: `clip files` makes the first, without which a second run
would process everything again and an export has nothing to hash. The clips' fingerprints are there, as a `pdid split`
leaves them; how long near-duplicates take to find is for `benchmarks.duplicates` to tell.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.big_rows import SECOND_RUN, WHEN, bulk_write, said_of, sha256_of, tape
from catalog.annotations import write_links
from catalog.duplicates import write_fingerprints
from catalog.named import named_queries
from catalog.records import Duplicate, Removal
from catalog.removals import refuse
from catalog.resolve import resolve
from catalog.speakers import links_are_due
from catalog.store import open_catalog
from corpus_builder.config import Settings
from corpus_builder.fingerprint import METHOD
from corpus_builder.plan import make_plan

BLOCK = 1000  # recordings written in one transaction


# ---------------------------------------------------------------- filling


def fill(corpus: Path, sources: int) -> None:
    """Make the catalog, and print what was written how fast; the making of the rows doesn't count."""
    plan = make_plan(Settings(), lambda line: None)
    for n in range(min(sources, SECOND_RUN)):
        file = tape(corpus, n)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"tape {n}")
    people: dict[str, str] = {}
    sounds: list[str] = []  # a clip of each recording
    n_rows, pieces = 0, 0
    rates: list[tuple[int, float]] = []  # rows and seconds of each transaction
    with open_catalog(corpus, write=True) as catalog:
        for first in range(0, sources, BLOCK):
            said = [said_of(n, corpus, plan) for n in range(first, min(first + BLOCK, sources))]
            start = time.perf_counter()
            written = bulk_write(catalog, said)
            rates.append((written, time.perf_counter() - start))
            n_rows += written
            pieces += sum(len(one.result.segments) for one in said)
            for one in said:
                people |= one.people
                sounds += [piece.segment_id for piece in one.result.segments if piece.kept][:1]
            print(f"  {first + len(said)} recordings, {_rate(rates[-1:]):.0f} rows/s", file=sys.stderr, flush=True)
        first_of: dict[str, str] = {}
        for local, person in sorted(people.items()):
            first_of.setdefault(person, local)
        write_links(catalog, {local: first_of[person] for local, person in people.items()})
        pairs = [Duplicate(*sorted(two), 5.0, 0.9) for two in zip(sounds[::100], sounds[1::100], strict=False)]
        write_fingerprints(catalog, METHOD, {}, pairs)
        with catalog.transaction():  # `pdid split` asks whether they are there, no more
            catalog.connection.execute(
                "INSERT INTO base.fingerprint SELECT segment_id, ?, [1, 2, 3, 4] FROM base.segment WHERE kept", [METHOD]
            )
        gone = [
            Removal(f"https://tube.example/gone/{k}", f"{k:016x}", None, None, None, "asked", WHEN) for k in range(99)
        ]
        refuse(catalog, gone)
        start = time.perf_counter()
    closing = time.perf_counter() - start
    size = (corpus / "catalog.duckdb").stat().st_size / 1e9
    seconds = sum(taken for _, taken in rates)
    note = (
        f"{_rate(rates):.0f} rows/s, the last ten transactions {_rate(rates[-10:]):.0f}; {n_rows} rows, {pieces} pieces"
    )
    _say(seconds, f"{note}; closing {closing:.1f} s; {size:.2f} GB")


def _rate(written: list[tuple[int, float]]) -> float:
    """Rows a second."""
    return sum(n for n, _ in written) / sum(seconds for _, seconds in written)


# ---------------------------------------------------------------- steps, each in a process of its own


def _say(seconds: float, note: str = "") -> None:
    """What a step's process tells of itself."""
    print(json.dumps({"seconds": seconds, "note": note}))


def opening(corpus: Path) -> None:
    found = []
    for write in (False, True):
        start = time.perf_counter()
        with open_catalog(corpus, write=write):
            found.append(time.perf_counter() - start)
        found.append(time.perf_counter() - start)
    _say(found[1], f"open and close, for reading; for writing {found[3]:.3f} s")


def query(corpus: Path, name: str) -> None:
    """The whole answer, as Python's values; @NAME prints no faster than its rows are many."""
    sql = named_queries()[name].sql
    with open_catalog(corpus) as catalog:
        start = time.perf_counter()
        answer = catalog.query(sql).rows
        n = next((1 for _ in answer), 0)
        first = time.perf_counter() - start
        n += sum(1 for _ in answer)
        _say(first, f"{n} rows, all read after {time.perf_counter() - start:.2f} s")


def write_one(corpus: Path) -> None:
    """Opening, committing and closing, as the committer does for each recording."""
    plan = make_plan(Settings(), lambda line: None)
    with open_catalog(corpus) as catalog:
        sources = catalog.all("SELECT count(*) FROM base.source")[0][0]
    found: list[float] = []
    for n in (sources, 0, sources // 2, sources, 1):  # a new one, then ones that are there
        result = said_of(n, corpus, plan).result
        start = time.perf_counter()
        with open_catalog(corpus, write=True) as catalog:
            catalog.write_source(result)
            committed = time.perf_counter() - start
        found.append(time.perf_counter() - start)
        print(f"  {committed:.3f} {found[-1]:.3f}", file=sys.stderr)
    _say(found[0], f"a new one; one that is there {', '.join(f'{s:.2f}' for s in found[1:])} s")


def resolve_one(corpus: Path) -> None:
    with open_catalog(corpus, write=True) as catalog:
        (source_id,) = catalog.all("SELECT max(source_id) FROM base.source")[0]
        start = time.perf_counter()
        with catalog.transaction():
            resolve(catalog.connection, [source_id])
        _say(time.perf_counter() - start)


def read_one(corpus: Path) -> None:
    with open_catalog(corpus) as catalog:
        (source_id,) = catalog.all("SELECT max(source_id) FROM base.source")[0]
        start = time.perf_counter()
        found = catalog.result(source_id)
        assert found
        _say(time.perf_counter() - start, f"{len(found.segments)} pieces, {len(found.marks)} marks")


def links_due(corpus: Path) -> None:
    with open_catalog(corpus) as catalog:
        start = time.perf_counter()
        due = links_are_due(catalog)
        _say(time.perf_counter() - start, "links are due" if due else "links are not due")


def label_file(corpus: Path) -> None:
    """A table that gives the first clips of a thousand recordings their recording's accent once more."""
    start = time.perf_counter()
    with open_catalog(corpus) as catalog:
        asked = "SELECT min(segment_id), any_value(accent) FROM segments WHERE kept AND accent <> '' GROUP BY source_id"
        found = catalog.query(f"{asked} ORDER BY 1 LIMIT 1000").rows
        lines = [f"{segment_id},{accent},Maryam" for segment_id, accent in found]
    _labels(corpus).write_text("\n".join(["segment_id,accent,author", *lines, ""]))
    _say(time.perf_counter() - start)


def _labels(corpus: Path) -> Path:
    return corpus / "labels.csv"


def clip_files(corpus: Path) -> None:
    """An empty file for every clip: what an export and a second run look for."""
    start = time.perf_counter()
    with open_catalog(corpus) as catalog:
        for (source_id,) in catalog.query("SELECT source_id FROM base.source").rows:
            (corpus / "clips" / source_id).mkdir(parents=True, exist_ok=True)
        for (path,) in catalog.query("SELECT path FROM base.segment WHERE kept").rows:
            os.close(os.open(corpus / path, os.O_CREAT | os.O_WRONLY))
    _say(time.perf_counter() - start)


IN_PROCESS = {
    "opening": opening,
    "write one recording": write_one,
    "resolve one recording": resolve_one,
    "read one recording": read_one,
    "links are due?": links_due,
    "label file": label_file,
    "clip files": clip_files,
}


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the table: what runs, and how long it may take."""

    name: str
    command: list[str]  # of `pdid`, or after this module's name
    bound_s: float | None = None
    is_pdid: bool = True
    only_asked: bool = False  # it takes long


def steps(corpus: Path, small: Path, out: Path) -> Iterator[Step]:
    """All steps, in the order they need each other; `small` is a corpus of SECOND_RUN recordings, or the same."""
    here = ["--corpus", str(corpus)]
    bounds = {"links are due?": 1.0, "write one recording": 1.0}
    for name in ("opening", "links are due?", "write one recording", "resolve one recording", "read one recording"):
        yield Step(name, ["--step", name, str(corpus)], bounds.get(name), False)
    yield Step("pdid split", ["split", *here], 60.0)
    yield Step("pdid split --check", ["split", "--check", *here], 60.0)
    for name in named_queries():
        yield Step(f"@{name}", ["--step", f"@{name}", str(corpus)], 1.0, False)
    yield Step("pdid status", ["status", *here], 1.0)
    yield Step("pdid sql", ["sql", "SELECT count(*) FROM segments WHERE kept", *here], 1.0)
    yield Step("pdid label export", ["label", "export", str(out / "tasks"), "--sample", "200", *here])
    yield Step("label file", ["--step", "label file", str(corpus)], None, False)
    yield Step("pdid label import, 1000 labels", ["label", "import", str(_labels(corpus)), *here])
    yield Step("pdid report", ["report", *here])
    yield Step("clip files", ["--step", "clip files", str(corpus)], None, False)
    yield Step("second run", ["ingest", *map(str, folders(small)), "--corpus", str(small)], 10.0)
    if small != corpus:
        yield Step("second run, of the same in the full catalog", ["ingest", *map(str, folders(corpus)), *here])
    yield Step("pdid export --format metadata", ["export", "--format", "metadata", str(out / "release"), *here])
    yield Step("pdid remove", ["remove", sha256_of(random.Random(7))[:16], "--reason", "asked", *here])
    yield Step("pdid speakers link", ["speakers", "link", *here], only_asked=True)


def folders(corpus: Path) -> list[Path]:
    """Where the first SECOND_RUN recordings lie."""
    return [tape(corpus, n).parent for n in range(100)]


def measured(step: Step) -> str:
    """Run a step; its line of the table."""
    pdid = [str(Path(sys.executable).with_name("pdid"))]
    command = pdid if step.is_pdid else [sys.executable, "-m", "benchmarks.big_catalog"]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*command, *step.command], stdout=said, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        errors.seek(0)
        output, last = said.read(), errors.read().strip().split("\n")[-1]
    seconds, note = wall, last if step.is_pdid else ""
    if not step.is_pdid and process.returncode == 0:
        told = json.loads(output.splitlines()[-1])
        seconds, note = told["seconds"], told["note"]
    if process.returncode:
        note = f"exit {process.returncode}: {last}"
    late = step.bound_s is not None and seconds > step.bound_s
    bound = "" if step.bound_s is None else f"{step.bound_s:g}"
    busy, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    mark = " **over**" if late or peak > 4 else ""
    return f"| {step.name} | {seconds:.2f}{mark} | {bound} | {busy:.1f} | {peak:.2f} | {note[:150]} |"


def main(sources: int, folder: Path | None, chosen: list[str]) -> None:
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} processors, load before the start {load}; {sources} recordings\n")
    print("| step | wall s | wanted s | processor s | peak GiB | |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = (folder or Path(temporary) / "corpus").resolve()
        small = corpus if sources <= SECOND_RUN else corpus.with_name(f"{corpus.name}-{SECOND_RUN}")
        if not (corpus / "catalog.duckdb").exists():
            print(measured(Step("bulk append", ["--step", "fill", str(corpus), str(sources)], None, False)), flush=True)
        for step in steps(corpus, small, Path(temporary)):
            named = any(step.name.removeprefix("@").startswith(name.removeprefix("@")) for name in chosen)
            if not named and (chosen or step.only_asked):
                continue
            if step.name == "second run" and not (small / "catalog.duckdb").exists():
                measured(Step("", ["--step", "fill", str(small), str(SECOND_RUN)], None, False))
                measured(Step("", ["--step", "clip files", str(small)], None, False))
            print(measured(step), flush=True)


def step_of(name: str, corpus: Path, *more: str) -> None:
    """One step, in this process."""
    if name == "fill":
        fill(corpus, int(more[0]))
    elif name.startswith("@"):
        query(corpus, name.removeprefix("@"))
    else:
        IN_PROCESS[name](corpus)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        step_of(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
    else:
        words = sys.argv[1:]
        main(int(words[0]) if words else 200_000, Path(words[1]) if words[1:] else None, words[2:])
