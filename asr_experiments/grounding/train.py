"""Training of audio-visual grounding: pictures and speech of a pair are drawn together, others pushed apart."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr_experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asr_experiments.datasets import read_sound
from asr_experiments.experiment import claim, write_file
from asr_experiments.features import Floats
from asr_experiments.grounding.images import Backbone, Bytes, as_batch, read_picture
from asr_experiments.grounding.loss import triplet_loss
from asr_experiments.grounding.model import (
    FORMAT,
    MODEL_FILE,
    Grounding,
    load_grounding,
    new_grounding,
    save_grounding,
)
from asr_experiments.grounding.pairs import Pair, Pairs, check_pictures, name_of
from asr_experiments.grounding.retrieval import retrieve
from asr_experiments.grounding.speech import SHORTEST, WIDTHS, log_mels
from asr_experiments.masking import SpecAugment, specaugment_mask
from asr_experiments.mini import changed
from catalog.errors import PdidError, UsageError

SCORES_FILE = "scores.json"

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class GroundingSettings:
    """How a model is made. Widths, margin and learning rate are the paper's; the voices are few here, so speech is
    heard faster, slower, noisier and with holes."""

    widths: tuple[int, ...] = WIDTHS
    epochs: int = 20
    batch: int = 64
    learning_rate: float = 2e-4
    margin: float = 1.0
    speed: float = 0.15  # clips last up to this share longer or shorter, and their pitch goes along
    specaugment: SpecAugment | None = SpecAugment(freq_width=8, time_width=25, time_share=0.2)  # noqa: RUF009
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(f"expected 1 epoch and a batch of 2 pairs or more, got {self.epochs} and {self.batch}")


def obtain_grounding(
    corpus: Path, pairs: Pairs, backbone: Backbone, settings: GroundingSettings, device: str, report: Report
) -> Path:
    """The folder of the model of some pairs: runs/grounding-…, trained the first time it is asked for.

    It is named after the pairs, the image model and the settings; `scores.json` in it says how well the test pairs are
    found. Raises as `train_grounding` does, and UsageError with the line of a picture that can't be read.
    """
    facts = [pairs.fingerprint(), backbone.name, backbone.config, asdict(backbone.preparation), asdict(settings)]
    folder = corpus / "runs" / f"grounding-{name_of(FORMAT, facts)}"
    with claim(folder, wait=True):
        if (folder / SCORES_FILE).exists():
            return folder
        check_pictures(pairs, lambda share: report("looking at the pictures", share))
        if (folder / MODEL_FILE).exists():
            made = load_grounding(folder, device)
        else:
            made = train_grounding(pairs.train, backbone, settings, device, report, folder / "checkpoint")
            save_grounding(made, folder)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        told = asdict(retrieve(made, pairs.test)) | {
            "n_train": len(pairs.train),
            "left_out": pairs.left_out,
            "held_out": pairs.held_out,
            "shared_speakers": pairs.shared_speakers,
        }
        write_file(folder / SCORES_FILE, json.dumps(told, ensure_ascii=False, indent=1))
    return folder


def read_scores(folder: Path) -> dict[str, Any]:
    """What `obtain_grounding` wrote of how well the model does."""
    found = json.loads((folder / SCORES_FILE).read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def train_grounding(
    pairs: Sequence[Pair],
    backbone: Backbone,
    settings: GroundingSettings,
    device: str = "cpu",
    report: Report = lambda what, share: None,
    checkpoints: Path | None = None,
) -> Grounding:
    """Train both branches on pairs with the triplet loss and Adam, whose rate falls to nothing in a cosine.

    With a folder for `checkpoints` it goes on after the last whole epoch. On one processor type and thread count the
    same seed gives the same weights; the caller's random state is left as it was. Raises PdidError for a file that
    can't be read and where the loss stops being a number.
    """
    fingerprint = name_of(FORMAT, [[str(p.image), str(p.clip), p.key] for p in pairs], backbone.name, asdict(settings))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        made = new_grounding(backbone, settings.widths)
    made.net.to(device).train()
    adam = torch.optim.Adam(made.net.parameters(), settings.learning_rate, fused=True)
    before = load_checkpoint(checkpoints, fingerprint) if checkpoints else None
    losses: list[float] = before.losses if before else []
    if before:
        made.net.load_state_dict(before.weights)
        adam.load_state_dict(before.optimizer)
    n_batches = -(-len(pairs) // settings.batch)
    for epoch in range(before.epoch if before else 0, settings.epochs):
        generator = torch.Generator().manual_seed(settings.seed + 1_000_003 * epoch)
        total = 0.0
        for number, batch in enumerate(_batches(pairs, made, settings, epoch)):
            done = (epoch + number / n_batches) / settings.epochs
            for group in adam.param_groups:
                group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            speech = made.net.speech(batch.mels.to(device), batch.lengths.to(device))
            # over the root of the width: else an untrained model's scores lie tens apart, and a margin of 1 is nothing
            scores = speech @ made.net.image(batch.pictures.to(device)).T / math.sqrt(speech.shape[1])
            loss = triplet_loss(scores, batch.same.to(device), generator, settings.margin)
            if not torch.isfinite(loss):
                raise PdidError(f"the loss of grounding is {loss.item()} in epoch {epoch + 1}: lower the learning rate")
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            total += loss.item()
            report(f"epoch {epoch + 1} of {settings.epochs}" + (f", loss {losses[-1]:.2f}" if losses else ""), done)
        losses.append(total / n_batches)
        if checkpoints and epoch + 1 < settings.epochs:
            state = made.net.state_dict()
            save_checkpoint(checkpoints, fingerprint, Checkpoint(epoch + 1, state, adam.state_dict(), losses, [], 0))
    report("training", 1.0)
    made.net.eval()
    return made


@dataclass(frozen=True, slots=True)
class _Batch:
    mels: Tensor  # (all frames, 40)
    lengths: Tensor  # (batch,)
    pictures: Tensor  # (batch, 3, size, size)
    same: Tensor  # bool (batch, batch)


def _batches(pairs: Sequence[Pair], made: Grounding, settings: GroundingSettings, epoch: int) -> Iterator[_Batch]:
    """An epoch's batches in random order, of nearly one size; the next one is read while one is learnt from."""
    rng = np.random.default_rng([settings.seed, epoch])
    parts = np.array_split(rng.permutation(len(pairs)), -(-len(pairs) // settings.batch))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def ask(part: Any) -> list[Future[tuple[Floats, Bytes]]]:
            return [
                pool.submit(_load, pairs[i], made.preparation.size, settings, [settings.seed, epoch, int(i)])
                for i in part
            ]

        waiting = ask(parts[0])
        for number, part in enumerate(parts):
            items = [future.result() for future in waiting]
            if number + 1 < len(parts):
                waiting = ask(parts[number + 1])
            mels, lengths = log_mels([sound for sound, _ in items])
            if settings.specaugment:
                at = 0
                for n in lengths.tolist():
                    hidden = specaugment_mask((mels.shape[1], n), rng, settings.specaugment)
                    mels[at : at + n][torch.from_numpy(hidden.T)] = 0.0
                    at += n
            keys = np.array([pairs[i].key for i in part])
            same = torch.from_numpy(keys[:, None] == keys[None])
            yield _Batch(mels, lengths, as_batch([picture for _, picture in items], made.preparation, rng), same)


def _load(pair: Pair, size: int, settings: GroundingSettings, seed: list[int]) -> tuple[Floats, Bytes]:
    """A pair's sound at another speed with noise, and its picture."""
    sound = read_sound(pair.clip)
    if settings.speed:
        rng = np.random.default_rng(seed)
        sound = changed(sound, rng.uniform(1 - settings.speed, 1 + settings.speed), rng)
    return np.pad(sound, (0, max(0, SHORTEST - len(sound)))), read_picture(pair.image, size)
