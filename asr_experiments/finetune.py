"""Fine-tune a Whisper on original and changed speech: one loop, the same number of updates whatever the change.

Sameti et al., arXiv 2510.09528: AdamW, 1e-5 for tiny and 3e-6 for base and medium, batches of 32, 16 and 4, ten
epochs. Where the paper is silent the choice stands in `FinetuneSettings`.

A run that was killed and taken up again ends with the weights of an undisturbed one (on CPU): every random choice
about an item depends on the seed, the epoch and the clip alone, dropout is seeded anew each epoch, and weights and
optimizer come from the checkpoint of the last whole epoch.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from asr_experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asr_experiments.training_set import (
    IGNORED,
    Augment,
    Batch,
    FinetuneSettings,
    Item,
    TrainingSet,
    epoch_batches,
    make_batch,
    n_updates,
)
from catalog.context import Context, context_frames, encode
from catalog.errors import PdidError
from catalog.memory import keep_freed_memory
from catalog.whisper import Whisper

Hook = Callable[[int, int, float], None]
"""Called after each update with its number (from 1), the number of all updates, and the loss."""

Evaluate = Callable[[int], dict[str, float]]
"""Called after each epoch (from 1), the model in evaluation mode; what it returns joins the learning curve."""


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What a fine-tuning did; the weights are in the model it was given."""

    losses: tuple[float, ...]  # of each update: cross-entropy per token, natural logarithm
    epochs: tuple[dict[str, float], ...]  # per epoch: loss, share_masked, seconds, and what the evaluation gave
    n_clips: int
    micro_batch: int  # items computed at once in the end: less than the batch where memory ran out
    n_trained: int  # parameters that were trained
    seconds: float  # of all epochs, those before an interruption included, without the evaluations
    resumed_from: int = 0  # epochs taken from a checkpoint
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> clips

    @property
    def n_updates(self) -> int:
        return len(self.losses)


def finetune(
    whisper: Whisper,
    data: TrainingSet,
    settings: FinetuneSettings,
    *,
    loss_of: torch.nn.Module | None = None,
    augment: Augment | None = None,
    arm: str = "",
    folder: Path | None = None,
    evaluate: Evaluate | None = None,
    hook: Hook | None = None,
    logs: Path | None = None,
) -> Finetuned:
    """Train a Whisper's weights in place on every clip and its copy changed by `augment` (without one: on it twice).

    `loss_of` is a module from (features, tokens, labels) to the summed loss whose weights are trained in place of the
    whole Whisper's, for networks that take only its encoder; by default the decoder's cross-entropy.
    With a `folder` a checkpoint is kept there after each epoch, and a run that finds one goes on from it; `arm` says
    what `augment` does, so that a checkpoint of another arm is not taken. `logs` gets TensorBoard's files.
    bf16 on CUDA, float32 on CPU; under `accelerate launch` the items of an update are spread over the processes. Where
    memory runs out, half as many items are computed at once and the update is the same.

    Raises PdidError where the loss or the gradient is no longer finite (it names the update), where even one item does
    not fit into memory, and for a checkpoint that is damaged or of another run.
    """
    from accelerate import Accelerator

    keep_freed_memory()
    network, on_gpu = whisper.model, whisper.device.type == "cuda"
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if on_gpu else "no")
    merge = _add_lora(network, settings.seed) if settings.lora else None
    trained = loss_of or network
    weights = {name: weight for name, weight in trained.named_parameters() if weight.requires_grad}
    kept = weights | dict(trained.named_buffers())  # with a Conformer's batch statistics
    loss_of, optimizer = accelerator.prepare(loss_of or SummedLoss(network), _optimizer(weights.values(), settings))
    total, fingerprint = n_updates(data, settings), _fingerprint(whisper, data, settings, arm)
    run = _start(folder, fingerprint, settings)
    resumed_from = run.epoch
    if run.epoch:
        with torch.no_grad():
            for name, weight in kept.items():
                weight.copy_(run.weights[name])
        optimizer.load_state_dict(run.optimizer)
    writer = _writer(logs, len(run.losses)) if logs and accelerator.is_main_process else None
    micro_batch = run.micro_batch
    for epoch in range(run.epoch + 1, settings.epochs + 1):
        began = time.monotonic()
        torch.manual_seed(settings.seed * 100_003 + epoch * 101 + accelerator.process_index)
        loss_of.train()
        first = len(run.losses)
        shares: list[float] = []
        for items, batch in _batches(data, settings, epoch, augment, network, accelerator):
            step = len(run.losses) + 1
            n_tokens = sum(len(data.tokens[index]) - data.n_prompt for index, _ in items)
            loss, micro_batch = _gradient(accelerator, loss_of, batch, n_tokens, micro_batch, optimizer)
            norm = accelerator.clip_grad_norm_(weights.values(), settings.clip_norm)
            _check_finite(loss, float(norm), step, total, epoch, items, settings)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate_share(step, total, settings.warmup_share)
            optimizer.step()
            optimizer.zero_grad()
            run.losses.append(loss)
            shares += batch.shares
            if hook:
                hook(step, total, loss)
            if writer:
                writer.add_scalar("loss", loss, step)
        row = {
            "loss": sum(run.losses[first:]) / (len(run.losses) - first),
            "share_masked": sum(shares) / len(shares) if shares else 0.0,
            "seconds": time.monotonic() - began,
        }
        loss_of.eval()
        if evaluate and accelerator.is_main_process:
            row |= evaluate(epoch)
        run.epochs.append(row)
        if writer:
            for name, value in row.items():
                writer.add_scalar(name, value, epoch)
        if folder and accelerator.is_main_process:
            state = optimizer.state_dict()
            run = replace(run, epoch=epoch, weights=kept, optimizer=state, micro_batch=micro_batch)
            save_checkpoint(folder, fingerprint, run)
        accelerator.wait_for_everyone()
    if writer:
        writer.close()
    n_trained = sum(weight.numel() for weight in weights.values())
    if merge:
        merge()
    trained.eval().zero_grad()
    out = {"too long": data.too_long, "too many tokens": data.too_many_tokens, "no text": data.no_text}
    return Finetuned(
        tuple(run.losses),
        tuple(run.epochs),
        len(data.tokens),
        min(micro_batch, settings.batch_size),
        n_trained,
        sum(row["seconds"] for row in run.epochs),
        resumed_from,
        {reason: len(clips) for reason, clips in out.items() if clips},
    )


