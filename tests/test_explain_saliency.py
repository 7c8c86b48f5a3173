"""Relevance is conserved and captum's, occlusion is the same in batches, and all ways have one time base."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr_experiments.classifier import AccentCnn, Classifier, ClassifierSettings
from asr_experiments.explain import occlusion as occlusion_module
from asr_experiments.explain.occlusion import STRIDE, WINDOW, occlusion, require_captum
from asr_experiments.explain.relevance import Condition, Rule, evidence, relevance
from asr_experiments.explain.saliency import WAYS, saliency_maps
from asr_experiments.features import Floats, MelArrays, Shape
from catalog.errors import UsageError
from tests.speech import one_thread

__all__ = ["one_thread"]

N_CLASSES, N_FRAMES = 3, 64
CLASSES = torch.tensor([0, 2, 1])


def network(bias: float = 0.1) -> AccentCnn:
    torch.manual_seed(0)
    net = AccentCnn(80, N_FRAMES, N_CLASSES, channels=(4, 6, 8, 8)).eval()
    with torch.no_grad():
        for layer in (*net.convs, net.hidden, net.out):
            assert isinstance(layer.bias, Tensor)
            layer.bias.normal_(0, bias) if bias else layer.bias.zero_()
        net.hidden.weight.mul_(10)
    return net


def speech_like(n: int = 3) -> Tensor:
    """Log-mels of either sign (n, 80, 64), as Whisper's are."""
    return torch.randn(n, 80, N_FRAMES, generator=torch.Generator().manual_seed(1)) * 0.5


# ---------------------------------------------------------------- relevance


@pytest.mark.parametrize("rule", ["z+", "epsilon"])
def test_without_biases_all_of_the_evidence_comes_from_pixels(rule: Rule) -> None:
    net, x = network(bias=0), speech_like()
    found = relevance(net, x, CLASSES, rule, epsilon=1e-9)
    assert found.evidence == pytest.approx(evidence(net(x), CLASSES).detach(), rel=1e-5)
    assert found.pixels.sum((1, 2)) == pytest.approx(found.evidence, rel=1e-3)
    assert found.absorbed.abs().max() < 1e-3 * found.evidence.abs().max()


def test_biases_of_the_dense_layers_take_what_the_rule_gives_them() -> None:
    net, x = network(), speech_like()
    found = relevance(net, x, CLASSES, "z+", epsilon=1e-9)
    with torch.no_grad():
        flat = net.pool(net.maps(x, 4)).flatten(1)
        z = net.hidden(flat)
        weights = torch.stack([torch.full((N_CLASSES,), -0.5).index_fill(0, c, 1) for c in CLASSES])
        share = torch.relu(z) * (weights @ net.out.weight)  # of each hidden unit
        expected = (weights @ net.out.bias) + (share * net.hidden.bias / z).sum(1)
    assert found.absorbed == pytest.approx(expected, rel=1e-3, abs=1e-5)


class Unrolled(nn.Module):
    """The network from log-mels to evidence with each layer a module of its own, as captum wants it."""

    def __init__(self, net: AccentCnn) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, conv in enumerate(net.convs):
            layers += [*([nn.MaxPool2d(2)] if i else []), conv, nn.ReLU()]
        self.front = nn.ModuleList([*layers, nn.MaxPool2d(2)])
        self.hidden, self.relu, self.last = net.hidden, nn.ReLU(), nn.Linear(128, N_CLASSES)
        with torch.no_grad():
            contrast = 1.5 * torch.eye(N_CLASSES) - 0.5
            self.last.weight.copy_(contrast @ net.out.weight)
            self.last.bias.copy_(contrast @ net.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.front:
            x = layer(x)
        found: Tensor = self.last(self.relu(self.hidden(x.flatten(1))))
        return found


def test_the_epsilon_rule_is_captums() -> None:
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import EpsilonRule

    net, x = network(), speech_like()
    model = Unrolled(net)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.rule = EpsilonRule(epsilon=1e-6)  # type: ignore[assignment]
    theirs = LRP(model).attribute(x[:, None], target=CLASSES)[:, 0].detach()
    ours = relevance(network(), x, CLASSES, "epsilon").pixels
    assert float((ours - theirs).abs().max()) < 1e-3 * float(theirs.abs().max())


@pytest.mark.parametrize("layer", [1, 3, 4])
def test_the_channels_maps_sum_to_the_whole(layer: int) -> None:
    net, x = network(), speech_like()
    whole = relevance(net, x, CLASSES)
    n = net.maps(x, layer).shape[1]
    parts = [relevance(net, x, CLASSES, condition=Condition(layer, (k,))) for k in range(n)]
    total = torch.stack([part.pixels for part in parts]).sum(0)
    assert torch.allclose(total, whole.pixels, atol=1e-5 * float(whole.pixels.abs().max()))
    pair = relevance(net, x, CLASSES, condition=Condition(layer, (0, 2))).pixels
    assert torch.allclose(pair, parts[0].pixels + parts[2].pixels, atol=1e-6)
    assert float((pair - whole.pixels).abs().max()) > 0.05 * float(whole.pixels.abs().max())
    assert parts[0].pixels.sum((1, 2)) + parts[0].absorbed == pytest.approx(whole.evidence, rel=1e-4)


def test_relevance_of_a_batch_is_that_of_its_rows_and_not_of_what_all_scores_share() -> None:
    net, x = network(), speech_like()
    together = relevance(net, x, CLASSES).pixels
    for i in range(len(x)):
        alone = relevance(net, x[i : i + 1], CLASSES[i : i + 1]).pixels[0]
        assert torch.allclose(alone, together[i], atol=1e-6)
    with torch.no_grad():
        net.out.weight += 3.0  # the same for all classes: the probabilities stay
    assert torch.allclose(relevance(net, x, CLASSES).pixels, together, atol=1e-4)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (Condition(5, (0,)), "a convolution from 1 to 4, got 5"),
        (Condition(4, (8,)), r"channels from 0 to 7, got \(8,\)"),
        (Condition(4, ()), r"channels from 0 to 7, got \(\)"),
    ],
)
def test_conditions_on_what_is_not_there(condition: Condition, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        relevance(network(), speech_like(), CLASSES, condition=condition)


def test_an_unknown_rule() -> None:
    with pytest.raises(UsageError, match="expected epsilon or z\\+, got 'gamma'"):
        relevance(network(), speech_like(), CLASSES, "gamma")  # type: ignore[arg-type]


# ---------------------------------------------------------------- occlusion


def test_batched_occlusion_is_occlusion_one_by_one() -> None:
    net, x = network(), speech_like()
    batched = occlusion(net, x, CLASSES, batch=24)
    assert batched.shape == (3, N_FRAMES)
    one_by_one = torch.zeros(3, N_FRAMES)
    times = torch.zeros(N_FRAMES)
    starts = range(0, N_FRAMES - WINDOW + STRIDE, STRIDE)
    with torch.no_grad():
        for start in starts:
            place = slice(start, start + WINDOW)
            times[place] += 1
            for i in range(3):
                hidden = x[i : i + 1].clone()
                hidden[:, :, place] = x[i].min()  # its own floor
                lost = evidence(net(x[i : i + 1]), CLASSES[i : i + 1]) - evidence(net(hidden), CLASSES[i : i + 1])
                one_by_one[i, place] += lost
    assert starts[-1] + WINDOW >= N_FRAMES  # all is covered
    assert torch.allclose(batched, one_by_one / times, atol=1e-5 * float(batched.abs().max()) + 1e-6)
    assert float(batched.abs().max()) > 0.01


def test_occlusion_leaves_the_padding_alone() -> None:
    net, x = network(), speech_like()
    x[:, :, 40:] = -3  # under every floor
    found = occlusion(net, x, CLASSES, n_valid=40)
    assert not found[:, 40:].any()
    before = x.clone()
    x[:, :, 40:] = -2.9
    assert found[:, :40].abs().max() > 0
    assert torch.equal(before[:, :, :40], x[:, :, :40])  # and its input as it is
    baseline = occlusion(net, before, CLASSES, n_valid=40)
    assert torch.equal(found, baseline)


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occlusion_module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"captum is not installed.*pip install 'pdid\[explain\]'"):
        require_captum()


