"""Big networks by the batch: on a processor one input after the other, on a GPU many at once and in half precision.

Both are decided when a network is loaded, by trying it on an example: half precision where the network says the same
in it, and as many inputs as there is room for in the memory that is free then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

AGREES_DB = -50.0
"""The loudest difference from single precision, relative to the output, that half precision may make."""

SHARE = 0.25
"""Of a GPU's free memory, what one batch may take: other networks, and other workers, are still to come."""

MOST = 32
"""Inputs in a batch, as many as pyannote takes by default; what other sizes gain has not been measured."""


class Batches:
    """A network as a function from (n, …) float32 to (n, …) float32, both on `device`, `at_once` inputs at a time.

    A processor is fastest, and smallest, one input at a time, since its caches hold one's feature maps: a piece of
    Demucs costs 4.9 processor seconds and 1.6 GB alone, 7.4 and 2.9 GB in a batch of four.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> None:
        """`network` must be usable under `torch.inference_mode`; `example` is one input, (1, …), on its device."""
        self.network = network
        self.at_once, self.half = 1, False
        if example.device.type == "cuda":
            self.half = self._agrees_in_half(example)
            self.at_once = self._room_for(example)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """The network's output for every input. Raises torch.OutOfMemoryError where a GPU has no room for one."""
        import torch

        outputs, done = [], 0
        while done < len(inputs):
            group = inputs[done : done + self.at_once]
            try:
                outputs.append(self._compute(group))
                done += len(group)
            except torch.OutOfMemoryError:
                if len(group) == 1:
                    raise
                self.at_once = len(group) // 2
                torch.cuda.empty_cache()
        return torch.cat(outputs)

    def _compute(self, inputs: torch.Tensor) -> torch.Tensor:
        """One forward pass; again in single precision where half has too few exponents for what lies between."""
        import torch

        output = self._run(inputs, self.half)
        if self.half and not bool(torch.isfinite(output).all()):
            output = self._run(inputs, False)
        return output

    def _run(self, inputs: torch.Tensor, half: bool) -> torch.Tensor:
        import torch

        exact = torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=False)
        with torch.inference_mode(), exact, torch.autocast(inputs.device.type, torch.float16, enabled=half):
            return self.network(inputs).float()

    def _agrees_in_half(self, example: torch.Tensor) -> bool:
        """Whether half precision differs from single by less than `AGREES_DB` on the example."""
        single, half = self._run(example, False), self._run(example, True)
        difference, whole = (half - single).square().mean(), single.square().mean()
        return bool(difference <= 10 ** (AGREES_DB / 10) * whole)  # not where it overflows: nan is no less

    def _room_for(self, example: torch.Tensor) -> int:
        """How many inputs fit into `SHARE` of the memory that is free, from what the example takes; at most `MOST`."""
        import torch

        device = example.device
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        self._run(example, self.half)
        need = torch.cuda.max_memory_allocated(device) - before
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, min(MOST, int(SHARE * free / need)))
