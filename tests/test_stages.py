"""The stages by themselves: music, speech, pieces, loudness, quality, each against what is known of the sound."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from silero_vad import get_speech_timestamps

from catalog.records import RATE, Reject, Segment, Span
from corpus_builder import vad
from corpus_builder.audio import Decoder, Samples, Track
from corpus_builder.config import Keep, Loudness, Music, Segmentation, Vad
from corpus_builder.loudness import level, loudness_lufs, true_peak_dbtp
from corpus_builder.music import MusicDetector
from corpus_builder.pauses import find_pauses, frame_levels
from corpus_builder.protocols import Turn
from corpus_builder.quality import WINDOW, Dnsmos, clipped_share, judge, snr_db
from corpus_builder.segment import HOP, MUSIC_FRAMES, Findings, Piece, cut
from corpus_builder.spans import subtract
from corpus_builder.vad import SpeechDetector

ReadClip = Callable[[str], Samples]


def quiet(_: float) -> None:
    """No progress."""


def track_of(sound: Samples, folder: Path) -> Track:
    """Sound as a track in a folder."""
    sound.astype(np.float32).tofile(folder / "track.f32")
    return Track(folder / "track.f32", len(sound))


def mask(spans: Any, n: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True where a span is, of shape (n,)."""
    found = np.zeros(n, bool)
    for span in spans:
        found[span.start : span.end] = True
    return found


def sine(hz: float, peak: float, seconds: float, phase: float = 0.0) -> Samples:
    t = np.arange(round(seconds * RATE)) / RATE
    return (peak * np.sin(2 * np.pi * hz * t + phase)).astype(np.float32)


# Music.


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme's track and its truth, in samples."""

    track: Track
    music: list[Span]
    speech: list[Span]


@pytest.fixture(scope="module")
def programme(programmes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Programme:
    path = next(path for path in programmes if path.stem == "magazine_a")
    truth = json.loads(path.with_suffix(".truth.json").read_text())
    sound = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])

    music = [Span(round(a * RATE), round(b * RATE)) for a, b in truth["music"]]
    turns = [Span(round(turn["start_s"] * RATE), round(turn["end_s"] * RATE)) for turn in truth["turns"]]
    return Programme(track_of(sound, tmp_path_factory.mktemp("programme")), music, turns)


def test_music_is_found_where_the_truth_has_it(programme: Programme) -> None:
    n = len(programme.track)
    found = MusicDetector(Music())(programme.track, quiet)
    truth, said = mask(programme.music, n), mask(found.music, n)
    assert truth.mean() > 0.2
    assert said[truth].mean() >= 0.98
    assert said[~truth].mean() <= 0.1
    # and alone where nobody speaks over it, a second's smoothing aside
    alone, spoken = mask(found.alone, n), mask(programme.speech, n)
    assert not (alone & ~said).any()
    assert alone[spoken].mean() <= 0.01
    assert alone[truth & ~spoken].mean() >= 0.7


