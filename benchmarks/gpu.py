"""What a GPU makes of the two big networks of `pdid ingest`: by precision and batch, and what pdid chooses.

    PDID_MODELS=FOLDER python -m benchmarks.gpu MEDIA

FOLDER holds `demucs/` and `diarization/` (random weights cost the same). Pieces of MEDIA's sound go through Demucs
(7.8 s each) and through the residual network of pyannote's voices (10 s each), in single, TF32, bf16 and half
precision, 1 to 64 at once. The difference is that from single precision, all pieces together; for voices, also their
least cosine similarity to those of single precision. Seconds are medians of five passes over 64 pieces. Prints the GPU
and one table.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch

from corpus_builder.audio import Decoder
from corpus_builder.config import Diarize, Separate
from corpus_builder.diarize.pyannote import Pyannote, batches_of_maps
from corpus_builder.gpu import Batches
from corpus_builder.separate import Demucs

PIECES = 64
AT_ONCE = (1, 4, 8, 16, 32, 64)
PASSES = 5
Network = Callable[[torch.Tensor], torch.Tensor]
PRECISIONS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "single": nullcontext,
    "TF32": nullcontext,
    "bf16": lambda: torch.autocast("cuda", torch.bfloat16),
    "half": lambda: torch.autocast("cuda", torch.float16),
}


def pieces(media: Path, rate: int, size: int, channels: int) -> torch.Tensor:
    """So many stretches of the sound as are measured, (PIECES, channels, size), from its beginning on, overlapping."""
    sound = np.concatenate(list(Decoder(media, rate, channels))).reshape(-1, channels).T
    starts = np.linspace(0, sound.shape[1] - size, PIECES).astype(int)
    return torch.from_numpy(np.stack([sound[:, at : at + size] for at in starts])).cuda()


def run(network: Network, inputs: torch.Tensor, at_once: int, precision: str) -> torch.Tensor:
    """The network's outputs, on the GPU, as float32."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        tf32 = precision == "TF32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        stack.enter_context(torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=tf32))
        stack.enter_context(PRECISIONS[precision]())
        return torch.cat([network(group).float() for group in inputs.split(at_once)])


def table(name: str, network: Network, inputs: torch.Tensor, seconds: float, voices: Network | None) -> None:
    """Rows for one network; `seconds` is how much sound one input is; `voices` pools its outputs to embeddings."""
    reference = run(network, inputs, 1, "single")
    for precision in PRECISIONS:
        output = run(network, inputs, 8, precision)
        gap = float(10 * torch.log10((output - reference).square().mean() / reference.square().mean() + 1e-30))
        said = f"{gap:.1f} dB"
        if voices is not None:
            both = torch.nn.functional.cosine_similarity(voices(output), voices(reference), dim=-1)
            said += f", {float(both.min()):.6f}"
        del output
        for at_once in AT_ONCE:
            times = []
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run(network, inputs, at_once, precision)
            for _ in range(PASSES):
                torch.cuda.synchronize()
                begin = time.perf_counter()
                run(network, inputs, at_once, precision)
                torch.cuda.synchronize()
                times.append(time.perf_counter() - begin)
            memory = (torch.cuda.max_memory_allocated() - before) / 2**30
            each = statistics.median(times) / PIECES
            figures = f"{1e3 * each:.2f} | {seconds / each:.0f} | {memory:.2f} | {said}"
            print(f"| {name} | {precision} | {at_once} | {figures} |", flush=True)
            said = ""


def chosen(name: str, batches: Batches) -> str:
    """What pdid chose for a network."""
    return f"{name}: {'half' if batches.half else 'single'} precision, {batches.at_once} at once"


def main(media: Path) -> None:
    warnings.simplefilter("ignore")
    demucs = Demucs(Separate())
    engine = Pyannote(Diarize())
    model, maps_of = engine.pipeline._embedding.model_, batches_of_maps(engine.pipeline)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| network | precision | at once | ms a piece | times as fast as sound | GiB | difference |")
    print("|---|---|---|---|---|---|---|")
    table("Demucs", demucs._voice, pieces(media, demucs.rate, demucs.piece, 2), demucs.piece / demucs.rate, None)
    with torch.inference_mode():
        banks = model.compute_fbank(pieces(media, 16_000, 160_000, 1))

    def voices(maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model.resnet.forward_embedding(maps)[1]
        return found

    table("pyannote's voices", model.resnet.forward_frames, banks, 10.0, voices)
    print(f"\npdid: {chosen('Demucs', demucs.batches)}; {chosen('voices', maps_of)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
