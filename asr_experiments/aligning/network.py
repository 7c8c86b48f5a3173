"""An acoustic encoder with a CTC head of characters: what it is, how it transcribes, and how it is kept.

CTC (Graves et al. 2006): every position of the encoder names a character or the blank; a text's probability is the sum
over all ways to write it so. Transcribing takes each position's best, folds repeats and drops the blanks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asr_experiments.features import Floats
from catalog.context import STRIDE, Context, context_frames, encode, window_frames
from catalog.errors import PdidError
from catalog.records import RATE
from catalog.whisper import HOP, FeatureSource, Whisper, quiet_windows

EncoderName = Literal["whisper", "conformer"]

CONFORMER_STRIDE = 4
"""Log-mel frames to one position of the Conformer."""


class WhisperEncoder(nn.Module):
    """The encoder of a Whisper; the decoder is frozen and never run."""

    def __init__(self, whisper: Whisper) -> None:
        super().__init__()
        self.network = whisper.model
        self.network.get_decoder().requires_grad_(False)
        self.network.get_output_embeddings().requires_grad_(False)

    @property
    def width(self) -> int:
        return int(self.network.config.d_model)

    @property
    def kept(self) -> nn.Module:
        """What is worth keeping of it."""
        encoder: nn.Module = self.network.get_encoder()
        return encoder

    def positions(self, n_valid: Tensor) -> Tensor:
        """Positions that the valid frames of a clip become, int64 like `n_valid`."""
        return -(-n_valid // STRIDE)

    def forward(self, features: Tensor, n_valid: Tensor) -> Tensor:
        """Log-mels (batch, n_mels, frames) to (batch, positions, width). Padding is heard, as Whisper always does."""
        return encode(self.network, features)


class Conformer(nn.Module):
    """A new Conformer (arXiv 2005.08100; transformers' Parakeet encoder) of a Whisper encoder's size, for its log-mels.

    torch's random state decides its weights.
    """

    def __init__(self, whisper: Whisper) -> None:
        super().__init__()
        from transformers import ParakeetEncoder, ParakeetEncoderConfig

        like = whisper.model.config
        config = ParakeetEncoderConfig(
            hidden_size=like.d_model,
            num_hidden_layers=like.encoder_layers,
            num_attention_heads=like.encoder_attention_heads,
            intermediate_size=like.encoder_ffn_dim,
            subsampling_factor=CONFORMER_STRIDE,
            subsampling_conv_channels=min(256, like.d_model),
            num_mel_bins=like.num_mel_bins,
            scale_input=False,
        )
        network: Any = ParakeetEncoder(config)
        self.network = network.to(whisper.device)

    @property
    def width(self) -> int:
        return int(self.network.config.hidden_size)

    @property
    def kept(self) -> nn.Module:
        """What is worth keeping of it."""
        network: nn.Module = self.network
        return network

    def positions(self, n_valid: Tensor) -> Tensor:
        """Positions that the valid frames of a clip become, int64 like `n_valid`."""
        return -(-n_valid // CONFORMER_STRIDE)

    def forward(self, features: Tensor, n_valid: Tensor) -> Tensor:
        """Log-mels (batch, n_mels, frames) to (batch, positions, width); padding is masked."""
        heard = torch.arange(features.shape[-1], device=features.device) < n_valid[:, None]
        # its first convolution reaches over the edge before it masks, and attention would carry that everywhere
        inputs = (features * heard[:, None]).transpose(1, 2)
        hidden: Tensor = self.network(inputs, attention_mask=heard).last_hidden_state
        return hidden


class CtcNetwork(nn.Module):
    """An encoder and its head: to each position a score for every character, and for the blank, which is the last."""

    def __init__(self, whisper: Whisper, encoder: EncoderName, characters: Sequence[str]) -> None:
        """`characters` are what it can write; torch's random state decides a new head's, and a Conformer's, weights."""
        super().__init__()
        self.kind, self.characters = encoder, tuple(characters)
        self.encoder = WhisperEncoder(whisper) if encoder == "whisper" else Conformer(whisper)
        self.head = nn.Linear(self.encoder.width, len(self.characters) + 1).to(whisper.device)

    @property
    def blank(self) -> int:
        return len(self.characters)

    def forward(self, features: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's states (batch, positions, width), and how many positions of each clip are valid (batch,)."""
        hidden = self.encoder(features, n_valid)
        return hidden, self.encoder.positions(n_valid).clamp_max(hidden.shape[1])

    def spell(self, best: Sequence[int]) -> str:
        """The text of the best class at each position: repeats folded, blanks dropped, spaces made single."""
        steps = zip(best, [self.blank, *best], strict=False)
        return " ".join("".join(self.characters[c] for c, before in steps if c not in (self.blank, before)).split())


def transcribe_features(
    network: CtcNetwork,
    whisper: Whisper,
    features: FeatureSource,
    *,
    batch_size: int = 16,
    context: Context = "full",
    progress: Callable[[float], None] = lambda share: None,
) -> list[str]:
    """What is said in each clip, from log-mels (n_mels, window) float32 with the number of their valid frames.

    Greedy. The items are read one batch at a time, in the order given; `whisper` is the one the network was made with.
    """
    said: list[str] = []
    for first in range(0, len(features), batch_size):
        batch = [features[i] for i in range(first, min(first + batch_size, len(features)))]
        lengths = [n for _, n in batch]
        frames = context_frames(whisper.model, lengths, context)
        inputs = torch.from_numpy(np.stack([mel[:, :frames] for mel, _ in batch]).astype(np.float32, copy=False))
        with torch.inference_mode():
            hidden, positions = network(inputs.to(whisper.device), torch.tensor(lengths, device=whisper.device))
            best = network.head(hidden).argmax(-1).tolist()
        said += [network.spell(row[:n]) for row, n in zip(best, positions.tolist(), strict=True)]
        progress(len(said) / len(features))
    return said


def transcribe_sound(network: CtcNetwork, whisper: Whisper, sound: Floats, context: Context = "full") -> str:
    """What is said in mono sound float32 (n,) at 16 kHz of any length; a long one is cut where it is quiet."""
    spans = quiet_windows(sound, window_frames(whisper.model) * HOP)
    parts = [sound[span.start : span.end] for span in spans]
    mels = whisper.feature_extractor(parts, sampling_rate=RATE, return_tensors="np")["input_features"]
    features = [(mel, -(-len(part) // HOP)) for mel, part in zip(mels, parts, strict=True)]
    return " ".join(text for text in transcribe_features(network, whisper, features, context=context) if text)


# ---------------------------------------------------------------- on disk


def save_ctc(network: CtcNetwork, whisper: Whisper, folder: Path) -> Path:
    """Save encoder, head, characters and the feature extractor in a folder; one that was there is replaced."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    told = {"encoder": network.kind, "base": whisper.version, "characters": network.characters}
    (part / "ctc.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")
    save_file(_state(network), part / "model.safetensors")
    whisper.feature_extractor.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def load_ctc(folder: Path, whisper: Whisper) -> CtcNetwork:
    """What `save_ctc` wrote, with the Whisper it was made from, whose encoder takes the weights of a trained one.

    Raises PdidError for a folder that holds none, is damaged, or was made from another Whisper.
    """
    try:
        told = json.loads((folder / "ctc.json").read_text("utf-8"))
        state = load_file(folder / "model.safetensors", device=str(whisper.device))
        network = CtcNetwork(whisper, told["encoder"], told["characters"])
        if told["base"] != whisper.version:
            raise PdidError(f"{folder} was made from the Whisper {told['base']}, got {whisper.version}: load that one")
        network.encoder.kept.load_state_dict(_under(state, "encoder."))
        network.head.load_state_dict(_under(state, "head."))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise PdidError(f"the CTC model in {folder} can't be loaded: {error}") from None
    return network.eval()


def _state(network: CtcNetwork) -> dict[str, Tensor]:
    parts = (("encoder", network.encoder.kept), ("head", network.head))
    return {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, part in parts
        for key, value in part.state_dict().items()
    }


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
