"""What each step costs on a big catalog: rows as `pdid ingest` makes them, without sound.

    python -m benchmarks.big_catalog [SOURCES=200000] [FOLDER] [STEP...]

Fills a catalog with SOURCES recordings of three minutes, 25 pieces to each, ten of them kept: 200,000 recordings are
5,000,000 pieces, 2,000,000 clips, 10,000 hours. Then runs every step in a process of its own, and prints one table with
its wall time (whole commands from start to end), the processors' time and that process's peak memory. The catalog lies
in a temporary folder, or in FOLDER, where it stays and is used again; with STEPs, names as in the table or their
beginnings, only those are run. Clips are empty files here, and recordings hold a few bytes.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from catalog import rows
from catalog.annotations import write_judgements, write_links
from catalog.duplicates import write_fingerprints
from catalog.named import named_queries
from catalog.records import (
    RATE,
    Address,
    Duplicate,
    Fetch,
    Label,
    LabelOrigin,
    Mark,
    Reject,
    Removal,
    Scope,
    Segment,
    Source,
    SourceResult,
    SpeakerVoice,
    Stage,
    Status,
    Transcript,
)
from catalog.removals import refuse
from catalog.resolve import resolve
from catalog.speakers import links_are_due
from catalog.store import Catalog, open_catalog
from corpus_builder.config import Settings
from corpus_builder.fingerprint import METHOD
from corpus_builder.plan import Plan, make_plan

ACCENTS = ("Yazdi", "Lori", "Shomali", "Jonubi", "Kurdish", "Mashhadi", "Isfahani", "Shirazi", "Tajiki", "Balochi")
LICENCES = ("CC BY 4.0", "CC0", "broadcast; research use", None)
REASONS = (Reject.SILENCE, Reject.MUSIC, Reject.TOO_SHORT, Reject.OVERLAP, Reject.MUSIC_UNSEPARATED, Reject.NOISY)
WORDS = "این یک متن است که کسی در رادیو گفته و کسی دیگر آن را نوشته است".split()
PIECES, KEPT = 25, 10  # of a recording of three minutes
PROGRAMME = 10  # recordings of one channel, whose speakers are heard in several of them
BLOCK = 1000  # recordings written in one transaction
SECOND_RUN = 10_000  # recordings whose files are there
WHEN = datetime(2026, 5, 1, tzinfo=UTC)


# ---------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Said:
    """A recording with all that the catalog holds of it."""

    result: SourceResult
    labels: list[Label]
    transcripts: list[Transcript]
    people: dict[str, str]  # local speaker id -> who that is


def said_of(n: int, corpus: Path, plan: Plan) -> Said:
    """The `n`th recording; the same one each time."""
    dice = random.Random(n)
    sha256 = f"{dice.getrandbits(256):064x}"
    source_id = sha256[:16]
    file = corpus / "tape" / f"{n % 100:02d}" / f"{n}.wav"
    address = Address(str(file), source_id)
    if n < SECOND_RUN and (there := _stat(file)):
        address = Address(str(file), source_id, there.st_size, there.st_mtime_ns)
    programme = n // PROGRAMME
    failed = n % 500 == 499
    source = Source(
        source_id,
        address.uri,
        sha256=sha256,
        title=f"گفت‌وگو {n}",
        accent=ACCENTS[programme % 10] if dice.random() < 0.9 else None,
        speaker=f"person {programme}" if dice.random() < 0.2 else None,
        language="fa",
        licence=LICENCES[programme % 4],
        channel=f"channel {programme}" if dice.random() < 0.7 else None,
        uploaded_at=WHEN - timedelta(days=dice.randrange(3000)),
        n_samples=None if failed else 180 * RATE,
        sample_rate=44_100,
        channels=2,
        codec="aac",
        bandwidth_hz=dice.uniform(4000, 16_000),
        status=Status.FAILED if failed else Status.DONE,
        error="the file holds no sound" if failed else None,
        extra={"row": str(n)},
        accent_raw=ACCENTS[programme % 10],
    )
    if failed:
        return Said(SourceResult(source, (address,)), [], [], {})
    speakers = [f"{source_id}-S{k}" for k in (1, 2)]
    segments, marks, texts = [], [], []
    for k in range(PIECES):
        start = k * 7 * RATE
        stop = start + int(dice.uniform(3, 7) * RATE)
        name = f"{dice.getrandbits(64):016x}"
        kept = (k * KEPT) % PIECES < KEPT
        who = None if not kept and k % 3 else speakers[k % 7 < 3]
        measured = {"snr_db": dice.gauss(20, 5), "clipped_share": 0.0}
        if kept:
            measured |= {
                "gain_db": dice.gauss(3, 2),
                "loudness_lufs": -23 + dice.uniform(-0.3, 0.3),
                "true_peak_dbtp": -3 + dice.gauss(0, 0.5),
                "dnsmos_sig": dice.uniform(2, 4),
                "dnsmos_bak": dice.uniform(2, 4),
                "dnsmos_ovrl": dice.uniform(2, 4),
            }
        segments.append(
            Segment(
                name,
                source_id,
                who,
                start,
                stop,
                kept,
                None if kept else dice.choice(REASONS),
                f"clips/{source_id}/{name}.wav" if kept else None,
                music_share=0.1 * (k % 5),
                separated=k % 10 == 0,
                **measured,
            )
        )
        if k % 2:
            marks.append(Mark("speech", start, stop))
            marks.append(Mark("turn", start, stop, f"S{1 + (k % 7 < 3)}"))
        if kept and dice.random() < 0.3:
            text = " ".join(dice.choices(WORDS, k=12))
            model = "whisper-small"
            flags = ("loop",) if dice.random() < 0.02 else ()
            texts.append(
                Transcript(source_id, start, stop, text, f"model:{model}", WHEN, "fa", f"{model} 1", 0.8, flags)
            )
    marks.append(Mark("music", 0, 20 * RATE, score=0.9))
    stages = [Stage(source_id, name, 0.5, 180.0, plan.hash[name], plan.model[name], WHEN) for name in plan.hash]
    noise = np.random.default_rng(n).normal(size=(2, 256)).astype(np.float32)
    voices = [SpeakerVoice(who, source_id, tuple(vector.tolist())) for who, vector in zip(speakers, noise, strict=True)]
    labels = []
    if n % 20 == 0:
        accent = ACCENTS[(programme + n // 20) % 10]
        one = segments[dice.randrange(PIECES)]
        labels = [
            Label(source_id, Scope.SOURCE, None, None, accent, accent, LabelOrigin.CLASSIFIER, "model 1", WHEN, 0.7),
            Label(source_id, Scope.SEGMENT, one.start, one.end, accent, accent, LabelOrigin.ANNOTATOR, "Maryam", WHEN),
        ]
    fetch = None
    if n % 2:
        fetch = Fetch(
            f"https://tube.example/watch?v={n}", source_id, "tube", str(n), f"https://tube.example/c/{programme}",
            source.title, source.channel, None, source.uploaded_at, None, 180.0, 0.0, sha256, 1000, None, None,
            "yt-dlp 2026.10.26", WHEN, {"id": n, "tags": WORDS, "formats": [{"abr": k, "ext": "m4a"} for k in range(20)]},
        )  # fmt: skip
    people = {local: f"P{programme}-{(n + k) % 6}" for k, local in enumerate(speakers)}
    result = SourceResult(source, (address,), tuple(stages), tuple(marks), tuple(voices), tuple(segments), fetch)
    return Said(result, labels, texts, people)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def bulk_write(catalog: Catalog, said: list[Said]) -> int:
    """Write recordings that the catalog doesn't have, all in one transaction; returns how many rows that were."""
    found = [one.result for one in said]
    tables = {
        rows.INSERT_SOURCE: [rows.source_row(r.source) for r in found],
        rows.INSERT_ADDRESS: [rows.address_row(a) for r in found for a in r.addresses],
        rows.INSERT_STAGE: [rows.stage_row(s) for r in found for s in r.stages],
        rows.INSERT_MARK: [rows.mark_row(r.source.source_id, m) for r in found for m in r.marks],
        rows.INSERT_VOICE: [rows.voice_row(v) for r in found for v in r.voices],
        rows.INSERT_FETCH: [rows.fetch_row(r.fetch, r.source.source_id) for r in found if r.fetch],
        rows.INSERT_SEGMENT: [rows.segment_row(s) for r in found for s in r.segments],
    }
    with catalog.transaction():
        for statement, values in tables.items():
            rows.insert(catalog.connection, statement, values)
        resolve(catalog.connection, [r.source.source_id for r in found])
    texts = [text for one in said for text in one.transcripts]
    labels = [label for one in said for label in one.labels]
    write_judgements(catalog, labels, texts)
    return sum(map(len, tables.values())) + len(texts) + len(labels)


