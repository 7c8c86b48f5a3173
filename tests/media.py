"""Media files made for tests, the real command line in this process or another, and a corpus as plain rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.records import RATE
from catalog.store import open_catalog
from corpus_builder import cli
from corpus_builder.audio import Samples, write_clip
from corpus_builder.ffmpeg import ffmpeg_path

# No weights, whatever this machine has: what is tested here is the run, and it is the same on every machine.
EMBEDDED = ("--diarizer", "embedded", "--separate", "never")
PDID = (sys.executable, "-c", "from corpus_builder.cli import main; main()")

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """What a command said, and its exit status."""

    code: int
    out: str
    err: str


Pdid = Callable[..., Run]


def make_pdid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pdid:
    """A function that runs the real `main` in this process: `pdid("ingest", path, …)`."""

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["pdid", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Run(ended.value.code, said.out, said.err)

    return run


def start_pdid(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`pdid` in a process of its own; its output is to be read with communicate()."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([*PDID, *map(str, arguments)], **options)


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg, quietly, writing over what is there."""
    command = [str(ffmpeg_path()), "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def convert(wav: Path, target: Path, *options: object) -> Path:
    """Encode a WAV as what the target's name and the options say; returns the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg("-i", wav, *options, target)
    return target


def write_wav(path: Path, sound: Samples) -> Path:
    """Write mono 16 kHz sound (n,) and return the path."""
    write_clip(path, sound.astype(np.float32))
    return path


def low_passed_noise(rate: int, cutoff_hz: float, seconds: float) -> Samples:
    """White noise of shape (n,) at `rate` Hz with nothing over `cutoff_hz`, the same on every call."""
    n = int(rate * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(0, 0.1, n))
    spectrum[np.fft.rfftfreq(n, 1 / rate) > cutoff_hz] = 0
    return np.fft.irfft(spectrum, n).astype(np.float32)


def rows(corpus: Path) -> dict[str, dict[str, Any]]:
    """Everything the catalog has, by source id, without what no two runs share: seconds and times of day."""
    with open_catalog(corpus) as catalog:
        found = {}
        for result in catalog.results([source.source_id for source in catalog.sources()]):
            addresses = tuple(sorted(result.addresses, key=lambda a: a.uri))
            stages = tuple(
                replace(stage, seconds=0.0, finished_at=_EPOCH)
                for stage in sorted(result.stages, key=lambda s: s.stage)
            )
            found[result.source.source_id] = asdict(replace(result, addresses=addresses, stages=stages))
        return found


def query(corpus: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with open_catalog(corpus) as catalog:
        return list(catalog.query(sql).rows)


def finished(corpus: Path) -> dict[tuple[str, str], datetime]:
    """When each stage of each source was last done."""
    return {row[:2]: row[2] for row in query(corpus, "SELECT source_id, stage, finished_at FROM stages")}


def source_of(corpus: Path, path: Path) -> dict[str, Any]:
    """The row of `sources` that a file's address leads to."""
    with open_catalog(corpus) as catalog:
        address = catalog.addresses()[os.path.abspath(path)]
        answer = catalog.query(f"SELECT * FROM sources WHERE source_id = '{address.source_id}'")
        return dict(zip(answer.columns, next(answer.rows), strict=True))


def clip_files(corpus: Path) -> set[str]:
    """Everything that lies in clips/, relative to the corpus."""
    return {str(path.relative_to(corpus)) for path in (corpus / "clips").rglob("*") if not path.is_dir()}


def assert_whole(corpus: Path) -> None:
    """The clips on disk are the kept rows' and nothing else, and no scratch is left."""
    with open_catalog(corpus) as catalog:
        assert clip_files(corpus) == catalog.clip_paths()
    assert not (corpus / ".scratch").exists()


def assert_tiled(corpus: Path) -> None:
    """The pieces of each done source follow one another from its first sample to its last."""
    for found in rows(corpus).values():
        if found["source"]["status"] == "done":
            edges = [0]
            for segment in found["segments"]:
                assert segment["start"] == edges[-1]
                edges.append(segment["end"])
            assert edges[-1] == found["source"]["n_samples"]
            assert edges == sorted(set(edges))


def seconds(sound: Samples) -> float:
    """Length of 16 kHz sound."""
    return len(sound) / RATE
