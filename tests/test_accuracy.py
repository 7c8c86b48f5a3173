"""The accuracy table of docs/benchmarks.md, asserted: real programmes with exact truth, the embedded engine.

The bounds are those the project set itself; what comes out is printed by benchmarks/accuracy.py.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from benchmarks import accuracy

Scores = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def scores(test_data: Path) -> dict[str, Scores]:
    """Scores by separation mode (`auto` as on a machine without weights) and programme."""
    tool = accuracy.scorer(test_data)
    truths = sorted((test_data / "programmes").glob("*.truth.json"))
    assert len(truths) >= 3
    return {mode: accuracy.score_programmes(truths, mode, tool) for mode in ("never", "auto")}


@pytest.mark.parametrize("mode", ["never", "auto"])
def test_clips_are_one_speakers(scores: dict[str, Scores], mode: str) -> None:
    for name, row in scores[mode].items():
        assert row["purity"] >= 0.98, name
        assert row["overlap"] <= 0.01, name


@pytest.mark.parametrize("mode", ["never", "auto"])
def test_words_are_whole(scores: dict[str, Scores], mode: str) -> None:
    for name, row in scores[mode].items():
        assert row["words_cut"] <= 0.05, name


def test_yield_with_music_tolerated(scores: dict[str, Scores]) -> None:
    found = [row["yield"] for row in scores["never"].values()]
    assert mean(found) >= 0.90
    assert min(found) >= 0.85


def test_yield_of_dry_speech_without_weights(scores: dict[str, Scores]) -> None:
    found = [row["yield"] for row in scores["auto"].values()]
    assert mean(found) >= 0.85
    assert min(found) >= 0.75
    assert max(row["music"] for row in scores["auto"].values()) <= 0.03


@pytest.mark.parametrize("mode", ["never", "auto"])
def test_speakers_are_counted(scores: dict[str, Scores], mode: str) -> None:
    for name, row in scores[mode].items():
        found, true = map(int, row["speakers"].split("/"))
        assert abs(found - true) <= (1 if true <= 5 else 0.2 * true), name


def test_diarization_error_on_a_telephone_conversation(test_data: Path) -> None:
    folder = test_data / "clips/conversation"
    assert accuracy.diarization_error(folder / "sample.wav", folder / "sample.rttm") <= 0.08
