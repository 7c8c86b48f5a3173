"""Decoding counts true samples in flat blocks, the bandwidth is the source's, clips are what they should be."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile

from catalog.records import RATE
from corpus_builder.audio import BandwidthMeter, Decoder, MediaError, Track, open_media, probe, write_clip
from tests.media import convert, low_passed_noise

SECONDS = Fraction(7919, 1000)  # a length no frame size divides


def noise_wav(path: Path, rate: int, cutoff_hz: float = 5000) -> tuple[Path, int]:
    """A WAV of noise at `rate` Hz, and its number of samples."""
    sound = low_passed_noise(rate, cutoff_hz, float(SECONDS))
    wavfile.write(path, rate, (sound * 32767).astype("<i2"))
    return path, len(sound)


def bandwidth_of(path: Path) -> Any:
    meter = BandwidthMeter(probe(path).sample_rate)
    for _ in Decoder(path, RATE, meter=meter):
        pass
    return meter.hz()


@pytest.mark.parametrize(
    ("name", "options", "rate", "exact"),
    [
        ("a.wav", (), 16000, True),
        ("a.wav", (), 44100, False),
        ("a.wav", (), 8000, False),
        ("a.flac", (), 48000, False),
        ("a.mp3", ("-b:a", "64k"), 44100, False),
        ("a.m4a", ("-c:a", "aac"), 44100, False),
        ("a.mp4", ("-c:a", "aac"), 48000, False),
        ("a.opus", ("-c:a", "libopus"), 48000, False),
        ("a.mka", ("-c:a", "libvorbis"), 44100, False),
    ],
)
def test_the_count_of_samples_is_true(
    tmp_path: Path, name: str, options: tuple[str, ...], rate: int, exact: bool
) -> None:
    source, n = noise_wav(tmp_path / "source.wav", rate)
    path = convert(source, tmp_path / name, *options)
    counted = sum(len(block) for block in Decoder(path, RATE))
    # containers say how much of the last frame is filling, in stamps of a millisecond or finer
    assert counted == n if exact else abs(counted - n * RATE / rate) <= RATE // 1000


def test_decoding_finds_each_sound_where_it_is(tmp_path: Path) -> None:
    """Encoders' delays are taken off: a click stays at its time."""
    sound = np.zeros(3 * 48000, np.float32)
    sound[48000 : 48000 + 480] = 0.5
    wavfile.write(tmp_path / "click.wav", 48000, (sound * 32767).astype("<i2"))
    for name in ("click.wav", "click.mp3", "click.m4a", "click.opus"):
        path = tmp_path / name
        if name != "click.wav":
            convert(tmp_path / "click.wav", path)
        found = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
        loud = np.flatnonzero(np.abs(found) > 0.25)
        assert abs(int(loud[0]) - RATE) < RATE // 200, name
        assert abs(int(loud[-1]) - (RATE + RATE // 100)) < RATE // 200, name


def test_blocks_stay_small_however_long_the_file(tmp_path: Path) -> None:
    source, _ = noise_wav(tmp_path / "source.wav", 44100)
    long = convert(source, tmp_path / "long.flac", "-filter_complex", "aloop=loop=20:size=400000")
    for channels in (1, 2):
        blocks = [block.shape for block in Decoder(long, RATE, channels)]
        assert len(blocks) > 100
        assert max(n for n, _ in blocks) <= RATE * 1.2
        assert {c for _, c in blocks} == {channels}


def test_surround_is_folded_down_not_cut(tmp_path: Path) -> None:
    """The centre, where films have their speech, is heard in stereo and in mono."""
    source, _ = noise_wav(tmp_path / "source.wav", 48000)
    path = convert(source, tmp_path / "5.1.wav", "-af", "pan=5.1|FC=c0")
    assert probe(path).channels == 6
    mono = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
    stereo = np.concatenate(list(Decoder(path, RATE, 2)))
    assert np.sqrt((mono**2).mean()) > 0.01
    assert np.allclose(stereo[:, 0], stereo[:, 1], atol=1e-6)
    assert np.sqrt((stereo[:, 0] ** 2).mean()) > 0.01


@pytest.mark.parametrize(("rate", "cutoff_hz"), [(48000, 4000), (48000, 8000), (44100, 16000), (96000, 8000)])
def test_bandwidth_of_low_passed_noise(tmp_path: Path, rate: int, cutoff_hz: int) -> None:
    path, _ = noise_wav(tmp_path / "noise.wav", rate, cutoff_hz)
    assert bandwidth_of(path) == pytest.approx(cutoff_hz, abs=150)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_bandwidth_of_noise_up_to_the_end_is_half_the_rate(tmp_path: Path, rate: int) -> None:
    path, _ = noise_wav(tmp_path / "noise.wav", rate, rate)
    assert bandwidth_of(path) == pytest.approx(rate / 2, abs=150)


def test_bandwidth_shows_a_codecs_low_pass_and_what_was_sampled_up(tmp_path: Path) -> None:
    source, _ = noise_wav(tmp_path / "source.wav", 44100, 22050)
    mp3 = convert(source, tmp_path / "a.mp3", "-b:a", "48k", "-cutoff", 10000)
    assert 9900 <= bandwidth_of(mp3) <= 11000, "the encoder's filter falls off over 1 kHz"
    telephone = convert(source, tmp_path / "telephone.wav", "-ar", 8000)
    up = convert(telephone, tmp_path / "up.wav", "-ar", 48000)
    assert bandwidth_of(up) == pytest.approx(4000, abs=400)


def test_silence_has_no_bandwidth_and_a_silent_start_is_passed_over(tmp_path: Path) -> None:
    silence = np.zeros(5 * RATE, np.float32)
    write_clip(tmp_path / "silence.wav", silence)
    assert bandwidth_of(tmp_path / "silence.wav") is None
    write_clip(tmp_path / "late.wav", np.concatenate([silence, low_passed_noise(RATE, 3000, 1.5)]))
    assert bandwidth_of(tmp_path / "late.wav") == pytest.approx(3000, abs=150)


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path: Path) -> None:
    for name in ("http:x.wav", "concat:a|b.wav", "%03d.wav", "-y.wav"):
        write_clip(tmp_path / name, np.zeros(RATE, np.float32))
        assert sum(map(len, Decoder(tmp_path / name, RATE))) == RATE


def test_what_is_no_media_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(1).bytes(200))
    with pytest.raises(MediaError, match="the file is empty"):
        open_media(tmp_path / "empty.wav")
    with pytest.raises(MediaError, match="there is no such file"):
        open_media(tmp_path / "nowhere.wav")
    with pytest.raises(MediaError, match="not a media file"):
        open_media(tmp_path / "noise.mp3")