def fill(corpus: Path, sources: int) -> None:
    """Make the catalog, and print what was written how fast; the making of the rows doesn't count."""
    plan = make_plan(Settings(), lambda line: None)
    for n in range(min(sources, SECOND_RUN)):
        file = tape(corpus, n)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"tape {n}")
    people: dict[str, str] = {}
    sounds: list[str] = []  # a clip of each recording
    seconds, n_rows, pieces = 0.0, 0, 0
    with open_catalog(corpus, write=True) as catalog:
        for first in range(0, sources, BLOCK):
            said = [said_of(n, corpus, plan) for n in range(first, min(first + BLOCK, sources))]
            start = time.perf_counter()
            n_rows += bulk_write(catalog, said)
            seconds += time.perf_counter() - start
            pieces += sum(len(one.result.segments) for one in said)
            for one in said:
                people |= one.people
                sounds += [piece.segment_id for piece in one.result.segments if piece.kept][:1]
            print(f"  {first + len(said)} recordings, {n_rows / seconds:.0f} rows/s", file=sys.stderr, flush=True)
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
    note = f"{n_rows / seconds:.0f} rows/s, {pieces / seconds:.0f} pieces/s with what belongs to them; {n_rows} rows"
    _say(seconds, f"{note}; closing {closing:.1f} s; {size:.2f} GB")


