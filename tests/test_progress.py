"""What a person sees: a bar with a rate and an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

from catalog.records import Status
from corpus_builder.ingest import Outcome
from corpus_builder.progress import PART, Display
from corpus_builder.sources import SourceRequest
from tests.media import EMBEDDED, start_pdid

NAME = "[bold]نام.wav"


def request_for(path: Path, size: int) -> SourceRequest:
    path.write_bytes(bytes(size - 1))
    return SourceRequest(str(path), path)


def test_the_bar_moves_within_a_source_and_never_back(tmp_path: Path) -> None:
    first, second = request_for(tmp_path / "a", 300), request_for(tmp_path / "b", 100)
    display = Display([first, second])
    seen = [0.0]

    def at() -> float:
        return float(display.bar.tasks[0].completed)

    for request in (first, second):
        for stage in PART:
            for share in (0.0, 0.5, 1.0):
                display.watch(request, stage, share)
                assert at() >= seen[-1]
                seen.append(at())
        display.finished(Outcome(request, "x", Status.DONE, source_s=7200, kept_s=3600, clips=3))
        seen.append(at())
    assert {300.0, 400.0} <= set(seen)
    assert display.bar.tasks[0].total == seen[-1] == 400
    assert display.bar.tasks[0].description.startswith("4.00 h, ")


def test_a_terminal_shows_rate_and_estimate_a_pipe_plain_lines(talk: Path, tmp_path: Path) -> None:
    media = Path(shutil.copy(talk, tmp_path / NAME))
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    process = start_pdid("ingest", media, "--corpus", tmp_path / "a", *EMBEDDED, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    text = shown.decode()
    assert "audio-hours/s" in text
    assert "left" in text
    assert NAME in text
    piped = start_pdid("ingest", media, "--corpus", tmp_path / "b", *EMBEDDED, stderr=subprocess.PIPE)
    _, err = piped.communicate()
    assert f"[1/1] '{NAME}': 16 s in, 15 s kept in 1 clips" in err
    assert "\x1b" not in err
