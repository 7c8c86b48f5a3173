"""Two stages side by side: the same findings as one after the other, and an end to both when one ends."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.records import RATE
from corpus_builder.audio import Decoder, Track
from corpus_builder.config import Settings
from corpus_builder.engines import Models, beside
from corpus_builder.pipeline import _Clock, _listen
from corpus_builder.plan import make_plan
from corpus_builder.protocols import Progress


@pytest.fixture(scope="module")
def programme(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """Two minutes of speech and music: two blocks of the one network, many stretches of the other."""
    sound = np.concatenate([b[:, 0] for b in Decoder(test_data / "programmes" / "news_c.mp4", RATE)])[: 120 * RATE]
    file = tmp_path_factory.mktemp("track") / "mix.f32"
    sound.tofile(file)
    return Track(file, len(sound))


def models(threads: int) -> Models:
    settings = Settings.model_validate({"diarize": {"engine": "embedded"}, "separate": {"mode": "never"}})
    return Models(make_plan(settings, print), threads)


def test_side_by_side_gives_what_one_after_the_other_gives(programme: Track) -> None:
    found = []
    for threads in (1, 2):
        told: list[tuple[str, float]] = []
        clock = _Clock(lambda stage, share, told=told: told.append((stage, share)))  # type: ignore[misc]
        found.append(_listen(programme, models(threads), clock, for_music=True))
        assert [stage for stage, share in told if share == 0.0] == ["music", "vad"]  # nobody is told of two at once
        assert min(clock.seconds["music"], clock.seconds["vad"]) > 0
    music, speech = found[0]
    assert found[0] == found[1]
    assert music
    assert music.music
    assert sum(map(len, speech)) > 60 * RATE
    no_music, again = _listen(programme, models(2), _Clock(lambda stage, share: None), for_music=False)
    assert no_music is None
    assert again == speech


def test_demucs_is_loaded_with_all_threads_and_leaves_one(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDID_MODELS", str(models_dir))
    ours = Models(make_plan(Settings.model_validate({"diarize": {"engine": "embedded"}}), print), 2)
    with ours.all_threads():
        assert ours.separator
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


def test_a_fault_beside_is_told_of_in_its_own_stage(programme: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = models(2)

    def faulty(track: Track, progress: Progress) -> None:
        raise MemoryError("no room")

    monkeypatch.setitem(ours.__dict__, "speech", faulty)
    told: list[str] = []
    with pytest.raises(MemoryError, match="no room"):
        _listen(programme, ours, _Clock(lambda stage, share: told.append(stage)), for_music=True)
    assert told[-1] == "vad"


def test_what_runs_beside_ends_with_the_block() -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(progress: Progress) -> None:
        try:
            while True:
                progress(0.0)
                begun.set()
        finally:
            ended.set()

    def interrupted() -> None:
        with beside(endless):
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ended.is_set()


def test_what_runs_beside_gives_its_result() -> None:
    with beside(lambda progress: 6 * 7) as answer:
        assert answer.result() == 42
