"""Separation in a stream equals the same network over the undivided sound, and lands on the right samples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.apply import apply_model
from scipy.signal import butter, sosfiltfilt

from catalog.errors import PdidError, UsageError
from catalog.hub import Found
from catalog.records import RATE, Span
from corpus_builder.audio import Decoder, Samples, Track
from corpus_builder.config import Separate
from corpus_builder.models import find_demucs
from corpus_builder.separate import CONTEXT, FADE, Demucs, region_of, separate_spans


@pytest.fixture(scope="module")
def demucs(models_dir: Path) -> Demucs:
    return Demucs(Separate(model=str(models_dir / "demucs")))


@pytest.fixture(scope="module")
def programme(test_data: Path) -> Path:
    return test_data / "programmes" / "interview_b.mp3"  # 48 kHz: neither rate is its own


def difference_db(got: Samples, wanted: Samples) -> float:
    return float(10 * np.log10(np.mean((got - wanted) ** 2) / np.mean(wanted**2) + 1e-30))


def voice(separator: Demucs, blocks: Iterable[Samples]) -> Samples:
    return np.concatenate(list(separator(blocks)))


@pytest.mark.parametrize("overlap", [Separate().overlap, 0.25])
def test_the_stream_equals_the_undivided_input(models_dir: Path, programme: Path, overlap: float) -> None:
    demucs = Demucs(Separate(model=str(models_dir / "demucs"), overlap=overlap))
    sound = np.concatenate([block for block, _ in zip(Decoder(programme, 44_100, 2), range(11), strict=False)])
    sound = sound[: 9 * 44_100 + 77]
    network = demucs.networks[0][0]
    with torch.no_grad():
        whole = apply_model(network, torch.from_numpy(sound.T.copy())[None], shifts=0, overlap=overlap)
    wanted = whole[0, network.sources.index("vocals")].numpy().T
    once = voice(demucs, np.array_split(sound, 13))
    assert difference_db(once, wanted) < -80
    np.testing.assert_array_equal(voice(demucs, [sound]), once)  # twice the same, whatever the blocks
    assert difference_db(wanted, sound) > -20, "the network did nothing: the comparison shows nothing"


class Ramp(torch.nn.Module):
    """A cheap network whose answer depends on where in its piece a sample lies, with Demucs' interface."""

    sources = ("drums", "bass", "other", "vocals")
    samplerate, audio_channels, segment = 44_100, 2, 0.05

    def valid_length(self, length: int) -> int:
        return int(self.segment * self.samplerate)

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(0.5, 1.5, mix.shape[-1])
        return torch.stack([mix * ramp * gain for gain in (1, 2, 3, 4)], dim=1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("at_once", [1, 3])
def test_pieces_of_every_length_are_joined_as_apply_model_joins_them(
    demucs: Demucs, overlap: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = Ramp()
    piece = ramp.valid_length(0)
    monkeypatch.setattr(demucs, "networks", [(ramp, 1.0)])
    monkeypatch.setattr(demucs, "piece", piece)
    monkeypatch.setattr(demucs, "stride", int((1 - overlap) * piece))
    monkeypatch.setattr(demucs.batches, "at_once", at_once)
    monkeypatch.setattr(demucs, "device", torch.device("cpu"))
    rise = np.arange(1, piece // 2 + 1)
    weight = np.concatenate([rise, np.arange(piece - piece // 2, 0, -1)]).astype(np.float32)
    monkeypatch.setattr(demucs, "weight", weight / weight.max())
    rng = np.random.default_rng(0)
    stride = demucs.stride
    for length in (1, 100, piece - 1, piece, piece + 1, stride, stride + 1, 3 * stride, 5 * piece + 17, 9 * piece):
        sound = rng.standard_normal((length, 2)).astype(np.float32)
        whole = apply_model(ramp, torch.from_numpy(sound.T.copy())[None], shifts=0, overlap=overlap)  # type: ignore[arg-type]
        got = voice(demucs, np.array_split(sound, range(0, length, 700)))
        assert got.shape == sound.shape
        np.testing.assert_allclose(got, whole[0, 3].numpy().T, atol=1e-5)


def test_no_more_than_a_batch_is_held(demucs: Demucs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voice comes out as sound goes in: never more than a batch, a piece and a block behind."""
    monkeypatch.setattr(demucs, "networks", [(Ramp(), 1.0)])
    taken = given = 0

    def blocks() -> Iterator[Samples]:
        nonlocal taken
        for _ in range(600):
            taken += 44_100
            yield np.zeros((44_100, 2), np.float32)

    for block in demucs(blocks()):
        given += len(block)
        assert taken - given <= demucs.batches.at_once * demucs.piece + demucs.piece + 44_100
    assert given == taken


def test_nothing_in_nothing_out(demucs: Demucs) -> None:
    assert list(demucs([])) == []


class Unchanged:
    """A separator that takes everything for voice: what comes back shows where it lands."""

    name, rate, stride = "unchanged", 44_100, 7 * 44_100

    def __call__(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        yield from blocks


def as_track(path: Path, folder: Path) -> Track:
    sound = np.concatenate([block[:, 0] for block in Decoder(path, RATE)])
    (folder / "track.f32").write_bytes(sound.tobytes())
    return Track(folder / "track.f32", len(sound))


def outside(spans: list[Span], length: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.ones(length, bool)
    for span in spans:
        mask[max(0, span.start - FADE) : span.end + FADE] = False
    return mask


@pytest.mark.parametrize(
    "name", ["programmes/interview_b.mp3", "programmes/magazine_a.m4a", "clips/conversation/sample.wav"]
)
def test_spans_come_back_where_they_were(name: str, test_data: Path, tmp_path: Path) -> None:
    """One sample of shift would leave -10 dB or more of the sound under 3.5 kHz."""
    track = as_track(test_data / name, tmp_path)
    n = len(track)
    spans = [Span(n - 30_001, n), Span(80_077, 144_003), Span(16_000 * 12, 16_000 * 13)]
    told: list[float] = []
    result = separate_spans(test_data / name, track, spans, Unchanged(), tmp_path / "out.f32", told.append)
    before, after = track.read(0, n), result.read(0, n)
    assert len(after) == len(before) == n
    mask = outside(spans, n)
    np.testing.assert_array_equal(after[mask], before[mask])
    low = butter(6, 3500, fs=RATE, output="sos")
    for span in spans:
        was, now = (sosfiltfilt(low, sound[span.start : span.end]) for sound in (before, after))
        assert difference_db(now, was) < -45
        assert difference_db(now[1:], was[:-1]) > -25, "this sound would not show a shift"
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_voice_replaces_the_mix_inside_a_span_only(demucs: Demucs, programme: Path, tmp_path: Path) -> None:
    track = as_track(programme, tmp_path)
    span = Span(8 * RATE, 9 * RATE)
    result = separate_spans(programme, track, [span], demucs, tmp_path / "out.f32", lambda share: None)
    before, after = track.read(0, len(track)), result.read(0, len(track))
    mask = outside([span], len(track))
    np.testing.assert_array_equal(after[mask], before[mask])
    assert difference_db(after[span.start : span.end], before[span.start : span.end]) > -20
    # the same network on the same stretch, by apply_model and another resampler
    region = region_of(span, demucs)
    assert region.start <= span.start - CONTEXT
    assert region.end >= span.end + CONTEXT
    first, last = ((at * 44_100) // RATE for at in (region.start, region.end))
    heard = np.concatenate([block for block, _ in zip(Decoder(programme, 44_100, 2), range(16), strict=False)])[
        first:last
    ]
    network = demucs.networks[0][0]
    with torch.no_grad():
        whole = apply_model(network, torch.from_numpy(heard.T.copy())[None], shifts=0, overlap=Separate().overlap)[0, 3]
    import torchaudio

    wanted = torchaudio.functional.resample(whole.sum(0) * 0.5**0.5, 44_100, RATE, lowpass_filter_width=64).numpy()
    inside = wanted[span.start - region.start : span.end - region.start]
    low = butter(6, 3500, fs=RATE, output="sos")
    assert difference_db(sosfiltfilt(low, after[span.start : span.end]), sosfiltfilt(low, inside)) < -40


def test_no_spans_no_work(tmp_path: Path) -> None:
    track = Track(tmp_path / "none.f32", 1000)
    assert separate_spans(tmp_path / "none.wav", track, [], Unchanged(), tmp_path / "out", lambda share: None) is track


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def bag(folder: Path, content: object) -> Found:
    (folder / "htdemucs.yaml").write_text("models: ['12345678']\n")
    torch.save(content, folder / "12345678.th")
    found = find_demucs(str(folder))
    assert found is not None
    return found


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    found = bag(tmp_path, {"klass": Trap(trap), "args": (), "kwargs": {}, "state": {}})
    with pytest.raises(PdidError, match=r"refused.*could run code"):
        Demucs(Separate(), found)
    assert not trap.exists()


def test_damaged_and_foreign_files_are_said_to_be(tmp_path: Path) -> None:
    from demucs.hdemucs import HDemucs

    found = bag(tmp_path, {})
    (tmp_path / "12345678.th").write_bytes(b"not a model")
    with pytest.raises(PdidError, match=r"12345678\.th"):
        Demucs(Separate(), found)
    torch.save({"klass": HDemucs, "args": (), "kwargs": {"sources": ["vocals"]}, "state": {}}, tmp_path / "12345678.th")
    with pytest.raises(PdidError, match="refused"):
        Demucs(Separate(), found)
    (tmp_path / "htdemucs.yaml").unlink()
    with pytest.raises(UsageError, match="holds no Demucs model"):
        find_demucs(str(tmp_path))


def small_network() -> tuple[torch.nn.Module, dict[str, object]]:
    """A small HTDemucs with random weights, and what it was built from."""
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    small = {"depth": 2, "t_layers": 1, "channels": 8, "bottom_channels": 64, "nfft": 1024, "t_heads": 2}
    kwargs = {**small, "sources": ["drums", "bass", "other", "vocals"], "samplerate": 44_100}
    return HTDemucs(**kwargs), kwargs


def test_the_published_pickle_format_is_read(tmp_path: Path) -> None:
    """Half precision, the segment as a fraction, numpy scalars among the training's settings."""
    from fractions import Fraction

    network, kwargs = small_network()
    content = {
        "klass": type(network),
        "args": (),
        "kwargs": {**kwargs, "segment": Fraction(39, 5)},
        "state": {name: tensor.half() for name, tensor in network.state_dict().items()},
        "training_args": {"lr": np.float64(3e-4), "epochs": np.int64(360)},
    }
    loaded = Demucs(Separate(), bag(tmp_path, content))
    assert loaded.piece == 343_980
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.networks[0][0].cpu().state_dict()[name], tensor.half().float())


def test_the_hubs_safetensors_are_read_and_only_demucs_own_class_is_built(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network, kwargs = small_network()
    header = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}
    (tmp_path / "htdemucs.yaml").write_text("models: ['12345678']\n")
    save_file(network.state_dict(), tmp_path / "12345678.safetensors", header)
    found = find_demucs(str(tmp_path))
    assert found is not None
    loaded = Demucs(Separate(), found).networks[0][0].cpu()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    save_file(network.state_dict(), tmp_path / "12345678.safetensors", {**header, "klass": "subprocess.Popen"})
    with pytest.raises(PdidError, match=r"subprocess\.Popen"):
        Demucs(Separate(), found)
