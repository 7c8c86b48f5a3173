"""Train a small Whisper from nothing, for rehearsals where no published one is to be had (`--model mini`).

transformers' own classes and Whisper's own format, so that whatever takes a Whisper takes this. What makes it learn
in minutes (METHOD §5): strings of clips that grow from short to long, speed and noise changed at random, and a CTC
loss on the encoder beside the decoder's (arXiv 1609.06773), without which the cross-attention takes thousands of
updates to find its place; the CTC layer is dropped afterwards.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from asr_experiments.checkpoint import save_whisper
from asr_experiments.datasets import read_sound
from asr_experiments.features import Floats, file_hash
from asr_experiments.training_set import IGNORED
from catalog.context import STRIDE, context_frames, encode
from catalog.errors import PdidError, UsageError
from catalog.memory import keep_freed_memory
from catalog.records import RATE
from catalog.whisper import HOP, Whisper, prompt_tokens

Hook = Callable[[int, int, float], None]
"""Called after each update with its number (from 1), the number of all updates, and the loss."""

SPECIAL = ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
"""Whisper's special tokens after <|endoftext|>, in its order; the languages follow the first."""


@dataclass(frozen=True, slots=True)
class MiniSettings:
    """Size and training of a mini Whisper (METHOD §5)."""

    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 2
    window_s: int = 8
    n_tokens: int = 600  # of the byte-level BPE, at most
    max_tokens: int = 448  # that it can write, the prompt included
    updates: int = 1500
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200  # updates
    seed: int = 0


class SpokenClip(Protocol):
    """A clip to learn from."""

    @property
    def path(self) -> Path: ...
    @property
    def text(self) -> str: ...
    @property
    def speaker(self) -> str: ...
    @property
    def n_samples(self) -> int:
        """At 16 kHz."""
        ...


@dataclass(frozen=True, slots=True)
class Mini:
    """A trained mini Whisper, in a folder that `--model` takes."""

    folder: Path
    losses: tuple[float, ...]  # of the decoder, per token; empty where the folder was there already
    seconds: float


