"""Grad-CAM against captum, Grad-CAM++ against its formula written out, batches against single clips, the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr_experiments.cam import CamSettings, Method, SaliencyMaps, class_maps, clip_maps, upscale
from asr_experiments.classifier import AccentCnn, Classifier, ClassifierSettings, predict, window_starts
from asr_experiments.features import Floats, LogMels, MelArrays, Shape
from catalog.errors import UsageError

N_MELS = 80


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net(seed: int, n_frames: int = 96, channels: tuple[int, ...] = (8, 12, 16, 24), n_classes: int = 3) -> AccentCnn:
    """A random network in evaluation mode."""
    torch.manual_seed(seed)
    return AccentCnn(N_MELS, n_frames, n_classes, channels=channels).eval()


def classifier(seed: int, crop: int | None, n_frames: int) -> Classifier:
    chosen = ClassifierSettings(crop_frames=crop, channels=(8, 12, 16, 24))
    return Classifier(net(seed, crop or n_frames), ("a", "b", "c"), chosen, Shape(N_MELS, n_frames, 160))


def arrays(seed: int, n_frames: int, valid: list[int]) -> MelArrays:
    rng = np.random.default_rng(seed)
    items = []
    for n_valid in valid:
        features = np.full((N_MELS, n_frames), -1.2, np.float32)
        features[:, :n_valid] = rng.normal(0, 0.7, (N_MELS, n_valid))
        items.append((features, n_valid))
    return MelArrays(items, Shape(N_MELS, n_frames, 160))


class WithRelu(torch.nn.Module):
    """The network with its last ReLU as a module of its own, where captum can look."""

    def __init__(self, inner: AccentCnn, layer: int) -> None:
        super().__init__()
        self.inner, self.layer, self.looked_at = inner, layer, torch.nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.scores(self.looked_at(self.inner.maps(x, self.layer)), self.layer)


@pytest.mark.parametrize("layer", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_grad_cam_is_captums(seed: int, layer: int) -> None:
    from captum.attr import LayerGradCam

    made = net(seed)
    x = torch.randn(5, N_MELS, 96, generator=torch.Generator().manual_seed(seed))
    classes = torch.tensor([0, 1, 2, 1, 0])
    wrapped = WithRelu(made, layer)
    expected = LayerGradCam(wrapped, wrapped.looked_at).attribute(x, classes, relu_attributions=True)[:, 0].detach()
    found = class_maps(made, x, classes, "gradcam", layer)
    assert found.shape == expected.shape
    assert float(expected.max()) > 0  # or nothing is compared
    # to 1e-5 of the map's size: random nets give maps of any
    torch.testing.assert_close(found / expected.max(), expected / expected.max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_grad_cam_plus_plus_is_its_formula(seed: int) -> None:
    """α = g²/(2g² + S g³), w = Σ α ReLU(g), C = ReLU(Σ w A), in plain loops and double precision."""
    made = net(seed, 48, channels=(4, 4, 4, 6)).double()
    x = torch.randn(2, N_MELS, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = class_maps(made, x, torch.tensor([1, 2]), "gradcam++")
    for row, c in enumerate((1, 2)):
        a = made.maps(x[row : row + 1], 4).detach().requires_grad_()
        made.scores(a, 4)[0, c].backward()  # type: ignore[no-untyped-call]
        assert a.grad is not None
        maps, grads = a.detach()[0].numpy(), a.grad[0].numpy()
        expected = np.zeros(maps.shape[1:])
        for k in range(len(maps)):
            s = maps[k].sum()
            w = 0.0
            for i, j in np.ndindex(maps[k].shape):
                g = grads[k, i, j]
                if g != 0:
                    w += g**2 / (2 * g**2 + s * g**3) * max(g, 0.0)
            expected += w * maps[k]
        expected = np.maximum(expected, 0)
        assert expected.max() > 0
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-9 * expected.max(), rtol=1e-7)


@given(st.integers(0, 1000), st.sampled_from(["gradcam", "gradcam++"]), st.sampled_from([96, None]))
@settings(max_examples=5, deadline=None)
def test_a_batch_gives_what_single_clips_give(seed: int, method: Method, crop: int | None) -> None:
    mels = arrays(seed, 240, [240, 50, 97, 200, 96])
    made = classifier(seed, crop, 240)
    chosen = CamSettings(method)
    together = clip_maps(made, mels, range(5), chosen)
    for i, one in enumerate(together):
        np.testing.assert_allclose(one, clip_maps(made, mels, [i], chosen)[0], atol=1e-5)
    np.testing.assert_allclose(predict(made, mels, range(5))[2], predict(made, mels, [2])[0], atol=1e-6)


def test_min_max_looks_at_valid_frames_only() -> None:
    small = np.zeros((10, 30), np.float32)
    small[4, 5], small[6, 25] = 0.5, 1.0  # the peak lies in the padding of a clip of 160 frames
    valid = upscale(small, N_MELS, 240, 160)
    assert valid[:, :160].max() == 1.0
    assert valid[:, :160].min() == 0.0
    assert not valid[:, 160:].any()
    everything = upscale(small, N_MELS, 240, 240)
    assert 0.4 < everything[:, :160].max() < 0.6
    assert not upscale(np.ones((10, 30), np.float32), N_MELS, 240, 160).any()  # flat: nothing stands out


def test_upscaling_is_bilinear() -> None:
    small = np.random.default_rng(0).random((10, 30)).astype(np.float32)
    full = upscale(small, N_MELS, 240, 240)
    y, x = 37, 101
    v, u = (y + 0.5) / 8 - 0.5, (x + 0.5) / 8 - 0.5
    i, j, fy, fx = int(v), int(u), v % 1, u % 1
    raw = (1 - fy) * ((1 - fx) * small[i, j] + fx * small[i, j + 1]) + fy * (
        (1 - fx) * small[i + 1, j] + fx * small[i + 1, j + 1]
    )
    # min and max of a bilinear enlargement by eight lie at its inner pixels: undo the scaling with two known ones
    y2, x2 = 4, 4
    v2 = 1 / 16
    raw2 = (1 - v2) * ((1 - v2) * small[0, 0] + v2 * small[0, 1]) + v2 * ((1 - v2) * small[1, 0] + v2 * small[1, 1])
    corner = float(small[0, 0])
    assert (full[y, x] - full[0, 0]) / (full[y2, x2] - full[0, 0]) == pytest.approx(
        (raw - corner) / (raw2 - corner), rel=1e-3
    )


@given(st.integers(1, 5000))
def test_windows_cover_a_clip(n_valid: int) -> None:
    starts = window_starts(n_valid, 288)
    assert all(start % 8 == 0 for start in starts)
    covered = np.zeros(max(n_valid, 288), bool)
    for start in starts:
        assert start + 288 <= max(n_valid, 288)
        covered[start : start + 288] = True
    assert np.count_nonzero(~covered) < 8


def test_windows_maps_are_put_together_in_place() -> None:
    """A cue only the second window has is found there, at its place in the clip."""
    mels = arrays(0, 240, [200])
    made = classifier(1, 96, 240)
    single = clip_maps(made, mels, [0])[0]
    assert single.shape == (10, 30)
    assert single.max() == 1.0
    assert not single[:, 25:].any()
    parts = []
    label = int(predict(made, mels, [0])[0].argmax())
    for start in window_starts(200, 96):
        x = torch.from_numpy(mels[0][0][None, :, start : start + 96].copy())
        parts.append((start // 8, class_maps(made.net, x, torch.tensor([label]))[0].numpy()))
    whole = np.zeros((10, 30), np.float32)
    for start, part in parts:
        whole[:, start : start + 12] = np.maximum(whole[:, start : start + 12], part)
    np.testing.assert_allclose(single, whole / whole.max(), atol=1e-5)


def test_the_true_class_can_be_asked_for() -> None:
    mels = arrays(0, 96, [96])
    made = classifier(2, None, 96)
    said = int(predict(made, mels, [0])[0].argmax())
    other = made.accents[(said + 1) % 3]
    maps: list[Floats] = [
        clip_maps(made, mels, [0], CamSettings(target="true"), labels=[name])[0] for name in (made.accents[said], other)
    ]
    np.testing.assert_array_equal(maps[0], clip_maps(made, mels, [0])[0])
    assert not np.allclose(maps[0], maps[1])
    with pytest.raises(UsageError, match="accents"):
        clip_maps(made, mels, [0], CamSettings(target="true"))


def test_maps_are_kept_beside_the_log_mels(test_data: Path, tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    paths = sorted((test_data / "clips" / "vctk").glob("*.flac"))[:3]
    mels = LogMels(paths, WhisperFeatureExtractor(chunk_length=8), tmp_path)
    made = classifier(3, 96, 800)
    maps = SaliencyMaps(made, mels)
    shares: list[float] = []
    maps.prepare(shares.append)
    assert shares[-1] == 1.0
    files = sorted(tmp_path.rglob("saliency-*/*/*.safetensors"))
    assert len(files) == 3
    for i in range(3):
        n_valid = mels[i][1]
        c = maps[i]
        assert c.shape == (80, 800)
        assert (c.min(), c[:, :n_valid].max()) == (0.0, 1.0)
        assert not c[:, n_valid:].any()
        np.testing.assert_allclose(maps.small(i), clip_maps(made, mels, [i])[0], atol=1e-3)
    stamps = [file.stat().st_mtime_ns for file in files]
    SaliencyMaps(made, mels).prepare()
    assert [file.stat().st_mtime_ns for file in files] == stamps  # made once
    SaliencyMaps(classifier(4, 96, 800), mels).prepare()
    SaliencyMaps(made, mels, CamSettings("gradcam++")).prepare()
    assert len(list(tmp_path.rglob("saliency-*"))) == 3  # another classifier or method never reads these
