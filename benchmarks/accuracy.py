"""How clean the clips are: `pdid ingest` with the embedded engine against programmes with exact truth.

    python benchmarks/accuracy.py [TRUTH.json ...]

Without arguments: the programmes and recordings under $PDID_TEST_DATA. Each TRUTH.json lies beside its
media. The measure is the project's scoring tool, found in the `tools` folder beside the test data; it is
not part of this repository. Prints one table per separation mode, then the diarization error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from catalog.records import RATE
from catalog.store import open_catalog
from corpus_builder.config import Settings
from corpus_builder.ffmpeg import ffmpeg_path
from corpus_builder.ingest import ingest
from corpus_builder.plan import make_plan
from corpus_builder.sources import address_of, find_sources
from corpus_builder.taxonomy import load_taxonomy

COLUMNS = ("purity", "overlap", "yield", "words_cut", "music", "speakers", "n")
COLLAR_S = 0.25


def scorer(test_data: Path) -> ModuleType:
    """The project's scoring tool."""
    os.environ.setdefault("FFMPEG", str(ffmpeg_path()))
    path = test_data.resolve().parent / "tools" / "score_clips.py"
    spec = importlib.util.spec_from_file_location("score_clips", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_ingest(media: list[Path], corpus: Path, mode: str, engine: str = "embedded") -> None:
    """Ingest media with default settings but these; `auto` as on a machine without Demucs weights."""
    settings = Settings.model_validate({"separate": {"mode": mode}, "diarize": {"engine": engine}})
    plan = make_plan(settings, lambda line: None)
    plan = replace(plan, demucs=None)
    requests = find_sources([str(path) for path in media], load_taxonomy("persian"))
    for outcome in ingest(requests, corpus, plan, 1, lambda request, stage, share: None):
        assert outcome.error is None, outcome


def kept_clips(corpus: Path, media: Path) -> list[dict[str, Any]]:
    """The kept clips of one source, as the scoring tool takes them."""
    with open_catalog(corpus) as catalog:
        source_id = catalog.addresses()[address_of(media)].source_id
        return [
            {"start_s": s.start / RATE, "end_s": s.end / RATE, "speaker": s.speaker_id}
            for s in catalog.segments(source_id)
            if s.kept
        ]


def score_programmes(truths: list[Path], mode: str, tool: ModuleType) -> dict[str, dict[str, Any]]:
    """Scores of each programme by name. `auto` counts the yield over speech without music under it."""
    media = [path.parent / json.loads(path.read_text())["media"] for path in truths]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        run_ingest(media, corpus, mode)
        return {
            file.name: tool.score(json.loads(path.read_text()), str(file), kept_clips(corpus, file), mode == "auto")
            for path, file in zip(truths, media, strict=True)
        }


def diarization_error(recording: Path, rttm: Path, engine: str = "embedded") -> float:
    """Diarization error rate (collar 0.25 s either side of a change, overlaps scored) on one recording."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        run_ingest([recording], corpus, "never", engine)
        with open_catalog(corpus) as catalog:
            (source,) = catalog.sources()
            turns = [mark for mark in catalog.marks(source.source_id) if mark.kind == "turn"]
    reference, hypothesis = Annotation(), Annotation()
    for i, line in enumerate(rttm.read_text().splitlines()):
        _, _, _, start, length, _, _, speaker, *_ = line.split()
        reference[Segment(float(start), float(start) + float(length)), i] = speaker
    for i, turn in enumerate(turns):
        hypothesis[Segment(turn.start / RATE, turn.end / RATE), i] = turn.label
    heard = Timeline([Segment(0, (source.n_samples or 0) / RATE)])
    # pyannote.metrics counts a collar as its whole width, half on each side of a boundary
    return float(DiarizationErrorRate(collar=2 * COLLAR_S)(reference, hypothesis, uem=heard))


def print_table(mode: str, scores: dict[str, dict[str, Any]]) -> None:
    print(f"\n| --separate {mode} | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for name, row in scores.items():
        print(f"| {name} | {' | '.join(str(row[c]) for c in COLUMNS)} |")
    means = [sum(r[c] for r in scores.values()) / len(scores) for c in COLUMNS[:5]]
    print(f"| mean | {' | '.join(f'{m:.4f}' for m in means)} | | |")


def main(arguments: list[str]) -> None:
    test_data = Path(os.environ["PDID_TEST_DATA"])
    tool = scorer(test_data)
    truths = [Path(a) for a in arguments] or sorted((test_data / "programmes").glob("*.truth.json"))
    for mode in ("never", "auto"):
        with contextlib.redirect_stderr(io.StringIO()):
            scores = score_programmes(truths, mode, tool)
        print_table(mode, scores)
    if not arguments:
        print("\n| diarization error, collar 0.25 s | |\n|---|---|")
        clips = test_data / "clips"
        for recording, rttm in (
            (clips / "conversation/sample.wav", clips / "conversation/sample.rttm"),
            (clips / "meeting/dev00.flac", clips / "meeting/dev00.rttm"),
            (clips / "meeting/tst00.flac", clips / "meeting/tst00.rttm"),
        ):
            print(f"| {recording.name} | {diarization_error(recording, rttm):.1%} |")


if __name__ == "__main__":
    main(sys.argv[1:])
