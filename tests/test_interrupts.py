"""Ctrl-C, where a library swallows it and where it is delivered twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catalog import interrupts
from tests.media import low_passed_noise, write_wav

SWALLOWED = """
import os, signal
from corpus_builder.cli import main
from corpus_builder.music import MusicDetector
search = MusicDetector.__call__
def search_after_ctrl_c(self, track, progress):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        print("swallowed")
    return search(self, track, progress)
MusicDetector.__call__ = search_after_ctrl_c
main()
"""


def test_a_swallowed_ctrl_c_ends_the_run(tmp_path: Path) -> None:
    media = write_wav(tmp_path / "a.wav", low_passed_noise(16000, 4000, 40))
    corpus = tmp_path / "corpus"
    command = [sys.executable, "-c", SWALLOWED, "ingest", media, "--accent", "tehrani", "--corpus", corpus]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert "swallowed" in ended.stdout
    assert ended.stderr.splitlines()[-1] == "pdid: interrupted"
    assert not list((corpus / ".scratch").glob("*"))


def test_one_press_delivered_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        interrupts.listen()
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # raises nothing
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        monkeypatch.setattr(interrupts, "AGAIN_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        interrupts.listen()
        interrupts.check()
    finally:
        interrupts.listen()
        signal.signal(signal.SIGINT, before)


def test_a_process_told_to_ignore_it_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.listen()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
