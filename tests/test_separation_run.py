"""`pdid ingest` with and without separation weights, and with the pyannote engine, on real speech over real music."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalog.records import RATE
from corpus_builder.audio import Samples
from tests.media import Pdid, assert_tiled, assert_whole, query, write_wav


@pytest.fixture(scope="module")
def bed(clip: Callable[[str], Samples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's thirteen seconds alone, then nine of hers over music at 6 dB."""
    alone = clip("librispeech/1998-15444-0000.flac")
    under = clip("librispeech/1998-15444-0002.flac")  # nine seconds
    music = clip("music/calm_acoustic_1.opus")[20 * RATE :][: len(under) + RATE]
    music *= np.sqrt((under**2).mean() / (music**2).mean()) / 10 ** (6 / 20)
    music[: len(under)] += under
    pause = np.zeros(RATE, np.float32)
    return write_wav(tmp_path_factory.mktemp("bed") / "bed.wav", np.concatenate([alone, pause, music]))


def test_without_weights_speech_over_music_is_left_out(pdid: Pdid, bed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDID_MODELS", "")
    run = pdid("ingest", bed, "--corpus", "c", "--diarizer", "embedded")
    assert run.code == 0, run.err
    assert run.err.count("music_unseparated") == 1
    found = query(Path("c"), "SELECT reject_reason, sum(duration_s) FROM segments GROUP BY ALL")
    seconds = dict(found)
    assert seconds["music_unseparated"] > 7
    assert seconds[None] > 11
    assert query(Path("c"), "SELECT max(music_share) FROM segments WHERE kept")[0][0] < 0.03


def test_always_without_weights_stops_before_any_work(pdid: Pdid, bed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDID_MODELS", "")
    run = pdid("ingest", bed, "--corpus", "c", "--separate", "always", "--diarizer", "embedded")
    assert run.code == 1
    assert "pdid models fetch htdemucs" in run.err
    assert not Path("c/catalog.duckdb").exists()


def test_auto_separates_only_speech_over_music(
    pdid: Pdid, bed: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDID_MODELS", str(models_dir))
    Path("pdid.toml").write_text("[keep]\nmin_snr_db = -60.0\n")  # random weights make noise; keep it to look at it
    run = pdid("ingest", bed, "--corpus", "c", "--diarizer", "embedded")
    assert run.code == 0, run.err
    corpus = Path("c")
    ((model, seconds),) = query(corpus, "SELECT model, audio_seconds FROM stages WHERE stage = 'separate'")
    assert model.startswith("htdemucs ")
    assert 8 < seconds < 10
    rows = query(corpus, "SELECT separated, start_s, dnsmos_ovrl, dnsmos_ovrl_mix FROM segments WHERE kept ORDER BY 2")
    assert [separated for separated, *_ in rows] == [False, True]
    assert rows[0][3] is None  # nothing was separated there: there is no before
    assert rows[1][3] > rows[1][2], "random weights can't have made it better"
    assert_tiled(corpus)
    assert_whole(corpus)


def test_the_pyannote_engine_fills_the_same_rows(
    pdid: Pdid, bed: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDID_MODELS", str(models_dir))
    run = pdid("ingest", bed, "--corpus", "c", "--diarizer", "pyannote", "--separate", "never")
    assert run.code == 0, run.err
    corpus = Path("c")
    ((model,),) = query(corpus, "SELECT model FROM stages WHERE stage = 'diarize'")
    assert model.startswith("pyannote.audio 4.")
    assert "diarization" in model
    assert query(corpus, "SELECT DISTINCT status FROM sources") == [("done",)]
    assert_tiled(corpus)
    assert_whole(corpus)
    again = pdid("ingest", bed, "--corpus", "c", "--diarizer", "pyannote", "--separate", "never")
    assert "nothing to do" in again.err
    # another engine is another setting: speakers are told again, speech is not
    before = dict(query(corpus, "SELECT stage, finished_at FROM stages"))
    assert pdid("ingest", bed, "--corpus", "c", "--diarizer", "embedded", "--separate", "never").code == 0
    after = dict(query(corpus, "SELECT stage, finished_at FROM stages"))
    assert {stage for stage in after if after[stage] != before[stage]} == {"diarize", "segment", "loudness", "quality"}
    assert query(corpus, "SELECT count(DISTINCT speaker_id) FROM segments WHERE kept") == [(1,)]
