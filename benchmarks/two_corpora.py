"""Two corpora of sixty and more recordings, from raw sound to exports that are read back; one table for each.

    PDID_TEST_DATA=FOLDER PDID_MODELS=FOLDER python -m benchmarks.two_corpora [FOLDER]

`read`: LibriSpeech and VCTK, every clip a recording of its own (VCTK's short sentences of one speaker three at a time);
VCTK's texts are imported, LibriSpeech's are not at hand. `digits`: sixty recordings of strings of digits by
make_digits.py, transcribed with whisper-digits and compared with what is said in them. Both are ingested, split, the
split proved, exported in every format that needs no extra, and read back. FOLDER keeps the corpora; else they are
removed. Run it in the repository's root.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile

from catalog.records import RATE
from catalog.store import open_catalog
from catalog.text import plain
from corpus_builder.audio import Decoder, write_clip

DATA = Path(os.environ["PDID_TEST_DATA"])
PAUSE = np.zeros(int(0.7 * RATE), np.float32)
FORMATS = ("audiofolder", "nemo", "kaldi", "webdataset", "rttm", "audacity", "metadata")

Rows = list[tuple[str, str]]


def pdid(rows: Rows, what: str, *arguments: object) -> str:
    """Run a command in a process of its own; its time and last message become a row."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "from corpus_builder.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = (done.stderr.strip().splitlines() or [""])[-1]
    rows.append((what, f"{time.perf_counter() - start:.1f} s, exit {done.returncode}: {said[:110]}"))
    return done.stdout