def rate_share(step: int, total: int, warmup_share: float) -> float:
    """The learning rate at an update (from 1) as a share of its highest: up in a line, then down to nothing."""
    warmup = max(1, round(total * warmup_share))
    return min(step / warmup, (total + 1 - step) / (total + 1 - warmup))


def mean_loss(
    whisper: Whisper,
    data: TrainingSet,
    context: Context = "full",
    batch_size: int = 16,
    loss_of: torch.nn.Module | None = None,
) -> float:
    """Cross-entropy per token (natural logarithm) of unchanged clips, such as the dev split's, or what `loss_of` gives;
    no gradient."""
    network = whisper.model
    loss_of, settings = (loss_of or SummedLoss(network)).eval(), FinetuneSettings(context=context)
    order = sorted(data.tokens, key=lambda index: data.n_valid[index])
    total = 0.0
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            items = [(index, False) for index in order[first : first + batch_size]]
            frames = context_frames(network, [data.n_valid[index] for index, _ in items], context)
            batch = make_batch(data, items, settings, 0, frames, None)
            total += float(loss_of(*(part.to(whisper.device) for part in (batch.features, batch.tokens, batch.labels))))
    return total / sum(len(tokens) - data.n_prompt for tokens in data.tokens.values())


# ---------------------------------------------------------------- one update


