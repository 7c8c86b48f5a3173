"""Voices and the embedded diarizer on real speech."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalog.records import RATE, Span
from corpus_builder import voices
from corpus_builder.audio import Samples, Track
from corpus_builder.config import Diarize
from corpus_builder.diarize import embedded
from corpus_builder.diarize.clustering import Speakers, music_shift, smooth
from corpus_builder.diarize.embedded import Embedded, frame_labels, move_changes
from corpus_builder.voices import Embeddings, VoiceEncoder, unit

ClipReader = Callable[[str], Samples]


def track_of(tmp_path: Path, audio: Samples) -> Track:
    path = tmp_path / "track.f32"
    audio.astype(np.float32).tofile(path)
    return Track(path, len(audio))


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    return VoiceEncoder()


@pytest.fixture(scope="module")
def readers(clip: ClipReader) -> dict[str, list[Samples]]:
    """Three utterances of each of four LibriSpeech readers."""
    return {
        reader: [clip(f"librispeech/{name}-000{i}.flac") for i in range(3)]
        for reader, name in (
            ("1688", "1688-142285"),
            ("1998", "1998-15444"),
            ("2414", "2414-128291"),
            ("2609", "2609-156975"),
        )
    }


def voice(encoder: VoiceEncoder, tmp_path: Path, audio: Samples) -> np.ndarray:
    found = encoder.embed(track_of(tmp_path, audio), [Span(0, len(audio))], lambda share: None)
    return unit(found.vectors.mean(0))


def test_a_voice_is_nearer_to_itself_than_to_any_other(
    encoder: VoiceEncoder, readers: dict[str, list[Samples]], tmp_path: Path
) -> None:
    voices = {name: [voice(encoder, tmp_path, a) for a in spoken] for name, spoken in readers.items()}
    for name, own in voices.items():
        nearest_stranger = max(float(own[0] @ v) for other in voices if other != name for v in voices[other])
        assert min(float(own[0] @ own[1]), float(own[0] @ own[2])) > nearest_stranger


def test_embeddings_have_their_place_and_unit_length(encoder: VoiceEncoder, clip: ClipReader, tmp_path: Path) -> None:
    audio = clip("librivox/jfk.flac")
    track = track_of(tmp_path, audio)
    found = encoder.embed(track, [Span(0, 3 * RATE), Span(5 * RATE, 6 * RATE)], lambda share: None)
    assert found.centres.tolist() == [*range(0, 48000, 1600), *range(80000, 96000, 1600)]
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    alone = encoder.embed(track, [Span(5 * RATE, 6 * RATE)], lambda share: None)
    assert alone.vectors == pytest.approx(found.vectors[30:], abs=1e-5)


def test_voices_between_those_heard_are_near_what_would_be_heard(
    encoder: VoiceEncoder, clip: ClipReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = track_of(tmp_path, clip("conversation/sample.wav"))
    spans = [Span(0, 12 * RATE + 1600), Span(20 * RATE, 20 * RATE + 100)]
    half = encoder.embed(track, spans, lambda share: None).vectors
    monkeypatch.setattr(voices, "EVERY", 1)
    full = encoder.embed(track, spans, lambda share: None).vectors
    assert half.shape == full.shape == (122, 256)
    likeness = (half * full).sum(1)
    assert likeness[[0, 2, 120, 121]] == pytest.approx(1, abs=1e-5)
    assert likeness.min() > 0.95
    assert likeness.mean() > 0.99


def test_threads_give_the_same_voices(encoder: VoiceEncoder, clip: ClipReader, tmp_path: Path) -> None:
    track = track_of(tmp_path, clip("librivox/jfk.flac"))
    spans = [Span(0, len(track))]
    one = encoder.embed(track, spans, lambda share: None).vectors
    two = VoiceEncoder(threads=2).embed(track, spans, lambda share: None).vectors
    assert np.array_equal(one, two)


def test_a_telephone_is_recognised(encoder: VoiceEncoder, clip: ClipReader, tmp_path: Path) -> None:
    for name, narrow in (("conversation/sample.wav", True), ("librispeech/1998-15444-0000.flac", False)):
        track = track_of(tmp_path, clip(name))
        found = encoder.embed(track, [Span(0, len(track))], lambda share: None)
        assert found.narrowband is narrow, name


def test_one_reader_is_one_speaker(readers: dict[str, list[Samples]], tmp_path: Path) -> None:
    quiet = np.zeros(RATE // 2, np.float32)
    for spoken in readers.values():
        audio = np.concatenate([part for utterance in spoken for part in (utterance, quiet)])
        found = Embedded(Diarize())(track_of(tmp_path, audio), [Span(0, len(audio))], [], lambda share: None)
        assert {turn.speaker for turn in found.turns} == {"S1"}


@pytest.mark.parametrize("part_s", [3600, 26])
def test_turns_fall_where_the_readers_change(
    part_s: int, readers: dict[str, list[Samples]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, and in two parts, none of which has all the readers."""
    monkeypatch.setattr(embedded, "PART", part_s * RATE)
    quiet = np.zeros(RATE // 2, np.float32)
    order = ["1688", "1998", "1688", "2609", "1998", "2609"]
    used = dict.fromkeys(readers, 0)
    parts, spans, at = [], [], 0
    for name in order:
        utterance = readers[name][used[name]][: 8 * RATE]
        used[name] += 1
        spans.append(Span(at, at + len(utterance)))
        parts += [utterance, quiet]
        at += len(utterance) + len(quiet)
    found = Embedded(Diarize())(track_of(tmp_path, np.concatenate(parts)), spans, [], lambda share: None)
    names = {"1688": "S1", "1998": "S2", "2609": "S3"}
    assert set(found.voices or {}) == set(names.values())
    for span, name in zip(spans, order, strict=True):
        said = sum(
            min(t.end, span.end) - max(t.start, span.start)
            for t in found.turns
            if t.speaker == names[name] and t.start < span.end and span.start < t.end
        )
        assert said / len(span) > 0.95, (name, span)


def test_no_speech_is_no_speaker(tmp_path: Path) -> None:
    found = Embedded(Diarize())(track_of(tmp_path, np.zeros(RATE, np.float32)), [], [], lambda share: None)
    assert found.turns == ()
    assert found.voices == {}


def test_smoothing_drops_a_blip_and_keeps_a_turn() -> None:
    similarity = np.tile([0.8, 0.2], (40, 1)).astype(np.float32)
    similarity[10] = [0.2, 0.8]  # a single window
    similarity[25:] = [0.2, 0.8]  # another speaker
    assert smooth(similarity, 1.5).tolist() == [0] * 25 + [1] * 15
    assert smooth(similarity, 0.0).tolist() == [0] * 10 + [1] + [0] * 14 + [1] * 15


def test_the_shift_of_music_is_recovered() -> None:
    rng = np.random.default_rng(0)
    speakers = unit(rng.normal(size=(3, 64))).astype(np.float32)
    shift = (0.5 * unit(rng.normal(size=64))).astype(np.float32)
    windows = np.concatenate([speakers[k] + shift + 0.05 * rng.normal(size=(40, 64)) for k in (0, 2)])
    found = music_shift(windows.astype(np.float32), speakers, np.ones(80, bool))
    assert np.linalg.norm(found - shift) < 0.1
    few = music_shift(windows[:5].astype(np.float32), speakers, np.ones(5, bool))
    assert not few.any()


def test_a_change_moves_to_the_quiet_moment(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    noise[int(2.2 * RATE) : int(2.3 * RATE)] = 0  # the pause; the labels change 0.2 s too early
    labels = np.array([0] * 200 + [1] * 200)
    moved = move_changes(track_of(tmp_path, noise), labels, [Span(0, 4 * RATE)])
    change = int(np.flatnonzero(np.diff(moved))[0]) + 1
    assert 220 <= change <= 230
    assert labels.tolist() == [0] * 200 + [1] * 200  # the input is left alone


def test_labels_cover_the_windows_places() -> None:
    embeddings = Embeddings(np.zeros((2, 256), np.float32), np.array([1600, 3200]), False)
    speakers = Speakers(np.array([1, 0]), np.zeros((2, 2), np.float32), np.zeros((2, 256), np.float32))
    assert frame_labels(embeddings, speakers, 30).tolist() == [-1] * 5 + [1] * 10 + [0] * 10 + [-1] * 5