def tape(corpus: Path, n: int) -> Path:
    return corpus / "tape" / f"{n % 100:02d}" / f"{n}.wav"


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
    "clip files": clip_files,
}


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the table: what runs, and how long it may take."""

    name: str
    command: list[str]  # of `pdid`, or after this module's name
    bound_s: float | None = None
    is_pdid: bool = True


def steps(corpus: Path, out: Path) -> Iterator[Step]:
    """All steps, in the order they need each other."""
    here = ["--corpus", str(corpus)]
    bounds = {"links are due?": 1.0, "write one recording": 1.0}
    for name in ("opening", "write one recording", "resolve one recording", "read one recording", "links are due?"):
        yield Step(name, ["--step", name, str(corpus)], bounds.get(name), False)
    yield Step("pdid split", ["split", *here], 60.0)
    yield Step("pdid split --check", ["split", "--check", *here], 60.0)
    for name in named_queries():
        yield Step(f"@{name}", ["--step", f"@{name}", str(corpus)], 1.0, False)
    yield Step("pdid status", ["status", *here], 1.0)
    yield Step("pdid sql", ["sql", "SELECT count(*) FROM segments WHERE kept", *here], 1.0)
    yield Step("clip files", ["--step", "clip files", str(corpus)], None, False)
    first = [str(tape(corpus, n).parent) for n in range(100)]
    yield Step("second run", ["ingest", *first, *here], 10.0)
    yield Step("export metadata", ["export", "--format", "metadata", str(out / "release"), *here])


def measured(step: Step) -> tuple[bool, str]:
    """Run a step; whether it kept its bound, and its line of the table."""
    pdid = [str(Path(sys.executable).with_name("pdid"))]
    command = pdid if step.is_pdid else [sys.executable, "-m", "benchmarks.big_catalog"]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*command, *step.command], stdout=said, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0), errors.seek(0)
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
    return not late, f"| {step.name} | {seconds:.2f}{mark} | {bound} | {busy:.1f} | {peak:.2f} | {note[:150]} |"


def main(sources: int, folder: Path | None, chosen: list[str]) -> None:
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} processors, load before the start {load}; {sources} recordings\n")
    print("| step | wall s | wanted s | processor s | peak GiB | |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = (folder or Path(temporary) / "corpus").resolve()
        if not (corpus / "catalog.duckdb").exists():
            print(
                measured(Step("bulk append", ["--step", "fill", str(corpus), str(sources)], None, False))[1], flush=True
            )
        for step in steps(corpus, Path(temporary)):
            if not chosen or any(step.name.removeprefix("@").startswith(name.removeprefix("@")) for name in chosen):
                print(measured(step)[1], flush=True)


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