def obtain_mini(clips: Sequence[SpokenClip], language: str, cache: Path, say: Callable[[str], None]) -> Path:
    """The folder of a mini Whisper for some clips: from `cache`, or trained now, with its window chosen to fit them.

    `say` gets a line a minute with an estimate. Raises as `train_mini` does.
    """
    began = told = time.monotonic()

    def hook(step: int, total: int, loss: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 60 or step in (20, total):
            told = now
            left = (now - began) * (total - step) / step
            say(f"training the mini Whisper: update {step} of {total}, loss {loss:.2f}, about {left / 60:.0f} min left")

    return train_mini(clips, language, cache, fitting_settings(clips), hook=hook).folder


def fitting_settings(clips: Sequence[SpokenClip]) -> MiniSettings:
    """What `obtain_mini` trains with: the window that fits the clips, and fewer updates where they are few."""
    usual = MiniSettings()
    updates = min(usual.updates, max(300, 15 * len(clips)))
    return replace(usual, window_s=fitting_window(clips), updates=updates, warmup=min(usual.warmup, updates // 5))


def fitting_window(clips: Sequence[SpokenClip]) -> int:
    """The window in whole seconds that 95 % of the clips fit into: 8 at least, 30 at most."""
    lengths = sorted(clip.n_samples for clip in clips) or [0]
    return min(30, max(8, math.ceil(lengths[int(0.95 * (len(lengths) - 1))] / RATE)))


def train_mini(
    clips: Sequence[SpokenClip],
    language: str,
    cache: Path,
    settings: MiniSettings | None = None,
    *,
    device: str = "cpu",
    hook: Hook | None = None,
) -> Mini:
    """Train a mini Whisper on clips of one language, or find it in `cache` where the same was trained before.

    The folder's name holds a hash of the clips' sound and text, the language and the settings. Clips longer than the
    window or without a text are left out. Raises UsageError for a language Whisper has no code for, and PdidError where
    nothing is left to learn from or the loss is no longer finite.
    """
    keep_freed_memory()
    settings = settings or MiniSettings()
    folder, code, usable = mini_folder(clips, language, cache, settings)
    if folder.is_dir():
        return Mini(folder, (), 0.0)
    began = time.monotonic()
    torch.manual_seed(settings.seed)
    tokenizer = train_tokenizer([clip.text for clip in usable], code, settings.n_tokens)
    whisper = new_whisper(settings, tokenizer)
    room = settings.max_tokens - len(prompt_tokens(whisper, code)) - 1
    usable = [clip for clip in usable if len(tokenizer(f" {clip.text}", add_special_tokens=False)["input_ids"]) <= room]
    if not usable:
        raise PdidError(f"nothing to train a mini Whisper on: every transcript has more than {room} tokens")
    whisper.model.to(device)
    losses = _train(whisper, usable, code, settings, hook)
    save_whisper(whisper, folder)
    return Mini(folder, tuple(losses), time.monotonic() - began)


def mini_folder(
    clips: Sequence[SpokenClip], language: str, cache: Path, settings: MiniSettings
) -> tuple[Path, str, list[SpokenClip]]:
    """Where `train_mini` keeps what it makes of some clips, the language's code, and the clips that can be used.

    Raises as `train_mini` does.
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if code not in LANGUAGES:
        raise UsageError(f"Whisper has no language {language!r}: give a name or a code, such as Persian or fa")
    usable = [clip for clip in clips if clip.text.strip() and 0 < clip.n_samples <= settings.window_s * RATE]
    if not usable:
        raise PdidError(
            f"nothing to train a mini Whisper on: none of {len(clips)} clips has a transcript and at most "
            f"{settings.window_s} s of sound"
        )
    told = [asdict(settings), code, [(file_hash(clip.path), clip.text, clip.speaker) for clip in usable]]
    return cache / f"whisper-mini-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}", code, usable


# ---------------------------------------------------------------- an untrained one


def train_tokenizer(texts: Sequence[str], language: str, n_tokens: int) -> Any:
    """Whisper's kind of tokenizer for some texts: byte-level BPE, then the special tokens in Whisper's order.

    Every text can be written with it, seen before or not, since all bytes are in it. `n_tokens` counts without the
    special ones. All of Whisper's languages have their token, since transformers counts on their places; which one
    the model knows stands in its generation config.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import WhisperTokenizer
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=n_tokens, initial_alphabet=sorted(alphabet), show_progress=False)
    bpe.train_from_iterator([f" {text.strip()}" for text in texts], trainer)
    model = json.loads(bpe.to_str())["model"]
    start, *tasks = SPECIAL
    names = [start, *LANGUAGES, *tasks]
    return WhisperTokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        language=language,
        task="transcribe",
        extra_special_tokens=[f"<|{name}|>" for name in names],
        pad_token="<|endoftext|>",
    )


def new_whisper(settings: MiniSettings, tokenizer: Any) -> Whisper:
    """An untrained Whisper of a mini's size for a tokenizer made by `train_tokenizer`; torch's random state decides."""
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    ids = tokenizer.get_vocab()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    marks = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=settings.width,
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers,
        encoder_attention_heads=settings.width // 32,
        decoder_attention_heads=settings.width // 32,
        encoder_ffn_dim=4 * settings.width,
        decoder_ffn_dim=4 * settings.width,
        max_source_positions=settings.window_s * RATE // HOP // STRIDE,
        max_target_positions=settings.max_tokens,
        dropout=0.05,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **marks,
    )
    model: Any = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_length=config.max_target_positions,
        is_multilingual=True,
        lang_to_id={mark: ids[mark] for mark in (f"<|{tokenizer.language}|>",)},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        return_timestamps=False,
        **marks,
    )
    extractor = WhisperFeatureExtractor(chunk_length=settings.window_s)  # type: ignore[no-untyped-call]
    return Whisper(model.eval(), extractor, tokenizer, "mini", "mini untrained")


# ---------------------------------------------------------------- training


def _train(
    whisper: Whisper, clips: Sequence[SpokenClip], language: str, settings: MiniSettings, hook: Hook | None
) -> list[float]:
    """Train a new Whisper in place; return the decoder's loss of each update."""
    model, device = whisper.model.train(), whisper.device
    rng = np.random.default_rng(settings.seed)
    strings = Strings(clips, settings.window_s * RATE)
    ctc_layer = nn.Linear(settings.width, whisper.model.config.vocab_size + 1).to(device)  # the last one is the blank
    weights = [*model.parameters(), *ctc_layer.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    prompt = prompt_tokens(whisper, language)
    losses: list[float] = []
    for step in range(1, settings.updates + 1):
        done = step / settings.updates
        sounds: list[Floats] = []
        texts: list[list[int]] = []
        while len(sounds) < settings.batch_size:
            sound, text = strings.draw(done, rng)
            tokens = whisper.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
            if len(prompt) + len(tokens) + 1 <= settings.max_tokens:
                sounds.append(sound)
                texts.append(tokens)
        features, n_valid = _features(whisper, sounds, full=done > FULL_FROM, rng=rng)
        hidden = encode(model, features.to(device))
        ctc = _ctc(ctc_layer(hidden), texts, n_valid)
        loss = _cross_entropy(model, hidden, prompt, texts)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate_share(step, settings)
        optimizer.zero_grad()
        (loss + (0.5 if done < 0.5 else 0.2) * ctc).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise PdidError(f"training the mini Whisper broke down at update {step}: the loss is {losses[-1]}")
        if hook:
            hook(step, settings.updates, losses[-1])
    model.eval()
    return losses


FULL_FROM = 0.8
"""Share of the updates after which the encoder runs on its whole window, as it will be used; before, on the sound."""

GROWN_AT = 0.6
"""Share of the updates after which the strings have grown to the window."""


def _rate_share(step: int, settings: MiniSettings) -> float:
    """Warm-up in a line, then a cosine down to nothing."""
    if step <= settings.warmup:
        return step / settings.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup) / max(1, settings.updates - settings.warmup)))