def ask(corpus: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with open_catalog(corpus) as catalog:
        return list(catalog.query(sql).rows)


# ---------------------------------------------------------------- the recordings


def make_read(folder: Path) -> None:
    """LibriSpeech and VCTK as media/NAME.wav, sources.csv and transcripts.csv (VCTK's, with times)."""
    sources: list[tuple[str, str, str]] = []
    texts: list[tuple[str, float, float, str]] = []
    for path in sorted((DATA / "clips" / "librispeech").glob("*.flac")):
        write_clip(folder / "media" / f"{path.stem}.wav", sound(path))
        sources.append((f"media/{path.stem}.wav", "American", path.stem.split("-")[0]))
    with (DATA / "clips" / "vctk" / "manifest.tsv").open(encoding="utf-8") as file:
        by_speaker: dict[str, list[dict[str, str]]] = {}
        for row in csv.DictReader(file, delimiter="\t"):
            by_speaker.setdefault(row["speaker"], []).append(row)
    for speaker, found in by_speaker.items():
        for n, first in enumerate(range(0, len(found), 3)):
            name, parts, at = f"media/{speaker}_{n}.wav", [PAUSE], len(PAUSE)
            for row in found[first : first + 3]:
                part = sound(DATA / "clips" / "vctk" / row["file"])
                texts.append((name, at / RATE, (at + len(part)) / RATE, row["text"]))
                parts += [part, PAUSE]
                at += len(part) + len(PAUSE)
            write_clip(folder / name, np.concatenate(parts))
            sources.append((name, found[0]["accent"], speaker))
    write(folder / "sources.csv", ("source", "accent", "speaker"), sources)
    write(folder / "transcripts.csv", ("source", "start_s", "end_s", "text"), texts)


def sound(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A clip as mono float32 at 16 kHz."""
    return np.concatenate([block[:, 0] for block in Decoder(path, RATE)])


def write(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


# ---------------------------------------------------------------- what is done with both


def build(folder: Path, rows: Rows) -> Path:
    """Ingest; returns the corpus."""
    corpus = folder / "corpus"
    options = ("--diarizer", "embedded", "--separate", "never")
    pdid(rows, "ingest", "ingest", "--sources", folder / "sources.csv", "--corpus", corpus, *options)
    done, failed, hours, clips = ask(
        corpus,
        "SELECT count(*) FILTER (status = 'done'), count(*) FILTER (status <> 'done'), sum(duration_s) / 3600,"
        " (SELECT count(*) FROM segments WHERE kept) FROM sources",
    )[0]
    rows.append(("recordings", f"{done} done, {failed} failed, {hours:.3f} h, {clips} clips kept"))
    return corpus


def publish(corpus: Path, rows: Rows) -> None:
    """Split, prove, export and read back."""
    labelled, found = ask(corpus, "SELECT count(DISTINCT speaker), (SELECT count(*) FROM speakers) FROM sources")[0]
    rows.append(("speakers", f"{found} over all recordings; {labelled} by the sources file"))
    pdid(rows, "split", "split", "--name", "first", "--corpus", corpus)
    pdid(rows, "split --check", "split", "--check", "--corpus", corpus)
    kept = ask(corpus, "SELECT segment_id, duration_s, coalesce(text, '') FROM segments WHERE split IS NOT NULL")
    for name in FORMATS:
        out = corpus.parent / f"export-{name}"
        pdid(rows, f"export {name}", "export", "--format", name, out, "--corpus", corpus)
        rows.append((f"read back {name}", read_back(name, out, {row[0]: row[1:] for row in kept})))


def read_back(name: str, out: Path, kept: dict[str, tuple[Any, ...]]) -> str:
    """What is found in an export, by plain means; the tests read each with its own library."""
    if not out.is_dir():
        return "nothing there"
    files = [path for path in out.rglob("*") if path.is_file()]
    sounds = [path for path in files if path.suffix in (".wav", ".flac")]
    seconds = sum(soundfile.info(path).duration for path in sounds)
    wanted = sum(row[0] for row in kept.values())
    lines = [
        json.loads(line)
        for path in files
        if path.suffix == ".jsonl" and name in ("audiofolder", "nemo")
        for line in path.read_text("utf-8").splitlines()
    ]
    texts = sum(bool(line.get("text")) for line in lines)
    told = f"{len(files)} files, {len(sounds)} clips with {seconds:.0f} of {wanted:.0f} s"
    return f"{told}, {len(lines)} rows, {texts} with text" if lines else told


def heard(corpus: Path) -> Rows:
    """Word error of the model's transcripts against the imported ones, by accent."""
    found = ask(
        corpus,
        "SELECT s.accent, sources.uri, s.text, t.text FROM segments AS s JOIN sources USING (source_id)"
        " JOIN transcripts AS t ON t.source_id = s.source_id AND t.start_s = s.start_s AND t.end_s = s.end_s"
        " WHERE kept AND s.text_origin = 'imported' AND t.origin LIKE 'model:%'",
    )
    rows = []
    for accent in sorted({row[0] for row in found}):
        for takes, odd in (("takes the model knows", 0), ("test takes", 1)):
            mine = [row for row in found if row[0] == accent and int(Path(row[1]).stem[-4:]) % 2 == odd]
            if mine:
                rate = jiwer.wer([plain(row[2]) for row in mine], [plain(row[3]) for row in mine])
                words = sum(len(row[2].split()) for row in mine)
                rows.append((f"WER {accent}, {takes}", f"{100 * rate:.1f} % of {words} words in {len(mine)} clips"))
    return rows


def main(folder: Path) -> None:
    for name in ("read", "digits"):
        (folder / name / "media").mkdir(parents=True, exist_ok=True)
    rows: Rows = []
    make_read(folder / "read")
    corpus = build(folder / "read", rows)
    pdid(rows, "import VCTK's texts", "transcribe", "--import", folder / "read" / "transcripts.csv", "--corpus", corpus)
    rows += coverage(corpus)
    publish(corpus, rows)
    show("LibriSpeech and VCTK", rows)

    rows = []
    tool = DATA.parent / "tools" / "make_digits.py"
    subprocess.run([sys.executable, tool, folder / "digits", "60"], check=True, stdout=subprocess.DEVNULL)
    corpus = build(folder / "digits", rows)
    model = Path(os.environ["PDID_MODELS"]) / "whisper-digits"
    pdid(rows, "transcribe", "transcribe", "--model", model, "--language", "en", "--corpus", corpus)
    truth = folder / "digits" / "transcripts.csv"
    pdid(rows, "import the truth", "transcribe", "--import", truth, "--language", "en", "--corpus", corpus)
    rows += coverage(corpus) + heard(corpus)
    publish(corpus, rows)
    show("Sixty recordings of digits", rows)


def coverage(corpus: Path) -> Rows:
    """Clips with text, by origin."""
    found = ask(
        corpus,
        "SELECT coalesce(text_origin, 'no text'), count(*), sum(duration_s), count(*) FILTER (len(text_flags) > 0)"
        " FROM segments WHERE kept GROUP BY 1 ORDER BY 1",
    )
    return [(f"clips: {origin}", f"{n}, {s / 60:.1f} min, {flagged} flagged") for origin, n, s, flagged in found]


def show(title: str, rows: Rows) -> None:
    print(f"\n{title}\n")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"| {name:{width}} | {value} |")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