def test_music_is_the_same_however_the_track_is_cut_into_blocks(
    programme: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = MusicDetector(Music())
    whole = detector.probabilities(programme.track, quiet)
    monkeypatch.setattr("corpus_builder.music.BLOCK_S", 17)
    assert np.abs(detector.probabilities(programme.track, quiet) - whole).mean() < 0.01


def test_no_music_in_silence_or_hardly_any_sound(tmp_path: Path) -> None:
    detector = MusicDetector(Music())
    for n in (0, 1, 800, 1600, 3 * RATE):
        found = detector(track_of(np.zeros(n, np.float32), tmp_path), quiet)
        assert (found.music, found.alone) == ((), ())


@given(
    st.lists(st.integers(0, 200), min_size=2, max_size=12, unique=True),
    st.lists(st.integers(0, 200), min_size=2, max_size=12, unique=True),
)
def test_subtract_leaves_what_is_in_none_of_the_holes(spans: list[int], holes: list[int]) -> None:
    def pairs(edges: list[int]) -> list[Span]:
        edges = sorted(edges)
        return [Span(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]

    left = subtract(pairs(spans), pairs(holes))
    assert np.array_equal(mask(left, 201), mask(pairs(spans), 201) & ~mask(pairs(holes), 201))
    assert all(a.end <= b.start for a, b in pairwise(left))
    assert all(len(span) > 0 for span in left)


# Speech.


def test_stretches_side_by_side_say_what_one_says(
    two_speakers: Path, clip: ReadClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech of two and of one who does not pause, heard in one go by silero's own function, and cut up."""
    talk = np.concatenate([block[:, 0] for block in Decoder(two_speakers, RATE)])
    detector = SpeechDetector(Vad())
    for sound in (talk, clip("librispeech/1688-142285-0000.flac")):
        track = track_of(sound, tmp_path)
        chosen = detector.settings
        at_once = get_speech_timestamps(
            torch.from_numpy(sound),
            detector.model,
            threshold=chosen.threshold,
            min_speech_duration_ms=chosen.min_speech_ms,
            min_silence_duration_ms=chosen.min_silence_ms,
            speech_pad_ms=chosen.pad_ms,
        )
        whole = [Span(found["start"], found["end"]) for found in at_once]
        for stretch, batch in ((480, 32), (100, 3), (7, 1000)):
            monkeypatch.setattr(vad, "STRETCH", stretch)
            monkeypatch.setattr(vad, "BATCH", batch)
            parted = detector(track, quiet)
            assert len(parted) == len(whole)
            for a, b in zip(whole, parted, strict=True):
                assert abs(a.start - b.start) <= RATE // 10
                assert abs(a.end - b.end) <= RATE // 10


def test_a_stretch_alone_says_the_same_as_among_others(two_speakers: Path, tmp_path: Path) -> None:
    sound = np.concatenate([block[:, 0] for block in Decoder(two_speakers, RATE)])
    detector = SpeechDetector(Vad())
    among = detector.probabilities(track_of(np.tile(sound, 4), tmp_path), quiet)
    n = vad.STRETCH
    alone = detector.probabilities(track_of(np.tile(sound, 4)[: n * vad.FRAME], tmp_path), quiet)
    assert alone == pytest.approx(among[:n], abs=1e-4)
    assert among[:n].max() > 0.9


def test_no_speech_in_silence_or_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 3 * RATE)
    for sound in (np.zeros(3 * RATE), noise, np.zeros(1), np.zeros(0)):
        assert SpeechDetector(Vad())(track_of(sound, tmp_path), quiet) == ()


def test_pauses_lie_between_words(clip: ReadClip, tmp_path: Path) -> None:
    """Silence put into speech is found to 30 ms; what is found is quiet."""
    sound = clip("vctk/p225_003.flac")
    loud = np.flatnonzero(np.abs(sound) > 0.05)
    first, second = sound[loud[0] : loud[-1]], sound[loud[0] : loud[-1]]
    noise = np.random.default_rng(0).normal(0, 1e-4, RATE // 2).astype(np.float32)
    together = np.concatenate([noise, first, noise, second, noise])
    track = track_of(together, tmp_path)
    start = len(noise) + len(first)
    found = find_pauses(track, [Span(len(noise), len(together) - len(noise))], 0.12)
    middle = [pause for pause in found if pause.start < start + RATE // 4 < pause.end]
    assert len(middle) == 1
    assert abs(middle[0].end - (start + len(noise))) <= 3 * HOP
    levels = frame_levels(together)
    quietest = [levels[pause.start // HOP : pause.end // HOP].mean() for pause in found]
    assert max(quietest) < levels.mean() - 10
    assert all(len(pause) >= 0.12 * RATE for pause in found)


# Pieces.


@st.composite
def findings(draw: st.DrawFn) -> Findings:
    """Up to fifteen utterances of three speakers, a pause after each, some with music or another voice over them."""
    speech, pauses, turns, overlaps, unsure, music = [], [], [], [], [], []
    at = draw(st.integers(0, 300))
    if at > 12:
        pauses.append(Span(0, at * HOP))
    for _ in range(draw(st.integers(0, 15))):
        end = at + draw(st.integers(10, 1500) | st.integers(2900, 3600))
        span = Span(at * HOP, end * HOP)
        speech.append(span)
        turns.append(Turn(span.start, span.end, draw(st.sampled_from("ABC"))))
        over = draw(st.sampled_from([None, None, None, None, overlaps, unsure, music]))
        if over is not None:
            first = draw(st.integers(at, end - 1))
            over.append(Span(first * HOP, draw(st.integers(first + 1, end)) * HOP))
        at = end + draw(st.integers(13, 300))
        pauses.append(Span(end * HOP, at * HOP))
    n = at * HOP + draw(st.integers(0, HOP - 1))
    return Findings(n, speech, pauses, pauses, turns, overlaps, unsure, music, music)


@settings(max_examples=200, deadline=None)
@given(findings(), st.sampled_from([Segmentation(), Segmentation(min_s=1.0, max_s=8.0), Segmentation(pad_s=0.0)]))
def test_pieces_tile_and_clips_are_what_was_asked_for(found: Findings, wanted: Segmentation) -> None:
    pieces = cut(found, wanted)
    edges = [0, *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == edges[:-1]
    assert edges[-1] == found.n_samples
    assert all(piece.end > piece.start for piece in pieces)
    clips = [piece for piece in pieces if piece.reject is None]
    spoken = mask(found.speech, found.n_samples)
    for clip in clips:
        assert wanted.min_s * RATE <= clip.end - clip.start <= wanted.max_s * RATE
        inside = [turn for turn in found.turns if turn.start < clip.end and clip.start < turn.end]
        assert {turn.speaker for turn in inside} == {clip.speaker}
        assert all(clip.start <= turn.start and turn.end <= clip.end for turn in inside), "no word is cut"
        assert not spoken[clip.start] or clip.start in {turn.start for turn in inside}
        pad = round(wanted.pad_s * RATE)
        # sound before the first word with no pause between may be its soft beginning
        lead = inside[0].start if inside[0] is found.turns[0] and found.pauses[0].start else 0
        assert inside[0].start - clip.start <= pad + lead
        assert clip.end - inside[-1].end <= pad + HOP
        for span in found.unwanted_music:
            assert min(span.end, clip.end) - max(span.start, clip.start) <= MUSIC_FRAMES * HOP + pad
        for span in found.overlaps:
            assert min(span.end, clip.end) - max(span.start, clip.start) <= RATE // 10
    for piece in pieces:
        if piece.reject is Reject.SILENCE:
            assert not spoken[piece.start : piece.end].any()


def test_utterances_of_one_speaker_are_joined_and_others_part_them() -> None:
    def spoken(*said: tuple[float, float, str]) -> list[Piece]:
        spans = [Span(round(a * RATE), round(b * RATE)) for a, b, _ in said]
        pauses = [Span(a.end, b.start) for a, b in pairwise(spans)]
        turns = [Turn(span.start, span.end, name) for span, (_, _, name) in zip(spans, said, strict=True)]
        found = Findings(spans[-1].end, spans, pauses, pauses, turns)
        return [piece for piece in cut(found, Segmentation()) if piece.reject is None]

    (joined,) = spoken((0, 2, "A"), (2.5, 4, "A"), (4.4, 6, "A"))
    assert (joined.start, joined.end, joined.speaker) == (0, 6 * RATE, "A")
    first, second = spoken((0, 4, "A"), (4.3, 8, "B"))
    assert (first.speaker, second.speaker) == ("A", "B")
    assert first.end <= 4.15 * RATE <= second.start
    apart = spoken((0, 4, "A"), (6, 10, "A"))
    assert len(apart) == 2, "the pause between is too long"
    long = spoken(*((10.0 * k, 10.0 * k + 9.5 - 0.1 * (k == 1), "A") for k in range(5)))
    assert len(long) == 2
    assert max(piece.end - piece.start for piece in long) <= 30 * RATE
    assert long[0].end // RATE == 19, "divided at the longest pause"
    assert spoken((0, 2.9, "A")) == []
    assert spoken((0, 40, "A")) == [], "no pause to cut at"


# Loudness. EBU Tech 3341 and ITU-R BS.1770-4: a sine of 997 Hz in one channel reads its peak level less 3.01.


@pytest.mark.parametrize("lufs", [-23.0, -33.0, -40.0])
def test_a_sine_reads_its_loudness(lufs: float) -> None:
    assert loudness_lufs(sine(997, 10 ** ((lufs + 3.01) / 20), 20)) == pytest.approx(lufs, abs=0.1)


def test_the_gate_passes_over_silence() -> None:
    """EBU Tech 3341, case 3: what is far under the rest does not count."""
    peak = 10 ** ((-23 + 3.01) / 20)
    loud, soft = sine(997, peak, 60), sine(997, peak / 10**0.65, 10)
    assert loudness_lufs(np.concatenate([soft, loud, soft])) == pytest.approx(-23.0, abs=0.1)
    assert loudness_lufs(np.zeros(RATE, np.float32)) == float("-inf")
    assert loudness_lufs(sine(997, 0.5, 0.3)) == float("-inf")


@pytest.mark.parametrize(("hz", "degrees", "over_db"), [(RATE / 4, 45, 3.01), (RATE / 4, 0, 0.0), (RATE / 6, 60, 1.25)])
def test_the_true_peak_lies_between_the_samples(hz: float, degrees: float, over_db: float) -> None:
    sound = sine(hz, 0.5, 1, np.radians(degrees))
    sound *= np.hanning(len(sound)).astype(np.float32) ** 0.1  # no step at the ends, which would ring
    sample_peak = 20 * np.log10(np.abs(sound).max())
    assert true_peak_dbtp(sound) - sample_peak == pytest.approx(over_db, abs=0.2)


def test_level_brings_speech_to_its_target(clip: ReadClip) -> None:
    speech = clip("librispeech/1688-142285-0000.flac")
    for gain in (0.02, 1.0, 3.0):
        levelled = level(gain * speech, Loudness())
        assert levelled
        assert loudness_lufs(levelled.audio) == pytest.approx(-23, abs=0.01)
        assert levelled.loudness_lufs == pytest.approx(-23, abs=0.01)
        assert levelled.true_peak_dbtp == pytest.approx(true_peak_dbtp(levelled.audio), abs=0.01)
        assert np.allclose(levelled.audio, gain * speech * 10 ** (levelled.gain_db / 20), atol=1e-6)


def test_level_stays_under_the_peak(clip: ReadClip) -> None:
    speech = 0.1 * clip("librispeech/1688-142285-0000.flac")
    speech[RATE] = 1.0
    levelled = level(speech, Loudness())
    assert levelled
    assert levelled.loudness_lufs < -23.5
    assert -1.3 < true_peak_dbtp(levelled.audio) <= -1.0
    assert loudness_lufs(levelled.audio) == pytest.approx(levelled.loudness_lufs, abs=0.01)


def test_level_gives_up_on_silence_and_on_what_is_far_too_quiet(clip: ReadClip) -> None:
    speech = clip("librispeech/1688-142285-0000.flac")
    assert level(np.zeros(5 * RATE, np.float32), Loudness()) is None
    assert level(speech[: RATE // 4], Loudness()) is None
    assert level(1e-4 * speech, Loudness()) is None
    assert level(1e-4 * speech, Loudness(max_gain_db=90)) is not None


# Quality.

# What speechmos 0.0.1.1's own dnsmos.run (with librosa 0.11) said of a window of 9.01 s: sig, bak, ovrl.
SPEECHMOS = {
    "librispeech/1688-142285-0000.flac": (3.294231, 3.850131, 2.948912),
    "conversation/sample.wav": (3.381200, 4.043069, 3.051369),
    "noise": (1.183861, 1.105977, 1.106144),
}


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    return Dnsmos()


@pytest.mark.parametrize("name", SPEECHMOS)
def test_dnsmos_is_what_the_published_code_says(dnsmos: Dnsmos, request: pytest.FixtureRequest, name: str) -> None:
    if name == "noise":
        sound = np.random.default_rng(0).normal(0, 0.05, WINDOW).astype(np.float32)
    else:
        sound = request.getfixturevalue("clip")(name)[:WINDOW]
    assert len(sound) == WINDOW == 144_160
    ours = dnsmos(sound)
    assert (ours.sig, ours.bak, ours.ovrl) == pytest.approx(SPEECHMOS[name], abs=1e-4)
    if importlib.util.find_spec("librosa") and importlib.util.find_spec("pandas"):  # what speechmos imports
        from speechmos import dnsmos as published

        theirs = published.run(sound, RATE)
        expected = (theirs["sig_mos"], theirs["bak_mos"], theirs["ovrl_mos"])
        assert (ours.sig, ours.bak, ours.ovrl) == pytest.approx(expected, abs=1e-4)


def test_dnsmos_of_other_lengths(dnsmos: Dnsmos, clip: ReadClip) -> None:
    """Short sound is repeated; long sound is the mean of windows that reach from its start to its end."""
    speech = clip("librispeech/1688-142285-0000.flac")
    short = speech[: 3 * RATE]
    assert dnsmos(short) == dnsmos(np.tile(short, 4)[:WINDOW])
    long = dnsmos(speech)
    ends = dnsmos(speech[:WINDOW]), dnsmos(speech[-WINDOW:])
    assert long.ovrl == pytest.approx((ends[0].ovrl + ends[1].ovrl) / 2, abs=1e-4)


def test_dnsmos_falls_with_noise(dnsmos: Dnsmos, clip: ReadClip) -> None:
    speech = clip("librispeech/1688-142285-0000.flac")[:WINDOW]
    noise = np.random.default_rng(1).normal(0, 0.02, WINDOW).astype(np.float32)
    assert dnsmos(speech + noise).ovrl < dnsmos(speech).ovrl - 0.5


@pytest.mark.parametrize("wanted_db", [0, 5, 10, 20, 30])
def test_snr_of_a_known_mix(wanted_db: float) -> None:
    """Two seconds of signal, one without, over noise that goes on."""
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 0.1, 9 * RATE)
    is_speech = np.arange(len(signal)) % (3 * RATE) < 2 * RATE
    mix = signal * is_speech + rng.normal(0, 0.1 * 10 ** (-wanted_db / 20), len(signal))
    levels = frame_levels(mix.astype(np.float32))
    assert snr_db(levels, is_speech[::HOP]) == pytest.approx(wanted_db, abs=0.3)


def test_snr_without_pauses_and_without_speech(clip: ReadClip) -> None:
    speech = clip("librispeech/1688-142285-0000.flac")
    noise = np.random.default_rng(0).normal(0, 0.003, len(speech)).astype(np.float32)
    levels = frame_levels(speech + noise)
    everywhere, nowhere = np.ones(len(levels), bool), np.zeros(len(levels), bool)
    truth = 10 * np.log10((speech**2).mean() / (noise**2).mean())
    assert snr_db(levels, everywhere) == pytest.approx(truth, abs=2)
    assert snr_db(levels, nowhere) is None


def test_clipping_is_counted() -> None:
    sound = np.zeros(1000, np.float32)
    sound[:20], sound[20:30] = 1.0, -1.0
    assert clipped_share(sound) == pytest.approx(0.03)
    assert clipped_share(0.9 * sound) == 0
    assert clipped_share(sound[:0]) == 0


def test_the_keep_rule() -> None:
    def segment(**scores: float | None) -> Segment:
        return Segment("x", "s", "s-S1", 0, 5 * RATE, False, **scores)  # type: ignore[arg-type]

    rule = Keep(min_dnsmos_ovrl=2.5, min_snr_db=10, max_clipped_share=0.01)
    good = {"clipped_share": 0.01, "snr_db": 10.0, "dnsmos_ovrl": 2.5}
    assert judge(segment(**good), rule) is None
    assert judge(segment(**good | {"clipped_share": 0.011}), rule) is Reject.CLIPPED
    assert judge(segment(**good | {"snr_db": 9.9}), rule) is Reject.NOISY
    assert judge(segment(**good | {"dnsmos_ovrl": 2.4}), rule) is Reject.LOW_QUALITY
    assert judge(segment(), rule) is None, "what was not measured is no reason"


def spans_of(*seconds: tuple[float, float]) -> list[Span]:
    return [Span(round(a * RATE), round(b * RATE)) for a, b in seconds]


def one_speaker(n_samples: int, speech: list[Span], **found: list[Span]) -> list[Piece]:
    """Cut speech of one speaker, with the given pauses, dips or unwanted music."""
    turns = [Turn(s.start, s.end, "S1") for s in speech]
    rest = {"pauses": [], "dips": []} | found
    return cut(Findings(n_samples=n_samples, speech=speech, turns=turns, **rest), Segmentation())


def test_speech_to_the_last_sample_is_not_a_clip_under_three_seconds() -> None:
    for n_samples in (47_950, 48_000, 48_050):
        pieces = one_speaker(n_samples, [Span(0, n_samples)])
        assert [(p.start, p.end) for p in pieces] == [(0, n_samples)]
        assert (pieces[0].reject is None) == (n_samples >= 48_000)


def test_speech_without_a_pause_is_cut_at_a_dip() -> None:
    long = spans_of((0, 40))
    assert {p.reject for p in one_speaker(40 * RATE, long)} == {Reject.NO_PAUSE}
    clips = [p for p in one_speaker(40 * RATE, long, dips=spans_of((20.0, 20.1))) if p.reject is None]
    assert [(p.start / RATE, p.end / RATE) for p in clips] == [(0, 20.05), (20.05, 40)]


def test_a_clip_ends_before_unwanted_music_begins() -> None:
    pieces = one_speaker(
        10 * RATE, spans_of((1, 6)), pauses=spans_of((0, 1), (6, 10)), unwanted_music=spans_of((6.05, 10))
    )
    (clip,) = [p for p in pieces if p.reject is None]
    assert clip.start / RATE == pytest.approx(0.85)
    assert clip.end / RATE == pytest.approx(6.05)