class Strings:
    """Draws strings of clips of one speaker, ever longer ones, at another speed and with noise."""

    def __init__(self, clips: Sequence[SpokenClip], window: int) -> None:
        """`window` is the longest string in samples at 16 kHz."""
        self.window = window
        self.of_speaker: dict[str, list[SpokenClip]] = {}
        for clip in sorted(clips, key=lambda clip: clip.n_samples):
            self.of_speaker.setdefault(clip.speaker, []).append(clip)
        self.clips = sorted(clips, key=lambda clip: clip.n_samples)
        self.shortest = max(RATE, self.clips[len(self.clips) // 5].n_samples)
        self.read = lru_cache(maxsize=2000)(read_sound)

    def draw(self, done: float, rng: np.random.Generator) -> tuple[Floats, str]:
        """A string's sound, float32 (n,) at 16 kHz with n up to the window, and its text, when `done` of the training
        (a share) is over."""
        longest = self.shortest + (self.window - self.shortest) * min(1.0, done / GROWN_AT)
        speed = rng.uniform(0.9, 1.1)  # of the length
        room = int(min(longest, self.window / speed - HOP) * math.sqrt(rng.uniform(0.05, 1.0)))
        fits = next((k for k, clip in enumerate(self.clips) if clip.n_samples > room), len(self.clips))
        clip = self.clips[int(rng.integers(max(fits, 1 + len(self.clips) // 10)))]
        others = self.of_speaker[clip.speaker]
        parts, words, n = [], [], 0
        while True:
            if n and n + clip.n_samples > room:
                break
            gap = np.zeros(int(RATE * rng.uniform(0.05, 0.25)), np.float32)
            parts += [self.read(clip.path), gap]
            words.append(clip.text.strip())
            n += clip.n_samples + len(gap)
            clip = others[int(rng.integers(len(others)))]
        return changed(np.concatenate(parts[:-1]), speed, rng)[: self.window], " ".join(words)


def changed(sound: Floats, speed: float, rng: np.random.Generator) -> Floats:
    """A sound stretched to `speed` times its length (pitch goes along), with noise at 10 to 50 dB under its level."""
    import soxr

    stretched = soxr.resample(sound, RATE, round(RATE * speed)).astype(np.float32)
    level = float(np.sqrt(np.mean(stretched**2))) * 10 ** (-rng.uniform(10, 50) / 20)
    noisy: Floats = stretched + level * rng.standard_normal(len(stretched), dtype=np.float32)
    return noisy


def _features(whisper: Whisper, sounds: list[Floats], full: bool, rng: np.random.Generator) -> tuple[Tensor, list[int]]:
    """Log-mels float32 (n, n_mels, frames) and valid frames; `frames` is the window, or what the longest sound needs
    with up to a second of padding, so that the model learns what padding is."""
    n_valid = [-(-len(sound) // HOP) for sound in sounds]
    padded = [n + int(rng.integers(100)) for n in n_valid]
    frames = context_frames(whisper.model, padded, "full" if full else "auto")
    inputs = whisper.feature_extractor(sounds, sampling_rate=RATE, max_length=frames * HOP, return_tensors="pt")
    return inputs["input_features"], n_valid


def _ctc(logits: Tensor, texts: list[list[int]], n_valid: list[int]) -> Tensor:
    """CTC loss per token of the encoder's positions, (n, positions, vocabulary + blank)."""
    lengths = torch.tensor([min(logits.shape[1], -(-n // STRIDE)) for n in n_valid])
    sizes = torch.tensor([len(text) for text in texts])
    targets = torch.tensor([token for text in texts for token in text], device=logits.device)
    scores = logits.float().log_softmax(-1).transpose(0, 1)
    blank = logits.shape[-1] - 1
    return F.ctc_loss(scores, targets, lengths, sizes, blank=blank, reduction="sum", zero_infinity=True) / sizes.sum()


def _cross_entropy(model: Any, hidden: Tensor, prompt: list[int], texts: list[list[int]]) -> Tensor:
    """The decoder's loss per token, the end included, the prompt not."""
    end = model.config.eos_token_id
    longest = len(prompt) + max(map(len, texts))
    tokens = torch.full((len(texts), longest), end)
    labels = torch.full((len(texts), longest), IGNORED)
    for row, text in enumerate(texts):
        tokens[row, : len(prompt) + len(text)] = torch.tensor([*prompt, *text])
        labels[row, len(prompt) - 1 : len(prompt) + len(text)] = torch.tensor([*text, end])
    tokens, labels = tokens.to(hidden.device), labels.to(hidden.device)
    output = BaseModelOutput(last_hidden_state=hidden)
    logits = model(encoder_outputs=output, decoder_input_ids=tokens, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
