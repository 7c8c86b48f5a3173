"""Checkpoints of a training run, and models saved as ordinary Whisper folders. Nothing is ever half there."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import PdidError
from catalog.whisper import Whisper, quiet_transformers

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after a whole epoch: the trained weights by name, the optimizer's state, and the learning curve so far."""

    epoch: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    losses: list[float]
    epochs: list[dict[str, float]]
    micro_batch: int


def save_checkpoint(folder: Path, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Write `folder/epoch-NNNN` and remove the older ones: weights as safetensors, the rest as tensors and numbers.

    `fingerprint` stands for settings and data; a run with another one does not go on from here.
    """
    import torch
    from safetensors.torch import save_file

    place = folder / f"epoch-{checkpoint.epoch:04d}"
    part = folder / f".{place.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(
        {name: weight.detach().cpu().contiguous() for name, weight in checkpoint.weights.items()},
        part / "weights.safetensors",
    )
    state = {
        "fingerprint": fingerprint,
        "epoch": checkpoint.epoch,
        "optimizer": checkpoint.optimizer,
        "losses": checkpoint.losses,
        "epochs": checkpoint.epochs,
        "micro_batch": checkpoint.micro_batch,
    }
    torch.save(state, part / "state.pt")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(part, place)
    for older in folder.glob("epoch-*"):
        if older != place:
            shutil.rmtree(older)


def load_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The newest checkpoint in a folder, on the CPU, or None. Loads tensors and numbers only, never code.

    Raises PdidError where it was made with other settings or data, or is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = sorted(folder.glob("epoch-*"))
    if not found:
        return None
    try:
        state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
        weights = load_file(found[-1] / "weights.safetensors")
        fits = state.pop("fingerprint") == fingerprint
        checkpoint = Checkpoint(weights=weights, **state)
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise PdidError(
            f"the checkpoint {found[-1]} is damaged ({error}): remove it, and the run begins anew"
        ) from None
    if not fits:
        raise PdidError(f"the checkpoint {found[-1]} is of other settings, another model or other clips: remove it")
    return checkpoint


def save_whisper(whisper: Whisper, folder: Path) -> Path:
    """Save a Whisper as a folder that `from_pretrained` and `--model` load; one that was there is replaced."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet_transformers():
        whisper.model.save_pretrained(part)
        whisper.feature_extractor.save_pretrained(part)
        whisper.tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder
