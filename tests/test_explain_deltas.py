"""Cues on the log-mel's frames, the windows with the most relevance, and p-values that keep what they promise."""

from __future__ import annotations

import csv
import re
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from asr_experiments.datasets import read_sound
from asr_experiments.explain import cues as cues_module
from asr_experiments.explain.cues import CUES, NAMES, RATE_CUE, Tracks, cue_tracks, require_opensmile, syllables
from asr_experiments.explain.deltas import (
    SHORTEST,
    WINDOW,
    Material,
    arrangements,
    cells,
    random_windows,
    top_windows,
    window_deltas,
)
from asr_experiments.features import Floats
from catalog.errors import UsageError
from catalog.records import RATE

LOUDNESS, F0, HNR, F1 = (NAMES.index(name) for name in ("loudness", "F0", "HNR", "F1"))


def buzz(hertz: float, seconds: float) -> Floats:
    """A voice without a mouth: harmonics that fall by 6 dB an octave."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(0.1 * sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 20)), np.float32)


def between(sound: Floats, start_s: float, end_s: float, seconds: float = 3.0) -> Floats:
    whole = np.random.default_rng(0).normal(0, 1e-4, round(seconds * RATE)).astype(np.float32)
    whole[round(start_s * RATE) : round(end_s * RATE)] += sound
    return whole


# ---------------------------------------------------------------- cues


def test_cues_are_on_the_frames_of_the_log_mel() -> None:
    tracks = cue_tracks(between(buzz(150, 0.5), 1.0, 1.5), 300)
    assert tracks.values.shape == tracks.usable.shape == (len(CUES), 300)
    loud = np.flatnonzero(tracks.values[LOUDNESS] > tracks.values[LOUDNESS].max() / 2)
    assert (loud[0] + loud[-1]) / 2 == pytest.approx(125, abs=1)  # the middle of the sound, at 10 ms a frame
    voiced = np.flatnonzero(tracks.voiced)
    assert (voiced[0] + voiced[-1]) / 2 == pytest.approx(125, abs=1.5)
    assert np.median(tracks.values[F0, voiced]) == pytest.approx(12 * np.log2(150 / 27.5), abs=0.3)
    assert not tracks.usable[F1, :90].any()  # a formant needs a voice
    assert tracks.usable[LOUDNESS, 1:295].all()
    assert not tracks.values[~tracks.usable].any()


def test_formants_are_on_those_frames_too() -> None:
    def vowel(formants: tuple[float, ...]) -> Floats:
        sound = np.zeros(3 * RATE)
        sound[:: RATE // 120] = 1
        for hertz in formants:
            r = np.exp(-np.pi * 80 / RATE)
            sound = lfilter([1], [1, -2 * r * np.cos(2 * np.pi * hertz / RATE), r * r], sound)
        return np.asarray(0.3 * sound / np.abs(sound).max(), np.float32)

    first, other = vowel((400, 1200, 2500, 3500)), vowel((700, 1900, 2900, 3700))
    t = np.arange(3 * RATE) / RATE
    tracks = cue_tracks(np.where((t >= 1) & (t < 1.5), other, first) + np.float32(1e-5), 300)
    f2 = tracks.values[NAMES.index("F2")]
    low, high = float(np.median(f2[30:90])), float(np.median(f2[110:140]))
    assert high > low + 50
    raised = np.flatnonzero(f2[60:200] > (low + high) / 2) + 60
    assert (raised[0] + raised[-1]) / 2 == pytest.approx(125, abs=3)


def test_the_speaking_rate_follows_real_sentences(test_data: Path) -> None:
    with (test_data / "clips" / "vctk" / "manifest.tsv").open(encoding="utf-8") as file:
        sentences = list(csv.DictReader(file, delimiter="\t"))[::5]
    found, expected = [], []
    for row in sentences:
        sound = read_sound(test_data / "clips" / "vctk" / row["file"])
        tracks = cue_tracks(sound, len(sound) // 160)
        nuclei = syllables(tracks.values[LOUDNESS], tracks.voiced)
        found.append(int(nuclei.sum()))
        expected.append(len(re.findall("[aeiouy]+", re.sub(r"e\b", "", row["text"].lower()))))
        rate = tracks.values[NAMES.index(RATE_CUE)]
        assert rate.mean() == pytest.approx(nuclei.sum() / len(rate) * 100, rel=0.15)
    assert np.corrcoef(found, expected)[0, 1] > 0.8
    assert sum(found) == pytest.approx(sum(expected), rel=0.25)


@pytest.mark.parametrize("n", [0, 100, 1600])
def test_sound_without_a_voice_or_next_to_no_sound(n: int) -> None:
    tracks = cue_tracks(np.zeros(n, np.float32), 10)
    assert not tracks.voiced.any()
    assert not tracks.usable[F1].any()


def test_noise_has_loudness_but_no_pitch() -> None:
    tracks = cue_tracks(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), 100)
    assert not tracks.voiced.any()
    assert tracks.usable[LOUDNESS].sum() > 90
    assert np.isnan(window_deltas(tracks, np.array([[0, 15, 30, 45, 60]]))[0, [F0, HNR, F1]]).all()


def test_without_opensmile_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    cues_module._smile.cache_clear()
    with pytest.raises(UsageError, match=r"openSMILE is not installed.*pip install 'pdid\[explain\]'"):
        require_opensmile()


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("n", [SHORTEST, SHORTEST + 4, 92])
def test_the_top_windows_are_the_best_five(n: int) -> None:
    relevance = np.random.default_rng(n).normal(size=n).astype(np.float32)
    sums = np.convolve(relevance.astype(float), np.ones(WINDOW), "valid")
    slack = n - SHORTEST + 5
    every = [[at + i * (WINDOW - 1) for i, at in enumerate(chosen)] for chosen in combinations(range(slack), 5)]
    best = max(every, key=lambda starts: sum(sums[at] for at in starts))
    assert list(top_windows(relevance)) == best


def test_windows_go_to_the_peaks_and_ties_to_the_first() -> None:
    relevance = np.zeros(300, np.float32)
    for at in (20, 80, 140, 200, 260):
        relevance[at : at + WINDOW] = 1
    assert top_windows(relevance) == (20, 80, 140, 200, 260)
    assert top_windows(np.zeros(300, np.float32)) == (0, 15, 30, 45, 60)


def test_a_clip_too_short_for_five_windows() -> None:
    with pytest.raises(UsageError, match=r"expected 75 frames \(0\.75 s\) or more.*got 74"):
        top_windows(np.zeros(74, np.float32))


def test_random_windows_lie_everywhere_and_never_overlap() -> None:
    found = random_windows(SHORTEST + 2, 4000, np.random.default_rng(0))
    assert (np.diff(found, axis=1) >= WINDOW).all()
    assert found.min() == 0
    assert found.max() == 77 - WINDOW
    # 21 ways to lay five windows with two frames to spare, each as often
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 21
    assert counts.min() > 0.7 * 4000 / 21
    assert (random_windows(SHORTEST, 3, np.random.default_rng(0)) == np.arange(5) * WINDOW).all()


def test_a_delta_is_windows_less_clip_over_usable_frames() -> None:
    values = np.zeros((len(NAMES), 100), np.float32)
    usable = np.zeros_like(values, bool)
    values[LOUDNESS], usable[LOUDNESS] = np.arange(100), True
    values[F0, 20:60], usable[F0, 20:60] = 30, True
    values[F0, 20:30] = 40
    values[F1, :14], usable[F1, :14] = 1, True  # one frame less than a window's
    starts = np.array([[0, 15, 30, 45, 60]])
    (found,) = window_deltas(Tracks(values, usable), starts)
    assert found[LOUDNESS] == pytest.approx(37 - 49.5)
    assert found[F0] == pytest.approx(0)  # all of the voice lies in the windows
    assert np.isnan(found[F1])
    (other,) = window_deltas(Tracks(values, usable), np.array([[25, 40, 55, 70, 85]]))
    assert other[F0] == pytest.approx((5 * 40 + 30 * 30) / 35 - 32.5)


# ---------------------------------------------------------------- sureness


def units(
    rng: np.random.Generator,
    labels: list[str],
    speakers: list[str],
    shift: dict[str, float],
    everyone: float = 0.0,
    draws: int = 400,
) -> Material:
    """Clips whose windows are at random, but for a shift of the loudness by label, or for everyone."""
    n = len(labels)
    drawn = rng.normal(size=(n, draws, len(NAMES)))
    salient = rng.normal(size=(n, len(NAMES)))
    salient[:, LOUDNESS] += [shift.get(label, 0.0) + everyone for label in labels]
    return Material(salient, drawn, tuple(labels), tuple(speakers))


def test_a_cue_counts_where_place_and_class_both_say_so() -> None:
    rng = np.random.default_rng(0)
    labels, speakers = ["a", "b"] * 30, [f"s{i // 10}" for i in range(60)]
    shifted = {(c.label, c.cue): c for c in cells(units(rng, labels, speakers, {"a": 2.0}), ("a", "b"))}
    found = shifted["a", "loudness"]
    assert found.counts
    assert found.effect == pytest.approx(2.0, abs=0.5)
    assert found.contrast == pytest.approx(2.0, abs=0.7)
    assert (found.n_clips, found.n_speakers) == (30, 6)
    assert [key for key, cell in shifted.items() if cell.counts] == [("a", "loudness")]  # b's places are ordinary
    assert shifted["b", "loudness"].p_class == shifted["a", "loudness"].p_class  # of two classes
    generic = cells(units(rng, labels, speakers, {}, everyone=2.0), ("a", "b"))
    loud = [cell for cell in generic if cell.cue == "loudness"]
    assert all(cell.p_place is not None and cell.p_place < 0.01 for cell in loud)  # anyone prefers loud places…
    assert not any(cell.counts for cell in generic)  # …which says nothing of a class
    places = cells(units(rng, labels, speakers, {}, everyone=2.0), ("a", "b"), against_others=False)
    assert [c.counts for c in places if c.cue == "loudness"] == [True, True]
    assert all(cell.p_class is None for cell in places)


def test_speakers_are_the_blocks() -> None:
    """Thirty clips of one odd speaker weigh as much as three of another."""
    labels = ["a"] * 36 + ["b"] * 36
    speakers = ["s0"] * 30 + ["s1"] * 3 + ["s2"] * 3 + ["t0"] * 12 + ["t1"] * 12 + ["t2"] * 12
    made = units(np.random.default_rng(0), labels, speakers, {})
    salient = np.zeros_like(made.salient)
    salient[:30, LOUDNESS] = 3.0
    salient[30, LOUDNESS] = np.nan
    (found,) = (
        cell
        for cell in cells(Material(salient, made.drawn, made.labels, made.speakers), ("a", "b"))
        if cell.label == "a" and cell.cue == "loudness"
    )
    assert found.delta == pytest.approx(1.0)
    assert found.n_clips == 35
    assert found.p_place is not None
    assert found.p_place < 0.01
    assert found.p_class is not None
    assert found.p_class >= 1 / 20  # twenty ways to hand two classes out among six speakers
    assert not found.counts


@pytest.mark.parametrize("nested", [False, True])
def test_where_nothing_is_planted_the_level_is_kept(nested: bool) -> None:
    """Speakers differ, everybody prefers loud places; with labels that mean nothing one test in twenty may say so."""
    rng = np.random.default_rng(3)
    speakers = [f"s{i // 5}" for i in range(60)]
    hits = []
    for seed in range(40):
        own = {f"s{i}": value for i, value in enumerate(rng.normal(0, 1, 12))}
        order = rng.permutation([0, 1] * 6)
        labels = ["ab"[order[i // 5]] if nested else "ab"[rng.integers(2)] for i in range(60)]
        made = units(rng, labels, speakers, {}, everyone=1.0, draws=100)
        made.salient[:, LOUDNESS] += [own[name] for name in speakers]
        hits += [c.p_class for c in cells(made.some(range(60)), ("a", "b"), seed) if c.label == "a"]
    share = np.mean([p is not None and p <= 0.05 for p in hits])
    assert 0.02 < share < 0.08


def test_in_how_many_ways_classes_can_be_handed_out() -> None:
    assert arrangements(["a", "a", "b", "b"], ["s", "t", "u", "v"]) == pytest.approx(6)
    assert arrangements(["a", "a", "b", "b"], ["s"] * 4) == pytest.approx(6)
    assert arrangements(["a", "b", "a", "b"], ["s", "s", "t", "t"]) == pytest.approx(4)
    assert arrangements(["a", "b", "a", "b"], ["s", "s", "t", "u"]) == pytest.approx(4)
    assert arrangements(["a"] * 3, ["s", "t", "u"]) == pytest.approx(1)


def test_a_cue_few_clips_have_gets_no_figure() -> None:
    """Of the class that lacks it; three clips of four are enough."""
    made = units(np.random.default_rng(0), ["a", "b"] * 4, ["s", "t"] * 4, {})
    made.salient[[0, 2, 4, 1], F0] = np.nan
    for cell in cells(made, ("a", "b")):
        if (cell.label, cell.cue) == ("a", "F0"):
            assert (cell.n_clips, cell.delta, cell.effect, cell.contrast, cell.p) == (1, None, None, None, None)
        elif cell.cue == "F0":
            assert (cell.n_clips, cell.p is None) == (3, False)
        else:
            assert cell.p is not None
