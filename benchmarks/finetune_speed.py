"""What fine-tuning costs: our loop against transformers' Seq2SeqTrainer, short context against full, saliency masks.

    python -m benchmarks.finetune_speed [SIZE=tiny] [UPDATES=6] [BATCH=4]

SIZE is tiny, base or small: OpenAI's architecture with random weights, which cost the same. Clips are 5 s of sound;
nothing is learned from them. On the GPU where there is one (bf16; take BATCH=32), else on the CPU. The runs take turns
four times, each time in the other direction, each in a process of its own; updates are timed one by one, the first of
each run is left out, and of a run the median is taken. Figures are medians over the turns, ratios those of one turn's
runs. Our loop keeps the memory that it frees (catalog/memory.py); transformers' trainer is timed as it is and with that
as well. Ten minutes on two cores for tiny; run it on an otherwise idle machine.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from asr_experiments.arms import make_augment
from asr_experiments.cam import SaliencyMaps
from asr_experiments.classifier import AccentCnn, Classifier, ClassifierSettings
from asr_experiments.features import LogMels
from asr_experiments.finetune import finetune
from asr_experiments.masking import MaskSettings
from asr_experiments.training_set import FinetuneSettings, TrainingSet
from catalog.memory import keep_freed_memory
from catalog.records import RATE
from catalog.whisper import Whisper

SIZES = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12)}  # width, layers, heads
SECONDS, N_TOKENS, N_PROMPT = 5.0, 40, 4
TURNS = 4
GFLOP = {"tiny": 43, "base": 101, "small": 400}  # forward, 30 s and 40 tokens; a step is three times that
PEAK_GFLOPS = {"H200": 989e3, "H100": 989e3, "A100": 312e3}  # dense bf16, as NVIDIA states


def new_whisper(size: str) -> Whisper:
    """OpenAI's architecture with random weights, on the GPU where there is one."""
    width, layers, heads = SIZES[size]
    config = WhisperConfig(
        vocab_size=51865,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config).to("cuda" if torch.cuda.is_available() else "cpu")
    return Whisper(model.eval(), WhisperFeatureExtractor(), None, size, f"{size} random")


def timed(run: Callable[[Callable[..., None]], object]) -> list[float]:
    """Seconds of each update but the first, by a hook that `run` calls after every one."""
    at = [time.perf_counter()]

    def hook(*_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        at.append(time.perf_counter())

    run(hook)
    return [b - a for a, b in pairwise(at[1:])]


def seq2seq_trainer(size: str, data: TrainingSet, settings: FinetuneSettings, hook: Callable[..., None]) -> None:
    """The same updates by transformers' trainer, as its recipe for Whisper has it."""

    class Told(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            hook()

    items = [
        {"input_features": data.mels[i][0], "labels": [-100] * (N_PROMPT - 1) + list(data.tokens[i][N_PROMPT:])}
        for i in data.tokens
    ] * (2 * settings.epochs)
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup_steps=1,
            weight_decay=settings.weight_decay,
            num_train_epochs=1,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not on_gpu,
            bf16=on_gpu,
            remove_unused_columns=False,
        )
        collate = lambda rows: {name: torch.tensor(np.stack([row[name] for row in rows])) for name in rows[0]}  # noqa: E731
        model = new_whisper(size).model
        trainer = Seq2SeqTrainer(model, arguments, collate, train_dataset=items, callbacks=[Told()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()


@dataclass(frozen=True)
class Material:
    """The log-mels of clips of noise, and tokens."""

    mels: LogMels
    data: TrainingSet


def material(folder: Path, n_clips: int) -> Material:
    """The clips of a folder, made there by the first process."""
    paths = [folder / f"{i}.wav" for i in range(n_clips)]
    for i, path in enumerate(paths):
        if not path.exists():
            soundfile.write(path, np.random.default_rng(i).normal(0, 0.1, round(SECONDS * RATE)), RATE)
    mels = LogMels(paths, WhisperFeatureExtractor(), folder / "cache")
    mels.prepare()
    tokens = {i: tuple(int(t) for t in np.random.default_rng(i).integers(0, 50000, N_TOKENS)) for i in range(n_clips)}
    n_valid = {i: round(SECONDS * 100) for i in range(n_clips)}
    return Material(mels, TrainingSet(mels, tokens, n_valid, N_PROMPT))


def saliency_maps(made: Material) -> SaliencyMaps:
    """Of a classifier with the same random weights each time: they are found in the folder once they are made."""
    chosen = ClassifierSettings()
    torch.manual_seed(0)
    net = AccentCnn(80, chosen.crop_frames or 3000, 7).eval()
    return SaliencyMaps(Classifier(net, tuple("abcdefg"), chosen, made.mels.shape), made.mels)


def one(name: str, size: str, settings: FinetuneSettings, made: Material) -> float:
    """Seconds of an update in one run, the median."""
    augment = make_augment("saliency", saliency_maps(made), MaskSettings()) if "saliency" in name else None
    if "Seq2SeqTrainer" in name:
        if "kept" in name:
            keep_freed_memory()
        return statistics.median(timed(lambda hook: seq2seq_trainer(size, made.data, settings, hook)))
    whisper, own = new_whisper(size), replace(settings, context="auto" if "auto" in name else "full")
    return statistics.median(timed(lambda hook: finetune(whisper, made.data, own, augment=augment, hook=hook)))


RUNS = (
    "full context",
    "full context, saliency masks (cached)",
    "Seq2SeqTrainer, full context",
    "Seq2SeqTrainer, freed memory kept",
    "auto context",
    "auto context, saliency masks (cached)",
)


def main(size: str = "tiny", updates: str = "6", batch: str = "4", name: str = "", folder: str = "") -> None:
    settings = FinetuneSettings(batch_size=int(batch), epochs=2)
    n_clips = int(updates) * int(batch) // (2 * settings.epochs)
    if name:
        print(one(name, size, settings, material(Path(folder), n_clips)))
        return
    with tempfile.TemporaryDirectory() as folder:
        made = material(Path(folder), n_clips)
        began = time.perf_counter()
        saliency_maps(made).prepare()
        grad_cam_s = (time.perf_counter() - began) / n_clips
        seconds: dict[str, list[float]] = {name: [] for name in RUNS}
        for turn in range(TURNS):
            for name in RUNS[:: 1 if turn % 2 == 0 else -1]:
                command = [sys.executable, "-m", "benchmarks.finetune_speed", size, updates, batch, name, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds[name].append(float(done.stdout.split()[-1]))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(f"{device}, {torch.get_num_threads()} threads; whisper-{size}, {SECONDS:g} s clips, batches of {batch}\n")
    print("| run | s per update | samples/s | full context takes | share of peak |\n|---|---|---|---|---|")

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    plain = statistics.median(seconds["full context"])
    peak = next((value for name, value in PEAK_GFLOPS.items() if name in device), None)
    for name, times in seconds.items():
        update = statistics.median(times)
        share = f"{3 * GFLOP[size] * int(batch) / update / peak:.0%}" if peak and "auto" not in name else ""
        print(f"| {name} | {update:.3f} | {int(batch) / update:.2f} | {ratio('full context', name):.2f}x | {share} |")
    added = ratio("full context, saliency masks (cached)", "full context") - 1
    per_clip = 2 * plain / int(batch)  # an epoch has each clip twice
    print(f"\nsaliency and masks add {added:+.1%} to an epoch; in the first, with Grad-CAM", end=" ")
    print(f"({grad_cam_s:.3f} s a clip), {added + grad_cam_s / per_clip:+.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
