"""Two corpora of sixty and more recordings, from raw sound to exports that are read back; one table for each.

    PDID_TEST_DATA=FOLDER PDID_MODELS=FOLDER python -m benchmarks.two_corpora [FOLDER]

`read`: LibriSpeech and VCTK, every clip a recording of its own (VCTK's short sentences of one speaker three at a time);
VCTK's texts are imported, LibriSpeech's are not at hand. `digits`: sixty recordings of strings of digits by
make_digits.py, transcribed with whisper-digits and compared with what is said in them. Both are ingested, split, the
split proved, exported in every format and read back by its own library, and rebuilt from the release without audio.
FOLDER keeps the corpora; else they are removed. Run it in the repository's root; it needs the extras of the exports.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile

from catalog.records import RATE
from catalog.store import open_catalog
from catalog.text import plain
from catalog.whisper import load_whisper, transcribe
from corpus_builder.audio import Decoder, read_clip, write_clip

DATA = Path(os.environ["PDID_TEST_DATA"])
PAUSE = np.zeros(int(0.7 * RATE), np.float32)

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
    for name in READERS:
        out = corpus.parent / f"export-{name}"
        pdid(rows, f"export {name}", "export", "--format", name, out, "--corpus", corpus)
        rows.append((f"read back {name}", read_back(name, out, {row[0]: row[1:] for row in kept})))
    rebuild(corpus, rows)


def read_back(name: str, out: Path, kept: dict[str, tuple[float, str]]) -> str:
    """Read an export with its own library, or by the format's rules, and compare it with the catalog."""
    found = READERS[name](out)
    wrong = [
        clip
        for clip, (length, text) in kept.items()
        if clip not in found or abs(found[clip][0] - length) > 0.001 or (found[clip][1] or "") != " ".join(text.split())
    ]
    same = "each as in the catalog" if not wrong and len(found) == len(kept) else f"{len(wrong)} OTHERWISE"
    seconds, texts = sum(row[0] for row in found.values()), sum(bool(row[1]) for row in found.values())
    return f"{len(found)} clips, {seconds:.0f} s, {texts} texts: {same}"


Found = dict[str, tuple[float, str | None]]
"""Clip → seconds and text."""


def length(data: bytes) -> float:
    return float(soundfile.info(io.BytesIO(data)).duration)


def hugging_face(out: Path) -> Found:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        found: Found = {}
        for rows in datasets.load_dataset(str(out), cache_dir=cache).values():
            for row in rows.cast_column("audio", datasets.Audio(decode=False)):
                data = row["audio"]["bytes"] or Path(row["audio"]["path"]).read_bytes()
                found[row["segment_id"]] = (length(data), row["text"])
        return found


def nemo(out: Path) -> Found:
    lines = [json.loads(line) for path in out.glob("*_manifest.json") for line in path.read_text("utf-8").splitlines()]
    return {
        line["segment_id"]: (length((out / line["audio_filepath"]).read_bytes()), line.get("text")) for line in lines
    }


def lhotse(out: Path) -> Found:
    from lhotse import CutSet

    cuts = [cut for path in out.glob("*_cuts.jsonl.gz") for cut in CutSet.from_file(path)]
    return {cut.supervisions[0].id: (cut.load_audio().shape[1] / RATE, cut.supervisions[0].text) for cut in cuts}


def kaldi(out: Path) -> Found:
    found: Found = {}
    for folder in (path.parent for path in out.rglob("wav.scp")):
        texts = table(folder / "text") if (folder / "text").is_file() else {}
        for name, path in table(folder / "wav.scp").items():
            found[name.rsplit("-", 1)[1]] = (length(Path(path).read_bytes()), texts.get(name))
    return found


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text("utf-8").splitlines())


def webdataset(out: Path) -> Found:
    from webdataset import WebDataset

    samples = WebDataset(sorted(map(str, out.rglob("*.tar"))), shardshuffle=False)
    return {s["__key__"]: (length(s["wav"]), s["txt"].decode() if "txt" in s else None) for s in samples}


READERS: dict[str, Callable[[Path], Found]] = {
    "audiofolder": hugging_face,
    "parquet": hugging_face,
    "nemo": nemo,
    "lhotse": lhotse,
    "kaldi": kaldi,
    "webdataset": webdataset,
}


def rebuild(corpus: Path, rows: Rows) -> None:
    """Release what is known of the corpus without its audio, recreate it from that and the media, and compare."""
    release, again = corpus.parent / "release", corpus.parent / "rebuilt"
    pdid(rows, "export metadata", "export", "--format", "metadata", release, "--corpus", corpus)
    pdid(rows, "rebuild", "rebuild", release, "--media", corpus.parent / "media", "--corpus", again)
    query = (
        "SELECT segment_id, path, text, accent, speaker_id, split FROM segments WHERE split IS NOT NULL ORDER BY ALL"
    )
    before, after = ask(corpus, query), ask(again, query)
    clips = sum((corpus / row[1]).read_bytes() == (again / row[1]).read_bytes() for row in after)
    same = "the same" if before == after else "OTHERWISE"
    rows.append(("rebuilt", f"{len(after)} of {len(before)} clips, rows {same}, {clips} with the same bytes"))


def heard(corpus: Path) -> Rows:
    """Word error of the model's transcripts against the imported ones, by accent; of the US speakers also at the
    recordings' own level: the small model was trained at that, and ingest makes the quiet ones 23 dB louder.
    """
    found = ask(
        corpus,
        "SELECT s.accent, speaker, uri, s.text, t.text, path, gain_db"
        " FROM segments AS s JOIN sources USING (source_id)"
        " JOIN transcripts AS t ON t.source_id = s.source_id AND t.start_s = s.start_s AND t.end_s = s.end_s"
        " WHERE kept AND s.text_origin = 'imported' AND t.origin LIKE 'model:%' ORDER BY ALL",
    )
    rows = []
    for accent in sorted({row[0] for row in found}):
        rows.append((f"WER {accent}", error([row[3:5] for row in found if row[0] == accent])))
    whisper = load_whisper(Path(os.environ["PDID_MODELS"]) / "whisper-digits")
    for speaker in sorted({row[1] for row in found if row[0] == "USA"}):
        for takes, odd in (("takes it was trained on", 0), ("test takes", 1)):
            mine = [row for row in found if row[1] == speaker and int(Path(row[2]).stem[-4:]) % 2 == odd]
            rows.append((f"WER {speaker}, {takes}", error([row[3:5] for row in mine])))
            quiet = [read_clip(corpus / row[5]) * np.float32(10 ** (-row[6] / 20)) for row in mine]
            said = [hypothesis.text for hypothesis in transcribe(whisper, quiet, "en")]
            pairs = list(zip([row[3] for row in mine], said, strict=True))
            rows.append((f"WER {speaker}, {takes}, at the recording's level", error(pairs)))
    return rows


def error(pairs: list[tuple[str, str]]) -> str:
    """Word error rate of (true, heard) pairs."""
    rate = jiwer.wer([plain(true) for true, _ in pairs], [plain(words) for _, words in pairs])
    return f"{100 * rate:.1f} % of {sum(len(true.split()) for true, _ in pairs)} words in {len(pairs)} clips"


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
