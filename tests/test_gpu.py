"""Batches of inputs: one by one on a processor; on a GPU as many as fit, in half precision where that says the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corpus_builder.audio import Decoder
from corpus_builder.config import Separate
from corpus_builder.gpu import MOST, Batches
from corpus_builder.separate import Demucs

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def linear(gain: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(64, 64, bias=False)
    torch.manual_seed(0)
    torch.nn.init.normal_(layer.weight, std=gain / 8)
    return layer.eval()


def inputs(n: int) -> torch.Tensor:
    return torch.randn((n, 64), generator=torch.Generator().manual_seed(1))


def watched(network: Callable[[torch.Tensor], torch.Tensor], room: int) -> tuple[Batches, list[int]]:
    """Batches that take 8 at once, over a network with memory for `room`, and the sizes it was run with."""
    sizes: list[int] = []

    def run(group: torch.Tensor) -> torch.Tensor:
        sizes.append(len(group))
        if len(group) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return network(group)

    batches = Batches(run, inputs(1))
    batches.at_once = 8
    return batches, sizes


def test_a_processor_takes_one_at_a_time_in_single_precision() -> None:
    batches, sizes = watched(linear(1), 8)
    batches.at_once = Batches(linear(1), inputs(1)).at_once
    wanted = linear(1)(inputs(5)).detach()
    torch.testing.assert_close(batches(inputs(5)), wanted, rtol=1e-6, atol=1e-6)
    assert sizes == [1] * 5
    assert not batches.half


def test_a_batch_without_room_is_halved_and_nothing_is_lost() -> None:
    batches, sizes = watched(linear(1), 3)
    wanted = linear(1)(inputs(11)).detach()
    torch.testing.assert_close(batches(inputs(11)), wanted, rtol=1e-6, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batches.at_once == 2


def test_no_room_for_one_says_so() -> None:
    batches, sizes = watched(linear(1), 0)
    with pytest.raises(torch.OutOfMemoryError):
        batches(inputs(3))
    assert sizes == [3, 1]


def test_half_precision_is_taken_where_it_says_the_same() -> None:
    assert Batches(linear(1), inputs(1))._agrees_in_half(inputs(1))


def test_half_precision_is_left_where_it_overflows_or_is_too_coarse() -> None:
    loud = linear(1e6)
    assert not Batches(lambda x: loud(x) * 1e-6, inputs(1))._agrees_in_half(inputs(1))
    plain = linear(1)  # the difference of two large numbers: half's eleven bits leave little of it
    assert not Batches(lambda x: plain(x + 100) - plain(x + 99), inputs(1))._agrees_in_half(inputs(1))


def test_what_overflows_in_half_is_computed_in_single() -> None:
    layer = linear(1)
    batches = Batches(layer, inputs(1))
    batches.half = True
    sound = inputs(2)
    sound[1] *= 1e5
    found, wanted = batches(sound), layer(sound).detach()
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=0.1)
    assert 0 < float((found[0] - wanted[0]).abs().max()) < 0.01, "what does not overflow stays in half"


@ON_GPU
def test_separation_on_a_gpu_says_what_a_processor_says(
    models_dir: Path, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Separate(model=str(models_dir / "demucs"))
    sound = np.concatenate(list(Decoder(test_data / "programmes" / "interview_b.mp3", 44_100, 2)))[: 30 * 44_100]
    demucs = Demucs(settings)
    assert demucs.device.type == "cuda"
    assert 1 < demucs.batches.at_once <= MOST
    voice = np.concatenate(list(demucs([sound])))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = np.concatenate(list(Demucs(settings)([sound])))
    assert 10 * np.log10(np.mean((voice - wanted) ** 2) / np.mean(wanted**2)) < -50


@ON_GPU
def test_a_full_gpu_gets_smaller_batches() -> None:
    network = torch.nn.Conv1d(64, 4096, 5, padding=2).cuda().eval()
    example = torch.randn((1, 64, 10_000), device="cuda")
    roomy = Batches(network, example).at_once
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(int(free - 3 * 2**30), dtype=torch.uint8, device="cuda")
    tight = Batches(network, example).at_once
    assert 1 <= tight < roomy <= MOST
    del taken
