"""The demo's material: its music is music to the detector, its speech speech, its two voices two."""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from asr_experiments.arms import read_arms
from catalog.errors import PdidError, UsageError
from catalog.records import RATE, Span
from catalog.store import open_catalog
from corpus_builder import demo
from corpus_builder.audio import Decoder, Track, probe
from corpus_builder.cli import pdid
from corpus_builder.commands.demo import BENCHMARK, BENCHMARK_SPLIT, UNSEEN
from corpus_builder.config import Settings
from corpus_builder.demo import programme, speech
from corpus_builder.music import MusicDetector
from corpus_builder.vad import SpeechDetector

NAMES = ("harbour", "bazaar")  # one in English, one in Persian

needs_speech = pytest.mark.skipif(not speech.available(), reason="the extra `demo` (espeakng-loader) is not installed")


def quiet(_: object) -> None:
    return None


def mask(spans: list[Span] | tuple[Span, ...], n: int) -> np.ndarray:
    """True where a span is, of shape (n,)."""
    found = np.zeros(n, bool)
    for span in spans:
        found[span.start : span.end] = True
    return found


def at_16k(samples: int) -> int:
    return samples * RATE // programme.RATE


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, programme.Mix]]:
    """Two programmes as files, with what is where in them."""
    folder = tmp_path_factory.mktemp("demo")
    made = {}
    for script in programme.scripts():
        if script.name in NAMES:
            path = folder / f"{script.name}.m4a"
            programme.write(path, script)
            made[script.name] = (path, programme.mix(script))
    return made


def track_of(path: Path, folder: Path) -> Track:
    sound = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
    sound.tofile(folder / "track.f32")
    return Track(folder / "track.f32", len(sound))


def test_scripts_give_a_split_something_to_divide() -> None:
    scripts = programme.scripts()
    accents = [script.accent for script in scripts]
    assert len(set(accents)) >= 5
    assert sum(accents.count(accent) > 1 for accent in set(accents)) >= 4
    assert {script.language for script in scripts} == {"en", "fa"}
    for script in scripts:
        assert script.voices[0] != script.voices[1]
        assert len(script.lines) >= 6
        if script.language == "fa":
            assert not any(letter in line for line in script.lines for letter in "يك"), "Arabic letters in Persian"


@needs_speech
@pytest.mark.parametrize("name", NAMES)
def test_music_and_speech_are_found_where_they_are(
    mixed: dict[str, tuple[Path, programme.Mix]], name: str, tmp_path: Path
) -> None:
    path, mix = mixed[name]
    track = track_of(path, tmp_path)
    n = len(track)
    assert abs(n - at_16k(len(mix.sound))) < 0.1 * RATE
    music = mask([Span(at_16k(start), at_16k(end)) for start, end in mix.music], n)
    said = mask([Span(at_16k(start), at_16k(end)) for start, end, _ in mix.turns], n)
    heard_music = mask(MusicDetector(Settings().music)(track, quiet).music, n)
    heard_speech = mask(SpeechDetector(Settings().vad)(track, quiet), n)
    assert heard_music[music].mean() > 0.97
    assert heard_music[~music].mean() < 0.05
    assert heard_speech[said].mean() > 0.93
    assert heard_speech[~said & ~music].mean() < 0.25  # five seconds in all, of which words are padded


@needs_speech
def test_the_same_script_gives_the_same_bytes(mixed: dict[str, tuple[Path, programme.Mix]], tmp_path: Path) -> None:
    script = next(script for script in programme.scripts() if script.name == "harbour")
    programme.write(tmp_path / "again.m4a", script)
    first, again = mixed["harbour"][0].read_bytes(), (tmp_path / "again.m4a").read_bytes()
    assert hashlib.sha256(first).digest() == hashlib.sha256(again).digest()
    assert probe(tmp_path / "again.m4a").sample_rate == 44_100
    assert probe(tmp_path / "again.m4a").title == "Morning at the Harbour"
    assert [path.name for path in tmp_path.iterdir()] == ["again.m4a"]