class SummedLoss(torch.nn.Module):
    """From (features, tokens, labels) to the summed cross-entropy in one forward, as data parallelism wants it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        output = BaseModelOutput(last_hidden_state=encode(self.network, features))
        logits = self.network(encoder_outputs=output, decoder_input_ids=tokens, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def _batches(
    data: TrainingSet, settings: FinetuneSettings, epoch: int, augment: Augment | None, network: Any, accelerator: Any
) -> Iterator[tuple[list[Item], Batch]]:
    """An epoch's updates with this process's share of each; for a GPU the next is made while it computes."""

    def make(items: list[Item]) -> tuple[list[Item], Batch]:
        frames = context_frames(network, [data.n_valid[index] for index, _ in items], settings.context)
        mine = items[accelerator.process_index :: accelerator.num_processes]
        batch = make_batch(data, mine or items[:1], settings, epoch, frames, augment)
        if not mine:  # fewer items than processes: one that counts for nothing keeps the others from waiting
            batch.labels.fill_(IGNORED)
        return items, batch

    updates = epoch_batches(data, settings, epoch)
    if accelerator.device.type == "cpu":
        yield from map(make, updates)
        return
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, updates[0])
        for following in [*updates[1:], None]:
            ready = ahead.result()
            if following is not None:
                ahead = pool.submit(make, following)
            yield ready


def _gradient(
    accelerator: Any, loss_of: Any, batch: Batch, n_tokens: int, micro_batch: int, optimizer: Any
) -> tuple[float, int]:
    """Compute an update's gradient, in pieces of `micro_batch` items; return the loss per token and the piece's size.

    Where memory runs out the pieces are halved and the gradient begun anew, so the update stays what it was.
    """
    while True:
        pieces = range(0, len(batch.features), micro_batch)
        total = torch.zeros((), device=accelerator.device)
        try:
            for start in pieces:
                part = slice(start, start + micro_batch)
                inputs = [x[part].to(accelerator.device) for x in (batch.features, batch.tokens, batch.labels)]
                last = start == pieces[-1]
                with nullcontext() if last else accelerator.no_sync(loss_of):
                    loss = loss_of(*inputs)
                    # DDP takes the mean over the processes; the loss is per token of the whole update
                    accelerator.backward(loss * accelerator.num_processes / n_tokens)
                total += loss.detach()
            break
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            if micro_batch == 1 or accelerator.num_processes > 1:
                raise PdidError(
                    f"out of memory with {micro_batch} clips at once on {accelerator.device}: "
                    "take a smaller model, --context auto, --lora, or a smaller micro-batch"
                ) from None
        optimizer.zero_grad()
        micro_batch = max(1, min(micro_batch, len(batch.features)) // 2)
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
    return float(accelerator.reduce(total, "sum")) / n_tokens, micro_batch


def _check_finite(
    loss: float, norm: float, step: int, total: int, epoch: int, items: Sequence[Item], settings: FinetuneSettings
) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    clips = ", ".join(str(index) for index in sorted({index for index, _ in items})[:5])
    raise PdidError(
        f"training broke down at update {step} of {total} (epoch {epoch}): {what}; lower the learning rate "
        f"({settings.learning_rate:g}), or look at that update's clips (numbers {clips}, …)"
    )


# ---------------------------------------------------------------- parts


def _optimizer(weights: Any, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """AdamW; no decay on biases and normalisations, as is usual."""
    weights = list(weights)
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    # fused: one pass over the weights in place of a dozen, a twentieth of an update of a tiny on a CPU
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)


def _add_lora(network: Any, seed: int) -> Callable[[], object]:
    """Freeze a Whisper and add low-rank matrices to q and v (rank 16, arXiv 2106.09685); return what merges them in.

    Raises PdidError where peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise PdidError("--lora needs the package peft: pip install 'pdid[lora]'") from None
    torch.manual_seed(seed)
    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    merge: Callable[[], object] = get_peft_model(network, config).merge_and_unload
    return merge


def _start(folder: Path | None, fingerprint: str, settings: FinetuneSettings) -> Checkpoint:
    """The checkpoint to go on from, or an empty one."""
    found = load_checkpoint(folder, fingerprint) if folder else None
    return found or Checkpoint(0, {}, {}, [], [], settings.micro_batch or settings.batch_size)


def _fingerprint(whisper: Whisper, data: TrainingSet, settings: FinetuneSettings, arm: str) -> str:
    """Stands for what decides a run's weights: model, clips' tokens and lengths, settings and the arm."""
    told = [whisper.version, arm, asdict(settings) | {"micro_batch": None}, sorted(data.tokens.items())]
    return hashlib.sha256(json.dumps([told, sorted(data.n_valid.items())]).encode()).hexdigest()


def _writer(logs: Path, purge_step: int) -> Any:
    """TensorBoard's writer. Raises PdidError where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise PdidError("TensorBoard logs need the package tensorboard: pip install 'pdid[tensorboard]'") from None
    return SummaryWriter(str(logs), purge_step=purge_step + 1 if purge_step else None)