# ---------------------------------------------------------------- the time base


@pytest.fixture(scope="module")
def burst_listener() -> Classifier:
    """A network by hand that hears nothing but power, in crops of 64 frames: the first class wherever there is some."""
    net = AccentCnn(80, N_FRAMES, 2, channels=(1, 1, 1, 1)).eval()
    with torch.no_grad():
        for conv in net.convs:
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            conv.weight.zero_()
            conv.weight[0, 0, 1, 1] = 1
            conv.bias.zero_()
        net.hidden.weight.fill_(0.1)
        net.hidden.bias.zero_()
        net.out.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 128))
        net.out.bias.zero_()
    return Classifier(net, ("burst", "none"), ClassifierSettings(crop_frames=N_FRAMES), Shape(80, 200, 160))


def burst_at(middle: int, n_valid: int) -> tuple[Floats, int]:
    """A log-mel with a hat of 25 frames around a frame; flat, it would be all ties to the max-pooling."""
    hat = 1 - np.abs(np.arange(200) - middle) / 12
    return np.broadcast_to(np.maximum(hat, -0.5), (80, 200)).astype(np.float32), n_valid


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("middle", "n_valid"), [(24, 160), (60, 160), (64, 160), (140, 160), (30, 50), (160, 180)])
def test_relevance_lies_where_the_sound_is(burst_listener: Classifier, way: str, middle: int, n_valid: int) -> None:
    """In one crop, across two, at the end of several, and in a clip shorter than a crop."""
    mels = MelArrays([burst_at(middle, n_valid)], Shape(80, 200, 160))
    (found,) = saliency_maps(burst_listener, mels, [0], [0], way)  # type: ignore[arg-type]
    assert found.shape == (80, n_valid)
    over_time = found.sum(0)
    centre = float((over_time * np.arange(n_valid)).sum() / over_time.sum())
    assert centre == pytest.approx(middle, abs=4)  # half a cell of Grad-CAM's
    assert over_time[max(0, middle - 24) : middle + 25].sum() > 0.95 * over_time.sum()


def test_the_whole_window_is_looked_at_without_its_padding(burst_listener: Classifier) -> None:
    torch.manual_seed(0)
    net = AccentCnn(80, 200, 2, channels=(2, 2, 2, 2)).eval()
    made = Classifier(net, ("a", "b"), ClassifierSettings(crop_frames=None), Shape(80, 200, 160))
    mels = MelArrays([burst_at(30, 100)], Shape(80, 200, 160))
    for way in WAYS:
        (found,) = saliency_maps(made, mels, [0], [0], way)
        assert found.shape == (80, 100)
    (rows,) = saliency_maps(made, mels, [0], [1], "occlusion")
    x = torch.from_numpy(mels[0][0])[None]
    assert rows[0] == pytest.approx(occlusion(net, x, torch.tensor([1]), 100)[0, :100].numpy(), abs=1e-6)
    assert all(np.array_equal(a, b) for a, b in pairwise(rows))