@needs_speech
def test_media_and_sources_file(
    mixed: dict[str, tuple[Path, programme.Mix]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = [script for script in programme.scripts() if script.name in NAMES]
    monkeypatch.setattr(programme, "scripts", lambda: scripts)
    said: list[str] = []
    folder = tmp_path / "corpus" / "media" / "demo"
    folder.mkdir(parents=True)
    shutil.copy(mixed["bazaar"][0], folder)
    sources = demo.write_media(tmp_path / "corpus", said.append)
    with sources.open(encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    assert [row["source"] for row in rows] == ["conversation.wav", "harbour.m4a", "bazaar.m4a"]
    assert rows[2]["title"] == "صبح بازار"
    assert all((sources.parent / row["source"]).stat().st_size > 100_000 for row in rows)
    assert len(said) == 2  # what was there is not made again
    demo.write_media(tmp_path / "corpus", said.append)
    assert len(said) == 2


def test_without_text_to_speech_the_conversation_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "available", lambda: False)
    said: list[str] = []
    sources = demo.write_media(tmp_path / "corpus", said.append)
    assert sources.read_text("utf-8").count("\n") == 2
    assert any("pip install espeakng-loader" in line for line in said)


def test_the_users_own_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "catalog.duckdb").write_bytes(b"")
    with pytest.raises(UsageError, match="a corpus of your own"):
        demo.write_media(tmp_path, quiet)
    assert not (tmp_path / "media").exists()


@needs_speech
def test_what_the_programmes_say_is_written_down(
    mixed: dict[str, tuple[Path, programme.Mix]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turn by turn, as it was mixed, for the programmes that are there; the second time it is there already."""
    scripts = [script for script in programme.scripts() if script.name == "bazaar"]
    folder = tmp_path / "media" / "demo"
    folder.mkdir(parents=True)
    assert demo.write_transcripts(tmp_path, quiet) is None, "no programmes"
    shutil.copy(mixed["bazaar"][0], folder)
    path = demo.write_transcripts(tmp_path, quiet)
    assert path
    with path.open(encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    assert [(row["source"], row["language"], row["text"]) for row in rows] == [
        ("bazaar.m4a", "fa", line) for line in scripts[0].lines
    ]
    times = [(float(row["start_s"]), float(row["end_s"])) for row in rows]
    turns = [(start / programme.RATE, end / programme.RATE) for start, end, _ in mixed["bazaar"][1].turns]
    assert np.allclose(times, turns, atol=0.1), "the voice is not the same to the sample every time"
    monkeypatch.setattr(programme, "mix", None)
    assert demo.write_transcripts(tmp_path, quiet) == path


def test_the_demos_benchmark_is_one_that_the_benchmark_takes() -> None:
    accents = {script.accent for script in programme.scripts() if script.language == "en"}
    assert UNSEEN in accents
    command = pdid.get_command(click.Context(pdid), "benchmark")
    assert command
    given = command.make_context("benchmark", list(BENCHMARK)).params
    assert given["standard"] in accents - {UNSEEN}
    assert given["model"] == "mini"
    assert given["split"] == BENCHMARK_SPLIT
    assert set(read_arms(given["arms"])) == {"zero-shot", "finetune", "saliency"}


@needs_speech
def test_a_voice_that_does_not_exist_is_named() -> None:
    with pytest.raises(PdidError, match=r"no voice 'tlh'.*pip install"):
        speech.say([(speech.Voice("tlh", 50, 160), "nuqneH")])


@needs_speech
def test_the_whole_road(
    mixed: dict[str, tuple[Path, programme.Mix]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    """Media, ingest, split, hours by accent; a second run changes nothing."""
    scripts = [script for script in programme.scripts() if script.name in NAMES]
    monkeypatch.setattr(programme, "scripts", lambda: scripts)
    monkeypatch.delenv("PDID_MODELS", raising=False)
    corpus = tmp_path / "corpus"
    folder = corpus / "media" / "demo"
    folder.mkdir(parents=True)
    for path, _ in mixed.values():
        shutil.copy2(path, folder)

    done = CliRunner().invoke(pdid, ["demo", "--corpus", str(corpus)])
    assert done.exit_code == 0, done.output
    assert "American" in done.stdout
    assert "Tehrani" in done.stdout
    assert f"pdid sql @speakers --corpus {corpus}" in done.stdout

    finished = "SELECT source_id, stage, finished_at FROM stages ORDER BY ALL"
    with open_catalog(corpus) as catalog:
        kept = dict(catalog.query("SELECT accent, sum(duration_s) FROM segments WHERE kept GROUP BY ALL").rows)
        stages = list(catalog.query(finished).rows)
        voices = dict(catalog.query("SELECT title, count(DISTINCT speaker_id) FROM segments JOIN sources "
                                    "USING (source_id) WHERE kept GROUP BY ALL").rows)  # fmt: skip
    # of about 41 and 55 s of speech in the programmes, the opening 6 and 9 s are under music
    assert 25 < kept["American"] < 70
    assert 35 < kept["Tehrani"] < 60
    assert voices["Morning at the Harbour"] == voices["صبح بازار"] == 2
    clips = sorted((corpus / "clips").rglob("*.wav"))
    assert {probe(clip).sample_rate for clip in clips} == {RATE}

    again = CliRunner().invoke(pdid, ["demo", "--corpus", str(corpus)])
    assert again.exit_code == 0, again.output
    with open_catalog(corpus) as catalog:
        assert list(catalog.query(finished).rows) == stages
        assert [split.name for split in catalog.splits()] == ["demo"]
        sides = dict(catalog.query("SELECT title, any_value(split) FROM segments JOIN sources USING (source_id) "
                                   "WHERE kept GROUP BY ALL").rows)  # fmt: skip
    assert sides["Morning at the Harbour"] == sides["صبح بازار"] == "train"
    assert sides["Two people on the telephone"] in ("dev", "test")
    checked = CliRunner().invoke(pdid, ["split", "--check", "--corpus", str(corpus)])
    assert checked.exit_code == 0, checked.output

    # the folder that is asked for counts, whatever the environment says
    monkeypatch.setenv("PDID_CORPUS", str(tmp_path / "elsewhere"))
    named = CliRunner().invoke(pdid, ["demo", "--corpus", "corpus"])
    assert named.exit_code == 0, named.output
    assert not (tmp_path / "elsewhere").exists()
