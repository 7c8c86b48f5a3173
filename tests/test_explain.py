"""The study of cues from speech to page: planted changes are found where they are, and nothing is where nothing is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from asr_experiments.classifier import AccentCnn, Classifier, ClassifierSettings
from asr_experiments.commands.explain import _print
from asr_experiments.datasets import Utterance, read_dataset
from asr_experiments.explain.cues import NAMES
from asr_experiments.explain.deltas import WINDOW
from asr_experiments.explain.saliency import WAYS
from asr_experiments.explain.study import (
    TOO_SHORT,
    UNKNOWN,
    UNVOICED,
    ExplainSettings,
    ExplainStudy,
    explain_study,
)
from asr_experiments.features import Floats, MelArrays, Shape
from asr_experiments.studies import EXPLAIN_CLIPS, explain_clips
from benchmarks.explain import CLASSIFIER, by_the_stretch, figures, hit, right, run, tables
from benchmarks.planted_changes import (
    CHANGED,
    CHANGES,
    EXPECTED,
    PIECE,
    PLAIN,
    STRETCH,
    Kind,
    Material,
    change,
    material,
)
from benchmarks.sanity import material as spoken
from catalog.errors import UsageError
from tests.digits import digits_rows, untrained_folder, write_rows
from tests.media import Pdid
from tests.speech import one_thread

__all__ = ["one_thread"]

# A third of the clips, each read once; benchmarks/explain.py runs the whole.
REDUCED = replace(CLASSIFIER, epochs=8, batch=8, learning_rate=7e-4)


@pytest.fixture(scope="module")
def clips(test_data: Path) -> tuple[list[Floats], list[str]]:
    """A third of the clips of twenty-four readers."""
    found, speakers = spoken(test_data / "clips")
    return found[::3], speakers[::3]


@pytest.fixture(scope="module")
def planted(clips: tuple[list[Floats], list[str]]) -> tuple[ExplainStudy, Material]:
    return run(*clips, "noise", 0, REDUCED, speeds=0)


# ---------------------------------------------------------------- planted changes


@pytest.mark.parametrize("way", WAYS)
def test_the_planted_cue_is_the_strongest(planted: tuple[ExplainStudy, Material], way: str) -> None:
    study, made_of = planted
    assert study.accuracy >= 0.9
    profile = study.profiles[way]  # type: ignore[index]
    strongest = profile.strongest(CHANGED)
    assert strongest is not None
    assert strongest.cue == "loudness"
    assert strongest.effect is not None
    assert strongest.effect > 2
    assert strongest.counts
    found = hit(way, study, made_of)
    assert found is not None
    assert found > 0.7  # of the windows' frames lie in the planted stretch; at random 0.29
    assert {cell.label for cell in profile.all} == {CHANGED, PLAIN}
    assert len(profile.all) == 2 * len(NAMES)


def test_the_three_agree_more_than_by_chance(planted: tuple[ExplainStudy, Material]) -> None:
    study, _ = planted
    assert {(one.first, one.second) for one in study.agreement} == {
        ("gradcam", "lrp"),
        ("gradcam", "occlusion"),
        ("lrp", "occlusion"),
    }
    for one in study.agreement:
        assert one.by_chance == pytest.approx(75 / 256)
        assert one.shared > one.by_chance + 0.1
        assert one.correlation > 0.1


def test_with_nothing_planted_no_cue_counts(clips: tuple[list[Floats], list[str]]) -> None:
    study, made_of = run(clips[0][::2], clips[1][::2], "nothing", 0)
    assert not any(made_of.places)
    for profile in study.profiles.values():
        assert [cell.cue for cell in profile.all if cell.p is not None] == [*NAMES, *NAMES]  # all were asked
        assert not [cell for cell in profile.all if cell.counts]


def test_the_benchmarks_tables_say_what_was_found(planted: tuple[ExplainStudy, Material]) -> None:
    study, made_of = planted
    told = json.loads(json.dumps(figures(study, made_of, "noise", 0, 60)))
    lines = tables([told]).splitlines()
    assert f"| noise | gradcam | 1 | {study.accuracy:.2f} |" in lines[2]
    assert "| 1 of 1 | 1 of 1 | loudness +" in lines[2]
    assert "| all | lrp | 1 | | | 1 of 1 (100%) | | |" in lines
    assert right("pause", "speaking rate", -1.0)
    assert not right("pause", "speaking rate", 1.0)
    assert not right("F0", "loudness", 3.0)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_in_its_stretch_and_nowhere_else(clips: tuple[list[Floats], list[str]], kind: Kind) -> None:
    piece = clips[0][1][:PIECE]
    start = 16_000
    plain = change(piece, kind, None, np.random.default_rng(0))
    changed = change(piece, kind, start, np.random.default_rng(0))
    assert plain == pytest.approx(piece, abs=1e-4)  # taken apart and put together again
    assert len(changed) == PIECE
    off = np.abs(changed - plain)
    assert off[: start - 400].max() < 1e-4
    assert off[start : start + STRETCH].mean() > 0.2 * np.abs(plain[start : start + STRETCH]).mean()
    rest = start + STRETCH
    expected = plain[start : PIECE - STRETCH] if kind == "pause" else plain[rest + 400 :]
    assert changed[rest if kind == "pause" else rest + 400 :] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", CHANGES)
def test_windows_on_the_stretch_show_the_planted_cue_most(clips: tuple[list[Floats], list[str]], kind: Kind) -> None:
    found = by_the_stretch(clips[0], kind)
    strongest = max(found, key=lambda cue: abs(found[cue]))
    assert right(kind, strongest, found[strongest])
    if kind == "formants":
        others = {cue: abs(found[cue]) for cue in found if cue not in EXPECTED[kind]}
        assert max(others.values()) < 0.6 * found["F1"]


def test_half_of_each_speakers_pieces_are_changed(clips: tuple[list[Floats], list[str]]) -> None:
    made = material(clips[0][:6], clips[1][:6], "pause", 0, both=[clips[1][0]])
    for speaker in set(made.speakers):
        own = [label for label, name in zip(made.labels, made.speakers, strict=True) if name == speaker]
        assert abs(own.count(CHANGED) - own.count(PLAIN)) <= 1
    assert [place is not None for place in made.places] == [label == CHANGED for label in made.labels]
    assert all(place is None or (place[1] - place[0], place[0] >= 2) == (75, True) for place in made.places)


# ---------------------------------------------------------------- bad input


def untrained(n_frames: int = 96) -> Classifier:
    net = AccentCnn(80, n_frames, 2, channels=(2, 2, 2, 2)).eval()
    return Classifier(net, ("a", "b"), ClassifierSettings(crop_frames=n_frames), Shape(80, 300, 160))


def noises(lengths: list[int]) -> MelArrays:
    rng = np.random.default_rng(0)
    return MelArrays([(rng.normal(size=(80, 300)).astype(np.float32), n) for n in lengths], Shape(80, 300, 160))


def test_clips_that_cannot_be_used_are_counted() -> None:
    """Two are too short, one is of a class the classifier was never shown; none has a voice."""
    mels = noises([120, 74, 200, 150, 30, 120])
    labels = ["a", "a", "b", "b", "b", "c"]
    rng = np.random.default_rng(1)

    def sound(i: int) -> Floats:
        return rng.normal(0, 0.05, mels[i][1] * 160).astype(np.float32)

    study = explain_study(
        untrained(), mels, sound, labels, ["s", "s", "t", "u", "t", "t"], range(6), ExplainSettings(draws=50)
    )
    assert study.skipped == {UNKNOWN: 1, TOO_SHORT: 2, UNVOICED: 3}
    assert [(clip.clip, clip.label, clip.n_frames) for clip in study.clips] == [
        (0, "a", 120),
        (2, "b", 200),
        (3, "b", 150),
    ]
    for clip in study.clips:
        for way in WAYS:
            assert len(clip.starts[way]) == 5
            assert all(0 <= start <= clip.n_frames - WINDOW for start in clip.starts[way])
    cells = {(cell.label, cell.cue): cell for cell in study.profiles["lrp"].all}
    assert cells["a", "F0"].delta is None
    assert cells["a", "loudness"].delta is not None
    assert "3 ways to hand the classes out" in study.notes[0]
    assert not any(cell.counts for cell in cells.values())


@pytest.mark.parametrize("labels", [["a", "a", "a"], ["a", "b", "a"]])
def test_one_class_is_refused_before_any_work(labels: list[str]) -> None:
    """There is but one, or all clips of the other are too short."""
    with pytest.raises(UsageError, match=r"expected test clips of two classes or more to compare, got a from 3 test"):
        explain_study(untrained(), noises([120, 60, 120]), lambda i: 1 / 0, labels, ["s"] * 3, range(3))  # type: ignore[arg-type, return-value]


def test_clips_are_drawn_by_class_a_speakers_turn_by_turn() -> None:
    made = [
        Utterance(f"{label}{speaker}{i}", Path("x"), "t", label, speaker, speaker, "test" if i else "train", 16_000)
        for label in "ab"
        for speaker, n in (("s", 100), ("t", 3))
        for i in range(n)
    ]
    chosen = explain_clips(made)
    assert len(chosen) == 2 * EXPLAIN_CLIPS
    assert all(clip.split == "test" for clip in chosen)
    assert sum(clip.speaker == "t" for clip in chosen) == 4
    assert {clip.speaker for clip in chosen[:2]} == {"s", "t"}


# ---------------------------------------------------------------- the command


def test_what_is_printed(planted: tuple[ExplainStudy, Material], capsys: pytest.CaptureFixture[str]) -> None:
    study, _ = planted
    _print(study, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"gradcam: {len(study.clips)} test clips, {study.accuracy:.1%} told right"
    assert lines[1].startswith("  changed: loudness +")
    _print(study, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(WAYS) * 2 * len(NAMES)
    assert found[0] == {"saliency": "gradcam"} | asdict(study.profiles["gradcam"].all[0])


def test_the_command_writes_figures_and_a_page(pdid: Pdid, test_data: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "digits.csv", digits_rows(tmp_path, test_data))
    model, corpus = untrained_folder(tmp_path / "untrained"), tmp_path / "corpus"
    done = pdid("benchmark", "explain", "--dataset", data, "--corpus", corpus, "--model", model)
    assert done.code == 0, done.err
    assert "2 of 6 test clips are of a class the classifier was never shown" in done.err
    assert "2 ways to hand the classes out among these speakers" in done.err
    assert [line.split(":")[0] for line in done.out.splitlines()[::3]] == list(WAYS)
    told = json.loads((corpus / "runs" / "explain" / "digits.json").read_text("utf-8"))
    assert told["classes"] == ["German", "USA"]
    assert len(told["clips"]) == 3
    assert told["skipped"] == {UNKNOWN: 2, TOO_SHORT: 1}
    assert set(told["profiles"]) == set(WAYS)
    page = (corpus / "runs" / "explain" / "digits.html").read_text("utf-8")
    assert page.count("<audio") == 3
    assert page.count('<i style="left:') == 3 * len(WAYS) * 5
    assert "Grad-CAM: class × cue, effect" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert {u.accent for u in read_dataset(data)} == {"USA", "German", "Belgian French", "Greek"}
    # the classifier is that of the benchmark
    assert len(list((corpus / "runs").glob("classifier-*"))) == 1
    assert not [path for path in (corpus / "runs" / "explain").iterdir() if path.name.startswith(".")]


def test_one_class_in_test_is_refused(pdid: Pdid, test_data: Path, tmp_path: Path) -> None:
    """Before the classifier is trained: there is but one class that training and test share."""
    sides = (("train", "jackson", 1), ("train", "lucas", 1), ("test", "theo", 2), ("test", "george", 1))
    data = write_rows(tmp_path / "digits.csv", digits_rows(tmp_path, test_data, sides))
    model = untrained_folder(tmp_path / "untrained")
    done = pdid("benchmark", "explain", "--dataset", data, "--corpus", tmp_path / "corpus", "--model", model)
    assert done.code == 2
    assert (
        "two classes or more to compare, got USA from 3 test clips; 1 are of a class the classifier was never"
        in done.err
    )
    assert not (tmp_path / "corpus" / "runs").exists()