def test_a_track_is_read_in_any_order(tmp_path: Path) -> None:
    sound = np.arange(1000, dtype=np.float32)
    sound.tofile(tmp_path / "track.f32")
    track = Track(tmp_path / "track.f32", 1000)
    assert len(track) == 1000
    assert np.array_equal(track.read(10, 20), sound[10:20])
    assert np.array_equal(track.read(-5, 3), sound[:3])
    assert np.array_equal(track.read(990, 2000), sound[990:])
    assert track.read(20, 10).shape == (0,)
    assert np.array_equal(np.concatenate(list(track.blocks(64, 7, 900))), sound[7:900])
    assert [len(block) for block in track.blocks(400)] == [400, 400, 200]


def test_a_clip_is_mono_16_bit_pcm_at_16_khz_and_rounded(tmp_path: Path) -> None:
    sound = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.6 / 32767, 0.4 / 32767, -0.6 / 32767], np.float32)
    path = tmp_path / "new folder" / "clip.wav"
    write_clip(path, sound)
    with wave.open(str(path)) as clip:
        assert clip.getparams()[:5] == (1, 2, RATE, len(sound), "NONE")
        pcm = np.frombuffer(clip.readframes(len(sound)), "<i2")
    assert pcm.tolist() == [0, 32767, -32767, 32767, -32768, 1, 0, -1]
    assert [file.name for file in path.parent.iterdir()] == ["clip.wav"], "nothing lies beside"


def test_a_clip_that_cant_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    write_clip(path, np.zeros(10, np.float32))
    before = path.read_bytes()
    (tmp_path / ".clip.wav.part").mkdir()
    with pytest.raises(IsADirectoryError):
        write_clip(path, np.ones(10, np.float32))
    assert path.read_bytes() == before
